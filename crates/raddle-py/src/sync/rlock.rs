//! `raddle.threading.RLock`.

use std::sync::Arc;

use pyo3::exceptions::{PyDeprecationWarning, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use raddle_core::prim::atomic::{AtomicUsize, Ordering::Relaxed};

use super::holding::{BY_CALL, Holding};
use super::timeout::{Patience, patience};
use crate::gate::Truth;
use crate::lock_order;
use crate::shortcut::{self, plain_truth, shortcuts, truth};
use crate::unit::{self, my_id};

/// A lock that its owner may take again, as `threading.RLock`.
#[pyclass(frozen, weakref, subclass, name = "RLock", module = "raddle.threading")]
pub(crate) struct PyRLock {
    holding: Arc<Holding>,
    /// How often the owner has taken it. Changed by the owner.
    count: AtomicUsize,
}

fn not_owned() -> PyErr {
    PyRuntimeError::new_err("cannot release un-acquired lock")
}

impl PyRLock {
    /// A lock over this.
    pub(crate) fn of(holding: Arc<Holding>) -> Self {
        Self { holding, count: AtomicUsize::new(0) }
    }

    /// Takes it once more, if this thread owns it or nobody does.
    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        let me = my_id();
        if self.holding.is_held_by(me) {
            self.count.store(self.count.load(Relaxed) + 1, Relaxed);
            return true;
        }
        let taken = self.holding.try_acquire(me, BY_CALL);
        if taken {
            self.count.store(1, Relaxed);
        }
        taken
    }

    /// Releases it once. `false`: this thread does not own it.
    #[inline]
    pub(crate) fn release_once(&self) -> bool {
        let me = my_id();
        if !self.holding.is_held_by(me) {
            return false;
        }
        let count = self.count.load(Relaxed) - 1;
        self.count.store(count, Relaxed);
        count > 0 || self.holding.release(me)
    }

    pub(crate) fn holding(&self) -> &Holding {
        &self.holding
    }

    #[inline]
    pub(crate) fn is_mine(&self) -> bool {
        self.holding.is_held_by(my_id())
    }

    /// Releases it altogether. Returns how often it was taken.
    pub(crate) fn release_all(&self) -> PyResult<usize> {
        if !self.is_mine() {
            return Err(not_owned());
        }
        let count = self.count.swap(0, Relaxed);
        if self.holding.release(my_id()) { Ok(count) } else { Err(not_owned()) }
    }

    /// Takes it, as if `count` times.
    pub(crate) fn acquire_again(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        if !self.try_acquire() {
            self.holding.belongs_to(self).acquire_surely(py, my_id(), BY_CALL)?;
        }
        self.count.store(count, Relaxed);
        Ok(())
    }
}

#[pymethods]
impl PyRLock {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let py = args.py();
        if (!args.is_empty() || kwargs.is_some_and(|kwargs| !kwargs.is_empty())) && py.version_info() >= (3, 13) {
            let message = c"Passing arguments to RLock is deprecated and will be removed in 3.15";
            PyErr::warn(py, &py.get_type::<PyDeprecationWarning>(), message, 1)?;
        }
        Ok(Self { holding: Holding::new(true), count: AtomicUsize::new(0) })
    }

    #[pyo3(signature = (blocking = Truth(true), timeout = -1.0))]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: f64) -> PyResult<bool> {
        let patience = patience(blocking.0, timeout)?;
        if lock_order::is_on() && matches!(patience, Patience::Until(None)) && !self.is_mine() {
            self.holding.belongs_to(self).want(py)?;
        }
        if self.try_acquire() {
            return Ok(true);
        }
        let Patience::Until(deadline) = patience else { return Ok(false) };
        let taken = self.holding.belongs_to(self).acquire_slow(py, my_id(), BY_CALL, deadline)?;
        if taken {
            self.count.store(1, Relaxed);
        }
        Ok(taken)
    }

    fn release(&self) -> PyResult<()> {
        if self.release_once() { Ok(()) } else { Err(not_owned()) }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        if !lock_order::is_on() && self.try_acquire() { Ok(true) } else { self.acquire(py, Truth(true), -1.0) }
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

    fn locked(&self) -> bool {
        self.holding.is_held()
    }

    fn _is_owned(&self) -> bool {
        self.is_mine()
    }

    fn _recursion_count(&self) -> usize {
        if self.is_mine() { self.count.load(Relaxed) } else { 0 }
    }

    fn _release_save(&self) -> PyResult<(usize, u64)> {
        Ok((self.release_all()?, unit::current_ident()))
    }

    fn _acquire_restore(&self, py: Python<'_>, state: (usize, u64)) -> PyResult<()> {
        self.acquire_again(py, state.0)
    }

    fn _at_fork_reinit(&self) {
        self.count.store(0, Relaxed);
        self.holding.reset();
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let owner = this.holding.owner().and_then(unit::find).map_or(0, |unit| unit.ident);
        let state = if this.locked() { "locked" } else { "unlocked" };
        let kind = slf.get_type().fully_qualified_name()?;
        let count = this.count.load(Relaxed);
        Ok(format!("<{state} {kind} object owner={owner} count={count} at {:p}>", slf.as_ptr()))
    }
}

/// `True`, if it was free or this thread's.
#[inline]
fn take(py: Python<'_>, lock: &PyRLock) -> Option<Py<PyAny>> {
    if lock_order::is_on() {
        return None;
    }
    lock.try_acquire().then(|| truth(py, true))
}

/// `None`, if it was this thread's.
#[inline]
fn give(py: Python<'_>, lock: &PyRLock) -> Option<Py<PyAny>> {
    lock.release_once().then(|| py.None())
}

shortcuts! {
    Acquire: PyRLock, c"acquire", |py, this, arguments| match arguments {
        [] => take(py, this.get()),
        [blocking] => plain_truth(*blocking).and_then(|_| take(py, this.get())),
        _ => None,
    };
    Enter: PyRLock, c"__enter__", |py, this, _| take(py, this.get());
    Release: PyRLock, c"release", |py, this, _| give(py, this.get());
    Exit: PyRLock, c"__exit__", |py, this, arguments| if arguments.len() <= 3 { give(py, this.get()) } else { None };
}

/// Opens the shortcuts of this file.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open::<Acquire>(py)?;
    shortcut::open::<Enter>(py)?;
    shortcut::open::<Release>(py)?;
    shortcut::open::<Exit>(py)
}
