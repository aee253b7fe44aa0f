//! What became of each call of a pool, and when: what `Pool.trace` writes down.
//!
//! # Rules
//!
//! 1. A lane that is not traced pays one relaxed load per call.
//! 2. Times are nanoseconds of the monotonic clock, which all processes of a machine share.
//! 3. A call is entered once, when it ends, or as a batch and the items behind one that raised; one that is still under way when the log is read is not in it. What the log has no room
//!    for is counted.
//! 4. To enter a call takes no interpreter: it is done under a lane's lock.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use raddle_proc::lane::clock_ns;

use crate::runtime;

/// The number of this thread, as the system knows it.
fn thread_number() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

/// How a call has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Returned,
    Raised,
    Cancelled,
    Died,
    Overdue,
    Broken,
    Unsent,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Raised => "raised",
            Self::Cancelled => "cancelled",
            Self::Died => "died",
            Self::Overdue => "timeout",
            Self::Broken => "broken",
            Self::Unsent => "unsent",
        }
    }
}

/// A call that has ended.
struct Entry {
    name: Arc<str>,
    fate: Fate,
    items: u32,
    /// The thread that has handed it in.
    thread: u32,
    /// The process or thread that has begun it; 0: nobody has.
    worker: u32,
    submitted: u64,
    queued: u64,
    /// 0: that is not known, or nobody has begun it.
    begun: u64,
    ended: u64,
    received: u64,
}

#[derive(Debug)]
struct Log {
    entries: Mutex<Vec<Entry>>,
    most: usize,
    left_out: AtomicU64,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({} {})", self.name, self.fate.name())
    }
}

impl Log {
    fn enter(&self, entry: Entry) {
        let mut entries = self.entries.lock();
        if entries.len() < self.most {
            entries.push(entry);
        } else {
            drop(entries);
            self.left_out.fetch_add(1, Relaxed);
        }
    }
}

/// One call, on its way into a log.
#[derive(Debug)]
pub(crate) struct Traced {
    log: Arc<Log>,
    name: Arc<str>,
    thread: u32,
    submitted: u64,
    queued: AtomicU64,
    worker: AtomicU32,
    begun: AtomicU64,
}

// Ordering: Relaxed throughout. The lane's queue, or its lock, is between one who writes and one who reads.
impl Traced {
    /// Its arguments are encoded, and it is about to be handed in.
    pub(crate) fn queue(&self) {
        self.queued.store(clock_ns(), Relaxed);
    }

    /// A worker has begun it, at this moment if that is known.
    pub(crate) fn begin(&self, worker: u32, at: Option<u64>) {
        self.worker.store(worker, Relaxed);
        self.begun.store(at.unwrap_or(0), Relaxed);
    }

    /// This thread begins it now.
    pub(crate) fn begin_here(&self) {
        self.begin(thread_number(), Some(clock_ns()));
    }

    /// It ends now: in this thread, which has begun it; or because its worker is gone, if one has begun it.
    pub(crate) fn end_now(&self, fate: Fate, items: u32) {
        self.end_at(fate, items, clock_ns());
    }

    /// It has ended, after so much time in the worker that has begun it, if one has.
    pub(crate) fn end(&self, fate: Fate, items: u32, nanos: u64) {
        self.end_at(fate, items, self.begun.load(Relaxed).saturating_add(nanos));
    }

    /// It was a batch, and an item that raised has ended it: so many items behind that were never begun.
    pub(crate) fn cut(&self, items: u32) {
        if items > 0 {
            self.enter(Fate::Cancelled, items, 0, 0, 0);
        }
    }

    fn end_at(&self, fate: Fate, items: u32, ended: u64) {
        self.enter(fate, items, self.worker.load(Relaxed), self.begun.load(Relaxed), ended);
    }

    fn enter(&self, fate: Fate, items: u32, worker: u32, begun: u64, ended: u64) {
        self.log.enter(Entry {
            name: self.name.clone(),
            fate,
            items,
            thread: self.thread,
            worker,
            submitted: self.submitted,
            queued: self.queued.load(Relaxed),
            begun,
            ended,
            received: clock_ns(),
        });
    }
}

/// The place in a lane where a log can be put.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    is_on: AtomicBool,
    log: Mutex<Option<Arc<Log>>>,
}

impl Tracer {
    /// A call that begins to be handed in, if it is to be traced. `name`: what it is called.
    #[inline]
    pub(crate) fn start(&self, name: impl FnOnce() -> String) -> Option<Box<Traced>> {
        // Ordering: Relaxed. Whoever puts the log there does so before the calls that she wants to see.
        if self.is_on.load(Relaxed) { self.start_now(name) } else { None }
    }

    #[cold]
    fn start_now(&self, name: impl FnOnce() -> String) -> Option<Box<Traced>> {
        let submitted = clock_ns();
        let log = self.log.lock().clone()?;
        Some(Box::new(Traced {
            log,
            name: name().into(),
            thread: thread_number(),
            submitted,
            queued: AtomicU64::new(submitted),
            worker: AtomicU32::new(0),
            begun: AtomicU64::new(0),
        }))
    }

    /// Traces into a log from now on, or into none.
    pub(crate) fn put(&self, log: Option<&CallLog>) -> PyResult<()> {
        let mut here = self.log.lock();
        if log.is_some() && here.is_some() {
            return Err(PyRuntimeError::new_err(
                "this pool is being traced already\n  hint: end that trace first; a trace has the calls of all threads",
            ));
        }
        *here = log.map(|log| log.0.clone());
        self.is_on.store(here.is_some(), Relaxed);
        Ok(())
    }
}

/// The calls that have ended while a pool was traced.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct CallLog(Arc<Log>, u32);

/// Name, how it ended, items, the thread that has handed it in, the worker or None; then in seconds: submitted, queued, begun, ended,
/// received.
type Row = (String, &'static str, u32, u32, Option<u32>, f64, f64, Option<f64>, Option<f64>, f64);

#[pymethods]
impl CallLog {
    /// `most`: so many calls at most.
    #[new]
    fn new(most: usize) -> Self {
        Self(Arc::new(Log { entries: Mutex::new(Vec::new()), most, left_out: AtomicU64::new(0) }), runtime::forks())
    }

    /// The calls from number `first` on, in the order in which they have ended, `most` of them at most.
    fn rows(&self, first: usize, most: usize) -> PyResult<Vec<Row>> {
        self.check_ours()?;
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let entries = self.0.entries.lock();
        let row = |entry: &Entry| {
            let has_begun = entry.worker != 0;
            (
                entry.name.to_string(),
                entry.fate.name(),
                entry.items,
                entry.thread,
                has_begun.then_some(entry.worker),
                seconds(entry.submitted),
                seconds(entry.queued),
                (has_begun && entry.begun != 0).then(|| seconds(entry.begun)),
                has_begun.then(|| seconds(entry.ended)),
                seconds(entry.received),
            )
        };
        Ok(entries.iter().skip(first).take(most).map(row).collect())
    }

    /// How many there are.
    fn __len__(&self) -> PyResult<usize> {
        self.check_ours()?;
        Ok(self.0.entries.lock().len())
    }

    /// Calls that it had no room for.
    fn left_out(&self) -> u64 {
        self.0.left_out.load(Relaxed)
    }
}

impl CallLog {
    /// A fork has a copy, whose lock another thread may have held.
    fn check_ours(&self) -> PyResult<()> {
        if self.1 == runtime::forks() { Ok(()) } else { Err(runtime::foreign()) }
    }
}
