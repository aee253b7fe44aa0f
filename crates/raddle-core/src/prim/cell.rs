//! A cell whose every access is a closure, so that the model checker sees where it begins and ends.

#[cfg(loom)]
pub use loom::cell::UnsafeCell;

/// A place that may be changed through a shared reference, as [`std::cell::UnsafeCell`].
///
/// The closures get raw pointers; to go through them is the caller's `unsafe`. The closure is the access:
/// the pointer is not to be used after it has returned.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::cell::UnsafeCell;
///
/// let cell = UnsafeCell::new(1);
/// // SAFETY: no other thread and no other reference knows this cell.
/// cell.with_mut(|place| unsafe { *place += 1 });
/// assert_eq!(cell.into_inner(), 2);
/// ```
#[cfg(not(loom))]
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// A cell that holds `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Reads: no one may write while `f` runs.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Writes: no one else may read or write while `f` runs.
    #[inline]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }

    /// The value, and the end of the cell.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}
