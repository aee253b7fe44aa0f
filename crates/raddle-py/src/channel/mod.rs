//! `raddle.channel` and its kin. What channels are stands in `raddle_core::channel`; here are the handles that Python holds, and the
//! choice among several things.
//!
//! # Who owns what
//!
//! A *pipe* is the object that owns a channel and what is in it, for the garbage collector; it is never seen by users. Senders and
//! receivers are handles: they own the pipe, and are counted by the channel. A handle that is collected is closed.

mod choice;
mod ends;
mod pipe;
mod timer;

pub(crate) use choice::{PySelection, PySending, forked, select, silence_bells};
pub(crate) use ends::{PyReceiver, PySender, open_shortcuts};
pub(crate) use pipe::PyPipe;
pub(crate) use timer::PyTimer;
