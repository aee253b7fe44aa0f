//! The process lane with real worker processes, without Python.
//!
//! A worker is this test binary again: it runs the one test [`worker`], which finds its descriptors among the
//! arguments. What workers can do is in `worker.rs`; how a lane is kept, and how a call is made, in `support.rs`.
#![cfg(all(target_os = "linux", not(loom)))]

mod calls;
mod closing;
mod death;
mod garbage;
mod hostile;
mod payloads;
mod stealing;
mod support;
mod waiting;
mod watching;
mod worker;

/// Not a test of its own: what a worker process runs. It does nothing in the process that the tests run in.
#[test]
fn worker() {
    worker::work_if_asked();
}
