//! The process lane, seen from Python: calls become bytes, replies become objects.
//!
//! # Functions
//!
//! A function is pickled when it is first used and sent once to each worker; later calls name it by number. That is right
//! only while the bytes cannot change behind our back, so there are three ways:
//!
//! * a function, class or built-in that pickles *by reference* (a module and a name) is remembered by identity;
//! * anything that pickles *by value* (a lambda, a closure, what `__main__` defines, a bound method, a partial) is pickled at
//!   each `submit`, because what it captures may have changed; bytes that come a second time get a number. A function of the
//!   script is remembered by identity, too, while all that its bytes rest on (`raddle._rests`) is the same;
//! * `bind` pickles once for a whole `map`.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyDict, PyFunction, PyList, PyModule, PyTuple, PyType};
use raddle_core::prim::Mutex;
use raddle_core::sched::Rank;
use raddle_proc::lane::{
    Client, Counts, Departure, Holding, Lane, LaneConfig, OnDeath, Outgoing, Refusal, Words, WorkerCounts, WorkerState,
    ZygoteNews, flag, kind,
};
use raddle_proc::{Process, Spawn, spawn};
use rustix::process::Signal;

use crate::batch::{self, Input, arguments_of};
use crate::buffer::Buffer;
use crate::codec;
use crate::errors;
use crate::future::{FutureCore, Handle, Home, Terms};
use crate::gate::{self, Timeout};
use crate::marks::Marks;
use crate::parcel::{self, Packed, Pickle, Reach};
use crate::piece::{Harvest, Sowing};
use crate::runtime;
use crate::trace::{CallLog, Fate, Traced, Tracer};

/// Functions that a lane remembers by number, at most; further ones travel with each call.
const FUNCTIONS: usize = 1024;
/// So often a function is pickled and compared before its marks are believed: other threads may change something, and change it back,
/// between the making of the bytes and that of the marks.
const SURE: u32 = 12;
/// What has changed so often is pickled each time.
const MOST_CHANGES: u32 = 8;
/// By-value functions larger than this are not remembered.
const LARGE_FUNCTION: usize = 1 << 20;

/// A `map` hands in about so many bytes at once, at most.
const AT_ONCE: usize = 32 << 20;

/// How the items of a batch are to be done.
#[derive(Clone, Copy)]
struct Form {
    starred: bool,
    whole: bool,
    goes_on: bool,
    apart: bool,
}

/// Items for a batch.
#[derive(Default)]
struct Gathered<'py> {
    items: Vec<Bound<'py, PyAny>>,
    bytes: Vec<u8>,
    /// One that goes on its own, after them.
    odd: Option<Bound<'py, PyAny>>,
}

/// What the futures of a lane need of it.
pub(crate) struct Shared {
    pub(crate) lane: Arc<Lane<Handle>>,
    pub(crate) config: Config,
    tracer: Tracer,
    forks: u32,
}

/// How values are turned into bytes and back, and what errors are called.
pub(crate) struct Config {
    /// `dumps(object, buffer_callback) -> bytes-like`, used first; for what the flat encoding does not know.
    pub(crate) dumps: Py<PyAny>,
    /// The same, for what the first one cannot pickle or pickles as a reference into `__main__`. None: there is no second try.
    pub(crate) dumps_by_value: Option<Py<PyAny>>,
    pub(crate) loads: Py<PyAny>,
    /// The class of a lane that is broken.
    pub(crate) broken: Py<PyAny>,
    /// `RemoteTraceback(text)`: becomes the cause of a remote exception.
    pub(crate) remote_traceback: Py<PyAny>,
    /// Called without arguments when workers have said something that `take_words` has. None: they do not speak.
    pub(crate) show: Option<Py<PyAny>>,
    /// Called without arguments by the keeper for the same reason; it does not wait.
    pub(crate) heard: Option<Py<PyAny>>,
    /// Whether whatever cannot be unpickled breaks the lane, as in the standard library.
    pub(crate) strict: bool,
    /// Bytes that a worker may take, for messages.
    pub(crate) memory: Option<u64>,
}

impl Shared {
    /// Whether a call that runs may be stopped by ending its worker; in the standard library's semantics that would end the pool.
    pub(crate) fn can_stop(&self) -> bool {
        !self.config.strict
    }

    /// Whether the lane was made by another process, of which this one is a fork: its locks are not ours.
    pub(crate) fn is_foreign(&self) -> bool {
        self.forks != runtime::forks()
    }

    /// Shows what workers have said before now: whoever has seen a call end comes here before it goes on.
    pub(crate) fn show_words(&self, py: Python<'_>) -> PyResult<()> {
        match &self.config.show {
            Some(show) if self.lane.has_words() && !self.is_foreign() => show.bind(py).call0().map(drop),
            _ => Ok(()),
        }
    }

    /// Pickles `object`, by value if that is how it has to be.
    /// Its large buffers are appended to `buffers`, if there is such a list, instead of going into the pickle.
    pub(crate) fn dumps<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        buffers: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        let callback = buffers.map(|buffers| buffers.getattr(intern!(py, "append"))).transpose()?;
        let plain = self.config.dumps.bind(py).call1((object, &callback));
        let Some(by_value) = &self.config.dumps_by_value else { return plain };
        match plain {
            Ok(bytes) if !names_main(&bytes)? => Ok(bytes),
            Err(error) if !error.is_instance_of::<pyo3::exceptions::PyException>(py) => Err(error),
            _ => {
                if let Some(buffers) = buffers {
                    buffers.del_slice(0, buffers.len())?; // what the first try has left
                }
                by_value.bind(py).call1((object, &callback))
            }
        }
    }

    /// Pickles `object`, its large buffers into the heap that the workers see.
    fn pack(&self, object: &Bound<'_, PyAny>) -> PyResult<Packed> {
        let reach = Reach::Parent { own: self.lane.heap(), wait: &|py, len| self.wait_for_room(py, len) };
        parcel::pack(object.py(), &reach, |buffers| self.dumps(object, buffers))
    }

    /// Waits until the heap has room below its limit, as long as calls that are under way can make some.
    fn wait_for_room(&self, py: Python<'_>, len: usize) -> PyResult<()> {
        if self.is_foreign() || self.lane.heap().has_room(len) || self.lane.is_keeper() {
            return Ok(());
        }
        // It may be that somebody keeps much for the sake of little; she should know.
        py.import(intern!(py, "raddle._pins"))?.call_method0(intern!(py, "warn"))?;
        gate::wait(py, None, |until| self.lane.wait_for_room(len, until))?;
        drop(self.lane.spent());
        Ok(())
    }

    /// Pickles `object` with all that it has.
    fn pack_whole(&self, object: &Bound<'_, PyAny>) -> PyResult<Packed> {
        let pickle = Pickle::new(&self.dumps(object, None)?)?;
        Ok(Packed { head: None, pickle, leases: Vec::new() })
    }
}

/// What a future keeps of its function, for messages: never something that keeps other objects alive.
pub(crate) fn label_of(function: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    if is_plain(function) {
        return Some(function.clone().unbind());
    }
    match function.getattr("__qualname__") {
        Ok(name) => Some(name.unbind()),
        Err(_) => function.get_type().name().ok().map(|name| name.into_any().unbind()),
    }
}

/// A function, a class, or a built-in function of a module: if it pickles by reference, it will for ever.
fn is_plain(function: &Bound<'_, PyAny>) -> bool {
    if function.is_exact_instance_of::<PyFunction>() || function.is_exact_instance_of::<PyType>() {
        return true;
    }
    let Ok(builtin) = function.cast_exact::<PyCFunction>() else { return false };
    match builtin.getattr("__self__") {
        Ok(owner) => owner.is_none() || owner.is_instance_of::<PyModule>(),
        Err(_) => true,
    }
}

/// Whether a pickle mentions `__main__`: a worker that did not run the script cannot follow such a reference.
fn names_main(pickle: &Bound<'_, PyAny>) -> PyResult<bool> {
    let bytes = pickle.cast::<PyBytes>()?.as_bytes();
    let needle = b"__main__";
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == b'_') {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return Ok(true);
        }
        rest = &rest[1..];
    }
    Ok(false)
}

/// The functions that the lane knows by number.
#[derive(Default)]
struct Functions {
    /// By identity: a dict from function to number; from one of the script to what `name_again` takes.
    plain: Option<Py<PyDict>>,
    by_value: HashMap<Vec<u8>, u32>,
    /// Hashes of by-value functions that came once.
    seen: HashSet<u64>,
    count: usize,
}

/// A function as a call names it.
enum Named {
    Tag(u32),
    /// Its bytes go with the call.
    Bytes(Vec<u8>),
}

/// A function, pickled once for many calls.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Binding {
    named: Named,
    label: Option<Py<PyAny>>,
    terms: Terms,
}

impl Binding {
    /// What is called, for messages.
    pub(crate) fn label(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.label.as_ref().map(|label| label.clone_ref(py))
    }
}

/// The native part of a process pool.
#[pyclass(frozen, weakref, module = "raddle._raddle")]
pub(crate) struct ProcessLane {
    shared: Arc<Shared>,
    functions: Mutex<Functions>,
    /// Called without arguments when one more worker would help. The collector clears it.
    grow: Mutex<Option<Py<PyAny>>>,
    most: usize,
    /// Whether a call that comes when the lane is full waits; otherwise it is refused.
    waits: bool,
}

/// What becomes of a call for which there is no room.
#[derive(Clone, Copy, PartialEq)]
enum WhenFull {
    Wait,
    Refuse,
    /// It is taken all the same.
    Exceed,
}

#[pymethods]
impl ProcessLane {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one keyword per seam; Python names them all")]
    #[pyo3(signature = (
        *, max_workers, replace, strict, dumps, dumps_by_value, loads, broken, remote_traceback, grow, max_pending = None, waits = true,
        least = None, idle_timeout = Timeout::FOREVER, show = None, heard = None, memory = None
    ))]
    fn new(
        py: Python<'_>,
        max_workers: usize,
        replace: bool,
        strict: bool,
        dumps: Py<PyAny>,
        dumps_by_value: Option<Py<PyAny>>,
        loads: Py<PyAny>,
        broken: Py<PyAny>,
        remote_traceback: Py<PyAny>,
        grow: Py<PyAny>,
        max_pending: Option<u64>,
        waits: bool,
        least: Option<usize>,
        idle_timeout: Timeout,
        show: Option<Py<PyAny>>,
        heard: Option<Py<PyAny>>,
        memory: Option<u64>,
    ) -> PyResult<Self> {
        let on_death = if replace { OnDeath::Replace } else { OnDeath::Break };
        let heap = runtime::heap()?;
        let config = Config { dumps, dumps_by_value, loads, broken, remote_traceback, show, heard, strict, memory };
        let lane = Lane::new(LaneConfig {
            on_death,
            heap,
            most: max_pending,
            least: least.unwrap_or(max_workers),
            idle: idle_timeout.duration(),
        });
        let lane = Arc::new(lane.map_err(errors::of_system)?);
        let shared = Shared { lane, config, tracer: Tracer::default(), forks: runtime::forks() };
        let functions = Functions { plain: Some(PyDict::new(py).unbind()), ..Functions::default() };
        Ok(Self {
            shared: Arc::new(shared),
            functions: Mutex::new(functions),
            grow: Mutex::new(Some(grow)),
            most: max_workers,
            waits,
        })
    }

    /// Hands in a call. What cannot be pickled is the outcome of its future.
    fn submit(
        &self,
        py: Python<'_>,
        r#fn: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        kwargs: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Py<FutureCore>> {
        self.submit_on_terms(py, r#fn, args, kwargs, Timeout::FOREVER, 0, 0, None, self.waits)
    }

    /// The same on terms: `limit` seconds that the call may run, how often it may run again after its worker has died, how urgent
    /// it is, and what it is called in messages. `waits`: if the lane is full.
    #[expect(clippy::too_many_arguments, reason = "Python names them all")]
    fn submit_on_terms(
        &self,
        py: Python<'_>,
        r#fn: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        kwargs: Option<Bound<'_, PyDict>>,
        limit: Timeout,
        retries: u32,
        priority: Rank,
        name: Option<Py<PyAny>>,
        waits: bool,
    ) -> PyResult<Py<FutureCore>> {
        self.check_open(py)?;
        let future = self.future(py, name.or_else(|| label_of(&r#fn)))?;
        let kwargs = kwargs.as_ref().filter(|kwargs| !kwargs.is_empty());
        match self.name(&r#fn) {
            Ok(named) => {
                let terms = Terms { limit: limit.duration(), retries, rank: priority };
                let when_full = if waits { WhenFull::Wait } else { WhenFull::Refuse };
                self.send(py, future, &named, &args, kwargs, terms, when_full)
            }
            Err(error) => {
                let trace = self.shared.tracer.start(|| future.get().name(py));
                self.unpicklable(py, future, error, "the function", trace)
            }
        }
    }

    /// Pickles a function once, for many `submit_bound`; on terms, as `submit_on_terms`.
    #[pyo3(signature = (r#fn, limit = Timeout::FOREVER, retries = 0, priority = 0, name = None))]
    fn bind(
        &self,
        r#fn: Bound<'_, PyAny>,
        limit: Timeout,
        retries: u32,
        priority: Rank,
        name: Option<Py<PyAny>>,
    ) -> PyResult<Binding> {
        if self.is_foreign() {
            return Err(runtime::foreign()); // the lock that numbers are given under may be held by a thread that does not exist here
        }
        let named = match self.name(&r#fn)? {
            Named::Bytes(bytes) => self.remember(bytes, true),
            tag => tag,
        };
        let terms = Terms { limit: limit.duration(), retries, rank: priority };
        Ok(Binding { named, label: name.or_else(|| label_of(&r#fn)), terms })
    }

    /// Hands in one call of a bound function.
    pub(crate) fn submit_bound(
        &self,
        py: Python<'_>,
        binding: &Binding,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<FutureCore>> {
        self.check_open(py)?;
        let future = self.future(py, binding.label.as_ref().map(|label| label.clone_ref(py)))?;
        self.send(py, future, &binding.named, &args, None, binding.terms, WhenFull::Exceed)
    }

    /// Hands in one call of a bound function for each item of `calls`, `size` of them as one batch, `most` items at most, and no
    /// more than some megabytes. Appends their futures to `futures`, also if it raises.
    ///
    /// Where arguments cannot be pickled each goes on its own. So do those with large buffers, but of a `whole` batch only if
    /// they are to go `apart`. The future of a batch ends with a pair: the results, and the exception of the item that raised or
    /// None; of one that `goes_on`, exceptions are among the results.
    #[expect(clippy::too_many_arguments, reason = "Python names them all")]
    #[pyo3(signature = (binding, calls, futures, *, starred, size = 1, most = None, whole = false, apart = false, goes_on = false))]
    fn submit_all(
        &self,
        py: Python<'_>,
        binding: &Binding,
        calls: &Input,
        futures: &Bound<'_, PyList>,
        starred: bool,
        size: usize,
        most: Option<usize>,
        whole: bool,
        apart: bool,
        goes_on: bool,
    ) -> PyResult<()> {
        let (mut left, mut room) = (most.unwrap_or(usize::MAX), if most.is_some() { AT_ONCE } else { usize::MAX });
        let form = Form { starred, whole, goes_on, apart: apart || !whole };
        while left > 0 && room > 0 {
            let Named::Tag(tag) = binding.named else { break };
            if size <= 1 {
                break;
            }
            let batch = self.gather(py, calls, size.min(left), form)?;
            if batch.items.is_empty() && batch.odd.is_none() {
                return Ok(());
            }
            left -= batch.items.len() + usize::from(batch.odd.is_some());
            room = room.saturating_sub(batch.bytes.len());
            if !batch.items.is_empty() {
                futures.append(self.submit_batch(py, binding, tag, batch.items, &batch.bytes, form)?)?;
            }
            if let Some(odd) = batch.odd {
                futures.append(self.submit_bound(py, binding, arguments_of(odd, starred)?)?)?;
            }
        }
        let before = self.shared.lane.bytes();
        while left > 0 && room > 0 {
            let Some(item) = calls.next(py)? else { break };
            left -= 1;
            futures.append(self.submit_bound(py, binding, arguments_of(item, starred)?)?)?;
            if most.is_some() && self.shared.lane.bytes() - before > AT_ONCE as u64 {
                break;
            }
        }
        Ok(())
    }

    /// Hands in one call of a bound function for each item of `calls`, and returns the iterator over what comes of them. None, and
    /// nothing was read: a function that has no number cannot be mapped in this way.
    ///
    /// `inert`: reading them runs no code that could tell when a call was handed in. Otherwise each is when it has been read.
    #[pyo3(signature = (binding, calls, *, starred, inert, timeout = Timeout::FOREVER))]
    fn map(
        &self,
        binding: &Binding,
        calls: &Bound<'_, PyAny>,
        starred: bool,
        inert: bool,
        timeout: Timeout,
    ) -> PyResult<Option<Harvest>> {
        let Named::Tag(tag) = binding.named else { return Ok(None) };
        Sowing::new(self, binding, tag, starred).run(calls, inert, timeout.deadline()).map(Some)
    }

    /// Writes down what becomes of each call that is handed in from now on; or no more, with None.
    #[pyo3(signature = (log, /))]
    fn trace(&self, log: Option<&CallLog>) -> PyResult<()> {
        if self.is_foreign() {
            return Err(runtime::foreign());
        }
        self.shared.tracer.put(log)
    }

    /// Puts an object into the heap that the workers see: its pickle, and its buffers.
    fn put(&self, value: &Bound<'_, PyAny>) -> PyResult<Vec<Buffer>> {
        self.check_open(value.py())?;
        parcel::put(value.py(), self.shared.lane.heap(), |buffers| self.shared.dumps(value, buffers))
    }

    /// Has every worker forget what it has made of an object that was put.
    fn forget(&self, key: u64) {
        if !self.is_foreign() {
            self.shared.lane.forget(key);
        }
    }

    /// What workers have said and nobody has shown yet: process numbers, kinds, what they were running, and the words.
    fn take_words<'py>(&self, py: Python<'py>) -> Vec<(u32, &'static str, String, Bound<'py, PyBytes>)> {
        let name = |kind| match kind {
            kind::STDOUT => "stdout",
            kind::LOG => "log",
            kind::WARNING => "warning",
            _ => "stderr",
        };
        let words = if self.is_foreign() { Vec::new() } else { self.shared.lane.words() };
        words
            .into_iter()
            .map(|Words { pid, kind, call, text }| {
                (pid, name(kind), String::from_utf8_lossy(&call).into_owned(), PyBytes::new(py, &text))
            })
            .collect()
    }

    /// Makes memory for one more worker: its seat, and the descriptors of its link and of the file for its last words, which the
    /// caller closes.
    fn seat(&self) -> PyResult<(usize, i32, i32)> {
        let seating = self.shared.lane.seat().map_err(errors::of_system)?;
        Ok((seating.seat, seating.link.into_raw_fd(), seating.words.into_raw_fd()))
    }

    /// Names the process of a seat. `ours`: nobody else collects its exit code.
    fn occupy(&self, py: Python<'_>, seat: usize, pid: u32, ours: bool) -> PyResult<()> {
        gate::detached(py, || self.shared.lane.occupy(seat, Process::open(pid, ours)?))?.map_err(errors::of_system)
    }

    /// Gives up a seat whose process could not be started.
    fn vacate(&self, seat: usize) {
        self.shared.lane.vacate(seat);
    }

    /// Starts a process for one more worker, and returns its number. In `argv`, `{0}`, `{1}`, `{2}` and `{3}` stand for the
    /// descriptors of link, page, bell and `boot`.
    fn spawn(&self, py: Python<'_>, argv: Vec<std::ffi::OsString>, boot: i32) -> PyResult<u32> {
        use std::os::fd::{AsFd, BorrowedFd};
        let lane = &self.shared.lane;
        let started = gate::detached(py, || {
            let post = lane.post()?;
            let seating = lane.seat()?;
            // SAFETY: the caller keeps `boot` open during the call.
            let boot = unsafe { BorrowedFd::borrow_raw(boot) };
            let words = seating.words.as_fd();
            let fds = vec![seating.link.as_fd(), post.page(), post.bell(), lane.heap_fd(), words, boot];
            match spawn(&Spawn { argv, env: Vec::new(), fds, own_group: true }) {
                Ok(process) => {
                    let pid = process.pid();
                    lane.occupy(seating.seat, process).map(|()| pid)
                }
                Err(error) => {
                    lane.vacate(seating.seat);
                    Err(error)
                }
            }
        })?;
        started.map_err(errors::of_system)
    }

    /// Has a zygote fork one more worker, which gets the descriptors of `with`; starts the zygote if there is none. In `argv`, `{0}`
    /// to `{4}` stand for the descriptors of its socket, the page, the bell, the heap and `boot`.
    #[pyo3(signature = (argv, boot, with, /))]
    fn fork(&self, py: Python<'_>, argv: Vec<std::ffi::OsString>, boot: i32, with: Vec<i32>) -> PyResult<()> {
        use std::os::fd::BorrowedFd;
        let lane = &self.shared.lane;
        let borrow = |fd: i32| {
            // SAFETY: the caller keeps the descriptor open during the call.
            unsafe { BorrowedFd::borrow_raw(fd) }
        };
        let (boot, with) = (borrow(boot), with.into_iter().map(borrow).collect::<Vec<_>>());
        gate::detached(py, || lane.start_zygote(argv, boot).and_then(|()| lane.fork(&with)))?.map_err(errors::of_system)
    }

    /// The process number of the zygote, if there is one.
    fn zygote(&self) -> Option<u32> {
        self.shared.lane.zygote_pid()
    }

    /// The descriptors of the lane's page, the keeper's bell and the heap; they stay the lane's, which has them as long as the caller
    /// has a seat to fill.
    fn fds(&self) -> PyResult<(i32, i32, i32)> {
        let lane = &self.shared.lane;
        let post = lane.post().map_err(errors::of_system)?;
        Ok((post.page().as_raw_fd(), post.bell().as_raw_fd(), lane.heap_fd().as_raw_fd()))
    }

    /// Starts the keeper. `departed(seat, pid, exitcode, expected, has_work)` and `broken(reason)` are called by it, and with
    /// a zygote `zygote(word, text, wanted)`, where the word is "threads", "failed", "stillborn" or "ended".
    #[pyo3(signature = (departed, broken, zygote = None))]
    fn start_keeper(&self, departed: Py<PyAny>, broken: Py<PyAny>, zygote: Option<Py<PyAny>>) -> PyResult<()> {
        let client = Keeping { shared: self.shared.clone(), departed, broken, zygote };
        self.shared.lane.start_keeper(client).map_err(errors::of_system)
    }

    /// Takes no more calls; with `take_back`, cancels what has not started.
    fn close(&self, py: Python<'_>, take_back: bool) -> PyResult<()> {
        if self.is_foreign() {
            return Ok(());
        }
        for handle in gate::detached(py, || self.shared.lane.close(take_back))? {
            handle.cancelled(py)?;
        }
        Ok(())
    }

    /// Fails every call for this reason and ends every worker, now.
    fn destroy(&self, py: Python<'_>, reason: &str, signal: i32) -> PyResult<()> {
        let signal = Signal::from_named_raw(signal).ok_or_else(|| PyValueError::new_err("not a signal"))?;
        if !self.is_foreign() {
            gate::detached(py, || self.shared.lane.destroy(reason, signal))?;
        }
        Ok(())
    }

    /// Waits until the keeper and with it every worker has ended.
    #[pyo3(signature = (timeout = Timeout::FOREVER))]
    fn join(&self, py: Python<'_>, timeout: Timeout) -> PyResult<bool> {
        if self.is_foreign() {
            return Ok(true);
        }
        let deadline = timeout.deadline();
        let joined = gate::wait(py, deadline, |until| self.shared.lane.join(until));
        drop(self.shared.lane.spent());
        joined
    }

    /// Whether one more worker would have something to do.
    fn wants_worker(&self) -> bool {
        !self.is_foreign() && self.shared.lane.wants_worker()
    }

    /// Waits until there may be room for one more call, or no more are taken.
    fn wait_for_place(&self, py: Python<'_>) -> PyResult<()> {
        gate::wait(py, None, |until| self.shared.lane.wait_for_place(until))?;
        drop(self.shared.lane.spent());
        Ok(())
    }

    /// Whether a keeper runs.
    fn is_kept(&self) -> bool {
        !self.is_foreign() && self.shared.lane.is_kept()
    }

    /// Calls that have not ended.
    fn outstanding(&self) -> usize {
        if self.is_foreign() { 0 } else { self.shared.lane.outstanding() }
    }

    /// Workers that exist or are being started.
    fn workers(&self) -> usize {
        if self.is_foreign() { 0 } else { self.shared.lane.seats() }
    }

    /// Process numbers of the workers.
    fn pids(&self) -> Vec<u32> {
        let processes = if self.is_foreign() { Vec::new() } else { self.shared.lane.processes() };
        processes.into_iter().map(|(_, pid)| pid).collect()
    }

    /// Why no more calls are taken: None, or a text that is empty for a lane that was closed.
    fn refusal(&self) -> Option<String> {
        if self.is_foreign() {
            return Some(String::new());
        }
        self.shared.lane.refusal().map(|refusal| match refusal {
            Refusal::Closed | Refusal::Full => String::new(),
            Refusal::Broken(reason) => reason.to_string(),
        })
    }

    /// Whether the lane was made by another process, of which this one is a fork.
    fn is_foreign(&self) -> bool {
        self.shared.is_foreign()
    }

    // The crew holds the lane, and the lane the crew's method.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.grow.lock())?;
        visit.call(&self.functions.lock().plain)
    }

    fn __clear__(&self) {
        let grow = self.grow.lock().take();
        let plain = self.functions.lock().plain.take();
        drop((grow, plain));
    }

    /// Bytes of calls and answers since the lane was made, with their buffers.
    fn bytes(&self) -> u64 {
        if self.is_foreign() { 0 } else { self.shared.lane.bytes() }
    }

    /// Who has what of shared memory, in bytes: process number (0: no worker yet), arguments of calls under way, arguments that were
    /// kept, results that were kept here.
    fn holdings(&self) -> Vec<(u32, u64, u64, u64)> {
        let holdings = if self.is_foreign() { Vec::new() } else { self.shared.lane.holdings() };
        holdings.into_iter().map(|Holding { pid, arguments, kept, results }| (pid, arguments, kept, results)).collect()
    }

    /// Numbers since the lane was made: submitted, finished, failed, cancelled, died, pending, running, workers,
    /// busy seconds.
    fn counts(&self) -> Numbers {
        if self.is_foreign() {
            return Numbers::default(); // its locks may be held by threads that do not exist here
        }
        self.shared.lane.look();
        numbers(&self.shared.lane.counts())
    }

    /// The same, with the calls that run in the busy seconds; and for each worker: name, process number, calls, failed, busy
    /// seconds, seconds that it has existed, state.
    fn report(&self) -> (Numbers, Vec<WorkerNumbers>) {
        if self.is_foreign() {
            return Default::default();
        }
        self.shared.lane.look();
        let report = self.shared.lane.report();
        (numbers(&report.counts), report.workers.iter().map(worker_numbers).collect())
    }
}

type Numbers = (u64, u64, u64, u64, u64, u64, u64, u64, f64);
type WorkerNumbers = (String, u32, u64, u64, f64, f64, &'static str);

fn numbers(counts: &Counts) -> Numbers {
    (
        counts.submitted,
        counts.finished,
        counts.failed,
        counts.cancelled,
        counts.died,
        counts.pending,
        counts.running,
        counts.workers,
        counts.busy as f64 / 1e9,
    )
}

fn worker_numbers(worker: &WorkerCounts) -> WorkerNumbers {
    let state = match worker.state {
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Leaving => "leaving",
        WorkerState::Ended => "ended",
        WorkerState::Died => "died",
    };
    let WorkerCounts { pid, calls, failed, busy, age, .. } = *worker;
    (format!("process {pid}"), pid, calls, failed, busy as f64 / 1e9, age.as_secs_f64(), state)
}

impl ProcessLane {
    /// What futures need of it.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_foreign() {
            return Err(runtime::foreign());
        }
        match self.shared.lane.refusal() {
            None => Ok(()),
            Some(refusal) => Err(errors::refused(&refusal, self.shared.config.broken.bind(py))),
        }
    }

    fn future(&self, py: Python<'_>, label: Option<Py<PyAny>>) -> PyResult<Py<FutureCore>> {
        let future = runtime::new_future(py)?;
        future.get().settle_at(Home::Process(self.shared.clone()), label);
        Ok(future)
    }

    /// The number of a function, or its bytes.
    fn name(&self, function: &Bound<'_, PyAny>) -> PyResult<Named> {
        let py = function.py();
        let plain = is_plain(function);
        let known = self.functions.lock().plain.as_ref().map(|known| known.clone_ref(py));
        if let (true, Some(known)) = (plain, &known)
            && let Some(found) = known.bind(py).get_item(function)?
        {
            return match found.extract::<(u32, Option<PyRef<'_, Marks>>, u32, u32)>() {
                Ok(entry) => self.name_again(function, known.bind(py), entry),
                Err(_) => Ok(Named::Tag(found.extract()?)),
            };
        }
        let pickle = self.shared.config.dumps.bind(py).call1((function, py.None()));
        if let Ok(pickle) = &pickle {
            let by_reference = plain && (self.shared.config.dumps_by_value.is_none() || !names_main(pickle)?);
            if by_reference {
                let named = self.remember(bytes_of(pickle)?, true);
                if let (Named::Tag(tag), Some(known)) = (&named, &known) {
                    known.bind(py).set_item(function, *tag)?;
                }
                return Ok(named);
            }
        }
        let pickle = self.shared.dumps(function, None)?;
        let named = self.remember(bytes_of(&pickle)?, false);
        if let (true, Some(known), Named::Tag(tag)) = (plain, &known, &named) {
            Self::mark(function, known.bind(py), *tag, 0)?;
        }
        Ok(named)
    }

    /// The same for a function of the script that is known: its number, its marks, how often its bytes have agreed with them, and how
    /// often they had to be found again.
    fn name_again(
        &self,
        function: &Bound<'_, PyAny>,
        known: &Bound<'_, PyDict>,
        (tag, marks, agreed, changes): (u32, Option<PyRef<'_, Marks>>, u32, u32),
    ) -> PyResult<Named> {
        let py = function.py();
        let held = marks.as_ref().is_some_and(|marks| marks.hold(py));
        if held && agreed >= SURE {
            return Ok(Named::Tag(tag));
        }
        let named = self.remember(bytes_of(&self.shared.dumps(function, None)?)?, false);
        let Some(marks) = marks else { return Ok(named) };
        match named {
            Named::Tag(same) if held && same == tag && marks.hold(py) => {
                known.set_item(function, (tag, marks, agreed + 1, changes))?;
            }
            Named::Tag(tag) if changes < MOST_CHANGES => Self::mark(function, known, tag, changes + 1)?,
            Named::Bytes(_) if changes < MOST_CHANGES => known.set_item(function, (tag, marks, 0_u32, changes + 1))?,
            _ => known.set_item(function, (tag, None::<Py<Marks>>, 0_u32, changes))?,
        }
        Ok(named)
    }

    /// Finds the marks of a function of the script, if it has some.
    fn mark(function: &Bound<'_, PyAny>, known: &Bound<'_, PyDict>, tag: u32, changes: u32) -> PyResult<()> {
        let py = function.py();
        let rests = py.import(intern!(py, "raddle._rests"))?;
        let marks = rests.call_method1(intern!(py, "marks_of"), (function,))?;
        if marks.is_none() {
            return Ok(());
        }
        known.set_item(function, (tag, marks.extract::<Py<Marks>>().ok(), 0_u32, changes))
    }

    /// Gives bytes a number if they have one, come a second time, or are wanted `now`.
    fn remember(&self, bytes: Vec<u8>, now: bool) -> Named {
        use std::hash::{BuildHasher, RandomState};
        use std::sync::LazyLock;
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

        let mut functions = self.functions.lock();
        if let Some(&tag) = functions.by_value.get(&bytes) {
            return Named::Tag(tag);
        }
        if functions.seen.len() >= 64 * FUNCTIONS {
            functions.seen.clear();
        }
        let again = !functions.seen.insert(HASHER.hash_one(&bytes));
        if !(now || again) || functions.count >= FUNCTIONS || bytes.len() > LARGE_FUNCTION {
            return Named::Bytes(bytes);
        }
        let tag = self.shared.lane.define(&bytes);
        functions.count += 1;
        functions.by_value.insert(bytes, tag);
        Named::Tag(tag)
    }

    /// Pickles the arguments and hands the call to the lane.
    #[expect(clippy::too_many_arguments, reason = "what a call is made of")]
    fn send(
        &self,
        py: Python<'_>,
        future: Py<FutureCore>,
        named: &Named,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        terms: Terms,
        when_full: WhenFull,
    ) -> PyResult<Py<FutureCore>> {
        let trace = self.shared.tracer.start(|| future.get().name(py));
        let mut flat = Vec::with_capacity(64);
        let mut packed;
        let mut leases = Vec::new();
        let (flags, head, bytes): (u8, &[u8], &[u8]) = match kwargs {
            None if codec::flatten(args.as_any(), &mut flat) => (flag::FLAT, &[], &flat),
            _ => {
                let (object, flags) = match kwargs {
                    None => (args.clone().into_any(), 0),
                    Some(kwargs) => ((args, kwargs).into_pyobject(py)?.into_any(), flag::KEYWORDS),
                };
                // What may run again is sent whole: the first attempt may have changed what lies in shared memory.
                let made = if terms.retries == 0 { self.shared.pack(&object) } else { self.shared.pack_whole(&object) };
                packed = match made {
                    Ok(packed) => packed,
                    Err(error) => return self.unpicklable(py, future, error, "an argument", trace),
                };
                leases = std::mem::take(&mut packed.leases);
                match &packed.head {
                    None => (flags, &[], packed.pickle.as_bytes(py)),
                    Some(head) => (flags | flag::BUFFERS, head, packed.pickle.as_bytes(py)),
                }
            }
        };
        future.get().agree(leases, terms, trace);
        let length;
        let parts: [&[u8]; 4];
        let out = match named {
            Named::Tag(tag) => {
                parts = [head, bytes, &[], &[]];
                Outgoing { kind: kind::CALL, flags, tag: *tag, parts: &parts[..2] }
            }
            Named::Bytes(function) => {
                length = (function.len() as u64).to_le_bytes();
                parts = [&length, function, head, bytes];
                Outgoing { kind: kind::APPLY, flags, tag: 0, parts: &parts }
            }
        };
        self.hand_in(py, future, &out, when_full)
    }

    /// Reads and encodes items for one batch, until it has `size` items or many bytes, or an item comes that is to go on its
    /// own.
    fn gather<'py>(&self, py: Python<'py>, calls: &Input, size: usize, form: Form) -> PyResult<Gathered<'py>> {
        let mut batch = Gathered::default();
        while batch.items.len() < size && (form.whole || batch.bytes.len() < batch::BYTES) {
            let Some(item) = calls.next(py)? else { break };
            if !codec::push_flat(&item, &mut batch.bytes) {
                let buffers = PyList::empty(py);
                match self.shared.dumps(&item, form.apart.then_some(&buffers)).and_then(|made| Pickle::new(&made)) {
                    Ok(pickle) if buffers.is_empty() => codec::push_pickle(pickle.as_bytes(py), &mut batch.bytes),
                    Err(error) if !error.is_instance_of::<pyo3::exceptions::PyException>(py) => return Err(error),
                    _ => {
                        batch.odd = Some(item);
                        break;
                    }
                }
            }
            batch.items.push(item);
        }
        Ok(batch)
    }

    /// Hands in items as one batch.
    fn submit_batch(
        &self,
        py: Python<'_>,
        binding: &Binding,
        tag: u32,
        items: Vec<Bound<'_, PyAny>>,
        bytes: &[u8],
        form: Form,
    ) -> PyResult<Py<FutureCore>> {
        self.check_open(py)?;
        let future = self.future(py, binding.label.as_ref().map(|label| label.clone_ref(py)))?;
        let trace = self.shared.tracer.start(|| future.get().name(py));
        let count = items.len();
        let kept = if form.whole { None } else { Some(PyList::new(py, items)?.unbind()) };
        future.get().make_batch(count, kept, trace);
        let how = [(form.starred, flag::STARRED), (form.whole, flag::WHOLE), (form.goes_on, flag::GOES_ON)];
        let flags = how.into_iter().filter(|(is_so, _)| *is_so).fold(flag::LIST, |flags, (_, flag)| flags | flag);
        let out = Outgoing { kind: kind::BATCH, flags, tag, parts: &[bytes] };
        self.hand_in(py, future, &out, WhenFull::Exceed)
    }

    fn hand_in(
        &self,
        py: Python<'_>,
        future: Py<FutureCore>,
        out: &Outgoing<'_>,
        when_full: WhenFull,
    ) -> PyResult<Py<FutureCore>> {
        let lane = &self.shared.lane;
        let mut must = when_full == WhenFull::Exceed;
        loop {
            if let Some(trace) = future.get().trace() {
                trace.queue();
            }
            match lane.submit(Handle::Future(future.clone_ref(py)), out, must) {
                Ok(submit) => {
                    drop(submit.spent);
                    if submit.wants_worker && lane.seats() < self.most {
                        self.grow_for(py, &future)?;
                    }
                    return Ok(future);
                }
                Err((Refusal::Full, _)) if when_full == WhenFull::Wait => {
                    must = lane.is_keeper(); // it must not wait for what only it can do
                    if !must {
                        self.wait_for_place(py)?;
                    }
                }
                Err((refusal, _)) => return Err(errors::refused(&refusal, self.shared.config.broken.bind(py))),
            }
        }
    }

    /// Hands in a piece of a map, and has as many workers started as have something to do. `is_mine`: whether something is a piece of the
    /// same map.
    pub(crate) fn submit_piece(
        &self,
        py: Python<'_>,
        piece: Handle,
        out: &Outgoing<'_>,
        bytes: usize,
        is_mine: &dyn Fn(&Handle) -> bool,
    ) -> PyResult<()> {
        if self.is_foreign() {
            return Err(runtime::foreign());
        }
        let lane = &self.shared.lane;
        let submit = lane
            .submit_piece(piece, out, bytes)
            .map_err(|(refusal, _)| errors::refused(&refusal, self.shared.config.broken.bind(py)))?;
        drop(submit.spent);
        let mut wants_worker = submit.wants_worker;
        while wants_worker && lane.seats() < self.most {
            let before = lane.seats();
            self.grow(py, || Ok(!lane.take_back_where(is_mine).is_empty()))?;
            wants_worker = lane.seats() > before && lane.wants_worker();
        }
        Ok(())
    }

    /// The same for a call.
    fn grow_for(&self, py: Python<'_>, future: &Py<FutureCore>) -> PyResult<()> {
        let ticket = Handle::Future(future.clone_ref(py));
        self.grow(py, || {
            let is_taken_back = self.shared.lane.take_back(&ticket).is_some();
            Ok(is_taken_back && FutureCore::cancelled_here(future.bind(py))?)
        })
    }

    /// Has one more worker started. If that fails and nobody else does what was handed in, it is not taken: `take_back`.
    fn grow(&self, py: Python<'_>, take_back: impl FnOnce() -> PyResult<bool>) -> PyResult<()> {
        let grow = self.grow.lock().as_ref().map(|grow| grow.clone_ref(py));
        let Some(Err(error)) = grow.map(|grow| grow.call0(py)) else { return Ok(()) };
        if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
            return Err(error); // Ctrl-C is the caller's, whatever becomes of the call
        }
        if self.shared.lane.seats() > 0 || !take_back()? {
            error.write_unraisable(py, None);
            return Ok(());
        }
        Err(error)
    }

    /// What cannot be pickled fails its own future.
    fn unpicklable(
        &self,
        py: Python<'_>,
        future: Py<FutureCore>,
        error: PyErr,
        what: &str,
        trace: Option<Box<Traced>>,
    ) -> PyResult<Py<FutureCore>> {
        if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
            return Err(error);
        }
        errors::note(
            py,
            &error,
            &format!(
                "raddle: {what} of this call could not be pickled for the worker process\n  \
                 hint: pass plain data, and make files, locks and connections inside the worker; or use Pool(\"thread\")"
            ),
        );
        self.shared.lane.count_unsent();
        if let Some(trace) = trace {
            trace.end_now(Fate::Unsent, 1);
        }
        future.bind(py).call_method1("set_exception", (error.into_value(py),))?;
        if self.shared.config.strict && self.shared.lane.seats() < self.most {
            self.grow_for(py, &future)?; // the standard library counts it as a call, and starts a worker
        }
        Ok(future)
    }
}

/// A copy of the bytes that a pickler has made.
fn bytes_of(pickle: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    Ok(Pickle::new(pickle)?.as_bytes(pickle.py()).to_vec())
}

/// What the keeper does in Python.
struct Keeping {
    shared: Arc<Shared>,
    departed: Py<PyAny>,
    broken: Py<PyAny>,
    zygote: Option<Py<PyAny>>,
}

impl Client<Handle> for Keeping {
    fn surround(&self, life: &mut (dyn FnMut() + Send)) {
        gate::resident(life);
    }

    fn heard(&self) {
        gate::attached(|py| match &self.shared.config.heard {
            Some(heard) => heard.bind(py).call0().map(drop),
            None => Ok(()),
        });
    }

    fn announce(&self, tickets: Vec<Handle>) {
        gate::attached(|py| {
            for handle in tickets {
                let Handle::Future(future) = handle else { continue }; // nobody watches a piece
                let future = future.into_bound(py);
                if let Err(error) = FutureCore::announce(&future) {
                    error.write_unraisable(py, Some(&future));
                }
            }
            Ok(())
        });
    }

    fn dispose(&self, tickets: Vec<Handle>) {
        gate::attached(|_| {
            drop(tickets);
            Ok(())
        });
    }

    fn departed(&self, departure: Departure, has_work: bool) {
        let Departure { seat, pid, ending, expected } = departure;
        let called =
            gate::attached(|py| self.departed.call1(py, (seat, pid, ending.code(), expected, has_work)).map(drop));
        if called.is_none() {
            // Without a replacement the calls that are left would wait for ever.
            self.shared.lane.destroy("a worker could not be replaced", Signal::KILL);
        }
    }

    fn broken(&self, reason: &str) {
        gate::attached(|py| self.broken.call1(py, (reason,)).map(drop));
    }

    fn zygote(&self, news: ZygoteNews) {
        let Some(zygote) = &self.zygote else { return };
        let (word, text, wanted) = match news {
            ZygoteNews::Threads(text, wanted) => ("threads", text, wanted),
            ZygoteNews::Failed(text) => ("failed", text, 1),
            ZygoteNews::Ended { ending, ready, wanted } => {
                (if ready { "ended" } else { "stillborn" }, ending.to_string(), wanted)
            }
        };
        let called = gate::attached(|py| zygote.call1(py, (word, text, wanted)).map(drop));
        if called.is_none() && self.shared.lane.seats() == 0 && self.shared.lane.outstanding() > 0 {
            self.shared.lane.destroy("a worker could not be started", Signal::KILL); // its calls would wait for ever
        }
    }
}
