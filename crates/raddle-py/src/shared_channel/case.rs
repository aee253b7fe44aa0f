//! An end of a shared channel as one of several things that may happen.
//!
//! # Rules
//!
//! 1. To try is to do it, if it can be done: a value that was taken out is what has happened, and nothing else has.
//! 2. Who stands in the line of an ear, and was called, owes an answer (`raddle_shm::Ear`) from when it leaves until it has tried again, or will
//!    not: [`settle`](SharedCase::settle) pays it.
//! 3. A value that is to be sent is encoded once, before anything is tried.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use raddle_core::channel::{Place, Tried as Came};
use raddle_core::park::Waiter;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_shm::channel::{Draft, Side};

use super::joined::{Joined, Wanted};
use super::message::Outgoing;
use super::{PySharedEnd, Tried, attempt, deserted, receive};
use crate::errors;
use crate::gate;

/// To receive from an end, or to send a value through it.
pub(crate) struct SharedCase {
    end: Py<PySharedEnd>,
    /// What is to be sent, and where it lies already.
    message: Option<Mutex<(Outgoing, Option<Draft>)>>,
    standing: Mutex<Option<Standing>>,
}

/// A place in the line of an ear.
struct Standing {
    joined: Arc<Joined>,
    wanted: Wanted,
    waiter: Arc<Waiter>,
    /// Whether it was left, and an answer is due.
    is_due: bool,
}

impl SharedCase {
    pub(crate) fn recv(end: Py<PySharedEnd>) -> Self {
        Self { end, message: None, standing: Mutex::default() }
    }

    pub(crate) fn send(end: Py<PySharedEnd>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let message = Mutex::new((Outgoing::new(value, Vec::new())?, None));
        Ok(Self { end, message: Some(message), standing: Mutex::default() })
    }

    /// Who waits through it.
    pub(crate) fn users(&self) -> &AtomicUsize {
        &self.end.get().end.users
    }

    pub(crate) fn attempt(&self, source: &Bound<'_, PyAny>, place: Option<Place<'_>>) -> PyResult<Came<Py<PyAny>>> {
        let end = &self.end.get().end;
        let came = end.with(source, |joined| match (self.try_once(source, joined)?, place) {
            (Tried::Done(value), _) => Ok(Came::Happened(value)),
            (Tried::Wanting(wanted), Some(place)) => self.join(source, joined, wanted, place),
            (Tried::Wanting(wanted), None) if joined.member.is_deserted(wanted.side().other()) => {
                self.last_try(source, joined, wanted.side())
            }
            (Tried::Wanting(_), None) => Ok(Came::NotYet),
        });
        self.settle();
        came
    }

    fn try_once(&self, source: &Bound<'_, PyAny>, joined: &Arc<Joined>) -> PyResult<Tried<Py<PyAny>>> {
        let py = source.py();
        let Some(message) = &self.message else { return receive(py, joined) };
        let mut message = message.lock();
        let (outgoing, draft) = &mut *message;
        Ok(match attempt(source, joined, outgoing, draft)? {
            Tried::Done(()) => Tried::Done(py.None()),
            Tried::Wanting(wanted) => Tried::Wanting(wanted),
        })
    }

    /// When the other side is gone: what was sent before is there now.
    fn last_try(&self, source: &Bound<'_, PyAny>, joined: &Arc<Joined>, side: Side) -> PyResult<Came<Py<PyAny>>> {
        match self.try_once(source, joined)? {
            Tried::Done(value) => Ok(Came::Happened(value)),
            Tried::Wanting(_) => Err(deserted(source, side)),
        }
    }

    /// Joins the line, and tries again.
    fn join(
        &self,
        source: &Bound<'_, PyAny>,
        joined: &Arc<Joined>,
        mut wanted: Wanted,
        place: Place<'_>,
    ) -> PyResult<Came<Py<PyAny>>> {
        let waiter = place.waiter();
        loop {
            joined.watch().map_err(errors::of_system)?;
            joined.join(wanted, waiter, place.is_first());
            let came = if joined.member.is_deserted(wanted.side().other()) {
                self.last_try(source, joined, wanted.side())
            } else {
                match self.try_once(source, joined) {
                    Ok(Tried::Done(value)) => Ok(Came::Happened(value)),
                    Ok(Tried::Wanting(other)) if other == wanted => {
                        joined.hear(wanted).map(|()| Came::NotYet).map_err(errors::of_system)
                    }
                    Ok(Tried::Wanting(other)) => {
                        leave(joined, wanted, waiter);
                        wanted = other;
                        continue;
                    }
                    Err(error) => Err(error),
                }
            };
            if matches!(came, Ok(Came::NotYet)) {
                let (joined, waiter) = (joined.clone(), waiter.clone());
                *self.standing.lock() = Some(Standing { joined, wanted, waiter, is_due: false });
            } else {
                leave(joined, wanted, waiter);
            }
            return came;
        }
    }

    /// Whether it had better be tried. A hint.
    fn is_ready(&self) -> bool {
        let end = &self.end.get().end;
        end.first.member.is_ready(end.side)
    }

    /// Looks for a moment whether one of several had better be tried. To fall asleep and to be woken by who listens takes longer.
    pub(crate) fn look(py: Python<'_>, cases: &[&Self]) -> PyResult<bool> {
        let Some(first) = cases.first() else { return Ok(false) };
        let end = &first.end.get().end;
        gate::detached(py, || end.first.look_until(end.side, || cases.iter().any(|case| case.is_ready())))
    }

    pub(crate) fn leave(&self, waiter: &Arc<Waiter>) {
        let mut standing = self.standing.lock();
        let Some(mine) = standing.as_mut().filter(|standing| Arc::ptr_eq(&standing.waiter, waiter)) else { return };
        mine.is_due = mine.joined.leave(mine.wanted, waiter);
        // What is dropped may run anything: not under the mutex.
        let gone = standing.take_if(|standing| !standing.is_due);
        drop(standing);
        drop(gone);
    }

    /// Rule 2: it has tried, or will not try again.
    pub(crate) fn settle(&self) {
        let due = self.standing.lock().take_if(|standing| standing.is_due);
        if let Some(Standing { joined, wanted, waiter, .. }) = due {
            joined.answer(wanted, &waiter);
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.end)
    }
}

fn leave(joined: &Joined, wanted: Wanted, waiter: &Arc<Waiter>) {
    if joined.leave(wanted, waiter) {
        joined.answer(wanted, waiter);
    }
}
