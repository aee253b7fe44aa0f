//! How long a thread that is about to sleep keeps looking first.
//!
//! Falling asleep and being woken costs two system calls and, where processors go to rest, tens of microseconds more. A
//! thread whose wait ends sooner than that is better off awake. Whether it will cannot be known, but waits at one place
//! resemble each other: so each place remembers how its last waits went.
//!
//! # Rules
//!
//! 1. Looking first changes no protocol: it happens after everything that makes a sleep safe, in the place of the sleep.
//! 2. It gives way: a thread that could use this processor gets it within a few microseconds.
//! 3. It is bounded: never longer than [`MOST`], shorter each time that it was in vain, and after some failures not
//!    at all for a while. On a machine with one processor never.
//!
//! This is the usual argument for spinning as long as a wake-up costs (Karlin, Manasse, McGeoch and Owicki, "Competitive
//! randomized algorithms for nonuniform problems", 1990): at worst it doubles the cost of a wait.

#[cfg(not(loom))]
use std::time::{Duration, Instant};

use crate::prim::atomic::AtomicU32;
#[cfg(not(loom))]
use crate::prim::atomic::Ordering::Relaxed;

/// The longest look, in nanoseconds: about twice what waking a thread on a resting processor costs.
#[cfg(not(loom))]
const MOST: u32 = 120_000;
/// Below this a look is not worth reading the clock for.
#[cfg(not(loom))]
const LEAST: u32 = 4_000;
/// Where a place begins, and begins again: longer than a wake-up, so that one side's look outlasts the other side's sleep,
/// and both are awake at the next exchange.
#[cfg(not(loom))]
const FIRST: u32 = 60_000;
/// So many waits go straight to sleep after looking has failed too often.
#[cfg(not(loom))]
const REST: u32 = 32;

/// The memory of one place where a thread waits.
///
/// Wrong numbers in it cost time and nothing else, so threads may share it and races in it do not matter.
#[derive(Debug)]
pub struct Patience {
    /// How long to look, in nanoseconds; below `LEAST`: that many more waits without looking.
    budget: AtomicU32,
}

impl Patience {
    /// A place that has seen no waits yet.
    pub fn new() -> Self {
        #[cfg(not(loom))]
        let first = if crate::prim::thread::processors() > 1 { FIRST } else { 0 };
        #[cfg(loom)]
        let first = 0;
        Self { budget: AtomicU32::new(first) }
    }

    /// Looks for a while. Returns whether `is_ready` said so.
    ///
    /// `is_ready` is called often: it should be a load or two.
    #[cfg(not(loom))]
    pub fn look(&self, is_ready: impl Fn() -> bool) -> bool {
        // Ordering: Relaxed everywhere; the number orders nothing.
        let budget = self.budget.load(Relaxed);
        if budget < LEAST {
            match budget {
                0 => {}
                1 => self.budget.store(FIRST, Relaxed),
                rest => self.budget.store(rest - 1, Relaxed),
            }
            return false;
        }
        let (begun, most) = (Instant::now(), Duration::from_nanos(budget.into()));
        loop {
            for _ in 0..32 {
                if is_ready() {
                    let took = u32::try_from(begun.elapsed().as_nanos()).unwrap_or(MOST);
                    // Room for a wait that is a good deal longer than this one was.
                    self.budget.store((took.saturating_mul(4)).clamp(FIRST, MOST).max(budget), Relaxed);
                    return true;
                }
                crate::prim::hint::spin_loop();
            }
            if begun.elapsed() >= most {
                let less = budget / 2;
                self.budget.store(if less < LEAST { REST } else { less }, Relaxed);
                return false;
            }
            crate::prim::thread::yield_now();
        }
    }

    /// Under the model checker a look is one look: every interleaving of a longer one is one with the sleep.
    #[cfg(loom)]
    pub fn look(&self, is_ready: impl Fn() -> bool) -> bool {
        let _ = &self.budget;
        is_ready()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_is_found_without_waiting() {
        assert!(Patience { budget: AtomicU32::new(FIRST) }.look(|| true));
    }

    #[test]
    fn a_place_where_looking_is_in_vain_gives_up_and_tries_again_later() {
        let patience = Patience { budget: AtomicU32::new(FIRST) };
        let looks = || {
            let looked = std::cell::Cell::new(false);
            assert!(!patience.look(|| {
                looked.set(true);
                false
            }));
            looked.get()
        };
        let pattern: Vec<bool> = (0..40).map(|_| looks()).collect();
        assert_eq!(pattern[..4], [true; 4], "halved until it is not worth while");
        assert_eq!(pattern[4..36], [false; 32], "the rest");
        assert!(pattern[36], "and again");
    }

    #[test]
    fn success_makes_patient() {
        let patience = Patience { budget: AtomicU32::new(LEAST) };
        assert!(patience.look(|| true));
        assert!(patience.budget.load(Relaxed) >= FIRST);
    }

    #[test]
    fn one_processor_never_looks() {
        let patience = Patience { budget: AtomicU32::new(0) };
        assert!((0..100).all(|_| !patience.look(|| true)));
    }
}
