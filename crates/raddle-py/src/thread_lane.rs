//! The thread lane: Python threads that take calls from one native queue.
//!
//! The threads themselves are made in Python (so that they have names, are listed by `threading.enumerate()` and see
//! `threading.local`); each of them spends its life in [`ThreadLane::run`].
//!
//! # Who is woken, and when
//!
//! A thread that has ended a call and finds more in the queue wakes the caller at once. A thread that finds nothing more
//! first lets go of the interpreter and then wakes the caller: so the caller does not wake up only to wait for it.
//!
//! Calls come as records of their own, with a future each, or as the items of a [`span`](crate::span): the map of an executor. What is
//! said of calls holds for these too: each is taken, counted, cancelled as any other.
//!
//! # When a thread lets go of the interpreter
//!
//! A Python function does so from time to time while it runs. One in C may never do so, and neither does the loop around it: so a
//! thread that has not slept for a while lets go for a moment between two calls ([`Breath`]).

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use raddle_core::life::UnitId;
use raddle_core::park;
use raddle_core::park::Crowd as Waiting;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sched::{Piece, Pop, Position, Queue, Quota, Rank, Record, Waited};

use crate::attached::Count;
use crate::awaited::Room;
use crate::batch::{Arguments, Budget, Done, Input, arguments_of, call_item, run_batch};
use crate::crew::{self, Crew, Key, Tally, WorkerNumbers};
use crate::errors;
use crate::exits::Exits;
use crate::future::{FutureCore, Home, Sleeper, Terms, sleep_until};
use crate::gate::{self, Breath, Timeout};
use crate::process_lane::label_of;
use crate::reply::name_of;
use crate::runtime;
use crate::span::{Harvest, Row, Slot, Span};
use crate::trace::{CallLog, Fate, Tracer};
use crate::turnstile;
use crate::wait_graph;

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
    queue: Queue<Call, Span>,
    crew: Mutex<Crew>,
    most: usize,
    /// So many threads stay when there is nothing to do.
    least: usize,
    /// After so long the others end.
    idle: Option<Duration>,
    counts: Counters,
    /// Items of calls that have not ended, if there is a limit to them.
    quota: Option<Quota>,
    /// Threads that wait for room below it.
    waiting: Waiting,
    pub(crate) exits: Arc<Exits>,
    tracer: Tracer,
    /// The clock of the tallies starts here.
    made: Instant,
    forks: u32,
}

#[derive(Default)]
struct Counters {
    submitted: Count,
    finished: Count,
    failed: Count,
    cancelled: Count,
    /// Calls that were handed in and have not ended, with their callbacks. Lowered before whoever waits for the call is woken, so that
    /// its next call finds the thread free; where there are callbacks, after them.
    outstanding: Count,
    running: Count,
    busy: Count,
}

impl Work {
    /// Whether the pool was made by another process, of which this one is a fork: its locks may be held by threads that
    /// do not exist here.
    pub(crate) fn is_foreign(&self) -> bool {
        self.forks != runtime::forks()
    }

    /// Counts calls that were cancelled while they waited.
    pub(crate) fn count_cancelled(&self, py: Python<'_>, items: u64) {
        self.leave(items);
        self.counts.cancelled.add(py, items);
    }

    /// Calls are through, or will not run.
    fn leave(&self, items: u64) {
        if let Some(quota) = &self.quota {
            quota.leave(items);
            self.waiting.wake();
        }
    }

    /// Items go in, whether there is room or not.
    fn enter(&self, items: u64) {
        if let Some(quota) = &self.quota {
            quota.force(items);
        }
    }

    /// Waits until there may be room for one more call, or no more are taken.
    fn wait_for_place(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if self.has_room() {
            return Ok(());
        }
        wait_graph::until_come(py, Arc::new(Room(self.clone())), None, |until| {
            let _waiting = self.waiting.enter(park::with_current(park::Parker::unparker));
            sleep_until(&|| self.has_room(), until)
        })?;
        Ok(())
    }

    /// Counts one thread less. Returns how many are left.
    fn dismiss(&self, tally: &Tally) -> usize {
        tally.gone.store(self.now(), Relaxed);
        let mut crew = self.crew.lock();
        crew.threads = crew.threads.saturating_sub(1);
        crew.forget_oldest();
        crew.threads
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

    /// Who could begin a call that waits: every thread of the pool. `None`: perhaps somebody else; there may be one more thread.
    pub(crate) fn all_hands(&self) -> Option<Vec<UnitId>> {
        let crew = self.crew.lock();
        if crew.threads < self.most { None } else { crew.units() }
    }

    /// The threads that are there, as far as they are known.
    pub(crate) fn hands(&self) -> Vec<UnitId> {
        self.crew.lock().known()
    }

    /// Who runs a call. `None`: not known, or nobody.
    pub(crate) fn runner(&self, key: Key) -> Option<UnitId> {
        self.crew.lock().runner(key)
    }

    /// Whether there is room for one more call, or none will be taken any more.
    pub(crate) fn has_room(&self) -> bool {
        self.quota.as_ref().is_none_or(Quota::has_room)
    }

    /// Nanoseconds since the lane was made; never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

type Numbers = (u64, u64, u64, u64, u64, u64, f64);

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
            queue: Queue::with_spans(),
            crew: Mutex::default(),
            most: max_workers,
            least: least.unwrap_or(max_workers),
            idle: idle_timeout.duration(),
            counts: Counters::default(),
            quota: max_pending.map(|limit| Quota::new(Some(limit))),
            waiting: Waiting::default(),
            exits: Arc::default(),
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
        while let Some(quota) = &self.work.quota
            && !self.work.is_foreign()
            && !quota.enter(1)
        {
            if self.work.queue.is_closed() || crew::is_employed_by(&self.work) {
                quota.force(1); // a thread of the pool must not wait for what only threads of the pool do
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
    /// never stopped; in one that `goes_on`, what items raise is among the results.
    #[expect(clippy::too_many_arguments, reason = "Python names them all")]
    #[pyo3(signature = (r#fn, calls, futures, *, starred, size = 1, most = None, priority = 0, whole = false, goes_on = false))]
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
        goes_on: bool,
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
                Arguments::Batch { items: PyList::new(py, items)?.unbind(), starred, whole, goes_on }
            };
            self.work.enter(arguments.items(py));
            futures.append(self.push(py, r#fn.clone().unbind(), arguments, priority)?)?;
        }
        Ok(self.missing_threads())
    }

    /// Hands in a call of a function for each item of `calls`, all of them as one span, and returns the iterator over their results.
    ///
    /// `inert`: reading them runs no code that could tell when a call was handed in. Otherwise each is when it has been read. `grow` is
    /// called when one more thread would help.
    #[pyo3(signature = (r#fn, calls, grow, *, starred, inert, timeout = Timeout::FOREVER))]
    fn map(
        &self,
        r#fn: Py<PyAny>,
        calls: &Bound<'_, PyAny>,
        grow: &Bound<'_, PyAny>,
        starred: bool,
        inert: bool,
        timeout: Timeout,
    ) -> PyResult<Harvest> {
        if self.work.is_foreign() {
            return Err(runtime::foreign());
        }
        let (deadline, row) = (timeout.deadline(), Arc::new(Row::new()));
        let span = Arc::new(Span { function: r#fn, starred, row: row.clone() });
        let mut places = Vec::new();
        let read = if inert {
            self.hand_in_at_once(&span, calls, grow, &mut places)
        } else {
            self.hand_in_one_by_one(&span, calls, grow, &mut places)
        };
        if let Err(error) = read {
            row.end(calls.py()); // what was handed in runs, as in the standard library; nobody will ask for what comes of it
            return Err(error);
        }
        Ok(Harvest::new(self.work.clone(), &span, places, deadline))
    }

    /// Waits until there may be room for one more call, or no more are taken.
    fn wait_for_place(&self, py: Python<'_>) -> PyResult<()> {
        self.work.wait_for_place(py)
    }

    /// Waits until every thread that `hire` has counted is over, if it can be said: false if one of them never got as far as `run`,
    /// or is this one.
    fn wait_for_exits(&self, py: Python<'_>) -> PyResult<bool> {
        if self.work.is_foreign() || crew::is_employed_by(&self.work) {
            return Ok(false);
        }
        let gone = Exits::wait(py, &self.work)?;
        Ok(gone == self.work.crew.lock().hired)
    }

    /// Runs calls until the lane is closed and empty, and returns how many threads are left then; or until there is nothing to do for
    /// a while, and returns None. The thread has been counted out. `number`: what `hire` returned for this thread.
    fn run(&self, py: Python<'_>, number: usize) -> PyResult<Option<usize>> {
        let tally = self.tally(number)?;
        self.work.exits.enter();
        let _employed = crew::employ(&self.work, &tally);
        let mut owed: Vec<Sleeper> = Vec::new();
        let mut breath = Breath::new();
        loop {
            match self.work.queue.take() {
                Pop::Item(piece) => {
                    FutureCore::wake(std::mem::take(&mut owed));
                    owed = match piece {
                        Piece::Item(call) => self.work.call(py, call, &tally),
                        Piece::Part(span, number) => self.work.call_parts(py, &span, number, &tally, &breath),
                    };
                    if breath.is_due() {
                        let wake = std::mem::take(&mut owed);
                        gate::detached(py, || FutureCore::wake(wake))?;
                        breath = Breath::new();
                    }
                }
                Pop::Closed => {
                    FutureCore::wake(owed);
                    return Ok(Some(self.work.dismiss(&tally)));
                }
                Pop::Empty => {
                    let wake = std::mem::take(&mut owed);
                    let (waited, pass) = gate::detached(py, || {
                        FutureCore::wake(wake);
                        let until = self.work.idle.and_then(|idle| Instant::now().checked_add(idle));
                        (self.work.queue.wait(until), turnstile::enter())
                    })?;
                    drop(pass);
                    breath = Breath::new();
                    match waited {
                        Waited::Interrupted => py.check_signals()?,
                        Waited::TimedOut if self.work.may_leave(&tally) => return Ok(None),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Counts one more thread. Returns its number.
    fn hire(&self, name: &Bound<'_, PyString>) -> usize {
        let tally = Tally::new(name.to_string_lossy().into_owned(), self.work.now());
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
        Ok(self.work.dismiss(&*self.tally(number)?))
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
            if let Some(quota) = &self.work.quota {
                quota.close();
                self.work.waiting.wake();
            }
        }
    }

    /// Takes every call out of the queue and returns their futures, not cancelled yet. Items of spans are cancelled; or, with an
    /// `error`, the first of each raises what it makes, and the iteration ends there.
    #[pyo3(signature = (error = None))]
    fn take_back(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> Vec<Py<FutureCore>> {
        if self.work.is_foreign() {
            return Vec::new();
        }
        let mut futures = Vec::new();
        for record in self.work.queue.take_all() {
            match record {
                Record::Item(call) => {
                    self.work.counts.outstanding.sub(py, 1);
                    futures.push(call.future);
                }
                Record::Span(span, parts) => {
                    let error = error.map(|error| {
                        error.call0().unwrap_or_else(|raised| raised.into_value(py).into_bound(py).into_any())
                    });
                    self.work.give_up(py, &span.row, parts, error.map(Bound::unbind));
                }
            }
        }
        futures
    }

    /// Counts calls that `take_back` returned and that were failed instead of cancelled.
    fn count_failed(&self, py: Python<'_>, items: u64) {
        self.work.leave(items);
        self.work.counts.failed.add(py, items);
    }

    /// Whether no more calls are taken.
    fn is_closed(&self) -> bool {
        self.work.queue.is_closed()
    }

    /// Numbers since the lane was made: submitted, finished, failed, cancelled, pending, running, busy seconds.
    fn counts(&self) -> Numbers {
        let counts = &self.work.counts;
        // What has ended first: it is part of what was submitted.
        let (finished, failed, cancelled) = (counts.finished.get(), counts.failed.get(), counts.cancelled.get());
        let (running, submitted) = (counts.running.get(), counts.submitted.get());
        let pending = submitted.saturating_sub(finished + failed + cancelled + running);
        (submitted, finished, failed, cancelled, pending, running, counts.busy.get() as f64 / 1e9)
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
        self.work.counts.outstanding.add(py, 1);
        if self.work.queue.push_ranked(rank, call).is_err() {
            self.work.counts.outstanding.sub(py, 1);
            self.work.leave(items);
            return Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown"));
        }
        self.work.counts.submitted.add(py, items);
        Ok(future)
    }

    /// Reads all items, then hands them in.
    fn hand_in_at_once(
        &self,
        span: &Arc<Span>,
        calls: &Bound<'_, PyAny>,
        grow: &Bound<'_, PyAny>,
        places: &mut Vec<Position>,
    ) -> PyResult<()> {
        let mut slots = Vec::with_capacity(calls.len().unwrap_or(0));
        for item in calls.try_iter()? {
            slots.push(Slot::Waiting(item?.unbind()));
        }
        let count = slots.len();
        if count > 0 {
            span.row.fill_with(calls.py(), slots);
            self.push_parts(calls.py(), span, 0..count, places)?;
        }
        (0..self.missing_threads()).try_for_each(|_| grow.call0().map(drop))
    }

    /// Hands each item in when it has been read.
    fn hand_in_one_by_one(
        &self,
        span: &Arc<Span>,
        calls: &Bound<'_, PyAny>,
        grow: &Bound<'_, PyAny>,
        places: &mut Vec<Position>,
    ) -> PyResult<()> {
        for (number, item) in calls.try_iter()?.enumerate() {
            span.row.push(calls.py(), item?.unbind());
            self.push_parts(calls.py(), span, number..number + 1, places)?;
            if self.missing_threads() > 0 {
                grow.call0()?;
            }
        }
        Ok(())
    }

    fn push_parts(
        &self,
        py: Python<'_>,
        span: &Arc<Span>,
        parts: Range<usize>,
        places: &mut Vec<Position>,
    ) -> PyResult<()> {
        let (counts, items) = (&self.work.counts, parts.len() as u64);
        self.work.enter(items);
        counts.outstanding.add(py, items);
        if self.work.queue.push_parts(0, span, parts, places).is_err() {
            counts.outstanding.sub(py, items);
            self.work.leave(items);
            return Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown"));
        }
        counts.submitted.add(py, items);
        Ok(())
    }

    /// How many more threads there should be for what has been handed in and has not ended.
    fn missing_threads(&self) -> usize {
        let outstanding = usize::try_from(self.work.counts.outstanding.get()).unwrap_or(usize::MAX);
        let threads = self.work.crew.lock().threads;
        outstanding.min(self.work.most).saturating_sub(threads)
    }
}

impl Work {
    /// Cancels the items of a span that lie in one place of the queue.
    pub(crate) fn cancel_parts(&self, py: Python<'_>, place: Position, span: &Arc<Span>) {
        if let Some(parts) = self.queue.take_parts(place, span) {
            self.give_up(py, &span.row, parts, None);
        }
    }

    /// Items of a row, which were taken out of the queue, will not run: they are cancelled, or the first one raises the error.
    fn give_up(&self, py: Python<'_>, row: &Row, parts: Range<usize>, error: Option<Py<PyAny>>) {
        let items = parts.len() as u64;
        self.counts.outstanding.sub(py, items);
        if error.is_some() {
            self.leave(items);
            self.counts.failed.add(py, items);
        } else {
            self.count_cancelled(py, items);
        }
        FutureCore::wake(row.give_up(py, parts, error));
    }

    /// Runs the items of a span, from the one with this number on, while they are the next ones in the queue. Returns whom
    /// to wake.
    fn call_parts(
        &self,
        py: Python<'_>,
        span: &Arc<Span>,
        number: usize,
        tally: &Tally,
        breath: &Breath,
    ) -> Vec<Sleeper> {
        let counts = &self.counts;
        let function = span.function.bind(py);
        counts.running.add(py, 1);
        let begun = self.now();
        tally.enter(begun);
        let at = span.row.address();
        tally.runs((at, number));
        let (mut number, mut item) = (number, span.row.begin(py, number));
        loop {
            let result = match item {
                Some(item) => call_item(function, item.into_bound(py), span.starred),
                None => Err(PyRuntimeError::new_err("an item of a map lost its arguments")),
            };
            let raised = u64::from(result.is_err());
            let slot = match result {
                Ok(value) => Slot::Returned(value.unbind()),
                Err(error) => Slot::Raised(error.into_value(py).into_any()),
            };
            let next = if breath.is_due() { None } else { self.queue.take_next_of(span) };
            // Whoever sees the result sees the numbers, too.
            if let Some(next) = next {
                tally.runs((at, next));
                tally.count(1, raised);
            } else {
                let nanos = self.now().saturating_sub(begun);
                tally.leave(nanos, 1, raised);
                counts.busy.add(py, nanos);
                counts.running.sub(py, 1);
            }
            counts.outstanding.sub(py, 1);
            counts.ended(py, 1, 1, u64::from(raised > 0), raised > 0);
            self.leave(1);
            let (following, woken) = span.row.exchange(py, number, slot, next);
            let Some(next) = next else {
                tally.rests();
                return woken;
            };
            FutureCore::wake(woken);
            (number, item) = (next, following);
        }
    }

    /// Runs one call. Returns whom to wake.
    fn call(&self, py: Python<'_>, call: Call, tally: &Tally) -> Vec<Sleeper> {
        let Call { future, function, arguments } = call;
        let total = u64::from(future.get().batch_size().max(1));
        let counts = &self.counts;
        tally.runs(future.get().key());
        if !future.get().start() {
            tally.rests();
            counts.outstanding.sub(py, 1);
            if !future.get().was_cancelled() {
                self.leave(total); // ended by hand; one that was cancelled has left
            }
            return Vec::new();
        }
        counts.running.add(py, total);
        let begun = self.now();
        tally.enter(begun);
        if let Some(trace) = future.get().trace() {
            trace.begin_here();
        }
        let (result, done, failed, ends) = match &arguments {
            Arguments::Call(args, kwargs) => {
                let result = function.bind(py).call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)));
                let raised = result.is_err();
                (result, 1, u64::from(raised), raised)
            }
            Arguments::Batch { items, starred, whole, goes_on } => {
                let budget = Budget::new(*whole);
                match run_batch(function.bind(py), items.bind(py), *starred, *goes_on, &budget) {
                    Ok(ran) => {
                        let (done, ends) = (ran.count() as u64, ran.failure.is_some());
                        let Done { results, failure, failed } = ran;
                        let pair = (results, failure.map(|error| error.into_value(py))).into_pyobject(py);
                        (pair.map(Bound::into_any), done, failed, ends)
                    }
                    Err(error) => (Err(error), total, 1, true),
                }
            }
        };
        let nanos = self.now().saturating_sub(begun);
        tally.leave(nanos, done, failed);
        if let Some(trace) = future.get().trace() {
            let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            trace.end_now(if failed > 0 { Fate::Raised } else { Fate::Returned }, count(done));
            if ends {
                trace.cut(count(total.saturating_sub(done)));
            }
        }
        counts.busy.add(py, nanos);
        counts.running.sub(py, total);
        counts.ended(py, total, done, failed, ends);
        self.leave(total);
        drop((function, arguments));
        let future = future.into_bound(py);
        let woken = FutureCore::finish(&future, result.map(Bound::unbind)).unwrap_or_else(|error| {
            // A done-callback let a KeyboardInterrupt or SystemExit through: it is nobody's here.
            error.write_unraisable(py, Some(&future));
            Vec::new()
        });
        // Not before its callbacks have returned: one that waits for another call of the pool needs another thread.
        counts.outstanding.sub(py, 1);
        tally.rests();
        woken
    }
}

impl Counters {
    /// A call, or a batch of so many items, has ended. What a batch has not done is cancelled if an item that raised `ends` it;
    /// otherwise it goes back to whoever handed it in, as if it had never come.
    fn ended(&self, py: Python<'_>, items: u64, done: u64, failed: u64, ends: bool) {
        self.finished.add(py, done - failed);
        self.failed.add(py, failed);
        if items > done && ends {
            self.cancelled.add(py, items - done);
        } else if items > done {
            self.submitted.sub(py, items - done);
        }
    }
}
