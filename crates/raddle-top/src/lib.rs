#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod draw;
mod history;
mod keys;
mod locks;
mod pace;
mod pages;
mod row;
mod scene;
mod screen;
mod tasks;
mod top;
mod units;
mod verdict;
mod view;
mod wait;

pub use top::{Ending, Failure, Settings, top};
