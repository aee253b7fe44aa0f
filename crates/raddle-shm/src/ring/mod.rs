#![doc = include_str!("ring.md")]

mod consumer;
mod header;
mod lines;
mod memory;
mod producer;

#[cfg(not(loom))]
mod mapped;
#[cfg(not(loom))]
use mapped::Mapped as Mem;
/// A ring whose memory is the model checker's.
#[cfg(loom)]
pub mod model;
#[cfg(loom)]
use model::Model as Mem;

pub use consumer::{Consumer, Corrupt, Record};
pub use header::Header;
pub use lines::Lines;
pub use producer::{Full, Producer, Slot};
