//! Many cheap calls as one: what `map` does when a call takes less time than to hand it over.
//!
//! The outcome of a batch is the list of the results and, if an item raised, its exception; the items after it did not run.
//! A batch is made when calls are known to be cheap. If they turn out not to be, it is *stopped* between two items: it has
//! fewer results than items and no exception, and whoever made it schedules the rest again, each item on its own. Only a
//! batch that was asked for as such, a *whole* one, is never stopped.
//!
//! A function of one argument is mapped over *bare* items, which saves a tuple per call on every side; with more arguments
//! the items are *starred*: each is the tuple of a call's arguments.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};

/// What a function is called with.
pub(crate) enum Arguments {
    Call(Py<PyTuple>, Option<Py<PyDict>>),
    Batch(Batch),
}

/// The items of a batch, and how they are to be done.
pub(crate) struct Batch {
    pub(crate) items: Py<PyList>,
    pub(crate) starred: bool,
    pub(crate) whole: bool,
}

/// What came of a batch.
pub(crate) struct Done<'py> {
    pub(crate) results: Bound<'py, PyList>,
    pub(crate) failure: Option<PyErr>,
}

impl Done<'_> {
    /// How many items ran.
    pub(crate) fn count(&self) -> usize {
        self.results.len() + usize::from(self.failure.is_some())
    }
}

/// A batch is made to last a quarter of this at most.
const BUDGET: Duration = Duration::from_millis(50);

/// The time by a clock that is read in a few nanoseconds and goes in steps of some milliseconds.
fn coarse_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Calls `function` once for each item, until one raises or, unless it is to be whole, time is up.
pub(crate) fn run_batch<'py>(function: &Bound<'py, PyAny>, batch: &Batch) -> PyResult<Done<'py>> {
    let items = batch.items.bind(function.py());
    let starred = batch.starred;
    let until = if batch.whole { Duration::MAX } else { coarse_now() + BUDGET };
    let (mut results, mut failure) = (Vec::with_capacity(items.len()), None);
    for item in items.iter() {
        let result = if starred { function.call1(item.cast_into::<PyTuple>()?) } else { function.call1((item,)) };
        match result {
            Ok(result) => {
                results.push(result);
                if !batch.whole && coarse_now() >= until {
                    break;
                }
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    Ok(Done { results: PyList::new(function.py(), results)?, failure })
}

/// The input of a `map`, read as far as it is asked for.
pub(crate) struct Input<'py> {
    items: Bound<'py, PyIterator>,
    most: usize,
}

impl<'py> Input<'py> {
    /// What `calls` yields, `most` items at most.
    pub(crate) fn new(calls: &Bound<'py, PyAny>, most: Option<usize>) -> PyResult<Self> {
        Ok(Self { items: calls.try_iter()?, most: most.unwrap_or(usize::MAX) })
    }

    /// The next items, `size` at most.
    pub(crate) fn batch(&mut self, size: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.take(size).collect()
    }
}

impl<'py> Iterator for Input<'py> {
    type Item = PyResult<Bound<'py, PyAny>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.most = self.most.checked_sub(1)?;
        self.items.next()
    }
}

/// The arguments of one call of its own, as a tuple.
pub(crate) fn arguments_of<'py>(item: Bound<'py, PyAny>, starred: bool) -> PyResult<Bound<'py, PyTuple>> {
    if starred { Ok(item.cast_into()?) } else { PyTuple::new(item.py(), [item]) }
}
