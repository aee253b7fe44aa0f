//! `raddle.sync.RwLock`.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Enders, Waiter};
use raddle_core::sync::{Access, NotHeld, Preference, RwLock, Upgrade, Usage};

use super::{Numbers, numbers, until_called};
use crate::gate::{Timeout, Truth};
use crate::unit::{self, my_id};
use crate::wait_graph::{Held, What};

#[derive(Debug)]
struct Shared {
    lock: RwLock,
    reads: Usage,
    writes: Usage,
}

/// One wait of one thread. It takes all who are in its way.
#[derive(Debug)]
struct InTheWay {
    shared: Arc<Shared>,
    waiter: Arc<Waiter>,
    access: Access,
}

impl Held for InTheWay {
    fn enders(&self) -> Enders {
        let units = self.shared.lock.in_the_way(&self.waiter);
        // One that does not exist any more will never release it.
        if units.iter().any(|unit| unit::find(*unit).is_none()) { Enders::Only(Vec::new()) } else { Enders::All(units) }
    }

    fn kind(&self) -> &'static str {
        match self.access {
            Access::Read => "an RwLock to read",
            Access::Write => "an RwLock to write",
        }
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    fn holder(&self) -> Option<UnitId> {
        self.shared.lock.holders().first().copied()
    }
}

fn upgrade(_: Upgrade) -> PyErr {
    PyRuntimeError::new_err(
        "this thread has the RwLock for reading, and cannot begin to write: two that did so would wait for each other for ever\n  hint: leave `with rw.read()` first and look again in `with rw.write()`, or write from the beginning",
    )
}

impl Shared {
    fn usage(&self, access: Access) -> &Usage {
        match access {
            Access::Read => &self.reads,
            Access::Write => &self.writes,
        }
    }

    fn acquire(self: &Arc<Self>, py: Python<'_>, access: Access, timeout: Timeout) -> PyResult<bool> {
        let me = my_id();
        if self.lock.try_acquire(access, me).map_err(upgrade)? {
            self.usage(access).acquired();
            return Ok(true);
        }
        if timeout.is_over() {
            return Ok(false);
        }
        let usage = self.usage(access);
        let since = usage.wait_apart();
        let taken = self.wait_for_it(py, access, me, timeout, since);
        usage.waited(since, matches!(taken, Ok(true)));
        taken
    }

    fn wait_for_it(
        self: &Arc<Self>,
        py: Python<'_>,
        access: Access,
        me: UnitId,
        timeout: Timeout,
        since: u64,
    ) -> PyResult<bool> {
        let (deadline, mut before) = (timeout.deadline(), None);
        // A reader behind a writer that waits is held up by the readers, too.
        let note = |writes: bool| if writes { &self.writes } else { &self.reads }.hold_is_awaited(since);
        loop {
            let attempt = self.lock.acquire_with(access, me, before.as_ref(), note);
            let waiter = match attempt.map_err(upgrade)? {
                Attempt::Done(()) => return Ok(true),
                Attempt::Wait(waiter) => waiter,
            };
            let what = What::Held(Arc::new(InTheWay { shared: self.clone(), waiter: waiter.clone(), access }));
            match until_called(py, what, &waiter, deadline) {
                Ok(true) => before = Some(waiter),
                ended => {
                    self.lock.leave(&waiter);
                    return ended;
                }
            }
        }
    }

    fn release(&self, access: Access) -> PyResult<()> {
        let released = self.lock.release_with(access, my_id(), || self.usage(access).hold_ended());
        released.map(drop).map_err(|NotHeld| {
            let how = if access == Access::Read { "reading" } else { "writing" };
            PyRuntimeError::new_err(format!("this thread does not have the RwLock for {how}"))
        })
    }
}

/// The lock.
#[pyclass(frozen, weakref, subclass, name = "RwLockCore", module = "raddle._raddle")]
pub(crate) struct PyRwLock {
    shared: Arc<Shared>,
    /// What `read()` and `write()` without a timeout return: they have no state of their own.
    sides: [Py<PyRwSide>; 2],
}

#[pymethods]
impl PyRwLock {
    #[new]
    #[pyo3(signature = (*, prefer = "fair"))]
    fn new(py: Python<'_>, prefer: &str) -> PyResult<Self> {
        let preference = match prefer {
            "fair" => Preference::Fair,
            "readers" => Preference::Readers,
            "writers" => Preference::Writers,
            other => {
                let message = format!("prefer must be 'fair', 'readers' or 'writers', not {other:?}");
                return Err(PyValueError::new_err(message));
            }
        };
        let lock = RwLock::new(preference);
        let shared = Arc::new(Shared { lock, reads: Usage::default(), writes: Usage::default() });
        let side = |access| Py::new(py, PyRwSide { shared: shared.clone(), access, timeout: Timeout::FOREVER });
        let sides = [side(Access::Read)?, side(Access::Write)?];
        Ok(Self { shared, sides })
    }

    #[pyo3(signature = (*, timeout = Timeout::FOREVER), text_signature = "($self, *, timeout=None)")]
    fn read(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Py<PyRwSide>> {
        self.side(py, Access::Read, timeout)
    }

    #[pyo3(signature = (*, timeout = Timeout::FOREVER), text_signature = "($self, *, timeout=None)")]
    fn write(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Py<PyRwSide>> {
        self.side(py, Access::Write, timeout)
    }

    #[getter]
    fn prefer(&self) -> &'static str {
        match self.shared.lock.preference() {
            Preference::Fair => "fair",
            Preference::Readers => "readers",
            Preference::Writers => "writers",
        }
    }

    /// How many threads have it, whether one of them writes, and how many wait to read and to write.
    fn _state(&self) -> (usize, bool, usize, usize) {
        let holders = self.shared.lock.holders();
        let writes = holders.first().is_some_and(|unit| self.shared.lock.held_by(*unit).1 > 0);
        let (readers, writers) = self.shared.lock.waiting();
        (holders.len(), writes, readers, writers)
    }

    fn _usage(&self) -> (Numbers, Numbers) {
        (numbers(&self.shared.reads), numbers(&self.shared.writes))
    }

    fn _at_fork_reinit(&self) {
        self.shared.lock.reset();
    }
}

impl PyRwLock {
    fn side(&self, py: Python<'_>, access: Access, timeout: Timeout) -> PyResult<Py<PyRwSide>> {
        match timeout.duration() {
            None => Ok(self.sides[usize::from(access == Access::Write)].clone_ref(py)),
            Some(_) => Py::new(py, PyRwSide { shared: self.shared.clone(), access, timeout }),
        }
    }
}

/// The reading or the writing side of the lock.
#[pyclass(frozen, weakref, name = "RwSide", module = "raddle.sync")]
pub(crate) struct PyRwSide {
    shared: Arc<Shared>,
    access: Access,
    timeout: Timeout,
}

#[pymethods]
impl PyRwSide {
    #[pyo3(signature = (blocking = Truth(true), *, timeout = None), text_signature = "($self, blocking=True, *, timeout=None)")]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Option<Timeout>) -> PyResult<bool> {
        let timeout = if blocking.0 { timeout.unwrap_or(self.timeout) } else { Timeout::NONE };
        self.shared.acquire(py, self.access, timeout)
    }

    fn release(&self) -> PyResult<()> {
        self.shared.release(self.access)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        if self.shared.acquire(py, self.access, self.timeout)? {
            return Ok(());
        }
        let seconds = self.timeout.duration().unwrap_or_default().as_secs_f64();
        let how = if self.access == Access::Read { "reading" } else { "writing" };
        Err(PyTimeoutError::new_err(format!("the RwLock could not be had for {how} within {seconds} s")))
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Whether this thread has it.
    fn _is_owned(&self) -> bool {
        let (reads, writes) = self.shared.lock.held_by(my_id());
        (if self.access == Access::Read { reads } else { writes }) > 0
    }
}
