//! The way out of Python and back: every call that may wait goes through here.
//!
//! The caller holds no lock of the core. While we wait we are detached, so that other threads and the collector can run; a
//! signal ends the wait, its Python handler runs, and the wait goes on unless the handler raised.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use raddle_core::prim::Mutex;
use raddle_proc::lane::Waited;

use crate::batch::coarse_now;
use crate::errors;
use crate::of_process::OfProcess;
use crate::runtime;
use crate::turnstile;
use crate::unit::{self, current_ident};

/// Leaves Python, runs `work`, comes back. A panic in `work` becomes an `InternalError`.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    // What `work` leaves half done when it panics are structures of the core, whose locks do not poison and whose users
    // find them as they are; nothing of Python is touched in there.
    let work = AssertUnwindSafe(work);
    py.detach(|| catch_unwind(work)).map_err(|panic| errors::internal(py, &message_of(&*panic)))
}

/// Comes into Python from a native thread. An exception or a panic in `work` is reported as unraisable: there is nobody
/// to raise it to.
pub(crate) fn attached<T>(work: impl FnOnce(Python<'_>) -> PyResult<T>) -> Option<T> {
    Python::attach(|py| {
        let done = catch_unwind(AssertUnwindSafe(|| work(py)));
        match done.unwrap_or_else(|panic| Err(errors::internal(py, &message_of(&*panic)))) {
            Ok(value) => Some(value),
            Err(error) => {
                error.write_unraisable(py, None);
                None
            }
        }
    })
}

/// An exception is set in the interpreter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raised;

/// Does what CPython has called a function of ours for, without PyO3 in between. A panic in `work` becomes an `InternalError`.
///
/// # Safety
///
/// This thread is attached.
#[inline]
pub(crate) unsafe fn called<T>(work: impl FnOnce(Python<'_>) -> T) -> Result<T, Raised> {
    // SAFETY: the caller says so.
    let py = unsafe { Python::assume_attached() };
    catch_unwind(AssertUnwindSafe(|| work(py))).map_err(|panic| {
        errors::internal(py, &message_of(&*panic)).restore(py);
        Raised
    })
}

/// Keeps one thread state for the whole life of a native thread, so that [`attached`] is cheap inside.
pub(crate) fn resident(life: &mut (dyn FnMut() + Send)) {
    RESIDENT.set(true);
    let me = current_ident();
    Python::attach(|py| {
        RESIDENTS.get().lock().push(me);
        py.detach(life);
        RESIDENTS.get().lock().retain(|other| *other != me);
    });
}

static RESIDENTS: OfProcess<Mutex<Vec<u64>>> = OfProcess::new(Mutex::default);

/// `threading.get_ident()` of the native threads of ours that have a thread state.
pub(crate) fn residents() -> Vec<u64> {
    RESIDENTS.get().lock().clone()
}

thread_local! {
    static RESIDENT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// To be called in a forked child: the thread that is left runs the user's code, whatever it did in the parent.
pub(crate) fn forked() {
    RESIDENT.set(false);
    RESIDENTS.renew();
}

/// Whether this is a native thread of ours.
pub(crate) fn is_resident() -> bool {
    RESIDENT.get()
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}

/// When a thread that runs one call after the other lets go of the interpreter, so that other threads get it. By a coarse clock: asking
/// costs a few nanoseconds.
pub(crate) struct Breath(Duration);

impl Breath {
    /// As long as a Python function keeps it while others want it.
    const TIME: Duration = Duration::from_millis(5);

    pub(crate) fn new() -> Self {
        Self(coarse_now() + Self::TIME)
    }

    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        coarse_now() >= self.0
    }
}

/// How long the main thread sleeps before it looks for signals that have come in a gap; each time so many times longer; and the
/// longest of these times, after which it sleeps for good.
const FIRST_NAP: Duration = Duration::from_millis(20);
const LONGER: u32 = 8;
const LAST_NAP: Duration = Duration::from_secs(11);

/// Waits until the deadline for something that a signal may interrupt. Returns whether it happened.
///
/// `sleep` waits until the moment that it is given.
///
/// A signal ends a sleep. One that arrives just before, between the last look at Python and the system call, does not: its
/// handler has run, and the thread falls asleep all the same. While a thread looks for a moment before it sleeps, and on a
/// machine with much to do, that gap is long enough to be hit. So the main thread, which alone runs Python's handlers, comes back
/// a few times to see whether it was: after 20 ms, and then after longer and longer times.
pub(crate) fn wait(
    py: Python<'_>,
    deadline: Option<Instant>,
    sleep: impl Fn(Option<Instant>) -> Waited + Send + Sync,
) -> PyResult<bool> {
    unit::obey(py)?;
    let mut nap = runtime::is_main_thread().then_some(FIRST_NAP);
    loop {
        let waking = nap.and_then(|nap| Instant::now().checked_add(nap));
        let is_nap = waking.is_some_and(|waking| deadline.is_none_or(|deadline| waking < deadline));
        let (waited, pass) = detached(py, || (sleep(if is_nap { waking } else { deadline }), turnstile::enter()))?;
        drop(pass);
        match waited {
            Waited::Done => return Ok(true),
            Waited::TimedOut if !is_nap => return Ok(false),
            Waited::TimedOut => nap = nap.map(|nap| nap * LONGER).filter(|nap| *nap <= LAST_NAP),
            Waited::Interrupted => {}
        }
        let was_busy = unit::set_busy(true);
        let handled = py.check_signals();
        unit::set_busy(was_busy);
        handled?;
        unit::obey(py)?;
    }
}

/// A timeout in seconds, as Python gives it: `None` waits for ever, what is not positive does not wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeout(Option<Duration>);

impl Timeout {
    pub(crate) const FOREVER: Self = Self(None);
    pub(crate) const NONE: Self = Self(Some(Duration::ZERO));

    pub(crate) fn duration(self) -> Option<Duration> {
        self.0
    }

    /// Seconds that are left, or for ever.
    pub(crate) fn of(left: Option<Duration>) -> Self {
        Self(left)
    }

    /// Whether it does not wait.
    pub(crate) fn is_over(self) -> bool {
        self.0 == Some(Duration::ZERO)
    }

    pub(crate) fn deadline(self) -> Option<Instant> {
        // What overflows the clock is as good as for ever.
        self.0.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

impl<'py> FromPyObject<'_, 'py> for Timeout {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_none() {
            return Ok(Self(None));
        }
        let seconds: f64 = object.extract().map_err(|_| {
            PyTypeError::new_err(format!("timeout must be a number of seconds or None, not {}", name_of(&object)))
        })?;
        if seconds.is_nan() {
            return Err(PyValueError::new_err("timeout must be a number of seconds or None, not nan"));
        }
        // A century is for ever; Duration cannot hold every float.
        Ok(Self((seconds < 3.2e9).then(|| Duration::from_secs_f64(seconds.max(0.0)))))
    }
}

/// An argument of which only the truth counts, as Python's own functions take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

fn name_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "that".into(), |name| format!("{name:?}"))
}
