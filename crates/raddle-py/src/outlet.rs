//! What a worker has to say besides its answers, from Python.
//!
//! `raddle_boot` makes streams, a log handler and a hook for warnings out of it. Any thread may call it.

use pyo3::prelude::*;
use pyo3::types::PyString;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, Ordering::Relaxed};
use raddle_proc::lane::kind;

use crate::gate;
use crate::runtime;

/// What this worker runs, or has run last, if it speaks through an outlet.
static FUNCTION: Mutex<Option<Py<PyAny>>> = Mutex::new(None);
/// Whether it runs it now. Ordering: Relaxed; a thread that speaks while a call begins or ends may name it or not.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);

/// What this worker runs, for whoever speaks meanwhile. The worker's main thread alone has it.
#[derive(Default)]
pub(crate) struct Running {
    /// The address of the function in `FUNCTION`, if the worker keeps that function anyway; the same one need not be noted again.
    noted: usize,
}

impl Running {
    /// A call of this function begins. `is_kept`: the worker keeps it for as long as it lives.
    pub(crate) fn begin(&mut self, py: Python<'_>, function: &Py<PyAny>, is_kept: bool) {
        let address = function.as_ptr() as usize;
        if !is_kept || self.noted != address {
            note(Some(function.clone_ref(py)));
            self.noted = if is_kept { address } else { 0 };
        }
        IS_RUNNING.store(true, Relaxed);
    }

    /// It has ended.
    pub(crate) fn end(&mut self) {
        IS_RUNNING.store(false, Relaxed);
        if self.noted == 0 {
            note(None);
        }
    }
}

/// Replaces what was there; that is dropped without the lock.
fn note(function: Option<Py<PyAny>>) {
    let before = std::mem::replace(&mut *FUNCTION.lock(), function);
    drop(before);
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
        let running =
            FUNCTION.lock().as_ref().filter(|_| IS_RUNNING.load(Relaxed)).map(|function| function.clone_ref(py));
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
