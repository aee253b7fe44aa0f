//! `raddle.threading.Lock`.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::holding::{BY_CALL, BY_WITH, Holding};
use super::timeout::{Patience, patience};
use crate::gate::Truth;
use crate::lock_order;
use crate::shortcut::{self, plain_truth, shortcuts, truth};
use crate::unit::my_id;

/// A lock that any thread may release, as `threading.Lock`; it knows who holds it.
#[pyclass(frozen, weakref, name = "Lock", module = "raddle.threading")]
pub(crate) struct PyLock {
    holding: Arc<Holding>,
}

fn not_held() -> PyErr {
    PyRuntimeError::new_err("release unlocked lock")
}

impl PyLock {
    /// A lock over this.
    pub(crate) fn of(holding: Arc<Holding>) -> Self {
        Self { holding }
    }
}

#[pymethods]
impl PyLock {
    #[new]
    fn new() -> Self {
        Self { holding: Holding::new(false) }
    }

    #[pyo3(signature = (blocking = Truth(true), timeout = -1.0))]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: f64) -> PyResult<bool> {
        let me = my_id();
        let patience = patience(blocking.0, timeout)?;
        if lock_order::is_on() && matches!(patience, Patience::Until(None)) {
            self.holding.belongs_to(self).want(py)?;
        }
        if self.holding.try_acquire(me, BY_CALL) {
            return Ok(true);
        }
        match patience {
            Patience::None => Ok(false),
            Patience::Until(deadline) => self.holding.belongs_to(self).acquire_slow(py, me, BY_CALL, deadline),
        }
    }

    fn release(&self) -> PyResult<()> {
        if self.holding.release(my_id()) { Ok(()) } else { Err(not_held()) }
    }

    fn locked(&self) -> bool {
        self.holding.is_held()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        let me = my_id();
        if lock_order::is_on() {
            self.holding.belongs_to(self).want(py)?;
        }
        if self.holding.try_acquire(me, BY_WITH) {
            Ok(true)
        } else {
            self.holding.belongs_to(self).acquire_slow(py, me, BY_WITH, None)
        }
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

    #[pyo3(signature = (blocking = Truth(true), timeout = -1.0))]
    fn acquire_lock(&self, py: Python<'_>, blocking: Truth, timeout: f64) -> PyResult<bool> {
        self.acquire(py, blocking, timeout)
    }

    fn release_lock(&self) -> PyResult<()> {
        self.release()
    }

    fn locked_lock(&self) -> bool {
        self.locked()
    }

    fn _at_fork_reinit(&self) {
        self.holding.reset();
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let state = if slf.get().locked() { "locked" } else { "unlocked" };
        format!("<{state} raddle.threading.Lock object at {:p}>", slf.as_ptr())
    }
}

impl PyLock {
    pub(crate) fn holding(&self) -> &Arc<Holding> {
        &self.holding
    }
}

/// `True`, if it was free.
#[inline]
fn take(py: Python<'_>, lock: &PyLock, manner: u32) -> Option<Py<PyAny>> {
    if lock_order::is_on() {
        return None;
    }
    lock.holding.try_acquire(my_id(), manner).then(|| truth(py, true))
}

/// `None`, if it was held.
#[inline]
fn give(py: Python<'_>, lock: &PyLock) -> Option<Py<PyAny>> {
    lock.holding.release(my_id()).then(|| py.None())
}

shortcuts! {
    Acquire: PyLock, c"acquire", |py, this, arguments| match arguments {
        [] => take(py, this.get(), BY_CALL),
        [blocking] => plain_truth(*blocking).and_then(|_| take(py, this.get(), BY_CALL)),
        _ => None,
    };
    Enter: PyLock, c"__enter__", |py, this, _| take(py, this.get(), BY_WITH);
    Release: PyLock, c"release", |py, this, _| give(py, this.get());
    Exit: PyLock, c"__exit__", |py, this, arguments| if arguments.len() <= 3 { give(py, this.get()) } else { None };
}

/// Opens the shortcuts of this file.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open::<Acquire>(py)?;
    shortcut::open::<Enter>(py)?;
    shortcut::open::<Release>(py)?;
    shortcut::open::<Exit>(py)
}
