//! Atomics, cells, locks and threads: the only module that names them.
//!
//! By default they are those of the standard library and cost nothing more. With `--cfg loom` they are
//! those of the [loom](https://docs.rs/loom) model checker, which then runs every interleaving of a small
//! program (`tests/model`). The other rooms, and the other crates, take what they need from here, so that
//! one switch turns all of it into something that can be checked.
//!
//! # Rules
//!
//! 1. What is here has the same names and the same signatures in both worlds. Two things differ under the
//!    model checker: `new` is not `const`, and a value may be made and used only inside a model.
//! 2. A [`Mutex`] is for a few instructions on plain data: no user code, no system call and no sleep while
//!    it is held. Whoever wants to wait for something goes through [`park`](crate::park).
//!
//! # What is not here
//!
//! Condition variables, `std::thread::park` and `std::thread::sleep`: a thread sleeps only in
//! [`park`](crate::park).
//!
//! # Fork
//!
//! Atomics and cells mean the same in a forked child. A [`Mutex`] that another thread held at the moment of
//! the fork stays locked there for ever, and what it guards may be half changed: the child leaks such a
//! value and makes a new one.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the one place where the primitives are named"
)]

pub mod atomic;
pub mod cell;
mod guarding;
pub mod hint;
mod mutex;
pub mod thread;

pub use guarding::{ByMutex, Guarding};
#[cfg(any(loom, test, not(target_os = "linux")))]
pub(crate) use imp::Condvar;
pub use imp::{Arc, MutexGuard};
pub use mutex::Mutex;

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::Condvar;
    pub use loom::sync::{Arc, MutexGuard};
}

#[cfg(not(loom))]
mod imp {
    #[cfg(any(test, not(target_os = "linux")))]
    pub(crate) use std::sync::Condvar;
    pub use std::sync::{Arc, MutexGuard};
}
