#![doc = include_str!("bell.md")]
#![forbid(unsafe_code)]

use std::time::Duration;

use raddle_core::park::Patience;
use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use raddle_core::prim::atomic::{AtomicU32, fence};

use crate::futex::{self, Wait};

/// Where one thread sleeps until another process, or another thread, rings. Lives in shared memory.
///
/// One sleeper at a time, any number of ringers. While nobody sleeps a ring costs a fence and a load, and no system call.
/// Eight zero bytes are a valid bell, and so is any other content: the worst that a bell with a foreign content does is to wake
/// someone without a reason, or to make one system call too many.
///
/// The protocol, why it loses no wake-up, and what happens if either side dies, is in `bell.md`, next to the source.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::atomic::{AtomicU32, Ordering::{Acquire, Release}};
/// use raddle_shm::Bell;
///
/// let (bell, work) = (Bell::new(), AtomicU32::new(0));
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         work.store(1, Release);
///         bell.ring();
///     });
///     loop {
///         let ticket = bell.prepare();
///         if work.load(Acquire) == 1 {
///             bell.cancel(ticket);
///             break;
///         }
///         bell.sleep(ticket, None);
///     }
/// });
/// ```
#[repr(C)]
#[derive(Debug)]
pub struct Bell {
    /// Grows by one with every wake-up. The sleeper sleeps on it.
    word: AtomicU32,
    /// `ASLEEP` or `LOOKING`: the sleeper sleeps or is about to, and the next ringer owes it a wake-up; for one that is
    /// looking at `word` that is no system call.
    asleep: AtomicU32,
}

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const LOOKING: u32 = 2;

/// The intention to sleep at a bell: evidence that [`Bell::prepare`] was called and the look comes after it.
#[derive(Debug)]
#[must_use = "look for work, then give the ticket to `sleep` or to `cancel`"]
pub struct Ticket {
    word: u32,
}

impl Bell {
    /// A bell at which nobody sleeps: all zero.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// A bell at which nobody sleeps.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// Announces that the caller is about to sleep here. It looks for work after this, and before [`sleep`](Bell::sleep).
    pub fn prepare(&self) -> Ticket {
        let word = self.word.load(Relaxed);
        self.asleep.swap(ASLEEP, Relaxed);
        // Ordering: SeqCst, between the store to `asleep` above and the caller's look at the work. Pairs with the fence in
        // `undertake`. The argument is in bell.md, "Why it is not lost". It is also an acquire fence for the load above, and as
        // such pairs with the Release in `wake`: whoever takes the new word as its ticket, and so will not be woken by that
        // ring, sees what was published before it.
        fence(SeqCst);
        Ticket { word }
    }

    /// Sleeps until somebody rings, at most for `timeout`. Returns at once if somebody has rung since
    /// [`prepare`](Bell::prepare).
    ///
    /// # Stopping
    ///
    /// A signal whose handler runs ends the sleep. Whatever ended it, the caller looks for work again.
    pub fn sleep(&self, ticket: Ticket, timeout: Option<Duration>) -> Wait {
        let ended = futex::wait(&self.word, ticket.word, timeout);
        self.asleep.swap(AWAKE, Relaxed);
        // Ordering: Acquire. Pairs with the Release in `wake`: a sleeper that was rung sees what the ringer published, even if
        // it looks without another `prepare`.
        self.word.load(Acquire);
        ended
    }

    /// Sleeps as [`sleep`](Bell::sleep) does, but looks at the bell for a while first, if that has paid here before.
    pub fn sleep_patiently(&self, ticket: Ticket, timeout: Option<Duration>, patience: &Patience) -> Wait {
        // Ordering: Relaxed, both exchanges. If one fails, a ringer has undertaken to wake us: we are awake, and the look
        // that follows comes after another `prepare`, whose fence orders it.
        let looks = self.asleep.compare_exchange(ASLEEP, LOOKING, Relaxed, Relaxed).is_ok();
        let rung = !looks
            || patience.look(|| self.word.load(Relaxed) != ticket.word)
            || self.asleep.compare_exchange(LOOKING, ASLEEP, Relaxed, Relaxed).is_err();
        if rung {
            self.asleep.swap(AWAKE, Relaxed);
            // Ordering: Acquire, as in `sleep`.
            self.word.load(Acquire);
            return Wait::Woken;
        }
        self.sleep(ticket, timeout)
    }

    /// Does not sleep after all: the look found work.
    pub fn cancel(&self, ticket: Ticket) {
        let Ticket { word: _ } = ticket;
        self.asleep.swap(AWAKE, Relaxed);
    }

    /// Wakes the sleeper, if there is one. Called after the work was published.
    ///
    /// Says whether it made the system call: `true` at most once for each time the sleeper prepared.
    pub fn ring(&self) -> bool {
        match self.undertake() {
            AWAKE => false,
            LOOKING => {
                // Ordering: Release, as in `wake`.
                self.word.fetch_add(1, Release);
                false
            }
            _ => {
                self.wake();
                true
            }
        }
    }

    /// The first half of a ring: what the sleeper does. If it sleeps or looks, the caller has to wake it, and nobody else
    /// will.
    fn undertake(&self) -> u32 {
        // Ordering: SeqCst, between the caller's publishing and the load below. Pairs with the fence in `prepare`.
        fence(SeqCst);
        // The load keeps the cache line shared while nobody sleeps. Relaxed: nothing travels across; the fence orders it.
        if self.asleep.load(Relaxed) == AWAKE { AWAKE } else { self.asleep.swap(AWAKE, Relaxed) }
    }

    /// For models: a ringer that is killed between the two halves.
    #[cfg(loom)]
    pub fn die_ringing(&self) {
        self.undertake();
    }

    /// Wakes the sleeper whether or not it seems to sleep. For whoever learns that a ringer has died: it may have died between
    /// the two halves of a ring, and nobody else would ring for it.
    pub fn ring_always(&self) {
        self.wake();
    }

    fn wake(&self) {
        // Ordering: Release. Pairs with the fence in `prepare` and the Acquire in `sleep`.
        self.word.fetch_add(1, Release);
        futex::wake(&self.word, 1);
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
