//! Those who wait until somebody says that something has changed.

use std::fmt;

use crate::prim::{Arc, ByMutex, Guarding};

use crate::park::{Line, Waiter};

/// The waiting half of a condition variable. The lock that belongs to it is its user's.
///
/// # Examples
///
/// ```
/// use raddle_core::park::Wake;
/// use raddle_core::prim::{Arc, Mutex, thread};
/// use raddle_core::sync::Condition;
///
/// let shared = Arc::new((Mutex::new(false), Condition::new()));
/// let there = Arc::clone(&shared);
/// let other = thread::spawn(move || {
///     *there.0.lock() = true;
///     there.1.notify(1);
/// });
/// let (is_ready, condition) = &*shared;
/// loop {
///     let guard = is_ready.lock();
///     if *guard {
///         break;
///     }
///     let waiter = condition.join();
///     drop(guard);
///     assert_eq!(waiter.park(None), Wake::Unparked);
/// }
/// # other.join().unwrap();
/// ```
pub struct Condition<G: Guarding = ByMutex> {
    line: G::Cell<Line>,
}

impl Condition {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::guarded()
    }
}

impl<G: Guarding> Condition<G> {
    /// Nobody waits, and the line is guarded otherwise than by a mutex.
    pub fn guarded() -> Self {
        Self { line: G::cell(Line::default()) }
    }

    /// Stands in line. To be done while the lock is held; then release it, park, take it again.
    pub fn join(&self) -> Arc<Waiter> {
        G::with(&self.line, |line| line.join(None))
    }

    /// Calls and wakes the first `most`.
    #[inline]
    pub fn notify(&self, most: usize) {
        let called = G::with(&self.line, |line| line.call_many(most));
        called.wake();
    }

    /// Takes a waiter out of the line. `false`: it was notified.
    #[must_use = "a notification that came too late was this waiter's"]
    pub fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        G::with(&self.line, |line| line.leave(waiter))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        G::with(&self.line, Line::len)
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl<G: Guarding> fmt::Debug for Condition<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").finish_non_exhaustive()
    }
}
