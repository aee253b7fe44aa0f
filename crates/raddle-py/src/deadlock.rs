//! A pool that waits for itself, named instead of suffered.
//!
//! A call that runs on a thread pool may wait for another call of the same pool. When every thread of the pool, and it has
//! as many as it may, waits like that and without a timeout, nobody is left who could run what they wait for. The thread
//! whose wait would complete the circle raises `DeadlockError` instead of sleeping.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;

use crate::errors;
use crate::thread_lane::Work;

thread_local! {
    /// The pool whose calls this thread runs.
    static WORKS_FOR: RefCell<Option<Arc<Work>>> = const { RefCell::new(None) };
}

/// While it lives, this thread counts as one of the pool's.
pub(crate) struct Employed(());

pub(crate) fn employ(work: &Arc<Work>) -> Employed {
    WORKS_FOR.with(|slot| *slot.borrow_mut() = Some(work.clone()));
    Employed(())
}

impl Drop for Employed {
    fn drop(&mut self) {
        WORKS_FOR.with(|slot| *slot.borrow_mut() = None);
    }
}

/// Whether this thread is one of the pool's.
pub(crate) fn is_employed_by(home: &Arc<Work>) -> bool {
    WORKS_FOR.with(|slot| slot.borrow().as_ref().is_some_and(|work| Arc::ptr_eq(work, home)))
}

/// While it lives, this thread counts as waiting for its own pool.
pub(crate) struct Blocked(Arc<Work>);

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.unblock();
    }
}

/// To be called before waiting for calls that all are the `home` pool's. Errors if the wait could never end.
pub(crate) fn enter(py: Python<'_>, home: &Arc<Work>, deadline: Option<Instant>) -> PyResult<Option<Blocked>> {
    let employer = WORKS_FOR.with(|slot| slot.borrow().clone());
    let Some(work) = employer.filter(|work| deadline.is_none() && Arc::ptr_eq(work, home)) else { return Ok(None) };
    match work.block() {
        Ok(()) => Ok(Some(Blocked(work))),
        Err(threads) => {
            let what = if threads == 1 {
                "its only thread waits".to_owned()
            } else {
                format!("all {threads} threads of the pool wait")
            };
            Err(errors::deadlock(
                py,
                format!(
                    "this wait can never end: {what} for calls of the same pool, and nobody is left to run them\n  \
                     hint: give the pool more workers, use a second pool for the inner calls, or return the inner \
                     future instead of waiting for it"
                ),
            ))
        }
    }
}
