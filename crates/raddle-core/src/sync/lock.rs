//! A lock: one word, and a line for those who wait.
//!
//! | word | means |
//! |---|---|
//! | `0` | free, nobody waits |
//! | `HELD` | held, nobody waits |
//! | `HELD \| WAITERS` | held; whoever releases calls the first in line |
//! | `WAITERS` | free; somebody was called, or is about to see that it is free |
//!
//! A release wakes one waiter and gives it nothing: a thread that comes by may take the lock first, and the waiter goes back to
//! the front of the line. That is what lets a lock be taken and released many times while a waiter wakes up.

use crate::prim::atomic::AtomicU32;
use crate::prim::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::prim::{Arc, Mutex};

use crate::park::{Attempt, Line, Patience, Waiter};

const HELD: u32 = 1;
const WAITERS: u32 = 2;

/// Mutual exclusion that may be released by any thread. Who holds it is for others to remember.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::{Arc, thread};
/// use raddle_core::park::{Attempt};
/// use raddle_core::sync::{Lock};
///
/// let lock = Arc::new(Lock::new());
/// assert!(lock.try_acquire());
/// let there = Arc::clone(&lock);
/// let other = thread::spawn(move || assert!(there.release()));
///
/// let mut before = None;
/// while let Attempt::Wait(waiter) = lock.acquire(before.as_ref()) {
///     let _ = waiter.park(None);
///     before = Some(waiter);
/// }
/// assert!(lock.is_held());
/// # other.join().unwrap();
/// ```
#[derive(Debug, Default)]
pub struct Lock {
    word: AtomicU32,
    line: Mutex<Line>,
    patience: Patience,
}

impl Lock {
    /// A free lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes it if it is free.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        // Ordering: Acquire. Pairs with the Release in `release`: what the last holder did is seen.
        self.word.compare_exchange(0, HELD, Acquire, Relaxed).is_ok() || self.try_acquire_slow()
    }

    #[cold]
    fn try_acquire_slow(&self) -> bool {
        let mut word = self.word.load(Relaxed);
        while word & HELD == 0 {
            match self.word.compare_exchange(word, word | HELD, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes it, or stands in line for it. `before`: the waiter of the attempt before, which was called.
    pub fn acquire(&self, before: Option<&Arc<Waiter>>) -> Attempt {
        if self.try_acquire() {
            return Attempt::Done(());
        }
        let mut line = self.line.lock();
        // Ordering: AcqRel. Ordered with the change in `release`: see "Why no wake-up is lost".
        if self.word.fetch_or(WAITERS, AcqRel) & HELD == 0 && self.try_acquire_slow() {
            return Attempt::Done(());
        }
        Attempt::Wait(line.join(before))
    }

    /// Looks for a moment whether it becomes free, and takes it. For a thread that has nothing better to do.
    pub fn acquire_soon(&self) -> bool {
        self.patience.look(|| self.word.load(Relaxed) & HELD == 0) && self.try_acquire()
    }

    /// Releases it. `false`: it was not held.
    #[inline]
    #[must_use = "a release of what nobody holds is an error of the caller's"]
    pub fn release(&self) -> bool {
        // Ordering: Release. Pairs with the Acquire of the next holder.
        match self.word.compare_exchange(HELD, 0, Release, Relaxed) {
            Ok(_) => true,
            Err(_) => self.release_slow(),
        }
    }

    #[cold]
    fn release_slow(&self) -> bool {
        // Ordering: AcqRel. Release for the next holder; ordered with `acquire`'s announcement.
        let word = self.word.fetch_and(!HELD, AcqRel);
        if word & WAITERS != 0 {
            self.call();
        }
        word & HELD != 0
    }

    /// Takes a waiter out of the line that does not want to wait any more.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        let left = self.line.lock().leave(waiter);
        // Ordering: Relaxed. The mutex orders this with the call; if the lock is held, its release will call.
        if !left && self.word.load(Relaxed) & HELD == 0 {
            self.call();
        }
    }

    fn call(&self) {
        let mut line = self.line.lock();
        let called = line.call();
        if line.is_empty() {
            // Ordering: Relaxed. Who announces itself after this does so under the mutex that we hold.
            self.word.fetch_and(!WAITERS, Relaxed);
        }
        drop(line);
        called.wake();
    }

    /// Whether somebody holds it.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.word.load(Relaxed) & HELD != 0
    }

    /// Makes it free, whoever held it, and forgets who waits. For the child of a fork.
    pub fn reset(&self) {
        let mut line = self.line.lock();
        *line = Line::default();
        self.word.store(0, Release);
    }
}
