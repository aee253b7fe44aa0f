//! Threads: to start, to name, to join, to give way. To sleep, see [`park`](crate::park).

#[cfg(loom)]
pub use loom::thread::{Builder, JoinHandle, Thread, ThreadId, current, spawn, yield_now};
#[cfg(not(loom))]
pub use std::thread::{Builder, JoinHandle, Thread, ThreadId, current, spawn, yield_now};

/// How many processors this process may use, as it was at the first call.
#[cfg(not(loom))]
pub fn processors() -> usize {
    static PROCESSORS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

#[cfg(loom)]
pub(crate) use loom::thread_local as local;
#[cfg(not(loom))]
pub(crate) use std::thread_local as local;
