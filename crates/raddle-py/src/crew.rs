//! The threads of a pool: who there is, what each does, and what each has done.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use raddle_core::life::UnitId;
use raddle_core::prim::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::thread_lane::Work;
use crate::unit;

thread_local! {
    /// The pool whose calls this thread runs.
    static WORKS_FOR: RefCell<Option<Arc<Work>>> = const { RefCell::new(None) };
}

/// While it lives, this thread is one of the pool's.
pub(crate) struct Employed(());

/// To be called by a thread that begins to take calls.
pub(crate) fn employ(work: &Arc<Work>, tally: &Tally) -> Employed {
    WORKS_FOR.with(|slot| *slot.borrow_mut() = Some(work.clone()));
    tally.unit.store(unit::my_id().0, Relaxed);
    tally.is_up.store(true, Relaxed);
    Employed(())
}

impl Drop for Employed {
    fn drop(&mut self) {
        WORKS_FOR.with(|slot| *slot.borrow_mut() = None);
    }
}

/// Whether this thread is one of the pool's.
pub(crate) fn is_employed_by(work: &Arc<Work>) -> bool {
    WORKS_FOR.with(|slot| slot.borrow().as_ref().is_some_and(|mine| Arc::ptr_eq(mine, work)))
}

/// The threads of a pool.
#[derive(Default)]
pub(crate) struct Crew {
    pub(crate) threads: usize,
    /// Of every thread there is or was, in the order of their start.
    pub(crate) tallies: BTreeMap<usize, Arc<Tally>>,
    /// Threads that were ever there.
    pub(crate) hired: usize,
}

/// So many threads that have ended are remembered.
const REMEMBERED: usize = 32;

impl Crew {
    /// A thread has ended: the numbers of the oldest that have are forgotten.
    pub(crate) fn forget_oldest(&mut self) {
        let gone: Vec<usize> =
            self.tallies.iter().filter(|(_, tally)| tally.gone.load(Relaxed) > 0).map(|(&number, _)| number).collect();
        for number in &gone[..gone.len().saturating_sub(REMEMBERED)] {
            self.tallies.remove(number);
        }
    }

    /// All who are there, as units. `None`: one of them is not known yet, or not any more.
    pub(crate) fn units(&self) -> Option<Vec<UnitId>> {
        let units: Vec<UnitId> = self.there().collect();
        (units.len() == self.threads && !units.contains(&UnitId(0))).then_some(units)
    }

    /// Those who are there and known, as units.
    pub(crate) fn known(&self) -> Vec<UnitId> {
        self.there().filter(|unit| *unit != UnitId(0)).collect()
    }

    fn there(&self) -> impl Iterator<Item = UnitId> {
        let there = self.tallies.values().filter(|tally| tally.gone.load(Relaxed) == 0);
        there.map(|tally| UnitId(tally.unit.load(Relaxed)))
    }

    /// Who runs this. `None`: not known, or nobody.
    pub(crate) fn runner(&self, (at, number): Key) -> Option<UnitId> {
        let runs = |tally: &&Arc<Tally>| tally.at.load(Relaxed) == at && tally.number.load(Relaxed) == number;
        self.tallies.values().find(runs).map(|tally| UnitId(tally.unit.load(Relaxed)))
    }
}

/// Which call, of those that run: the address of its future and 0, or that of its row and its number there.
pub(crate) type Key = (usize, usize);

/// What one thread does, and has done. Its times are nanoseconds since the lane was made, 0 for what has not happened.
///
/// Written by the thread that it is about, and by whoever starts it before that. Ordering: Relaxed; nothing but the numbers
/// travels. Who looks for a thread that sleeps in the wait graph sees all that it has written before, by the mutex of the graph; of a
/// thread that runs it does not matter what is seen.
pub(crate) struct Tally {
    pub(crate) name: String,
    pub(crate) hired: u64,
    /// It has been set up, and takes calls.
    pub(crate) is_up: AtomicBool,
    pub(crate) gone: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) running_since: AtomicU64,
    /// The number of its unit; 0: it is not up yet.
    pub(crate) unit: AtomicU64,
    /// What it runs: both parts of a `Key`; 0: nothing.
    pub(crate) at: AtomicUsize,
    pub(crate) number: AtomicUsize,
}

pub(crate) type WorkerNumbers = (String, Option<u32>, u64, u64, f64, f64, &'static str);

impl Tally {
    pub(crate) fn new(name: String, hired: u64) -> Self {
        Self {
            name,
            hired,
            is_up: AtomicBool::new(false),
            gone: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            running_since: AtomicU64::new(0),
            unit: AtomicU64::new(0),
            at: AtomicUsize::new(0),
            number: AtomicUsize::new(0),
        }
    }

    /// Says what it runs from now on; before that has begun, so that nobody takes what it ran before for it.
    #[inline]
    pub(crate) fn runs(&self, (at, number): Key) {
        self.number.store(number, Relaxed);
        self.at.store(at, Relaxed);
    }

    /// Says that it runs nothing; while what it ran is still there, so that nothing else lies at its address.
    #[inline]
    pub(crate) fn rests(&self) {
        self.at.store(0, Relaxed);
    }

    pub(crate) fn enter(&self, now: u64) {
        self.running_since.store(now, Relaxed);
    }

    /// A call, or so many of a batch, has ended. One writer: no read-modify-write is needed.
    pub(crate) fn leave(&self, nanos: u64, done: u64, failed: u64) {
        self.running_since.store(0, Relaxed);
        self.busy.store(self.busy.load(Relaxed) + nanos, Relaxed);
        self.count(done, failed);
    }

    /// So many calls have ended.
    pub(crate) fn count(&self, done: u64, failed: u64) {
        let add = |counter: &AtomicU64, more: u64| counter.store(counter.load(Relaxed) + more, Relaxed);
        add(&self.calls, done);
        add(&self.failed, failed);
    }

    /// Nanoseconds inside the call that runs.
    pub(crate) fn running(&self, now: u64) -> u64 {
        match self.running_since.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        }
    }

    pub(crate) fn read(&self, now: u64) -> WorkerNumbers {
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
