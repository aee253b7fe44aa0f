#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod code;
mod coroutine;
mod cycle;
mod elf;
mod error;
mod frame;
mod json;
mod kernel;
mod layout;
mod learn;
mod lock;
mod look;
mod memory;
mod model;
mod object;
mod own;
mod process;
mod runtime;
mod task;
mod text;
mod tree;
mod wait;
mod watch;

pub use error::Trouble;
pub use json::{json, trouble_json};
#[doc(hidden)]
pub use layout::{offset, offsets};
pub use look::{look, look_at_tree};
pub use model::{AsyncTask, Child, Deadlock, Held, Holder, Look, NativeThread, Place, Process, State, Thread, Wait};
pub use process::handles_signals;
pub use text::{Style, clean, is_library, place_in, plural, text, without_start};
pub use watch::{Watch, Watched};
