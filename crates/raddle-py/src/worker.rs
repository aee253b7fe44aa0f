//! A worker process: takes calls from its link, runs them, answers.
//!
//! `raddle_boot` calls [`work`] once, on the main thread, when the process is set up; it returns when the parent says so or
//! when the worker has done as many calls as it was to do.
//!
//! # Fork
//!
//! If the user's function forks and the child comes back from it, that child must not answer in our place: it ends there.
//!
//! # Signals
//!
//! A `KeyboardInterrupt` belongs to the call that runs; while none runs it is dropped, because the parent has got it too and
//! decides.

use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use raddle_proc::child::{self, Crowded, Look, WorkerEnd};
use raddle_proc::lane::{MOST_ITEMS, clock_ns, flag, kind};

use crate::batch::{self, Budget, call_item};
use crate::codec::{self, Entry};
use crate::errors;
use crate::gate;
use crate::outlet::{Outlet, Running};
use crate::parcel::{self, Packed, Pickle, Reach};
use crate::runtime;

/// What the Python side gives a worker.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Seams {
    /// `dumps(object, buffer_callback) -> bytes-like`.
    dumps: Py<PyAny>,
    /// The second try, or None.
    dumps_by_value: Option<Py<PyAny>>,
    loads: Py<PyAny>,
    /// `describe(exception) -> str`: the traceback as text.
    describe: Py<PyAny>,
    /// `stand_in(exception, text, error) -> exception`: for one that does not survive the journey.
    stand_in: Option<Py<PyAny>>,
    /// Called without arguments before the first call, or None.
    initialize: Option<Py<PyAny>>,
    /// `unfit(exception) -> str`: reports a failed `initialize`.
    unfit: Py<PyAny>,
    /// Called without arguments before the worker sleeps.
    idle: Py<PyAny>,
    /// `forget(key)`: lets go of an object that was put.
    forget: Py<PyAny>,
    /// `speak(outlet)`: has what the user prints and logs go through it, or None.
    speak: Option<Py<PyAny>>,
}

struct Worker {
    end: WorkerEnd,
    seams: Seams,
    functions: Vec<Option<Function>>,
    /// Where words are attributed to calls.
    running: Option<Running>,
}

/// A function that calls name by number; it is unpickled by the first of them, so that an error is that call's.
enum Function {
    Pickled(Py<PyBytes>),
    Ready(Py<PyAny>),
}

/// What a call came to, as bytes.
struct Answer {
    kind: u8,
    flags: u8,
    /// How many items of a batch were done; 1 for a call of its own.
    done: u32,
    /// How many of them raised, if that did not end the batch.
    failed: Option<u32>,
    bytes: Bytes,
}

/// A request, read.
enum Request {
    Call(Py<PyTuple>, Option<Py<PyDict>>),
    Batch(Batch),
    Piece(Batch),
}

/// The items of a batch, encoded, and how they are to be done.
struct Batch {
    items: Vec<u8>,
    starred: bool,
    whole: bool,
    goes_on: bool,
}

enum Bytes {
    Raw(Vec<u8>),
    Packed(Packed),
}

/// Runs calls until there are no more. `fds`: of the link, the page, the keeper's bell and the parent's heap; they are taken over.
/// `max_tasks`: end after so many.
#[pyfunction]
#[pyo3(signature = (fds, parent, seams, max_tasks = None))]
pub(crate) fn work(
    py: Python<'_>,
    fds: [RawFd; 4],
    parent: u32,
    seams: Bound<'_, PyDict>,
    max_tasks: Option<u64>,
) -> PyResult<()> {
    let take = |fd: RawFd| {
        // SAFETY: the caller hands the descriptor over; nobody else in this process uses it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    let [link, page, bell, heap] = fds.map(take);
    let seams: Seams = seams.extract()?;
    let words = seams.speak.as_ref().map(|_| raddle_proc::Outlet::open(link.as_fd(), bell.as_fd())).transpose()?;
    let end = WorkerEnd::open(link, page, bell, heap, parent)?;
    runtime::answer_from(end.heap());
    let running = seams.speak.is_some().then(Running::default);
    let mut worker = Worker { end, seams, functions: Vec::new(), running };
    if let (Some(speak), Some(words)) = (&worker.seams.speak, words) {
        speak.bind(py).call1((Outlet::new(words),))?;
    }
    if let Some(initialize) = &worker.seams.initialize
        && let Err(error) = initialize.bind(py).call0()
    {
        let account: String = worker.seams.unfit.bind(py).call1((error.into_value(py),))?.extract()?;
        return worker.say(py, kind::UNFIT, account.as_bytes());
    }
    worker.say(py, kind::READY, &[])?;
    worker.run(py, max_tasks)
}

impl Worker {
    fn run(&mut self, py: Python<'_>, max_tasks: Option<u64>) -> PyResult<()> {
        let mut calls = 0;
        loop {
            match self.end.look() {
                Look::Empty => {
                    // What flushing raises is about the user's streams, and there is no call to blame.
                    let _ = self.seams.idle.bind(py).call0();
                    let end = &mut self.end;
                    gate::detached(py, || end.sleep())?;
                    drop_interrupt(py)?;
                }
                Look::Request { kind: kind::STOP, .. } => return Ok(()),
                Look::Request { kind, flags, tag } => {
                    if !self.end.claim() {
                        continue;
                    }
                    if kind == kind::DEFINE {
                        self.define(py, tag)?;
                        continue;
                    }
                    if kind == kind::FORGET {
                        self.forget(py)?;
                        continue;
                    }
                    self.call(py, kind, flags, tag)?;
                    calls += 1;
                    if max_tasks.is_some_and(|most| calls >= most) {
                        return self.say(py, kind::RETIRED, &[]);
                    }
                }
                Look::Corrupt => return Err(garbled()),
            }
        }
    }

    fn define(&mut self, py: Python<'_>, tag: u32) -> PyResult<()> {
        let pickled = PyBytes::new(py, self.end.payload().ok_or_else(garbled)?).unbind();
        self.end.done_reading();
        self.end.finish();
        let index = tag as usize;
        if self.functions.len() <= index {
            self.functions.resize_with(index + 1, || None);
        }
        self.functions[index] = Some(Function::Pickled(pickled));
        Ok(())
    }

    fn forget(&mut self, py: Python<'_>) -> PyResult<()> {
        let (keys, _) = self.end.payload().ok_or_else(garbled)?.as_chunks();
        let keys: Vec<u64> = keys.iter().map(|key| u64::from_ne_bytes(*key)).collect();
        self.end.done_reading();
        self.end.finish();
        for key in keys {
            self.seams.forget.bind(py).call1((key,))?;
        }
        Ok(())
    }

    fn call(&mut self, py: Python<'_>, kind: u8, flags: u8, tag: u32) -> PyResult<()> {
        let request = self.read(py, kind, flags, tag);
        self.end.done_reading();
        let (answer, nanos, begun) = match request {
            Err(error) => (self.failure(py, kind::UNREADABLE, error)?, 0, clock_ns()),
            Ok((function, Request::Batch(batch))) => {
                self.begin(py, &function, kind);
                let entered = self.end.enter_call();
                let begun = entered.moment();
                let answer = self.batch(py, function.bind(py), &batch)?;
                self.ended();
                self.end.give_back();
                (answer, self.end.leave_call(entered), begun)
            }
            Ok((function, Request::Piece(piece))) => {
                self.begin(py, &function, kind);
                let entered = self.end.enter_call();
                let begun = entered.moment();
                let answer = self.piece(py, function.bind(py), &piece)?;
                self.ended();
                self.end.give_back();
                (answer, self.end.leave_call(entered), begun)
            }
            Ok((function, Request::Call(args, kwargs))) => {
                let forks = runtime::forks();
                self.begin(py, &function, kind);
                let entered = self.end.enter_call();
                let begun = entered.moment();
                let result = function.bind(py).call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)));
                if runtime::forks() != forks {
                    return Err(end_fork(py));
                }
                let nanos = self.end.leave_call(entered);
                self.ended();
                drop((function, args, kwargs));
                self.end.give_back();
                let answer = match result.and_then(|value| self.success(py, &value)) {
                    Ok(answer) => answer,
                    Err(error) => self.failure(py, kind::ERROR, error)?,
                };
                (answer, nanos, begun)
            }
        };
        self.answer(py, answer, nanos, (flags & flag::TIMED != 0).then_some(begun))
    }

    /// Where words are attributed to calls, says which one it is now.
    fn begin(&mut self, py: Python<'_>, function: &Py<PyAny>, kind: u8) {
        if let Some(running) = &mut self.running {
            running.begin(py, function, kind != kind::APPLY);
        }
    }

    /// And that it has ended.
    fn ended(&mut self) {
        if let Some(running) = &mut self.running {
            running.end();
        }
    }

    /// Sends an answer. `begun`: when the call was, if it is to be said.
    fn answer(&mut self, py: Python<'_>, answer: Answer, nanos: u64, begun: Option<u64>) -> PyResult<()> {
        let Answer { kind, mut flags, done, failed, bytes } = answer;
        let (head, content): (&[u8], &[u8]) = match &bytes {
            Bytes::Raw(bytes) => (&[], bytes),
            Bytes::Packed(Packed { head: None, pickle, .. }) => (&[], pickle.as_bytes(py)),
            Bytes::Packed(Packed { head: Some(head), pickle, .. }) => {
                flags |= flag::BUFFERS;
                (head, pickle.as_bytes(py))
            }
        };
        let (parts, len): (&[&[u8]], _) = (&[head, content], head.len() + content.len());
        if !self.end.can_reply(len) {
            let error =
                PyRuntimeError::new_err(format!("the answer is too large for the way back: {len} bytes of pickle"));
            let answer = self.failure(py, kind::ERROR, error)?;
            return self.answer(py, answer, nanos, begun);
        }
        while self.end.reply(&child::Answer { kind, flags, nanos, begun, done, failed, parts }) == Err(Crowded) {
            self.wait_for_room(py, len)?;
        }
        if let Bytes::Packed(Packed { leases, .. }) = bytes {
            leases.into_iter().for_each(|lease| _ = lease.lend()); // the parent gives them back
        }
        Ok(())
    }

    /// The function and arguments of the request looked at last.
    fn read(&mut self, py: Python<'_>, kind: u8, flags: u8, tag: u32) -> PyResult<(Py<PyAny>, Request)> {
        let Self { end, seams, functions, .. } = self;
        let parent_heap = end.parent_heap().clone();
        let mut payload = end.payload().ok_or_else(garbled)?;
        let function = if kind == kind::APPLY {
            let (length, rest) = payload.split_first_chunk().ok_or_else(garbled)?;
            let length = u64::from_le_bytes(*length) as usize;
            let (function, rest) = rest.split_at_checked(length).ok_or_else(garbled)?;
            payload = rest;
            Some(function)
        } else {
            None
        };
        // First of all, once: what is named here is given back when it is dropped, whatever goes wrong.
        let leases = match flags & flag::BUFFERS {
            0 => Vec::new(),
            _ => WorkerEnd::borrow(&parent_heap, payload).ok_or_else(garbled)?,
        };
        let loads = seams.loads.bind(py);
        let function = if let Some(function) = function {
            parcel::load(loads, function, None)?.unbind()
        } else {
            let slot = functions.get_mut(tag as usize).and_then(Option::as_mut).ok_or_else(garbled)?;
            if let Function::Pickled(pickled) = slot {
                *slot = Function::Ready(seams.loads.call1(py, (&*pickled,))?);
            }
            let Function::Ready(function) = slot else { return Err(garbled()) };
            function.clone_ref(py)
        };
        if flags & flag::FLAT != 0 {
            let args = codec::unflatten(py, payload)?.cast_into::<PyTuple>()?;
            return Ok((function, Request::Call(args.unbind(), None)));
        }
        if matches!(kind, kind::BATCH | kind::PIECE) {
            let [starred, whole, goes_on] = [flag::STARRED, flag::WHOLE, flag::GOES_ON].map(|flag| flags & flag != 0);
            let batch = Batch { items: payload.to_vec(), starred, whole, goes_on };
            let request = if kind == kind::PIECE { Request::Piece(batch) } else { Request::Batch(batch) };
            return Ok((function, request));
        }
        let object = if flags & flag::BUFFERS == 0 {
            parcel::load(loads, payload, None)?
        } else {
            parcel::unpack(loads, payload, leases)?
        };
        if flags & flag::KEYWORDS == 0 {
            return Ok((function, Request::Call(object.cast_into::<PyTuple>()?.unbind(), None)));
        }
        let (args, kwargs): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = object.extract()?;
        Ok((function, Request::Call(args.unbind(), Some(kwargs.unbind()))))
    }

    fn success(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Answer> {
        let mut flat = Vec::new();
        if codec::flatten(value, &mut flat) {
            return Ok(Answer { kind: kind::VALUE, flags: flag::FLAT, done: 1, failed: None, bytes: Bytes::Raw(flat) });
        }
        let packed = self.pack(py, value).inspect_err(|error| unsendable(py, error))?;
        Ok(Answer { kind: kind::VALUE, flags: 0, done: 1, failed: None, bytes: Bytes::Packed(packed) })
    }

    /// Does the items of a batch, one by one: decoded, called, encoded.
    fn batch(&self, py: Python<'_>, function: &Bound<'_, PyAny>, batch: &Batch) -> PyResult<Answer> {
        let (budget, forks) = (Budget::new(batch.whole), runtime::forks());
        let (mut items, mut out, mut done, mut failed) = (batch.items.as_slice(), Vec::new(), 0, 0);
        while let Some(entry) = codec::next_entry(&mut items)? {
            done += 1;
            let result = match entry {
                Entry::Flat(bytes) => codec::unflatten(py, bytes),
                Entry::Pickle(bytes) => parcel::load(self.seams.loads.bind(py), bytes, None).inspect_err(|error| {
                    errors::note(py, error, "raddle: the worker could not unpickle the arguments")
                }),
                Entry::Error(_) => Err(garbled()),
            }
            .and_then(|item| call_item(function, item, batch.starred));
            if runtime::forks() != forks {
                return Err(end_fork(py));
            }
            if let Err(error) = result.and_then(|result| self.push(&result, &mut out)) {
                codec::push_error(&self.packed_failure(py, error)?, &mut out);
                failed += 1;
                if !batch.goes_on {
                    break;
                }
            }
            if budget.is_over() || (!batch.whole && out.len() >= batch::BYTES) {
                break;
            }
        }
        let flags = flag::LIST | if failed > 0 && !batch.goes_on { flag::RAISED } else { 0 };
        Ok(Answer { kind: kind::VALUE, flags, done, failed: batch.goes_on.then_some(failed), bytes: Bytes::Raw(out) })
    }

    /// Does items of a piece, one by one, as long as the parent does not take the rest away: each is a call of its own, whatever becomes of
    /// the others. An item that cannot be read comes first in a piece, so that it can be answered alone.
    fn piece(&mut self, py: Python<'_>, function: &Bound<'_, PyAny>, piece: &Batch) -> PyResult<Answer> {
        let forks = runtime::forks();
        let (mut items, mut out, mut done, mut failed) = (piece.items.as_slice(), Vec::new(), 0, 0);
        self.end.open_piece(codec::count_entries(items).filter(|&count| count <= MOST_ITEMS).ok_or_else(garbled)?);
        while out.len() < batch::BYTES && self.end.begin_item() {
            let Some(entry) = codec::next_entry(&mut items)? else { break };
            let item = match entry {
                Entry::Flat(bytes) => codec::unflatten(py, bytes),
                Entry::Pickle(bytes) => parcel::load(self.seams.loads.bind(py), bytes, None),
                Entry::Error(_) => Err(garbled()),
            };
            let item = match item {
                Ok(item) => item,
                Err(_) if done > 0 => break,
                Err(error) => {
                    self.end.close_piece();
                    return self.failure(py, kind::UNREADABLE, error);
                }
            };
            let result = call_item(function, item, piece.starred);
            if runtime::forks() != forks {
                return Err(end_fork(py));
            }
            let start = out.len();
            done += 1;
            if let Err(error) = result.and_then(|result| self.push(&result, &mut out)) {
                codec::push_error(&self.packed_failure(py, error)?, &mut out);
                failed += 1;
            }
            self.end.item_done(&out[start..], done, failed);
        }
        self.end.close_piece();
        Ok(Answer { kind: kind::VALUE, flags: flag::LIST, done, failed: Some(failed), bytes: Bytes::Raw(out) })
    }

    /// Appends one result of a batch.
    fn push(&self, result: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        if !codec::push_flat(result, out) {
            let dumped = self.dumps(result, None).inspect_err(|error| unsendable(result.py(), error))?;
            let pickle = Pickle::new(&dumped)?;
            codec::push_pickle(pickle.as_bytes(result.py()), out);
        }
        Ok(())
    }

    /// An exception as bytes of their own.
    fn packed_failure(&self, py: Python<'_>, error: PyErr) -> PyResult<Vec<u8>> {
        Ok(match self.failure(py, kind::ERROR, error)?.bytes {
            Bytes::Packed(packed) => packed.pickle.as_bytes(py).to_vec(),
            Bytes::Raw(bytes) => bytes,
        })
    }

    /// An exception and its traceback, or a stand-in if it does not survive the journey.
    fn failure(&self, py: Python<'_>, kind: u8, error: PyErr) -> PyResult<Answer> {
        // Before 3.12 an exception that is being raised does not carry its traceback yet; this puts it there.
        let error = error.into_value(py).into_bound(py).into_any();
        let text = self.seams.describe.bind(py).call1((&error,))?;
        let packed = self.pack_error(py, &error, &text);
        let pickle = match (packed, &self.seams.stand_in) {
            (Ok(pickle), _) => pickle,
            (Err(trouble), Some(stand_in)) => {
                let stand_in = stand_in.bind(py).call1((&error, &text, trouble.value(py)))?;
                self.pack_error(py, &stand_in, &text)?
            }
            (Err(trouble), None) => {
                let trouble = trouble.into_value(py).into_bound(py).into_any();
                let text = self.seams.describe.bind(py).call1((&trouble,))?;
                self.pack_error(py, &trouble, &text)?
            }
        };
        let packed = Packed { head: None, pickle: Pickle::new(&pickle)?, leases: Vec::new() };
        Ok(Answer { kind, flags: 0, done: 1, failed: None, bytes: Bytes::Packed(packed) })
    }

    fn pack_error<'py>(
        &self,
        py: Python<'py>,
        error: &Bound<'py, PyAny>,
        text: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pickle = self.dumps((error, text).into_pyobject(py)?.as_any(), None)?;
        if self.seams.stand_in.is_some() {
            // Many exceptions pickle and cannot be made again: see it here, where something can be done about it.
            self.seams.loads.bind(py).call1((&pickle,))?;
        }
        Ok(pickle)
    }

    /// Pickles an object, its large buffers into the heap that the parent sees.
    fn pack(&self, py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<Packed> {
        let reach = Reach::Worker { own: self.end.heap(), parent: self.end.parent_heap() };
        parcel::pack(py, &reach, |buffers| self.dumps(object, buffers))
    }

    fn dumps<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        buffers: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        let callback = buffers.map(|buffers| buffers.getattr(intern!(py, "append"))).transpose()?;
        match (self.seams.dumps.bind(py).call1((object, &callback)), &self.seams.dumps_by_value) {
            (Err(error), Some(by_value)) if error.is_instance_of::<PyException>(py) => {
                if let Some(buffers) = buffers {
                    buffers.del_slice(0, buffers.len())?; // what the first try has left
                }
                by_value.bind(py).call1((object, &callback))
            }
            (pickled, _) => pickled,
        }
    }

    fn say(&mut self, py: Python<'_>, kind: u8, bytes: &[u8]) -> PyResult<()> {
        while self.end.say(kind, &[bytes]) == Err(Crowded) {
            self.wait_for_room(py, bytes.len())?;
        }
        Ok(())
    }

    fn wait_for_room(&mut self, py: Python<'_>, len: usize) -> PyResult<()> {
        let end = &mut self.end;
        gate::detached(py, || end.sleep_for_room(len))?;
        drop_interrupt(py)
    }
}

/// Says of an exception that it is about the result, not about the call.
fn unsendable(py: Python<'_>, error: &PyErr) {
    errors::note(
        py,
        error,
        "raddle: the result of this call could not be pickled\n  hint: return plain data, and keep what belongs to the worker there",
    );
}

/// Runs signal handlers; a KeyboardInterrupt while no call runs is nobody's.
fn drop_interrupt(py: Python<'_>) -> PyResult<()> {
    match py.check_signals() {
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) => Ok(()),
        checked => checked,
    }
}

/// Ends a process that the user's function forked off and that came back from it. Does not return.
fn end_fork(py: Python<'_>) -> PyErr {
    let ended = py.import("os").and_then(|os| {
        let sys = py.import("sys")?;
        for stream in ["stdout", "stderr"] {
            let _ = sys.getattr(stream).and_then(|stream| stream.call_method0("flush"));
        }
        os.call_method1(PyString::intern(py, "_exit"), (0,)).map(drop)
    });
    ended.err().unwrap_or_else(|| PyRuntimeError::new_err("os._exit returned"))
}

fn garbled() -> PyErr {
    PyRuntimeError::new_err("the memory shared with the parent process is garbled")
}
