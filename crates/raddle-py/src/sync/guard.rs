//! `raddle.sync.Lock` and `RLock`: locks that only their holder releases, fair or not, that count how they are used.

use std::sync::Arc;
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Enders, Waiter, Wake};
use raddle_core::prim::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use raddle_core::sync::{FairLock, Lock, Usage};

use super::wait::of_wake;
use super::{Numbers, numbers};
use crate::gate::{Timeout, Truth};
use crate::lock_order::{self, Number};
use crate::unit::{self, my_id};
use crate::wait_graph::{self, Held, What};

const NOBODY: u64 = 0;

#[derive(Debug)]
enum Engine {
    Unfair(Lock),
    Fair(FairLock),
}

/// A lock with its holder.
#[derive(Debug)]
struct Guard {
    engine: Engine,
    /// The unit that holds it. Written by the holder, after it has taken and before it releases.
    owner: AtomicU64,
    usage: Usage,
    kind: &'static str,
    number: Number,
}

impl Held for Guard {
    fn enders(&self) -> Enders {
        match self.owner() {
            // Nobody else can release it, and its owner does not exist any more.
            Some(owner) if unit::find(owner).is_none() => Enders::Only(Vec::new()),
            Some(owner) => Enders::Holder(owner),
            None => Enders::Anyone,
        }
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn holder(&self) -> Option<UnitId> {
        self.owner()
    }
}

impl Guard {
    fn new(fair: bool, kind: &'static str) -> Arc<Self> {
        let engine = if fair { Engine::Fair(FairLock::new()) } else { Engine::Unfair(Lock::new()) };
        Arc::new(Self {
            engine,
            owner: AtomicU64::new(NOBODY),
            usage: Usage::default(),
            kind,
            number: Number::default(),
        })
    }

    fn owner(&self) -> Option<UnitId> {
        let owner = self.owner.load(Relaxed);
        (owner != NOBODY).then_some(UnitId(owner))
    }

    #[inline]
    fn is_mine(&self, me: UnitId) -> bool {
        self.owner.load(Relaxed) == me.0
    }

    fn is_held(&self) -> bool {
        match &self.engine {
            Engine::Unfair(lock) => lock.is_held(),
            Engine::Fair(lock) => lock.is_held(),
        }
    }

    #[inline]
    fn try_acquire(&self, me: UnitId) -> bool {
        let taken = match &self.engine {
            Engine::Unfair(lock) => lock.try_acquire(),
            Engine::Fair(lock) => lock.try_acquire(),
        };
        if taken {
            self.owner.store(me.0, Relaxed);
            self.usage.acquired_alone();
            self.note_taken();
        }
        taken
    }

    /// Waits for it. `false`: the time is over.
    #[cold]
    fn acquire_slow(self: &Arc<Self>, py: Python<'_>, me: UnitId, timeout: Timeout) -> PyResult<bool> {
        if timeout.is_over() {
            return Ok(false);
        }
        let since = self.usage.wait();
        let taken = self.wait_for_it(py, timeout.deadline());
        self.usage.waited(since, matches!(taken, Ok(true)));
        if let Ok(true) = taken {
            self.owner.store(me.0, Relaxed);
            self.note_taken();
        }
        taken
    }

    #[inline]
    fn note_taken(&self) {
        if lock_order::is_on() {
            lock_order::took(&self.number);
        }
    }

    /// To be called before this thread waits for it, if orders are watched and it does not hold it.
    #[cold]
    fn want(&self, py: Python<'_>) -> PyResult<()> {
        lock_order::want(py, &self.number, self.kind, || Ok(self.address()))
    }

    fn attempt(&self, before: Option<&Arc<Waiter>>) -> Attempt {
        match &self.engine {
            Engine::Unfair(lock) => lock.acquire(before),
            Engine::Fair(lock) => lock.acquire(before),
        }
    }

    fn wait_for_it(self: &Arc<Self>, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        let mut before = None;
        loop {
            let waiter = match self.attempt(before.as_ref()) {
                Attempt::Done(()) => return Ok(true),
                Attempt::Wait(waiter) => waiter,
            };
            let taken = AtomicBool::new(false);
            let sleep = |until| {
                let wake = waiter.park(until);
                // Tried before coming back into Python, which may take long: the lock is more often free now. A fair one is kept for us, and is
                // taken when we are back: its mutex is for threads that are attached, so that a fork finds it free.
                if let (Wake::Unparked, Engine::Unfair(lock)) = (&wake, &self.engine)
                    && (lock.try_acquire() || lock.acquire_soon())
                {
                    taken.store(true, Relaxed);
                }
                of_wake(wake)
            };
            let ended = wait_graph::enter(py, What::Held(self.clone()), &waiter, deadline)
                .and_then(|mut waiting| waiting.sleep(py, deadline, sleep));
            match ended {
                Ok(true) if taken.load(Relaxed) => return Ok(true),
                Ok(true) => before = Some(waiter),
                ended => {
                    match &self.engine {
                        Engine::Unfair(lock) => lock.leave(&waiter),
                        Engine::Fair(lock) => lock.leave(&waiter),
                    }
                    return ended;
                }
            }
        }
    }

    /// Releases it. The caller holds it.
    #[inline]
    fn release(&self) {
        self.usage.hold_ended();
        if let Some(owner) = self.owner().filter(|_| lock_order::is_on()) {
            lock_order::released(owner, &self.number);
        }
        self.owner.store(NOBODY, Relaxed);
        _ = match &self.engine {
            Engine::Unfair(lock) => lock.release(),
            Engine::Fair(lock) => lock.release(),
        };
    }

    fn reset(&self) {
        self.owner.store(NOBODY, Relaxed);
        match &self.engine {
            Engine::Unfair(lock) => lock.reset(),
            Engine::Fair(lock) => lock.reset(),
        }
    }

    fn is_fair(&self) -> bool {
        matches!(self.engine, Engine::Fair(_))
    }
}

fn not_mine(kind: &str) -> PyErr {
    PyRuntimeError::new_err(format!("{kind} can be released only by the thread that holds it, which this one does not"))
}

/// A lock that only its holder releases.
#[pyclass(frozen, weakref, subclass, name = "GuardCore", module = "raddle._raddle")]
pub(crate) struct PyGuard {
    guard: Arc<Guard>,
}

impl PyGuard {
    #[cold]
    fn acquire_slow(&self, py: Python<'_>, me: UnitId, timeout: Timeout) -> PyResult<bool> {
        if self.guard.is_mine(me) && !timeout.is_over() {
            return Err(PyRuntimeError::new_err(
                "this thread holds the Lock already, and would wait for itself\n  hint: use an RLock, or do not take it again in what is called while it is held",
            ));
        }
        self.guard.acquire_slow(py, me, timeout)
    }
}

#[pymethods]
impl PyGuard {
    #[new]
    #[pyo3(signature = (*, fair = Truth(false)), text_signature = "(*, fair=False)")]
    fn new(fair: Truth) -> Self {
        Self { guard: Guard::new(fair.0, "a Lock") }
    }

    #[pyo3(signature = (blocking = Truth(true), *, timeout = Timeout::FOREVER), text_signature = "($self, blocking=True, *, timeout=None)")]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Timeout) -> PyResult<bool> {
        let me = my_id();
        if lock_order::is_on() && blocking.0 && timeout.duration().is_none() {
            self.guard.want(py)?;
        }
        if self.guard.try_acquire(me) {
            return Ok(true);
        }
        if blocking.0 { self.acquire_slow(py, me, timeout) } else { Ok(false) }
    }

    fn release(&self) -> PyResult<()> {
        if !self.guard.is_mine(my_id()) {
            return Err(not_mine("a Lock"));
        }
        self.guard.release();
        Ok(())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        let me = my_id();
        if lock_order::is_on() {
            self.guard.want(py)?;
        }
        if self.guard.try_acquire(me) { Ok(true) } else { self.acquire_slow(py, me, Timeout::FOREVER) }
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    fn locked(&self) -> bool {
        self.guard.is_held()
    }

    fn _is_owned(&self) -> bool {
        self.guard.is_mine(my_id())
    }

    #[getter]
    fn fair(&self) -> bool {
        self.guard.is_fair()
    }

    fn _usage(&self) -> Numbers {
        numbers(&self.guard.usage)
    }

    fn _at_fork_reinit(&self) {
        self.guard.reset();
    }
}

/// A lock that its holder may take again.
#[pyclass(frozen, weakref, subclass, name = "RGuardCore", module = "raddle._raddle")]
pub(crate) struct PyRGuard {
    guard: Arc<Guard>,
    /// How often the holder has taken it. Changed by the holder.
    count: AtomicUsize,
}

impl PyRGuard {
    #[inline]
    fn try_acquire(&self, me: UnitId) -> bool {
        if self.guard.is_mine(me) {
            self.count.store(self.count.load(Relaxed) + 1, Relaxed);
            return true;
        }
        let taken = self.guard.try_acquire(me);
        if taken {
            self.count.store(1, Relaxed);
        }
        taken
    }

    #[cold]
    fn acquire_slow(&self, py: Python<'_>, me: UnitId, timeout: Timeout) -> PyResult<bool> {
        let taken = self.guard.acquire_slow(py, me, timeout)?;
        if taken {
            self.count.store(1, Relaxed);
        }
        Ok(taken)
    }
}

#[pymethods]
impl PyRGuard {
    #[new]
    #[pyo3(signature = (*, fair = Truth(false)), text_signature = "(*, fair=False)")]
    fn new(fair: Truth) -> Self {
        Self { guard: Guard::new(fair.0, "an RLock"), count: AtomicUsize::new(0) }
    }

    #[pyo3(signature = (blocking = Truth(true), *, timeout = Timeout::FOREVER), text_signature = "($self, blocking=True, *, timeout=None)")]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Timeout) -> PyResult<bool> {
        let me = my_id();
        if lock_order::is_on() && blocking.0 && timeout.duration().is_none() && !self.guard.is_mine(me) {
            self.guard.want(py)?;
        }
        if self.try_acquire(me) {
            return Ok(true);
        }
        if blocking.0 { self.acquire_slow(py, me, timeout) } else { Ok(false) }
    }

    fn release(&self) -> PyResult<()> {
        if !self.guard.is_mine(my_id()) {
            return Err(not_mine("an RLock"));
        }
        let count = self.count.load(Relaxed) - 1;
        self.count.store(count, Relaxed);
        if count == 0 {
            self.guard.release();
        }
        Ok(())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        let me = my_id();
        if lock_order::is_on() && !self.guard.is_mine(me) {
            self.guard.want(py)?;
        }
        if self.try_acquire(me) { Ok(true) } else { self.acquire_slow(py, me, Timeout::FOREVER) }
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    fn locked(&self) -> bool {
        self.guard.is_held()
    }

    fn _is_owned(&self) -> bool {
        self.guard.is_mine(my_id())
    }

    fn _release_save(&self) -> PyResult<usize> {
        if !self.guard.is_mine(my_id()) {
            return Err(not_mine("an RLock"));
        }
        let count = self.count.swap(0, Relaxed);
        self.guard.release();
        Ok(count)
    }

    fn _acquire_restore(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        let me = my_id();
        if !self.try_acquire(me) {
            self.acquire_slow(py, me, Timeout::FOREVER)?;
        }
        self.count.store(count, Relaxed);
        Ok(())
    }

    #[getter]
    fn fair(&self) -> bool {
        self.guard.is_fair()
    }

    fn _usage(&self) -> Numbers {
        numbers(&self.guard.usage)
    }

    fn _at_fork_reinit(&self) {
        self.count.store(0, Relaxed);
        self.guard.reset();
    }
}
