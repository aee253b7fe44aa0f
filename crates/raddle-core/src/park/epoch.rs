//! The number of forks.

#[cfg(not(loom))]
use crate::prim::atomic::{AtomicU32, Ordering::Relaxed};

#[cfg(not(loom))]
static EPOCH: AtomicU32 = AtomicU32::new(0);

/// How often this process, or an ancestor since this library was loaded, was forked off: what was noted in an earlier epoch about
/// other threads concerns threads that do not exist here.
#[cfg(not(loom))]
#[inline]
pub fn epoch() -> u32 {
    EPOCH.load(Relaxed)
}

/// To be called in a forked child, before anything else.
#[cfg(not(loom))]
pub fn next_epoch() {
    EPOCH.fetch_add(1, Relaxed);
}

/// Models do not fork.
#[cfg(loom)]
pub fn epoch() -> u32 {
    0
}

/// Models do not fork.
#[cfg(loom)]
pub fn next_epoch() {}
