//! Sleeping on a word, by Linux.
//!
//! The futex is private: the kernel need not look up which memory the word is in.

#![allow(clippy::disallowed_methods, reason = "this is the room where a thread sleeps")]

use super::Ended;
use crate::prim::atomic::AtomicU32;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};
use std::time::Duration;

/// The kernel keeps the list of sleepers, by the address of the word.
pub(in crate::park) struct Site;

impl Site {
    pub(in crate::park) fn new() -> Self {
        Self
    }

    pub(in crate::park) fn wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Ended {
        // A time too long for the kernel's clock is as good as no limit.
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        match futex::wait(word, Flags::PRIVATE, expected, timeout.as_ref()) {
            Err(Errno::TIMEDOUT) => Ended::TimedOut,
            Err(Errno::INTR) => Ended::Interrupted,
            // Errno::AGAIN is a word with another value. Nothing else can come from an aligned private word
            // and a valid time; if it did, the caller looks at the word again.
            Ok(()) | Err(_) => Ended::Woken,
        }
    }

    pub(in crate::park) fn wake(&self, word: &AtomicU32) {
        // Fails only for a word that is not mapped, and this one is borrowed.
        let _ = futex::wake(word, Flags::PRIVATE, 1);
    }
}
