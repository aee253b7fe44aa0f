//! The iterator that `map` returns.
//!
//! A generator finds out which results come next and yields them as lists, one for each batch; this hands out their items. A
//! result then costs one call of a slot, where it would cost the resumption of a generator.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use raddle_core::prim::Mutex;

/// Iterates over the items of the lists that a generator yields.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Results {
    runs: Py<PyIterator>,
    /// What was taken from the generator and not handed out, last first.
    taken: Mutex<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Results {
    #[new]
    fn new(runs: Py<PyIterator>) -> Self {
        Self { runs, taken: Mutex::default() }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            if let Some(item) = self.taken.lock().pop() {
                return Ok(Some(item));
            }
            let Some(list) = self.runs.bind(py).clone().next() else { return Ok(None) };
            let list = list?.cast_into::<PyList>()?;
            let mut items: Vec<Py<PyAny>> = list.iter().rev().map(Bound::unbind).collect();
            list.del_slice(0, list.len())?; // whoever takes an item decides how long it lives
            let mut taken = self.taken.lock();
            // More than nothing only if several threads iterate at once; what comes later lies below.
            items.append(&mut taken);
            *taken = items;
        }
    }

    /// Ends the iteration: what has not started is cancelled.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let dropped = std::mem::take(&mut *self.taken.lock());
        drop(dropped);
        self.runs.bind(py).call_method0("close").map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.runs)?;
        self.taken.lock().iter().try_for_each(|item| visit.call(item))
    }

    fn __clear__(&self) {
        let dropped = std::mem::take(&mut *self.taken.lock());
        drop(dropped);
    }
}
