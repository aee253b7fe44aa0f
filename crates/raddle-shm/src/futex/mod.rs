//! Sleeping on a word that several processes see, and waking who sleeps there.
//!
//! A thin layer over the system's futex, without its private flag: the kernel finds sleepers by the page of memory, not by
//! the address, so the word may be mapped anywhere in each process. This is the only place in this crate where a thread
//! sleeps. Most code wants a [`Bell`](crate::Bell), which does not call the system unless someone sleeps.
//!
//! Under the model checker the two functions stand on a lock and a condition of its own (`model.rs`), with the same
//! answers.

#![forbid(unsafe_code)]

#[cfg(not(loom))]
mod linux;
#[cfg(loom)]
mod model;

#[cfg(not(loom))]
pub use linux::{wait, wake};
#[cfg(loom)]
pub use model::{wait, wake};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Somebody woke us. Perhaps for another reason: look again.
    Woken,
    /// The word was not what we expected; we did not sleep.
    Changed,
    /// The time is over.
    TimedOut,
    /// A signal arrived and its handler ran; the caller decides what that means.
    Interrupted,
}
