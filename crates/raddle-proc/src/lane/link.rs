//! The layout of the memory that a lane shares with its workers, and each side's view of it.
//!
//! ```text
//! link (one per worker)                          page (one per lane)
//! 0x0000  magic, version                         0x0000  magic, version
//! 0x0080  lines of the request ring              0x0080  bell of the leader
//! 0x0180  lines of the reply ring                0x0100  idle word
//! 0x0280  the worker's bell
//! 0x0300  alarm of the leader   (parent sets, worker swaps)
//! 0x0340  alarm of the keeper   (parent sets, worker swaps)
//! 0x0380  spills taken          (parent writes, worker reads)
//! 0x03c0  started at, running since   (worker writes, parent reads)
//! 0x0400  lines of the ring for words
//! 0x0500  alarm of the keeper for words          (parent sets, worker swaps)
//! 0x0540  the bell at which the worker waits for room for words
//! 0x0580  the claim on the items of a piece      (worker adds, parent cuts)
//! 0x05c0  what the draft has                      (worker writes, parent reads)
//! 0x1000  request bytes, reply bytes             RING each
//! ...     bytes of the ring for words            WORDS
//! ...     the draft                              DRAFT
//! ...     request spill, reply spill             SPILL each, sparse
//! ...     the worker's heap                      2 SPILL, sparse
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, Release};
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};
use raddle_shm::heap::{Heap, View};
use raddle_shm::ring::{Consumer, Lines, Producer};
use raddle_shm::{Alarm, Bell, Mapping, Segment, Stint};

/// Bytes of each ring. Both rings of a worker fit into a core's second-level cache.
const RING: usize = 256 << 10;
/// Bytes of the ring for words.
const WORDS: usize = 128 << 10;
/// Address space for large payloads, in each direction. Sparse: pages exist once they are written.
const SPILL: usize = 16 << 30;
/// Blocks of a heap that are given back in one record, at most.
pub(crate) const RETURNS: usize = 512;
/// Payloads up to this size travel in the ring itself.
pub(crate) const INLINE: usize = 16 << 10;
/// So much of a worker's heap stays in memory when it is free, for the next result.
const HEAP_KEEP: usize = 256 << 20;
/// Large payloads in flight may take this much before the next one waits for room.
pub(crate) const SPILL_SOFT: usize = 64 << 20;

const HEAD: usize = 4096;
/// Bytes for what a worker has done of a piece, before it answers. What does not fit waits for the answer.
const DRAFT: usize = 256 << 10;
/// Where the ring for words begins, where all rings end, and where the regions for large payloads begin.
const WORDS_AT: usize = HEAD + 2 * RING;
const DRAFT_AT: usize = WORDS_AT + WORDS;
const RINGS: usize = DRAFT_AT + DRAFT;
const MAGIC: u32 = u32::from_le_bytes(*b"radl");
const VERSION: u32 = 3;

const REQUEST_LINES: usize = 0x080;
const REPLY_LINES: usize = 0x180;
const WORKER_BELL: usize = 0x280;
const LEADER_ALARM: usize = 0x300;
const KEEPER_ALARM: usize = 0x340;
const SPILLS_TAKEN: usize = 0x380;
const STARTED_AT: usize = 0x3c0;
const WORD_LINES: usize = 0x400;
const WORD_ALARM: usize = 0x500;
const WORD_BELL: usize = 0x540;
const RUNNING_SINCE: usize = 0x3c8;
/// Of the word about the draft, for the number of bytes; twenty more for each of the counts.
const DRAFT_BITS: u32 = 24;
const STINT: usize = 0x580;
const DRAFTED: usize = 0x5c0;
const PAGE_BELL: usize = 0x080;
const PAGE_IDLE: usize = 0x100;

/// What a record is.
pub mod kind {
    /// Parent to worker: the payload is the function that later calls name by this tag.
    pub const DEFINE: u8 = 1;
    /// Parent to worker: call the function of the tag with the payload's arguments.
    pub const CALL: u8 = 2;
    /// Parent to worker: the payload is function and arguments together.
    pub const APPLY: u8 = 3;
    /// Parent to worker: call the function of the tag once for each item of the payload.
    pub const BATCH: u8 = 5;
    /// Parent to worker: these blocks of the worker's heap are given back (u64 each).
    pub const RELEASE: u8 = 6;
    /// Parent to worker: forget what was made of these (u64 each), if anything was.
    pub const FORGET: u8 = 7;
    /// Parent to worker: as `BATCH`, but each item is claimed before it is begun, and what an item raises is its own affair.
    pub const PIECE: u8 = 8;
    /// Parent to worker: end, there is nothing more to do.
    pub const STOP: u8 = 4;
    /// Worker to parent: set up and looking for calls.
    pub const READY: u8 = 16;
    /// Worker to parent: the call returned this value.
    pub const VALUE: u8 = 17;
    /// Worker to parent: the call raised this exception.
    pub const ERROR: u8 = 18;
    /// Worker to parent: the request could not be read; the payload is the exception.
    pub const UNREADABLE: u8 = 19;
    /// Worker to parent: it ends now, having done as many calls as it was asked to.
    pub const RETIRED: u8 = 20;
    /// Worker to parent: setting it up failed; the payload is the exception.
    pub const UNFIT: u8 = 21;
    /// Worker to parent: these blocks of the parent's heap are given back (u64 each).
    pub const RELEASED: u8 = 22;
    /// In the ring for words: it has printed this on its standard output.
    pub const STDOUT: u8 = 32;
    /// In the ring for words: it has printed this on its standard error.
    pub const STDERR: u8 = 33;
    /// In the ring for words: a log record.
    pub const LOG: u8 = 34;
    /// In the ring for words: a warning.
    pub const WARNING: u8 = 35;
}

/// How a record's payload is to be read.
pub mod flag {
    /// The payload is an offset and a length in the spill region.
    pub const SPILLED: u8 = 1;
    /// The payload is in the language's flat encoding rather than its general one.
    pub const FLAT: u8 = 2;
    /// A request that ends with keyword arguments.
    pub const KEYWORDS: u8 = 4;
    /// A batch that goes on after an item that raised. No batch has [keywords](KEYWORDS).
    pub const GOES_ON: u8 = 4;
    /// A batch whose items are tuples of arguments, not the only argument themselves.
    pub const STARRED: u8 = 8;
    /// A batch that is done to its end, however long it takes.
    pub const WHOLE: u8 = 16;
    /// The answer to a batch: the last item that was done raised.
    pub const RAISED: u8 = 32;
    /// The answer to a batch that [goes on](GOES_ON). It begins with the number of items that raised, as u32, after the moment of one
    /// that has [begun](BEGUN). No answer is [starred](STARRED).
    pub const COUNTED: u8 = 8;
    /// A request whose answer is to say when it was begun. No request is an answer that has [raised](RAISED).
    pub const TIMED: u8 = 32;
    /// An answer that begins with the moment at which the call was begun: nanoseconds of the monotonic clock, as u64. No answer has
    /// [keywords](KEYWORDS).
    pub const BEGUN: u8 = 4;
    /// The payload begins with a list of buffers, see [`parcel`](super::super::parcel).
    pub const BUFFERS: u8 = 64;
    /// The payload of a batch, or of the answer to one: several objects, one after the other.
    pub const LIST: u8 = 128;
}

/// The page of a lane.
#[derive(Debug)]
pub(crate) struct Page {
    mapping: Mapping,
}

impl Page {
    /// Makes one, with the descriptor by which workers open it.
    pub(crate) fn create() -> io::Result<(Self, Segment)> {
        let segment = Segment::create("raddle-page", HEAD)?;
        let mapping = segment.map(0, HEAD)?;
        write_magic(&mapping);
        Ok((Self { mapping }, segment))
    }

    pub(crate) fn open(fd: OwnedFd) -> io::Result<Self> {
        let segment = Segment::from_fd(fd)?;
        if segment.len() < HEAD {
            return Err(foreign());
        }
        let mapping = segment.map(0, HEAD)?;
        check_magic(&mapping)?;
        Ok(Self { mapping })
    }

    /// Where the leader sleeps.
    pub(crate) fn bell(&self) -> &Bell {
        // SAFETY: the layout above: a Bell lies there, zeroed at first, and the mapping lives as long as `self`.
        unsafe { &*self.mapping.as_ptr().add(PAGE_BELL).cast::<Bell>() }
    }

    /// Not zero: an idle worker should wake the keeper.
    pub(crate) fn idle_wanted(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.mapping.as_ptr().add(PAGE_IDLE).cast::<AtomicU32>() }
    }
}

/// The memory of one worker's link, mapped.
#[derive(Debug)]
pub(crate) struct Link {
    segment: Segment,
    head: Mapping,
    requests: Mapping,
    replies: Mapping,
    words: Mapping,
    draft: Mapping,
    request_spill: Mapping,
    reply_spill: Mapping,
    /// The worker's heap, until somebody takes it.
    heap: Option<Mapping>,
}

impl Link {
    /// Makes a fresh link. Takes address space for the spill regions, less of it where that is limited.
    pub(crate) fn create() -> io::Result<Self> {
        let mut spill = SPILL;
        loop {
            let attempt = Segment::create("raddle-link", RINGS + 4 * spill).and_then(Self::map);
            match attempt {
                Ok(link) => {
                    write_magic(&link.head);
                    link.leader_alarm().clear();
                    link.keeper_alarm().clear();
                    link.word_alarm().clear();
                    return Ok(link);
                }
                Err(error) if spill <= SPILL_SOFT => return Err(error),
                Err(_) => spill /= 2,
            }
        }
    }

    pub(crate) fn open(fd: OwnedFd) -> io::Result<Self> {
        let link = Self::map(Segment::from_fd(fd)?)?;
        check_magic(&link.head)?;
        Ok(link)
    }

    fn map(segment: Segment) -> io::Result<Self> {
        let rings = RINGS;
        let spill = segment.len().checked_sub(rings).ok_or_else(foreign)? / 4;
        if spill == 0 || !spill.is_multiple_of(rustix::param::page_size()) {
            return Err(foreign());
        }
        Ok(Self {
            head: segment.map(0, HEAD)?,
            requests: segment.map_mirrored(HEAD, RING)?,
            replies: segment.map_mirrored(HEAD + RING, RING)?,
            words: segment.map_mirrored(WORDS_AT, WORDS)?,
            draft: segment.map(DRAFT_AT, DRAFT)?,
            request_spill: segment.map(rings, spill)?,
            reply_spill: segment.map(rings + spill, spill)?,
            heap: Some(segment.map(rings + 2 * spill, 2 * spill)?),
            segment,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }

    /// Whether the link has at least so many bytes of memory, in all its parts: pages that nobody has written to do not exist.
    pub(crate) fn holds(&self, len: usize) -> bool {
        // What cannot be asked is believed.
        rustix::fs::fstat(&self.segment)
            .map_or(true, |stat| stat.st_blocks.unsigned_abs().saturating_mul(512) >= len as u64)
    }

    /// The sending ends. Once per side and ring: the caller is the parent for requests, the worker for replies.
    pub(crate) fn request_producer(&self) -> Producer {
        // SAFETY: the layout above; `Seat` and `WorkerEnd` keep the link alive as long as the ring's ends, and each
        // makes only its own end, once.
        unsafe { Producer::new(self.lines(REQUEST_LINES), self.requests.as_ptr(), RING) }
    }

    pub(crate) fn reply_producer(&self) -> Producer {
        // SAFETY: as above.
        unsafe { Producer::new(self.lines(REPLY_LINES), self.replies.as_ptr(), RING) }
    }

    pub(crate) fn request_consumer(&self) -> Consumer {
        // SAFETY: as above.
        unsafe { Consumer::new(self.lines(REQUEST_LINES), self.requests.as_ptr(), RING) }
    }

    pub(crate) fn reply_consumer(&self) -> Consumer {
        // SAFETY: as above.
        unsafe { Consumer::new(self.lines(REPLY_LINES), self.replies.as_ptr(), RING) }
    }

    pub(crate) fn word_consumer(&self) -> Consumer {
        // SAFETY: as above; the producer is that of the worker's `OutletLink`.
        unsafe { Consumer::new(self.lines(WORD_LINES), self.words.as_ptr(), WORDS) }
    }

    /// The count of records at which the worker wakes the keeper because of its words.
    pub(crate) fn word_alarm(&self) -> &Alarm {
        // SAFETY: as above, an Alarm.
        unsafe { &*self.at(WORD_ALARM).cast() }
    }

    /// Where threads of the worker wait for room for their words.
    pub(crate) fn word_bell(&self) -> &Bell {
        // SAFETY: as above, a Bell.
        unsafe { &*self.at(WORD_BELL).cast() }
    }

    fn lines(&self, offset: usize) -> *const Lines {
        self.at(offset).cast()
    }

    fn at(&self, offset: usize) -> *const u8 {
        debug_assert!(offset < HEAD, "every named word lies in the head page");
        // SAFETY: inside the head mapping, which is one page long.
        unsafe { self.head.as_ptr().add(offset) }
    }

    /// Where the worker sleeps: for requests, or for room in the reply ring.
    pub(crate) fn worker_bell(&self) -> &Bell {
        // SAFETY: the layout above: a Bell lies there, zeroed at first, and the mapping lives as long as `self`.
        unsafe { &*self.at(WORKER_BELL).cast() }
    }

    /// The count at which the worker rings the page's bell.
    pub(crate) fn leader_alarm(&self) -> &Alarm {
        // SAFETY: as above, an Alarm.
        unsafe { &*self.at(LEADER_ALARM).cast() }
    }

    /// The count at which the worker wakes the keeper.
    pub(crate) fn keeper_alarm(&self) -> &Alarm {
        // SAFETY: as above, an Alarm.
        unsafe { &*self.at(KEEPER_ALARM).cast() }
    }

    /// How many spilled replies the parent has copied out. Written by the parent only.
    pub(crate) fn spills_taken(&self) -> &AtomicU64 {
        // SAFETY: as above, an atomic word.
        unsafe { &*self.at(SPILLS_TAKEN).cast() }
    }

    /// The worker's heap, for the worker. Once per side.
    pub(crate) fn own_heap(&mut self) -> Arc<Heap> {
        Heap::new(self.heap.take().expect("each side takes its end once"), HEAP_KEEP)
    }

    /// The worker's heap, for the parent. Once per side.
    pub(crate) fn heap_view(&mut self) -> Arc<View> {
        View::new(self.heap.take().expect("each side takes its end once"))
    }

    /// When the worker has begun, or was about to begin, the last call with a limit: nanoseconds of the monotonic clock.
    /// Written by the worker only.
    pub(crate) fn started_at(&self) -> &AtomicU64 {
        // SAFETY: as above, an atomic word.
        unsafe { &*self.at(STARTED_AT).cast() }
    }

    /// Since when the worker has been inside a call, by the same clock; 0 while it is not. Written by the worker only, and for
    /// the statistics only.
    pub(crate) fn running_since(&self) -> &AtomicU64 {
        // SAFETY: as above, an atomic word.
        unsafe { &*self.at(RUNNING_SINCE).cast() }
    }

    /// The claim on the items of the piece that the worker runs.
    pub(crate) fn stint(&self) -> &Stint {
        // SAFETY: as above, a Stint.
        unsafe { &*self.at(STINT).cast() }
    }

    /// Forgets the draft of the piece before. By the worker, before the claim is opened for the next piece.
    pub(crate) fn clear_draft(&self) {
        // Ordering: Relaxed. Who sees the claim opened sees this.
        self.drafted().store(0, Relaxed);
    }

    /// Appends the outcome of an item to the draft, which is `written` bytes long, and says how many items it has now and how many of
    /// them raised. False: there is no room.
    pub(crate) fn draft(&self, written: usize, bytes: &[u8], done: u32, failed: u32) -> bool {
        if written + bytes.len() > self.draft.len() {
            return false;
        }
        spill_out(&self.draft, written, &[bytes]);
        let word =
            (written + bytes.len()) as u64 | u64::from(failed) << DRAFT_BITS | u64::from(done) << (DRAFT_BITS + 20);
        // Ordering: Release. Pairs with the Acquire in `read_draft`: whoever sees the number sees the bytes.
        self.drafted().store(word, Release);
        true
    }

    /// What the worker has done of the piece of this number: how many items, how many of them raised, and the bytes of their outcomes.
    /// None: it is not at this piece any more.
    pub(crate) fn read_draft(&self, number: u64) -> Option<(u32, u32, Vec<u8>)> {
        self.stint().during(number, || {
            let word = self.drafted().load(Acquire);
            let (len, failed, done) =
                (word & ((1 << DRAFT_BITS) - 1), word >> DRAFT_BITS & ((1 << 20) - 1), word >> (DRAFT_BITS + 20));
            let len = usize::try_from(len).ok().filter(|&len| len <= self.draft.len())?;
            let mut bytes = Vec::<u8>::with_capacity(len);
            // SAFETY: `len` bytes lie in the mapping (checked) and have room in the vector; any bytes are valid. The worker may have gone
            // on to another piece and write there in this moment: then the copy is thrown away by `during`.
            unsafe {
                std::ptr::copy_nonoverlapping(self.draft.as_ptr(), bytes.as_mut_ptr(), len);
                bytes.set_len(len);
            }
            Some((done as u32, failed as u32, bytes))
        })?
    }

    /// Bytes, failures and items of the draft.
    fn drafted(&self) -> &AtomicU64 {
        // SAFETY: as above, an atomic word.
        unsafe { &*self.at(DRAFTED).cast() }
    }

    pub(crate) fn request_spill(&self) -> &Mapping {
        &self.request_spill
    }

    pub(crate) fn reply_spill(&self) -> &Mapping {
        &self.reply_spill
    }
}

/// The part of a link through which a worker says what is no answer.
#[derive(Debug)]
pub(crate) struct OutletLink {
    head: Mapping,
    words: Mapping,
}

impl OutletLink {
    pub(crate) fn open(segment: &Segment) -> io::Result<Self> {
        if segment.len() < RINGS {
            return Err(foreign());
        }
        let head = segment.map(0, HEAD)?;
        check_magic(&head)?;
        Ok(Self { head, words: segment.map_mirrored(WORDS_AT, WORDS)? })
    }

    /// The writing end. Once per worker.
    pub(crate) fn producer(&self) -> Producer {
        // SAFETY: the layout above; `Outlet` keeps this alive as long as the ring's end, and makes it once.
        unsafe { Producer::new(self.head.as_ptr().add(WORD_LINES).cast(), self.words.as_ptr(), WORDS) }
    }

    pub(crate) fn alarm(&self) -> &Alarm {
        // SAFETY: the layout above: an Alarm lies there, and the mapping lives as long as `self`.
        unsafe { &*self.head.as_ptr().add(WORD_ALARM).cast() }
    }

    pub(crate) fn bell(&self) -> &Bell {
        // SAFETY: as above, a Bell.
        unsafe { &*self.head.as_ptr().add(WORD_BELL).cast() }
    }
}

/// Gives the pages of an empty spill region back to the system, except for the part that is used all the time.
pub(crate) fn give_back(region: &Mapping) {
    // It can fail only where the system cannot punch holes; then the pages stay.
    let _ = region.punch(SPILL_SOFT, region.len().saturating_sub(SPILL_SOFT));
}

/// Copies parts one after the other to `offset` of a spill region that the caller has to itself.
pub(crate) fn spill_out(region: &Mapping, offset: usize, parts: &[&[u8]]) {
    let mut at = offset;
    for part in parts {
        assert!(at + part.len() <= region.len(), "the arena hands out offsets inside the region");
        // SAFETY: inside the mapping (checked), and the arena gave this range to the caller alone.
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), region.as_ptr().add(at), part.len()) };
        at += part.len();
    }
}

/// The bytes that a spilled record points to; none if it points outside.
///
/// # Safety
///
/// The other side does not write to the range before it is told that the bytes were taken.
pub(crate) unsafe fn spill_in<'a>(region: &'a Mapping, pointer: &[u8]) -> Option<&'a [u8]> {
    let offset = usize::try_from(u64::from_ne_bytes(pointer.get(..8)?.try_into().ok()?)).ok()?;
    let len = usize::try_from(u64::from_ne_bytes(pointer.get(8..16)?.try_into().ok()?)).ok()?;
    if offset.checked_add(len)? > region.len() {
        return None;
    }
    // SAFETY: inside the mapping (checked); the caller promises that nobody writes there.
    Some(unsafe { std::slice::from_raw_parts(region.as_ptr().add(offset), len) })
}

/// The sixteen bytes that stand for a spilled payload.
pub(crate) fn spill_pointer(offset: usize, len: usize) -> [u8; 16] {
    let mut pointer = [0; 16];
    pointer[..8].copy_from_slice(&(offset as u64).to_ne_bytes());
    pointer[8..].copy_from_slice(&(len as u64).to_ne_bytes());
    pointer
}

fn write_magic(head: &Mapping) {
    // SAFETY: the first eight bytes of a page that no other process has been given yet.
    unsafe { head.as_ptr().cast::<[u32; 2]>().write([MAGIC, VERSION]) };
}

fn check_magic(head: &Mapping) -> io::Result<()> {
    // SAFETY: the first eight bytes of a page; the parent wrote them before it gave the descriptor away.
    let found = unsafe { head.as_ptr().cast::<[u32; 2]>().read() };
    if found == [MAGIC, VERSION] { Ok(()) } else { Err(foreign()) }
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the descriptor is not the shared memory of this version of raddle")
}
