//! The iterator that `map` returns.
//!
//! A generator finds out which results come next and yields them as lists, one for each batch; this hands out their items. A
//! result then costs one call of a slot, where it would cost the resumption of a generator.

use std::collections::VecDeque;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use raddle_core::prim::Mutex;

/// Lists that were taken from the generator, and where in the first of them the next item is. More than one list only
/// if several threads iterate at once.
#[derive(Default)]
struct Taken {
    lists: VecDeque<Py<PyList>>,
    at: usize,
}

/// Iterates over the items of the lists that a generator yields.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Results {
    runs: Py<PyIterator>,
    taken: Mutex<Taken>,
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
            if let Some(item) = self.item(py)? {
                return Ok(Some(item));
            }
            let Some(list) = self.runs.bind(py).clone().next() else { return Ok(None) };
            let list = list?.cast_into::<PyList>()?.unbind();
            self.taken.lock().lists.push_back(list);
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
        self.taken.lock().lists.iter().try_for_each(|list| visit.call(list))
    }

    fn __clear__(&self) {
        let dropped = std::mem::take(&mut *self.taken.lock());
        drop(dropped);
    }
}

impl Results {
    /// The next item of what was taken.
    fn item(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let spent = {
                let mut taken = self.taken.lock();
                let at = taken.at;
                let Some(list) = taken.lists.front() else { return Ok(None) };
                let list = list.bind(py);
                if at < list.len() {
                    let item = list.get_item(at)?.unbind();
                    list.set_item(at, py.None())?; // whoever takes it decides how long it lives
                    taken.at += 1;
                    return Ok(Some(item));
                }
                taken.at = 0;
                taken.lists.pop_front()
            };
            drop(spent); // outside of the lock: what the list held may run code when it goes
        }
    }
}
