//! Scheduling: the queue that feeds a pool of workers, and what can be decided without one.
//!
//! ```text
//!  push, push_many ──▶ ┌───────────── Queue ─────────────┐ ──▶ pop: an item, nothing, closed
//!  push_front ───────▶ │ by rank, first in first out     │
//!                      │ idle workers, last in first out │ ◀── wait: sleep until there may be an item
//!                      └─────────────────────────────────┘
//! ```
//!
//! * [`Queue`]: many producers, many workers, one lock; whoever finds nothing sleeps through
//!   [`park`](crate::park). The sleep protocol is described [there](Queue#the-sleep-protocol).
//!   Many items can lie in it as one record, a *span*, and still be taken one by one.
//! * [`Ranked`]: the order of its items: the highest rank first, first in first out within a rank.
//! * [`balance`]: which worker gets the next item, and what an idle worker may take from a busy one.
//! * [`Pace`]: how long items take, and so how many of them make up a given time.
//!
//! The last three are plain values: no atomics, no locks.
//!
//! * [`Quota`]: how many items may be under way.
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
mod quota;
mod ranked;

pub use error::Closed;
pub use pace::Pace;
pub use queue::{Piece, Pop, Queue, Record, Waited};
pub use quota::Quota;
pub use ranked::{Position, Rank, Ranked};
