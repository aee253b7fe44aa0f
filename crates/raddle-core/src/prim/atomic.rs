//! Atomic words and fences.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Stands between two sequentially consistent accesses of different words by one thread, whose order counts for others. The language
/// promises that order, and this is nothing; loom, which takes such accesses for acquiring and releasing ones, needs to be told.
#[inline]
pub fn in_sequence() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
