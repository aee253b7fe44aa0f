//! `raddle.sync.Latch`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use raddle_core::park::Attempt;
use raddle_core::sync::{Latch, Usage};

use super::{Numbers, numbers, until_done};
use crate::gate::Timeout;
use crate::wait_graph::What;

/// A count that falls to zero once.
#[pyclass(frozen, weakref, subclass, name = "LatchCore", module = "raddle._raddle")]
pub(crate) struct PyLatch {
    latch: Latch,
    usage: Usage,
}

#[pymethods]
impl PyLatch {
    #[new]
    fn new(count: isize) -> PyResult<Self> {
        let refused = |_| PyValueError::new_err(format!("a Latch counts down from 0 or more, not from {count}"));
        Ok(Self { latch: Latch::new(usize::try_from(count).map_err(refused)?), usage: Usage::default() })
    }

    #[pyo3(signature = (n = 1))]
    fn count_down(&self, n: isize) -> PyResult<usize> {
        let refused = |_| PyValueError::new_err(format!("a Latch is counted down by 0 or more, not by {n}"));
        let by = usize::try_from(n).map_err(refused)?;
        self.latch.count_down(by).map_err(|too_many| {
            PyValueError::new_err(format!("the Latch has {} left, and cannot be counted down by {n}", too_many.left))
        })
    }

    #[pyo3(signature = (*, timeout = Timeout::FOREVER), text_signature = "($self, *, timeout=None)")]
    fn wait(slf: &Bound<'_, Self>, timeout: Timeout) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if this.latch.count() == 0 {
            return Ok(true);
        }
        if timeout.is_over() {
            return Ok(false);
        }
        let since = this.usage.wait();
        let what = What::Any("a Latch", slf.as_ptr().addr());
        let attempt = |_: Option<&_>| -> Attempt { this.latch.wait() };
        let opened = until_done(py, what, timeout.deadline(), attempt, |waiter| this.latch.leave(waiter));
        this.usage.waited(since, matches!(opened, Ok(Some(()))));
        Ok(opened?.is_some())
    }

    #[getter]
    fn count(&self) -> usize {
        self.latch.count()
    }

    fn _usage(&self) -> Numbers {
        numbers(&self.usage)
    }
}
