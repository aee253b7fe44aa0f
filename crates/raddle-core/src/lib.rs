//! The core of Raddle: the life of a unit of work, the one way to sleep, and the queue that feeds workers.
//!
//! Four rooms; each one knows only those above it.
//!
//! | room | what it is |
//! |---|---|
//! | [`prim`] | atomics, cells, locks and threads: those of `std`, or the model checker's |
//! | [`life`] | the state machine that every unit lives through, pure and atomic |
//! | [`park`] | sleeping and waking: one token per thread |
//! | [`sched`] | the queue of a worker pool, balance between workers, the pace of calls |
//!
//! This crate knows nothing of Python, starts no thread, holds no global but one parker per thread, and has
//! no unsafe code.

#![forbid(unsafe_code)]

pub mod life;
pub mod park;
pub mod prim;
pub mod sched;

/// The README of this crate, so that its example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod _documentation {}
