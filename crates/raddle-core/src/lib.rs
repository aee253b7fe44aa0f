//! The core of Raddle: the life of a unit of work, the one way to sleep, what threads guard things with and pass things
//! through, and the queue that feeds workers.
//!
//! Six rooms; each one knows only those above it.
//!
//! | room | what it is |
//! |---|---|
//! | [`prim`] | atomics, cells, locks and threads: those of `std`, or the model checker's |
//! | [`life`] | the state machine that every unit lives through, pure and atomic |
//! | [`park`] | sleeping and waking: one token per thread |
//! | [`sync`] | locks, semaphores, events, conditions, barriers, latches, numbers, a table |
//! | [`channel`] | queues through which threads pass values |
//! | [`sched`] | the queue of a worker pool, balance between workers, the pace of calls |
//!
//! This crate knows nothing of Python, starts no thread, holds no global but one parker per thread and the number
//! of forks, and has no unsafe code.

#![forbid(unsafe_code)]

pub mod channel;
pub mod life;
pub mod park;
pub mod prim;
pub mod sched;
pub mod sync;

/// The README of this crate, so that its example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod _documentation {}
