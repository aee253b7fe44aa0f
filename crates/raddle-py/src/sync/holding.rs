//! A lock that knows who holds it.

use std::sync::Arc;
use std::time::Instant;

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Enders, Waiter, Wake};
use raddle_core::prim::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use raddle_core::sync::Lock;

use super::wait::of_wake;
use super::{PyLock, PyRLock};
use crate::lock_order::{self, Number};
use crate::unit;
use crate::wait_graph::{self, Waiting, What};

const NOBODY: u64 = 0;

/// A lock taken by `acquire`, which says nothing about who will release it.
pub(crate) const BY_CALL: u32 = 0;
/// A lock taken by a `with` statement, which releases it.
pub(crate) const BY_WITH: u32 = 1;

/// The lock, its owner, and how far that may be believed.
#[derive(Debug)]
pub(crate) struct Holding {
    lock: Lock,
    /// The unit that holds it. Written by the holder, after it has taken and before it releases.
    owner: AtomicU64,
    /// `BY_CALL` or `BY_WITH`. Written by the holder.
    manner: AtomicU32,
    /// Whether it was ever released by a thread that did not hold it: it is a signal, then, and its holder says nothing.
    is_signal: AtomicBool,
    /// Whether it was ever released by the thread that held it: it is no signal, as far as is known.
    is_proven: AtomicBool,
    /// How many threads want it and have not got it at their first attempt: asleep, or on their way.
    wanting: AtomicU32,
    /// Whether only its owner can release it.
    is_owned: bool,
    /// Where the value of its Python object lies; 0 until somebody has waited for it.
    home: AtomicUsize,
    number: Number,
}

impl Holding {
    pub(crate) fn new(is_owned: bool) -> Arc<Self> {
        Arc::new(Self {
            lock: Lock::new(),
            owner: AtomicU64::new(NOBODY),
            manner: AtomicU32::new(BY_CALL),
            is_signal: AtomicBool::new(false),
            is_proven: AtomicBool::new(false),
            wanting: AtomicU32::new(0),
            is_owned,
            home: AtomicUsize::new(0),
            number: Number::default(),
        })
    }

    /// Whose lock this is. To be said before one waits for it.
    pub(crate) fn belongs_to<C: PyClass>(self: &Arc<Self>, value: &C) -> &Arc<Self> {
        self.home.store(std::ptr::from_ref(value).addr(), Relaxed);
        self
    }

    /// The address of its Python object. `None`: not known.
    pub(crate) fn object(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        // The value lies behind a head, which is as long in every object of the class.
        let head = if self.is_owned {
            head_of(&Bound::new(py, PyRLock::of(Self::new(true)))?)
        } else {
            head_of(&Bound::new(py, PyLock::of(Self::new(false)))?)
        };
        Ok(self.home.load(Relaxed).checked_sub(head))
    }

    #[inline]
    pub(crate) fn try_acquire(&self, me: UnitId, manner: u32) -> bool {
        let taken = self.lock.try_acquire();
        if taken {
            self.taken(me, manner);
        }
        taken
    }

    #[inline]
    fn taken(&self, me: UnitId, manner: u32) {
        self.owner.store(me.0, Relaxed);
        self.manner.store(manner, Relaxed);
        if lock_order::is_on() && matches!(self.enders(), Enders::Holder(_)) {
            lock_order::took(&self.number);
        }
    }

    /// To be called before this thread waits for it as long as it takes, if orders are watched. It has said whose lock this is.
    #[cold]
    pub(crate) fn want(&self, py: Python<'_>) -> PyResult<()> {
        lock_order::want(py, &self.number, self.kind(), || Ok(self.object(py)?.unwrap_or_default()))
    }

    /// Waits for it. `false`: the deadline has passed.
    #[cold]
    pub(crate) fn acquire_slow(
        self: &Arc<Self>,
        py: Python<'_>,
        me: UnitId,
        manner: u32,
        deadline: Option<Instant>,
    ) -> PyResult<bool> {
        let enter = |waiter: &Arc<Waiter>| wait_graph::enter(py, What::Lock(self.clone()), waiter, deadline);
        self.wait_for_it(py, me, manner, deadline, enter)
    }

    /// Waits for it, for a thread that cannot go on without it: if the wait would never end, another thread raises that.
    pub(crate) fn acquire_surely(self: &Arc<Self>, py: Python<'_>, me: UnitId, manner: u32) -> PyResult<bool> {
        let enter = |waiter: &Arc<Waiter>| wait_graph::enter_surely(py, What::Lock(self.clone()), waiter);
        self.wait_for_it(py, me, manner, None, enter)
    }

    fn wait_for_it(
        &self,
        py: Python<'_>,
        me: UnitId,
        manner: u32,
        deadline: Option<Instant>,
        enter: impl Fn(&Arc<Waiter>) -> PyResult<Waiting>,
    ) -> PyResult<bool> {
        let _wanting = Wanting::of(&self.wanting);
        let mut before = None;
        loop {
            let waiter = match self.lock.acquire(before.as_ref()) {
                Attempt::Done(()) => break,
                Attempt::Wait(waiter) => waiter,
            };
            let taken = AtomicBool::new(false);
            let sleep = |until| {
                let wake = waiter.park(until);
                // Tried before coming back into Python, which may take long: the lock is more often free now.
                if wake == Wake::Unparked && (self.lock.try_acquire() || self.lock.acquire_soon()) {
                    taken.store(true, Relaxed);
                }
                of_wake(wake)
            };
            let ended = enter(&waiter).and_then(|mut waiting| waiting.sleep(py, deadline, sleep));
            match ended {
                Ok(true) if taken.load(Relaxed) => break,
                Ok(true) => before = Some(waiter),
                ended => {
                    self.lock.leave(&waiter);
                    return ended;
                }
            }
        }
        self.taken(me, manner);
        Ok(true)
    }

    /// Releases it. `false`: it was not held.
    #[inline]
    pub(crate) fn release(&self, me: UnitId) -> bool {
        if self.owner.load(Relaxed) != me.0 {
            return self.release_for_another();
        }
        self.owner.store(NOBODY, Relaxed);
        self.is_proven.store(true, Relaxed);
        if lock_order::is_on() {
            lock_order::released(me, &self.number);
        }
        self.lock.release()
    }

    #[cold]
    fn release_for_another(&self) -> bool {
        if self.lock.is_held() {
            if let Some(owner) = self.owner().filter(|_| lock_order::is_on()) {
                lock_order::released(owner, &self.number);
            }
            self.is_signal.store(true, Relaxed);
            self.owner.store(NOBODY, Relaxed);
        }
        self.lock.release()
    }

    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.lock.is_held()
    }

    /// Whether another thread waits for it.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanting.load(Relaxed) > 0
    }

    #[inline]
    pub(crate) fn is_held_by(&self, unit: UnitId) -> bool {
        self.owner.load(Relaxed) == unit.0
    }

    pub(crate) fn owner(&self) -> Option<UnitId> {
        let owner = self.owner.load(Relaxed);
        (owner != NOBODY).then_some(UnitId(owner))
    }

    /// For the child of a fork.
    pub(crate) fn reset(&self) {
        self.owner.store(NOBODY, Relaxed);
        self.wanting.store(0, Relaxed);
        self.lock.reset();
    }

    pub(crate) fn enders(&self) -> Enders {
        match self.owner() {
            // Nobody else can release it, and its owner does not exist any more.
            Some(owner) if self.is_owned && unit::find(owner).is_none() => Enders::Only(Vec::new()),
            Some(owner) if self.is_owned => Enders::Holder(owner),
            Some(owner) if self.is_signal.load(Relaxed) || unit::find(owner).is_none() => Enders::Anyone,
            Some(owner) if self.manner.load(Relaxed) == BY_WITH || self.is_proven.load(Relaxed) => {
                Enders::Holder(owner)
            }
            Some(owner) => Enders::Likely(owner),
            None => Enders::Anyone,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        if self.is_owned { "an RLock" } else { "a Lock" }
    }
}

fn head_of<C: PyClass<Frozen = True> + Sync>(object: &Bound<'_, C>) -> usize {
    std::ptr::from_ref(object.get()).addr() - object.as_ptr().addr()
}

/// While it lives, one thread more wants the lock.
struct Wanting<'a>(&'a AtomicU32);

impl<'a> Wanting<'a> {
    fn of(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
