//! A span: a whole `map` as one record in the queue of a thread lane, and the iterator over what comes of it.
//!
//! Every item is a call of its own, as if it had been submitted: workers take them one by one, in their turn among all other calls, and
//! one that blocks holds up nobody. But it has no future, no record and no tuple of its own: a slot is all that it costs.
//!
//! # Parts
//!
//! * The *span*: what is called. It lies in the queue, with the numbers of the items that nobody has begun
//!   ([`Queue`](raddle_core::sched::Queue), spans), and in the hands of the workers that call it; when they are through, it is gone, and the
//!   function with it.
//! * The *row*: one slot for each item, in one cell, which the interpreter's lock guards; shared by the span and the iterator.
//! * The *harvest*: the iterator. It takes the slots in order, and sleeps until the one that it needs is filled.
//!
//! # States of an item
//!
//! | state | its number | its slot |
//! |---|---|---|
//! | waiting | in the queue | the arguments |
//! | running | in the hands of the worker that took it | empty |
//! | ended | nowhere | what it returned or raised, or that it was cancelled |
//! | harvested | nowhere, and less than the row's `next` | empty |
//!
//! # Rules
//!
//! 1. Whoever takes a number out of the queue, and nobody else, fills its slot, once: a worker with what came of the call, or whoever
//!    cancels with the news of that. The queue gives each number to one, so a call that is cancelled does not begin, and the other
//!    way round.
//! 2. A slot has its arguments before its number is in the queue.
//! 3. A thread that wants a slot looks at it and enters the list of those who wait in one change of the cell; whoever fills it looks
//!    at that list in the same one in which it does so. So either the thread sees the slot filled, or it is woken for it; and it is
//!    woken for no other. It sleeps detached, where it may not look at the cell: how far its item is, it is told by a *want* of its own.
//! 4. No Python code runs inside a change of a row: objects are made before, and dropped after it. The queue's lock is not taken there.
//! 5. A harvest that was begun and does not come to its end, because a call has raised, because it was closed or dropped or the
//!    time is over, cancels what waits. One that was never begun cancels nothing, as with the standard library's generator: then nobody
//!    *listens*, and what comes of a call is dropped at once.
//! 6. A worker stays with a span while its items are the next ones in the queue, and until it must let go of the interpreter.

use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Instant;

use pyo3::exceptions::PyTimeoutError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use raddle_core::park::{self, Unparker};
use raddle_core::prim::Guarding;
use raddle_core::prim::atomic::{AtomicU32, Ordering::SeqCst};
use raddle_core::sched::Position;

use crate::attached::{Attached, ByGil};
use crate::awaited::Item;
use crate::errors;
use crate::future::{Sleeper, sleep_until};
use crate::gate;
use crate::runtime;
use crate::thread_lane::Work;
use crate::wait_graph;

/// What is called for each item of a row.
pub(crate) struct Span {
    pub(crate) function: Py<PyAny>,
    /// Whether an item is the tuple of all arguments, and not the only one.
    pub(crate) starred: bool,
    pub(crate) row: Arc<Row>,
}

/// What an item is called with, or what came of it.
pub(crate) enum Slot {
    Waiting(Py<PyAny>),
    /// It runs, or was harvested.
    Empty,
    Returned(Py<PyAny>),
    Raised(Py<PyAny>),
    Cancelled,
}

impl Slot {
    fn has_ended(&self) -> bool {
        matches!(self, Self::Returned(_) | Self::Raised(_) | Self::Cancelled)
    }
}

/// How far an item has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Waits,
    Runs,
    Ended,
}

/// How far an item has come that a thread waits for, for those who are not attached.
pub(crate) struct Want {
    pub(crate) number: usize,
    step: AtomicU32,
}

impl Want {
    /// Whoever sees that it has ended finds the slot filled, once it is attached.
    pub(crate) fn step(&self) -> Step {
        match self.step.load(SeqCst) {
            step if step == Step::Waits as u32 => Step::Waits,
            step if step == Step::Runs as u32 => Step::Runs,
            _ => Step::Ended,
        }
    }

    fn becomes(&self, step: Step) {
        self.step.store(step as u32, SeqCst);
    }
}

pub(crate) struct Row {
    inner: Attached<<ByGil as Guarding>::Cell<Inner>>,
}

#[derive(Default)]
struct Inner {
    slots: Vec<Slot>,
    /// The number of the slot that is harvested next.
    next: usize,
    /// Something was asked for.
    is_begun: bool,
    /// Nothing will be asked for any more: what comes of a call is of no use (rule 5).
    is_over: bool,
    /// Threads that sleep for a slot.
    waiters: Vec<(Arc<Want>, Unparker)>,
}

impl Inner {
    /// Whether a thread need not wait for this slot.
    fn is_ready(&self, number: usize) -> bool {
        self.is_over || number < self.next || self.slots[number].has_ended()
    }

    /// Fills a slot (rule 1). Returns what must be dropped outside of the lock.
    #[inline]
    fn fill(&mut self, number: usize, with: Slot, woken: &mut Vec<Sleeper>) -> Slot {
        if self.is_over {
            return with;
        }
        if !self.waiters.is_empty() {
            woken.extend(self.waiters.extract_if(.., |(want, _)| want.number == number).map(|(want, thread)| {
                want.becomes(Step::Ended);
                Sleeper::Thread(thread)
            }));
        }
        std::mem::replace(&mut self.slots[number], with)
    }

    /// Takes the arguments of an item whose number this thread has taken.
    #[inline]
    fn begin(&mut self, number: usize) -> Option<Py<PyAny>> {
        for (want, _) in &self.waiters {
            if want.number == number {
                want.becomes(Step::Runs);
            }
        }
        match std::mem::replace(&mut self.slots[number], Slot::Empty) {
            Slot::Waiting(item) => Some(item),
            other => {
                debug_assert!(false, "rule 2: a number that was in the queue has its arguments");
                self.slots[number] = other;
                None
            }
        }
    }

    /// How far an item has come.
    fn step(&self, number: usize) -> Step {
        match &self.slots[number] {
            _ if self.is_ready(number) => Step::Ended,
            Slot::Waiting(_) => Step::Waits,
            _ => Step::Runs,
        }
    }
}

/// What an iterator finds in the slot that it wants.
enum Found {
    Value(Py<PyAny>),
    Raised(Py<PyAny>),
    Cancelled,
    /// It has not ended.
    NotYet(usize),
    /// There is no such slot.
    End,
}

impl Row {
    pub(crate) fn new() -> Self {
        Self { inner: Attached::new(ByGil::cell(Inner::default())) }
    }

    #[inline]
    fn change<R>(&self, py: Python<'_>, change: impl FnOnce(&mut Inner) -> R) -> R {
        ByGil::with(self.inner.of(py), change)
    }

    /// Appends a slot.
    pub(crate) fn push(&self, py: Python<'_>, item: Py<PyAny>) {
        self.change(py, |inner| inner.slots.push(Slot::Waiting(item)));
    }

    /// Makes these its slots.
    pub(crate) fn fill_with(&self, py: Python<'_>, slots: Vec<Slot>) {
        drop(self.change(py, |inner| std::mem::replace(&mut inner.slots, slots)));
    }

    /// Where it lies, by which it is known.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Takes the arguments of an item whose number this thread has taken.
    pub(crate) fn begin(&self, py: Python<'_>, number: usize) -> Option<Py<PyAny>> {
        self.change(py, |inner| inner.begin(number))
    }

    /// Fills the slot of a call that has ended, and takes the arguments of the next one. Returns them, and whom to wake.
    #[inline]
    pub(crate) fn exchange(
        &self,
        py: Python<'_>,
        number: usize,
        with: Slot,
        next: Option<usize>,
    ) -> (Option<Py<PyAny>>, Vec<Sleeper>) {
        let mut woken = Vec::new();
        let (spent, item) =
            self.change(py, |inner| (inner.fill(number, with, &mut woken), next.and_then(|next| inner.begin(next))));
        drop(spent);
        (item, woken)
    }

    /// Fills the slots of items that will not run: the first one with an exception, if there is one, and the others with the news that
    /// they are cancelled. Returns whom to wake.
    pub(crate) fn give_up(&self, py: Python<'_>, parts: Range<usize>, error: Option<Py<PyAny>>) -> Vec<Sleeper> {
        let (mut woken, mut spent) = (Vec::new(), Vec::with_capacity(parts.len() + 1));
        let mut first = error.map_or(Slot::Cancelled, Slot::Raised);
        self.change(py, |inner| {
            for number in parts {
                let with = std::mem::replace(&mut first, Slot::Cancelled);
                spent.extend(inner.begin(number).map(Slot::Waiting));
                match inner.fill(number, with, &mut woken) {
                    Slot::Empty | Slot::Cancelled => {}
                    old => spent.push(old),
                }
            }
        });
        drop((spent, first));
        woken
    }

    /// Nothing will be asked for any more. Returns whether something was, and this is the first time.
    pub(crate) fn end(&self, py: Python<'_>) -> bool {
        let (was_open, spent, waiters) = self.change(py, |inner| {
            let was_open = inner.is_begun && !inner.is_over;
            inner.is_over = true;
            let next = inner.next;
            let ended = inner.slots.iter_mut().skip(next).filter(|slot| slot.has_ended());
            let spent: Vec<Slot> = ended.map(|slot| std::mem::replace(slot, Slot::Empty)).collect();
            let waiters = std::mem::take(&mut inner.waiters);
            waiters.iter().for_each(|(want, _)| want.becomes(Step::Ended));
            (was_open, spent, waiters)
        });
        // They first: what is dropped may run code that takes its time, or waits for one of them.
        waiters.iter().for_each(|(_, thread)| thread.unpark());
        drop(spent);
        was_open
    }

    /// Has this thread woken when the slot is filled. `None` if there is nothing to wait for.
    fn enter(&self, py: Python<'_>, number: usize, me: &Unparker) -> Option<Arc<Want>> {
        self.change(py, |inner| {
            let step = inner.step(number);
            if step == Step::Ended {
                return None;
            }
            let want = Arc::new(Want { number, step: AtomicU32::new(step as u32) });
            inner.waiters.push((want.clone(), me.clone()));
            Some(want)
        })
    }

    fn leave(&self, py: Python<'_>, want: &Arc<Want>) {
        self.change(py, |inner| inner.waiters.retain(|(other, _)| !Arc::ptr_eq(other, want)));
    }
}

impl Inner {
    /// What is in the slot that is next. A value or an exception is taken out of it.
    #[inline]
    fn harvest(&mut self) -> Found {
        if self.is_over {
            return Found::End;
        }
        self.is_begun = true;
        let number = self.next;
        let Some(slot) = self.slots.get_mut(number) else { return Found::End };
        if !slot.has_ended() {
            return Found::NotYet(number);
        }
        let found = std::mem::replace(slot, Slot::Empty);
        self.next += 1;
        match found {
            Slot::Returned(value) => Found::Value(value),
            Slot::Raised(error) => Found::Raised(error),
            _ => Found::Cancelled,
        }
    }
}

/// The iterator over what comes of the items of a row, in order.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Harvest {
    work: Arc<Work>,
    row: Arc<Row>,
    /// Gone when nothing of it lies in the queue any more, and no worker calls it.
    span: Weak<Span>,
    /// Where it was put into the queue.
    places: Vec<Position>,
    deadline: Option<Instant>,
}

impl Harvest {
    pub(crate) fn new(work: Arc<Work>, span: &Arc<Span>, places: Vec<Position>, deadline: Option<Instant>) -> Self {
        Self { work, row: span.row.clone(), span: Arc::downgrade(span), places, deadline }
    }

    /// Ends the iteration; cancels what waits, if it was begun (rule 5).
    fn end(&self, py: Python<'_>) {
        if self.work.is_foreign() {
            return; // the parent's locks may be held by threads that are not here
        }
        if self.row.end(py)
            && let Some(span) = self.span.upgrade()
        {
            self.places.iter().for_each(|place| self.work.cancel_parts(py, *place, &span));
        }
    }

    /// Waits until the slot is filled. False if the deadline came first.
    #[cold]
    fn wait(&self, py: Python<'_>, number: usize) -> PyResult<bool> {
        if self.work.is_foreign() {
            return Err(runtime::foreign());
        }
        let me = park::with_current(park::Parker::unparker);
        let Some(want) = self.row.enter(py, number, &me) else { return Ok(true) };
        let item = Arc::new(Item { work: self.work.clone(), row: self.row.address(), want: want.clone() });
        let is_ready = || want.step() == Step::Ended;
        let waited = wait_graph::until_come(py, item, self.deadline, |until| sleep_until(&is_ready, until));
        self.row.leave(py, &want);
        waited
    }

    /// What comes next. A fork may have found the row in the hands of a thread that is not here.
    #[inline]
    fn next(&self, py: Python<'_>) -> PyResult<Found> {
        if self.work.is_foreign() {
            return ByGil::try_with(self.row.inner.of(py), Inner::harvest).ok_or_else(runtime::foreign);
        }
        Ok(self.row.change(py, Inner::harvest))
    }
}

#[pymethods]
impl Harvest {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let error = match self.next(py)? {
                Found::Value(value) => return Ok(Some(value)),
                Found::End => {
                    self.end(py);
                    return Ok(None);
                }
                Found::NotYet(number) => match self.wait(py, number) {
                    Ok(true) => continue,
                    Ok(false) => PyTimeoutError::new_err(()),
                    Err(error) => error,
                },
                Found::Raised(error) => PyErr::from_value(error.into_bound(py)),
                Found::Cancelled => errors::cancelled(py),
            };
            self.end(py);
            return Err(error);
        }
    }

    /// Ends the iteration: what has not started is cancelled, if a result was asked for.
    fn close(&self, py: Python<'_>) {
        self.end(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What a worker or the queue has a share in is held by them, too.
        if Arc::strong_count(&self.row) > 1 {
            return Ok(());
        }
        ByGil::with(self.row.inner.visited(&visit), |inner| {
            inner.slots.iter().try_for_each(|slot| match slot {
                Slot::Waiting(object) | Slot::Returned(object) | Slot::Raised(object) => visit.call(object),
                Slot::Empty | Slot::Cancelled => Ok(()),
            })
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        self.end(py);
    }
}

impl Drop for Harvest {
    fn drop(&mut self) {
        gate::attached(|py| {
            self.end(py);
            Ok(())
        });
    }
}
