//! What threads pass values through.
//!
//! [`Queue`] is the standard library's. [`Channel`], [`Broadcast`] and [`Watch`] have two sides, and end when one of them is gone; they
//! share how an attempt is made ([`Place`]) and what it comes to ([`Sent`], [`Received`]). [`Turn`] is the choice among several. All wait as [`sync`](crate::sync) does.

mod broadcast;
#[expect(clippy::module_inception, reason = "the room is named after what it is for, the file after what it holds")]
mod channel;
mod choice;
mod pass;
mod queue;
mod watch;

pub use broadcast::Broadcast;
pub use channel::Channel;
pub use choice::{Case, Joined, Standing, Tried, Turn, try_all};
pub use pass::{Claim, Place, Received, Sent};
pub use queue::{Get, Join, Order, Put, Queue};
pub use watch::Watch;
