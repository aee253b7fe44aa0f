//! The other side's end of a heap: its memory, and what was borrowed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use raddle_core::prim::Mutex;

use super::{Lease, Piece};
use crate::Mapping;

/// A borrowed block.
#[derive(Default)]
struct Block {
    /// Where it ends, as far as this side knows.
    end: usize,
    /// Leases of it here.
    leases: usize,
    /// Whether it may be sent on as it is.
    shared: bool,
}

/// The memory of a heap that another process owns.
pub struct View {
    memory: Mapping,
    borrowed: Mutex<Borrowed>,
    /// The process that borrows (rule 6).
    pid: u32,
}

#[derive(Default)]
struct Borrowed {
    blocks: BTreeMap<usize, Block>,
    /// Blocks whose leases have ended, once for each, oldest first.
    returns: Vec<u64>,
}

impl View {
    /// The view of a heap in this memory.
    pub fn new(memory: Mapping) -> Arc<Self> {
        Arc::new(Self { memory, borrowed: Mutex::default(), pid: std::process::id() })
    }

    /// The lease of a piece that the owner has named, to be called once for each time that it does (rule 1). None: it does not
    /// lie inside.
    pub fn receive(self: &Arc<Self>, piece: Piece) -> Option<Lease> {
        self.take_in(piece, false)
    }

    /// The same, of a piece that everybody who has it uses at once: [`find`](Self::find) finds it.
    pub fn receive_shared(self: &Arc<Self>, piece: Piece) -> Option<Lease> {
        self.take_in(piece, true)
    }

    fn take_in(self: &Arc<Self>, piece: Piece, shared: bool) -> Option<Lease> {
        let (block, start) = (usize::try_from(piece.block).ok()?, usize::try_from(piece.start).ok()?);
        let end = start.checked_add(usize::try_from(piece.len).ok()?)?;
        if block > start || end > self.memory.len() {
            return None;
        }
        let mut borrowed = self.borrowed.lock();
        let entry = borrowed.blocks.entry(block).or_default();
        entry.end = entry.end.max(end);
        entry.leases += 1;
        entry.shared |= shared;
        drop(borrowed);
        // SAFETY: inside the mapping, checked above.
        let at = unsafe { self.memory.as_ptr().add(start) };
        Some(Lease::theirs(self.clone(), piece, at))
    }

    /// How to name bytes to the owner that lie in a shared block of which this side holds a lease. None: they do not.
    ///
    /// The lease must live until the owner was sent the name (rule 2).
    pub fn find(&self, at: *const u8, len: usize) -> Option<Piece> {
        let start = (at as usize).checked_sub(self.memory.as_ptr() as usize)?;
        let borrowed = self.borrowed.lock();
        let (&block, known) = borrowed.blocks.range(..=start).next_back()?;
        let inside = known.shared && start.checked_add(len)? <= known.end;
        inside.then_some(Piece { block: block as u64, start: start as u64, len: len as u64 })
    }

    /// Blocks that are to be named to the owner as given back, `most` of them, oldest first.
    pub fn take_returns(&self, most: usize) -> Vec<u64> {
        let mut borrowed = self.borrowed.lock();
        let count = borrowed.returns.len().min(most);
        borrowed.returns.drain(..count).collect()
    }

    /// Puts back what could not be sent.
    pub fn keep_returns(&self, returns: Vec<u64>) {
        let mut borrowed = self.borrowed.lock();
        borrowed.returns.splice(..0, returns);
    }

    /// Whether something is to be given back.
    pub fn has_returns(&self) -> bool {
        !self.borrowed.lock().returns.is_empty()
    }

    /// Bytes from the first to the last that this side has borrowed of each block, summed up, and the number of blocks.
    pub fn borrowed(&self) -> (usize, usize) {
        let borrowed = self.borrowed.lock();
        (borrowed.blocks.iter().map(|(start, block)| block.end - start).sum(), borrowed.blocks.len())
    }

    pub(super) fn give_back(&self, block: usize) {
        if std::process::id() != self.pid {
            return; // rule 6: the lock may be held by a thread that does not exist here
        }
        let mut borrowed = self.borrowed.lock();
        let Some(known) = borrowed.blocks.get_mut(&block) else {
            debug_assert!(false, "a lease was noted when it was made");
            return;
        };
        known.leases -= 1;
        if known.leases == 0 {
            borrowed.blocks.remove(&block);
        }
        borrowed.returns.push(block as u64);
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("len", &self.memory.len())
            .field("borrowed", &self.borrowed())
            .finish_non_exhaustive()
    }
}
