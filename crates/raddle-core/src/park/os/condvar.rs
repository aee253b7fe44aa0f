//! Sleeping on a word, by a mutex and a condition variable.
//!
//! The mutex is held from the comparison until the thread sleeps, and the waker takes it after it has changed
//! the word: so the wake comes either before the comparison, which then fails, or after the thread sleeps.
//!
//! Under the model checker time and signals are played: a wait with a time limit ends at once as `TimedOut`
//! (every wake that could have come first is another interleaving), and `interrupt` plays a signal.

use super::Ended;
use crate::prim::atomic::AtomicU32;
use crate::prim::atomic::Ordering::Relaxed;
use crate::prim::{Condvar, Mutex};
use std::time::Duration;

pub(in crate::park) struct Site {
    /// Whether a signal has been played and not been reported yet; only the model checker sets it.
    signalled: Mutex<bool>,
    woken: Condvar,
}

impl Site {
    pub(in crate::park) fn new() -> Self {
        Self { signalled: Mutex::new(false), woken: Condvar::new() }
    }

    pub(in crate::park) fn wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Ended {
        let mut signalled = self.signalled.lock();
        // Ordering: Relaxed. The mutex orders this read with the waker's write; what the word means is taken
        // with Acquire by the caller.
        if word.load(Relaxed) != expected {
            return Ended::Woken;
        }
        if std::mem::take(&mut *signalled) {
            return Ended::Interrupted;
        }
        #[cfg(loom)]
        if timeout.is_some() {
            return Ended::TimedOut;
        }
        let (mut signalled, timed_out) = match timeout {
            None => (self.woken.wait(signalled).unwrap_or_else(|poisoned| poisoned.into_inner()), false),
            Some(left) => {
                let (signalled, ended) =
                    self.woken.wait_timeout(signalled, left).unwrap_or_else(|poisoned| poisoned.into_inner());
                (signalled, ended.timed_out())
            }
        };
        if std::mem::take(&mut *signalled) {
            Ended::Interrupted
        } else if timed_out {
            Ended::TimedOut
        } else {
            Ended::Woken
        }
    }

    pub(in crate::park) fn wake(&self, _word: &AtomicU32) {
        drop(self.signalled.lock());
        self.woken.notify_one();
    }

    #[cfg(loom)]
    pub(in crate::park) fn interrupt(&self) {
        *self.signalled.lock() = true;
        self.woken.notify_one();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::prim::atomic::Ordering::{Acquire, Release};
    use crate::prim::{Arc, thread};

    #[test]
    fn a_wait_for_another_value_does_not_sleep() {
        let (site, word) = (Site::new(), AtomicU32::new(1));
        assert_eq!(site.wait(&word, 0, None), Ended::Woken);
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        let (site, word) = (Site::new(), AtomicU32::new(0));
        while site.wait(&word, 0, Some(Duration::from_millis(1))) != Ended::TimedOut {}
    }

    #[test]
    fn a_wake_after_a_change_is_not_lost() {
        for _ in 0..200 {
            let shared = Arc::new((Site::new(), AtomicU32::new(0)));
            let sleeper = Arc::clone(&shared);
            let sleeper = thread::spawn(move || {
                while sleeper.1.load(Acquire) == 0 {
                    assert_eq!(sleeper.0.wait(&sleeper.1, 0, None), Ended::Woken);
                }
            });
            shared.1.store(1, Release);
            shared.0.wake(&shared.1);
            sleeper.join().expect("the sleeper saw no other end");
        }
    }
}
