//! What a worker has to say besides its answers, from Python.
//!
//! `raddle_boot` makes streams, a log handler and a hook for warnings out of it. Any thread may call it.

use pyo3::prelude::*;
use pyo3::types::PyString;
use raddle_core::prim::Mutex;
use raddle_proc::lane::kind;

use crate::gate;
use crate::runtime;

/// What this worker runs, if it runs something and speaks through an outlet.
static RUNNING: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

/// Says what this worker runs from now on. What was there before is returned, to be dropped without a lock.
pub(crate) fn now_running(function: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
    std::mem::replace(&mut *RUNNING.lock(), function)
}

/// A worker's way to its parent's ear.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Outlet {
    outlet: raddle_proc::Outlet,
    forks: u32,
}

impl Outlet {
    pub(crate) fn new(outlet: raddle_proc::Outlet) -> Self {
        Self { outlet, forks: runtime::forks() }
    }
}

#[pymethods]
impl Outlet {
    /// Says something: text of the standard output ("stdout") or error ("stderr"), a pickled log record ("log") or warning
    /// ("warning"). Waits for room. Returns False in a process that was forked off, which has no outlet.
    fn say(&self, py: Python<'_>, what: &str, words: &[u8]) -> PyResult<bool> {
        if self.forks != runtime::forks() {
            return Ok(false);
        }
        let kind = match what {
            "stdout" => kind::STDOUT,
            "stderr" => kind::STDERR,
            "log" => kind::LOG,
            "warning" => kind::WARNING,
            _ => return Err(pyo3::exceptions::PyValueError::new_err(format!("unknown kind of words: {what:?}"))),
        };
        let running = RUNNING.lock().as_ref().map(|function| function.clone_ref(py));
        let call = running.map_or_else(String::new, |function| name_of(function.bind(py)));
        if words.is_empty() {
            return Ok(true);
        }
        if !self.outlet.say(kind, call.as_bytes(), words) {
            gate::detached(py, || self.outlet.say_patiently(kind, call.as_bytes(), words))?;
        }
        Ok(true)
    }
}

/// What a function is called, shortened if it is absurdly long.
fn name_of(function: &Bound<'_, PyAny>) -> String {
    let name = function.getattr("__qualname__").and_then(|name| Ok(name.cast_into::<PyString>()?.to_string()));
    let name =
        name.unwrap_or_else(|_| function.get_type().name().map_or_else(|_| String::new(), |name| name.to_string()));
    name.chars().take(200).collect()
}
