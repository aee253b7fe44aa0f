#![doc = include_str!("../README.md")]
#![cfg_attr(not(loom), cfg(target_os = "linux"))]

#[cfg(not(loom))]
pub mod child;
#[cfg(not(loom))]
mod ending;
#[cfg(not(loom))]
mod kernel;
pub mod lane;
#[cfg(not(loom))]
mod oom;
#[cfg(not(loom))]
mod outlet;
#[cfg(not(loom))]
pub mod sentry;
#[cfg(not(loom))]
mod signal;
#[cfg(not(loom))]
mod spawn;
#[cfg(not(loom))]
mod watch;

#[cfg(not(loom))]
pub use ending::Ending;
#[cfg(not(loom))]
pub use outlet::Outlet;
#[cfg(not(loom))]
pub use signal::with_signals_blocked;
#[cfg(not(loom))]
pub use spawn::{Spawn, spawn};
#[cfg(not(loom))]
pub use watch::{Process, Watch, Watched};
