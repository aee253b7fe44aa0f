//! Who waits for whom in this process, and what is done about a circle.
//!
//! The graph itself is `raddle_core::park::Graph`. Here are the things of Python that threads wait for, who is "everybody", and the
//! way to `raddle._deadlock`, which says what was found. Whoever begins a wait looks; and one of those who sleep when another thread has
//! ended, because that one may have been the last who could have ended their waits.
//!
//! Who waits for a call of a pool looks when it has slept for a [moment](MOMENT): nearly all such waits are over by then, and pay nothing.
//! In between it counts as running, so a circle is found by whoever enters its edge last, as any other.
//!
//! # Everybody
//!
//! A wait that anyone could end (an event, a queue) is hopeless when everybody waits like that. Everybody is every thread with a
//! thread state, except idle ones of our own; in a free-threaded build every thread there is. There may be other help: a thread that is no unit, a native thread that may call into
//! Python, a signal handler, the callbacks of a process pool. When one of these cannot be excluded, nothing is claimed.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use raddle_core::life::UnitId;
use raddle_core::park::{Circle, Edge, Enders, Graph, Sight, Thing, Waiter};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, Ordering::SeqCst};
use raddle_proc::lane::Waited;

use crate::gate;
use crate::of_process::OfProcess;
use crate::sync::Holding;
use crate::thread_lane::Work;
use crate::unit::{self, Unit};

/// Something that units hold, or do, and alone can let go of, or end.
pub(crate) trait Held: Send + Sync {
    /// Who could end the wait, at this moment.
    fn enders(&self) -> Enders;
    /// What it is, such as "an RwLock".
    fn kind(&self) -> &'static str;
    /// What tells it from others of its kind.
    fn address(&self) -> usize;
    /// Who holds it, or runs it; one of them, if there are several. None: nobody is to be named.
    fn holder(&self) -> Option<UnitId> {
        None
    }
    /// Whether it has come, for what is seen to come without calling a waiter.
    fn has_come(&self) -> bool {
        false
    }
    /// The thread pool whose calls alone it is about.
    fn pool(&self) -> Option<Arc<Work>> {
        None
    }
}

/// What a thread waits for.
#[derive(Clone)]
pub(crate) enum What {
    /// A lock.
    Lock(Arc<Holding>),
    /// Something that nobody but its holders can release, or a call that nobody else can end.
    Held(Arc<dyn Held>),
    /// The end of another thread.
    Unit(UnitId),
    /// Something that anyone could bring: what kind of thing, and its address.
    Any(&'static str, usize),
    /// Something that another process could bring: the same.
    Outside(&'static str, usize),
}

/// A wait: what for, and where the thread will be called.
#[derive(Clone)]
pub(crate) struct Wait {
    pub(crate) what: What,
    waiter: Arc<Waiter>,
    unit: Option<Arc<Unit>>,
    /// Whether it was told of as part of a circle.
    is_told: Arc<AtomicBool>,
}

impl Thing for Wait {
    fn has_come(&self) -> bool {
        // Told to stop, it comes out of its sleep just as well.
        self.waiter.is_called()
            || self.unit.as_ref().is_some_and(|unit| unit.is_busy() || unit.has_due_orders())
            || matches!(&self.what, What::Held(held) if held.has_come())
    }

    fn enders(&self) -> Enders {
        match &self.what {
            What::Lock(holding) => holding.enders(),
            What::Held(held) => held.enders(),
            What::Unit(unit) => Enders::Only(vec![*unit]),
            What::Any(..) => Enders::Anyone,
            What::Outside(..) => Enders::Outside,
        }
    }
}

/// Threads enter it and leave it whether they are attached or not.
static GRAPH: OfProcess<Graph<Wait>> = OfProcess::new(Graph::default);

/// Held by attached threads, for a few instructions: a fork finds it free.
static TELLING: Mutex<()> = Mutex::new(());

/// Not to be kept across a wait: a signal's handler may fork there.
fn graph() -> &'static Graph<Wait> {
    GRAPH.get()
}

/// To be called in a forked child.
pub(crate) fn forked() {
    GRAPH.renew();
}

/// To be called when a unit has ended.
pub(crate) fn ended(unit: UnitId) {
    graph().leave(unit, None);
}

/// Asks one of those who sleep to look again, if all units do.
pub(crate) fn let_somebody_look() {
    if let (sleepers, Some(one)) = graph().sleepers()
        && sleepers >= unit::count()
        && let Some(one) = unit::find(one)
    {
        one.let_look();
    }
}

/// While it lives, this thread counts as waiting.
pub(crate) struct Waiting {
    unit: UnitId,
    /// Of a wait in which a signal's handler runs, which waits now.
    around: Option<Edge<Wait>>,
    was_busy: bool,
    has_deadline: bool,
    /// Whether the error is this thread's, if there is a circle and another one could have it.
    may_raise: bool,
    /// When it looks again who is left: a thread that ends is there for a moment after it has gone, and while it is, nothing is known.
    next_look: Option<Instant>,
    pause: Duration,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        graph().leave(self.unit, self.around.take());
        unit::set_busy(self.was_busy);
    }
}

/// To be called by a thread that stands in line, before it sleeps. If the wait closes a circle, that is reported, or raised.
pub(crate) fn enter(py: Python<'_>, what: What, waiter: &Arc<Waiter>, deadline: Option<Instant>) -> PyResult<Waiting> {
    let (mut waiting, sight) = enter_quietly(what, waiter, deadline, true);
    waiting.judge(py, sight)?;
    Ok(waiting)
}

/// The same for a thread that must have what it waits for, such as the lock of a condition: another one of the circle raises instead,
/// if there is another.
pub(crate) fn enter_surely(py: Python<'_>, what: What, waiter: &Arc<Waiter>) -> PyResult<Waiting> {
    let (mut waiting, sight) = enter_quietly(what, waiter, None, false);
    waiting.judge(py, sight)?;
    Ok(waiting)
}

/// The same for a thread that is not attached. What it sees is to be judged.
fn enter_quietly(
    what: What,
    waiter: &Arc<Waiter>,
    deadline: Option<Instant>,
    may_raise: bool,
) -> (Waiting, Sight<Wait>) {
    let (unit, has_deadline) = (unit::my_id(), deadline.is_some());
    let edge = Edge {
        thing: Wait { what, waiter: waiter.clone(), unit: unit::me(), is_told: Arc::new(AtomicBool::new(false)) },
        has_deadline,
        since: Instant::now(),
    };
    let was_busy = unit::set_busy(false);
    let (around, sight) = graph().enter(unit, edge);
    (Waiting { unit, around, was_busy, has_deadline, may_raise, next_look: None, pause: FIRST_PAUSE }, sight)
}

/// How long it takes until one looks again who is left, at first and at last; each time four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How long a thread sleeps for a call before it enters its edge.
const MOMENT: Duration = Duration::from_millis(2);

/// Sleeps until something has come that calls no waiter; `sleep` is that of [`gate::wait`]. `false`: the deadline has passed. An error: a
/// signal's handler or an order has raised, or the wait would never end.
pub(crate) fn until_come(
    py: Python<'_>,
    held: Arc<dyn Held>,
    deadline: Option<Instant>,
    sleep: impl Fn(Option<Instant>) -> Waited + Send + Sync,
) -> PyResult<bool> {
    let mut entered = OnceLock::new();
    loop {
        let is_asked = AtomicBool::new(false);
        let look = || {
            is_asked.store(true, SeqCst);
            Waited::Done
        };
        // The edge is entered without coming back into Python, which may take long.
        let doze = |until: Option<Instant>| {
            let moment = Instant::now().checked_add(MOMENT).filter(|moment| until.is_none_or(|until| *moment < until));
            if entered.get().is_none() && moment.is_some() {
                match sleep(moment) {
                    Waited::TimedOut => {}
                    waited => return waited,
                }
                let (waiting, sight) = enter_quietly(What::Held(held.clone()), &Waiter::new(), deadline, true);
                entered.get_or_init(|| waiting);
                if !matches!(sight, Sight::Hope) {
                    return look();
                }
            }
            match sleep(until) {
                Waited::Interrupted if entered.get().is_some() && unit::has_to_look() => look(),
                waited => waited,
            }
        };
        let until = entered.get().map_or(deadline, |waiting: &Waiting| waiting.until(deadline));
        let has_come = gate::wait(py, until, doze)?;
        let is_asked = is_asked.into_inner();
        match entered.get_mut() {
            Some(waiting) if is_asked || waiting.is_look(has_come) => waiting.look_again(py)?,
            _ => return Ok(has_come),
        }
    }
}

impl Waiting {
    /// Sleeps, as [`gate::wait`] does, and looks again when it is time or somebody asks for it.
    pub(crate) fn sleep(
        &mut self,
        py: Python<'_>,
        deadline: Option<Instant>,
        sleep: impl Fn(Option<Instant>) -> Waited + Send + Sync,
    ) -> PyResult<bool> {
        loop {
            let is_asked = AtomicBool::new(false);
            let doze = |until| match sleep(until) {
                Waited::Interrupted if unit::has_to_look() => {
                    is_asked.store(true, SeqCst);
                    Waited::Done
                }
                waited => waited,
            };
            let has_come = gate::wait(py, self.until(deadline), doze)?;
            if !is_asked.into_inner() && !self.is_look(has_come) {
                return Ok(has_come);
            }
            self.look_again(py)?;
        }
    }

    /// Until when to sleep, with this deadline.
    fn until(&self, deadline: Option<Instant>) -> Option<Instant> {
        [deadline, self.next_look].into_iter().flatten().min()
    }

    /// Whether the sleep has ended because it is time to look again.
    fn is_look(&self, has_come: bool) -> bool {
        !has_come && self.next_look.is_some_and(|at| at <= Instant::now())
    }

    fn look_again(&mut self, py: Python<'_>) -> PyResult<()> {
        py.check_signals()?;
        let sight = if self.has_deadline { Sight::Hope } else { graph().look_around(self.unit) };
        self.judge(py, sight)
    }

    /// Sees to what was seen. If all units sleep, and it cannot be known yet whether there is anybody else, it looks again in a while.
    fn judge(&mut self, py: Python<'_>, sight: Sight<Wait>) -> PyResult<()> {
        let is_known = self.act(py, sight)?;
        self.next_look =
            if is_known || self.pause > LAST_PAUSE { None } else { Instant::now().checked_add(self.pause) };
        self.pause = if self.next_look.is_some() { self.pause * 4 } else { FIRST_PAUSE };
        Ok(())
    }

    /// Reports a circle, or raises it. `false`: all units sleep, and it cannot be known yet whether there is anybody else.
    fn act(&self, py: Python<'_>, sight: Sight<Wait>) -> PyResult<bool> {
        let sight = match sight {
            Sight::WhoElse(sleepers) => match everybody(py, sleepers) {
                Who::These(everybody) => graph().look(self.unit, &everybody),
                Who::Others => return Ok(true),
                Who::Perhaps => return Ok(false),
            },
            sight => sight,
        };
        let Sight::Circle(circle) = sight else { return Ok(true) };
        // Of a wait that takes all of its enders each of them closes a circle of its own; the first one has told the story.
        let is_old = |wait: &Wait| wait.is_told.load(SeqCst) && matches!(wait.enders(), Enders::All(_));
        if circle.units.iter().any(|(_, wait)| is_old(wait)) {
            return Ok(true);
        }
        // Without a GIL others may have found it at the same moment: who is first tells.
        let is_news = {
            let _turn = TELLING.lock();
            circle.units.iter().filter(|(_, wait)| !wait.is_told.swap(true, SeqCst)).count() > 0
        };
        if !is_news {
            return Ok(true);
        }
        // What is called may take long, and let others out of the circle.
        let was_busy = unit::set_busy(true);
        let error = match tell(py, &circle) {
            Ok(Some(error)) => error,
            told => {
                unit::set_busy(was_busy);
                return told.map(|_| true);
            }
        };
        if let Some(other) = circle.units.get(1).filter(|_| !self.may_raise).and_then(|(other, _)| unit::find(*other)) {
            other.order(error.unbind());
            unit::set_busy(was_busy);
            return Ok(true);
        }
        // It stays busy until its edge is taken out. If the others are a circle without it, that is another one.
        circle.units.iter().for_each(|(_, wait)| wait.is_told.store(false, SeqCst));
        // What it interrupts, such as the exception with which a block is left, is told with it, as if it were raised by Python code.
        let handled = py.import("sys")?.call_method0("exc_info")?.get_item(1)?;
        if !handled.is_none() && !handled.is(&error) {
            error.setattr("__context__", handled)?;
        }
        Err(PyErr::from_value(error))
    }
}

/// What a unit waits for, as `describe` says it, with `seconds` and `has_deadline`; `None`: it runs.
#[pyfunction]
pub(crate) fn wait_of(py: Python<'_>, unit: u64) -> PyResult<Option<Bound<'_, PyDict>>> {
    let Some(edge) = graph().edge_of(UnitId(unit)).filter(|edge| !edge.thing.has_come()) else { return Ok(None) };
    let fields = describe(py, UnitId(unit), &edge.thing.what)?;
    fields.set_item("seconds", edge.since.elapsed().as_secs_f64())?;
    fields.set_item("has_deadline", edge.has_deadline)?;
    Ok(Some(fields))
}

/// Who could end a wait that anyone could end.
enum Who {
    /// These, who all are units.
    These(Vec<UnitId>),
    /// Somebody who does not sleep, or of whom nothing is known.
    Others,
    /// There is a thread without a thread state: a native one that may be about to call into Python, or one that has just ended.
    Perhaps,
}

/// Every thread that could end a wait, if that can be known.
fn everybody(py: Python<'_>, sleepers: usize) -> Who {
    // From the cheap to the dear: mostly somebody known runs.
    if unit::count() > sleepers {
        return Who::Others;
    }
    if cfg!(Py_GIL_DISABLED) { everybody_asleep(py) } else { everybody_detached(py) }
}

/// The same with a GIL. No bytecode runs in here, so nothing changes from the first look at the graph to the last: a circle has one finder.
fn everybody_detached(py: Python<'_>) -> Who {
    let units = unit::all();
    let idents: HashSet<u64> = units.iter().map(|unit| unit.ident).collect();
    let states = thread_states();
    let idle = gate::residents().iter().filter(|ident| !idents.contains(ident)).count();
    if states != units.len() + idle || is_help_possible(py).unwrap_or(true) {
        return Who::Others;
    }
    match tasks() {
        None => Who::Others,
        Some(tasks) if tasks == states => Who::These(units.iter().map(|unit| unit.id).collect()),
        Some(_) => Who::Perhaps,
    }
}

/// The same in a free-threaded build, where others run while we look, whether its GIL is on or not: one that is on may be so for the import
/// of one module.
///
/// The threads are counted between two looks at the units. If each of them sleeps at the same place both times, it has slept in between, and
/// if there were as many threads, there was no other one; so none has been started since, and nothing changes any more.
fn everybody_asleep(py: Python<'_>) -> Who {
    let units = unit::all();
    let Some(before) = beds(&units) else { return Who::Others };
    if !gate::residents().is_empty() || is_help_possible(py).unwrap_or(true) {
        return Who::Others;
    }
    let Some(tasks) = tasks() else { return Who::Others };
    let stayed = |after: Vec<Arc<Waiter>>| before.iter().zip(&after).all(|(one, other)| Arc::ptr_eq(one, other));
    if !beds(&units).is_some_and(stayed) {
        return Who::Others;
    }
    if tasks == units.len() { Who::These(units.iter().map(|unit| unit.id).collect()) } else { Who::Perhaps }
}

/// Where each of these sleeps. `None`: one of them does not, or not for ever.
fn beds(units: &[Arc<Unit>]) -> Option<Vec<Arc<Waiter>>> {
    let bed = |unit: &Arc<Unit>| {
        let edge = graph().edge_of(unit.id).filter(|edge| !edge.has_deadline && !edge.thing.has_come())?;
        Some(edge.thing.waiter.clone())
    };
    units.iter().map(bed).collect()
}

/// How many threads this process has.
fn tasks() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Whether something other than a thread could end a wait: a handler of signals, or a process pool that calls back. Only C code runs.
fn is_help_possible(py: Python<'_>) -> PyResult<bool> {
    type Known = (Py<PyAny>, Py<PyAny>, Py<PyAny>);
    static ASKED: PyOnceLock<Known> = PyOnceLock::new();
    let (getsignal, interrupt, live) = ASKED.get_or_try_init(py, || -> PyResult<_> {
        let signal = py.import("_signal")?;
        let live = py.import("raddle._exit")?.getattr("_live")?;
        Ok((signal.getattr("getsignal")?.unbind(), signal.getattr("default_int_handler")?.unbind(), live.unbind()))
    })?;
    for ending in live.bind(py).try_iter()? {
        if ending?.getattr("calls_back")?.is_truthy()? {
            return Ok(true);
        }
    }
    for number in 1..SIGNALS {
        let handler = getsignal.bind(py).call1((number,))?;
        if handler.is_callable() && !handler.is(interrupt) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One more than the greatest number of a signal.
const SIGNALS: u32 = 65;

/// How many thread states the interpreter has.
fn thread_states() -> usize {
    // SAFETY: attached, and there is a GIL (`everybody` asks nowhere else): the list does not change while we walk it, and its members live.
    unsafe {
        let mut state = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
        let mut count = 0;
        while !state.is_null() {
            count += 1;
            state = ffi::PyThreadState_Next(state);
        }
        count
    }
}

#[cold]
fn tell<'py>(py: Python<'py>, circle: &Circle<Wait>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let units = PyList::empty(py);
    for (unit, wait) in &circle.units {
        units.append(describe(py, *unit, &wait.what)?)?;
    }
    let error =
        py.import("raddle._deadlock")?.call_method1("found", (units, circle.is_everybody, is_exhaustion(circle)))?;
    Ok(Some(error).filter(|error| !error.is_none()))
}

/// Whether all of them are threads of one pool and wait for calls of it.
fn is_exhaustion(circle: &Circle<Wait>) -> bool {
    let pool_of = |wait: &Wait| match &wait.what {
        What::Held(held) => held.pool(),
        _ => None,
    };
    let mut waits = circle.units.iter().map(|(_, wait)| pool_of(wait));
    let Some(pool) = waits.next().flatten() else { return false };
    waits.all(|other| other.is_some_and(|other| Arc::ptr_eq(&other, &pool)))
        && pool.all_hands().is_some_and(|hands| circle.units.iter().all(|(unit, _)| hands.contains(unit)))
}

/// `{ident, native, kind, address, holder}` of one wait.
pub(crate) fn describe<'py>(py: Python<'py>, unit: UnitId, what: &What) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    let known = unit::find(unit);
    fields.set_item("ident", known.as_ref().map(|unit| unit.ident))?;
    fields.set_item("native", known.as_ref().map(|unit| unit.native))?;
    let ident_of = |unit: UnitId| unit::find(unit).map(|unit| unit.ident);
    match what {
        What::Lock(holding) => {
            fields.set_item("kind", holding.kind())?;
            fields.set_item("address", holding.object(py)?.unwrap_or_else(|| Arc::as_ptr(holding).addr()))?;
            fields.set_item("holder", holding.owner().and_then(ident_of))?;
        }
        What::Held(held) => {
            fields.set_item("kind", held.kind())?;
            fields.set_item("address", held.address())?;
            fields.set_item("holder", held.holder().and_then(ident_of))?;
        }
        What::Unit(other) => {
            fields.set_item("kind", "thread")?;
            fields.set_item("address", 0)?;
            fields.set_item("holder", ident_of(*other))?;
        }
        What::Any(kind, address) | What::Outside(kind, address) => {
            fields.set_item("kind", *kind)?;
            fields.set_item("address", *address)?;
        }
    }
    Ok(fields)
}
