//! How the operating system puts a thread to sleep as long as a word has a value.
//!
//! Two kinds of `Site`, with the same three methods: `new`, `wait` and `wake`. The futex is Linux's. The
//! pair of a mutex and a condition variable is for every other system, and for the model checker.
//!
//! `wait(word, expected, timeout)` sleeps only if `word` is `expected`, and a `wake` that follows a change of
//! the word is not lost. It may also end for no reason, which counts as `Woken`.

#[cfg(any(loom, test, not(target_os = "linux")))]
mod condvar;
#[cfg(all(target_os = "linux", not(loom)))]
mod futex;

#[cfg(any(loom, not(target_os = "linux")))]
pub(super) use condvar::Site;
#[cfg(all(target_os = "linux", not(loom)))]
pub(super) use futex::Site;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(loom, target_os = "linux")), expect(dead_code, reason = "only a futex tells of a signal"))]
pub(super) enum Ended {
    /// By a wake, because the word had another value, or for no reason.
    Woken,
    /// The time is over.
    TimedOut,
    /// A signal handler has run.
    Interrupted,
}
