#![doc = include_str!("park.md")]

mod crowd;
mod current;
mod os;
mod parker;
mod patience;

pub use crowd::{Crowd, InCrowd};
pub use current::with_current;
pub use parker::{Parker, Unparker, Wake};
pub use patience::Patience;
