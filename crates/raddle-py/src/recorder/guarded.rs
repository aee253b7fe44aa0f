//! What only a thread that holds the main interpreter's GIL touches.

use std::cell::UnsafeCell;

/// A static that needs no lock, because the GIL is one.
pub(super) struct Guarded<T>(UnsafeCell<T>);

// SAFETY: `get` asks its caller to hold the GIL, so that no two threads are in there at a time.
unsafe impl<T> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value's address.
    ///
    /// What is done with it: the caller holds the GIL of the main interpreter, or is the only thread of a forked child, and gives neither away while it
    /// has a reference made of it.
    #[inline]
    pub(super) const fn get(&self) -> *mut T {
        self.0.get()
    }
}
