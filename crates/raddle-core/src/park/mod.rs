#![doc = include_str!("park.md")]

mod crowd;
mod current;
mod epoch;
mod graph;
mod line;
mod order;
mod os;
mod parker;
mod patience;

pub use crowd::{Crowd, InCrowd};
pub use current::with_current;
pub use epoch::{epoch, next_epoch};
pub use graph::{Circle, Edge, Enders, Graph, Sight, Thing};
pub use line::{Attempt, Called, Line, Waiter};
pub use order::{Clock, LockId, Order, Step};
pub use parker::{Parker, Unparker, Wake};
pub use patience::Patience;
