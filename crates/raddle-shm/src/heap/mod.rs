#![doc = include_str!("heap.md")]

mod lease;
mod owner;
mod view;

pub use lease::{Lease, Piece};
pub use owner::Heap;
pub use view::View;
