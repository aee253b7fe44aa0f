//! A lock that is taken in the order in which threads came.
//!
//! ```text
//!            release, somebody waits
//!    Held ───────────────────────────▶ Kept for the heir
//!     ▲ │ ▲                              │  │
//!     │ │ └──────────────────────────────┘  │ the heir leaves, and nobody is left
//!     │ ▼          the heir comes           ▼
//!    Free ◀─────────────────────────────────┘
//! ```
//!
//! A release with a line calls the first in it, and keeps the lock for this *heir*: it is free, and nobody else may take it. The lock
//! is still not *given* to anyone (rule 5 of this room): a heir that leaves passes it on, and a heir that a fork has left behind is forgotten.
//! So nobody overtakes, and no wait is longer than that of those who came before. The price is that the lock is idle from each
//! release to the moment at which the heir runs.
//!
//! # Rules
//!
//! 1. Held, it has no heir. With a heir, it is free.
//! 2. Free without a heir, nobody stands in line: a release or a leave that would make it so calls the first.
//! 3. Whoever comes takes it if it is free without a heir, or is the heir; or joins at the end.

use std::collections::VecDeque;

use crate::prim::{Arc, Mutex};

use crate::park::{Attempt, Called, Waiter, epoch};

/// Mutual exclusion in the order of arrival. Who holds it is for others to remember.
///
/// # Examples
///
/// ```
/// use raddle_core::park::Attempt;
/// use raddle_core::sync::FairLock;
///
/// let lock = FairLock::new();
/// assert!(lock.try_acquire());
/// let Attempt::Wait(first) = lock.acquire(None) else { panic!("it is held") };
/// assert!(lock.release());
/// assert!(!lock.try_acquire(), "it is kept for the first in line");
/// assert!(first.is_called() && lock.acquire(Some(&first)).done().is_some());
/// ```
#[derive(Debug, Default)]
pub struct FairLock {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    is_held: bool,
    heir: Option<Arc<Waiter>>,
    line: VecDeque<Arc<Waiter>>,
    /// The number of forks at which somebody last joined.
    epoch: u32,
}

impl Inside {
    /// Rule 2.
    fn call(&mut self) -> Called {
        self.heir = self.line.pop_front();
        self.heir.clone().map_or_else(Called::default, |heir| Called::of([heir]))
    }

    fn forget_strangers(&mut self) {
        if self.epoch != epoch() {
            self.epoch = epoch();
            self.heir = None;
            self.line.clear();
        }
    }
}

impl FairLock {
    /// A free lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes it if it is free, and kept for nobody.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let mut inside = self.inside.lock();
        inside.forget_strangers();
        let takes = !inside.is_held && inside.heir.is_none();
        inside.is_held |= takes;
        takes
    }

    /// Takes it, or joins the line for it. `before`: the waiter of the attempt before, which was called.
    pub fn acquire(&self, before: Option<&Arc<Waiter>>) -> Attempt {
        let mut inside = self.inside.lock();
        inside.forget_strangers();
        let is_heir = match (&inside.heir, before) {
            (Some(heir), Some(before)) => Arc::ptr_eq(heir, before),
            _ => false,
        };
        if !inside.is_held && (is_heir || inside.heir.is_none()) {
            inside.is_held = true;
            inside.heir = None;
            return Attempt::Done(());
        }
        let waiter = Waiter::new();
        inside.line.push_back(waiter.clone());
        Attempt::Wait(waiter)
    }

    /// Releases it. `false`: it was not held.
    #[inline]
    #[must_use = "a release of what nobody holds is an error of the caller's"]
    pub fn release(&self) -> bool {
        let mut inside = self.inside.lock();
        inside.forget_strangers();
        if !std::mem::replace(&mut inside.is_held, false) {
            return false;
        }
        let called = inside.call();
        drop(inside);
        called.wake();
        true
    }

    /// Takes a waiter out of the line that does not want to wait any more. If it was the heir, the next one is.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        let mut inside = self.inside.lock();
        let mut called = Called::default();
        if inside.heir.as_ref().is_some_and(|heir| Arc::ptr_eq(heir, waiter)) {
            called = inside.call();
        } else {
            inside.line.retain(|other| !Arc::ptr_eq(other, waiter));
        }
        drop(inside);
        called.wake();
    }

    /// Whether somebody holds it.
    pub fn is_held(&self) -> bool {
        self.inside.lock().is_held
    }

    /// How many stand in line, the heir among them.
    pub fn waiting(&self) -> usize {
        let mut inside = self.inside.lock();
        inside.forget_strangers();
        inside.line.len() + usize::from(inside.heir.is_some())
    }

    /// Makes it free, whoever held it, and forgets who waits. For the child of a fork.
    pub fn reset(&self) {
        *self.inside.lock() = Inside { epoch: epoch(), ..Inside::default() };
    }
}
