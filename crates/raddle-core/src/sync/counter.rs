//! A sum that many threads add to without meeting.
//!
//! Each adds to one of several *shards*, and every shard has a cache line of its own; reading adds the shards up. (The technique of
//! statistical counters; McKenney, "Is parallel programming hard, and, if so, what can you do about it?", chapter on counting.)
//!
//! A sum is exact when nobody adds meanwhile. Otherwise it has all that was added before the reading began, and some of what was added
//! during it. Numbers wrap around at 64 bits, in the shards and in the sum alike, so that the sum is right modulo 2⁶⁴ whatever a single
//! shard has gone through.

use crate::prim::atomic::AtomicU64;
use crate::prim::atomic::Ordering::Relaxed;

/// The most shards.
const MOST: usize = 64;

#[derive(Debug)]
#[repr(align(64))]
struct Shard(AtomicU64);

/// The sum.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::Counter;
///
/// let counter = Counter::new(4);
/// (0..10).for_each(|thread| counter.add(thread, 1));
/// assert_eq!(counter.sum(), 10);
/// ```
#[derive(Debug)]
pub struct Counter {
    shards: Box<[Shard]>,
}

impl Counter {
    /// Zero, in about so many shards: a power of two, and no more than is sensible.
    pub fn new(shards: usize) -> Self {
        let count = shards.clamp(1, MOST).next_power_of_two();
        Self { shards: (0..count).map(|_| Shard(AtomicU64::new(0))).collect() }
    }

    /// Adds to the shard of this `thread`, which may be any number. Threads with different numbers mostly do not meet.
    #[inline]
    pub fn add(&self, thread: u64, amount: i64) {
        let at = usize::try_from(thread).unwrap_or(0) & (self.shards.len() - 1);
        // Ordering: Relaxed. Nothing travels with it; each shard is exact by itself.
        self.shards[at].0.fetch_add(amount.cast_unsigned(), Relaxed);
    }

    /// The sum.
    pub fn sum(&self) -> i64 {
        // Ordering: Relaxed, as above.
        self.shards.iter().fold(0_u64, |sum, shard| sum.wrapping_add(shard.0.load(Relaxed))).cast_signed()
    }

    /// Takes everything out. Returns the sum of it: each addition is in one such sum.
    pub fn take(&self) -> i64 {
        // Ordering: Relaxed, as above.
        self.shards.iter().fold(0_u64, |sum, shard| sum.wrapping_add(shard.0.swap(0, Relaxed))).cast_signed()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }
}
