#![doc = include_str!("gong.md")]
#![forbid(unsafe_code)]

use std::time::Duration;

use raddle_core::prim::atomic::Ordering::{Relaxed, Release, SeqCst};
use raddle_core::prim::atomic::{AtomicU32, fence};

use crate::futex::{self, Wait};

/// A [`Bell`](crate::Bell) at which any number of threads may sleep. Lives in shared memory.
///
/// A ring wakes one of them, who [passes it on](Gong::pass_on) if there is more to do. While nobody sleeps a ring costs a fence and a
/// load, and no system call. Eight bytes of any content are a valid gong: a foreign one wakes without a reason, or costs a system call.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::atomic::{AtomicU32, Ordering::{Acquire, Release}};
/// use raddle_shm::Gong;
///
/// let (gong, work) = (Gong::new(), AtomicU32::new(0));
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         work.store(1, Release);
///         gong.ring();
///     });
///     loop {
///         let ticket = gong.prepare();
///         if work.load(Acquire) == 1 {
///             break;
///         }
///         gong.sleep(&ticket, None);
///     }
/// });
/// ```
#[repr(C)]
#[derive(Debug)]
pub struct Gong {
    /// Grows by one with every wake-up. The sleepers sleep on it.
    word: AtomicU32,
    /// 1: there may be sleepers of whom no ringer knows.
    asleep: AtomicU32,
}

/// The intention to sleep at a gong: evidence that [`Gong::prepare`] was called and the look comes after it. To drop it costs the next
/// ringer one system call.
#[derive(Debug)]
#[must_use = "look for work, then give it to `sleep`, or drop it"]
pub struct Intention {
    word: u32,
}

impl Intention {
    /// As a number, for who lets another thread sleep in its place.
    pub fn to_word(&self) -> u32 {
        self.word
    }

    /// From such a number.
    pub fn from_word(word: u32) -> Self {
        Self { word }
    }
}

impl Gong {
    /// A gong at which nobody sleeps: all zero.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// A gong at which nobody sleeps.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// Announces that the caller is about to sleep here. It looks for work after this, and before [`sleep`](Gong::sleep).
    pub fn prepare(&self) -> Intention {
        let word = self.word.load(Relaxed);
        self.asleep.swap(1, Relaxed);
        // Ordering: SeqCst, between the store above and the caller's look at the work. Pairs with the fence in `undertake`. It is also an
        // acquire fence for the load of `word`, and as such pairs with the Release in `ring` and `ring_all`.
        fence(SeqCst);
        Intention { word }
    }

    /// Sleeps until it is woken. Returns at once if somebody was woken since [`prepare`](Gong::prepare).
    ///
    /// A sleep that ended for another reason may be taken up again with the same intention.
    ///
    /// Whoever has slept, however that ended, calls `prepare` or [`pass_on`](Gong::pass_on) next.
    ///
    /// # Stopping
    ///
    /// A signal whose handler runs ends the sleep.
    pub fn sleep(&self, intention: &Intention, timeout: Option<Duration>) -> Wait {
        futex::wait(&self.word, intention.word, timeout)
    }

    /// To be called by who has slept and does not sleep again: others may sleep of whom no ringer knows, and the call that was meant for
    /// one of them may have been taken by this thread.
    pub fn pass_on(&self, has_work: impl FnOnce() -> bool) {
        self.asleep.swap(1, Relaxed);
        // Ordering: SeqCst, as in `prepare`.
        fence(SeqCst);
        if has_work() {
            self.ring();
        }
    }

    /// Wakes one sleeper, if there is one. Called after the work was published. Says whether it made the system call.
    #[inline]
    pub fn ring(&self) -> bool {
        self.undertake() && self.wake(1)
    }

    /// Wakes all sleepers, if there are any: for a gong at which nobody [rings](Gong::ring), because what is brought is of use for some and
    /// not for others.
    pub fn ring_out(&self) -> bool {
        self.undertake() && self.wake(u32::MAX)
    }

    /// Wakes everybody, whether or not somebody seems to sleep. For who has learnt of a death, and for what concerns all of them.
    pub fn ring_all(&self) {
        self.wake(u32::MAX);
    }

    #[inline]
    fn undertake(&self) -> bool {
        // Ordering: SeqCst, between the caller's publishing and the load below. Pairs with the fence in `prepare`.
        fence(SeqCst);
        // The load keeps the cache line shared while nobody sleeps.
        self.asleep.load(Relaxed) != 0 && self.asleep.swap(0, Relaxed) != 0
    }

    #[cold]
    fn wake(&self, count: u32) -> bool {
        // Ordering: Release. Pairs with the fence in `prepare`: who takes the new word for its own sees what was published before.
        self.word.fetch_add(1, Release);
        futex::wake(&self.word, count);
        true
    }

    /// For models: a ringer that is killed between the two halves of a ring.
    #[cfg(loom)]
    pub fn die_ringing(&self) {
        self.undertake();
    }
}

impl Default for Gong {
    fn default() -> Self {
        Self::new()
    }
}
