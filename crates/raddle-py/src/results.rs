//! The iterator that `map` returns.
//!
//! A generator finds out which results come next and yields them as lists, one for each batch; this hands out their items. A
//! result then costs one call of a slot, where it would cost the resumption of a generator.
//!
//! With a [`Meter`] it also counts them, at the cost of a look at the clock, and calls the display when that is due.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use raddle_core::prim::Guarding;
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};

use crate::attached::{Attached, ByGil};
use crate::batch::coarse_now;

/// Counts the results that were taken, and knows when their display is due. An object of its own, so that the display can read
/// it and does not keep the iterator alive.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Meter {
    taken: AtomicU64,
    /// Nanoseconds of the coarse clock. Ordering: Relaxed here and above, they are numbers and no news of anything else.
    due: AtomicU64,
}

#[pymethods]
impl Meter {
    #[new]
    fn new() -> Self {
        Self { taken: AtomicU64::new(0), due: AtomicU64::new(u64::MAX) }
    }

    /// Results that were taken.
    fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// The display is due so many seconds from now.
    fn rest(&self, seconds: f64) -> PyResult<()> {
        let rest = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.due.store(nanos(coarse_now().saturating_add(rest)), Relaxed);
        Ok(())
    }
}

impl Meter {
    /// Counts one more. Returns whether the display is due: to one caller, and to nobody again before the next `rest`.
    fn count(&self) -> bool {
        self.taken.fetch_add(1, Relaxed);
        let due = self.due.load(Relaxed);
        nanos(coarse_now()) >= due && self.due.swap(u64::MAX, Relaxed) == due
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

type Stack = <ByGil as Guarding>::Cell<Vec<Py<PyAny>>>;

/// Iterates over the items of the lists that a generator yields.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Results {
    runs: Py<PyIterator>,
    /// What counts, and what is called when it is due.
    display: Option<(Py<Meter>, Py<PyAny>)>,
    /// What was taken from the generator and not handed out, last first.
    taken: Attached<Stack>,
}

#[pymethods]
impl Results {
    #[new]
    #[pyo3(signature = (runs, display = None))]
    fn new(runs: Py<PyIterator>, display: Option<(Py<Meter>, Py<PyAny>)>) -> Self {
        Self { runs, display, taken: Attached::new(ByGil::cell(Vec::new())) }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            if let Some(item) = ByGil::with(self.taken.of(py), Vec::pop) {
                if let Some((meter, draw)) = &self.display
                    && meter.get().count()
                {
                    self.draw(py, draw)?;
                }
                return Ok(Some(item));
            }
            let Some(list) = self.runs.bind(py).clone().next() else { return Ok(None) };
            let list = list?.cast_into::<PyList>()?;
            let mut items: Vec<Py<PyAny>> = list.iter().rev().map(Bound::unbind).collect();
            list.del_slice(0, list.len())?; // whoever takes an item decides how long it lives
            ByGil::with(self.taken.of(py), |taken| {
                // More than nothing only if several threads iterate at once; what comes later lies below.
                items.append(taken);
                std::mem::swap(taken, &mut items);
            });
        }
    }

    /// Ends the iteration: what has not started is cancelled.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.drop_all(py);
        self.runs.bind(py).call_method0("close").map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.runs)?;
        if let Some((_, draw)) = &self.display {
            visit.call(draw)?;
        }
        ByGil::with(self.taken.visited(&visit), |taken| taken.iter().try_for_each(|item| visit.call(item)))
    }

    fn __clear__(&self, py: Python<'_>) {
        self.drop_all(py);
    }
}

impl Results {
    /// Lets go of what was not handed out; outside of the cell, because that may call into Python.
    fn drop_all(&self, py: Python<'_>) {
        drop(ByGil::with(self.taken.of(py), std::mem::take));
    }

    /// What a display raises, because it is the user's or because Ctrl-C met it, ends the iteration.
    #[cold]
    fn draw(&self, py: Python<'_>, draw: &Py<PyAny>) -> PyResult<()> {
        let Err(error) = draw.bind(py).call0() else { return Ok(()) };
        if let Err(another) = self.close(py) {
            another.write_unraisable(py, None);
        }
        Err(error)
    }
}
