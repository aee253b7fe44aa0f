#![doc = include_str!("format.md")]

mod classify;
mod components;
mod ends;
mod facts;
pub mod format;
mod holders;
mod index;
mod merge;
mod order;
mod overlay;
mod read;

pub use holders::Holders;
pub use merge::merge;
pub use read::{Events, Exception, GilWait, Join, Leak, Lock, Order, Permits, Start, Thread, Wait};
