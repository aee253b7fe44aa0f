//! The thread lane: Python threads that take calls from one native queue.
//!
//! The threads themselves are made in Python (so that they have names, are listed by `threading.enumerate()` and see
//! `threading.local`); each of them spends its life in [`ThreadLane::run`].
//!
//! # Who is woken, and when
//!
//! A thread that has ended a call and finds more in the queue wakes the caller at once. A thread that finds nothing more
//! first lets go of the interpreter and then wakes the caller: so the caller does not wake up only to wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use raddle_core::park;
use raddle_core::park::Crowd as Waiting;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use raddle_core::sched::{Pop, Queue, Quota, Rank, Waited};

use crate::batch::{Arguments, Budget, Done, Input, arguments_of, run_batch};
use crate::deadlock;
use crate::errors;
use crate::future::{FutureCore, Home, Sleeper, Terms, sleep_until};
use crate::gate::{self, Timeout};
use crate::process_lane::label_of;
use crate::reply::name_of;
use crate::runtime;
use crate::trace::{CallLog, Fate, Tracer};

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
    tracer: Tracer,
    /// The clock of the tallies starts here.
    made: Instant,
    forks: u32,
}

/// How many threads there are, and how many wait for calls of their own pool.
#[derive(Default)]
struct Crew {
    threads: usize,
    blocked: usize,
    /// Of every thread there is or was, in the order of their start.
    tallies: BTreeMap<usize, Arc<Tally>>,
    /// Threads that were ever there.
    hired: usize,
}

/// So many threads that have ended are remembered.
const REMEMBERED: usize = 32;

impl Crew {
    /// A thread has ended: the numbers of the oldest that have are forgotten.
    fn forget_oldest(&mut self) {
        let gone: Vec<usize> =
            self.tallies.iter().filter(|(_, tally)| tally.gone.load(Relaxed) > 0).map(|(&number, _)| number).collect();
        for number in &gone[..gone.len().saturating_sub(REMEMBERED)] {
            self.tallies.remove(number);
        }
    }
}

/// What one thread has done. Its times are nanoseconds since the lane was made, 0 for what has not happened.
///
/// Written by the thread that it is about, and by whoever starts it before that. Ordering: Relaxed; nothing but the numbers
/// travels.
struct Tally {
    name: String,
    hired: u64,
    /// It has been set up, and takes calls.
    is_up: AtomicBool,
    gone: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
    busy: AtomicU64,
    running_since: AtomicU64,
}

type Numbers = (u64, u64, u64, u64, u64, u64, f64);
type WorkerNumbers = (String, Option<u32>, u64, u64, f64, f64, &'static str);

impl Tally {
    fn enter(&self, now: u64) {
        self.running_since.store(now, Relaxed);
    }

    /// A call, or so many of a batch, has ended. One writer: no read-modify-write is needed.
    fn leave(&self, nanos: u64, done: u64, failed: u64) {
        let add = |counter: &AtomicU64, more: u64| counter.store(counter.load(Relaxed) + more, Relaxed);
        self.running_since.store(0, Relaxed);
        add(&self.busy, nanos);
        add(&self.calls, done);
        add(&self.failed, failed);
    }

    /// Nanoseconds inside the call that runs.
    fn running(&self, now: u64) -> u64 {
        match self.running_since.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        }
    }

    fn read(&self, now: u64) -> WorkerNumbers {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let (gone, running) = (get(&self.gone), self.running(now));
        let state = match () {
            () if gone > 0 => "ended",
            () if get(&self.running_since) > 0 => "busy",
            () if self.is_up.load(Relaxed) => "idle",
            () => "starting",
        };
        let until = if gone > 0 { gone } else { now };
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let (busy, age) = (seconds(get(&self.busy) + running), seconds(until.saturating_sub(self.hired)));
        (self.name.clone(), None, get(&self.calls), get(&self.failed), busy, age, state)
    }
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
        self.leave(items);
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
        gate::wait(py, None, |until| {
            let _waiting = self.waiting.enter(park::with_current(park::Parker::unparker));
            sleep_until(&|| self.quota.has_room(), until)
        })?;
        Ok(())
    }

    /// Counts this thread out, if enough others stay. Who hands in a call looks at the number of threads after that; so either the
    /// call is seen here, or the missing thread there.
    fn may_leave(&self, tally: &Tally) -> bool {
        let mut crew = self.crew.lock();
        if crew.threads <= self.least {
            return false;
        }
        crew.threads -= 1;
        drop(crew);
        let leaves = self.queue.is_empty();
        let mut crew = self.crew.lock();
        if leaves {
            tally.gone.store(self.now(), Relaxed);
            crew.forget_oldest();
        } else {
            crew.threads += 1;
        }
        leaves
    }

    pub(crate) fn unblock(&self) {
        self.crew.lock().blocked -= 1;
    }

    /// Nanoseconds since the lane was made; never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
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
            tracer: Tracer::default(),
            made: Instant::now(),
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
        while !self.work.is_foreign() && !self.work.quota.enter(1) {
            if self.work.queue.is_closed() || deadlock::is_employed_by(&self.work) {
                self.work.quota.force(1); // a thread of the pool must not wait for what only threads of the pool do
                break;
            }
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
    /// The future of a batch ends with a pair: the results, and the exception of the item that raised or None. A `whole` batch is
    /// never stopped.
    #[expect(clippy::too_many_arguments, reason = "Python names them all")]
    #[pyo3(signature = (r#fn, calls, futures, *, starred, size = 1, most = None, priority = 0, whole = false))]
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
        whole: bool,
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
                Arguments::Batch { items: PyList::new(py, items)?.unbind(), starred, whole }
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
    /// thread has been counted out. `number`: what `hire` returned for this thread.
    fn run(&self, py: Python<'_>, number: usize) -> PyResult<bool> {
        let tally = self.tally(number)?;
        tally.is_up.store(true, Relaxed);
        let _employed = deadlock::employ(&self.work);
        let mut owed: Vec<Sleeper> = Vec::new();
        loop {
            match self.work.queue.pop() {
                Pop::Item(call) => {
                    FutureCore::wake(std::mem::take(&mut owed));
                    owed = self.work.call(py, call, &tally);
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
                        Waited::TimedOut if self.work.may_leave(&tally) => return Ok(true),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Counts one more thread. Returns its number.
    fn hire(&self, name: String) -> usize {
        let tally = Tally {
            name,
            hired: self.work.now(),
            is_up: AtomicBool::new(false),
            gone: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            running_since: AtomicU64::new(0),
        };
        let mut crew = self.work.crew.lock();
        crew.threads += 1;
        let number = crew.hired;
        crew.hired += 1;
        crew.tallies.insert(number, Arc::new(tally));
        number
    }

    /// Whether one more thread would help.
    fn wants_thread(&self) -> bool {
        self.missing_threads() > 0
    }

    /// Counts one thread less. Returns how many are left.
    fn dismiss(&self, number: usize) -> PyResult<usize> {
        self.tally(number)?.gone.store(self.work.now(), Relaxed);
        let mut crew = self.work.crew.lock();
        crew.threads = crew.threads.saturating_sub(1);
        crew.forget_oldest();
        Ok(crew.threads)
    }

    /// Writes down what becomes of each call that is handed in from now on; or no more, with None.
    #[pyo3(signature = (log, /))]
    fn trace(&self, log: Option<&CallLog>) -> PyResult<()> {
        if self.work.is_foreign() {
            return Err(runtime::foreign());
        }
        self.work.tracer.put(log)
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
        calls.into_iter().map(|call| call.future).collect()
    }

    /// Counts calls that `take_back` returned and that were failed instead of cancelled.
    fn count_failed(&self, items: u64) {
        self.work.leave(items);
        self.work.counts.failed.fetch_add(items, Relaxed);
    }

    /// Whether no more calls are taken.
    fn is_closed(&self) -> bool {
        self.work.queue.is_closed()
    }

    /// Numbers since the lane was made: submitted, finished, failed, cancelled, pending, running, busy seconds.
    fn counts(&self) -> Numbers {
        let counts = &self.work.counts;
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        // What has ended first: it is part of what was submitted.
        let (finished, failed, cancelled) = (get(&counts.finished), get(&counts.failed), get(&counts.cancelled));
        let (running, submitted) = (get(&counts.running), get(&counts.submitted));
        let pending = submitted.saturating_sub(finished + failed + cancelled + running);
        (submitted, finished, failed, cancelled, pending, running, get(&counts.busy) as f64 / 1e9)
    }

    /// The same, with the calls that run in the busy seconds; and for each thread: name, None, calls, failed, busy seconds,
    /// seconds that it has existed, state.
    fn report(&self) -> (Numbers, Vec<WorkerNumbers>) {
        if self.work.is_foreign() {
            return Default::default();
        }
        let tallies: Vec<_> = self.work.crew.lock().tallies.values().cloned().collect();
        let now = self.work.now();
        let mut numbers = self.counts();
        numbers.6 += tallies.iter().map(|tally| tally.running(now)).sum::<u64>() as f64 / 1e9;
        // One that could not be started, or set up, was never a worker.
        let known = tallies.iter().filter(|tally| tally.is_up.load(Relaxed) || tally.gone.load(Relaxed) == 0);
        (numbers, known.map(|tally| tally.read(now)).collect())
    }
}

impl ThreadLane {
    fn tally(&self, number: usize) -> PyResult<Arc<Tally>> {
        let crew = self.work.crew.lock();
        crew.tallies
            .get(&number)
            .cloned()
            .ok_or_else(|| PyValueError::new_err(format!("no thread has the number {number}")))
    }

    /// Hands in a call that the quota has let in.
    fn push(&self, py: Python<'_>, function: Py<PyAny>, arguments: Arguments, rank: Rank) -> PyResult<Py<FutureCore>> {
        if self.work.is_foreign() {
            return Err(runtime::foreign());
        }
        let future = runtime::new_future(py)?;
        future.get().settle_at(Home::Thread(self.work.clone()), None);
        let trace = self
            .work
            .tracer
            .start(|| label_of(function.bind(py)).and_then(|label| name_of(label.bind(py))).unwrap_or_default());
        if let Arguments::Batch { items, .. } = &arguments {
            future.get().make_batch(items.bind(py).len(), Some(items.clone_ref(py)), trace);
        } else {
            future.get().agree(Vec::new(), Terms::default(), trace);
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
    fn call(&self, py: Python<'_>, call: Call, tally: &Tally) -> Vec<Sleeper> {
        let Call { future, function, arguments } = call;
        let total = u64::from(future.get().batch_size().max(1));
        let counts = &self.counts;
        if !future.get().start() {
            counts.outstanding.fetch_sub(1, Relaxed);
            if !future.get().was_cancelled() {
                self.leave(total); // ended by hand; one that was cancelled has left
            }
            return Vec::new();
        }
        counts.running.fetch_add(total, Relaxed);
        let begun = self.now();
        tally.enter(begun);
        if let Some(trace) = future.get().trace() {
            trace.begin_here();
        }
        let (result, done, raised) = match &arguments {
            Arguments::Call(args, kwargs) => {
                let result = function.bind(py).call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)));
                let raised = result.is_err();
                (result, 1, raised)
            }
            Arguments::Batch { items, starred, whole } => {
                let budget = Budget::new(*whole);
                match run_batch(function.bind(py), items.bind(py), *starred, &budget) {
                    Ok(ran) => {
                        let (done, raised) = (ran.count() as u64, ran.failure.is_some());
                        let Done { results, failure } = ran;
                        let pair = (results, failure.map(|error| error.into_value(py))).into_pyobject(py);
                        (pair.map(Bound::into_any), done, raised)
                    }
                    Err(error) => (Err(error), total, true),
                }
            }
        };
        let nanos = self.now().saturating_sub(begun);
        tally.leave(nanos, done, u64::from(raised));
        if let Some(trace) = future.get().trace() {
            trace.end_here(if raised { Fate::Raised } else { Fate::Returned }, u32::try_from(done).unwrap_or(u32::MAX));
        }
        counts.busy.fetch_add(nanos, Relaxed);
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
