//! Who has which piece of a region.
//!
//! Bookkeeping for a large sparse region of shared memory that takes the payloads which do not fit into a ring. It runs on one
//! side only and touches no memory itself, so the other side cannot disturb it.
//!
//! ```text
//! 0     gap      live    gap     live     end           soft                        capacity
//! ├───────────┼────────┼──────┼─────────┼┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┤┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┤
//! ```
//!
//! # Rules
//!
//! 1. Blocks begin at multiples of 64 and do not overlap.
//! 2. A new block goes into the lowest gap that can hold it, else behind the last block. So pages that were touched once are
//!    touched again, and an empty region is used from its beginning.
//! 3. Blocks end below `soft`, except for one that was made when there was no other: a payload of any size that the region can
//!    hold gets through, one at a time.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// Where blocks begin: a cache line, and enough for any vector instruction.
const ALIGN: usize = 64;

/// Hands out the pieces of a region, each to be given back by its offset.
///
/// Meant for few, large, short-lived blocks that are given back roughly in order. Then taking one is a step of constant
/// time; where there are many gaps and none is large enough, it looks at all of them.
///
/// # Examples
///
/// ```
/// use raddle_shm::Arena;
///
/// let mut arena = Arena::new(1 << 20, 1 << 30);
/// let (a, b) = (arena.alloc(100).unwrap(), arena.alloc(100).unwrap());
/// assert_eq!((a, b), (0, 128));
/// assert_eq!(arena.alloc(2 << 20), None, "it would go over the soft limit");
/// arena.free(a);
/// arena.free(b);
/// assert_eq!(arena.alloc(2 << 20), Some(0), "alone it may");
/// ```
#[derive(Debug)]
pub struct Arena {
    soft: usize,
    capacity: usize,
    /// From where to where, by where.
    blocks: BTreeMap<usize, usize>,
    /// Bytes in blocks. Less than the end of the last block: there are gaps.
    taken: usize,
    high_water: usize,
}

impl Arena {
    /// An empty arena over a region of `capacity` bytes, of which `soft` are used without hesitation.
    pub fn new(soft: usize, capacity: usize) -> Self {
        // Whole units of alignment only, so that no block ends beyond the region.
        let capacity = capacity - capacity % ALIGN;
        Self { soft: soft.min(capacity), capacity, blocks: BTreeMap::new(), taken: 0, high_water: 0 }
    }

    /// Takes `len` bytes and says where they begin: a multiple of 64. A block of no bytes has a place of its own, too.
    ///
    /// `None` if they do not fit below the soft limit now, or not into the region at all.
    pub fn alloc(&mut self, len: usize) -> Option<usize> {
        let size = len.max(1).checked_next_multiple_of(ALIGN)?;
        let limit = if self.blocks.is_empty() { self.capacity } else { self.soft };
        let offset = self.gap(size).unwrap_or_else(|| self.end());
        let end = offset.checked_add(size).filter(|&end| end <= limit)?;
        self.blocks.insert(offset, end);
        self.taken += size;
        self.high_water = self.high_water.max(end);
        Some(offset)
    }

    /// Gives back the block that begins at `offset`. Says whether there was one; if not, nothing has changed.
    pub fn free(&mut self, offset: usize) -> bool {
        let block = self.blocks.remove(&offset);
        self.taken -= block.map_or(0, |end| end - offset);
        block.is_some()
    }

    /// The block around an offset: where it begins and ends.
    pub fn block_at(&self, offset: usize) -> Option<(usize, usize)> {
        let (&start, &end) = self.blocks.range(..=offset).next_back()?;
        (offset < end).then_some((start, end))
    }

    /// Bytes in blocks.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// How many blocks have not been given back.
    pub fn outstanding(&self) -> usize {
        self.blocks.len()
    }

    /// The end of the highest block since the arena was made or the mark was reset: memory up to there may have been touched.
    pub fn high_water(&self) -> usize {
        self.high_water
    }

    /// Lowers the mark to what is in use now. For whoever has given the pages above it back to the system.
    pub fn reset_high_water(&mut self) {
        self.high_water = self.end();
    }

    /// The lowest gap between blocks that can hold `size` bytes.
    fn gap(&self, size: usize) -> Option<usize> {
        if self.taken == self.end() {
            return None;
        }
        let mut start = 0;
        for (&offset, &end) in &self.blocks {
            if offset - start >= size {
                return Some(start);
            }
            start = end;
        }
        None
    }

    /// The end of the last block.
    fn end(&self) -> usize {
        self.blocks.last_key_value().map_or(0, |(_, &end)| end)
    }
}
