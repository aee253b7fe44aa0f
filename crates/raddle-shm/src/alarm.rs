//! Ring when the count is high enough, not before. The protocol is in `bell.md`, next to this file.

#![forbid(unsafe_code)]

use raddle_core::prim::atomic::Ordering::{Relaxed, SeqCst};
use raddle_core::prim::atomic::{AtomicU64, fence};

/// The count that is never reached.
const NEVER: u64 = u64::MAX;

/// The count at which one side wants to be told. Lives in shared memory, beside a [`Bell`](crate::Bell).
///
/// The waiting side sets it; the counting side asks after every step whether it is due, and rings if so. That way a side that
/// waits for the thousandth answer is woken once and not a thousand times.
///
/// All ones mean never. **Zeroed memory means at once**: call [`init`](Alarm::init) before the first use.
///
/// # Examples
///
/// ```
/// use raddle_shm::Alarm;
///
/// let alarm = Alarm::new();
/// assert!(!alarm.due(2), "nobody has set it");
/// alarm.set(3);
/// assert!(!alarm.due(2));
/// assert!(alarm.due(4));
/// assert!(!alarm.due(5), "once for each time it is set");
/// ```
#[repr(C)]
#[derive(Debug)]
pub struct Alarm {
    /// Set and cleared by the waiting side, taken away by the counting side.
    at: AtomicU64,
}

impl Alarm {
    /// An alarm that is never due.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { at: AtomicU64::new(NEVER) }
    }

    /// An alarm that is never due.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { at: AtomicU64::new(NEVER) }
    }

    /// Makes zeroed memory an alarm that is never due. Once, by whoever made the memory, before it is shared.
    pub fn init(&self) {
        self.at.store(NEVER, Relaxed);
    }

    /// Asks to be told when the count is `at` or more, instead of what was asked before. The caller looks at the count
    /// after this.
    pub fn set(&self, at: u64) {
        self.at.swap(at, Relaxed);
        // Ordering: SeqCst, between the store above and the caller's look at the count. Pairs with the fence in `due`.
        fence(SeqCst);
    }

    /// Does not ask any more. The counting side may be about to ring nevertheless.
    pub fn clear(&self) {
        self.at.swap(NEVER, Relaxed);
    }

    /// Whether the caller has to ring now. Called after `count` was published.
    #[must_use = "a due alarm that nobody rings for is a lost wake-up"]
    pub fn due(&self, count: u64) -> bool {
        // Ordering: SeqCst, between the caller's publishing and the load below. Pairs with the fence in `set`.
        fence(SeqCst);
        let mut at = self.at.load(Relaxed);
        while at != NEVER && at <= count {
            // Not a swap: the alarm may have been moved on since we read it (bell.md, "The alarm").
            match self.at.compare_exchange(at, NEVER, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(moved) => at = moved,
            }
        }
        false
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}
