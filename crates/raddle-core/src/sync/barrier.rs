//! A place where a fixed number of threads wait for each other.
//!
//! ```text
//!              last arrives           open
//!   Filling ───────────────▶ Filling ───────▶ Open       a round, which is used once
//!      └──────── reset, abort, a failure ───▶ Broken
//! ```
//!
//! Each round is an object of its own, with its own line, so that a thread that wakes late still learns how *its* round ended,
//! and the next round may fill meanwhile. `abort` breaks the round that fills and all that follow, until `reset`.

use crate::prim::{Arc, Mutex};

use crate::park::{Called, Line, Waiter};

/// The round was broken, and nobody crosses it: by `abort`, by `reset`, by a wait that ended early, or by an action that failed.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Barrier, Broken};
///
/// let barrier = Barrier::new(2);
/// barrier.abort();
/// assert!(matches!(barrier.arrive(), Err(Broken)));
/// barrier.reset();
/// assert!(barrier.arrive().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What arriving has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Arrival, Barrier};
///
/// let barrier = Barrier::new(2);
/// assert!(matches!(barrier.arrive(), Ok(Arrival::Wait(..))));
/// assert!(matches!(barrier.arrive(), Ok(Arrival::Last(_))));
/// ```
#[derive(Debug)]
pub enum Arrival {
    /// The last of its round, who opens it by [`Crossing::open`] or breaks it by [`Barrier::abort_round`].
    Last(Crossing),
    /// To wait for the others.
    Wait(Arc<Waiter>, Crossing),
}

/// One thread's part in one round.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Arrival, Barrier, Broken};
///
/// let barrier = Barrier::new(2);
/// let Ok(Arrival::Wait(_, crossing)) = barrier.arrive() else { panic!("the first of two waits") };
/// assert_eq!(crossing.fate(), None);
/// barrier.abort();
/// assert_eq!(crossing.fate(), Some(Err(Broken)));
/// ```
#[derive(Debug)]
pub struct Crossing {
    round: Arc<Mutex<Round>>,
    /// The place in the order of arrival, from 0.
    pub index: usize,
}

#[derive(Debug, Default)]
struct Round {
    fate: Fate,
    line: Line,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Filling,
    Open,
    Broken,
}

impl Round {
    /// Ends it, unless it has ended. Returns how it has.
    fn end(round: &Mutex<Self>, fate: Fate) -> Fate {
        let mut round = round.lock();
        let called = round.settle(fate);
        let fate = round.fate;
        drop(round);
        called.wake();
        fate
    }

    fn settle(&mut self, fate: Fate) -> Called {
        if self.fate != Fate::Filling {
            return Called::default();
        }
        self.fate = fate;
        self.line.call_all()
    }
}

impl Crossing {
    /// Lets the round through.
    ///
    /// # Errors
    ///
    /// [`Broken`] if somebody who would not wait any longer has broken it since the last one arrived.
    pub fn open(&self) -> Result<(), Broken> {
        match Round::end(&self.round, Fate::Open) {
            Fate::Broken => Err(Broken),
            Fate::Filling | Fate::Open => Ok(()),
        }
    }

    /// How the round has ended, for one who was called. `None`: it has not.
    pub fn fate(&self) -> Option<Result<(), Broken>> {
        match self.round.lock().fate {
            Fate::Filling => None,
            Fate::Open => Some(Ok(())),
            Fate::Broken => Some(Err(Broken)),
        }
    }
}

/// A barrier for a number of threads, which is used again and again.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::{Arc, thread};
/// use raddle_core::sync::{Arrival, Barrier, Broken};
///
/// fn meet(barrier: &Barrier) -> Result<usize, Broken> {
///     match barrier.arrive()? {
///         Arrival::Last(crossing) => crossing.open().map(|()| crossing.index),
///         Arrival::Wait(waiter, crossing) => {
///             let _ = waiter.park(None);
///             crossing.fate().expect("it was called").map(|()| crossing.index)
///         }
///     }
/// }
///
/// let barrier = Arc::new(Barrier::new(2));
/// let there = Arc::clone(&barrier);
/// let other = thread::spawn(move || meet(&there));
/// assert_eq!(meet(&barrier)? + other.join().unwrap()?, 1);
/// # Ok::<(), Broken>(())
/// ```
#[derive(Debug)]
pub struct Barrier {
    parties: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    arrived: usize,
    is_broken: bool,
    round: Arc<Mutex<Round>>,
}

impl Inside {
    /// Breaks the round that fills, and begins another one. Those of the old one must not find it unfinished once the barrier has
    /// changed: they would break the new one.
    fn begin_anew(&mut self, is_broken: bool) -> Called {
        self.is_broken = is_broken;
        self.arrived = 0;
        let round = std::mem::take(&mut self.round);
        let mut round = round.lock();
        round.settle(Fate::Broken)
    }
}

impl Barrier {
    /// For so many threads; at least one.
    pub fn new(parties: usize) -> Self {
        Self { parties: parties.max(1), inside: Mutex::new(Inside::default()) }
    }

    /// How many threads it is for.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait in the round that fills.
    pub fn arrived(&self) -> usize {
        let inside = self.inside.lock();
        if inside.is_broken { 0 } else { inside.arrived }
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.inside.lock().is_broken
    }

    /// Arrives.
    ///
    /// # Errors
    ///
    /// [`Broken`] if it is broken.
    pub fn arrive(&self) -> Result<Arrival, Broken> {
        let mut inside = self.inside.lock();
        if inside.is_broken {
            return Err(Broken);
        }
        let crossing = Crossing { round: inside.round.clone(), index: inside.arrived };
        inside.arrived += 1;
        if inside.arrived == self.parties {
            inside.arrived = 0;
            // A round of one has no line, and nobody else knows it: it is used again.
            if self.parties > 1 {
                inside.round = Arc::default();
            }
            return Ok(Arrival::Last(crossing));
        }
        let waiter = inside.round.lock().line.join(None);
        Ok(Arrival::Wait(waiter, crossing))
    }

    /// Breaks it: those who wait learn it, and whoever arrives, until it is reset.
    pub fn abort(&self) {
        let mut inside = self.inside.lock();
        let called = inside.begin_anew(true);
        drop(inside);
        called.wake();
    }

    /// Breaks it, and the round of one who has given up waiting, or whose action has failed. `false`: the round was open.
    ///
    /// A round that has ended is left as it is, and the barrier with it: it may have been reset since.
    pub fn abort_round(&self, crossing: &Crossing) -> bool {
        // Both mutexes are held, in the order of `arrive`: whether the round has ended and that the barrier is broken are one step,
        // before or after the last one's `open`.
        let mut inside = self.inside.lock();
        let mut round = crossing.round.lock();
        // A round of one is open for ever, and each crossing of it may fail.
        let is_own = self.parties == 1;
        if round.fate != Fate::Filling && !is_own {
            return round.fate != Fate::Open;
        }
        let mine = round.settle(Fate::Broken);
        drop(round);
        // The one that fills is the same, or that of those who have come since the last one of this round arrived.
        let others = inside.begin_anew(true);
        drop(inside);
        mine.wake();
        others.wake();
        true
    }

    /// Makes it as new; those who wait learn that their round was broken.
    pub fn reset(&self) {
        let mut inside = self.inside.lock();
        let called = inside.begin_anew(false);
        drop(inside);
        called.wake();
    }
}
