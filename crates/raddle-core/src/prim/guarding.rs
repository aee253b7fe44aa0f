//! What makes the changes of a value follow each other.

use super::Mutex;

/// A way to guard values that several threads change: by a [`Mutex`], or by something that those threads hold anyway.
///
/// A structure that is generic over it says nothing about who its users are, and its protocol is checked with [`ByMutex`].
///
/// # Rules
///
/// 1. While `change` runs, no other `change` of the same cell does. What one has done is seen by the next.
/// 2. `change` is as short as what is done under a [`Mutex`]: no user code, no system call, no sleep.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::{ByMutex, Guarding};
///
/// let cell = ByMutex::cell(1);
/// ByMutex::with(&cell, |count| *count += 1);
/// assert_eq!(ByMutex::try_with(&cell, |count| *count), Some(2));
/// ```
pub trait Guarding {
    /// A value that is guarded in this way.
    type Cell<T>;

    /// Guards a value.
    fn cell<T>(value: T) -> Self::Cell<T>;

    /// Changes it, after everybody who is changing it.
    fn with<T, R>(cell: &Self::Cell<T>, change: impl FnOnce(&mut T) -> R) -> R;

    /// Changes it, unless somebody is changing it.
    fn try_with<T, R>(cell: &Self::Cell<T>, change: impl FnOnce(&mut T) -> R) -> Option<R>;
}

/// By a [`Mutex`], whoever comes.
///
/// # Examples
///
/// See [`Guarding`].
#[derive(Clone, Copy, Debug)]
pub struct ByMutex;

impl Guarding for ByMutex {
    type Cell<T> = Mutex<T>;

    fn cell<T>(value: T) -> Mutex<T> {
        Mutex::new(value)
    }

    #[inline]
    fn with<T, R>(cell: &Mutex<T>, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut cell.lock())
    }

    #[inline]
    fn try_with<T, R>(cell: &Mutex<T>, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        cell.try_lock().map(|mut value| change(&mut value))
    }
}
