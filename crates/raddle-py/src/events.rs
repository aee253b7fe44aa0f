//! `raddle._raddle.read_events`: what the recorders of a session's processes have written.

use std::path::PathBuf;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use raddle_trace::Session;

use crate::gate;

/// Reads the event files of a directory. Returns a session in JSON, in which nothing stands but what was recorded.
#[pyfunction]
#[pyo3(signature = (directory, origin=0))]
pub(crate) fn read_events(py: Python<'_>, directory: PathBuf, origin: u64) -> PyResult<String> {
    let session = gate::detached(py, || {
        let mut session = Session::default();
        raddle_trace::events::merge(&mut session, &directory, origin);
        serde_json::to_string(&session)
    })?;
    session.map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
