//! How many items of a piece of work its worker may still begin: a counter that the other side can cut short.

#![forbid(unsafe_code)]

use raddle_core::prim::atomic::Ordering::{AcqRel, Acquire, Release};
use raddle_core::prim::atomic::{AtomicU64, fence};

/// Bits of each of the two counts.
const BITS: u32 = 20;
const COUNT: u64 = (1 << BITS) - 1;

/// The claim on the items of a piece: its worker begins them one by one, and its parent may take those away that were not begun.
/// Lives in shared memory; one for each worker, for the piece that it runs.
///
/// ```text
/// 63 ...... 40 │ 39 ..... 20 │ 19 ..... 0
///  number of   │    limit    │   begun
///  the piece   │             │
/// ```
///
/// # Rules
///
/// 1. Every change is one atomic read-modify-write, after which either side may die.
/// 2. The worker adds one to `begun`, and runs the item if it was less than `limit` before. The parent lowers `limit` to `begun`, if
///    the word has not changed since it looked. So every item is begun by the worker or taken by the parent, and none by both.
/// 3. The word is open for one piece, named by its number, and closed (zero) between pieces: what the parent means for one piece never
///    meets another.
/// 4. The parent keeps its own count of what it has left to the worker, and does not ask the word for it.
///
/// 5. What the worker writes down about a piece elsewhere it clears before it opens the word, and writes while the word is open. The parent
///    looks at the word before and after it reads that ([`during`](Self::during)): so it is of the piece that was meant.
///
/// Zeroed memory is a closed word.
///
/// # Examples
///
/// ```
/// use raddle_shm::Stint;
///
/// let stint = Stint::new();
/// stint.open(7, 3);
/// assert_eq!(stint.take(7, 3), None, "the first item is the worker's");
/// assert!(stint.begin());
/// assert_eq!(stint.take(7, 3), Some(1), "the second and the third item are the taker's");
/// assert!(!stint.begin());
/// ```
#[repr(C)]
#[derive(Debug)]
pub struct Stint {
    word: AtomicU64,
}

impl Stint {
    /// A piece has so many items at most.
    pub const MOST: u32 = COUNT as u32 - 1;

    /// A closed word.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// A closed word.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// The worker starts a piece of so many items.
    ///
    /// # Panics
    ///
    /// If they are more than [`MOST`](Self::MOST).
    pub fn open(&self, number: u64, items: u32) {
        assert!(items <= Self::MOST, "a piece of {items} items");
        self.word.swap(number << (2 * BITS) | u64::from(items) << BITS, AcqRel);
    }

    /// The worker wants to begin the next item. False: there is none that it may.
    pub fn begin(&self) -> bool {
        let old = self.word.fetch_add(1, AcqRel);
        old & COUNT < old >> BITS & COUNT
    }

    /// The worker is through with the piece, as far as it goes.
    pub fn close(&self) {
        self.word.swap(0, AcqRel);
        // Ordering: Release, between the swap above and what the worker writes about the next piece. Pairs with the fence in `during`.
        fence(Release);
    }

    /// How many items of the piece were begun. None: the worker is not at this piece. It is what the worker says.
    pub fn begun(&self, number: u64) -> Option<u32> {
        let word = self.word.load(Acquire);
        is_of(word, number).then_some((word & COUNT) as u32)
    }

    /// What `read` finds of what the worker has written about the piece. None: the worker was not at it all the time, and what was found
    /// may be about another.
    pub fn during<T>(&self, number: u64, read: impl FnOnce() -> T) -> Option<T> {
        self.begun(number)?;
        let found = read();
        // Ordering: Acquire, between `read` and the look below: if `read` has seen anything of the next piece, that sees the word closed.
        fence(Acquire);
        self.begun(number)?;
        Some(found)
    }

    /// The parent takes what has not been begun of the piece's first `items`. Returns from which item on; None: there is nothing to take.
    /// The first item is the worker's in any case.
    pub fn take(&self, number: u64, items: u32) -> Option<u32> {
        let mut word = self.word.load(Acquire);
        loop {
            let (limit, begun) = (word >> BITS & COUNT, word & COUNT);
            if !is_of(word, number) || limit != u64::from(items) || begun == 0 || begun >= limit {
                return None;
            }
            let cut = word & !(COUNT << BITS) | begun << BITS;
            match self.word.compare_exchange(word, cut, AcqRel, Acquire) {
                Ok(_) => return Some(begun as u32),
                Err(changed) => word = changed,
            }
        }
    }
}

impl Default for Stint {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the word is open for the piece of this number.
fn is_of(word: u64, number: u64) -> bool {
    word != 0 && word >> (2 * BITS) == number & (u64::MAX >> (2 * BITS))
}
