//! The real futex.

use std::time::Duration;

use raddle_core::prim::atomic::AtomicU32;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

use super::Wait;

/// Sleeps while the word is `expected`, until somebody wakes it, at most for `timeout`.
///
/// The comparison and falling asleep are one step: a [`wake`] after the word has changed is not missed. No timeout means
/// for ever.
///
/// # Panics
///
/// If the system has no futex, or forbids it.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::atomic::AtomicU32;
/// use raddle_shm::futex::{self, Wait};
/// use std::time::Duration;
///
/// let word = AtomicU32::new(1);
/// assert_eq!(futex::wait(&word, 0, None), Wait::Changed);
/// assert_eq!(futex::wait(&word, 1, Some(Duration::from_millis(1))), Wait::TimedOut);
/// ```
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wait {
    let timeout = timeout.map(timespec);
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the futex wait of this crate, the one place where it sleeps"
    )]
    match futex::wait(word, Flags::empty(), expected, timeout.as_ref()) {
        Ok(()) => Wait::Woken,
        Err(Errno::AGAIN) => Wait::Changed,
        Err(Errno::TIMEDOUT) => Wait::TimedOut,
        Err(Errno::INTR) => Wait::Interrupted,
        // The word is a valid reference and the time a valid time, so what is left is a system without futexes. To return
        // would make the caller spin.
        Err(error) => panic!("cannot wait on a futex: {error}"),
    }
}

/// Wakes up to `count` threads that sleep on the word, in whichever process, and says how many.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    // The kernel reads the count as a signed number, and a negative one as one.
    let count = count.min(i32::MAX as u32);
    futex::wake(word, Flags::empty(), count).unwrap_or_else(|error| panic!("cannot wake a futex: {error}"))
}

/// The longest time there is stands for longer ones.
fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}
