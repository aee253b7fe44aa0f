//! A process's end of a channel: real memory, and what it owns there.
//!
//! # Rules
//!
//! 1. What the maker has said of the channel's shape is read once, checked against the length of the segment, and never read again: so no
//!    offset that is computed from it leads out of the memory, whatever anyone writes there later.
//! 2. The bytes of a block belong to whoever its word names. They are handed out as a pointer only.
//! 3. A forked child has the memory, but is no party: what it inherited it drops without a word, and joins on its own.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use raddle_core::park::epoch;
use raddle_core::prim::atomic::AtomicU64;
use raddle_core::prim::atomic::Ordering::{Relaxed, SeqCst};

use super::table::{BlockId, Garbled, Label, Table, Transit};
use super::words::{Block, Ends, INLINE, Owner, PARTIES, Party, Side, Slot, TEXT, TRANSITS, Use};
use crate::{Gong, Mapping, Segment, Shared};

// SAFETY: `repr(C)`, atomic integers and gongs; any value is sound (words.rs), and padding is never looked at.
unsafe impl Shared for Ends {}
// SAFETY: as above.
unsafe impl Shared for Slot {}
// SAFETY: as above.
unsafe impl Shared for Block {}
// SAFETY: as above.
unsafe impl Shared for Party {}

/// Says that this is a channel, and which version of this file has made it.
const MAGIC: u64 = 0x7261_6464_6c65_0001;
/// The most messages that a channel may be made for.
pub const MOST: usize = 1 << 20;
/// The longest message, if nothing else is said.
const LONGEST: usize = 1 << 30;
/// Blocks that receivers may use where they lie at a time; what comes then is to be copied.
const LEASES: usize = 1024;
/// Blocks for messages in the channel, at most; and for those that senders are filling.
const SENT: usize = 1024;
const FILLING: usize = 64;

/// What a channel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    capacity: usize,
    blocks: usize,
    block_size: usize,
    limit: Option<usize>,
}

/// Where the parts lie.
#[derive(Clone, Copy, Debug)]
struct Places {
    parties: usize,
    transits: usize,
    slots: usize,
    blocks: usize,
    /// Where the books end and the bytes of the blocks begin.
    bytes: usize,
    end: usize,
}

const PAGE: usize = 4096;

impl Shape {
    fn places(self) -> Option<Places> {
        let sound = (1..=MOST).contains(&self.capacity)
            && (1..=SENT + FILLING + LEASES).contains(&self.blocks)
            && self.block_size > 0
            && self.block_size.is_multiple_of(rustix::param::page_size().max(PAGE));
        if !sound {
            return None;
        }
        let parties = PAGE;
        let transits = parties + PARTIES.next_multiple_of(2) * size_of::<Party>();
        let slots = transits + TRANSITS * size_of::<AtomicU64>();
        let blocks = slots + self.capacity * size_of::<Slot>();
        let bytes = (blocks + self.blocks * size_of::<Block>()).next_multiple_of(rustix::param::page_size().max(PAGE));
        let end = self.blocks.checked_mul(self.block_size)?.checked_add(bytes)?;
        i64::try_from(end).is_ok().then_some(Places { parties, transits, slots, blocks, bytes, end })
    }
}

/// The memory of a channel, mapped.
struct Memory {
    segment: Segment,
    parts: Parts,
    books: Mapping,
    bytes: Mapping,
    shape: Shape,
}

/// Where the parts of the books are in this process: looked up once, for all of the books' life.
struct Parts {
    ends: NonNull<Ends>,
    slots: NonNull<[Slot]>,
    blocks: NonNull<[Block]>,
    parties: NonNull<[Party]>,
    transits: NonNull<[AtomicU64]>,
}

// SAFETY: addresses of atomic words that every thread sees alike, in a mapping that lives as long (see `Memory::table`).
unsafe impl Send for Parts {}
// SAFETY: as above.
unsafe impl Sync for Parts {}

impl Memory {
    fn map(segment: Segment, shape: Shape) -> io::Result<Self> {
        let places = shape.places().filter(|places| places.end <= segment.len()).ok_or_else(foreign)?;
        let books = segment.map(0, places.bytes)?;
        let bytes = segment.map(places.bytes, places.end - places.bytes)?;
        let parts = Parts {
            ends: NonNull::from(books.get(0)),
            slots: NonNull::from(books.get_all(places.slots, shape.capacity)),
            blocks: NonNull::from(books.get_all(places.blocks, shape.blocks)),
            parties: NonNull::from(books.get_all(places.parties, PARTIES)),
            transits: NonNull::from(books.get_all(places.transits, TRANSITS)),
        };
        Ok(Self { segment, parts, books, bytes, shape })
    }

    #[inline]
    fn table(&self) -> Table<'_> {
        let Parts { ends, slots, blocks, parties, transits } = &self.parts;
        let _ = &self.books;
        // SAFETY: each came of a reference into `books`, which stays mapped at its place until `self` is dropped.
        let (ends, slots, blocks) = unsafe { (ends.as_ref(), slots.as_ref(), blocks.as_ref()) };
        // SAFETY: as above.
        let (parties, transits) = unsafe { (parties.as_ref(), transits.as_ref()) };
        Table { ends, slots, blocks, parties, transits }
    }
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the segment is no channel, or one of another version")
}

/// A channel, as one process has it. Gone when dropped: what it was doing is undone.
///
/// # Examples
///
/// ```
/// use raddle_shm::channel::{Member, Received, Side};
///
/// let member = std::sync::Arc::new(Member::create("example", 8, None, std::process::id(), 0)?);
/// member.add(Side::Send);
/// member.add(Side::Receive);
/// assert!(member.send(7, b"hello").unwrap());
/// let Some(Received { kind: 7, message }) = member.receive().unwrap() else { panic!() };
/// assert_eq!(message.bytes(), b"hello");
/// member.remove(Side::Send);
/// assert!(member.receive().unwrap().is_none() && member.is_deserted(Side::Send));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Member {
    memory: Arc<Memory>,
    me: Owner,
    /// The number of forks at which it joined (rule 3).
    epoch: u32,
}

/// A message that was taken out of a channel.
#[derive(Debug)]
pub struct Received {
    /// What its sender has said that it is.
    pub kind: u8,
    /// Its bytes.
    pub message: Message,
}

/// The bytes of a message.
pub enum Message {
    /// Those of a short one.
    Short {
        /// In the order of memory.
        words: [u64; TEXT],
        /// How many of its bytes count.
        len: usize,
    },
    /// Those of a long one lie where its sender has written them.
    Long(Lease),
}

impl Message {
    /// The bytes.
    ///
    /// Those of a long message lie in shared memory: its sender does not write to them any more.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { words, len } => {
                // SAFETY: plain numbers, `len` of whose bytes are asked for, and there are at least as many.
                unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), (*len).min(INLINE)) }
            }
            // SAFETY: rule 2: the block is ours, and its sender has written there before it sent the message. One that breaks the
            // rules on purpose can make us see bytes that change (ring.md).
            Self::Long(lease) => unsafe { std::slice::from_raw_parts(lease.as_ptr(), lease.len()) },
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room for it now: for one more message, or for so many bytes more.
    NoSpace,
    /// It is longer than any that this channel takes.
    TooLong,
}

impl Member {
    /// Makes a channel for `capacity` messages, and of those that do not lie in their slots at most `limit` bytes together. The name is
    /// for people who look into `/proc/PID/maps`.
    ///
    /// `pid` and `start` are this process: its number, and when it was started, or 0 if that is not known.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a capacity that is 0 or more than [`MOST`]; else what the system says.
    pub fn create(name: &str, capacity: usize, limit: Option<usize>, pid: u32, start: u64) -> io::Result<Member> {
        let page = rustix::param::page_size().max(PAGE);
        let mut block_size = limit.unwrap_or(LONGEST).clamp(1, LONGEST << 4).next_multiple_of(page);
        let memory = loop {
            let shape = Shape { capacity, blocks: capacity.min(SENT) + FILLING + LEASES, block_size, limit };
            let places = shape.places().ok_or_else(|| {
                let message = format!("a channel holds 1 to {MOST} messages, not {capacity}");
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
            // Where address space is limited, the longest message is shorter.
            match Segment::create(name, places.end).and_then(|segment| Memory::map(segment, shape)) {
                Ok(memory) => break memory,
                Err(error) if block_size <= 1 << 20 => return Err(error),
                Err(_) => block_size = (block_size / 4).next_multiple_of(page),
            }
        };
        let Shape { capacity, blocks, block_size, limit } = memory.shape;
        let said = &memory.table().ends.news.0.shape;
        let limit = limit.map_or(0, |limit| (limit as u64).max(1));
        for (word, said) in said.iter().zip([MAGIC, capacity as u64, blocks as u64, block_size as u64, limit]) {
            word.store(said, Relaxed);
        }
        Self::join(Arc::new(memory), pid, start)
    }

    /// Opens a channel that another process has made.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the segment is none; `QuotaExceeded` if too many processes have it; else what the system says.
    pub fn open(fd: OwnedFd, pid: u32, start: u64) -> io::Result<Member> {
        let segment = Segment::from_fd(fd)?;
        if segment.len() < PAGE {
            return Err(foreign());
        }
        let first = segment.map(0, rustix::param::page_size())?;
        let said = first.get::<Ends>(0).news.0.shape.each_ref().map(|word| word.load(Relaxed));
        let [MAGIC, capacity, blocks, block_size, limit] = said else { return Err(foreign()) };
        let sized = |word: u64| usize::try_from(word).map_err(|_| foreign());
        let shape = Shape {
            capacity: sized(capacity)?,
            blocks: sized(blocks)?,
            block_size: sized(block_size)?,
            limit: Some(sized(limit)?).filter(|limit| *limit > 0),
        };
        Self::join(Arc::new(Memory::map(segment, shape)?), pid, start)
    }

    /// The same channel, for a forked child that is to be a party on its own.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded` if too many processes have it.
    pub fn rejoin(&self, pid: u32, start: u64) -> io::Result<Member> {
        Self::join(self.memory.clone(), pid, start)
    }

    fn join(memory: Arc<Memory>, pid: u32, start: u64) -> io::Result<Member> {
        let me = memory.table().join(pid, start).ok_or_else(|| {
            let message = format!("a channel is shared by {PARTIES} processes at most");
            io::Error::new(io::ErrorKind::QuotaExceeded, message)
        })?;
        Ok(Self { memory, me, epoch: epoch() })
    }

    /// Whether this process is the one that has joined, and not a fork of it.
    #[inline]
    pub fn is_mine(&self) -> bool {
        self.epoch == epoch()
    }

    /// Sends a short message. `false`: the channel is full.
    ///
    /// # Errors
    ///
    /// [`Garbled`] if the memory was overwritten.
    ///
    /// # Panics
    ///
    /// If it is longer than [`INLINE`].
    #[inline]
    pub fn send(&self, kind: u8, bytes: &[u8]) -> Result<bool, Garbled> {
        assert!(bytes.len() <= INLINE, "{} bytes do not fit into a slot", bytes.len());
        let mut text = [0_u64; TEXT];
        for (word, part) in text.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..part.len()].copy_from_slice(part);
            *word = u64::from_ne_bytes(whole);
        }
        let label = Label { kind, len: bytes.len(), is_in_block: false };
        self.memory.table().send(self.me, label, &text[..bytes.len().div_ceil(8)])
    }

    /// Memory for a long message.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn draft(self: &Arc<Self>, len: usize) -> Result<Draft, Refusal> {
        let Shape { block_size, limit, .. } = self.memory.shape;
        if len > block_size || limit.is_some_and(|limit| len > limit) {
            return Err(Refusal::TooLong);
        }
        let table = self.memory.table();
        let block = table.claim_block(self.me, len, limit).ok_or(Refusal::NoSpace)?;
        table.blocks[block.index].touched.fetch_max(len as u64, Relaxed);
        Ok(Draft(Lease { member: self.clone(), block, len, usage: Use::Filled(self.me) }))
    }

    /// Sends a long message. The draft comes back: the channel is full.
    ///
    /// # Errors
    ///
    /// [`Garbled`] if the memory was overwritten.
    pub fn send_draft(&self, kind: u8, draft: Draft) -> Result<Option<Draft>, Garbled> {
        let label = Label { kind, len: draft.0.len, is_in_block: true };
        if !self.memory.table().send(self.me, label, &[draft.0.block.encode()])? {
            return Ok(Some(draft));
        }
        // It belongs to the message from now on; what is left to do is to let go of the member.
        draft.0.forget();
        Ok(None)
    }

    /// Takes the first message, if there is one.
    ///
    /// # Errors
    ///
    /// [`Garbled`] if the memory was overwritten.
    #[inline]
    pub fn receive(self: &Arc<Self>) -> Result<Option<Received>, Garbled> {
        let Some(taken) = self.memory.table().take(self.me)? else { return Ok(None) };
        let Label { kind, len, is_in_block } = taken.label;
        let message = if is_in_block {
            let block = BlockId::decode(taken.text[0]);
            let mut lease = Lease { member: self.clone(), block, len: 0, usage: Use::Leased(self.me) };
            if len > self.memory.shape.block_size {
                return Err(Garbled);
            }
            lease.len = len;
            Message::Long(lease)
        } else {
            Message::Short { words: taken.text, len }
        };
        Ok(Some(Received { kind, message }))
    }

    /// Whether a long message may be used where it lies; else it is to be copied soon, because others wait for blocks.
    pub fn may_keep(&self) -> bool {
        self.memory.table().leased() <= LEASES
    }

    /// Counts one more end of this process.
    pub fn add(&self, side: Side) -> bool {
        self.memory.table().add(self.me, side)
    }

    /// Counts one less.
    pub fn remove(&self, side: Side) {
        self.memory.table().remove(self.me, side);
    }

    /// Whether a side has no end any more in any process. Once it is so, it stays so.
    pub fn is_deserted(&self, side: Side) -> bool {
        self.memory.table().is_deserted(side)
    }

    /// Whether it is known to be so.
    #[inline]
    pub fn is_closed(&self, side: Side) -> bool {
        self.memory.table().is_closed(side)
    }

    /// Ends of a side, in all processes.
    pub fn count(&self, side: Side) -> u64 {
        self.memory.table().count(side)
    }

    /// Counts an end that is sent to another process, until it has [arrived](Self::arrived). None: too many are on their way.
    pub fn dispatch(&self, side: Side) -> Option<Transit> {
        self.memory.table().dispatch(self.me, side)
    }

    /// It has arrived, and is counted where it is now.
    pub fn arrived(&self, transit: Transit) -> bool {
        self.memory.table().arrived(transit)
    }

    /// Whether it has not.
    pub fn is_under_way(&self, transit: Transit) -> bool {
        self.memory.table().is_under_way(transit)
    }

    /// Whether ends that this process has sent are on their way.
    pub fn has_under_way(&self) -> bool {
        self.memory.table().has_under_way(self.me)
    }

    /// The other processes that have the channel: a name for each, its number, and when it was started, if that is known.
    pub fn others(&self) -> Vec<(Other, u32, Option<u64>)> {
        let members = self.memory.table().members().into_iter();
        members.filter(|(owner, ..)| *owner != self.me).map(|(owner, pid, start)| (Other(owner), pid, start)).collect()
    }

    /// Grows whenever there are other processes than before, or an end more.
    pub fn news(&self) -> u64 {
        let ends = self.memory.table().ends;
        ends.news.0.epoch.load(SeqCst)
    }

    /// Another process has ended: what it was doing is undone, and everybody looks again.
    pub fn bury(&self, other: Other) {
        self.memory.table().bury(other.0);
    }

    /// Where a side sleeps: receivers until there is a message, senders until a slot is free.
    pub fn gong(&self, side: Side) -> &Gong {
        let ends = self.memory.table().ends;
        match side {
            Side::Send => &ends.room.0,
            Side::Receive => &ends.items.0,
        }
    }

    /// Where senders sleep that need room for a long message.
    pub fn space(&self) -> &Gong {
        let ends = self.memory.table().ends;
        &ends.space.0
    }

    /// Whether a side had better try: there is a message, or a free slot.
    pub fn is_ready(&self, side: Side) -> bool {
        match side {
            Side::Send => self.memory.table().has_room(),
            Side::Receive => self.memory.table().has_items(),
        }
    }

    /// Has everybody who sleeps here, in any process, look again.
    pub fn disturb(&self) {
        self.gong(Side::Send).ring_all();
        self.gong(Side::Receive).ring_all();
        self.space().ring_all();
    }

    /// How many messages it may hold.
    pub fn capacity(&self) -> usize {
        self.memory.shape.capacity
    }

    /// How many bytes of long messages it may hold, if that is limited.
    pub fn limit(&self) -> Option<usize> {
        self.memory.shape.limit
    }

    /// The longest message.
    pub fn longest(&self) -> usize {
        self.memory.shape.limit.map_or(self.memory.shape.block_size, |limit| limit.min(self.memory.shape.block_size))
    }

    /// How many messages it holds, about.
    pub fn len(&self) -> usize {
        let (sent, received) = self.totals();
        usize::try_from(sent.wrapping_sub(received)).map_or(0, |held| held.min(self.capacity()))
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages were sent, and received.
    pub fn totals(&self) -> (u64, u64) {
        self.memory.table().totals()
    }

    /// Bytes of long messages that it holds.
    pub fn bytes(&self) -> u64 {
        self.memory.table().bytes()
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.segment.as_fd()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.is_mine() {
            self.memory.table().bury(self.me);
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("shape", &self.memory.shape).field("me", &self.me).finish_non_exhaustive()
    }
}

/// Another process that has the channel, in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Other(Owner);

/// The right to use a block of a channel. Ends when it is dropped.
pub struct Lease {
    member: Arc<Member>,
    block: BlockId,
    len: usize,
    usage: Use,
}

impl Lease {
    /// The first byte. Valid for reads and writes of [`len`](Self::len) bytes while the lease lives.
    pub fn as_ptr(&self) -> *mut u8 {
        let memory = &self.member.memory;
        debug_assert!(
            self.block.index < memory.shape.blocks && self.len <= memory.shape.block_size,
            "checked when it was made"
        );
        // SAFETY: inside the mapping: rule 1, and there is such a block.
        unsafe { memory.bytes.as_ptr().add(self.block.index * memory.shape.block_size) }
    }

    /// How many bytes it is for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is for no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ends without giving the block back.
    fn forget(self) {
        let mut this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used again and not dropped; the only field that owns something is dropped here, once.
        unsafe { std::ptr::drop_in_place(&raw mut this.member) };
    }

    /// Pages that stay with a block when it is free: the first blocks are used most.
    fn kept(&self) -> usize {
        match self.block.index {
            0..4 => 64 << 20,
            4..64 => 1 << 20,
            _ => 64 << 10,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.member.is_mine() {
            return; // rule 3
        }
        let (memory, kept) = (&self.member.memory, self.kept());
        let table = memory.table();
        let touched = &table.blocks[self.block.index].touched;
        let end = usize::try_from(touched.load(Relaxed)).map_or(0, |end| end.min(memory.shape.block_size));
        if end > kept {
            let from = self.block.index * memory.shape.block_size;
            // Before the block is free: nobody else may have it yet. It can fail only where the system cannot punch holes; then the
            // pages stay.
            let page = rustix::param::page_size();
            let _ = memory
                .bytes
                .punch(from + kept, (end - kept).next_multiple_of(page).min(memory.shape.block_size - kept));
            touched.store(kept as u64, Relaxed);
        }
        table.free_block(self.block, self.usage);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("block", &self.block).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Memory for a long message that was not sent yet.
#[derive(Debug)]
pub struct Draft(Lease);

impl Draft {
    /// The first byte. Valid for reads and writes of [`len`](Self::len) bytes while the draft lives, and nobody else's.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// How many bytes it is for.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether it is for no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes bytes from the front on.
    ///
    /// # Panics
    ///
    /// If there are more than fit behind `at`.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len() && bytes.len() <= self.len() - at, "a draft of {} bytes", self.len());
        // SAFETY: inside the block, checked above; the block is ours alone, and nothing that can be borrowed lies in it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_ptr().add(at), bytes.len()) };
    }
}
