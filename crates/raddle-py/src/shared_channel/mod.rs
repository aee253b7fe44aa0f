//! `raddle.shared_channel`: a channel of Python objects between processes. The channel itself is `raddle_shm::channel`.
//!
//! # An end after a fork
//!
//! A forked child has the ends of its parent, each of which is *open*, and counts for the child, too. `_rest` makes an end *dormant*: it does
//! not count until it is used.

mod case;
mod joined;
mod message;

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use raddle_core::park::Waiter;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::Ordering::{AcqRel, Acquire, SeqCst};
use raddle_core::prim::atomic::{AtomicU32, AtomicUsize};
use raddle_shm::Intention;
use raddle_shm::channel::{Draft, Garbled, Refusal, Side, Transit};

use crate::errors;
use crate::gate::{self, Timeout};
use crate::unit;
use crate::wait_graph::{self, What};
pub(crate) use case::SharedCase;
use joined::{Identity, Joined, Wanted};
pub(crate) use joined::{channels_after_fork, channels_before_fork, channels_in_child, channels_taken_up, forked};
use message::Outgoing;

const OPEN: u32 = 0;
const CLOSED: u32 = 1;
const DORMANT: u32 = 2;

thread_local! {
    /// Memory for encoding, to be used again.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a transit is for Python.
type TransitWords = (u32, u64);

/// One end of a shared channel.
struct End {
    side: Side,
    /// As it was when the end was made.
    first: Arc<Joined>,
    /// In a child that was forked since.
    later: Mutex<Option<Arc<Joined>>>,
    state: AtomicU32,
    /// How many wait through it, for whoever closes it meanwhile.
    users: AtomicUsize,
}

impl End {
    fn new(joined: Arc<Joined>, side: Side) -> Self {
        joined.add(side);
        let (later, state) = (Mutex::new(None), AtomicU32::new(OPEN));
        Self { side, first: joined, later, state, users: AtomicUsize::new(0) }
    }

    /// Runs `work` on the channel of an end that is open. `source`: what an error is to name.
    #[inline]
    fn with<R>(&self, source: &Bound<'_, PyAny>, work: impl FnOnce(&Arc<Joined>) -> PyResult<R>) -> PyResult<R> {
        // Ordering: Acquire. Pairs with the swap in `leave`.
        if self.state.load(Acquire) == OPEN && self.first.member.is_mine() {
            return work(&self.first);
        }
        work(&self.waken(source)?)
    }

    /// Raises if it was closed.
    fn check(&self, source: &Bound<'_, PyAny>) -> PyResult<()> {
        // Ordering: SeqCst. Whoever closes it changes this first, and looks then who waits.
        if self.state.load(SeqCst) == CLOSED { Err(self.is_closed(source)) } else { Ok(()) }
    }

    fn is_closed(&self, source: &Bound<'_, PyAny>) -> PyErr {
        let message = match self.side {
            Side::Send => "this sender was closed",
            Side::Receive => "this receiver was closed",
        };
        errors::channel_is_closed(message, source)
    }

    /// The channel in this process.
    #[cold]
    fn here(&self) -> PyResult<Arc<Joined>> {
        if self.first.member.is_mine() {
            return Ok(self.first.clone());
        }
        let mut later = self.later.lock();
        if let Some(joined) = &*later
            && joined.member.is_mine()
        {
            return Ok(joined.clone());
        }
        let joined = self.first.in_child()?;
        std::mem::forget(later.replace(joined.clone()));
        Ok(joined)
    }

    #[cold]
    fn waken(&self, source: &Bound<'_, PyAny>) -> PyResult<Arc<Joined>> {
        let joined = self.here()?;
        match self.state.compare_exchange(DORMANT, OPEN, AcqRel, Acquire) {
            Ok(_) => joined.add(self.side),
            Err(CLOSED) => return Err(self.is_closed(source)),
            Err(_) => {}
        }
        Ok(joined)
    }

    /// Counts no more, unless it is used again.
    fn leave(&self, state: u32) -> PyResult<()> {
        let before = self.state.swap(state, SeqCst);
        if before == CLOSED && state != CLOSED {
            self.state.swap(CLOSED, AcqRel);
        }
        if before != OPEN {
            return Ok(());
        }
        let joined = self.here()?;
        joined.remove(self.side);
        if self.side == Side::Receive && joined.member.is_closed(Side::Receive) {
            joined.drain();
        }
        if self.users.load(SeqCst) > 0 {
            joined.call_all(self.side);
        }
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // There is nobody to tell that it cannot be counted.
        let _ = self.leave(CLOSED);
    }
}

/// While it lives, a thread waits through the end.
struct Using<'a>(&'a End);

impl<'a> Using<'a> {
    fn new(end: &'a End) -> Self {
        end.users.fetch_add(1, SeqCst);
        Self(end)
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, SeqCst);
    }
}

/// While it lives, this thread has slept in a channel, and passes on what it was woken for.
struct Slept<'a>(&'a Joined, Wanted);

impl Drop for Slept<'_> {
    fn drop(&mut self) {
        let Self(joined, wanted) = self;
        // Room for a long message is told to all who need it.
        joined.gong(*wanted).pass_on(|| *wanted != Wanted::Space && joined.member.is_ready(wanted.side()));
    }
}

fn garbled(_: Garbled) -> PyErr {
    PyRuntimeError::new_err(Garbled.to_string())
}

/// What an attempt has come to.
enum Tried<T> {
    Done(T),
    Wanting(Wanted),
}

/// Attempts, and sleeps between attempts, until one succeeds.
#[cold]
fn until_done<T>(
    source: &Bound<'_, PyAny>,
    end: &End,
    joined: &Arc<Joined>,
    timeout: Timeout,
    mut attempt: impl FnMut() -> PyResult<Tried<T>>,
) -> PyResult<T> {
    let py = source.py();
    let deadline = timeout.deadline();
    let _using = Using::new(end);
    let mut slept = None;
    let mut is_first = true;
    loop {
        end.check(source)?;
        let wanted = match attempt()? {
            Tried::Done(value) => return Ok(value),
            Tried::Wanting(wanted) => wanted,
        };
        let side = wanted.side();
        joined.watch().map_err(errors::of_system)?;
        if joined.member.is_deserted(side.other()) {
            // What was sent before the last sender went is there now.
            if side == Side::Receive
                && let Tried::Done(value) = attempt()?
            {
                return Ok(value);
            }
            return Err(deserted(source, side));
        }
        if timeout.is_over() {
            return Err(timed_out(side));
        }
        if std::mem::take(&mut is_first) && wanted != Wanted::Space && gate::detached(py, || joined.look(side))? {
            continue;
        }
        let intention = joined.gong(wanted).prepare();
        match attempt()? {
            Tried::Done(value) => return Ok(value),
            Tried::Wanting(other) if other != wanted => continue,
            Tried::Wanting(_) if joined.is_in_vain(side) || end.check(source).is_err() => continue,
            Tried::Wanting(_) => {}
        }
        if slept.as_ref().is_some_and(|Slept(_, before)| *before != wanted) {
            slept = None;
        }
        slept.get_or_insert(Slept(joined, wanted));
        if !sleep(py, joined, wanted, &intention, deadline)? {
            return match attempt()? {
                Tried::Done(value) => Ok(value),
                Tried::Wanting(_) => Err(timed_out(side)),
            };
        }
    }
}

/// Sleeps until there is reason to try again. `false`: the deadline has passed.
fn sleep(
    py: Python<'_>,
    joined: &Arc<Joined>,
    wanted: Wanted,
    intention: &Intention,
    deadline: Option<Instant>,
) -> PyResult<bool> {
    let what = What::Outside(wanted.name(), Arc::as_ptr(joined).addr());
    let _waiting = wait_graph::enter(py, what, &Waiter::new(), deadline)?;
    let rouse = joined.clone();
    let elsewhere = unit::sleep_elsewhere(Arc::new(move || rouse.gong(wanted).ring_all()));
    gate::wait(py, deadline, |until| joined.sleep(wanted, intention, until, &elsewhere))
}

fn timeout_of(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Timeout> {
    timeout.map_or(Ok(Timeout::FOREVER), |timeout| timeout.extract())
}

fn timed_out(side: Side) -> PyErr {
    errors::timed_out(match side {
        Side::Send => "nobody took the value in time",
        Side::Receive => "nothing was sent in time",
    })
}

/// One attempt to send. Without a draft one is made and filled first, if the message is long.
fn attempt(
    source: &Bound<'_, PyAny>,
    joined: &Arc<Joined>,
    message: &Outgoing,
    draft: &mut Option<Draft>,
) -> PyResult<Tried<()>> {
    let py = source.py();
    if joined.member.is_closed(Side::Receive) {
        return Err(deserted(source, Side::Send));
    }
    if message.is_short() {
        let sent = joined.member.send(message.kind, message.bytes(py)).map_err(garbled)?;
        return Ok(if sent { Tried::Done(()) } else { Tried::Wanting(Wanted::Slot) });
    }
    let filled = match draft.take() {
        Some(filled) => filled,
        None => match joined.member.draft(message.len) {
            Ok(mut empty) => {
                message.write(py, &mut empty)?;
                empty
            }
            Err(Refusal::NoSpace) => return Ok(Tried::Wanting(Wanted::Space)),
            Err(Refusal::TooLong) => {
                return Err(PyValueError::new_err(format!(
                    "a message of {} bytes is longer than the channel takes: {}\n  hint: give it a larger bytes=",
                    message.len,
                    joined.member.longest()
                )));
            }
        },
    };
    *draft = joined.member.send_draft(message.kind, filled).map_err(garbled)?;
    Ok(if draft.is_none() { Tried::Done(()) } else { Tried::Wanting(Wanted::Slot) })
}

fn receive(py: Python<'_>, joined: &Arc<Joined>) -> PyResult<Tried<Py<PyAny>>> {
    match joined.member.receive().map_err(garbled)? {
        None => Ok(Tried::Wanting(Wanted::Item)),
        Some(received) => message::decode(py, received, || joined.member.may_keep()).map(Tried::Done),
    }
}

/// A channel in this process, of which ends can be made.
#[pyclass(frozen, name = "SharedChannel", module = "raddle._raddle")]
pub(crate) struct PySharedChannel(Arc<Joined>);

#[pymethods]
impl PySharedChannel {
    #[new]
    fn new(capacity: usize, limit: Option<usize>) -> PyResult<Self> {
        Joined::create(capacity, limit).map(Self)
    }

    /// That of another process. The descriptor is given away.
    #[staticmethod]
    fn open(descriptor: i32, identity: Identity) -> PyResult<Self> {
        // SAFETY: the caller gives the descriptor away, which it has opened or was given.
        let fd = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let joined = Joined::of_descriptor(fd)?;
        if joined.identity != identity {
            return Err(PyRuntimeError::new_err("the process that has sent this end of a channel has ended"));
        }
        Ok(Self(joined))
    }

    /// An end that was sent here is counted here now.
    fn arrived(&self, transit: TransitWords) -> bool {
        self.0.member.arrived(Transit::from_words(transit.0, transit.1))
    }
}

/// What both ends can do.
#[pyclass(frozen, weakref, subclass, name = "SharedEnd", module = "raddle._raddle")]
pub(crate) struct PySharedEnd {
    end: End,
}

#[pymethods]
impl PySharedEnd {
    /// Closes it, for all who use it. With the last receiver what is left in the channel is dropped. Closing again does nothing.
    fn close(&self) -> PyResult<()> {
        self.end.leave(CLOSED)?;
        joined::reap();
        Ok(())
    }

    /// Whether this end was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.end.state.load(Acquire) == CLOSED
    }

    /// How many messages the channel holds at most.
    #[getter]
    fn capacity(&self) -> usize {
        self.end.first.member.capacity()
    }

    fn __len__(&self) -> usize {
        self.end.first.member.len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// How many senders and receivers there are, in all processes.
    fn _ends(&self) -> (u64, u64) {
        let member = &self.end.first.member;
        (member.count(Side::Send), member.count(Side::Receive))
    }

    /// In a forked child: does not count until it is used.
    fn _rest(&self) -> PyResult<()> {
        self.end.leave(DORMANT)
    }

    /// In a forked child: takes up the channel that this end counts in already.
    fn _take_up(&self) -> PyResult<()> {
        if self.end.state.load(Acquire) == OPEN { self.end.here().map(drop) } else { Ok(()) }
    }

    /// Its channel, for another end.
    fn _channel(slf: &Bound<'_, Self>) -> PyResult<PySharedChannel> {
        slf.get().end.with(slf.as_any(), |joined| Ok(PySharedChannel(joined.clone())))
    }

    /// `(sent, received, bytes)`.
    fn _numbers(&self) -> (u64, u64, u64) {
        let member = &self.end.first.member;
        let (sent, received) = member.totals();
        (sent, received, member.bytes())
    }

    /// Sends this end to another process: `(descriptor, identity, transit)`. It counts until it has arrived.
    fn _dispatch(slf: &Bound<'_, Self>) -> PyResult<(i32, Identity, TransitWords)> {
        let end = &slf.get().end;
        end.with(slf.as_any(), |joined| {
            joined::reap();
            let transit = joined.member.dispatch(end.side).ok_or_else(|| {
                PyRuntimeError::new_err("too many ends of the channel are on their way to other processes")
            })?;
            Ok((joined.member.as_fd().as_raw_fd(), joined.identity, transit.to_words()))
        })
    }

    /// A process that was just started is to bring what was dispatched.
    fn _carried_by(&self, transit: TransitWords, pid: u32) -> PyResult<()> {
        self.end.here()?.carry(Transit::from_words(transit.0, transit.1), pid)
    }
}

fn deserted(source: &Bound<'_, PyAny>, side: Side) -> PyErr {
    let message = match side {
        Side::Send => "there is no receiver any more",
        Side::Receive => "there is no sender any more, and nothing left",
    };
    errors::channel_is_closed(message, source)
}

/// The sending end.
#[pyclass(frozen, subclass, extends = PySharedEnd, name = "SharedSender", module = "raddle._raddle")]
pub(crate) struct PySharedSender;

#[pymethods]
impl PySharedSender {
    #[new]
    fn new(channel: &PySharedChannel) -> PyClassInitializer<Self> {
        let end = End::new(channel.0.clone(), Side::Send);
        PyClassInitializer::from(PySharedEnd { end }).add_subclass(Self)
    }

    /// Sends an object, waiting for room if need be.
    ///
    /// What it is made of is copied: later changes of the object are not seen by who receives it.
    ///
    /// Args:
    ///     value: What pickle can take; best numbers, strings, bytes and tuples of them, and arrays.
    ///     timeout: For so many seconds at most; 0 does not wait, None waits for ever.
    ///
    /// Raises:
    ///     TimeoutError: If there was no room in that time.
    ///     Closed: If every receiver is closed, or this end is.
    ///     ValueError: If it takes more bytes than the channel may hold.
    #[pyo3(signature = (value, timeout = None))]
    fn send(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (source, end) = (slf.as_any(), &slf.as_super().get().end);
        end.with(source, |joined| {
            let message = Outgoing::new(value, SPARE.take())?;
            let mut draft = None;
            if let Tried::Wanting(_) = attempt(source, joined, &message, &mut draft)? {
                let timeout = timeout_of(timeout)?;
                until_done(source, end, joined, timeout, || attempt(source, joined, &message, &mut draft))?;
            }
            SPARE.set(message.into_spare());
            Ok(())
        })
    }

    /// Sends it, if that can be done at once.
    fn _try(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let source = slf.as_any();
        slf.as_super().get().end.with(source, |joined| {
            if !joined.member.is_ready(Side::Send) && !joined.member.is_closed(Side::Receive) {
                return Ok(false); // and is not encoded in vain
            }
            let message = Outgoing::new(value, SPARE.take())?;
            let sent = matches!(attempt(source, joined, &message, &mut None)?, Tried::Done(()));
            SPARE.set(message.into_spare());
            Ok(sent)
        })
    }
}

/// The receiving end.
#[pyclass(frozen, subclass, extends = PySharedEnd, name = "SharedReceiver", module = "raddle._raddle")]
pub(crate) struct PySharedReceiver;

#[pymethods]
impl PySharedReceiver {
    #[new]
    fn new(channel: &PySharedChannel) -> PyClassInitializer<Self> {
        let end = End::new(channel.0.clone(), Side::Receive);
        PyClassInitializer::from(PySharedEnd { end }).add_subclass(Self)
    }

    /// Receives the next object, waiting for it if need be.
    ///
    /// Args:
    ///     timeout: For so many seconds at most; 0 does not wait, None waits for ever.
    ///
    /// Raises:
    ///     TimeoutError: If nothing came in that time.
    ///     Closed: If every sender is closed and nothing is left, or this end is closed.
    #[pyo3(signature = (timeout = None))]
    fn recv(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let (source, end) = (slf.as_any(), &slf.as_super().get().end);
        end.with(source, |joined| match receive(py, joined)? {
            Tried::Done(value) => Ok(value),
            Tried::Wanting(_) => until_done(source, end, joined, timeout_of(timeout)?, || receive(py, joined)),
        })
    }

    /// Receives what is there, or gives this back.
    fn _try(slf: &Bound<'_, Self>, nothing: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        slf.as_super().get().end.with(slf.as_any(), |joined| match receive(py, joined)? {
            Tried::Done(value) => Ok(value),
            Tried::Wanting(_) => Ok(nothing),
        })
    }

    fn __iter__<'py>(slf: Bound<'py, Self>) -> Bound<'py, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        match Self::recv(slf, None) {
            Err(error) if errors::is_channel_closed(&error, slf.as_any()) => Ok(None),
            received => received.map(Some),
        }
    }
}
