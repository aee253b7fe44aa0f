//! How much may be under way.

use crate::prim::atomic::Ordering::SeqCst;
use crate::prim::atomic::{AtomicBool, AtomicU64};

/// Counts what is under way, and lets nothing in beyond a limit.
///
/// It does not wait: whoever is not let in waits in a [`Crowd`](crate::park::Crowd) until [`has_room`](Self::has_room), which is
/// woken after [`leave`](Self::leave) and [`close`](Self::close).
///
/// # Examples
///
/// ```
/// use raddle_core::sched::Quota;
///
/// let quota = Quota::new(Some(2));
/// assert!(quota.enter(2));
/// assert!(!quota.enter(1));
/// quota.leave(2);
/// assert!(quota.enter(5), "what is larger than the limit has it to itself");
/// ```
#[derive(Debug)]
pub struct Quota {
    taken: AtomicU64,
    limit: u64,
    closed: AtomicBool,
}

// Ordering: SeqCst throughout, for the protocol of `Crowd`: a waiter's look at `taken` or `closed` and the change of it.
impl Quota {
    /// Nothing is under way. None: there is no limit.
    pub fn new(limit: Option<u64>) -> Self {
        Self { taken: AtomicU64::new(0), limit: limit.unwrap_or(u64::MAX), closed: AtomicBool::new(false) }
    }

    /// Lets `count` in if they stay within the limit, or if nothing is under way.
    #[must_use = "whoever is not let in must not go on"]
    pub fn enter(&self, count: u64) -> bool {
        let admit = |taken: u64| (taken == 0 || taken.saturating_add(count) <= self.limit).then(|| taken + count);
        self.taken.fetch_update(SeqCst, SeqCst, admit).is_ok()
    }

    /// Lets `count` in, beyond the limit if need be.
    pub fn force(&self, count: u64) {
        self.taken.fetch_add(count, SeqCst);
    }

    /// `count` are through.
    pub fn leave(&self, count: u64) {
        self.taken.fetch_sub(count, SeqCst);
    }

    /// Whether one more would be let in, or would be refused for another reason.
    pub fn has_room(&self) -> bool {
        self.taken.load(SeqCst) < self.limit || self.closed.load(SeqCst)
    }

    /// Nobody needs to wait any more: whatever comes is refused elsewhere.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    /// How many are under way.
    pub fn taken(&self) -> u64 {
        self.taken.load(SeqCst)
    }
}
