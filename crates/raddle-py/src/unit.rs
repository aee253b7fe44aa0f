//! The threads of this process as units: their numbers, how to reach them, what they were told.
//!
//! A thread becomes a unit when it first touches something of ours, and is one until it ends.
//!
//! # Rules
//!
//! 1. A unit's orders are written first, then it is interrupted: whatever it waits for in the house, the gate looks at its orders and
//!    raises what stands there. It is taken out by whoever raises it, so it is raised once.
//! 2. Behind a shield orders wait. Whoever leaves the last shield finds them in their next wait, or at a checkpoint.
//! 3. An exception is thrown at a thread, between two bytecodes, only while it is armed; to disarm takes back what was thrown and has
//!    not arrived. Both are done under one lock, so nothing is thrown after that.
//! 4. The registry's lock is held for a few instructions, by an attached thread or by one that ends.
//! 5. When a unit ends and all who are left sleep, one of them is woken to look whether they sleep for ever: whoever might have ended
//!    their waits may have been the one that has ended.
//! 6. In the child of a fork the units of other threads are forgotten.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_long;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use raddle_core::life::UnitId;
use raddle_core::park::{Unparker, Waiter, with_current};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use raddle_core::sync::Event;

use crate::gate::Timeout;
use crate::lock_order;
use crate::of_process::OfProcess;
use crate::sync::until_done;
use crate::wait_graph::{self, What};

/// A thread.
pub(crate) struct Unit {
    pub(crate) id: UnitId,
    /// `threading.get_ident()`.
    pub(crate) ident: u64,
    /// The kernel's number.
    pub(crate) native: i32,
    /// Set when the thread has ended, and its thread state with it.
    over: Event,
    waker: Unparker,
    /// Where it sleeps when that is not its parker: what wakes it there.
    elsewhere: Mutex<Option<Rouse>>,
    has_orders: AtomicBool,
    orders: Mutex<Option<Py<PyAny>>>,
    /// Whether it runs a handler, although it counts as waiting. Changed by its own thread.
    is_busy: AtomicBool,
    /// Whether it is to look again whether its wait can ever end.
    has_to_look: AtomicBool,
    /// How many shields it stands behind. Changed by its own thread.
    shields: AtomicU32,
    /// Whether an exception may be thrown at it between two bytecodes.
    is_armed: Mutex<bool>,
}

/// What wakes a thread that sleeps somewhere else than in its parker.
pub(crate) type Rouse = Arc<dyn Fn() + Send + Sync>;

/// While it lives, an order wakes this thread by that, too.
pub(crate) struct Elsewhere(Option<Arc<Unit>>);

/// To be called before this thread looks for the last time whether it has [due orders](Unit::has_due_orders), and sleeps.
pub(crate) fn sleep_elsewhere(rouse: Rouse) -> Elsewhere {
    let me = me();
    if let Some(me) = &me {
        *me.elsewhere.lock() = Some(rouse);
    }
    Elsewhere(me)
}

impl Elsewhere {
    /// Whether the thread that sleeps was told something meanwhile.
    pub(crate) fn has_due_orders(&self) -> bool {
        self.0.as_ref().is_some_and(|me| me.has_due_orders())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(me) = &self.0 {
            let rouse = me.elsewhere.lock().take();
            drop(rouse);
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);
/// Threads enter and leave it whether they are attached or not.
static UNITS: OfProcess<Mutex<HashMap<UnitId, Arc<Unit>>>> = OfProcess::new(Mutex::default);

thread_local! {
    static ID: Cell<u64> = const { Cell::new(0) };
    static ME: RefCell<Option<Registered>> = const { RefCell::new(None) };
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unit").field("id", &self.id).field("ident", &self.ident).finish_non_exhaustive()
    }
}

struct Registered(Arc<Unit>);

impl Drop for Registered {
    fn drop(&mut self) {
        let gone = UNITS.get().lock().remove(&self.0.id);
        drop(gone);
        wait_graph::ended(self.0.id);
        lock_order::ended(self.0.id);
        self.0.over.set();
        wait_graph::let_somebody_look();
    }
}

/// `threading.get_ident()` of this thread.
pub(crate) fn current_ident() -> u64 {
    // SAFETY: reads the number of the calling thread.
    unsafe { ffi::PyThread_get_thread_ident() }
}

/// The number of this thread's unit.
#[inline]
pub(crate) fn my_id() -> UnitId {
    match ID.get() {
        0 => register(),
        id => UnitId(id),
    }
}

#[cold]
fn register() -> UnitId {
    let id = UnitId(NEXT.fetch_add(1, Relaxed));
    let unit = Arc::new(Unit {
        id,
        ident: current_ident(),
        native: rustix::thread::gettid().as_raw_nonzero().get(),
        over: Event::new(),
        waker: with_current(|parker| parker.unparker()),
        elsewhere: Mutex::new(None),
        has_orders: AtomicBool::new(false),
        orders: Mutex::new(None),
        is_busy: AtomicBool::new(false),
        has_to_look: AtomicBool::new(false),
        shields: AtomicU32::new(0),
        is_armed: Mutex::new(false),
    });
    ID.set(id.0);
    UNITS.get().lock().insert(id, unit.clone());
    // A thread that is ending has no place for it any more; it stays in the registry, and a number is never given twice.
    _ = ME.try_with(|me| *me.borrow_mut() = Some(Registered(unit)));
    id
}

/// This thread. `None`: it ends, and its local values are gone.
pub(crate) fn me() -> Option<Arc<Unit>> {
    my_id();
    ME.try_with(|me| me.borrow().as_ref().map(|registered| registered.0.clone())).ok().flatten()
}

/// The unit of a number.
pub(crate) fn find(id: UnitId) -> Option<Arc<Unit>> {
    UNITS.get().lock().get(&id).cloned()
}

/// All units.
pub(crate) fn all() -> Vec<Arc<Unit>> {
    UNITS.get().lock().values().cloned().collect()
}

/// How many there are.
pub(crate) fn count() -> usize {
    UNITS.get().lock().len()
}

/// To be called in a forked child.
pub(crate) fn forked() {
    let mine = ME.try_with(|me| me.borrow().as_ref().map(|registered| registered.0.clone())).ok().flatten();
    UNITS.renew();
    UNITS.get().lock().extend(mine.map(|unit| (unit.id, unit)));
}

impl Unit {
    /// Has the thread raise `error` in the wait that it is in, or in its next one. What stood there before is replaced.
    pub(crate) fn order(&self, error: Py<PyAny>) {
        let before = self.orders.lock().replace(error);
        self.has_orders.store(true, SeqCst);
        drop(before);
        self.waker.interrupt();
        let rouse = self.elsewhere.lock().clone();
        if let Some(rouse) = rouse {
            rouse();
        }
    }

    /// Has it look again whether the wait that it is in can ever end.
    pub(crate) fn let_look(&self) {
        self.has_to_look.store(true, SeqCst);
        self.waker.interrupt();
    }

    /// Whether it runs although it counts as waiting.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy.load(SeqCst)
    }

    /// Whether it has been told something that it will raise in its wait.
    pub(crate) fn has_due_orders(&self) -> bool {
        self.has_orders.load(SeqCst) && self.shields.load(Relaxed) == 0
    }

    /// Takes an order back that was not raised yet.
    pub(crate) fn recall(&self) -> Option<Py<PyAny>> {
        self.has_orders.store(false, SeqCst);
        self.orders.lock().take()
    }
}

/// Says whether this thread runs a handler in the middle of a wait. Returns what was said before.
pub(crate) fn set_busy(is_busy: bool) -> bool {
    ME.try_with(|me| me.borrow().as_ref().is_some_and(|me| me.0.is_busy.swap(is_busy, SeqCst))).unwrap_or(false)
}

/// Whether this thread was asked to look again whether its wait can end; asked once.
pub(crate) fn has_to_look() -> bool {
    ME.try_with(|me| me.borrow().as_ref().is_some_and(|me| me.0.has_to_look.swap(false, SeqCst))).unwrap_or(false)
}

/// Raises what this thread was ordered to raise. Nearly always nothing.
pub(crate) fn obey(py: Python<'_>) -> PyResult<()> {
    let ordered = ME.try_with(|me| me.borrow().as_ref().is_some_and(|me| me.0.has_due_orders())).unwrap_or(false);
    if !ordered {
        return Ok(());
    }
    match me().and_then(|me| me.recall()) {
        Some(error) => Err(PyErr::from_value(error.into_bound(py))),
        None => Ok(()),
    }
}

/// The number of this thread's unit, for Python.
#[pyfunction]
pub(crate) fn my_unit() -> u64 {
    my_id().0
}

/// Raises what this thread was ordered to raise, and what signal handlers raise.
#[pyfunction]
pub(crate) fn checkpoint(py: Python<'_>) -> PyResult<()> {
    py.check_signals()?;
    obey(py)
}

/// Has a unit raise `error` in its wait, its next wait, or its next checkpoint. `False`: there is no such unit.
#[pyfunction]
pub(crate) fn order(unit: u64, error: Py<PyAny>) -> bool {
    find(UnitId(unit)).map(|unit| unit.order(error)).is_some()
}

/// Takes such an order back. `False`: it was raised, or there was none.
#[pyfunction]
pub(crate) fn recall(unit: u64) -> bool {
    find(UnitId(unit)).and_then(|unit| unit.recall()).is_some()
}

/// Waits until a unit's thread has ended. `False`: the time was over first.
#[pyfunction]
pub(crate) fn join_unit(py: Python<'_>, unit: u64, timeout: Timeout) -> PyResult<bool> {
    let Some(unit) = find(UnitId(unit)) else { return Ok(true) };
    if timeout.is_over() {
        return Ok(unit.over.is_set());
    }
    let attempt = |before: Option<&Arc<Waiter>>| unit.over.wait(before);
    Ok(until_done(py, What::Unit(unit.id), timeout.deadline(), attempt, |waiter| _ = unit.over.leave(waiter))?
        .is_some())
}

/// Enters a shield of this thread.
#[pyfunction]
pub(crate) fn raise_shield() {
    if let Some(me) = me() {
        me.shields.fetch_add(1, Relaxed);
    }
}

/// Leaves it.
#[pyfunction]
pub(crate) fn lower_shield() {
    if let Some(me) = me() {
        me.shields.fetch_sub(1, Relaxed);
    }
}

/// Lets exceptions be thrown at this thread, by `throw`.
#[pyfunction]
pub(crate) fn arm() {
    if let Some(me) = me() {
        *me.is_armed.lock() = true;
    }
}

/// Lets nothing be thrown at this thread any more, and takes back what has not arrived.
#[pyfunction]
pub(crate) fn disarm() {
    if let Some(me) = me() {
        let mut is_armed = me.is_armed.lock();
        if std::mem::take(&mut *is_armed) {
            // SAFETY: attached; null takes back.
            unsafe { ffi::PyThreadState_SetAsyncExc(me.ident as c_long, std::ptr::null_mut()) };
        }
    }
}

/// Throws an exception, given as a class, at an armed unit: it is raised between two bytecodes. `False`: it is not armed.
#[pyfunction]
pub(crate) fn throw(unit: u64, class_: &Bound<'_, PyType>) -> bool {
    let Some(unit) = find(UnitId(unit)) else { return false };
    let is_armed = unit.is_armed.lock();
    // SAFETY: attached; a live class, of which the thread state takes a reference of its own.
    *is_armed && unsafe { ffi::PyThreadState_SetAsyncExc(unit.ident as c_long, class_.as_ptr()) } == 1
}

/// Interrupts this thread once more, by an exception of the class of this one: it is raised at the next bytecode at which that can be.
pub(crate) fn interrupt_me(py: Python<'_>, error: &PyErr) {
    // SAFETY: attached; a live class, of which the thread state takes a reference of its own.
    unsafe { ffi::PyThreadState_SetAsyncExc(current_ident() as c_long, error.get_type(py).as_ptr()) };
}

/// `(number, ident, native id)` of every unit of this process.
#[pyfunction]
pub(crate) fn list_units() -> Vec<(u64, u64, i32)> {
    all().iter().map(|unit| (unit.id.0, unit.ident, unit.native)).collect()
}
