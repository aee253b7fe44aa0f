//! The work once more, on other workers: what they would take if they did it in the same pieces.
//!
//! The work is cut where the lock is taken: each piece is some work without it, then some with it. `N` workers take piece after piece. What there is
//! once, a lock or the GIL, is given in the order in which it was asked for. The pieces are not all alike, as in life: their lengths come from a fixed
//! sequence of numbers with the spread of an exponential distribution, so that the same session gives the same prediction.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// So many pieces are enough to see what happens on average.
const MOST: u64 = 4_000;
const FEWEST: u64 = 400;

/// The work of several threads, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Python code.
    pub(crate) python: f64,
    /// Native code and waits for the world.
    pub(crate) other: f64,
    /// Of both, what is done under the lock.
    pub(crate) under_lock: f64,
    /// How often the lock was taken.
    pub(crate) pieces: u64,
    /// Whether Python code runs one at a time.
    pub(crate) has_gil: bool,
}

/// How long so many workers take, in nanoseconds.
pub(crate) fn replay(load: &Load, workers: usize) -> f64 {
    let all = load.python + load.other;
    if all <= 0.0 || workers == 0 {
        return 0.0;
    }
    let mut pieces = load.pieces.clamp(FEWEST, MOST);
    let locked = (load.under_lock / all).clamp(0.0, 1.0);
    let python = if load.has_gil { load.python / all } else { 0.0 };
    let mean = all / pieces as f64;
    let mut lengths = Lengths { seed: 0x9e37_79b9_7f4a_7c15 };
    // Who is ready for what, and when: the first to be ready is the first to get what there is once.
    let mut ready: BinaryHeap<Reverse<(Moment, usize, Step)>> = BinaryHeap::new();
    ready.extend((0..workers).map(|worker| Reverse((Moment(0.0), worker, Step::Free))));
    let (mut lock_free, mut gil_free, mut end, mut done) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
    while let Some(Reverse((Moment(mut now), worker, step))) = ready.pop() {
        let (share, next) = match step {
            Step::Free if pieces == 0 => continue,
            Step::Free => (1.0 - locked, Step::Locked),
            Step::Locked => (locked, Step::Free),
        };
        pieces -= u64::from(step == Step::Free);
        let length = lengths.next() * mean * share;
        if length > 0.0 {
            now = if step == Step::Locked { now.max(lock_free) } else { now };
            if python > 0.0 {
                now = now.max(gil_free);
                gil_free = now + length * python;
            }
            now += length;
            lock_free = if step == Step::Locked { now } else { lock_free };
            done += length;
        }
        end = end.max(now);
        ready.push(Reverse((Moment(now), worker, next)));
    }
    // The lengths add up to nearly, not exactly, the work.
    end * all / done.max(1.0)
}

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Takes a piece, and does what needs no lock.
    Free,
    /// Does what needs it.
    Locked,
}

/// A moment, in an order: it is a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Lengths around one, always the same ones.
struct Lengths {
    seed: u64,
}

impl Lengths {
    fn next(&mut self) -> f64 {
        // xorshift64*: a few lines, and the same numbers everywhere.
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        let bits = self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        let uniform = (bits as f64 + 1.0) / (1_u64 << 53) as f64;
        -uniform.min(1.0).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { python: 0.0, other: 8e9, under_lock: 0.0, pieces: 2_000, has_gil: true };

    fn near(load: &Load, workers: usize, seconds: f64) {
        let taken = replay(load, workers) / 1e9;
        assert!((taken / seconds - 1.0).abs() < 0.05, "{workers} workers take {taken} s, not {seconds} s");
    }

    #[test]
    fn work_that_needs_nothing_is_spread() {
        near(&LOAD, 1, 8.0);
        near(&LOAD, 2, 4.0);
        near(&LOAD, 8, 1.0);
    }

    #[test]
    fn python_under_a_gil_is_not() {
        let load = Load { python: 8e9, other: 0.0, ..LOAD };
        near(&load, 8, 8.0);
        near(&Load { has_gil: false, ..load }, 8, 1.0);
    }

    #[test]
    fn a_lock_is_the_floor() {
        let load = Load { under_lock: 3.2e9, ..LOAD };
        near(&load, 1, 8.0);
        near(&load, 8, 3.2);
        let two = replay(&load, 2) / 1e9;
        assert!((4.0..4.8).contains(&two), "two workers meet now and then: {two} s");
    }
}
