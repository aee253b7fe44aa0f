//! `raddle.threading.Barrier`.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use raddle_core::sync::{Arrival, Barrier, Broken};
use std::sync::OnceLock;

use super::until_called;
use crate::errors;
use crate::gate::Timeout;
use crate::wait_graph::What;

/// A barrier with its action.
#[pyclass(frozen, weakref, subclass, name = "BarrierCore", module = "raddle._raddle")]
pub(crate) struct PyBarrier {
    /// Boxed, so that memory of zeros is an empty one: CPython 3.11 shows the object to the collector before it is made.
    inside: OnceLock<Option<Box<Inside>>>,
}

struct Inside {
    barrier: Barrier,
    action: Option<Py<PyAny>>,
    timeout: Option<Py<PyAny>>,
}

#[pymethods]
impl PyBarrier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { inside: OnceLock::new() }
    }

    /// What `__init__` says. The first one counts.
    fn _start(&self, parties: isize, action: Option<Py<PyAny>>, timeout: Option<Py<PyAny>>) -> PyResult<()> {
        let parties = usize::try_from(parties).ok().filter(|parties| *parties > 0);
        let parties = parties.ok_or_else(|| PyValueError::new_err("parties must be > 0"))?;
        _ = self.inside.set(Some(Box::new(Inside { barrier: Barrier::new(parties), action, timeout })));
        Ok(())
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let py = slf.py();
        let this = slf.get().inside(py)?;
        let broken = |_: Broken| errors::broken_barrier(py);
        let timeout = match timeout.or(this.timeout.as_ref().map(|timeout| timeout.bind(py))) {
            None => Timeout::FOREVER,
            Some(timeout) => timeout.extract()?,
        };
        let (waiter, crossing) = match this.barrier.arrive().map_err(broken)? {
            Arrival::Wait(waiter, crossing) => (waiter, crossing),
            Arrival::Last(crossing) => {
                if let Some(action) = &this.action
                    && let Err(error) = action.call0(py)
                {
                    this.barrier.abort_round(&crossing);
                    return Err(error);
                }
                return crossing.open().map(|()| crossing.index).map_err(broken);
            }
        };
        let deadline = timeout.deadline();
        let ended = until_called(py, What::Any("a Barrier", slf.as_ptr().addr()), &waiter, deadline);
        match crossing.fate() {
            Some(Ok(())) if ended.is_ok() => Ok(crossing.index),
            Some(Err(broken_round)) if ended.is_ok() => Err(broken(broken_round)),
            _ => {
                // Whoever does not cross breaks the round for the others, unless it is open by now.
                let is_broken = this.barrier.abort_round(&crossing);
                ended.and_then(|_| if is_broken { Err(errors::broken_barrier(py)) } else { Ok(crossing.index) })
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(Some(inside)) = self.inside.get() else { return Ok(()) };
        visit.call(&inside.action)?;
        visit.call(&inside.timeout)
    }

    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.inside(py)?.barrier.reset();
        Ok(())
    }

    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.inside(py)?.barrier.abort();
        Ok(())
    }

    #[getter]
    fn parties(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.inside(py)?.barrier.parties())
    }

    #[getter]
    fn n_waiting(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.inside(py)?.barrier.arrived())
    }

    #[getter]
    fn broken(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inside(py)?.barrier.is_broken())
    }
}

impl PyBarrier {
    fn inside(&self, _py: Python<'_>) -> PyResult<&Inside> {
        self.inside
            .get()
            .and_then(Option::as_deref)
            .ok_or_else(|| PyRuntimeError::new_err("Barrier.__init__() was not called"))
    }
}
