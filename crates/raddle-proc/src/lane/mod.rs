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
mod post;
#[cfg(not(loom))]
mod seat;
#[cfg(not(loom))]
mod tally;
#[cfg(not(loom))]
mod ticket;
#[cfg(not(loom))]
mod words;
#[cfg(not(loom))]
mod zygote;

/// Nanoseconds of the clock that both sides read.
#[cfg(not(loom))]
pub fn clock_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A piece has so many items, at most.
#[cfg(not(loom))]
pub const MOST_ITEMS: u32 = raddle_shm::Stint::MOST;

#[cfg(not(loom))]
pub use engine::{Counts, Departure, Lane, LaneConfig, Refusal, Report, Seating, Submit};
#[cfg(not(loom))]
pub use keeper::Client;
pub use lead::{Lead, Waited};
#[cfg(not(loom))]
pub use link::{flag, kind};
#[cfg(not(loom))]
pub use payload::Payload;
#[cfg(not(loom))]
pub use post::Post;
#[cfg(not(loom))]
pub use seat::Holding;
#[cfg(not(loom))]
pub use tally::{WorkerCounts, WorkerState};
#[cfg(not(loom))]
pub use ticket::{Cause, Loss, OnDeath, Outgoing, Place, Reply, Ticket};
#[cfg(not(loom))]
pub use words::Words;
#[cfg(not(loom))]
pub use zygote::ZygoteNews;
