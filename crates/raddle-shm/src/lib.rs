#![cfg_attr(target_os = "linux", doc = include_str!("../README.md"))]
#![cfg_attr(not(target_os = "linux"), doc = "This system has neither memfd nor futex: the library is empty here.")]
#![cfg_attr(
    all(target_os = "linux", not(loom)),
    doc = "
# The rooms

| room | what lives there |
|---|---|
| [`Segment`], [`Mapping`] | the memory: a sealed memfd, and a view of it |
| [`ring`] | records from one process to another, in order, whole, once |
| [`Bell`] | sleep until the other side has something; no system call when nobody sleeps |
| [`Alarm`] | ring when the count reaches *n*, not before |
| [`Stint`] | which items of a piece of work are begun, and which are taken away |
| [`Arena`] | who has which piece of a region, for payloads too large for a ring |
| [`Gong`] | the same for many sleepers, of whom one is woken at a time |
| [`Ear`] | one thread at a gong for all of its process who wait for several things |
| [`channel`] | messages between any number of processes on both sides |
| [`heap`] | large buffers that are used where they lie, by several processes |
| [`futex`] | the one place in this crate where a thread sleeps |
"
)]

#[cfg(target_os = "linux")]
mod alarm;
#[cfg(target_os = "linux")]
mod arena;
#[cfg(target_os = "linux")]
mod bell;
#[cfg(target_os = "linux")]
pub mod channel;
#[cfg(target_os = "linux")]
mod ear;
#[cfg(target_os = "linux")]
pub mod futex;
#[cfg(target_os = "linux")]
mod gong;
#[cfg(all(target_os = "linux", not(loom)))]
pub mod heap;
#[cfg(target_os = "linux")]
pub mod ring;
#[cfg(all(target_os = "linux", not(loom)))]
mod segment;
#[cfg(target_os = "linux")]
mod stint;

#[cfg(target_os = "linux")]
pub use alarm::Alarm;
#[cfg(target_os = "linux")]
pub use arena::Arena;
#[cfg(target_os = "linux")]
pub use bell::{Bell, Ticket};
#[cfg(target_os = "linux")]
pub use ear::{Ear, News};
#[cfg(target_os = "linux")]
pub use gong::{Gong, Intention};
#[cfg(all(target_os = "linux", not(loom)))]
pub use segment::{Mapping, Segment, Shared};
#[cfg(target_os = "linux")]
pub use stint::Stint;
