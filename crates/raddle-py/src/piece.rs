//! The `map` of an executor of processes: pieces that its lane divides among workers, and the iterator over what comes of them.
//!
//! Every item is a call of its own, as if it had been submitted: it runs whether or not its result is taken, it fails alone, it can be
//! cancelled until it is begun, and one that blocks holds up nobody but itself. But it has no future and no record of its own. What is
//! submitted is a run of items in one encoding, and the lane cuts a part of it off whenever a worker has room: one item while it is not
//! known what an item takes, and about half a millisecond of them when that is known to be short. What a worker does not get to is taken
//! back from it (rules 19 to 22 of the lane).
//!
//! # Parts
//!
//! * The *cargo*: encoded items, and where each ends. Shared by the pieces that were cut from it.
//! * A *piece*: a range of a cargo, and the ticket that the lane has for it. It knows no Python, so that the lane can cut it, answer it and
//!   drop it wherever it likes.
//! * The *row*: the answers that have come, by the number of their first item; shared by the pieces and the iterator.
//! * The *harvest*: the iterator. It takes the answers in order, decodes their items one by one, and sleeps until the answer is there
//!   that has the next one.
//!
//! Items that cannot be encoded with others, because they have large buffers or cannot be pickled at all, are calls with futures of their
//! own; the harvest has them, by their number.
//!
//! # Rules
//!
//! 1. The items of a map have numbers from 0 on. Each is in one place: in a piece of the lane, in an answer of the row, among the calls with
//!    futures, or handed out. Cutting a piece and answering it happen under the lane's lock, so the answers of a row never overlap and
//!    leave no gap.
//! 2. The range of a piece changes under the lane's lock only; its cargo grows only while the piece is the last call of the backlog, under
//!    the same lock.
//! 3. A thread that wants an item looks for its answer and enters the list of those who wait in one critical section of the row; whoever puts
//!    an answer in looks at that list in the same one. So either the thread sees it, or it is woken for it.
//! 4. No Python code runs under the locks of a row, a cargo or a harvest. The lane's lock may be held when a row's or a cargo's is taken, and
//!    never the other way round.
//! 5. A harvest that was begun and does not come to its end, because a call has raised, because it was closed or dropped or the time is over,
//!    cancels what waits. One that was never begun cancels nothing, as with the standard library's generator.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use pyo3::exceptions::{PyException, PyTimeoutError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;
use raddle_core::life::AtomicState;
use raddle_core::park::{self, Unparker};
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};
use raddle_core::prim::{Mutex, MutexGuard};
use raddle_proc::lane::{Outgoing, Payload, Place, Reply, flag, kind};

use crate::batch::{self, arguments_of};
use crate::codec;
use crate::errors;
use crate::future::{FutureCore, Handle};
use crate::gate::{self, Breath, Timeout};
use crate::parcel::Pickle;
use crate::process_lane::{Binding, ProcessLane, Shared};
use crate::runtime;

/// So many items are handed in at once, at first and at most, where nobody can tell when each of them was.
const FIRST: usize = 16;
const LARGEST: usize = 1024;

/// Encoded items.
#[derive(Default)]
struct Cargo {
    bytes: Vec<u8>,
    /// Where each item ends.
    ends: Vec<usize>,
}

impl Cargo {
    fn end_of(&self, items: u32) -> usize {
        items.checked_sub(1).map_or(0, |last| self.ends[last as usize])
    }

    fn has_room(&self) -> bool {
        self.ends.len() < LARGEST && self.bytes.len() < batch::BYTES
    }
}

/// Some items of a map, in the hands of the lane.
pub(crate) struct Piece {
    row: Arc<Row>,
    cargo: Arc<Mutex<Cargo>>,
    /// The number of the first item of the cargo.
    first: u32,
    // Ordering: Relaxed, both; they change under the lane's lock (rule 2).
    from: AtomicU32,
    to: AtomicU32,
    pub(crate) life: AtomicState,
    pub(crate) place: Place,
}

impl Piece {
    fn new(row: Arc<Row>, cargo: Arc<Mutex<Cargo>>, first: u32, from: u32, to: u32) -> Arc<Self> {
        let (from, to) = (AtomicU32::new(from), AtomicU32::new(to));
        Arc::new(Self { row, cargo, first, from, to, life: AtomicState::default(), place: Place::default() })
    }

    fn part(&self, from: u32, to: u32) -> Arc<Self> {
        Self::new(self.row.clone(), self.cargo.clone(), self.first, from, to)
    }

    pub(crate) fn items(&self) -> u32 {
        self.to.load(Relaxed) - self.from.load(Relaxed)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let cargo = self.cargo.lock();
        let (from, to) = (self.from.load(Relaxed), self.to.load(Relaxed));
        out.extend_from_slice(&cargo.bytes[cargo.end_of(from)..cargo.end_of(to)]);
    }

    pub(crate) fn cut_front(&self, count: u32) -> Arc<Self> {
        let from = self.from.load(Relaxed);
        self.from.store(from + count, Relaxed);
        self.part(from, from + count)
    }

    pub(crate) fn cut_back(&self, count: u32) -> Arc<Self> {
        let (middle, to) = (self.from.load(Relaxed) + count, self.to.load(Relaxed));
        self.to.store(middle, Relaxed);
        self.part(middle, to)
    }

    /// One more item, at the end (rule 2). Returns the bytes that it takes.
    fn grow(&self, bytes: &[u8]) -> usize {
        let mut cargo = self.cargo.lock();
        debug_assert_eq!(self.to.load(Relaxed) as usize, cargo.ends.len(), "the last piece has the end of its cargo");
        cargo.bytes.extend_from_slice(bytes);
        let end = cargo.bytes.len();
        cargo.ends.push(end);
        self.to.fetch_add(1, Relaxed);
        bytes.len()
    }

    pub(crate) fn pace(&self) -> Option<u64> {
        Some(self.row.each.load(Relaxed)).filter(|&each| each > 0)
    }

    /// What an item takes is, in the main, what the last ones took.
    pub(crate) fn note_pace(&self, each: u64) {
        let known = self.row.each.load(Relaxed);
        let each = if known == 0 { each } else { (known / 4).saturating_add(each / 4 * 3) };
        self.row.each.store(each.max(1), Relaxed);
    }

    pub(crate) fn deliver(&self, reply: Reply) {
        let items = self.items();
        if let Reply::Answer { nanos: nanos @ 1.., .. } = &reply {
            self.note_pace(nanos / u64::from(items.max(1)));
        }
        self.row.put(self.first + self.from.load(Relaxed), items, Outcome::Reply(reply));
    }

    /// It was taken back, and its items will not run.
    pub(crate) fn cancelled(&self) {
        self.row.put(self.first + self.from.load(Relaxed), self.items(), Outcome::Cancelled);
    }

    fn is_of(&self, row: &Arc<Row>) -> bool {
        Arc::ptr_eq(&self.row, row)
    }
}

/// What has come of some items.
enum Outcome {
    Reply(Reply),
    Cancelled,
}

/// The answers of a map that have come and were not taken.
#[derive(Default)]
pub(crate) struct Row {
    inner: Mutex<Inner>,
    /// Nanoseconds that an item takes, as far as is known; 0 is not known. Ordering: Relaxed, it is a number and no news of anything else.
    each: AtomicU64,
}

#[derive(Default)]
struct Inner {
    /// By the number of the first item, with how many items it is for.
    answers: BTreeMap<u32, (u32, Outcome)>,
    /// Every item before this one was taken.
    taken: u32,
    /// Nothing will be asked for any more: what comes is of no use.
    is_over: bool,
    /// Threads that sleep for an item.
    waiters: Vec<(u32, Unparker)>,
}

impl Inner {
    /// Whether a thread need not wait for this item.
    fn is_ready(&self, number: u32) -> bool {
        self.is_over || number < self.taken || self.answers.contains_key(&number)
    }
}

impl Row {
    fn put(&self, first: u32, items: u32, outcome: Outcome) {
        let mut inner = self.inner.lock();
        if inner.is_over {
            drop(inner);
            return; // and the answer with it
        }
        inner.answers.insert(first, (items, outcome));
        for (number, thread) in &inner.waiters {
            if (first..first + items).contains(number) {
                thread.unpark();
            }
        }
    }

    /// Takes the answer that begins with this item.
    fn take(&self, number: u32) -> Option<(u32, Outcome)> {
        let mut inner = self.inner.lock();
        let (items, outcome) = inner.answers.remove(&number)?;
        inner.taken = number + items;
        Some((items, outcome))
    }

    /// Nothing will be asked for any more.
    fn end(&self) {
        let mut inner = self.inner.lock();
        inner.is_over = true;
        let dropped = std::mem::take(&mut inner.answers);
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        drop(dropped);
        waiters.iter().for_each(|(_, thread)| thread.unpark());
    }

    /// Has this thread woken when the item's answer is there. False if there is nothing to wait for.
    fn enter(&self, number: u32, me: &Unparker) -> bool {
        let mut inner = self.inner.lock();
        let waits = !inner.is_ready(number);
        if waits {
            inner.waiters.push((number, me.clone()));
        }
        waits
    }

    fn leave(&self, me: &Unparker) {
        self.inner.lock().waiters.retain(|(_, thread)| !thread.same_as(me));
    }
}

/// Reads the input of a map and hands it in.
pub(crate) struct Sowing<'a> {
    pub(crate) lane: &'a ProcessLane,
    pub(crate) binding: &'a Binding,
    /// The number of the function.
    pub(crate) tag: u32,
    /// Whether an item is the tuple of all arguments, and not the only one.
    pub(crate) starred: bool,
    row: Arc<Row>,
    /// What was handed in last, while it may grow.
    last: Option<Arc<Piece>>,
    cargo: Cargo,
    odd: HashMap<u32, Py<FutureCore>>,
    /// Items that were read.
    read: u32,
}

impl<'a> Sowing<'a> {
    pub(crate) fn new(lane: &'a ProcessLane, binding: &'a Binding, tag: u32, starred: bool) -> Self {
        let (row, cargo) = (Arc::default(), Cargo::default());
        Self { lane, binding, tag, starred, row, last: None, cargo, odd: HashMap::new(), read: 0 }
    }

    /// Hands in every item of `calls`. If it is `inert`, reading it runs no code that could tell when, and many are handed in at once.
    pub(crate) fn run(mut self, calls: &Bound<'_, PyAny>, inert: bool, deadline: Option<Instant>) -> PyResult<Harvest> {
        let py = calls.py();
        let read = self.read_all(calls, inert);
        // What was read was scheduled, also if something came in between; then nobody will ask for what comes of it.
        let handed = self.hand_in(py);
        if let Err(error) = read.and(handed) {
            self.row.end();
            return Err(error);
        }
        let Self { lane, binding, row, odd, read, .. } = self;
        let label = binding.label(py);
        let rest = Taking { next: 0, total: read, open: None, odd, is_begun: false, is_over: false };
        Ok(Harvest { shared: lane.shared().clone(), row, label, deadline, taking: Mutex::new(rest) })
    }

    fn read_all(&mut self, calls: &Bound<'_, PyAny>, inert: bool) -> PyResult<()> {
        let py = calls.py();
        let (mut size, mut breath) = (if inert { FIRST } else { 1 }, Breath::new());
        for item in calls.try_iter()? {
            self.add(item?)?;
            if self.cargo.ends.len() < size && self.cargo.bytes.len() < batch::BYTES {
                continue;
            }
            self.hand_in(py)?;
            if inert {
                size = (2 * size).min(LARGEST);
            }
            if breath.is_due() {
                py.check_signals()?;
                gate::detached(py, || ())?;
                breath = Breath::new();
            }
        }
        Ok(())
    }

    /// Encodes one item, or hands it in as a call of its own.
    fn add(&mut self, item: Bound<'_, PyAny>) -> PyResult<()> {
        let py = item.py();
        let start = self.cargo.bytes.len();
        if !codec::push_flat(&item, &mut self.cargo.bytes) {
            let buffers = PyList::empty(py);
            match self.lane.shared().dumps(&item, Some(&buffers)).and_then(|made| Pickle::new(&made)) {
                Ok(pickle) if buffers.is_empty() => codec::push_pickle(pickle.as_bytes(py), &mut self.cargo.bytes),
                Err(error) if !error.is_instance_of::<PyException>(py) => {
                    self.cargo.bytes.truncate(start);
                    return Err(error);
                }
                _ => {
                    self.hand_in(py)?; // what was read before comes before it
                    self.last = None;
                    let future = self.lane.submit_bound(py, self.binding, arguments_of(item, self.starred)?)?;
                    self.odd.insert(self.read, future);
                    self.read += 1;
                    return Ok(());
                }
            }
        }
        let end = self.cargo.bytes.len();
        self.cargo.ends.push(end);
        self.read += 1;
        Ok(())
    }

    /// Hands in what was encoded.
    fn hand_in(&mut self, py: Python<'_>) -> PyResult<()> {
        let items = self.cargo.ends.len() as u32;
        if items == 0 {
            return Ok(());
        }
        if items == 1 && self.grow_last() {
            self.cargo.bytes.clear();
            self.cargo.ends.clear();
            return Ok(());
        }
        let cargo = std::mem::take(&mut self.cargo);
        let bytes = cargo.bytes.len();
        let piece = Piece::new(self.row.clone(), Arc::new(Mutex::new(cargo)), self.read - items, 0, items);
        self.last = (items == 1).then(|| piece.clone());
        let flags = flag::LIST | if self.starred { flag::STARRED } else { 0 };
        let out = Outgoing { kind: kind::PIECE, flags, tag: self.tag, parts: &[] };
        let row = self.row.clone();
        self.lane.submit_piece(py, Handle::Piece(piece), &out, bytes, &|handle| is_of(handle, &row))
    }

    /// Appends the one item that was encoded to the piece before it, if nothing was submitted since.
    fn grow_last(&self) -> bool {
        let Some(last) = self.last.as_ref().filter(|last| last.cargo.lock().has_room()) else { return false };
        self.lane.shared().lane.extend_piece(&Handle::Piece(last.clone()), &mut || last.grow(&self.cargo.bytes))
    }
}

fn is_of(handle: &Handle, row: &Arc<Row>) -> bool {
    matches!(handle, Handle::Piece(piece) if piece.is_of(row))
}

/// The iterator over what comes of the items of a map, in order.
#[pyclass(frozen, name = "PieceHarvest", module = "raddle._raddle")]
pub(crate) struct Harvest {
    shared: Arc<Shared>,
    row: Arc<Row>,
    /// What was called, for messages.
    label: Option<Py<PyAny>>,
    deadline: Option<Instant>,
    taking: Mutex<Taking>,
}

/// How far a harvest is.
struct Taking {
    /// The number of the next item.
    next: u32,
    total: u32,
    /// The answer that the next item is in: its bytes, where in them, and how many items are left.
    open: Option<(Payload, usize, u32)>,
    /// Calls of their own.
    odd: HashMap<u32, Py<FutureCore>>,
    /// Something was asked for.
    is_begun: bool,
    is_over: bool,
}

/// What is next.
enum Next {
    /// An entry of an answer, which lies between these two.
    Entry(Payload, usize),
    Future(Py<FutureCore>),
    Reply(Reply, u32),
    Cancelled,
    NotYet(u32),
    Garbled,
    End,
}

impl Harvest {
    /// The lock of the harvest. A forked child gets an error whatever has come before the fork, since how much that is depends on luck.
    #[inline]
    fn lock(&self) -> PyResult<MutexGuard<'_, Taking>> {
        if self.shared.is_foreign() {
            return Err(runtime::foreign());
        }
        Ok(self.taking.lock())
    }

    /// Takes what is next.
    #[inline]
    fn next(&self) -> PyResult<Next> {
        let mut taking = self.lock()?;
        if taking.is_over {
            return Ok(Next::End);
        }
        taking.is_begun = true;
        if taking.open.is_none() {
            let number = taking.next;
            if number == taking.total {
                taking.is_over = true;
                return Ok(Next::End);
            }
            if let Some(future) = taking.odd.remove(&number) {
                taking.next += 1;
                self.row.inner.lock().taken = number + 1;
                return Ok(Next::Future(future));
            }
            match self.row.take(number) {
                None => return Ok(Next::NotYet(number)),
                Some((_, Outcome::Cancelled)) => return Ok(Next::Cancelled),
                Some((items, Outcome::Reply(Reply::Answer { kind: kind::VALUE, payload, .. }))) => {
                    taking.open = Some((payload, 0, items));
                }
                Some((items, Outcome::Reply(reply))) => return Ok(Next::Reply(reply, items)),
            }
        }
        let Some((payload, at, left)) = &mut taking.open else { return Ok(Next::End) };
        let (bytes, begin) = (&**payload, *at);
        let mut rest = bytes.get(begin..).unwrap_or_default();
        match codec::next_entry(&mut rest) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Ok(Next::Garbled),
        }
        *at = bytes.len() - rest.len();
        *left -= 1;
        let payload = if *left == 0 { taking.open.take().map(|(payload, ..)| payload) } else { Some(payload.clone()) };
        taking.next += 1;
        Ok(payload.map_or(Next::Garbled, |payload| Next::Entry(payload, begin)))
    }

    fn label<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.label.as_ref().map(|label| label.bind(py))
    }

    /// Waits until the answer of an item is there. False if the deadline came first.
    #[cold]
    fn wait(&self, py: Python<'_>, number: u32) -> PyResult<bool> {
        let me = park::with_current(park::Parker::unparker);
        if !self.row.enter(number, &me) {
            return Ok(true);
        }
        let lane = &self.shared.lane;
        let waited = gate::wait(py, self.deadline, |until| {
            lane.wait_for(None, &|| self.row.inner.lock().is_ready(number), until)
        });
        self.row.leave(&me);
        drop(lane.spent());
        waited
    }

    /// Ends the iteration; cancels what waits, if it was begun (rule 5).
    fn end(&self, py: Python<'_>) {
        if self.shared.is_foreign() {
            return; // the parent's locks may be held by threads that are not here
        }
        let mut taking = self.taking.lock();
        let must_cancel = taking.is_begun && !std::mem::replace(&mut taking.is_over, true);
        let dropped = (taking.open.take(), std::mem::take(&mut taking.odd));
        drop(taking);
        self.row.end();
        if must_cancel {
            drop(self.shared.lane.take_back_where(&|handle| is_of(handle, &self.row)));
            for future in dropped.1.values() {
                if let Err(error) = FutureCore::take_back(future.bind(py), false) {
                    error.write_unraisable(py, None);
                }
            }
        }
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            match self.next()? {
                Next::Entry(payload, at) => {
                    let mut rest = payload.get(at..).unwrap_or_default();
                    let entry = codec::next_entry(&mut rest)?.ok_or_else(codec::garbled)?;
                    return self.shared.decode_entry(py, &entry, self.label(py))?.map(Some);
                }
                Next::NotYet(number) if self.wait(py, number)? => {}
                Next::NotYet(_) => return Err(PyTimeoutError::new_err(())),
                Next::End => return Ok(None),
                Next::Future(future) => {
                    let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    let result = FutureCore::result(future.bind(py), Timeout::of(left));
                    if result.is_err() {
                        FutureCore::take_back(future.bind(py), false)?;
                    }
                    return result.map(|value| Some(value.into_bound(py)));
                }
                Next::Reply(reply, items) => {
                    let value = self.shared.decode(py, &reply, (items, 0), self.label(py))??;
                    return Ok(Some(value.into_bound(py))); // no answer of a piece is a value alone
                }
                Next::Cancelled => return Err(errors::cancelled(py)),
                Next::Garbled => return Err(codec::garbled()),
            }
        }
    }
}

#[pymethods]
impl Harvest {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.take(py).inspect_err(|_| self.end(py))
    }

    /// Ends the iteration: what has not started is cancelled, if a result was asked for.
    fn close(&self, py: Python<'_>) {
        self.end(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.label)?;
        // Rule 4: whoever holds the lock does not need the interpreter to let go of it. In a fork, it may be held by nobody.
        let Some(taking) = self.taking.try_lock() else { return Ok(()) };
        taking.odd.values().try_for_each(|future| visit.call(future))
    }

    fn __clear__(&self) {
        if let Some(mut taking) = self.taking.try_lock() {
            let dropped = std::mem::take(&mut taking.odd);
            drop(taking);
            drop(dropped);
        }
    }
}

impl Drop for Harvest {
    fn drop(&mut self) {
        gate::attached(|py| {
            self.end(py);
            Ok(())
        });
    }
}
