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

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use raddle_proc::child::{self, Crowded, Look, WorkerEnd};
use raddle_proc::lane::{flag, kind};

use crate::batch::{Arguments, Batch, Done, run_batch};
use crate::codec;
use crate::gate;
use crate::runtime;

/// Payloads larger than this are unpickled where they lie instead of being copied first.
const LARGE: usize = 4096;

/// What the Python side gives a worker.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Seams {
    /// `dumps(object) -> bytes-like`.
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
}

struct Worker {
    end: WorkerEnd,
    seams: Seams,
    functions: Vec<Option<Function>>,
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
    bytes: Bytes,
}

enum Bytes {
    Flat(Vec<u8>),
    Pickle(Py<PyAny>),
}

/// Runs calls until there are no more. `max_tasks`: end after so many.
#[pyfunction]
#[pyo3(signature = (link, page, bell, parent, seams, max_tasks = None))]
pub(crate) fn work(
    py: Python<'_>,
    link: RawFd,
    page: RawFd,
    bell: RawFd,
    parent: u32,
    seams: Bound<'_, PyDict>,
    max_tasks: Option<u64>,
) -> PyResult<()> {
    let take = |fd: RawFd| {
        // SAFETY: the caller hands the descriptor over; nobody else in this process uses it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    let end = WorkerEnd::open(take(link), take(page), take(bell), parent)?;
    let mut worker = Worker { end, seams: seams.extract()?, functions: Vec::new() };
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

    fn call(&mut self, py: Python<'_>, kind: u8, flags: u8, tag: u32) -> PyResult<()> {
        let request = self.read(py, kind, flags, tag);
        self.end.done_reading();
        let (answer, nanos) = match request {
            Err(error) => (self.failure(py, kind::UNREADABLE, error)?, 0),
            Ok((function, Arguments::Batch(batch))) => {
                let forks = runtime::forks();
                let begun = Instant::now();
                let ran = run_batch(function.bind(py), &batch)?;
                let nanos = begun.elapsed().as_nanos() as u64;
                if runtime::forks() != forks {
                    return Err(end_fork(py));
                }
                drop((function, batch));
                (self.batch(py, ran)?, nanos)
            }
            Ok((function, Arguments::Call(args, kwargs))) => {
                let forks = runtime::forks();
                let begun = Instant::now();
                let result = function.bind(py).call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)));
                let nanos = begun.elapsed().as_nanos() as u64;
                if runtime::forks() != forks {
                    return Err(end_fork(py));
                }
                drop((function, args, kwargs));
                let answer = match result.and_then(|value| self.success(py, &value)) {
                    Ok(answer) => answer,
                    Err(error) => self.failure(py, kind::ERROR, error)?,
                };
                (answer, nanos)
            }
        };
        let pickle;
        let bytes: &[u8] = match &answer.bytes {
            Bytes::Flat(bytes) => bytes,
            Bytes::Pickle(object) => {
                pickle = pyo3::buffer::PyBuffer::<u8>::get(object.bind(py))?;
                // SAFETY: `pickle` keeps the buffer alive and unchanged: it is the pickler's own, nobody else has it.
                unsafe { std::slice::from_raw_parts(pickle.buf_ptr().cast(), pickle.len_bytes()) }
            }
        };
        self.reply(py, &answer, nanos, bytes)
    }

    /// The function and arguments of the request looked at last.
    fn read(&mut self, py: Python<'_>, kind: u8, flags: u8, tag: u32) -> PyResult<(Py<PyAny>, Arguments)> {
        let Self { end, seams, functions } = self;
        let mut payload = end.payload().ok_or_else(garbled)?;
        let function = if kind == kind::APPLY {
            let (length, rest) = payload.split_first_chunk().ok_or_else(garbled)?;
            let length = u64::from_le_bytes(*length) as usize;
            let (function, rest) = rest.split_at_checked(length).ok_or_else(garbled)?;
            payload = rest;
            load(py, &seams.loads, function)?.unbind()
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
            return Ok((function, Arguments::Call(args.unbind(), None)));
        }
        let object = load(py, &seams.loads, payload)?;
        if kind == kind::BATCH {
            let items = object.cast_into::<PyList>()?.unbind();
            let batch = Batch { items, starred: flags & flag::STARRED != 0, whole: flags & flag::WHOLE != 0 };
            return Ok((function, Arguments::Batch(batch)));
        }
        if flags & flag::KEYWORDS == 0 {
            return Ok((function, Arguments::Call(object.cast_into::<PyTuple>()?.unbind(), None)));
        }
        let (args, kwargs): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = object.extract()?;
        Ok((function, Arguments::Call(args.unbind(), Some(kwargs.unbind()))))
    }

    fn success(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Answer> {
        let mut flat = Vec::new();
        if codec::flatten(value, &mut flat) {
            return Ok(Answer { kind: kind::VALUE, flags: flag::FLAT, done: 1, bytes: Bytes::Flat(flat) });
        }
        let pickle = self.dumps(py, value)?;
        self.fits(&pickle)?;
        Ok(Answer { kind: kind::VALUE, flags: 0, done: 1, bytes: Bytes::Pickle(pickle.unbind()) })
    }

    /// The results of a batch, up to the item that raised or whose result cannot be pickled, and what that was.
    fn batch(&self, py: Python<'_>, ran: Done<'_>) -> PyResult<Answer> {
        let Done { mut results, failure } = ran;
        let mut raised = failure.is_some();
        let mut packed = match failure {
            Some(error) => self.packed_failure(py, error)?,
            None => py.None().into_bound(py),
        };
        let mut pickle = self.dumps(py, (&results, &packed).into_pyobject(py)?.as_any());
        if pickle.is_err() {
            for (index, result) in results.iter().enumerate() {
                if let Err(error) = self.dumps(py, &result) {
                    packed = self.packed_failure(py, error)?;
                    raised = true;
                    results = results.get_slice(0, index);
                    break;
                }
            }
            pickle = self.dumps(py, (&results, &packed).into_pyobject(py)?.as_any());
        }
        let done = (results.len() + usize::from(raised)) as u32;
        let flags = if raised { flag::RAISED } else { 0 };
        Ok(Answer { kind: kind::VALUE, flags, done, bytes: Bytes::Pickle(pickle?.unbind()) })
    }

    /// An exception as bytes of their own, so that one that cannot be made again does not take the results with it.
    fn packed_failure<'py>(&self, py: Python<'py>, error: PyErr) -> PyResult<Bound<'py, PyAny>> {
        match self.failure(py, kind::ERROR, error)?.bytes {
            // A pickler may give a view of its buffer, which could not be pickled again.
            Bytes::Pickle(pickle) => py.get_type::<PyBytes>().call1((pickle,)),
            Bytes::Flat(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
        }
    }

    /// An exception and its traceback, or a stand-in if it does not survive the journey.
    fn failure(&self, py: Python<'_>, kind: u8, error: PyErr) -> PyResult<Answer> {
        // Before 3.12 an exception that is being raised does not carry its traceback yet; this puts it there.
        let error = error.into_value(py).into_bound(py).into_any();
        let text = self.seams.describe.bind(py).call1((&error,))?;
        let packed = self.pack(py, &error, &text);
        let pickle = match (packed, &self.seams.stand_in) {
            (Ok(pickle), _) => pickle,
            (Err(trouble), Some(stand_in)) => {
                let stand_in = stand_in.bind(py).call1((&error, &text, trouble.value(py)))?;
                self.pack(py, &stand_in, &text)?
            }
            (Err(trouble), None) => {
                let trouble = trouble.into_value(py).into_bound(py).into_any();
                let text = self.seams.describe.bind(py).call1((&trouble,))?;
                self.pack(py, &trouble, &text)?
            }
        };
        Ok(Answer { kind, flags: 0, done: 1, bytes: Bytes::Pickle(pickle.unbind()) })
    }

    fn pack<'py>(
        &self,
        py: Python<'py>,
        error: &Bound<'py, PyAny>,
        text: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pickle = self.dumps(py, (error, text).into_pyobject(py)?.as_any())?;
        if self.seams.stand_in.is_some() {
            // Many exceptions pickle and cannot be made again: see it here, where something can be done about it.
            self.seams.loads.bind(py).call1((&pickle,))?;
        }
        Ok(pickle)
    }

    fn dumps<'py>(&self, py: Python<'py>, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match (self.seams.dumps.bind(py).call1((object,)), &self.seams.dumps_by_value) {
            (Err(error), Some(by_value)) if error.is_instance_of::<PyException>(py) => {
                by_value.bind(py).call1((object,))
            }
            (pickled, _) => pickled,
        }
    }

    fn fits(&self, pickle: &Bound<'_, PyAny>) -> PyResult<()> {
        let len = pickle.len()?;
        if self.end.can_reply(len) {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!("the result is too large for the way back: {len} bytes of pickle")))
    }

    fn reply(&mut self, py: Python<'_>, answer: &Answer, nanos: u64, bytes: &[u8]) -> PyResult<()> {
        let &Answer { kind, flags, done, .. } = answer;
        while self.end.reply(&child::Answer { kind, flags, nanos, done, parts: &[bytes] }) == Err(Crowded) {
            self.wait_for_room(py, bytes.len())?;
        }
        Ok(())
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

/// Unpickles bytes; large ones without copying them first.
fn load<'py>(py: Python<'py>, loads: &Py<PyAny>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if bytes.len() <= LARGE {
        return loads.bind(py).call1((PyBytes::new(py, bytes),));
    }
    // SAFETY: attached; the view is read-only and released below, before `bytes` goes out of scope.
    let view = unsafe {
        let len = bytes.len() as ffi::Py_ssize_t;
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyMemoryView_FromMemory(bytes.as_ptr().cast_mut().cast(), len, ffi::PyBUF_READ),
        )
    }?;
    let object = loads.bind(py).call1((&view,));
    view.call_method0("release")?;
    object
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
