//! `raddle.threading.Semaphore` and `BoundedSemaphore`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use raddle_core::sync::Semaphore;

use super::until_done;
use crate::gate::{Timeout, Truth};
use crate::shortcut::{self, shortcuts, truth};
use crate::wait_graph::What;

/// The permits of a semaphore.
#[pyclass(frozen, weakref, subclass, name = "SemaphoreCore", module = "raddle._raddle")]
pub(crate) struct PySemaphore {
    permits: Semaphore,
}

#[pymethods]
impl PySemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { permits: Semaphore::new(1, None) }
    }

    /// What `__init__` says.
    fn _start(&self, value: &Bound<'_, PyAny>, bounded: bool) -> PyResult<()> {
        if value.lt(0)? {
            return Err(PyValueError::new_err("semaphore initial value must be >= 0"));
        }
        let value = value.extract()?;
        self.permits.restart(value, bounded.then_some(value));
        Ok(())
    }

    #[pyo3(signature = (blocking = Truth(true), timeout = None))]
    fn acquire(slf: &Bound<'_, Self>, blocking: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if !blocking.0 && timeout.is_some() {
            return Err(PyValueError::new_err("can't specify timeout for non-blocking acquire"));
        }
        if slf.get().permits.try_acquire() {
            return Ok(true);
        }
        if !blocking.0 {
            return Ok(false);
        }
        let timeout = timeout.map_or(Ok(Timeout::FOREVER), |timeout| timeout.extract())?;
        Self::wait(slf, timeout)
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().permits.try_acquire() { Ok(true) } else { Self::wait(slf, Timeout::FOREVER) }
    }

    #[pyo3(signature = (n = 1))]
    fn release(&self, n: isize) -> PyResult<()> {
        let count = usize::try_from(n).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| PyValueError::new_err("n must be one or more"))?;
        self.permits.release(count).map_err(|_| PyValueError::new_err("Semaphore released too many times"))
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release(1)
    }

    #[getter]
    fn _value(&self) -> usize {
        self.permits.permits()
    }

    #[getter]
    fn _initial_value(&self) -> Option<usize> {
        self.permits.bound()
    }
}

impl PySemaphore {
    #[cold]
    fn wait(slf: &Bound<'_, Self>, timeout: Timeout) -> PyResult<bool> {
        let (py, permits) = (slf.py(), &slf.get().permits);
        if timeout.is_over() {
            return Ok(false);
        }
        let deadline = timeout.deadline();
        let what = What::Any("a Semaphore", slf.as_ptr().addr());
        Ok(until_done(py, what, deadline, |before| permits.acquire(before), |waiter| permits.leave(waiter))?.is_some())
    }
}

shortcuts! {
    Acquire: PySemaphore, c"acquire", |py, this, arguments| match arguments {
        [] => this.get().permits.try_acquire().then(|| truth(py, true)),
        _ => None,
    };
    Enter: PySemaphore, c"__enter__", |py, this, _| this.get().permits.try_acquire().then(|| truth(py, true));
    Release: PySemaphore, c"release", |py, this, arguments| match arguments {
        [] => this.get().permits.release(1).is_ok().then(|| py.None()),
        _ => None,
    };
    Exit: PySemaphore, c"__exit__", |py, this, arguments| match arguments {
        [] | [_, _, _] => this.get().permits.release(1).is_ok().then(|| py.None()),
        _ => None,
    };
}

/// Opens the shortcuts of this file.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open::<Acquire>(py)?;
    shortcut::open::<Enter>(py)?;
    shortcut::open::<Release>(py)?;
    shortcut::open::<Exit>(py)
}
