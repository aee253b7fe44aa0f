//! Many cheap calls as one: what `map` does when a call takes less time than to hand it over.
//!
//! The outcome of a batch is the list of the results and, if an item raised, its exception; the items after it did not run.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// What a function is called with.
pub(crate) enum Arguments {
    Call(Py<PyTuple>, Option<Py<PyDict>>),
    /// A list of tuples: one call each.
    Batch(Py<PyList>),
}

/// Calls `function` once for each tuple of `items`, until one raises. Returns the results and what it raised.
pub(crate) fn run_batch<'py>(
    function: &Bound<'py, PyAny>,
    items: &Bound<'py, PyList>,
) -> PyResult<(Bound<'py, PyList>, Option<PyErr>)> {
    let results = PyList::empty(function.py());
    for item in items.iter() {
        match function.call1(item.cast_into::<PyTuple>()?) {
            Ok(result) => results.append(result)?,
            Err(error) => return Ok((results, Some(error))),
        }
    }
    Ok((results, None))
}
