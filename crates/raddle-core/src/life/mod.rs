//! The life of a unit: the only place where a state changes.
//!
//! Two halves. [`State`] is a pure machine: a value, an event, the next value and what the caller owes
//! now; its tests walk every state it can reach. [`AtomicState`] is that machine in one atomic word, for
//! units that several threads talk to; its tests are models. [`Listener`] is how others hear of it.
//!
//! # Fork
//!
//! A state is a value and a word: the child may read its copies and step them. A unit that ran on a thread
//! of the parent never goes on there; whoever owns it in the child finishes it.

mod atomic;
mod error;
mod listener;
mod state;

pub use atomic::AtomicState;
pub use error::Refused;
pub use listener::{Listener, NoListener, UnitId};
pub use state::{Event, Next, Outcome, Phase, State};
