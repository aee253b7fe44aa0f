//! The two positions of a ring.

use raddle_core::prim::atomic::AtomicU64;

/// The positions of a ring, each on a cache line of its own. Lives in shared memory; all zero is an empty ring.
///
/// 128 bytes apart, because processors fetch lines in pairs.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Lines {
    pub(super) tail: Line,
    pub(super) head: Line,
}

/// A position: how many bytes this side has passed. It only grows, and one side alone writes it.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) position: AtomicU64,
}

impl Lines {
    /// An empty ring.
    pub fn new() -> Self {
        Self::default()
    }
}
