//! The choice of the first of several things that happens: to receive, to send, an event, a moment.
//!
//! How it waits stands in `raddle_core::channel`. A case whose channel has come to its end raises `Closed`, which names it. A timer that is
//! over takes no part; when nothing else is left, that is `Closed`, too.
//!
//! An end of a shared channel is a case like others; who waits for it stands in a line here, and is called by a thread that sleeps at the
//! channel (`shared_channel/case.rs`).

use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyTuple, PyType};
use raddle_core::channel::{Case, Claim, Joined, Place, Received, Sent, Standing, Tried, Turn, try_all};
use raddle_core::park::Waiter;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Release, Ordering::SeqCst};

use raddle_core::sync::Event;

use super::ends::{PyReceiver, PySender};
use super::pipe::Values;
use super::timer::PyTimer;
use crate::errors;
use crate::gate::{self, Timeout};
use crate::shared_channel::{PySharedEnd, PySharedReceiver, PySharedSender, SharedCase};
use crate::sync::{PyEvent, until_called, until_done};
use crate::unit;
use crate::wait_graph::What;

/// A value that a sender would send, as a case of `select`.
#[pyclass(frozen, name = "Sending", module = "raddle._raddle")]
pub(crate) struct PySending {
    /// Of a channel or of a shared one.
    #[pyo3(get)]
    sender: Py<PyAny>,
    #[pyo3(get)]
    value: Py<PyAny>,
}

#[pymethods]
impl PySending {
    #[new]
    fn new(sender: &Bound<'_, PyAny>, value: Py<PyAny>) -> PyResult<Self> {
        if !sender.is_instance_of::<PySender>() {
            sender.cast::<PySharedSender>()?;
        }
        Ok(Self { sender: sender.clone().unbind(), value })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sender)?;
        visit.call(&self.value)
    }
}

/// Where a value lies that is to be sent, while it lies in no offer.
type Slot = Cell<Option<Py<PyAny>>>;

/// One thing that may happen.
pub(crate) struct Choice<'a> {
    /// The case as it was given.
    source: Bound<'a, PyAny>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Recv(&'a PyReceiver),
    /// The value is taken out while it lies in an offer.
    Send(&'a PySender, Slot),
    /// An event, what it stands for, and whether it was set while this stood in its line.
    Event(&'a PyEvent, &'a Py<PyAny>, &'a AtomicBool),
    Timer(&'a PyTimer),
    Shared(&'a SharedCase),
}

impl<'a> Choice<'a> {
    pub(crate) fn recv(source: Bound<'a, PyAny>, receiver: &'a PyReceiver) -> Self {
        Self { source, kind: Kind::Recv(receiver) }
    }

    pub(crate) fn send(source: Bound<'a, PyAny>, sender: &'a PySender, value: Py<PyAny>) -> Self {
        Self { source, kind: Kind::Send(sender, Cell::new(Some(value))) }
    }

    /// Who waits through the end of a channel, if it is one.
    fn users(&self) -> Option<&AtomicUsize> {
        match &self.kind {
            Kind::Recv(receiver) => Some(receiver.users()),
            Kind::Send(sender, _) => Some(sender.users()),
            Kind::Shared(case) => Some(case.users()),
            Kind::Event(..) | Kind::Timer(_) => None,
        }
    }

    /// The end of a shared channel: another process could bring it.
    fn shared(&self) -> Option<&'a SharedCase> {
        if let Kind::Shared(case) = self.kind { Some(case) } else { None }
    }

    /// After a try, or when there will be none: answers for what it was called for.
    fn settle(&self) {
        if let Kind::Shared(case) = &self.kind {
            case.settle();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if let Kind::Timer(timer) = &self.kind { timer.next() } else { None }
    }

    /// The rendezvous that it would send through, and the value.
    fn rendezvous(&self) -> Option<(&Values, &Slot)> {
        let Kind::Send(sender, value) = &self.kind else { return None };
        let py = self.source.py();
        sender.anyway().as_channel(py).filter(|channel| channel.is_rendezvous()).map(|channel| (channel, value))
    }
}

impl Case for Choice<'_> {
    type Value = Py<PyAny>;
    type Error = PyErr;

    #[inline]
    fn attempt(&self, place: Option<Place<'_>>) -> PyResult<Tried<Py<PyAny>>> {
        let py = self.source.py();
        match &self.kind {
            Kind::Recv(receiver) => {
                let Some(pipe) = receiver.pipe() else { return Err(receiver.end(&self.source)) };
                match receiver.attempt(py, pipe, place) {
                    Received::Item(value) => Ok(Tried::Happened(value)),
                    Received::Empty => Ok(Tried::NotYet),
                    Received::Closed => Err(receiver.end(&self.source)),
                    Received::Lagged(count) => Err(errors::channel_has_lagged(py, count)),
                }
            }
            Kind::Send(sender, value) => {
                let Some(pipe) = sender.pipe() else { return Err(sender.refusal(&self.source)) };
                let Some(item) = value.take() else { return Ok(Tried::NotYet) };
                match pipe.send(py, item, place) {
                    Sent::Done => Ok(Tried::Happened(py.None())),
                    Sent::Full(item) => {
                        value.set(Some(item));
                        Ok(Tried::NotYet)
                    }
                    Sent::Closed(item) => {
                        value.set(Some(item));
                        Err(sender.refusal(&self.source))
                    }
                }
            }
            Kind::Event(event, value, was_set) => {
                // Set and cleared again it has happened as well, as for who waits for it alone.
                let is_set = was_set.swap(false, AcqRel)
                    || match place {
                        Some(place) => event.event().wait_as(place.waiter()),
                        None => event.event().is_set(),
                    };
                Ok(if is_set { Tried::Happened(value.clone_ref(py)) } else { Tried::NotYet })
            }
            Kind::Timer(timer) => match timer.take() {
                Some(late) => Ok(Tried::Happened(late.into_pyobject(py)?.into_any().unbind())),
                None if timer.next().is_none() => Ok(Tried::Never),
                None => Ok(Tried::NotYet),
            },
            Kind::Shared(case) => case.attempt(&self.source, place),
        }
    }

    fn is_offer(&self) -> bool {
        self.rendezvous().is_some()
    }

    fn offer(&self, number: usize, claim: &Arc<Claim>, waiter: &Arc<Waiter>) {
        if let Some((channel, value)) = self.rendezvous()
            && let Some(item) = value.take()
        {
            channel.offer(item, claim, number, waiter);
        }
    }

    fn take_back(&self, number: usize, claim: &Arc<Claim>) {
        if let Some((channel, value)) = self.rendezvous()
            && let Some(back) = channel.take_back(claim, number)
        {
            value.set(Some(back));
        }
    }

    fn leave(&self, waiter: &Arc<Waiter>) {
        match &self.kind {
            Kind::Recv(receiver) => receiver.anyway().leave_recv(self.source.py(), waiter),
            Kind::Send(sender, _) => sender.anyway().leave_send(self.source.py(), waiter),
            Kind::Event(event, _, was_set) => {
                if event.event().leave(waiter) {
                    was_set.store(true, Release);
                }
            }
            Kind::Timer(_) => {}
            Kind::Shared(case) => case.leave(waiter),
        }
    }
}

/// One who waits through the ends of all these cases, while it lives: who closes one of them wakes it. It is made before the lines are
/// joined. Dropped, it has all answers given that are due.
struct Using<'a>(&'a [Choice<'a>]);

impl<'a> Using<'a> {
    fn new(cases: &'a [Choice<'a>]) -> Self {
        cases.iter().filter_map(Choice::users).for_each(|users| _ = users.fetch_add(1, SeqCst));
        Self(cases)
    }

    /// Goes on with what was left behind by [`forget`](std::mem::forget), for the same cases.
    fn resume(cases: &'a [Choice<'a>]) -> Self {
        Self(cases)
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.0.iter().filter_map(Choice::users).for_each(|users| _ = users.fetch_sub(1, SeqCst));
        self.0.iter().for_each(Choice::settle);
    }
}

/// What happened: the number of the case, and its value.
type Happened = (usize, Py<PyAny>);

/// Waits for the first of the cases. `None`: the time is over.
pub(crate) fn choose(
    py: Python<'_>,
    cases: &[Choice<'_>],
    timeout: Timeout,
    what: (&'static str, usize),
) -> PyResult<Option<Happened>> {
    let dice = dice_for(cases.len());
    let mut tried = try_all(cases, dice)?;
    if timeout.is_over() && matches!(tried, Tried::NotYet) {
        return Ok(None);
    }
    let deadline = timeout.deadline();
    let shared: Vec<_> = cases.iter().filter_map(Choice::shared).collect();
    // What has happened has happened: it is not tried again.
    if matches!(tried, Tried::NotYet) && SharedCase::look(py, &shared)? {
        tried = try_all(cases, dice)?;
    }
    let what = || if !shared.is_empty() { What::Outside(what.0, what.1) } else { What::Any(what.0, what.1) };
    let _using = Using::new(cases);
    let mut is_again = false;
    loop {
        match tried {
            Tried::Happened(happened) => return Ok(Some(happened)),
            Tried::Never => return Err(never(py)),
            Tried::NotYet => {}
        }
        let turn = match Turn::join(cases, dice, Waiter::new(), is_again)? {
            Joined::Standing(turn) => turn,
            Joined::Happened(happened) => return Ok(Some(happened)),
            Joined::Never => return Err(never(py)),
        };
        let until = cases.iter().filter_map(Choice::deadline).chain(deadline).min();
        let called = until_called(py, what(), turn.waiter(), until);
        if let Some(number) = turn.end() {
            // It has happened, whatever else has: but what was to be raised is raised.
            return called.map(|_| Some((number, py.None())));
        }
        is_again = called?;
        // A signal that came before the value is taken leaves it to the next: its handler may raise.
        py.check_signals()?;
        tried = try_all(cases, dice)?;
        if !is_again && matches!(tried, Tried::NotYet) && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

fn never(py: Python<'_>) -> PyErr {
    errors::channel_is_closed("nothing will ever happen: all moments have passed", &py.None().into_bound(py))
}

/// A number at random, if there is something to be decided.
fn dice_for(count: usize) -> u64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
    }
    if count < 2 {
        return 0;
    }
    // xorshift64 (Marsaglia 2003).
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}

/// Objects that stand for things that may happen, kept while they are waited for.
enum Held {
    Recv(Py<PyReceiver>),
    Send(Py<PySender>, Py<PyAny>),
    /// An event, what it stands for, and whether it was set between two looks.
    Event(Py<PyEvent>, Py<PyAny>, AtomicBool),
    Timer(Py<PyTimer>),
    /// Boxed: it is many times as large as the others, which are moved about.
    Shared(Box<SharedCase>),
}

impl Held {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(receiver) = object.cast::<PyReceiver>() {
            return Ok(Self::Recv(receiver.clone().unbind()));
        }
        if let Ok(sending) = object.cast::<PySending>() {
            let (py, sending) = (object.py(), sending.get());
            return match sending.sender.bind(py).cast::<PySender>() {
                Ok(sender) => Ok(Self::Send(sender.clone().unbind(), sending.value.clone_ref(py))),
                Err(_) => {
                    let end = sending.sender.bind(py).cast::<PySharedEnd>()?.clone().unbind();
                    SharedCase::send(end, sending.value.bind(py)).map(Box::new).map(Self::Shared)
                }
            };
        }
        if object.is_instance_of::<PySharedReceiver>() {
            return Ok(Self::Shared(Box::new(SharedCase::recv(object.cast::<PySharedEnd>()?.clone().unbind()))));
        }
        if let Ok(timer) = object.cast::<PyTimer>() {
            return Ok(Self::Timer(timer.clone().unbind()));
        }
        if let Ok(event) = object.cast::<PyEvent>() {
            let happened = PyBool::new(object.py(), true).to_owned().into_any().unbind();
            return Ok(Self::Event(event.clone().unbind(), happened, AtomicBool::new(false)));
        }
        if object.is_instance_of::<PySender>() || object.is_instance_of::<PySharedSender>() {
            return Err(PyTypeError::new_err(
                "a sender is no case of select\n  hint: say what it would send: tx.sending(value)",
            ));
        }
        static EVENT_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let event_of = EVENT_OF.get_or_try_init(object.py(), || {
            object.py().import("raddle._channel")?.getattr("_event_of").map(Bound::unbind)
        })?;
        let event = event_of.bind(object.py()).call1((object,))?;
        Ok(Self::Event(event.cast_into::<PyEvent>()?.unbind(), object.clone().unbind(), AtomicBool::new(false)))
    }

    /// Those of all cases.
    fn all(cases: &Bound<'_, PyTuple>) -> PyResult<Vec<Self>> {
        // Collected into a `Result` it would grow step by step.
        let mut all = Vec::with_capacity(cases.len());
        for case in cases.iter_borrowed() {
            all.push(Self::of(&case)?);
        }
        Ok(all)
    }

    fn choice<'a>(&'a self, source: Bound<'a, PyAny>) -> Choice<'a> {
        let kind = match self {
            Self::Recv(receiver) => Kind::Recv(receiver.get()),
            Self::Send(sender, value) => {
                let value = value.clone_ref(source.py());
                return Choice::send(source, sender.get(), value);
            }
            Self::Event(event, value, was_set) => Kind::Event(event.get(), value, was_set),
            Self::Timer(timer) => Kind::Timer(timer.get()),
            Self::Shared(case) => Kind::Shared(case),
        };
        Choice { source, kind }
    }
}

fn selected<'py>(py: Python<'py>, source: Bound<'py, PyAny>, value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static NEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.import(py, "raddle._channel", "Selected")?;
    let new = NEW.get_or_try_init(py, || py.get_type::<PyTuple>().getattr("__new__").map(Bound::unbind))?;
    // As the class does it, but without running its Python code: a thread that the end of the interpreter meets in there is unwound through
    // these frames, which ends the process.
    new.bind(py).call1((class, (source, value)))
}

/// See `raddle.select`.
#[pyfunction]
#[pyo3(signature = (cases, timeout, /))]
pub(crate) fn select<'py>(
    cases: &Bound<'py, PyTuple>,
    timeout: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = cases.py();
    if cases.is_empty() {
        return Err(PyValueError::new_err("select() wants at least one thing to wait for"));
    }
    let timeout: Timeout = timeout.map_or(Ok(Timeout::FOREVER), |timeout| timeout.extract())?;
    let held = Held::all(cases)?;
    let list: Vec<Choice<'_>> = held.iter().zip(cases).map(|(held, source)| held.choice(source)).collect();
    match choose(py, &list, timeout, ("the first of several things", cases.as_ptr().addr()))? {
        Some((number, value)) => selected(py, cases.get_item(number)?, value),
        None => Err(errors::timed_out("nothing happened in time")),
    }
}

/// The same for a task: it is told through a callback when to look again.
#[pyclass(frozen, name = "Selection", module = "raddle._raddle")]
pub(crate) struct PySelection {
    cases: Py<PyTuple>,
    held: Vec<Held>,
    /// What stands in lines.
    standing: Mutex<Option<Standing>>,
}

#[pymethods]
impl PySelection {
    #[new]
    #[pyo3(signature = (*cases))]
    fn new(cases: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let held = Held::all(cases)?;
        Ok(Self { cases: cases.clone().unbind(), held, standing: Mutex::new(None) })
    }

    /// Tries all, after it has left the lines in which it stood. `(number, value)` of what has happened; or `None`: then it stands in all lines,
    /// and `bell` is called when it is time to begin again. It gives False if nobody hears it; then the call goes on to the next in line.
    fn begin(slf: &Bound<'_, Self>, bell: Py<PyAny>) -> PyResult<Option<Happened>> {
        let (py, me) = (slf.py(), slf.get());
        let cases = me.choices(py);
        let stood = me.standing.lock().take();
        let _stood = stood.is_some().then(|| Using::resume(&cases));
        if let Some(number) = stood.and_then(|standing| Turn::resume(&cases, standing).end()) {
            return Ok(Some((number, py.None())));
        }
        let dice = dice_for(cases.len());
        match try_all(&cases, dice)? {
            Tried::Happened(happened) => return Ok(Some(happened)),
            Tried::Never => return Err(never(py)),
            Tried::NotYet => {}
        }
        let selection = slf.clone().unbind();
        let ring = move || {
            let Some(_ringing) = Ringing::begin() else { return };
            gate::attached(|py| {
                if !rings(py, &bell) {
                    end_unheard(py, &selection);
                }
                Ok(())
            });
        };
        let using = Using::new(&cases);
        match Turn::join(&cases, dice, Waiter::of_task(Box::new(ring)), false)? {
            Joined::Standing(turn) => {
                std::mem::forget(using);
                *me.standing.lock() = Some(turn.let_stand());
            }
            Joined::Happened(happened) => return Ok(Some(happened)),
            Joined::Never => return Err(never(py)),
        }
        Ok(None)
    }

    /// Leaves all lines for good. The number of the case that has happened, if it was a value that was offered.
    fn end(&self, py: Python<'_>) -> Option<usize> {
        let standing = self.standing.lock().take()?;
        let cases = self.choices(py);
        let _using = Using::resume(&cases);
        Turn::resume(&cases, standing).end()
    }

    /// Seconds until the first of its timers; `None`: it has none.
    fn remaining(&self, py: Python<'_>) -> Option<f64> {
        let first = self.choices(py).iter().filter_map(Choice::deadline).min()?;
        Some(first.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cases)?;
        for held in &self.held {
            match held {
                Held::Recv(receiver) => visit.call(receiver)?,
                Held::Send(sender, value) => {
                    visit.call(sender)?;
                    visit.call(value)?;
                }
                Held::Event(event, value, _) => {
                    visit.call(event)?;
                    visit.call(value)?;
                }
                Held::Timer(timer) => visit.call(timer)?,
                Held::Shared(case) => case.traverse(&visit)?,
            }
        }
        Ok(())
    }
}

/// Whether no bell is rung any more; how many are being rung; and who waits until that are none.
static IS_SILENT: AtomicBool = AtomicBool::new(false);
static RINGING: AtomicUsize = AtomicUsize::new(0);
static IS_QUIET: OnceLock<Event> = OnceLock::new();

/// While it lives, this thread rings a bell, for which it may have to attach itself first.
struct Ringing;

impl Ringing {
    /// `None`: no bell is rung any more.
    fn begin() -> Option<Self> {
        // Ordering: SeqCst, here and in `silence_bells`: either this is seen there, or the silence here.
        RINGING.fetch_add(1, SeqCst);
        let me = Self;
        (!IS_SILENT.load(SeqCst)).then_some(me)
    }
}

impl Drop for Ringing {
    fn drop(&mut self) {
        if RINGING.fetch_sub(1, SeqCst) == 1
            && let Some(is_quiet) = IS_QUIET.get()
        {
            is_quiet.set();
        }
    }
}

/// To be called when the interpreter is about to end. A thread that the end meets while it rings a bell, which is Python code inside native
/// frames, would be unwound through them, and that ends the process. Waits, a second at most, until none is being rung.
#[pyfunction]
pub(crate) fn silence_bells(py: Python<'_>) -> PyResult<()> {
    let is_quiet = IS_QUIET.get_or_init(Event::new);
    IS_SILENT.store(true, SeqCst);
    if RINGING.load(SeqCst) > 0 {
        let deadline = Instant::now().checked_add(Duration::from_secs(1));
        let (attempt, leave) = (|before: Option<&_>| is_quiet.wait(before), |waiter: &_| _ = is_quiet.leave(waiter));
        until_done(py, What::Any("bells of tasks", 0), deadline, attempt, leave)?;
    }
    Ok(())
}

/// To be called in a forked child: threads that rang a bell are not here.
pub(crate) fn forked() {
    RINGING.store(0, Release);
}

/// Calls a bell. `false`: nobody hears it.
///
/// That happens at any moment: in the middle of dropping an end, while an exception is on its way, which goes on afterwards; and in a
/// thread that is interrupted just then, by Ctrl-C or by what another thread throws at it. That is meant for the thread and not for the
/// task: the bell is rung all the same, and then the thread is interrupted again.
fn rings(py: Python<'_>, bell: &Py<PyAny>) -> bool {
    /// What fails so often was not interrupted, it is broken.
    const TRIES: usize = 100;
    let on_its_way = PyErr::take(py);
    let (mut interruption, mut is_heard) = (None, None);
    for _ in 0..TRIES {
        match bell.call0(py).and_then(|heard| heard.is_truthy(py)) {
            Ok(heard) => {
                is_heard = Some(heard);
                break;
            }
            Err(error) => _ = interruption.get_or_insert(error),
        }
    }
    match interruption {
        Some(error) if is_heard.is_some() => unit::interrupt_me(py, &error),
        Some(error) => error.write_unraisable(py, None),
        None => {}
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
    is_heard.unwrap_or(false)
}

/// Ends a selection whose bell nobody hears. That may ring the next such bell: one is ended after the other, not one inside the other.
fn end_unheard(py: Python<'_>, selection: &Py<PySelection>) {
    thread_local! {
        /// Those still to be ended. `None`: nobody does it now.
        static UNHEARD: RefCell<Option<Vec<Py<PySelection>>>> = const { RefCell::new(None) };
    }
    let is_done_below = UNHEARD.with_borrow_mut(|unheard| {
        let is_done_below = unheard.is_some();
        unheard.get_or_insert_default().push(selection.clone_ref(py));
        is_done_below
    });
    if is_done_below {
        return;
    }
    while let Some(next) = UNHEARD.with_borrow_mut(|unheard| unheard.as_mut().and_then(Vec::pop)) {
        next.get().end(py);
    }
    UNHEARD.set(None);
}

impl PySelection {
    fn choices<'a>(&'a self, py: Python<'a>) -> Vec<Choice<'a>> {
        self.held.iter().zip(self.cases.bind(py)).map(|(held, source)| held.choice(source)).collect()
    }
}
