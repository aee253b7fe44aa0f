//! What threads wait for at thread pools, as the wait graph sees it.
//!
//! # Who could end a wait for a call
//!
//! Once the call runs, the thread that runs it, and nobody else. Before that, any thread of the pool: whichever takes nothing new because it
//! is stuck itself cannot begin it. So a pool is exhausted when all of its threads wait in one circle.
//!
//! # Rules
//!
//! 1. There is hope while a pool may have one more thread, while one of its threads is not up yet, and while it is not known who runs a call that
//!    has begun: that is so for a few instructions.
//! 2. A call that has ended has come, whether or not whoever waits for it has been woken.
//! 3. That somebody might cancel a call, or end a future by hand that a pool has, is no hope: what only that could end is a deadlock.
//!    A future that no pool has is ended by hand, and anyone could do it.
//! 4. What processes do is not known here.

use std::sync::Arc;

use pyo3::prelude::*;
use raddle_core::life::{Phase, UnitId};
use raddle_core::park::Enders;

use crate::future::{FutureCore, Home};
use crate::span::{Step, Want};
use crate::thread_lane::Work;
use crate::wait_graph::Held;

/// What comes of a call: its future.
pub(crate) struct Outcome(pub(crate) Py<FutureCore>);

/// What comes of an item of a map.
pub(crate) struct Item {
    pub(crate) work: Arc<Work>,
    /// The address of its row.
    pub(crate) row: usize,
    pub(crate) want: Arc<Want>,
}

/// Room for one more call in a pool that takes only so many.
pub(crate) struct Room(pub(crate) Arc<Work>);

/// The end of every thread of a pool that takes no more calls.
pub(crate) struct Departure(pub(crate) Arc<Work>);

/// Who could end the wait for one of several calls, or for one alone.
#[derive(Default)]
pub(crate) struct Hands {
    units: Vec<UnitId>,
    /// Pools of which every thread could.
    pools: Vec<Arc<Work>>,
    /// Anyone could.
    is_anyone: bool,
    /// Nothing is known of somebody who could.
    is_unknown: bool,
}

impl Hands {
    /// One more call that would do.
    pub(crate) fn take_in(&mut self, future: &FutureCore) {
        match future.home() {
            None => self.is_anyone = true,
            Some(Home::Process(_)) => self.is_unknown = true,
            Some(Home::Thread(work)) => match future.life().phase {
                Phase::New | Phase::Ready => self.any_of(work),
                // Its runner is one of them.
                Phase::Running | Phase::Parked if self.has_all_of(work) => {}
                Phase::Running | Phase::Parked => self.one(work.runner(future.key())),
                Phase::Done(_) => self.is_unknown = true, // whoever waits is about to hear of it
            },
        }
    }

    /// Any thread of a pool could.
    pub(crate) fn any_of(&mut self, work: &Arc<Work>) {
        if self.has_all_of(work) {
            return;
        }
        match work.all_hands() {
            Some(units) => self.units.extend(units),
            None => self.is_unknown = true,
        }
        self.pools.push(work.clone());
    }

    fn one(&mut self, unit: Option<UnitId>) {
        match unit {
            Some(unit) => self.units.push(unit),
            None => self.is_unknown = true,
        }
    }

    fn has_all_of(&self, work: &Arc<Work>) -> bool {
        self.pools.iter().any(|other| Arc::ptr_eq(other, work))
    }

    pub(crate) fn enders(self) -> Enders {
        if self.is_unknown || (self.units.is_empty() && !self.is_anyone) {
            Enders::Outside
        } else if self.is_anyone {
            Enders::Anyone
        } else {
            Enders::Only(self.units)
        }
    }
}

/// What it is called in messages while it runs, and before.
const RUNS: &str = "the result of a call";
const WAITS: &str = "the result of a call that no thread has begun,";

impl Held for Outcome {
    fn enders(&self) -> Enders {
        let mut hands = Hands::default();
        hands.take_in(self.0.get());
        hands.enders()
    }

    fn has_come(&self) -> bool {
        self.0.get().is_over()
    }

    fn kind(&self) -> &'static str {
        match (self.0.get().home(), self.0.get().life().phase) {
            (None, _) => "a Future",
            (_, Phase::New | Phase::Ready) => WAITS,
            _ => RUNS,
        }
    }

    fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    fn holder(&self) -> Option<UnitId> {
        match self.0.get().home() {
            Some(Home::Thread(work)) => work.runner(self.0.get().key()),
            _ => None,
        }
    }

    fn pool(&self) -> Option<Arc<Work>> {
        match self.0.get().home() {
            Some(Home::Thread(work)) => Some(work.clone()),
            _ => None,
        }
    }
}

impl Held for Item {
    fn enders(&self) -> Enders {
        let mut hands = Hands::default();
        match self.want.step() {
            Step::Waits => hands.any_of(&self.work),
            Step::Runs => hands.one(self.holder()),
            Step::Ended => {}
        }
        hands.enders()
    }

    fn has_come(&self) -> bool {
        matches!(self.want.step(), Step::Ended)
    }

    fn kind(&self) -> &'static str {
        match self.want.step() {
            Step::Waits => WAITS,
            Step::Runs | Step::Ended => RUNS,
        }
    }

    fn address(&self) -> usize {
        self.row
    }

    fn holder(&self) -> Option<UnitId> {
        self.work.runner((self.row, self.want.number))
    }

    fn pool(&self) -> Option<Arc<Work>> {
        Some(self.work.clone())
    }
}

impl Held for Room {
    fn enders(&self) -> Enders {
        let mut hands = Hands::default();
        hands.any_of(&self.0);
        hands.enders()
    }

    fn has_come(&self) -> bool {
        self.0.has_room()
    }

    fn kind(&self) -> &'static str {
        "room for a call in a pool"
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn pool(&self) -> Option<Arc<Work>> {
        Some(self.0.clone())
    }
}

/// It takes all of them; one that is stuck is enough to wait for ever. A thread that is not up yet does not matter: whether it will
/// come to its end is seen when it waits itself.
impl Held for Departure {
    fn enders(&self) -> Enders {
        Enders::All(self.0.hands())
    }

    fn has_come(&self) -> bool {
        self.0.exits.are_all_gone()
    }

    fn kind(&self) -> &'static str {
        "the end of the threads of a pool"
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}
