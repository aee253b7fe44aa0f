//! The worker's end of the lane.
//!
//! A worker makes one [`WorkerEnd`] from the descriptors it inherited and then repeats: [`look`](WorkerEnd::look) for a
//! request; [`claim`](WorkerEnd::claim) it (its parent may have taken it back a moment ago);
//! [`done_reading`](WorkerEnd::done_reading) when the bytes are not needed any more; do it;
//! [`reply`](WorkerEnd::reply). If there is nothing to do it [`sleep`](WorkerEnd::sleep)s. All of it belongs to one thread.
//!
//! # Fork
//!
//! A process that user code forks off inherits the mappings, and must not use them: it would be a second writer. The
//! language above ends such a process when it comes back from the user's function.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use raddle_core::park::Patience;
use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use raddle_shm::futex::Wait;
use raddle_shm::heap::{Heap, Lease, View};
use raddle_shm::ring::{Consumer, Header, Producer};
use raddle_shm::{Arena, Segment};
use rustix::process::WaitIdOptions;

use crate::lane::clock_ns;
use crate::lane::link::{
    INLINE, Link, Page, RETURNS, SPILL_SOFT, flag, give_back, kind, spill_in, spill_out, spill_pointer,
};
use crate::lane::parcel::{self, Buffer};
use crate::signal::{die_with_parent, unblock_signals};
use crate::watch::ring;
use crate::{Ending, kernel};

/// What a look at the request ring shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A request, still to be claimed.
    Request {
        /// One of [`kind`]'s requests.
        kind: u8,
        /// How to read the payload, see [`flag`].
        flags: u8,
        /// The number of the function.
        tag: u32,
    },
    /// Nothing to do.
    Empty,
    /// The parent's half of the memory makes no sense.
    Corrupt,
}

/// The reply ring, or the region for large replies, has no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

/// What a worker answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// One of [`kind`]'s answers.
    pub kind: u8,
    /// How to read the payload, see [`flag`].
    pub flags: u8,
    /// Nanoseconds that the call ran.
    pub nanos: u64,
    /// When it was begun, for one that is [timed](flag::TIMED).
    pub begun: Option<u64>,
    /// How many items of a batch were done; 1 for a call of its own.
    pub done: u32,
    /// How many of them raised, for a batch that [goes on](flag::GOES_ON) after that.
    pub failed: Option<u32>,
    /// The payload, in pieces.
    pub parts: &'a [&'a [u8]],
}

/// When the worker went into a call.
#[derive(Debug)]
#[must_use = "a call that is not left runs for ever, in the statistics"]
pub struct Entered(u64);

impl Entered {
    /// The moment, in nanoseconds of the monotonic clock.
    pub fn moment(&self) -> u64 {
        self.0
    }
}

/// A worker's end of its link.
#[derive(Debug)]
pub struct WorkerEnd {
    requests: Consumer,
    replies: Producer,
    arena: Arena,
    /// Offsets of large replies that the parent may not have taken yet, oldest first.
    spilled: std::collections::VecDeque<usize>,
    spills_freed: u64,
    /// Ordinal of the request looked at last.
    current: u64,
    /// Bytes in the draft of the piece that runs. None: there was no room for all.
    drafted: Option<usize>,
    /// Requests done with.
    count: u64,
    /// How long to look for a request before sleeping.
    patience: Patience,
    keeper: OwnedFd,
    page: Page,
    heap: Arc<Heap>,
    parent_heap: Arc<View>,
    link: Link,
}

/// Makes this process end when `parent` does, and lets every signal through to this thread: for a zygote, before it does anything
/// else. A worker does the same with its zygote as the parent.
///
/// # Errors
///
/// When the kernel refuses it.
pub fn follow(parent: u32) -> io::Result<()> {
    unblock_signals();
    die_with_parent(parent)
}

/// How a child of this process has ended and how many bytes it had in memory at most; it is not collected. None: it runs.
///
/// # Errors
///
/// When it is not a child of this process.
pub fn look_at(child: BorrowedFd<'_>) -> io::Result<Option<(Ending, u64)>> {
    Ok(kernel::wait(child, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)?)
}

impl WorkerEnd {
    /// Opens the worker's end, makes this process end when `parent` does, and lets every signal through to this thread.
    ///
    /// # Errors
    ///
    /// When a descriptor is not what it should be, or memory cannot be mapped.
    pub fn open(link: OwnedFd, page: OwnedFd, keeper: OwnedFd, heap: OwnedFd, parent: u32) -> io::Result<Self> {
        follow(parent)?;
        let mut link = Link::open(link)?;
        let parent_heap = Segment::from_fd(heap)?;
        Ok(Self {
            requests: link.request_consumer(),
            replies: link.reply_producer(),
            arena: Arena::new(SPILL_SOFT, link.reply_spill().len()),
            spilled: std::collections::VecDeque::new(),
            spills_freed: 0,
            current: 0,
            drafted: None,
            count: 0,
            patience: Patience::new(),
            keeper,
            page: Page::open(page)?,
            heap: link.own_heap(),
            parent_heap: View::new(parent_heap.map(0, parent_heap.len())?),
            link,
        })
    }

    /// Looks at the next request.
    pub fn look(&mut self) -> Look {
        self.give_back();
        loop {
            match self.requests.peek() {
                Err(_) => return Look::Corrupt,
                Ok(None) => return Look::Empty,
                Ok(Some(record)) => {
                    let Header { kind, flags, tag, id, .. } = record.header;
                    self.current = id;
                    if kind != kind::RELEASE {
                        return Look::Request { kind, flags: flags & !flag::SPILLED, tag };
                    }
                    let (blocks, _) = record.payload.as_chunks();
                    blocks.iter().for_each(|block| self.heap.given_back(u64::from_ne_bytes(*block)));
                    self.requests.advance();
                    self.finish();
                }
            }
        }
    }

    /// The heap of this worker: what lies in it may be named in answers.
    pub fn heap(&self) -> &Arc<Heap> {
        &self.heap
    }

    /// The heap of the parent.
    pub fn parent_heap(&self) -> &Arc<View> {
        &self.parent_heap
    }

    /// The leases of the buffers that a payload names, empty for inline ones. Once per claimed request: dropping a lease gives
    /// the block back. None: the payload is not what it should be.
    pub fn borrow(parent_heap: &Arc<View>, payload: &[u8]) -> Option<Vec<Option<Arc<Lease>>>> {
        let (buffers, _) = parcel::read(payload)?;
        let lease = |buffer: &Buffer| match *buffer {
            Buffer::Inline(_) => Some(None),
            Buffer::Parent(piece) => parent_heap.receive(piece).map(Arc::new).map(Some),
            Buffer::Shared(piece) => parent_heap.receive_shared(piece).map(Arc::new).map(Some),
            Buffer::Worker(_) => None,
        };
        buffers.iter().map(lease).collect()
    }

    /// Names to the parent what is given back of its heap, if the ring has room. Not between making an answer and sending it: the
    /// answer may name a block whose lease has ended since.
    pub fn give_back(&mut self) {
        while self.parent_heap.has_returns() {
            let returns = self.parent_heap.take_returns(RETURNS);
            let payload: Vec<u8> = returns.iter().flat_map(|block| block.to_ne_bytes()).collect();
            let header = Header { kind: kind::RELEASED, flags: 0, tag: 0, id: self.current, extra: 0 };
            if self.send(header, &[&payload]).is_err() {
                self.parent_heap.keep_returns(returns);
                return;
            }
        }
    }

    /// The bytes of the request looked at last, which must have been claimed. None if they are not where it says.
    pub fn payload(&mut self) -> Option<&[u8]> {
        let Self { requests, link, .. } = self;
        let record = requests.peek().ok()??;
        if record.header.flags & flag::SPILLED == 0 {
            return Some(record.payload);
        }
        // SAFETY: the parent frees the range when the call is answered or revoked; after our claim it cannot be revoked,
        // and it is not answered yet.
        unsafe { spill_in(link.request_spill(), record.payload) }
    }

    /// Makes the request looked at last ours. False if the parent has taken it back; it is passed over then.
    pub fn claim(&mut self) -> bool {
        if let Ok(Some(record)) = self.requests.peek()
            && record.header.extra != 0
        {
            // Ordering: Relaxed. The claim that follows publishes it: whoever sees the record started sees this time, or a
            // later one.
            self.link.started_at().store(clock_ns(), Relaxed);
        }
        let ours = self.requests.claim();
        if !ours {
            self.requests.advance();
            self.finish();
        }
        ours
    }

    /// Frees the room of the request looked at last. A large payload's bytes stay until the answer.
    pub fn done_reading(&mut self) {
        self.requests.advance();
    }

    /// The user's function is about to be called.
    pub fn enter_call(&mut self) -> Entered {
        let now = clock_ns();
        // Ordering: Relaxed, here and in `leave_call`: it is read for the statistics alone.
        self.link.running_since().store(now, Relaxed);
        Entered(now)
    }

    /// The user's function has come back, in this process and not in a fork of it. Returns the nanoseconds that it took. To be
    /// called before the answer, which counts them, is sent.
    pub fn leave_call(&mut self, entered: Entered) -> u64 {
        self.link.running_since().store(0, Relaxed);
        clock_ns().saturating_sub(entered.0)
    }

    /// The request looked at last is a piece of so many items, of which the worker does one after the other.
    ///
    /// # Panics
    ///
    /// If they are more than [`Stint::MOST`](raddle_shm::Stint::MOST).
    pub fn open_piece(&mut self, items: u32) {
        self.link.clear_draft();
        self.drafted = Some(0);
        self.link.stint().open(self.current, items);
    }

    /// Claims the next item of the piece. False: there is none left, or the parent has taken the others away.
    #[inline]
    pub fn begin_item(&mut self) -> bool {
        self.link.stint().begin()
    }

    /// An item of the piece has been done: these bytes come to the end of what will be the answer, which has so many items now, and so
    /// many that raised. If the parent wants them before the answer, it finds them.
    #[inline]
    pub fn item_done(&mut self, bytes: &[u8], done: u32, failed: u32) {
        let written = self.drafted.filter(|&written| self.link.draft(written, bytes, done, failed));
        self.drafted = written.map(|written| written + bytes.len());
    }

    /// No more items of the piece are begun. To be called before it is answered.
    pub fn close_piece(&mut self) {
        self.link.stint().close();
    }

    /// Counts the request looked at last as done, without an answer.
    pub fn finish(&mut self) {
        self.count = self.current.wrapping_add(1); // a parent that writes garbage counts as it likes
        self.ring_alarms();
    }

    /// Answers the request looked at last, and counts it as done. Without room nothing has happened.
    ///
    /// # Errors
    ///
    /// When there is no room now: [`sleep_for_room`](Self::sleep_for_room), then try again.
    pub fn reply(&mut self, answer: &Answer<'_>) -> Result<(), Crowded> {
        let &Answer { kind, flags, nanos, begun, done, failed, parts } = answer;
        let header = Header { kind, flags, tag: done, id: self.current, extra: nanos };
        if begun.is_none() && failed.is_none() {
            self.send(header, parts)?;
        } else {
            let more = if begun.is_some() { flag::BEGUN } else { 0 } | if failed.is_some() { flag::COUNTED } else { 0 };
            let (begun, failed) = (begun.map(u64::to_ne_bytes), failed.map(u32::to_ne_bytes));
            let front = [begun.as_ref().map(|bytes| &bytes[..]), failed.as_ref().map(|bytes| &bytes[..])];
            let parts: Vec<&[u8]> = front.into_iter().flatten().chain(parts.iter().copied()).collect();
            self.send(Header { flags: flags | more, ..header }, &parts)?;
        }
        self.finish();
        Ok(())
    }

    /// Says something that is no answer.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    pub fn say(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), Crowded> {
        self.send(Header { kind, flags: 0, tag: 0, id: self.current, extra: 0 }, parts)?;
        // Rare, and always news for the keeper.
        self.page.bell().ring();
        ring(self.keeper.as_fd());
        Ok(())
    }

    fn send(&mut self, header: Header, parts: &[&[u8]]) -> Result<(), Crowded> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len <= INLINE {
            self.replies.push(header, parts).map_err(|_| Crowded)?;
            return Ok(());
        }
        self.free_taken();
        let offset = self.arena.alloc(len).ok_or(Crowded)?;
        spill_out(self.link.reply_spill(), offset, parts);
        let header = Header { flags: header.flags | flag::SPILLED, ..header };
        if self.replies.push(header, &[&spill_pointer(offset, len)]).is_err() {
            self.arena.free(offset);
            return Err(Crowded);
        }
        self.spilled.push_back(offset);
        Ok(())
    }

    /// Makes room of large replies that the parent has copied out.
    fn free_taken(&mut self) {
        // Ordering: Acquire. Pairs with the Release in `Seat::receive`: the parent's copy is complete.
        let taken = self.link.spills_taken().load(Acquire);
        while self.spills_freed < taken {
            let Some(offset) = self.spilled.pop_front() else { break };
            self.arena.free(offset);
            self.spills_freed += 1;
        }
        if self.arena.outstanding() == 0 && self.arena.high_water() > SPILL_SOFT {
            give_back(self.link.reply_spill());
            self.arena.reset_high_water();
        }
    }

    /// Whether a payload of this size can ever be answered.
    pub fn can_reply(&self, len: usize) -> bool {
        len <= self.link.reply_spill().len() - size_of::<u64>() - size_of::<u32>() // which it may begin with
    }

    /// Rule 5 of the lane: the reply was published above; now the alarms.
    fn ring_alarms(&mut self) {
        if self.link.leader_alarm().due(self.count) {
            self.page.bell().ring();
        }
        if self.link.keeper_alarm().due(self.count) {
            ring(self.keeper.as_fd());
        }
    }

    /// Sleeps until there may be a request.
    pub fn sleep(&mut self) -> Wait {
        self.free_taken(); // a huge answer's pages, if the parent has copied it out
        let ticket = self.link.worker_bell().prepare();
        if !self.requests.is_empty() {
            self.link.worker_bell().cancel(ticket);
            return Wait::Changed;
        }
        // Ordering: SeqCst, see `want_idle` in dispatch. The swap makes one worker report, which is enough.
        if self.page.idle_wanted().load(SeqCst) != 0 && self.page.idle_wanted().swap(0, SeqCst) != 0 {
            ring(self.keeper.as_fd());
        }
        self.link.worker_bell().sleep_patiently(ticket, None, &self.patience)
    }

    /// Sleeps until there may be room for a reply.
    pub fn sleep_for_room(&mut self, len: usize) -> Wait {
        // The parent must look at the ring, whatever it waits for.
        self.page.bell().ring();
        ring(self.keeper.as_fd());
        let ticket = self.link.worker_bell().prepare();
        self.free_taken();
        // Enough for the longest record, and a large reply takes a short one. A large reply waits until there is no other: the
        // parent rings for each one that it takes.
        let in_ring = self.replies.capacity() - self.replies.used() > 2 * INLINE;
        let in_region = len <= INLINE || self.arena.outstanding() == 0;
        if in_ring && in_region {
            self.link.worker_bell().cancel(ticket);
            return Wait::Changed;
        }
        self.link.worker_bell().sleep(ticket, None)
    }

    /// Tells the parent that this worker ends because it has done as many calls as it was to do.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    pub fn retire(&mut self) -> Result<(), Crowded> {
        self.say(kind::RETIRED, &[])
    }
}
