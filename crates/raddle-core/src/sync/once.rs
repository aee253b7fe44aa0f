//! Something that is done once, whoever comes first.
//!
//! ```text
//!            the first one                 it is done
//!    New ───────────────────▶ Running ───────────────────▶ Done
//!     ▲                          │
//!     └──────────────────────────┘  it has failed: the next one tries
//! ```
//!
//! # Rules
//!
//! 1. `Running` belongs to one unit, which alone ends it. Whoever else comes stands in line.
//! 2. `Done` is for ever, and what was written before it is seen by all who see it.
//! 3. A failure calls the first in line, and gives it nothing: whoever comes by may be faster.
//! 4. A unit that comes while it runs itself would wait for itself: it is refused.
//! 5. In the child of a fork a run of a thread that was left behind is over, as if it had failed.

use crate::life::UnitId;
use crate::prim::atomic::AtomicBool;
use crate::prim::atomic::Ordering::{Acquire, Release};
use crate::prim::{Arc, Mutex};

use crate::park::{Attempt, Called, Line, Waiter, epoch};

/// Whose turn it is.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::sync::{Once, Turn};
///
/// let once = Once::new();
/// assert_eq!(once.begin(UnitId(1), None).unwrap().done(), Some(Turn::Mine));
/// once.end(true);
/// assert_eq!(once.begin(UnitId(2), None).unwrap().done(), Some(Turn::Over));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who has the turn must end it"]
pub enum Turn {
    /// The caller's: it does the thing, and calls [`Once::end`].
    Mine,
    /// Nobody's any more: it is done.
    Over,
}

/// The unit waits for what it is doing itself.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::sync::{Once, Recursion};
///
/// let once = Once::new();
/// let _ = once.begin(UnitId(1), None);
/// assert_eq!(once.begin(UnitId(1), None).unwrap_err(), Recursion);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recursion;

/// Whether it is done, who does it, and who waits for that.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::park::Attempt;
/// use raddle_core::sync::{Once, Turn};
///
/// let once = Once::new();
/// assert_eq!(once.begin(UnitId(1), None).unwrap().done(), Some(Turn::Mine));
/// let Ok(Attempt::Wait(waiter)) = once.begin(UnitId(2), None) else { panic!("another one is at it") };
/// once.end(false);
/// assert!(waiter.is_called());
/// assert_eq!(once.begin(UnitId(2), Some(&waiter)).unwrap().done(), Some(Turn::Mine), "it has failed: the next one tries");
/// ```
#[derive(Debug, Default)]
pub struct Once {
    is_done: AtomicBool,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Who runs it, and at which number of forks it began.
    runner: Option<(UnitId, u32)>,
    line: Line,
}

impl Once {
    /// Nobody has done it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it is done.
    #[inline]
    pub fn is_done(&self) -> bool {
        // Ordering: Acquire. Pairs with the Release in `end`: what the runner has written is seen.
        self.is_done.load(Acquire)
    }

    /// Takes the turn, sees that it is done, or joins the line. `before`: the waiter of the attempt before, which was called.
    ///
    /// # Errors
    ///
    /// [`Recursion`]: it is this unit that runs it.
    pub fn begin(&self, me: UnitId, before: Option<&Arc<Waiter>>) -> Result<Attempt<Turn>, Recursion> {
        if self.is_done() {
            return Ok(Attempt::Done(Turn::Over));
        }
        let mut inside = self.inside.lock();
        match inside.runner {
            _ if self.is_done() => Ok(Attempt::Done(Turn::Over)),
            Some((runner, _)) if runner == me => Err(Recursion),
            Some((_, at)) if at == epoch() => Ok(Attempt::Wait(inside.line.join(before))),
            _ => {
                inside.runner = Some((me, epoch()));
                Ok(Attempt::Done(Turn::Mine))
            }
        }
    }

    /// Ends the turn. If it is not done, the next one tries.
    pub fn end(&self, is_done: bool) {
        let mut inside = self.inside.lock();
        inside.runner = None;
        let called = if is_done {
            // Ordering: Release. Pairs with `is_done`.
            self.is_done.store(true, Release);
            inside.line.call_all()
        } else {
            inside.line.call()
        };
        drop(inside);
        called.wake();
    }

    /// Takes a waiter out of the line that does not want to wait any more.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        let mut inside = self.inside.lock();
        let too_late = !inside.line.leave(waiter);
        let called = if too_late && inside.runner.is_none() { inside.line.call() } else { Called::default() };
        drop(inside);
        called.wake();
    }

    /// Who runs it.
    pub fn runner(&self) -> Option<UnitId> {
        self.inside.lock().runner.map(|(unit, _)| unit)
    }
}
