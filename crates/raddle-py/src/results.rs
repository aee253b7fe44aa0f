//! The iterator that `map` returns.
//!
//! A generator finds out which results come next and yields them as lists, one for each batch; this hands out their items. A
//! result then costs one call of a slot, which has a shortcut, where it would cost the resumption of a generator. A list is taken as it is,
//! and nobody else may have it.
//!
//! With a [`Meter`] it also counts them, at the cost of a look at the clock, and calls the display when that is due.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use pyo3::{Borrowed, ffi};
use raddle_core::prim::Guarding;
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};

use crate::attached::{Attached, ByGil};
use crate::batch::coarse_now;
use crate::shortcut::{self, NextShortcut};

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

/// What was taken from the generator and not handed out.
#[derive(Default)]
struct Taken {
    list: Option<Py<PyList>>,
    /// The item that is next in it.
    next: usize,
    /// What comes after it: more than nothing only if several threads iterate at once.
    later: VecDeque<Py<PyList>>,
}

impl Taken {
    /// The next item. It leaves the list: whoever takes it decides how long it lives.
    #[inline]
    fn item(&mut self, py: Python<'_>) -> Option<Py<PyAny>> {
        let list = self.list.as_ref()?.bind(py);
        if self.next >= list.len() {
            return None;
        }
        let item = list.get_item(self.next).ok()?;
        list.set_item(self.next, py.None()).ok()?;
        self.next += 1;
        Some(item.unbind())
    }

    /// Goes on to the next list, if there is nothing left in this one. Returns what is to be dropped outside of the cell, and whether there is a list.
    fn turn(&mut self, py: Python<'_>) -> (Option<Py<PyList>>, bool) {
        if self.list.as_ref().is_some_and(|list| self.next < list.bind(py).len()) {
            return (None, true); // another thread was here first
        }
        self.next = 0;
        let spent = std::mem::replace(&mut self.list, self.later.pop_front());
        (spent, self.list.is_some())
    }

    fn add(&mut self, list: Py<PyList>) {
        if self.list.is_none() {
            (self.list, self.next) = (Some(list), 0);
        } else {
            self.later.push_back(list);
        }
    }
}

/// Iterates over the items of the lists that a generator yields.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Results {
    runs: Py<PyIterator>,
    /// What counts, and what is called when it is due.
    display: Option<(Py<Meter>, Py<PyAny>)>,
    taken: Attached<<ByGil as Guarding>::Cell<Taken>>,
}

#[pymethods]
impl Results {
    #[new]
    #[pyo3(signature = (runs, display = None))]
    fn new(runs: Py<PyIterator>, display: Option<(Py<Meter>, Py<PyAny>)>) -> Self {
        Self { runs, display, taken: Attached::new(ByGil::cell(Taken::default())) }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            if let Some(item) = ByGil::with(self.taken.of(py), |taken| taken.item(py)) {
                if let Some((meter, draw)) = &self.display
                    && meter.get().count()
                {
                    self.draw(py, draw)?;
                }
                return Ok(Some(item));
            }
            let (spent, has_more) = ByGil::with(self.taken.of(py), |taken| taken.turn(py));
            drop(spent);
            if has_more {
                continue;
            }
            let Some(list) = self.runs.bind(py).clone().next() else { return Ok(None) };
            let list = list?.cast_into::<PyList>()?.unbind();
            ByGil::with(self.taken.of(py), |taken| taken.add(list));
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
        ByGil::with(self.taken.visited(&visit), |taken| {
            taken.list.iter().chain(&taken.later).try_for_each(|list| visit.call(list))
        })
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

/// The shortcut into `__next__`: an item that is there, and nobody counts.
pub(crate) struct Next;

impl NextShortcut for Next {
    type Class = Results;

    fn long_way() -> &'static OnceLock<ffi::iternextfunc> {
        static LONG_WAY: OnceLock<ffi::iternextfunc> = OnceLock::new();
        &LONG_WAY
    }

    #[inline]
    fn take<'py>(py: Python<'py>, this: Borrowed<'_, 'py, Results>) -> Option<Py<PyAny>> {
        let this = this.get();
        if this.display.is_some() {
            return None;
        }
        ByGil::try_with(this.taken.of(py), |taken| taken.item(py)).flatten()
    }
}

pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open_next::<Next>(py)
}
