//! The funnel: every exception that Rust raises is made here, from the classes that Python already has.

use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use raddle_proc::lane::{Cause, Loss, Refusal};

macro_rules! imported {
    ($(#[$doc:meta])* $function:ident, $module:literal, $name:literal) => {
        $(#[$doc])*
        pub(crate) fn $function(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            CLASS.import(py, $module, $name)
        }
    };
}

imported!(cancelled_error, "concurrent.futures._base", "CancelledError");
imported!(invalid_state_error, "concurrent.futures._base", "InvalidStateError");
imported!(worker_died, "raddle.errors", "WorkerDied");
imported!(call_timeout, "raddle.errors", "CallTimeout");
imported!(pool_full, "raddle.errors", "PoolFull");
imported!(internal_error, "raddle.errors", "InternalError");
imported!(broken_barrier_error, "threading", "BrokenBarrierError");
imported!(queue_empty, "raddle.queue", "Empty");
imported!(queue_full, "raddle.queue", "Full");
imported!(queue_shut_down, "raddle.queue", "ShutDown");
imported!(closed_error, "raddle.errors", "Closed");
imported!(lagged, "raddle.errors", "Lagged");
imported!(deadlock_error, "raddle.errors", "DeadlockError");

/// `OSError(errno, message)`, or its subclass for that number.
pub(crate) fn of_system(error: std::io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else { return error.into() };
    let text = error.to_string();
    let message = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    pyo3::exceptions::PyOSError::new_err((number, message.to_owned()))
}

/// `CancelledError()`, as the standard library raises it.
pub(crate) fn cancelled(py: Python<'_>) -> PyErr {
    make(cancelled_error(py), |class| class.call0())
}

/// `InvalidStateError(message)`.
pub(crate) fn invalid_state(py: Python<'_>, message: String) -> PyErr {
    make(invalid_state_error(py), |class| class.call1((message,)))
}

/// `InternalError(message)`: our bug.
pub(crate) fn internal(py: Python<'_>, message: &str) -> PyErr {
    make(internal_error(py), |class| class.call1((message,)))
}

/// `threading.BrokenBarrierError()`.
pub(crate) fn broken_barrier(py: Python<'_>) -> PyErr {
    make(broken_barrier_error(py), |class| class.call0())
}

/// Whether it is a `DeadlockError`.
pub(crate) fn is_deadlock(py: Python<'_>, error: &PyErr) -> bool {
    deadlock_error(py).is_ok_and(|class| error.is_instance(py, class))
}

/// `queue.Empty()`.
pub(crate) fn queue_is_empty(py: Python<'_>) -> PyErr {
    make(queue_empty(py), |class| class.call0())
}

/// `queue.Full()`.
pub(crate) fn queue_is_full(py: Python<'_>) -> PyErr {
    make(queue_full(py), |class| class.call0())
}

/// `queue.ShutDown()`.
pub(crate) fn queue_is_shut(py: Python<'_>) -> PyErr {
    make(queue_shut_down(py), |class| class.call0())
}

/// `Closed(message, source)`.
pub(crate) fn channel_is_closed(message: &'static str, source: &Bound<'_, PyAny>) -> PyErr {
    make(closed_error(source.py()), |class| class.call1((message, source)))
}

/// Whether this is a `Closed` of this source, and not of another channel, which a signal's handler has raised in the middle of a wait.
pub(crate) fn is_channel_closed(error: &PyErr, source: &Bound<'_, PyAny>) -> bool {
    let py = source.py();
    closed_error(py).is_ok_and(|class| error.is_instance(py, class))
        && error.value(py).getattr("source").is_ok_and(|other| other.is(source))
}

/// `Lagged(missed)`.
pub(crate) fn channel_has_lagged(py: Python<'_>, missed: u64) -> PyErr {
    make(lagged(py), |class| class.call1((missed,)))
}

/// `TimeoutError(message)`.
pub(crate) fn timed_out(message: &'static str) -> PyErr {
    PyTimeoutError::new_err(message)
}

/// `WorkerDied(call, pid, exitcode, how, attempts, peak_memory, out_of_memory, limit)`, or `CallTimeout(call, pid, seconds, attempts)`.
/// `retries`: how often it was begun before. `limit`: bytes that a worker of the pool may take.
pub(crate) fn lost(py: Python<'_>, call: &str, loss: &Loss, retries: u32, limit: Option<u64>) -> PyErr {
    let attempts = retries + 1;
    if let Cause::Overdue(limit) = loss.cause {
        return make(call_timeout(py), |class| class.call1((call, loss.pid, limit.as_secs_f64(), attempts)));
    }
    let Loss { pid, ending, peak_memory, out_of_memory, .. } = *loss;
    let how = ending.to_string();
    let error = make(worker_died(py), |class| {
        class.call1((call, pid, ending.code(), how, attempts, peak_memory, out_of_memory, limit))
    });
    if let Some(output) = &loss.output {
        let _ = error.value(py).setattr("output", &**output); // of use, and no more than that
        note(py, &error, &format!("the last lines that it has printed:\n{output}"));
    }
    if let Some(words) = &loss.words {
        note(py, &error, words.trim_end());
    }
    error
}

/// What a submit to a lane that takes no more calls raises. `broken` is the class for a broken lane.
pub(crate) fn refused(refusal: &Refusal, broken: &Bound<'_, PyAny>) -> PyErr {
    match refusal {
        Refusal::Closed => pyo3::exceptions::PyRuntimeError::new_err("cannot schedule new futures after shutdown"),
        Refusal::Broken(reason) => make(Ok(broken), |class| class.call1((&**reason,))),
        Refusal::Full => full(broken.py()),
    }
}

/// `PoolFull(message)`.
pub(crate) fn full(py: Python<'_>) -> PyErr {
    let message = "as many calls are under way as the pool takes\n  hint: wait for some of them, or give the pool a larger max_pending";
    make(pool_full(py), |class| class.call1((message,)))
}

/// The instance of a class that a call makes, or the error in making it.
fn make<'a, 'py: 'a, C>(
    class: PyResult<&'a Bound<'py, C>>,
    call: impl FnOnce(&'a Bound<'py, C>) -> PyResult<Bound<'py, PyAny>>,
) -> PyErr {
    match class.and_then(call) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Reports an exception that there is nobody to raise to. `context` says what it came of.
#[pyfunction]
pub(crate) fn write_unraisable(py: Python<'_>, error: Bound<'_, PyAny>, context: Bound<'_, PyAny>) {
    PyErr::from_value(error).write_unraisable(py, Some(&context));
}

/// Adds a note to an exception (PEP 678). Notes are help; failing to add one must not hide the exception.
pub(crate) fn note(py: Python<'_>, error: &PyErr, text: &str) {
    let _ = error.value(py).call_method1("add_note", (text,));
}
