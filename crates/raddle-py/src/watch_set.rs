//! Waiting for the first of several futures, without a condition in any of them.

use std::sync::Arc;

use pyo3::prelude::*;
use raddle_core::park::{self, Enders, Unparker};
use raddle_core::prim::Mutex;

use crate::awaited::Hands;
use crate::future::{FutureCore, Home, Sleeper, sleep_until};
use crate::gate::{self, Timeout};
use crate::process_lane::Shared;
use crate::runtime;
use crate::thread_lane::Work;
use crate::wait_graph::{self, Held};

/// The numbers of the futures that have ended and were not asked for yet.
#[derive(Default)]
pub(crate) struct Ready {
    inner: Mutex<(Vec<usize>, Option<Unparker>)>,
}

impl Ready {
    pub(crate) fn add(&self, number: usize) {
        let mut inner = self.inner.lock();
        inner.0.push(number);
        if let Some(unparker) = &inner.1 {
            unparker.unpark();
        }
    }

    fn has_some(&self) -> bool {
        !self.inner.lock().0.is_empty()
    }
}

/// Where the thread that waits for a set sleeps.
#[derive(Clone, Default)]
enum Bed {
    /// Nothing to wait for yet.
    #[default]
    None,
    /// Every future belongs to this process lane: the thread may lead it.
    Lane(Arc<Shared>),
    /// They belong to several lanes or to none. A thread can sleep in one place only, so it parks, and the keepers look
    /// after the calls of process lanes.
    Parked,
}

#[derive(Default)]
struct Watched {
    /// Those that were not returned yet, by number.
    futures: Vec<Option<Py<FutureCore>>>,
    free: Vec<usize>,
    bed: Bed,
}

/// The first of what comes of several calls.
struct First(Py<WatchSet>);

/// A set of futures, of which the ended ones can be waited for.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct WatchSet {
    ready: Arc<Ready>,
    watched: Mutex<Watched>,
    /// Whether another thread may add futures while one waits.
    is_shared: bool,
}

#[pymethods]
impl WatchSet {
    /// Watches `futures`. `shared`: another thread may add more, of the same pool, while one waits.
    #[new]
    #[pyo3(signature = (futures, shared = false))]
    fn new(py: Python<'_>, futures: Vec<Py<FutureCore>>, shared: bool) -> Self {
        let set = Self { ready: Arc::default(), watched: Mutex::default(), is_shared: shared };
        set.add(py, futures);
        set
    }

    /// Watches more futures; returns how many. Those that are over already count as ended now.
    fn add(&self, py: Python<'_>, futures: Vec<Py<FutureCore>>) -> usize {
        let count = futures.len();
        for future in futures {
            let number = {
                let mut watched = self.watched.lock();
                let number = watched.free.pop().unwrap_or(watched.futures.len());
                if number == watched.futures.len() {
                    watched.futures.push(None);
                }
                watched.futures[number] = Some(future.clone_ref(py));
                number
            };
            if future.get().add_sleeper(|| Sleeper::Set(self.ready.clone(), number)) {
                self.make_bed(future.bind(py));
            } else {
                self.ready.add(number);
            }
        }
        count
    }

    /// The futures that have ended since the last call, which are not watched any more; waits for one, `timeout` seconds
    /// at most.
    #[pyo3(signature = (timeout = Timeout::FOREVER))]
    fn next(slf: &Bound<'_, Self>, timeout: Timeout) -> PyResult<Vec<Py<FutureCore>>> {
        let (py, this) = (slf.py(), slf.get());
        if !this.ready.has_some() {
            let deadline = timeout.deadline();
            this.ready.inner.lock().1 = Some(park::with_current(park::Parker::unparker));
            let is_done = || this.ready.has_some();
            let bed = this.watched.lock().bed.clone();
            match bed {
                Bed::Lane(shared) if shared.is_foreign() => return Err(runtime::foreign()),
                Bed::Lane(shared) => {
                    gate::wait(py, deadline, |until| shared.lane.wait_for(None, &is_done, until))?;
                    drop(shared.lane.spent());
                }
                Bed::None | Bed::Parked => {
                    let first = Arc::new(First(slf.clone().unbind()));
                    wait_graph::until_come(py, first, deadline, |until| sleep_until(&is_done, until))?;
                }
            }
        }
        let numbers = std::mem::take(&mut this.ready.inner.lock().0);
        let ended: Vec<_> = {
            let mut watched = this.watched.lock();
            watched.free.extend(&numbers);
            numbers.into_iter().filter_map(|number| watched.futures[number].take()).collect()
        };
        for future in &ended {
            if future.get().owes_telling() {
                FutureCore::announce(future.bind(py))?;
            }
        }
        Ok(ended)
    }

    /// Watches no longer. Returns what had not ended.
    fn close(&self) -> Vec<Py<FutureCore>> {
        let watched = std::mem::take(&mut *self.watched.lock());
        let left: Vec<_> = watched.futures.into_iter().flatten().collect();
        for future in &left {
            let is_ours =
                |sleeper: &Sleeper| matches!(sleeper, Sleeper::Set(ready, _) if Arc::ptr_eq(ready, &self.ready));
            future.get().remove_sleepers(is_ours);
        }
        left
    }
}

impl Held for First {
    fn enders(&self) -> Enders {
        let set = self.0.get();
        let mut hands = Hands::default();
        let watched = set.watched.lock();
        for future in watched.futures.iter().flatten() {
            match future.get().home() {
                Some(Home::Thread(work)) if set.is_shared && !future.get().is_over() => hands.any_of(work),
                _ => hands.take_in(future.get()),
            }
        }
        hands.enders()
    }

    fn has_come(&self) -> bool {
        self.0.get().ready.has_some()
    }

    fn kind(&self) -> &'static str {
        "the first of several results"
    }

    fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    fn pool(&self) -> Option<Arc<Work>> {
        let watched = self.0.get().watched.lock();
        let mut pools = watched.futures.iter().flatten().map(|future| match future.get().home() {
            Some(Home::Thread(work)) => Some(work),
            _ => None,
        });
        let first = pools.next()??;
        pools.all(|pool| pool.is_some_and(|pool| Arc::ptr_eq(pool, first))).then(|| first.clone())
    }
}

impl WatchSet {
    fn make_bed(&self, future: &Bound<'_, FutureCore>) {
        let home = match future.get().home() {
            Some(Home::Process(shared)) => Some(shared),
            _ => None,
        };
        let mut watched = self.watched.lock();
        match (&watched.bed, home) {
            (Bed::None, Some(shared)) => watched.bed = Bed::Lane(shared.clone()),
            (Bed::Lane(lane), Some(shared)) if Arc::ptr_eq(lane, shared) => {}
            (Bed::None, None) => watched.bed = Bed::Parked,
            (Bed::Parked, None) => {}
            (Bed::Parked, Some(_)) => {
                drop(watched);
                FutureCore::have_kept(future);
            }
            (Bed::Lane(_), _) => {
                watched.bed = Bed::Parked;
                let py = future.py();
                let all: Vec<_> = watched.futures.iter().flatten().map(|other| other.clone_ref(py)).collect();
                drop(watched);
                for other in all {
                    FutureCore::have_kept(other.bind(py));
                }
            }
        }
    }
}
