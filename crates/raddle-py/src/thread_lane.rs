//! The thread lane: Python threads that take calls from one native queue.
//!
//! The threads themselves are made in Python (so that they have names, are listed by `threading.enumerate()` and see
//! `threading.local`); each of them spends its life in [`ThreadLane::run`].
//!
//! # Who is woken, and when
//!
//! A thread that has ended a call and finds more in the queue wakes the caller at once. A thread that finds nothing more
//! first lets go of the interpreter and then wakes the caller: so the caller does not wake up only to wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use raddle_core::park;
use raddle_core::park::Crowd as Waiting;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};
use raddle_core::sched::{Pop, Queue, Quota, Rank, Waited};

use crate::batch::{Arguments, Done, Input, arguments_of, run_batch};
use crate::deadlock;
use crate::errors;
use crate::future::{FutureCore, Home, Sleeper, sleep_until};
use crate::gate::{self, Timeout};
use crate::runtime;

/// One call in the queue.
struct Call {
    future: Py<FutureCore>,
    function: Py<PyAny>,
    arguments: Arguments,
}

impl Call {
    /// How many calls it counts as.
    fn items(&self) -> u64 {
        u64::from(self.future.get().batch_size().max(1))
    }
}

/// What the threads of a pool share.
pub(crate) struct Work {
    queue: Queue<Call>,
    crew: Mutex<Crew>,
    most: usize,
    /// So many threads stay when there is nothing to do.
    least: usize,
    /// After so long the others end.
    idle: Option<Duration>,
    counts: Counters,
    /// Items of calls that have not ended.
    quota: Quota,
    /// Threads that wait for room below it.
    waiting: Waiting,
    forks: u32,
}

/// How many threads there are, and how many wait for calls of their own pool.
#[derive(Default)]
struct Crew {
    threads: usize,
    blocked: usize,
}

#[derive(Default)]
struct Counters {
    submitted: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    /// Calls that were handed in and have not ended. Lowered before whoever waits for the call is woken, so that
    /// its next call finds the thread free.
    outstanding: AtomicU64,
    running: AtomicU64,
    busy: AtomicU64,
}

impl Work {
    /// Counts this thread as waiting for its own pool; refuses, with the number of threads, if it is the last one.
    pub(crate) fn block(&self) -> Result<(), usize> {
        let mut crew = self.crew.lock();
        if crew.blocked + 1 >= crew.threads && crew.threads >= self.most {
            return Err(crew.threads);
        }
        crew.blocked += 1;
        Ok(())
    }

    /// Whether the pool was made by another process, of which this one is a fork: its locks may be held by threads that
    /// do not exist here.
    pub(crate) fn is_foreign(&self) -> bool {
        self.forks != runtime::forks()
    }

    /// Counts calls that were cancelled while they waited.
    pub(crate) fn count_cancelled(&self, items: u64) {
        self.counts.cancelled.fetch_add(items, Relaxed);
    }

    /// Calls are through, or will not run.
    fn leave(&self, items: u64) {
        self.quota.leave(items);
        self.waiting.wake();
    }

    /// Waits until there may be room for one more call, or no more are taken.
    fn wait_for_place(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let _blocked = deadlock::enter(py, self, None)?;
        gate::wait(py, || {
            let _waiting = self.waiting.enter(park::with_current(park::Parker::unparker));
            sleep_until(&|| self.quota.has_room(), None)
        })?;
        Ok(())
    }

    /// Counts this thread out, if enough others stay. Who hands in a call looks at the number of threads after that; so either the
    /// call is seen here, or the missing thread there.
    fn may_leave(&self) -> bool {
        let mut crew = self.crew.lock();
        if crew.threads <= self.least {
            return false;
        }
        crew.threads -= 1;
        drop(crew);
        let leaves = self.queue.is_empty();
        if !leaves {
            self.crew.lock().threads += 1;
        }
        leaves
    }

    pub(crate) fn unblock(&self) {
        self.crew.lock().blocked -= 1;
    }
}

/// The native part of a thread pool.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct ThreadLane {
    work: Arc<Work>,
}

#[pymethods]
impl ThreadLane {
    #[new]
    #[pyo3(signature = (max_workers, max_pending = None, least = None, idle_timeout = Timeout::FOREVER))]
    fn new(max_workers: usize, max_pending: Option<u64>, least: Option<usize>, idle_timeout: Timeout) -> Self {
        let work = Work {
            queue: Queue::new(),
            crew: Mutex::default(),
            most: max_workers,
            least: least.unwrap_or(max_workers),
            idle: idle_timeout.duration(),
            counts: Counters::default(),
            quota: Quota::new(max_pending),
            waiting: Waiting::default(),
            forks: runtime::forks(),
        };
        Self { work: Arc::new(work) }
    }

    /// Hands in a call. Returns its future, and whether one more thread would help. `waits`: if the lane is full; otherwise the
    /// call is refused then.
    #[pyo3(signature = (r#fn, args, kwargs, priority = 0, waits = true))]
    fn submit(
        &self,
        py: Python<'_>,
        r#fn: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Bound<'_, PyDict>>,
        priority: Rank,
        waits: bool,
    ) -> PyResult<(Py<FutureCore>, bool)> {
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty()).map(Bound::unbind);
        while !self.work.is_foreign() && !self.work.queue.is_closed() && !self.work.quota.enter(1) {
            if !waits {
                return Err(errors::full(py));
            }
            self.work.wait_for_place(py)?;
        }
        let future = self.push(py, r#fn, Arguments::Call(args, kwargs), priority)?;
        Ok((future, self.missing_threads() > 0))
    }

    /// Hands in one call of a function for each item of `calls`, `size` of them as one batch, `most` items at most. Appends
    /// their futures to `futures`, also if it raises, and returns how many more threads would help.
    ///
    /// The future of a batch ends with a pair: the results, and the exception of the item that raised or None.
    #[expect(clippy::too_many_arguments, reason = "Python names them all")]
    #[pyo3(signature = (r#fn, calls, futures, *, starred, size = 1, most = None, priority = 0))]
    fn submit_all(
        &self,
        py: Python<'_>,
        r#fn: Bound<'_, PyAny>,
        calls: &Input,
        futures: &Bound<'_, PyList>,
        starred: bool,
        size: usize,
        most: Option<usize>,
        priority: Rank,
    ) -> PyResult<usize> {
        let (mut left, size) = (most.unwrap_or(usize::MAX), size.max(1));
        while left > 0 {
            let arguments = if size == 1 {
                let Some(item) = calls.next(py)? else { break };
                left -= 1;
                Arguments::Call(arguments_of(item, starred)?.unbind(), None)
            } else {
                let items = calls.batch(py, size.min(left))?;
                if items.is_empty() {
                    break;
                }
                left -= items.len();
                Arguments::Batch { items: PyList::new(py, items)?.unbind(), starred }
            };
            self.work.quota.force(arguments.items(py));
            futures.append(self.push(py, r#fn.clone().unbind(), arguments, priority)?)?;
        }
        Ok(self.missing_threads())
    }

    /// Waits until there may be room for one more call, or no more are taken.
    fn wait_for_place(&self, py: Python<'_>) -> PyResult<()> {
        self.work.wait_for_place(py)
    }

    /// Runs calls until the lane is closed and empty; or until there is nothing to do for a while, then it returns true, and the
    /// thread has been counted out.
    fn run(&self, py: Python<'_>) -> PyResult<bool> {
        let _employed = deadlock::employ(&self.work);
        let mut owed: Vec<Sleeper> = Vec::new();
        loop {
            match self.work.queue.pop() {
                Pop::Item(call) => {
                    FutureCore::wake(std::mem::take(&mut owed));
                    owed = self.work.call(py, call);
                }
                Pop::Closed => {
                    FutureCore::wake(owed);
                    return Ok(false);
                }
                Pop::Empty => {
                    let wake = std::mem::take(&mut owed);
                    let waited = gate::detached(py, || {
                        FutureCore::wake(wake);
                        let until = self.work.idle.and_then(|idle| Instant::now().checked_add(idle));
                        self.work.queue.wait(until)
                    })?;
                    match waited {
                        Waited::Interrupted => py.check_signals()?,
                        Waited::TimedOut if self.work.may_leave() => return Ok(true),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Counts one more thread.
    fn hire(&self) {
        self.work.crew.lock().threads += 1;
    }

    /// Counts one thread less. Returns how many are left.
    fn dismiss(&self) -> usize {
        let mut crew = self.work.crew.lock();
        crew.threads = crew.threads.saturating_sub(1);
        crew.threads
    }

    /// Takes no more calls. Threads end when the queue is empty.
    fn close(&self) {
        if !self.work.is_foreign() {
            self.work.queue.close();
            self.work.quota.close();
            self.work.waiting.wake();
        }
    }

    /// Takes every call out of the queue and returns their futures, not cancelled yet.
    fn take_back(&self) -> Vec<Py<FutureCore>> {
        if self.work.is_foreign() {
            return Vec::new();
        }
        let calls = self.work.queue.drain();
        self.work.counts.outstanding.fetch_sub(calls.len() as u64, Relaxed);
        self.work.leave(calls.iter().map(|call| call.items()).sum());
        calls.into_iter().map(|call| call.future).collect()
    }

    /// Counts calls that `take_back` returned and that were failed instead of cancelled.
    fn count_failed(&self, items: u64) {
        self.work.counts.failed.fetch_add(items, Relaxed);
    }

    /// Whether no more calls are taken.
    fn is_closed(&self) -> bool {
        self.work.queue.is_closed()
    }

    /// Numbers since the lane was made: submitted, finished, failed, cancelled, pending, running, busy seconds.
    fn counts(&self) -> (u64, u64, u64, u64, u64, u64, f64) {
        let counts = &self.work.counts;
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        // What has ended first: it is part of what was submitted.
        let (finished, failed, cancelled) = (get(&counts.finished), get(&counts.failed), get(&counts.cancelled));
        let (running, submitted) = (get(&counts.running), get(&counts.submitted));
        let pending = submitted.saturating_sub(finished + failed + cancelled + running);
        (submitted, finished, failed, cancelled, pending, running, get(&counts.busy) as f64 / 1e9)
    }
}

impl ThreadLane {
    /// Hands in a call that the quota has let in.
    fn push(&self, py: Python<'_>, function: Py<PyAny>, arguments: Arguments, rank: Rank) -> PyResult<Py<FutureCore>> {
        if self.work.is_foreign() {
            return Err(runtime::foreign());
        }
        let future = runtime::new_future(py)?;
        future.get().settle_at(Home::Thread(self.work.clone()), None);
        if let Arguments::Batch { items, .. } = &arguments {
            future.get().make_batch(items.bind(py).len(), Some(items.clone_ref(py)));
        }
        let call = Call { future: future.clone_ref(py), function, arguments };
        let items = call.items();
        self.work.counts.outstanding.fetch_add(1, Relaxed);
        if self.work.queue.push_ranked(rank, call).is_err() {
            self.work.counts.outstanding.fetch_sub(1, Relaxed);
            self.work.leave(items);
            return Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown"));
        }
        self.work.counts.submitted.fetch_add(items, Relaxed);
        Ok(future)
    }

    /// How many more threads there should be for what has been handed in and has not ended.
    fn missing_threads(&self) -> usize {
        let outstanding = usize::try_from(self.work.counts.outstanding.load(Relaxed)).unwrap_or(usize::MAX);
        let threads = self.work.crew.lock().threads;
        outstanding.min(self.work.most).saturating_sub(threads)
    }
}

impl Work {
    /// Runs one call. Returns whom to wake.
    fn call(&self, py: Python<'_>, call: Call) -> Vec<Sleeper> {
        let Call { future, function, arguments } = call;
        let total = u64::from(future.get().batch_size().max(1));
        let counts = &self.counts;
        if !future.get().start() {
            counts.outstanding.fetch_sub(1, Relaxed);
            self.leave(total);
            return Vec::new();
        }
        counts.running.fetch_add(total, Relaxed);
        let begun = Instant::now();
        let (result, done, raised) = match &arguments {
            Arguments::Call(args, kwargs) => {
                let result = function.bind(py).call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)));
                let raised = result.is_err();
                (result, 1, raised)
            }
            Arguments::Batch { items, starred } => match run_batch(function.bind(py), items.bind(py), *starred) {
                Ok(ran) => {
                    let (done, raised) = (ran.count() as u64, ran.failure.is_some());
                    let Done { results, failure } = ran;
                    let pair = (results, failure.map(|error| error.into_value(py))).into_pyobject(py);
                    (pair.map(Bound::into_any), done, raised)
                }
                Err(error) => (Err(error), total, true),
            },
        };
        counts.busy.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
        counts.running.fetch_sub(total, Relaxed);
        counts.outstanding.fetch_sub(1, Relaxed);
        counts.ended(total, done, raised);
        self.leave(total);
        drop((function, arguments));
        let future = future.into_bound(py);
        FutureCore::finish(&future, result.map(Bound::unbind)).unwrap_or_else(|error| {
            // A done-callback let a KeyboardInterrupt or SystemExit through: it is nobody's here.
            error.write_unraisable(py, Some(&future));
            Vec::new()
        })
    }
}

impl Counters {
    /// A call, or a batch of so many items, has ended. What a batch has not done is cancelled if the last item that it did
    /// raised; otherwise it goes back to whoever handed it in, as if it had never come.
    fn ended(&self, items: u64, done: u64, raised: bool) {
        self.finished.fetch_add(done - u64::from(raised), Relaxed);
        self.failed.fetch_add(u64::from(raised), Relaxed);
        if raised {
            self.cancelled.fetch_add(items - done, Relaxed);
        } else {
            self.submitted.fetch_sub(items - done, Relaxed);
        }
    }
}
