//! The ends of a pool's threads, for who waits until all of them are over.
//!
//! A thread that ends first goes through the rest of its Python code, and only then lets go of the interpreter for good. Who waits by
//! `Thread.join` is woken in the middle of that, once for each thread, and then waits for the interpreter. Here a thread is counted by a
//! destructor of the system's, after all that: the waiter is woken once, by the last one, and finds the interpreter free.
//!
//! # Rules
//!
//! 1. A thread counts from its [`enter`](Exits::enter) to its very end, whatever ends it.
//! 2. A thread that is yet to enter is not waited for: who waits compares the number of those that are gone with those it has started.

use std::cell::Cell;
use std::sync::Arc;

use pyo3::prelude::*;
use raddle_core::park;
use raddle_core::prim::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::awaited::Departure;
use crate::future::sleep_until;
use crate::thread_lane::Work;
use crate::wait_graph;

/// What is shared between threads that end and those who wait for it.
#[derive(Default)]
pub(crate) struct Exits {
    /// Threads that have entered and are not gone.
    inside: AtomicUsize,
    gone: AtomicUsize,
    waiting: park::Crowd,
}

/// A thread on its way.
struct Inside(Arc<Exits>);

thread_local! {
    static INSIDE: Cell<Option<Inside>> = const { Cell::new(None) };
}

impl Exits {
    /// This thread counts from now on. Once in its life.
    pub(crate) fn enter(self: &Arc<Self>) {
        self.inside.fetch_add(1, SeqCst);
        INSIDE.set(Some(Inside(self.clone())));
    }

    /// Waits until every thread of a pool that has entered is gone. Returns how many that are.
    pub(crate) fn wait(py: Python<'_>, work: &Arc<Work>) -> PyResult<usize> {
        let exits = &work.exits;
        wait_graph::until_come(py, Arc::new(Departure(work.clone())), None, |until| {
            let _waiting = exits.waiting.enter(park::with_current(park::Parker::unparker));
            sleep_until(&|| exits.are_all_gone(), until)
        })?;
        Ok(exits.gone.load(SeqCst))
    }

    /// Whether nobody who has entered is still there.
    pub(crate) fn are_all_gone(&self) -> bool {
        self.inside.load(SeqCst) == 0
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let Self(exits) = self;
        exits.gone.fetch_add(1, SeqCst);
        if exits.inside.fetch_sub(1, SeqCst) == 1 {
            exits.waiting.wake();
        }
    }
}
