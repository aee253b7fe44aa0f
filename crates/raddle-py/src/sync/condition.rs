//! `raddle.threading.Condition`.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use raddle_core::sync::Condition;
use std::sync::OnceLock;

use super::holding::{BY_CALL, BY_WITH};
use super::{PyLock, PyRLock, until_called};
use crate::attached::{Attached, ByGil};
use crate::errors;
use crate::gate::Timeout;
use crate::lock_order;
use crate::shortcut::{self, is_plain_zero, shortcuts, truth};
use crate::unit::my_id;
use crate::wait_graph::What;

/// A condition variable over a lock: one of ours, which is used directly, or any object with `acquire` and `release`.
#[pyclass(frozen, weakref, subclass, dict, name = "ConditionCore", module = "raddle._raddle")]
pub(crate) struct PyCondition {
    condition: Attached<Condition<ByGil>>,
    /// Boxed, so that memory of zeros is an empty one: CPython 3.11 shows the object to the collector before it is made.
    guard: OnceLock<Option<Box<Guard>>>,
}

/// The lock: exactly one of our classes, or any other object.
enum Guard {
    Lock(Py<PyLock>),
    RLock(Py<PyRLock>),
    Foreign(Py<PyAny>),
}

/// What a lock remembers while its holder waits.
enum Saved {
    Once,
    Times(usize),
    Foreign(Py<PyAny>),
}

#[pymethods]
impl PyCondition {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { condition: Attached::new(Condition::guarded()), guard: OnceLock::new() }
    }

    /// What `__init__` says. The first one counts.
    fn _start(&self, py: Python<'_>, lock: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let lock = match lock {
            Some(lock) => lock,
            None => py.get_type::<PyRLock>().call0()?,
        };
        let guard = if let Ok(lock) = lock.cast_exact::<PyLock>() {
            Guard::Lock(lock.clone().unbind())
        } else if let Ok(lock) = lock.cast_exact::<PyRLock>() {
            Guard::RLock(lock.clone().unbind())
        } else {
            Guard::Foreign(lock.unbind())
        };
        _ = self.guard.set(Some(Box::new(guard)));
        Ok(())
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.guard(py)?.lock().clone_ref(py))
    }

    #[getter]
    fn acquire(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().getattr(py, intern!(py, "acquire"))
    }

    #[getter]
    fn release(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().getattr(py, intern!(py, "release"))
    }

    #[getter]
    fn locked(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().getattr(py, intern!(py, "locked"))
    }

    #[getter]
    fn _release_save(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().getattr(py, intern!(py, "_release_save"))
    }

    #[getter]
    fn _acquire_restore(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().getattr(py, intern!(py, "_acquire_restore"))
    }

    #[getter]
    fn _recursion_count(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().getattr(py, intern!(py, "_recursion_count"))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().call_method0(py, intern!(py, "__enter__"))
    }

    #[pyo3(signature = (*args))]
    fn __exit__(&self, py: Python<'_>, args: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<Py<PyAny>> {
        self.guard(py)?.lock().call_method1(py, intern!(py, "__exit__"), args)
    }

    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        let guard = self.guard(py)?;
        if let Some(is_owned) = guard.is_owned() {
            return Ok(is_owned);
        }
        let lock = guard.lock().bind(py);
        match lock.getattr_opt(intern!(py, "_is_owned"))? {
            Some(is_owned) => is_owned.call0()?.is_truthy(),
            None => {
                let free = lock.call_method1(intern!(py, "acquire"), (false,))?.is_truthy()?;
                if free {
                    lock.call_method0(intern!(py, "release"))?;
                }
                Ok(!free)
            }
        }
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if !Self::owned(slf)? {
            return Err(PyRuntimeError::new_err("cannot wait on un-acquired lock"));
        }
        let timeout = timeout.map_or(Ok(Timeout::FOREVER), |timeout| timeout.extract())?;
        let deadline = timeout.deadline();
        let waiter = this.condition.of(py).join();
        let saved = match this.release_save(py) {
            Ok(saved) => saved,
            Err(error) => {
                _ = this.condition.of(py).leave(&waiter);
                return Err(error);
            }
        };
        let ended = if timeout.is_over() {
            Ok(waiter.is_called())
        } else {
            until_called(py, What::Any("a Condition", slf.as_ptr().addr()), &waiter, deadline)
        };
        // Notified after it had given up: it counts as notified.
        let notified = !this.condition.of(py).leave(&waiter);
        this.acquire_restore(py, saved)?;
        ended.map(|called| called || notified)
    }

    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for(
        slf: &Bound<'_, Self>,
        predicate: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let mut result = predicate.call0()?;
        let timeout: Timeout = timeout.map_or(Ok(Timeout::FOREVER), |timeout| timeout.extract())?;
        let deadline = timeout.deadline();
        while !result.is_truthy()? {
            let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()).as_secs_f64());
            if left.is_some_and(|left| left <= 0.0) {
                break;
            }
            match left {
                // Through the attribute: a subclass may have a `wait` of its own.
                None => slf.call_method0(intern!(py, "wait"))?,
                Some(left) => slf.call_method1(intern!(py, "wait"), (left,))?,
            };
            result = predicate.call0()?;
        }
        Ok(result.unbind())
    }

    #[pyo3(signature = (n = 1))]
    fn notify(slf: &Bound<'_, Self>, n: isize) -> PyResult<()> {
        if !Self::owned(slf)? {
            return Err(PyRuntimeError::new_err("cannot notify on un-acquired lock"));
        }
        slf.get().condition.of(slf.py()).notify(usize::try_from(n).unwrap_or(0));
        Ok(())
    }

    fn notify_all(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::notify(slf, isize::MAX)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.guard.get().and_then(Option::as_ref).map_or(Ok(()), |guard| visit.call(guard.lock()))
    }

    #[getter]
    fn _waiting(&self, py: Python<'_>) -> usize {
        self.condition.of(py).waiting()
    }
}

impl PyCondition {
    /// Whether this thread may wait and notify. A subclass may say so itself.
    fn owned(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get()._is_owned(slf.py())
    }

    fn guard(&self, _py: Python<'_>) -> PyResult<&Guard> {
        self.known_guard().ok_or_else(|| PyRuntimeError::new_err("Condition.__init__() was not called"))
    }

    fn release_save(&self, py: Python<'_>) -> PyResult<Saved> {
        match self.guard(py)? {
            Guard::RLock(lock) => lock.get().release_all().map(Saved::Times),
            Guard::Lock(lock) if lock.get().holding().release(my_id()) => Ok(Saved::Once),
            Guard::Lock(_) => Err(PyRuntimeError::new_err("release unlocked lock")),
            Guard::Foreign(lock) => match lock.bind(py).getattr_opt(intern!(py, "_release_save"))? {
                Some(release_save) => Ok(Saved::Foreign(release_save.call0()?.unbind())),
                None => lock.call_method0(py, intern!(py, "release")).map(|_| Saved::Once),
            },
        }
    }

    /// Takes the lock again, whatever comes: an exception that arrives meanwhile is kept and raised afterwards.
    fn acquire_restore(&self, py: Python<'_>, saved: Saved) -> PyResult<()> {
        let guard = self.guard(py)?;
        let mut kept = None;
        loop {
            let taken = match (guard, &saved) {
                (Guard::RLock(lock), Saved::Times(count)) => lock.get().acquire_again(py, *count),
                (Guard::Lock(lock), _) => {
                    let (holding, me) = (lock.get().holding(), my_id());
                    if holding.try_acquire(me, BY_CALL) {
                        Ok(())
                    } else {
                        holding.acquire_surely(py, me, BY_CALL).map(drop)
                    }
                }
                (guard, Saved::Foreign(state)) => {
                    guard.lock().call_method1(py, intern!(py, "_acquire_restore"), (state,)).map(drop)
                }
                (guard, _) => guard.lock().call_method0(py, intern!(py, "acquire")).map(drop),
            };
            match taken {
                Ok(()) => return kept.map_or(Ok(()), Err),
                // A lock of the user's that refuses: as it says. A wait that would never end: better without the lock than not at all.
                Err(error) if matches!(guard, Guard::Foreign(_)) || errors::is_deadlock(py, &error) => {
                    return Err(error);
                }
                Err(error) => kept = Some(error),
            }
        }
    }

    /// The lock, once `__init__` was called.
    #[inline]
    fn known_guard(&self) -> Option<&Guard> {
        self.guard.get().and_then(Option::as_deref)
    }

    /// Whether `wait(0)` comes to nothing: this thread holds one of our locks, and nobody wants it. A notification needs the lock, so that
    /// none can come between a release and an acquisition that nobody uses: they may as well be left out. As long as a thread wants
    /// the lock, be it on its way after it was called, they are not: they are its opportunity.
    #[inline]
    fn is_wait_in_vain(&self) -> bool {
        match self.known_guard() {
            Some(Guard::RLock(lock)) => lock.get().is_mine() && !lock.get().holding().is_wanted(),
            Some(Guard::Lock(lock)) => {
                let holding = lock.get().holding();
                holding.is_held_by(my_id()) && !holding.is_wanted()
            }
            _ => false,
        }
    }
}

impl Guard {
    fn lock(&self) -> &Py<PyAny> {
        match self {
            Self::Lock(lock) => lock.as_any(),
            Self::RLock(lock) => lock.as_any(),
            Self::Foreign(lock) => lock,
        }
    }

    /// Whether it is held, as far as that matters for `wait` and `notify`. `None`: ask it.
    #[inline]
    fn is_owned(&self) -> Option<bool> {
        match self {
            Self::RLock(lock) => Some(lock.get().is_mine()),
            Self::Lock(lock) => Some(lock.get().holding().is_held()),
            Self::Foreign(_) => None,
        }
    }

    /// Takes it, if it is one of ours and free.
    #[inline]
    fn try_acquire(&self) -> bool {
        match self {
            _ if lock_order::is_on() => false,
            Self::RLock(lock) => lock.get().try_acquire(),
            Self::Lock(lock) => lock.get().holding().try_acquire(my_id(), BY_WITH),
            Self::Foreign(_) => false,
        }
    }

    /// Releases it, if it is one of ours and held.
    #[inline]
    fn release(&self) -> bool {
        match self {
            Self::RLock(lock) => lock.get().release_once(),
            Self::Lock(lock) => lock.get().holding().release(my_id()),
            Self::Foreign(_) => false,
        }
    }
}

/// Notifies, if the lock is one of ours and held.
#[inline]
fn notify(py: Python<'_>, condition: &PyCondition, most: usize) -> Option<Py<PyAny>> {
    if condition.known_guard()?.is_owned() != Some(true) {
        return None;
    }
    condition.condition.of(py).notify(most);
    Some(py.None())
}

shortcuts! {
    Enter: PyCondition, c"__enter__", |py, this, _| {
        this.get().known_guard()?.try_acquire().then(|| truth(py, true))
    };
    Exit: PyCondition, c"__exit__", |py, this, arguments| match arguments {
        [] | [_, _, _] => this.get().known_guard()?.release().then(|| py.None()),
        _ => None,
    };
    Notify: PyCondition, c"notify", |py, this, arguments| match arguments {
        [] => notify(py, this.get(), 1),
        _ => None,
    };
    NotifyAll: PyCondition, c"notify_all", |py, this, _| notify(py, this.get(), usize::MAX);
    Wait: PyCondition, c"wait", |py, this, arguments| match arguments {
        [timeout] if is_plain_zero(*timeout) && this.get().is_wait_in_vain() => Some(truth(py, false)),
        _ => None,
    };
}

/// Opens the shortcuts of this file.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open::<Enter>(py)?;
    shortcut::open::<Exit>(py)?;
    shortcut::open::<Notify>(py)?;
    shortcut::open::<NotifyAll>(py)?;
    shortcut::open::<Wait>(py)
}
