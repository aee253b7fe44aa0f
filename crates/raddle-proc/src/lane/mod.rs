#![doc = include_str!("lane.md")]

#[cfg(not(loom))]
mod dispatch;
#[cfg(not(loom))]
mod engine;
#[cfg(not(loom))]
mod keeper;
mod lead;
#[cfg(not(loom))]
pub(crate) mod link;
#[cfg(not(loom))]
pub mod parcel;
#[cfg(not(loom))]
mod payload;
#[cfg(not(loom))]
mod seat;
#[cfg(not(loom))]
mod ticket;

#[cfg(not(loom))]
pub use engine::{Counts, Departure, Lane, LaneConfig, Refusal, Seating, Submit};
#[cfg(not(loom))]
pub use keeper::Client;
pub use lead::{Lead, Waited};
#[cfg(not(loom))]
pub use link::{flag, kind};
#[cfg(not(loom))]
pub use payload::Payload;
#[cfg(not(loom))]
pub use ticket::{Loss, OnDeath, Outgoing, Place, Reply, Ticket};
