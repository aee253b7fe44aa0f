//! A flag that threads wait for.

use crate::prim::atomic::AtomicBool;
use crate::prim::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::prim::{Arc, Mutex};

use crate::park::{Attempt, Line, Waiter};

/// A flag; whoever waits for it goes on when it is set, also when it is cleared at once.
///
/// # Examples
///
/// ```
/// use raddle_core::park::{Attempt};
/// use raddle_core::sync::{Event};
///
/// let event = Event::new();
/// let Attempt::Wait(waiter) = event.wait(None) else { panic!("it is not set") };
/// event.set();
/// event.clear();
/// assert!(event.wait(Some(&waiter)).done().is_some());
/// ```
#[derive(Debug, Default)]
pub struct Event {
    /// Changed under the line's mutex, read without.
    flag: AtomicBool,
    line: Mutex<Line>,
}

impl Event {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        // Ordering: Acquire. Pairs with the Release in `set`.
        self.flag.load(Acquire)
    }

    /// Sets it and calls all who wait.
    #[inline]
    pub fn set(&self) {
        let mut line = self.line.lock();
        // Ordering: Release. Pairs with `is_set`.
        self.flag.store(true, Release);
        let called = line.call_all();
        drop(line);
        called.wake();
    }

    /// Clears it. Who was called by the `set` before goes on all the same.
    #[inline]
    pub fn clear(&self) {
        let _line = self.line.lock();
        self.flag.store(false, Relaxed);
    }

    /// Whether it is set, or was when `before` was called; else stands in line.
    #[inline]
    pub fn wait(&self, before: Option<&Arc<Waiter>>) -> Attempt {
        if self.is_set() || before.is_some_and(|waiter| waiter.is_called()) {
            return Attempt::Done(());
        }
        let mut line = self.line.lock();
        if self.is_set() {
            return Attempt::Done(());
        }
        Attempt::Wait(line.join(None))
    }

    /// Whether it is set; else a waiter that is there already stands in line.
    pub fn wait_as(&self, waiter: &Arc<Waiter>) -> bool {
        let mut line = self.line.lock();
        let is_set = self.is_set();
        if !is_set {
            line.join_as(waiter, false);
        }
        is_set
    }

    /// Takes a waiter out of the line that does not want to wait any more. A call that came too late is nobody else's. Returns whether it
    /// was set while that waiter stood there, even if it is not any more.
    pub fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        !self.line.lock().leave(waiter)
    }
}
