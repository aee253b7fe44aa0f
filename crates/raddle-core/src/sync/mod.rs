#![doc = include_str!("sync.md")]

mod barrier;
mod condition;
mod counter;
mod event;
mod fair;
mod int;
mod latch;
mod lock;
mod once;
mod rwlock;
mod semaphore;
mod table;
mod usage;

pub use barrier::{Arrival, Barrier, Broken, Crossing};
pub use condition::Condition;
pub use counter::Counter;
pub use event::Event;
pub use fair::FairLock;
pub use int::{Int, OutOfRange};
pub use latch::{Latch, TooMany};
pub use lock::Lock;
pub use once::{Once, Recursion, Turn};
pub use rwlock::{Access, NotHeld, Preference, RwLock, Upgrade};
pub use semaphore::{Overfull, Semaphore};
pub use table::{Claim, Claiming, Place, Removed, Search, Step, Table};
pub use usage::{Usage, UsageNumbers};
