#![doc = include_str!("park.md")]

mod current;
mod os;
mod parker;

pub use current::with_current;
pub use parker::{Parker, Unparker, Wake};
