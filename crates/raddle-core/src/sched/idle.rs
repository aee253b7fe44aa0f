//! Who sleeps, and who has been called: the half of the queue that knows nothing of items.
//!
//! A pure structure under the queue's lock. `sleep.md` has the vocabulary and the protocol.
//!
//! # Rules
//!
//! 1. A worker is in the stack once or not at all, and only between its [`enter`](Idle::enter) and its
//!    [`leave`](Idle::leave), or until it is called.
//! 2. `searching` counts the workers that have been called and have not left yet.
//! 3. Whoever is given an [`Unparker`] by [`call_one`](Idle::call_one) or [`call_all`](Idle::call_all)
//!    unparks it after it has let go of the lock: forgetting it loses a wake-up.

use crate::park::Unparker;

#[derive(Debug, Default)]
pub(super) struct Idle {
    /// The sleepers that nobody has called. The last one in is the first to be called: its memory is warm.
    stack: Vec<Unparker>,
    searching: usize,
}

/// Whether a worker that leaves had been called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It had been called: it carries a wake-up.
    Called,
    /// It had not: it leaves on its own.
    Unasked,
}

impl Idle {
    pub(super) fn enter(&mut self, worker: Unparker) {
        debug_assert!(!self.holds(&worker), "rule 1");
        self.stack.push(worker);
    }

    /// Whether `worker` sleeps and has not been called.
    pub(super) fn holds(&self, worker: &Unparker) -> bool {
        self.position(worker).is_some()
    }

    pub(super) fn leave(&mut self, worker: &Unparker) -> Left {
        if let Some(at) = self.position(worker) {
            self.stack.remove(at);
            Left::Unasked
        } else {
            self.searching -= 1;
            Left::Called
        }
    }

    /// One sleeper to be unparked, unless a called one is on its way already or nobody sleeps.
    #[inline]
    pub(super) fn call_one(&mut self) -> Option<Unparker> {
        if self.searching > 0 {
            return None;
        }
        let called = self.stack.pop()?;
        self.searching = 1;
        Some(called)
    }

    /// Every sleeper.
    #[must_use = "rule 3"]
    pub(super) fn call_all(&mut self) -> Vec<Unparker> {
        let called = std::mem::take(&mut self.stack);
        self.searching += called.len();
        called
    }

    pub(super) fn sleeping(&self) -> usize {
        self.stack.len()
    }

    fn position(&self, worker: &Unparker) -> Option<usize> {
        self.stack.iter().rposition(|sleeper| sleeper.same_as(worker))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::park::Parker;

    fn workers() -> [Unparker; 3] {
        std::array::from_fn(|_| Parker::new().unparker())
    }

    fn idle_with(workers: &[Unparker]) -> Idle {
        let mut idle = Idle::default();
        workers.iter().for_each(|worker| idle.enter(worker.clone()));
        idle
    }

    #[test]
    fn the_last_one_in_is_called_first() {
        let workers = workers();
        let mut idle = idle_with(&workers);
        assert!(idle.call_one().is_some_and(|called| called.same_as(&workers[2])));
        assert_eq!(idle.sleeping(), 2);
    }

    #[test]
    fn nobody_is_called_while_one_searches() {
        let workers = workers();
        let mut idle = idle_with(&workers);
        assert!(idle.call_one().is_some());
        assert!(idle.call_one().is_none());
        assert_eq!(idle.leave(&workers[2]), Left::Called);
        assert!(idle.call_one().is_some_and(|called| called.same_as(&workers[1])));
    }

    #[test]
    fn who_leaves_unasked_is_not_called_any_more() {
        let workers = workers();
        let mut idle = idle_with(&workers);
        assert_eq!(idle.leave(&workers[1]), Left::Unasked);
        let called = idle.call_all();
        assert_eq!(called.len(), 2);
        assert!(!called.iter().any(|unparker| unparker.same_as(&workers[1])));
    }

    #[test]
    fn all_who_are_called_search_until_they_have_left() {
        let workers = workers();
        let mut idle = idle_with(&workers);
        assert_eq!(idle.call_all().len(), 3);
        for worker in &workers {
            assert_eq!(idle.leave(worker), Left::Called);
        }
        assert_eq!((idle.searching, idle.sleeping()), (0, 0));
    }
}
