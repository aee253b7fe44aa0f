//! Many cheap calls as one: what `map` does when a call takes less time than to hand it over.
//!
//! The outcome of a batch is the list of the results and, if an item raised, its exception; the items after it did not run.
//! A batch is made when calls are known to be cheap. If they turn out not to be, it is *stopped* between two items: it has
//! fewer results than items and no exception, and whoever made it schedules the rest again, each item on its own. Only a
//! batch that was asked for as such, a *whole* one, is never stopped. A batch that *goes on* has exceptions among its results, and
//! none that ends it.
//!
//! A function of one argument is mapped over *bare* items, which saves a tuple per call on every side; with more arguments
//! the items are *starred*: each is the tuple of a call's arguments.
//!
//! Between processes each item is encoded when it is read, and each result when its call has returned, as in calls of their own: a
//! buffer that the input or the function uses again and again is a new object each time on the other side.

use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};
use raddle_core::prim::Mutex;

/// A batch is ended when its items, or their results, have about so many bytes: more is no cheaper per byte.
pub(crate) const BYTES: usize = 256 << 10;

/// What a function is called with.
pub(crate) enum Arguments {
    Call(Py<PyTuple>, Option<Py<PyDict>>),
    Batch { items: Py<PyList>, starred: bool, whole: bool, goes_on: bool },
}

impl Arguments {
    /// How many calls they are for.
    pub(crate) fn items(&self, py: Python<'_>) -> u64 {
        match self {
            Self::Call(..) => 1,
            Self::Batch { items, .. } => items.bind(py).len().max(1) as u64,
        }
    }
}

/// What came of a batch.
pub(crate) struct Done<'py> {
    pub(crate) results: Bound<'py, PyList>,
    /// What ended it.
    pub(crate) failure: Option<PyErr>,
    /// How many items raised.
    pub(crate) failed: u64,
}

impl Done<'_> {
    /// How many items ran.
    pub(crate) fn count(&self) -> usize {
        self.results.len() + usize::from(self.failure.is_some())
    }
}

/// When a batch is stopped.
pub(crate) struct Budget {
    until: Option<Duration>,
}

impl Budget {
    /// A batch is made to last a quarter of this at most.
    const TIME: Duration = Duration::from_millis(50);

    /// Begins now; a whole batch has no end.
    pub(crate) fn new(whole: bool) -> Self {
        Self { until: (!whole).then(|| coarse_now() + Self::TIME) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| coarse_now() >= until)
    }
}

/// The time by a clock that is read in a few nanoseconds and goes in steps of some milliseconds.
pub(crate) fn coarse_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Calls `function` once for each item, until one raises or the budget is over. If it `goes_on`, what items raise are results.
pub(crate) fn run_batch<'py>(
    function: &Bound<'py, PyAny>,
    items: &Bound<'py, PyList>,
    starred: bool,
    goes_on: bool,
    budget: &Budget,
) -> PyResult<Done<'py>> {
    let py = function.py();
    let (mut results, mut failure, mut failed) = (Vec::with_capacity(items.len()), None, 0);
    for item in items.iter() {
        match call_item(function, item, starred) {
            Ok(result) => results.push(result),
            Err(error) => {
                failed += 1;
                if !goes_on {
                    failure = Some(error);
                    break;
                }
                results.push(error.into_value(py).into_bound(py).into_any());
            }
        }
        if budget.is_over() {
            break;
        }
    }
    Ok(Done { results: PyList::new(py, results)?, failure, failed })
}

/// Calls `function` with an item.
pub(crate) fn call_item<'py>(
    function: &Bound<'py, PyAny>,
    item: Bound<'py, PyAny>,
    starred: bool,
) -> PyResult<Bound<'py, PyAny>> {
    if starred { function.call1(item.cast_into::<PyTuple>()?) } else { function.call1((item,)) }
}

/// The arguments of one call of its own, as a tuple.
pub(crate) fn arguments_of<'py>(item: Bound<'py, PyAny>, starred: bool) -> PyResult<Bound<'py, PyTuple>> {
    if starred { Ok(item.cast_into()?) } else { PyTuple::new(item.py(), [item]) }
}

/// The input of a `map`, read as far as it is asked for, and never again once it has ended.
///
/// If it raises, it has ended too, and what it raised waits until somebody asks: the items before it count.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Input {
    state: Mutex<State>,
}

enum State {
    Open(Py<PyIterator>),
    Ended,
    Failed(PyErr),
}

#[pymethods]
impl Input {
    #[new]
    fn new(iterable: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { state: Mutex::new(State::Open(iterable.try_iter()?.unbind())) })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.next(py)
    }

    /// Whether there is nothing more to come.
    fn has_ended(&self) -> bool {
        !matches!(*self.state.lock(), State::Open(_))
    }

    /// What it raised, once.
    fn take_failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = std::mem::replace(&mut *self.state.lock(), State::Ended);
        match state {
            State::Failed(error) => Some(error.into_value(py).into_any()),
            other => {
                drop(std::mem::replace(&mut *self.state.lock(), other));
                None
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &*self.state.lock() {
            State::Open(iterator) => visit.call(iterator),
            State::Ended | State::Failed(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let dropped = std::mem::replace(&mut *self.state.lock(), State::Ended);
        drop(dropped);
    }
}

impl Input {
    /// The next item. None at the end, also if that is an exception; only what is no `Exception`, such as Ctrl-C, is raised
    /// at once.
    pub(crate) fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(mut iterator) = self.iterator(py) else { return Ok(None) };
        match iterator.next() {
            Some(Ok(item)) => Ok(Some(item)),
            end => self.end(py, end).map(|()| None),
        }
    }

    /// The next items, `size` at most.
    pub(crate) fn batch<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let Some(mut iterator) = self.iterator(py) else { return Ok(Vec::new()) };
        let mut items = Vec::with_capacity(size);
        while items.len() < size {
            match iterator.next() {
                Some(Ok(item)) => items.push(item),
                end => {
                    self.end(py, end)?;
                    break;
                }
            }
        }
        Ok(items)
    }

    /// What is read from; None when it has ended.
    fn iterator<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyIterator>> {
        match &*self.state.lock() {
            State::Open(iterator) => Some(iterator.bind(py).clone()),
            State::Ended | State::Failed(_) => None,
        }
    }

    /// It has ended, in one way or another; or was interrupted, and that is raised.
    fn end(&self, py: Python<'_>, how: Option<PyResult<Bound<'_, PyAny>>>) -> PyResult<()> {
        let end = match how {
            Some(Err(error)) if !error.is_instance_of::<PyException>(py) => return Err(error),
            Some(Err(error)) => State::Failed(error),
            _ => State::Ended,
        };
        let dropped = std::mem::replace(&mut *self.state.lock(), end);
        drop(dropped);
        Ok(())
    }
}
