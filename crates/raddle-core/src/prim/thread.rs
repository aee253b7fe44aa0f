//! Threads: to start, to name, to join, to give way. To sleep, see [`park`](crate::park).

#[cfg(loom)]
pub use loom::thread::{Builder, JoinHandle, Thread, ThreadId, current, spawn, yield_now};
#[cfg(not(loom))]
pub use std::thread::{Builder, JoinHandle, Thread, ThreadId, current, spawn, yield_now};

/// How many processors this process may use, as it was at the first call.
#[cfg(not(loom))]
pub fn processors() -> usize {
    use super::atomic::{AtomicUsize, Ordering::Relaxed};
    /// 0 until the first call. Threads that come at once find the same number.
    static PROCESSORS: AtomicUsize = AtomicUsize::new(0);
    match PROCESSORS.load(Relaxed) {
        0 => {
            let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            PROCESSORS.store(count, Relaxed);
            count
        }
        count => count,
    }
}

#[cfg(loom)]
pub(crate) use loom::thread_local as local;
#[cfg(not(loom))]
pub(crate) use std::thread_local as local;
