#![doc = include_str!("channel.md")]

#[cfg(not(loom))]
mod member;
#[cfg(loom)]
pub mod model;
mod table;
mod words;

#[cfg(not(loom))]
pub use member::{Draft, Lease, MOST, Member, Message, Other, Received, Refusal};
pub use table::{Garbled, Transit};
pub use words::{INLINE, Side};
