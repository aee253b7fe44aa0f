//! The owner's end of a heap: memory and books.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use raddle_core::prim::Mutex;

use super::{Lease, Piece};
use crate::{Arena, Mapping, Segment};

/// Memory that this process owns and lends.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use raddle_shm::Segment;
/// use raddle_shm::heap::{Heap, View};
///
/// let segment = Segment::create("example", 1 << 20)?;
/// let heap = Heap::new(segment.map(0, 1 << 20)?, 1 << 20);
/// let lease = heap.lease(5000).unwrap();
/// // SAFETY: the lease is for 5000 bytes, and nobody else has them.
/// unsafe { lease.as_ptr().write(7) };
///
/// // The other process maps the same segment, and is sent the piece.
/// let view = View::new(segment.map(0, 1 << 20)?);
/// let borrowed = view.receive(lease.piece()).unwrap();
/// // SAFETY: the owner has written before it sent the piece.
/// assert_eq!(unsafe { borrowed.as_ptr().read() }, 7);
/// drop(borrowed);
/// assert_eq!(view.take_returns(16), [lease.piece().block], "to be named to the owner");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Heap {
    memory: Mapping,
    books: Mutex<Books>,
    /// Pages below this offset stay with the heap when they are free (rule 7).
    keep: usize,
    /// The process that owns it (rule 6).
    pid: u32,
    segment: Option<Segment>,
}

struct Books {
    arena: Arena,
    /// How much of it is used without hesitation.
    limit: usize,
    /// Leases of each block.
    leases: HashMap<usize, usize>,
}

impl Heap {
    /// A heap in this memory, which nobody else hands out. `keep` bytes stay with it once they were used.
    pub fn new(memory: Mapping, keep: usize) -> Arc<Self> {
        Self::with(memory, keep, None)
    }

    /// A heap in a segment of its own, as long as asked for, or shorter where address space is limited: at least a 4096th. The
    /// name is for people who look into `/proc/PID/maps`.
    ///
    /// # Errors
    ///
    /// What the system says when there is no room for that either.
    pub fn create(name: &str, len: usize, keep: usize) -> io::Result<Arc<Self>> {
        let mut size = len;
        loop {
            let made = Segment::create(name, size).and_then(|segment| Ok((segment.map(0, segment.len())?, segment)));
            match made {
                Ok((memory, segment)) => return Ok(Self::with(memory, keep, Some(segment))),
                Err(error) if size <= len >> 12 => return Err(error),
                Err(_) => size /= 2,
            }
        }
    }

    fn with(memory: Mapping, keep: usize, segment: Option<Segment>) -> Arc<Self> {
        let size = memory.len();
        let books = Books { arena: Arena::new(size, size), limit: size, leases: HashMap::new() };
        Arc::new(Self { memory, books: Mutex::new(books), keep, pid: std::process::id(), segment })
    }

    /// A lease of a new block. None: there is no gap of that length. What the bytes are is not said.
    pub fn lease(self: &Arc<Self>, len: usize) -> Option<Lease> {
        let mut books = self.books.lock();
        let block = books.arena.alloc(len)?;
        books.leases.insert(block, 1);
        drop(books);
        Some(self.made(Piece { block: block as u64, start: block as u64, len: len as u64 }))
    }

    /// One more lease, of bytes that lie in a block of this heap. None: they do not.
    pub fn find(self: &Arc<Self>, at: *const u8, len: usize) -> Option<Lease> {
        let start = (at as usize).checked_sub(self.memory.as_ptr() as usize)?;
        let mut books = self.books.lock();
        let (block, end) = books.arena.block_at(start)?;
        if start.checked_add(len)? > end {
            return None;
        }
        *books.leases.get_mut(&block)? += 1;
        drop(books);
        Some(self.made(Piece { block: block as u64, start: start as u64, len: len as u64 }))
    }

    /// One more lease, of a piece that the other side names. None: there is no such block, or it is not that long.
    pub fn receive(self: &Arc<Self>, piece: Piece) -> Option<Lease> {
        let (start, len) = (usize::try_from(piece.start).ok()?, usize::try_from(piece.len).ok()?);
        let mut books = self.books.lock();
        let (block, end) = books.arena.block_at(start)?;
        if block as u64 != piece.block || start.checked_add(len)? > end {
            return None;
        }
        *books.leases.get_mut(&block)? += 1;
        drop(books);
        Some(self.made(piece))
    }

    /// The descriptor of the segment, to be given to the other side. None: the memory is a part of another segment.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.segment.as_ref().map(AsFd::as_fd)
    }

    /// The other side has given back a block that was named to it.
    ///
    /// What it says is not trusted: a block that does not exist is passed over.
    pub fn given_back(&self, block: u64) {
        self.release(block as usize);
    }

    /// Whether so many bytes more stay below the limit. An empty heap has room for everything that it can hold.
    pub fn has_room(&self, len: usize) -> bool {
        let books = self.books.lock();
        books.arena.outstanding() == 0 || books.arena.taken().saturating_add(len) <= books.limit
    }

    /// How much of the heap is to be used without hesitation. It is for those who can wait to ask [`has_room`](Self::has_room);
    /// [`lease`](Self::lease) does not.
    pub fn set_limit(&self, limit: usize) {
        self.books.lock().limit = limit;
    }

    /// Bytes in blocks.
    pub fn used(&self) -> usize {
        self.books.lock().arena.taken()
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.books.lock().arena.outstanding()
    }

    /// The caller has counted the lease, and checked that the piece lies inside.
    fn made(self: &Arc<Self>, piece: Piece) -> Lease {
        // SAFETY: inside the region.
        let at = unsafe { self.memory.as_ptr().add(piece.start as usize) };
        Lease::own(self.clone(), piece, at)
    }

    pub(super) fn release(&self, block: usize) {
        if std::process::id() != self.pid {
            return; // rule 6
        }
        let mut books = self.books.lock();
        let Some(leases) = books.leases.get_mut(&block) else { return };
        *leases -= 1;
        if *leases > 0 {
            return;
        }
        books.leases.remove(&block);
        if let Some((_, end)) = books.arena.block_at(block).filter(|&(_, end)| end > self.keep) {
            let from = block.max(self.keep);
            // Under the lock: nobody may be given the block before. It can fail only where the system cannot punch holes; then
            // the pages stay.
            let _ = self.memory.punch(from, end - from);
        }
        books.arena.free(block);
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("len", &self.memory.len()).field("used", &self.used()).finish_non_exhaustive()
    }
}
