#![doc = include_str!("park.md")]

mod current;
mod os;
mod parker;
mod patience;

pub use current::with_current;
pub use parker::{Parker, Unparker, Wake};
pub use patience::Patience;
