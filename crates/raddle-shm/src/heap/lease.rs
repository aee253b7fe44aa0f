//! The right to use some bytes.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::{Heap, View};

/// Some bytes of a block, as a message names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the block begins in its heap.
    pub block: u64,
    /// Where the bytes begin in the heap: not before the block.
    pub start: u64,
    /// How many there are.
    pub len: u64,
}

/// The right to use a piece. Ends when it is dropped.
pub struct Lease {
    memory: Memory,
    piece: Piece,
    at: *mut u8,
}

enum Memory {
    Own(Arc<Heap>),
    Theirs(Arc<View>),
}

// SAFETY: a lease is numbers, a counted reference to memory that every thread sees alike, and a pointer into it. It reads and
// writes nothing through the pointer.
unsafe impl Send for Lease {}
// SAFETY: as above.
unsafe impl Sync for Lease {}

impl Lease {
    /// Whoever calls this has counted the lease.
    pub(super) fn own(heap: Arc<Heap>, piece: Piece, at: *mut u8) -> Self {
        Self { memory: Memory::Own(heap), piece, at }
    }

    /// As above.
    pub(super) fn theirs(view: Arc<View>, piece: Piece, at: *mut u8) -> Self {
        Self { memory: Memory::Theirs(view), piece, at }
    }

    /// What to call it in a message.
    pub fn piece(&self) -> Piece {
        self.piece
    }

    /// Hands the lease over to the other side, to which its piece is being named: it ends when that side
    /// [gives the block back](Heap::given_back). For leases of a heap of one's own.
    pub fn lend(self) -> Piece {
        let mut this = ManuallyDrop::new(self);
        debug_assert!(matches!(this.memory, Memory::Own(_)), "what was borrowed is not ours to lend");
        // SAFETY: `this` is not used again and not dropped; the only field that owns something is dropped here, once.
        unsafe { std::ptr::drop_in_place(&raw mut this.memory) };
        this.piece
    }

    /// The first byte. Valid for reads and writes of [`len`](Self::len) bytes while the lease lives; other processes, and other
    /// leases of the same block, may read and write there too.
    pub fn as_ptr(&self) -> *mut u8 {
        self.at
    }

    /// How many bytes it is for.
    pub fn len(&self) -> usize {
        self.piece.len as usize
    }

    /// Whether it is for no bytes.
    pub fn is_empty(&self) -> bool {
        self.piece.len == 0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.memory {
            Memory::Own(heap) => heap.release(self.piece.block as usize),
            Memory::Theirs(view) => view.give_back(self.piece.block as usize),
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.memory {
            Memory::Own(_) => "own",
            Memory::Theirs(_) => "theirs",
        };
        f.debug_struct("Lease").field("heap", &whose).field("piece", &self.piece).finish_non_exhaustive()
    }
}
