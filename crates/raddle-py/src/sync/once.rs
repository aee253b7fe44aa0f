//! `raddle.sync.Once`.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Enders, Waiter};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};
use raddle_core::sync::{Once, Turn, Usage};

use super::{Numbers, numbers, until_done};
use crate::gate::Timeout;
use crate::unit::{self, my_id};
use crate::wait_graph::{Held, What};

#[derive(Debug)]
struct Shared {
    once: Once,
    usage: Usage,
    runs: AtomicU64,
    failures: AtomicU64,
}

impl Held for Shared {
    fn enders(&self) -> Enders {
        match self.once.runner() {
            Some(runner) if unit::find(runner).is_none() => Enders::Only(Vec::new()),
            Some(runner) => Enders::Holder(runner),
            // It has just ended, and somebody is called.
            None => Enders::Anyone,
        }
    }

    fn kind(&self) -> &'static str {
        "a Once"
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn holder(&self) -> Option<UnitId> {
        self.once.runner()
    }
}

/// Ends a turn, whatever comes.
struct Running<'a> {
    shared: &'a Shared,
    is_done: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.failures.fetch_add(1, Relaxed);
        }
        self.shared.once.end(self.is_done);
    }
}

/// What is done once.
#[pyclass(frozen, weakref, subclass, name = "OnceCore", module = "raddle._raddle")]
pub(crate) struct PyOnce {
    shared: Arc<Shared>,
    /// What the one successful call has returned. Memory of zeros is an empty one: the collector may see it before it is made.
    value: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl PyOnce {
    #[new]
    fn new() -> Self {
        let (once, usage) = (Once::new(), Usage::default());
        let shared = Shared { once, usage, runs: AtomicU64::new(0), failures: AtomicU64::new(0) };
        Self { shared: Arc::new(shared), value: Mutex::new(None) }
    }

    #[pyo3(signature = (function, *, timeout = Timeout::FOREVER), text_signature = "($self, function, *, timeout=None)")]
    fn call(&self, py: Python<'_>, function: &Bound<'_, PyAny>, timeout: Timeout) -> PyResult<Py<PyAny>> {
        let shared = &self.shared;
        if !shared.once.is_done() && self.turn(py, timeout)? == Turn::Mine {
            let mut running = Running { shared, is_done: false };
            shared.runs.fetch_add(1, Relaxed);
            let value = function.call0()?.unbind();
            *self.value.lock() = Some(value);
            running.is_done = true;
        }
        Ok(self.value.lock().as_ref().map_or_else(|| py.None(), |value| value.clone_ref(py)))
    }

    #[getter]
    fn done(&self) -> bool {
        self.shared.once.is_done()
    }

    /// Runs, failures, and the numbers of the waits.
    fn _usage(&self) -> (u64, u64, Numbers) {
        (self.shared.runs.load(Relaxed), self.shared.failures.load(Relaxed), numbers(&self.shared.usage))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.value.try_lock().map_or(Ok(()), |value| visit.call(&*value))
    }

    fn __clear__(&self) {
        let value = self.value.lock().take();
        drop(value);
    }
}

impl PyOnce {
    fn turn(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Turn> {
        let (shared, me) = (&self.shared, my_id());
        let mut since = None;
        let attempt = |before: Option<&Arc<Waiter>>| match shared.once.begin(me, before) {
            Ok(Attempt::Done(turn)) => Attempt::Done(Ok(turn)),
            Ok(Attempt::Wait(waiter)) => {
                since.get_or_insert_with(|| shared.usage.wait());
                Attempt::Wait(waiter)
            }
            Err(_) => Attempt::Done(Err(PyRuntimeError::new_err(
                "what this Once calls has called it again, and would wait for itself",
            ))),
        };
        let what = What::Held(shared.clone());
        let turn = until_done(py, what, timeout.deadline(), attempt, |waiter| shared.once.leave(waiter));
        if let Some(since) = since {
            shared.usage.waited(since, matches!(turn, Ok(Some(Ok(_)))));
        }
        turn?.unwrap_or_else(|| {
            let seconds = timeout.duration().unwrap_or_default().as_secs_f64();
            Err(PyTimeoutError::new_err(format!("another thread's call of the Once did not end within {seconds} s")))
        })
    }
}
