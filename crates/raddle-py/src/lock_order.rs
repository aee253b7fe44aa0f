//! Orders in which locks are taken, watched while somebody asks for that: `raddle.check_lock_order`.
//!
//! The rules are those of `raddle_core::park::Order`. Here are the locks, the places in Python code, and the way to `raddle._lock_order`.
//!
//! # Rules
//!
//! 1. While nobody asks, a lock pays for it with one load of a flag.
//! 2. The state's lock is held for a few instructions by an attached thread, and no Python code runs under it.
//! 3. A plain lock counts as held only if its holder will surely release it, as in the wait graph: otherwise it may be a signal.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use raddle_core::life::UnitId;
use raddle_core::park::{Clock, LockId, Order, Step};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::gate;
use crate::of_process::OfProcess;
use crate::unit::{self, my_id};

static IS_ON: AtomicBool = AtomicBool::new(false);
/// A thread that ends leaves it detached.
static STATE: OfProcess<Mutex<Option<State>>> = OfProcess::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
struct State {
    order: Order<Place>,
    /// Of each code that was seen, by its address: itself, so that nothing else lies there, and its file; `None`: it is the house's own.
    files: HashMap<usize, (Py<PyAny>, Option<Arc<str>>)>,
    locks: HashMap<LockId, (&'static str, usize)>,
    names: HashMap<UnitId, Arc<str>>,
}

/// A line of Python code.
#[derive(Clone, Debug, Default)]
struct Place {
    file: Option<Arc<str>>,
    line: u32,
}

/// By which a lock is known here; 0: not yet.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    fn id(&self) -> LockId {
        match self.0.load(Relaxed) {
            0 => {
                let fresh = NEXT.fetch_add(1, Relaxed);
                LockId(self.0.compare_exchange(0, fresh, Relaxed, Relaxed).map_or_else(|known| known, |_| fresh))
            }
            known => LockId(known),
        }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if self.0.load(Relaxed) != 0
            && let Some(state) = &mut *STATE.get().lock()
        {
            let id = self.id();
            state.order.forget(id);
            state.locks.remove(&id);
        }
    }
}

/// Whether orders are watched.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.load(Relaxed)
}

/// This thread is about to wait for a lock as long as it takes. Errors if that closes a ring, and errors are asked for. `address`: what tells
/// the lock from others of its kind.
#[cold]
pub(crate) fn want(
    py: Python<'_>,
    number: &Number,
    kind: &'static str,
    address: impl FnOnce() -> PyResult<usize>,
) -> PyResult<()> {
    let (me, id) = (my_id(), number.id());
    let is_known = STATE.get().lock().as_ref().is_none_or(|state| state.locks.contains_key(&id));
    let address = if is_known { 0 } else { address()? };
    let place = here(py)?;
    let ring = {
        let mut state = STATE.get().lock();
        let Some(state) = &mut *state else { return Ok(()) };
        if !is_known {
            state.locks.insert(id, (kind, address));
        }
        state.order.want(me, id, &place)
    };
    ring.map_or(Ok(()), |ring| tell(py, &ring))
}

/// This thread has taken a lock.
#[cold]
pub(crate) fn took(number: &Number) {
    let (me, id) = (my_id(), number.id());
    _ = gate::attached(|py| {
        let place = here(py)?;
        let is_new = STATE.get().lock().as_ref().is_some_and(|state| !state.names.contains_key(&me));
        // Now, because the thread may have ended when it is told of.
        let name = if is_new { Some(name_of(py, me)?) } else { None };
        if let Some(state) = &mut *STATE.get().lock() {
            if let Some(name) = name {
                state.names.insert(me, name);
            }
            state.order.took(me, id, place);
        }
        Ok(())
    });
}

/// A unit does not hold a lock any more.
#[cold]
pub(crate) fn released(unit: UnitId, number: &Number) {
    if let Some(state) = &mut *STATE.get().lock() {
        state.order.released(unit, number.id());
    }
}

/// To be called in a forked child: it has seen no order yet.
pub(crate) fn forked() {
    STATE.renew();
    if is_on() {
        *STATE.get().lock() = Some(State::default());
    }
}

/// To be called when a unit has ended.
pub(crate) fn ended(unit: UnitId) {
    if is_on()
        && let Some(state) = &mut *STATE.get().lock()
    {
        state.order.ended(unit);
    }
}

/// The line of the user's code that this thread is in.
fn here(py: Python<'_>) -> PyResult<Place> {
    let mut frame = py.import("sys")?.getattr("_getframe")?.call0()?;
    while !frame.is_none() {
        let code = frame.getattr("f_code")?;
        let known =
            STATE.get().lock().as_ref().and_then(|state| Some(state.files.get(&code.as_ptr().addr())?.1.clone()));
        let file = match known {
            Some(file) => file,
            None => {
                let is_ours = py.import("raddle._deadlock")?.call_method1("_is_ours", (&frame,))?.is_truthy()?;
                let name: String = code.getattr("co_filename")?.extract()?;
                let file = (!is_ours).then(|| Arc::from(name));
                if let Some(state) = &mut *STATE.get().lock() {
                    state.files.insert(code.as_ptr().addr(), (code.unbind(), file.clone()));
                }
                file
            }
        };
        if file.is_some() {
            let line = frame.getattr("f_lineno")?.extract::<Option<u32>>()?.unwrap_or_default();
            return Ok(Place { file, line });
        }
        frame = frame.getattr("f_back")?;
    }
    Ok(Place::default())
}

fn name_of(py: Python<'_>, unit: UnitId) -> PyResult<Arc<str>> {
    let ident = unit::find(unit).map(|unit| unit.ident);
    let name: String = py.import("raddle._deadlock")?.call_method1("name_of", (ident,))?.extract()?;
    Ok(Arc::from(name))
}

#[cold]
fn tell(py: Python<'_>, ring: &[Step<Place>]) -> PyResult<()> {
    let steps = PyList::empty(py);
    for step in ring {
        let (name, held, wanted) = {
            let state = STATE.get().lock();
            let Some(state) = &*state else { return Ok(()) };
            let lock_of = |id: LockId| state.locks.get(&id).copied().unwrap_or(("a lock", 0));
            (state.names.get(&step.unit).cloned(), lock_of(step.held.0), lock_of(step.wanted.0))
        };
        let fields = PyDict::new(py);
        fields.set_item("thread", name.as_deref().unwrap_or("a thread"))?;
        for (key, lock, place) in [("held", held, &step.held.1), ("wanted", wanted, &step.wanted.1)] {
            let place = place.file.as_ref().map(|file| format!("{file}:{}", place.line));
            fields.set_item(key, (lock.0, lock.1, place))?;
        }
        steps.append(fields)?;
    }
    let error = py.import("raddle._lock_order")?.call_method1("found", (steps,))?;
    if error.is_none() { Ok(()) } else { Err(PyErr::from_value(error)) }
}

/// Watches orders from now on, or no more. What was known is forgotten.
#[pyfunction]
pub(crate) fn watch_lock_order(is_on: bool) {
    let old = std::mem::replace(&mut *STATE.get().lock(), is_on.then(State::default));
    IS_ON.store(is_on, Relaxed);
    drop(old);
}

/// What is over for a thread that this one is about to start. `None`: nobody wants to know.
#[pyfunction]
pub(crate) fn fork_lock_order() -> Option<Vec<(u64, u64)>> {
    STATE.get().lock().as_mut().map(|state| listed(&state.order.fork(my_id())))
}

/// What is over for whoever waits for the end of this thread.
#[pyfunction]
pub(crate) fn end_lock_order() -> Option<Vec<(u64, u64)>> {
    STATE.get().lock().as_mut().map(|state| listed(&state.order.clock_of(my_id())))
}

/// All this is over for this thread.
#[pyfunction]
pub(crate) fn follow_lock_order(over: Vec<(u64, u64)>) {
    if let Some(state) = &mut *STATE.get().lock() {
        let over: Clock = over.into_iter().map(|(unit, stretch)| (UnitId(unit), stretch)).collect();
        state.order.follow(my_id(), &over);
    }
}

fn listed(clock: &Clock) -> Vec<(u64, u64)> {
    clock.iter().map(|(unit, stretch)| (unit.0, *stretch)).collect()
}
