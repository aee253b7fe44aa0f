//! Threads: to start, to name, to join, to give way. To sleep, see [`park`](crate::park).

#[cfg(loom)]
pub use loom::thread::{Builder, JoinHandle, Thread, ThreadId, current, spawn, yield_now};
#[cfg(not(loom))]
pub use std::thread::{Builder, JoinHandle, Thread, ThreadId, current, spawn, yield_now};

#[cfg(loom)]
pub(crate) use loom::thread_local as local;
#[cfg(not(loom))]
pub(crate) use std::thread_local as local;
