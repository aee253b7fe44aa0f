//! Scheduling: the queue that feeds a pool of workers, and the two decisions that need no queue.
//!
//! ```text
//!  push, push_many ──▶ ┌───────────── Queue ─────────────┐ ──▶ pop: an item, nothing, closed
//!  push_front ───────▶ │ items, first in first out       │
//!                      │ idle workers, last in first out │ ◀── wait: sleep until there may be an item
//!                      └─────────────────────────────────┘
//! ```
//!
//! * [`Queue`]: many producers, many workers, one lock; whoever finds nothing sleeps through
//!   [`park`](crate::park). The sleep protocol is described [there](Queue#the-sleep-protocol).
//! * [`balance`]: which worker gets the next item, and what an idle worker may take from a busy one.
//! * [`Pace`]: how long items take, and so how many of them make up a given time.
//!
//! The last two are plain values: no atomics, no locks.
//!
//! # Fork
//!
//! A [`Queue`] that other threads of the parent used may have been locked, or half changed, at the moment of
//! the fork. The child must not touch it, nor drop it: it leaks it and makes a new one. [`balance`] and
//! [`Pace`] go on as before.

pub mod balance;
mod error;
mod idle;
mod pace;
mod queue;

pub use error::Closed;
pub use pace::Pace;
pub use queue::{Pop, Queue, Waited};
