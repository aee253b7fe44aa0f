//! The future: one call's life, its outcome, and who waits for it.
//!
//! It *is* a `concurrent.futures.Future` (the Python class `raddle.futures.Future` inherits from both), but it pays for a
//! `Condition`, a list of waiters and a dictionary only when somebody asks for them.
//!
//! # Parts
//!
//! * `life`: the state word of `raddle-core`. Whoever makes the step into `Done` owns the outcome.
//! * `inner`, under a lock: outcome, callbacks, sleeping threads, and the standard library's condition and waiters.
//! * `home`: the lane that the call was given to, if any.
//!
//! # Rules
//!
//! 1. The outcome is stored under the lock, before the step into `Done`, which is made under the same lock.
//! 2. No Python code runs under the lock: objects are made before, and dropped after it.
//! 3. A future without a condition and without callbacks is never *watched*: whoever finishes it owes nobody but the
//!    sleeping threads anything, and needs no interpreter for that.
//! 4. A watched future is done for Python (`done()`, `_state`) when it has been *told*: under its condition, if it has one,
//!    so that the standard library's `wait` and `as_completed`, which hold it, see each end exactly once. The step `Told`
//!    is made under `inner` together with taking the callbacks, so that none is added in between.
//! 5. Results of a process lane are kept as bytes until somebody asks; decoding may run any code, so it happens
//!    outside of the lock, and the first to store a decoded outcome wins.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use raddle_core::life::{AtomicState, Event, Next, Outcome, Phase, State};
use raddle_core::park::{self, Unparker, Wake};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicU32, Ordering::Relaxed};
use raddle_core::sched::Rank;
use raddle_proc::lane::{Cause, Place, Reply, Ticket, Waited, flag, kind};
use raddle_shm::heap::Lease;

use crate::awaited;
use crate::crew::Key;
use crate::errors;
use crate::gate::{self, Timeout};
use crate::piece::Piece;
use crate::process_lane::Shared;
use crate::reply::name_of;
use crate::runtime;
use crate::thread_lane::Work;
use crate::trace::{Fate, Traced};
use crate::wait_graph;
use crate::watch_set::Ready;

/// The lane that a future's call was given to.
pub(crate) enum Home {
    Thread(Arc<Work>),
    Process(Arc<Shared>),
}

/// A thread that wants to know of the end.
pub(crate) enum Sleeper {
    /// It sleeps for this future alone.
    Thread(Unparker),
    /// It sleeps for one of several; this one has the number.
    Set(Arc<Ready>, usize),
}

impl Sleeper {
    fn wake(self) {
        match self {
            Self::Thread(unparker) => unparker.unpark(),
            Self::Set(ready, number) => ready.add(number),
        }
    }
}

#[derive(Default)]
enum Value {
    #[default]
    None,
    Returned(Py<PyAny>),
    Raised(Py<PyAny>),
    /// Not decoded yet (rule 5).
    Reply(Reply),
}

#[derive(Default)]
struct Inner {
    value: Value,
    callbacks: Vec<Py<PyAny>>,
    condition: Option<Py<PyAny>>,
    waiters: Option<Py<PyList>>,
    sleepers: Vec<Sleeper>,
    /// Cancelled, and those who wait have heard of it (`CANCELLED_AND_NOTIFIED`).
    notified: bool,
    /// What was called, for messages: a function, or a name.
    label: Option<Py<PyAny>>,
}

/// What few calls have: batches, and those whose arguments lie in shared memory.
#[derive(Default)]
struct Extras {
    /// How many items a batch has; 0 for a call of its own.
    items: u32,
    /// The items of a batch, for the case that it is stopped.
    batch: Option<Py<PyList>>,
    /// The memory that the arguments lie in.
    leases: Mutex<Vec<Lease>>,
    terms: Terms,
    /// How often the call was begun and lost with its worker.
    attempts: AtomicU32,
    /// What is written down of it.
    trace: Option<Box<Traced>>,
}

/// What was agreed upon for a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    /// How long it may run.
    pub(crate) limit: Option<Duration>,
    /// How often it may run again after its worker has died.
    pub(crate) retries: u32,
    /// How urgent it is.
    pub(crate) rank: Rank,
}

/// The native part of `raddle.futures.Future`.
#[pyclass(subclass, frozen, weakref, module = "raddle._raddle")]
#[derive(Default)]
pub(crate) struct FutureCore {
    life: AtomicState,
    place: Place,
    home: OnceLock<Home>,
    /// What few calls have.
    extras: OnceLock<Box<Extras>>,
    inner: Mutex<Inner>,
}

/// What the end of a future owes to others, to be done outside of its lock.
#[must_use]
struct Owed {
    announce: bool,
    sleepers: Vec<Sleeper>,
}

impl Owed {
    fn wake(self) -> bool {
        self.sleepers.into_iter().for_each(Sleeper::wake);
        self.announce
    }
}

impl FutureCore {
    pub(crate) fn life(&self) -> State {
        self.life.load()
    }

    /// Whether it was cancelled.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.life.load().outcome() == Some(Outcome::Stopped)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.life.load().outcome().is_some()
    }

    pub(crate) fn settle_at(&self, home: Home, label: Option<Py<PyAny>>) {
        let fresh = self.home.set(home).is_ok();
        debug_assert!(fresh, "a future is given to one lane");
        self.inner.lock().label = label;
    }

    /// Makes it the future of a batch: its value is a list of results and, if an item raised, the exception.
    ///
    /// `batch`: its items, for the case that it is stopped.
    pub(crate) fn make_batch(&self, items: usize, batch: Option<Py<PyList>>, trace: Option<Box<Traced>>) {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        self.equip(Extras { items, batch, trace, ..Extras::default() });
    }

    /// Names the memory that the arguments of the call lie in, and what was agreed upon for it.
    pub(crate) fn agree(&self, leases: Vec<Lease>, terms: Terms, trace: Option<Box<Traced>>) {
        if !leases.is_empty() || terms != Terms::default() || trace.is_some() {
            self.equip(Extras { leases: Mutex::new(leases), terms, trace, ..Extras::default() });
        }
    }

    /// What was called.
    pub(crate) fn name(&self, py: Python<'_>) -> String {
        let label = self.inner.lock().label.as_ref().map(|label| label.clone_ref(py));
        label.and_then(|label| name_of(label.bind(py))).unwrap_or_default()
    }

    /// What is written down of it, if anything is.
    pub(crate) fn trace(&self) -> Option<&Traced> {
        self.extras.get()?.trace.as_deref()
    }

    /// How often the call was begun and lost with its worker.
    fn attempts(&self) -> u32 {
        self.extras.get().map_or(0, |extras| extras.attempts.load(Relaxed))
    }

    fn equip(&self, extras: Extras) {
        let fresh = self.extras.set(Box::new(extras)).is_ok();
        debug_assert!(fresh, "a call is equipped once, before it is handed in");
    }

    pub(crate) fn home(&self) -> Option<&Home> {
        self.home.get()
    }

    /// By which a thread of a pool says that it runs its call.
    pub(crate) fn key(&self) -> Key {
        (std::ptr::from_ref(self).addr(), 0)
    }

    /// Whether its call was given to a lane of the process that this one is a fork of: whatever comes of it comes there.
    pub(crate) fn is_foreign(&self) -> bool {
        match self.home() {
            Some(Home::Process(shared)) => shared.is_foreign(),
            Some(Home::Thread(work)) => work.is_foreign(),
            None => false,
        }
    }

    /// Takes the step from new to running. False if it was cancelled before.
    pub(crate) fn start(&self) -> bool {
        self.life.step(Event::Start).is_ok()
    }

    /// Ends the life with an outcome (rule 1). None, and the value back, if it is over already.
    fn end(&self, value: Value, outcome: Outcome) -> Result<Owed, Value> {
        let mut inner = self.inner.lock();
        if self.is_over() {
            drop(inner);
            return Err(value);
        }
        let old = std::mem::replace(&mut inner.value, value);
        inner.notified |= outcome == Outcome::Stopped; // nobody else comes to notice that it was cancelled
        let stepped = self.life.step(Event::Finish(outcome));
        let owed = self.owed(&mut inner, stepped.ok().map(|(_, next)| next));
        drop(inner);
        drop(old);
        Ok(owed)
    }

    fn owed(&self, inner: &mut Inner, next: Option<Next>) -> Owed {
        let next = next.expect("nobody else ends a life while we hold the lock and it is not over");
        Owed { announce: next.announce, sleepers: std::mem::take(&mut inner.sleepers) }
    }

    /// Ends a call that ran here. Those who sleep for it are returned instead of woken, so that the caller can choose
    /// the moment.
    pub(crate) fn finish(slf: &Bound<'_, Self>, result: Result<Py<PyAny>, PyErr>) -> PyResult<Vec<Sleeper>> {
        let (value, outcome) = match result {
            Ok(value) => (Value::Returned(value), Outcome::Returned),
            Err(error) => (Value::Raised(error.into_value(slf.py()).into_any()), Outcome::Raised),
        };
        match slf.get().end(value, outcome) {
            Ok(owed) if owed.announce => {
                owed.wake();
                Self::announce(slf)?;
                Ok(Vec::new())
            }
            Ok(owed) => Ok(owed.sleepers),
            Err(_) => Ok(Vec::new()), // the user ended it with set_result from inside; hers stands
        }
    }

    pub(crate) fn wake(sleepers: Vec<Sleeper>) {
        sleepers.into_iter().for_each(Sleeper::wake);
    }

    /// Ends a future from Python and tells everybody.
    fn end_here(slf: &Bound<'_, Self>, value: Value, outcome: Outcome) -> PyResult<()> {
        match slf.get().end(value, outcome) {
            Ok(owed) => {
                let announce = owed.wake();
                slf.get().nudge();
                if announce { Self::announce(slf) } else { Ok(()) }
            }
            Err(_) => {
                let state = slf.get().state_name(slf.py());
                Err(errors::invalid_state(slf.py(), format!("{state}: {}", slf.repr()?)))
            }
        }
    }

    /// A leader that sleeps at its lane's bell does not hear an unpark.
    fn nudge(&self) {
        if let Some(Home::Process(shared)) = self.home()
            && !shared.is_foreign()
        {
            shared.lane.nudge();
        }
    }

    /// Tells everybody who wants to know (rule 4). Whoever comes second finds nothing to do.
    pub(crate) fn announce(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let condition = this.inner.lock().condition.as_ref().map(|condition| condition.clone_ref(py));
        let callbacks = match condition {
            None => match this.tell() {
                Some(callbacks) => callbacks,
                None => return Ok(()),
            },
            Some(condition) => {
                let condition = condition.bind(py);
                condition.call_method0("acquire")?;
                let told = this.tell();
                let notified = if told.is_some() { this.notify(slf, condition) } else { Ok(()) };
                condition.call_method0("release")?;
                notified?;
                match told {
                    Some(callbacks) => callbacks,
                    None => return Ok(()),
                }
            }
        };
        for callback in callbacks {
            call_back(slf, callback.bind(py))?;
        }
        Ok(())
    }

    /// The step `Told`, together with taking the callbacks.
    fn tell(&self) -> Option<Vec<Py<PyAny>>> {
        let mut inner = self.inner.lock();
        let (_, next) = self.life.step(Event::Told).ok()?;
        let callbacks = std::mem::take(&mut inner.callbacks);
        drop(inner);
        let _ = next.wake; // who sleeps here was woken by the end itself, see `Owed`
        Some(callbacks)
    }

    /// Under the condition: tells the standard library's waiters.
    fn notify(&self, slf: &Bound<'_, Self>, condition: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (waiters, notified) = {
            let inner = self.inner.lock();
            (inner.waiters.as_ref().map(|list| list.clone_ref(py)), inner.notified)
        };
        let method = match self.life().outcome() {
            Some(Outcome::Stopped) if notified => Some("add_cancelled"),
            Some(Outcome::Stopped) | None => None,
            Some(Outcome::Returned) => Some("add_result"),
            Some(Outcome::Raised | Outcome::Killed) => Some("add_exception"),
        };
        if let (Some(waiters), Some(method)) = (waiters, method) {
            for waiter in waiters.bind(py).iter() {
                waiter.call_method1(method, (slf,))?;
            }
        }
        condition.call_method0("notify_all")?;
        Ok(())
    }

    /// From now on somebody must be told of the end. False if it has come and been told already.
    fn watch(&self, change: impl FnOnce(&mut Inner)) -> bool {
        let mut inner = self.inner.lock();
        let told = self.life().told;
        if !told {
            let _ = self.life.step(Event::Watch); // never refused
        }
        change(&mut inner);
        !told
    }

    fn keep_watch(slf: &Bound<'_, Self>) {
        if let Some(Home::Process(shared)) = slf.get().home()
            && !shared.is_foreign()
        {
            shared.lane.watch(&Handle::Future(slf.clone().unbind()));
        }
    }

    /// Adds a sleeper, unless it would never be woken. A future that was cancelled ends for the set it is in when
    /// an executor has noticed, as in the standard library.
    pub(crate) fn add_sleeper(&self, sleeper: impl FnOnce() -> Sleeper) -> bool {
        let mut inner = self.inner.lock();
        let unnoticed = self.life().outcome() == Some(Outcome::Stopped) && !inner.notified;
        let sleeper = sleeper();
        if self.is_over() && !(unnoticed && matches!(sleeper, Sleeper::Set(..))) {
            return false;
        }
        let _ = self.life.step(Event::Wait); // never refused
        inner.sleepers.push(sleeper);
        true
    }

    /// Whether the life is over and somebody has still to be told.
    pub(crate) fn owes_telling(&self) -> bool {
        let state = self.life();
        state.outcome().is_some() && !state.told
    }

    pub(crate) fn remove_sleepers(&self, is_mine: impl Fn(&Sleeper) -> bool) {
        self.inner.lock().sleepers.retain(|sleeper| !is_mine(sleeper));
    }

    /// Makes sure that a call in a process lane is looked after although this thread sleeps elsewhere.
    pub(crate) fn have_kept(slf: &Bound<'_, Self>) {
        slf.get().watch(|_| ());
        Self::keep_watch(slf);
    }

    /// Waits for the end. False if the deadline came first.
    fn wait(slf: &Bound<'_, Self>, timeout: Timeout) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if !this.is_over() {
            if this.is_foreign() {
                return Err(runtime::foreign());
            }
            let deadline = timeout.deadline();
            let me = park::with_current(park::Parker::unparker);
            if this.add_sleeper(|| Sleeper::Thread(me.clone())) {
                let waited = this.sleep(py, slf, deadline);
                if !matches!(waited, Ok(true)) {
                    this.remove_sleepers(|sleeper| matches!(sleeper, Sleeper::Thread(other) if other.same_as(&me)));
                }
                if let Some(Home::Process(shared)) = this.home() {
                    drop(shared.lane.spent());
                }
                if !waited? && !this.is_over() {
                    return Ok(false);
                }
            }
        }
        if let Some(Home::Process(shared)) = this.home() {
            shared.show_words(py)?; // what was printed during the call comes before what follows it
        }
        if this.owes_telling() {
            Self::announce(slf)?;
        }
        // Whoever ends a future by hand, `_state` first, does it under the condition.
        let condition = this.inner.lock().condition.as_ref().map(|condition| condition.clone_ref(py));
        if let Some(condition) = condition {
            condition.call_method0(py, "acquire")?;
            condition.call_method0(py, "release")?;
        }
        Ok(true)
    }

    fn sleep(&self, py: Python<'_>, slf: &Bound<'_, Self>, deadline: Option<Instant>) -> PyResult<bool> {
        match self.home() {
            Some(Home::Process(shared)) => {
                let ticket = Handle::Future(slf.clone().unbind());
                gate::wait(py, deadline, |until| shared.lane.wait(&ticket, until))
            }
            _ => {
                let outcome = Arc::new(awaited::Outcome(slf.clone().unbind()));
                wait_graph::until_come(py, outcome, deadline, |until| sleep_until(&|| self.is_over(), until))
            }
        }
    }

    /// The outcome, decoded: a value, or an exception.
    fn outcome(slf: &Bound<'_, Self>) -> PyResult<Result<Py<PyAny>, Py<PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let (reply, label) = {
            let inner = this.inner.lock();
            match &inner.value {
                Value::Returned(value) => return Ok(Ok(value.clone_ref(py))),
                Value::Raised(error) => return Ok(Err(error.clone_ref(py))),
                Value::None => return Ok(Ok(py.None())),
                Value::Reply(reply) => (reply.clone(), inner.label.as_ref().map(|label| label.clone_ref(py))),
            }
        };
        let Some(Home::Process(shared)) = this.home() else {
            return Err(PyRuntimeError::new_err("a reply without a process lane"));
        };
        let decoded = match shared.decode(
            py,
            &reply,
            (this.batch_size(), this.attempts()),
            label.as_ref().map(|label| label.bind(py)),
        )? {
            Ok(value) => Value::Returned(value),
            Err(error) => Value::Raised(error.into_value(py).into_any()),
        };
        // The lane lets go of this future with the others that it is through with, or a result that is dropped lives on.
        if !shared.is_foreign() {
            drop(shared.lane.spent());
        }
        let mut inner = this.inner.lock();
        let spent = match &inner.value {
            Value::Reply(_) => (std::mem::replace(&mut inner.value, decoded), inner.label.take()),
            _ => (decoded, None), // another thread was faster
        };
        drop(inner);
        drop(spent);
        Self::outcome(slf)
    }

    fn state_name(&self, _py: Python<'_>) -> &'static str {
        let state = self.life();
        match state.phase {
            Phase::Done(Outcome::Stopped) if state.told => {
                if self.inner.lock().notified {
                    "CANCELLED_AND_NOTIFIED"
                } else {
                    "CANCELLED"
                }
            }
            Phase::Done(_) if state.told => "FINISHED",
            Phase::Done(Outcome::Stopped) | Phase::New | Phase::Ready => "PENDING",
            Phase::Done(_) | Phase::Running | Phase::Parked => "RUNNING",
        }
    }

    /// Takes in what workers have answered; and if this call has only begun, takes the step. Nobody else may be there to
    /// do it: a program may ask again and again instead of waiting.
    fn look(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let Some(Home::Process(shared)) = this.home() else { return };
        if this.is_over() || shared.is_foreign() {
            return;
        }
        shared.lane.look();
        if this.life().phase == Phase::New && shared.lane.has_started(&Handle::Future(slf.clone().unbind())) {
            let _ = this.life.step(Event::Start); // refused if it has ended meanwhile, which is as good
        }
    }

    /// Cancels a call that has not started; with `stop`, also one that runs where its lane can stop it: its worker is ended, and
    /// this returns when it is dead.
    pub(crate) fn take_back(slf: &Bound<'_, Self>, stop: bool) -> PyResult<bool> {
        let this = slf.get();
        let stopped = |this: &Self| this.life().outcome() == Some(Outcome::Stopped);
        if this.is_over() {
            return Ok(stopped(this));
        }
        if this.is_foreign() {
            return Ok(false); // the call is the parent process's, and so is the ring that it lies in
        }
        let Some(Home::Process(shared)) = this.home() else {
            let has_started = matches!(this.life().phase, Phase::Running | Phase::Parked);
            return Ok(!has_started && (Self::cancelled_here(slf)? || stopped(this)));
        };
        let ticket = Handle::Future(slf.clone().unbind());
        if shared.lane.take_back(&ticket).is_some() {
            return Ok(Self::cancelled_here(slf)? || stopped(this));
        }
        // A done-callback runs in a keeper, which cannot wait for what only keepers do.
        if stop && shared.can_stop() && !gate::is_resident() && shared.lane.stop(&ticket) {
            Self::wait(slf, Timeout::FOREVER)?;
        }
        Ok(stopped(this))
    }

    /// Ends the call's life with what its lane says of it. Returns whether somebody must be told.
    fn deliver(&self, reply: Reply) -> bool {
        let outcome = match &reply {
            Reply::Answer { kind: kind::VALUE, .. } => Outcome::Returned,
            Reply::Answer { .. } => Outcome::Raised,
            Reply::Lost(loss) if loss.cause == Cause::Stopped => Outcome::Stopped,
            Reply::Lost(_) | Reply::Broken(_) => Outcome::Killed,
        };
        if let Some(trace) = self.trace() {
            let lost = match &reply {
                Reply::Answer { kind, flags, nanos, done, failed, .. } => {
                    let returned = *kind == kind::VALUE && *failed == 0;
                    trace.end(if returned { Fate::Returned } else { Fate::Raised }, *done, *nanos);
                    if flags & flag::RAISED != 0 {
                        trace.cut(self.batch_size().max(1).saturating_sub(*done));
                    }
                    None
                }
                Reply::Lost(loss) => Some(match loss.cause {
                    Cause::Stopped => Fate::Cancelled,
                    Cause::Overdue(_) => Fate::Overdue,
                    Cause::Died => Fate::Died,
                }),
                Reply::Broken(_) => Some(Fate::Broken),
            };
            if let Some(fate) = lost {
                trace.end_now(fate, self.batch_size().max(1));
            }
        }
        match self.end(Value::Reply(reply), outcome) {
            Ok(owed) => owed.wake(),
            Err(_) => false, // ended from Python meanwhile; that stands
        }
    }

    /// Ends a call that was taken back before it started.
    pub(crate) fn cancelled_here(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let this = slf.get();
        let mut inner = this.inner.lock();
        let Ok((_, next)) = this.life.step(Event::Cancel) else { return Ok(false) };
        // Nobody will come to start it and to notice; so those who wait hear of it now.
        inner.notified = this.home().is_some();
        let mut owed = this.owed(&mut inner, Some(next));
        if !inner.notified {
            // An executor that was given this future from outside has not noticed yet.
            let (sets, threads) = owed.sleepers.into_iter().partition(|sleeper| matches!(sleeper, Sleeper::Set(..)));
            inner.sleepers = sets;
            owed.sleepers = threads;
        }
        let label = inner.label.take();
        drop(inner);
        drop(label);
        if let Some(trace) = this.trace() {
            trace.end_now(Fate::Cancelled, this.batch_size().max(1));
        }
        if let Some(Home::Thread(work)) = this.home() {
            work.count_cancelled(slf.py(), this.batch_size().max(1).into());
        }
        let announce = owed.wake();
        this.nudge();
        if announce {
            Self::announce(slf)?;
        }
        Ok(true)
    }
}

#[pymethods]
impl FutureCore {
    // A subclass may take arguments of its own in `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    fn __init__(&self) {}

    /// Cancel the future if it has not started.
    ///
    /// Returns whether it is cancelled now. A call that has ended is not. One that runs in a `raddle.Pool` of processes is stopped:
    /// its worker is ended. One that runs elsewhere goes on, and so does one that a done-callback wants cancelled.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::take_back(slf, true)
    }

    /// Cancel the future if it has not started; never stop a call that runs.
    fn _cancel_waiting(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::take_back(slf, false)
    }

    /// Return True if the future was cancelled.
    fn cancelled(&self) -> bool {
        let state = self.life();
        state.is_done() && state.outcome() == Some(Outcome::Stopped)
    }

    /// Return True if the call runs now.
    fn running(slf: &Bound<'_, Self>) -> bool {
        Self::look(slf);
        slf.get().state_name(slf.py()) == "RUNNING"
    }

    /// Return True if the call was cancelled or has ended.
    fn done(slf: &Bound<'_, Self>) -> bool {
        Self::look(slf);
        slf.get().life().is_done()
    }

    /// Call `fn` with the future as its only argument when the future is done, or now if it is.
    ///
    /// Exceptions of `fn` are logged and otherwise ignored.
    #[pyo3(signature = (r#fn, /))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        let callback = r#fn.clone().unbind();
        let mut queued = false;
        {
            let this = slf.get();
            let mut inner = this.inner.lock();
            if !this.life().told {
                let _ = this.life.step(Event::Watch); // never refused
                inner.callbacks.push(callback);
                queued = true;
            }
        }
        if queued {
            Self::keep_watch(slf);
            return Ok(());
        }
        call_back(slf, &r#fn)
    }

    /// Return what the call returned, or raise what it raised. Waits for it, `timeout` seconds at most.
    #[pyo3(signature = (timeout = Timeout::FOREVER))]
    pub(crate) fn result(slf: &Bound<'_, Self>, timeout: Timeout) -> PyResult<Py<PyAny>> {
        if !Self::wait(slf, timeout)? {
            return Err(PyTimeoutError::new_err(()));
        }
        if slf.get().life().outcome() == Some(Outcome::Stopped) {
            return Err(errors::cancelled(slf.py()));
        }
        Self::outcome(slf)?.map_err(|error| PyErr::from_value(error.into_bound(slf.py())))
    }

    /// Return what the call raised, or None. Waits for it, `timeout` seconds at most.
    #[pyo3(signature = (timeout = Timeout::FOREVER))]
    fn exception(slf: &Bound<'_, Self>, timeout: Timeout) -> PyResult<Option<Py<PyAny>>> {
        if !Self::wait(slf, timeout)? {
            return Err(PyTimeoutError::new_err(()));
        }
        if slf.get().life().outcome() == Some(Outcome::Stopped) {
            return Err(errors::cancelled(slf.py()));
        }
        Ok(Self::outcome(slf)?.err())
    }

    /// Mark the future as running, or tell those who wait that it was cancelled. For executors.
    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if this.life.step(Event::Start).is_ok() {
            return Ok(true);
        }
        let state = this.life();
        if state.outcome() == Some(Outcome::Stopped) {
            let (condition, sleepers) = {
                let mut inner = this.inner.lock();
                let first = !std::mem::replace(&mut inner.notified, true);
                let condition = inner.condition.as_ref().filter(|_| first).map(|condition| condition.clone_ref(py));
                (condition, std::mem::take(&mut inner.sleepers))
            };
            Self::wake(sleepers);
            if let Some(condition) = condition {
                let condition = condition.bind(py);
                condition.call_method0("acquire")?;
                let notified = this.notify(slf, condition);
                condition.call_method0("release")?;
                notified?;
            }
            return Ok(false);
        }
        let name = this.state_name(py);
        logger(py)?.call_method1(
            "critical",
            ("Future %s in unexpected state: %s", format!("{:#x}", slf.as_ptr() as usize), name),
        )?;
        Err(PyRuntimeError::new_err("Future in unexpected state"))
    }

    /// Set the value that the call returned. For executors and tests.
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        Self::end_here(slf, Value::Returned(result), Outcome::Returned)
    }

    /// Set what the call raised. For executors and tests.
    fn set_exception(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        Self::end_here(slf, Value::Raised(exception), Outcome::Raised)
    }

    #[getter(_condition)]
    fn condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CONDITION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (py, this) = (slf.py(), slf.get());
        if let Some(condition) = &this.inner.lock().condition {
            return Ok(condition.clone_ref(py));
        }
        let class =
            CONDITION.get_or_try_init(py, || py.import("threading")?.getattr("Condition").map(Bound::unbind))?;
        let fresh = class.call0(py)?;
        let (mut kept, mut spare) = (None, Some(fresh));
        this.watch(|inner| {
            if inner.condition.is_none() {
                inner.condition = spare.take();
            }
            kept = inner.condition.as_ref().map(|condition| condition.clone_ref(py));
        });
        Self::keep_watch(slf);
        kept.ok_or_else(|| PyRuntimeError::new_err("the future lost its condition"))
    }

    #[getter(_waiters)]
    fn waiters(slf: &Bound<'_, Self>) -> Py<PyList> {
        let py = slf.py();
        let fresh = PyList::empty(py).unbind();
        let mut inner = slf.get().inner.lock();
        inner.waiters.get_or_insert(fresh).clone_ref(py)
    }

    #[getter(_done_callbacks)]
    fn done_callbacks(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let callbacks: Vec<_> = self.inner.lock().callbacks.iter().map(|callback| callback.clone_ref(py)).collect();
        Ok(PyList::new(py, callbacks)?.unbind())
    }

    /// How many items a batch has; 0 for a call of its own.
    #[getter(_items)]
    pub(crate) fn batch_size(&self) -> u32 {
        self.extras.get().map_or(0, |extras| extras.items)
    }

    /// The items of a batch.
    #[getter(_batch)]
    fn batch(&self, py: Python<'_>) -> Option<Py<PyList>> {
        self.extras.get()?.batch.as_ref().map(|items| items.clone_ref(py))
    }

    #[getter(_state)]
    fn state<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyString> {
        Self::look(slf);
        PyString::intern(slf.py(), slf.get().state_name(slf.py()))
    }

    #[setter(_state)]
    fn set_state(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        if name == self.state_name(py) {
            return Ok(());
        }
        let event = match name {
            "RUNNING" => Event::Start,
            "CANCELLED" | "CANCELLED_AND_NOTIFIED" => Event::Cancel,
            "FINISHED" => Event::Finish(Outcome::Returned),
            _ => return Err(PyValueError::new_err(format!("a future cannot be put into the state {name:?}"))),
        };
        let old = self.state_name(py);
        if self.life.step(event).is_err() && name != "CANCELLED_AND_NOTIFIED" {
            return Err(errors::invalid_state(py, format!("a future cannot go from {old} to {name}")));
        }
        let _ = self.life.step(Event::Told); // refused if it was told at once
        let sleepers = {
            let mut inner = self.inner.lock();
            inner.notified = name == "CANCELLED_AND_NOTIFIED";
            if self.is_over() { std::mem::take(&mut inner.sleepers) } else { Vec::new() }
        };
        Self::wake(sleepers);
        Ok(())
    }

    #[getter(_result)]
    fn value(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(Self::outcome(slf)?.unwrap_or_else(|_| slf.py().None()))
    }

    #[setter(_result)]
    fn set_value(&self, py: Python<'_>, value: Py<PyAny>) {
        let mut inner = self.inner.lock();
        if matches!(inner.value, Value::Raised(_)) && value.is_none(py) {
            return;
        }
        let old = std::mem::replace(&mut inner.value, Value::Returned(value));
        drop(inner);
        drop(old);
    }

    #[getter(_exception)]
    fn error(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Ok(Self::outcome(slf)?.err())
    }

    #[setter(_exception)]
    fn set_error(&self, py: Python<'_>, error: Py<PyAny>) {
        let mut inner = self.inner.lock();
        let new = match (&inner.value, error.is_none(py)) {
            (Value::Raised(_), true) => Value::None,
            (_, true) => return,
            (_, false) => Value::Raised(error),
        };
        let old = std::mem::replace(&mut inner.value, new);
        drop(inner);
        drop(old);
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, address) = (slf.py(), slf.as_ptr() as usize);
        let class = slf.get_type().name()?;
        Self::look(slf);
        let state = match slf.get().state_name(py) {
            "PENDING" => "pending",
            "RUNNING" => "running",
            "FINISHED" => {
                let (verb, object) = match Self::outcome(slf)? {
                    Ok(value) => ("returned", value),
                    Err(error) => ("raised", error),
                };
                let name = object.bind(py).get_type().name()?.to_string();
                return Ok(format!("<{class} at {address:#x} state=finished {verb} {name}>"));
            }
            _ => "cancelled",
        };
        Ok(format!("<{class} at {address:#x} state={state}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Rule 2: whoever holds the lock does not need the interpreter to let go of it, so this waits a moment at most.
        let inner = self.inner.lock();
        if let Value::Returned(object) | Value::Raised(object) = &inner.value {
            visit.call(object)?;
        }
        inner.callbacks.iter().try_for_each(|callback| visit.call(callback))?;
        visit.call(&inner.condition)?;
        visit.call(&inner.waiters)?;
        visit.call(&inner.label)?;
        self.extras.get().map_or(Ok(()), |extras| visit.call(&extras.batch))
    }

    fn __clear__(&self) {
        let mut inner = self.inner.lock();
        let dropped = (
            std::mem::take(&mut inner.value),
            std::mem::take(&mut inner.callbacks),
            inner.condition.take(),
            inner.waiters.take(),
            inner.label.take(),
        );
        drop(inner);
        drop(dropped);
    }
}

/// Calls a done-callback; what it raises is logged, as in the standard library.
fn call_back(slf: &Bound<'_, FutureCore>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    match callback.call1((slf,)) {
        Ok(_) => Ok(()),
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyException>(py) => {
            let keywords = pyo3::types::PyDict::new(py);
            // As three: before 3.12 the exception alone does not have its traceback yet.
            let traceback = error.traceback(py);
            keywords.set_item("exc_info", (error.get_type(py), error.value(py), traceback))?;
            logger(py)?.call_method("error", ("exception calling callback for %r", slf), Some(&keywords))?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("concurrent.futures._base")?.getattr("LOGGER")
}

/// Parks this thread until `is_done`, for futures that no process lane looks after.
pub(crate) fn sleep_until(is_done: &dyn Fn() -> bool, deadline: Option<Instant>) -> Waited {
    park::with_current(|parker| {
        loop {
            if is_done() {
                return Waited::Done;
            }
            match parker.park(deadline) {
                Wake::Unparked => {}
                Wake::TimedOut => return if is_done() { Waited::Done } else { Waited::TimedOut },
                Wake::Interrupted => return if is_done() { Waited::Done } else { Waited::Interrupted },
            }
        }
    })
}

/// A call, or a piece of a map, in the hands of the process lane.
pub(crate) enum Handle {
    Future(Py<FutureCore>),
    Piece(Arc<Piece>),
}

impl Handle {
    /// Its future; a piece has none.
    fn future(&self) -> Option<&FutureCore> {
        match self {
            Self::Future(future) => Some(future.get()),
            Self::Piece(_) => None,
        }
    }

    fn extras(&self) -> Option<&Extras> {
        self.future()?.extras.get().map(|extras| &**extras)
    }

    fn piece(&self) -> Option<&Piece> {
        match self {
            Self::Future(_) => None,
            Self::Piece(piece) => Some(piece),
        }
    }

    /// It was taken back before it started.
    pub(crate) fn cancelled(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Future(future) => FutureCore::cancelled_here(future.bind(py)).map(drop),
            Self::Piece(piece) => {
                piece.cancelled();
                Ok(())
            }
        }
    }
}

impl Ticket for Handle {
    fn life(&self) -> &AtomicState {
        match self {
            Self::Future(future) => &future.get().life,
            Self::Piece(piece) => &piece.life,
        }
    }

    fn place(&self) -> &Place {
        match self {
            Self::Future(future) => &future.get().place,
            Self::Piece(piece) => &piece.place,
        }
    }

    fn items(&self) -> u32 {
        match self {
            Self::Future(future) => future.get().batch_size().max(1),
            Self::Piece(piece) => piece.items(),
        }
    }

    fn is_piece(&self) -> bool {
        self.piece().is_some()
    }

    fn write_piece(&self, out: &mut Vec<u8>) {
        if let Some(piece) = self.piece() {
            piece.write(out);
        }
    }

    fn cut_front(&self, count: u32) -> Option<Self> {
        Some(Self::Piece(self.piece()?.cut_front(count)))
    }

    fn cut_back(&self, count: u32) -> Option<Self> {
        Some(Self::Piece(self.piece()?.cut_back(count)))
    }

    fn pace(&self) -> Option<u64> {
        self.piece()?.pace()
    }

    fn note_pace(&self, each: u64) {
        if let Some(piece) = self.piece() {
            piece.note_pace(each);
        }
    }

    fn is_timed(&self) -> bool {
        self.future().is_some_and(|future| future.trace().is_some())
    }

    fn begun(&self, pid: u32, at: Option<u64>) {
        if let Some(trace) = self.future().and_then(FutureCore::trace) {
            trace.begin(pid, at);
        }
    }

    fn take_leases(&self) -> Vec<Lease> {
        self.extras().map_or_else(Vec::new, |extras| std::mem::take(&mut *extras.leases.lock()))
    }

    fn lent(&self) -> u64 {
        self.extras().map_or(0, |extras| extras.leases.lock().iter().map(|lease| lease.len() as u64).sum())
    }

    fn limit(&self) -> Option<Duration> {
        self.extras()?.terms.limit
    }

    fn rank(&self) -> Rank {
        self.extras().map_or(0, |extras| extras.terms.rank)
    }

    fn may_retry(&self) -> bool {
        self.extras().is_some_and(|extras| extras.attempts.load(Relaxed) < extras.terms.retries)
    }

    fn retry(&self) -> bool {
        let Some(extras) = self.extras() else { return false };
        extras.attempts.fetch_add(1, Relaxed) < extras.terms.retries
    }

    fn take_lease(&self, block: u64) -> Option<Lease> {
        let mut leases = self.extras()?.leases.lock();
        let index = leases.iter().position(|lease| lease.piece().block == block)?;
        Some(leases.swap_remove(index))
    }

    fn deliver(&self, reply: Reply) -> bool {
        match self {
            Self::Future(future) => future.get().deliver(reply),
            Self::Piece(piece) => {
                piece.deliver(reply);
                false
            }
        }
    }
}
