//! How much a primitive was used, and waited for.
//!
//! # What is counted
//!
//! Every acquisition, by one addition. The clock is read only by those who wait: a free lock that is taken and released costs no look at it.
//! So the times of waits are exact, and those of holds are known where they matter: a hold is timed from the moment at which it
//! is first waited for, or from its beginning if it began with a wait.
//!
//! Numbers are taken without order between them: a reading while others work may have a wait whose acquisition it has not. Nothing depends on them.

use std::sync::OnceLock;
use std::time::Instant;

use crate::prim::atomic::AtomicU64;
use crate::prim::atomic::Ordering::Relaxed;

/// What was counted, in whole numbers and nanoseconds.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::Usage;
///
/// let usage = Usage::default();
/// usage.acquired();
/// assert_eq!(usage.numbers().acquisitions, 1);
/// assert_eq!(usage.numbers().contended, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageNumbers {
    /// How often it was taken.
    pub acquisitions: u64,
    /// How often somebody had to wait, in vain or not.
    pub contended: u64,
    /// How often somebody has waited in vain: a timeout, a stop, an exception.
    pub gave_up: u64,
    /// All waits together, in nanoseconds.
    pub waited: u64,
    /// The longest wait, in nanoseconds.
    pub longest_wait: u64,
    /// The longest hold that is known, in nanoseconds.
    pub longest_hold: u64,
}

/// The counters.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::Usage;
///
/// let usage = Usage::default();
/// usage.acquired_alone();
/// let wait = usage.wait();
/// usage.hold_ended();
/// usage.waited(wait, true);
/// let numbers = usage.numbers();
/// assert_eq!((numbers.acquisitions, numbers.contended, numbers.gave_up), (2, 1, 0));
/// assert!(numbers.longest_hold <= numbers.longest_wait, "it was timed from the moment at which it was waited for");
/// ```
#[derive(Debug, Default)]
pub struct Usage {
    acquisitions: AtomicU64,
    contended: AtomicU64,
    gave_up: AtomicU64,
    waited: AtomicU64,
    longest_wait: AtomicU64,
    longest_hold: AtomicU64,
    /// Since when the present hold is timed. 0: it is not.
    held_since: AtomicU64,
}

/// Nanoseconds since somebody first asked, and never 0.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}

// Ordering: Relaxed everywhere; see the module.
impl Usage {
    /// It was taken without a wait, by one of several who may do so at the same time.
    #[inline]
    pub fn acquired(&self) {
        self.acquisitions.fetch_add(1, Relaxed);
    }

    /// It was taken without a wait, by the one who has it alone.
    #[inline]
    pub fn acquired_alone(&self) {
        self.acquisitions.store(self.acquisitions.load(Relaxed) + 1, Relaxed);
        self.held_since.store(0, Relaxed);
    }

    /// Somebody begins to wait. Returns what [`waited`](Self::waited) wants.
    #[cold]
    pub fn wait(&self) -> u64 {
        let now = now();
        self.contended.fetch_add(1, Relaxed);
        self.hold_is_awaited(now);
        now
    }

    /// The same for a primitive that says itself, by [`hold_is_awaited`](Self::hold_is_awaited), whose hold is waited for.
    #[cold]
    pub fn wait_apart(&self) -> u64 {
        self.contended.fetch_add(1, Relaxed);
        now()
    }

    /// Somebody waits for the end of the present hold, since that moment. To be called while it cannot end.
    pub fn hold_is_awaited(&self, since: u64) {
        _ = self.held_since.compare_exchange(0, since, Relaxed, Relaxed);
    }

    /// A wait that began `since` then is over: it was taken, or not.
    #[cold]
    pub fn waited(&self, since: u64, taken: bool) {
        let now = now();
        let took = now.saturating_sub(since);
        self.waited.fetch_add(took, Relaxed);
        self.longest_wait.fetch_max(took, Relaxed);
        if taken {
            self.acquisitions.fetch_add(1, Relaxed);
            self.held_since.store(now, Relaxed);
        } else {
            self.gave_up.fetch_add(1, Relaxed);
        }
    }

    /// A hold ends. To be called before it is released.
    #[inline]
    pub fn hold_ended(&self) {
        let since = self.held_since.load(Relaxed);
        if since != 0 {
            self.timed_hold_ended(since);
        }
    }

    #[cold]
    fn timed_hold_ended(&self, since: u64) {
        self.held_since.store(0, Relaxed);
        self.longest_hold.fetch_max(now().saturating_sub(since), Relaxed);
    }

    /// What was counted.
    pub fn numbers(&self) -> UsageNumbers {
        UsageNumbers {
            acquisitions: self.acquisitions.load(Relaxed),
            contended: self.contended.load(Relaxed),
            gave_up: self.gave_up.load(Relaxed),
            waited: self.waited.load(Relaxed),
            longest_wait: self.longest_wait.load(Relaxed),
            longest_hold: self.longest_hold.load(Relaxed),
        }
    }
}
