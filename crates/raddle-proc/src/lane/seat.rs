//! One worker, seen from the parent: its rings, and the records that it has not answered yet.
//!
//! Every record that goes into the request ring has an entry (a *flight*) in `flights`, in the same order, so that the
//! ordinal of a record is its index plus `first`. A flight without a ticket is one that nobody waits for: a definition,
//! the order to stop, or a call that was revoked.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raddle_core::prim::atomic::AtomicU64;
use raddle_core::prim::atomic::Ordering::{Relaxed, Release, SeqCst};
use raddle_core::sched::Rank;
use raddle_shm::Arena;
use raddle_shm::heap::{Heap, Lease, View};
use raddle_shm::ring::{Consumer, Header, Producer, Slot};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;

use super::Payload;
use super::clock_ns;
use super::link::{INLINE, Link, RETURNS, SPILL_SOFT, flag, give_back, kind, spill_in, spill_out, spill_pointer};
use super::parcel::{self, Buffer};
use super::tally::{Tally, WorkerCounts, WorkerState};
use super::ticket::{Cause, Outgoing, Reply, Spot, Ticket};
use super::words::{Hearing, Words};
use crate::Process;

/// How many unanswered records a seat may hold: enough that the worker never waits for the parent, few enough that a
/// look through them is short.
const DEPTH: usize = 4096;

/// After this time at the front a call is a long one, whatever was foretold: more than thirty times what the lane lets a call
/// wait behind another. It is also how long the keeper's timer runs.
pub(crate) const LATE: Duration = Duration::from_millis(1);

/// A piece that takes so many times what was foretold of one of its items, and [`LATE`], is not what was foretold.
const OFF: u64 = 8;

/// A worker whose call has run for too long is asked to end; after this it is ended by force.
const GRACE: Duration = Duration::from_secs(1);

/// So many bytes of a worker's last words are kept, at most.
const WORDS: usize = 16 << 10;

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its memory exists, its process may.
    Starting,
    /// It has said that it is ready.
    Live,
    /// It has been told to end, or has said that it will. It gets no more calls.
    Leaving,
}

pub(crate) struct Flight<H> {
    pub(crate) ticket: Option<H>,
    slot: Slot,
    /// The record as it was sent. The worker can write to the ring, so what lies there is not asked what it is.
    header: Header,
    len: usize,
    spilled: Option<usize>,
    /// The bytes of a call that may run again.
    copy: Option<Box<(Header, Vec<u8>)>>,
    /// Of a piece, what was taken in before it was answered.
    early: Option<Box<Early>>,
}

/// What was taken in of a piece before it was answered: with these its answer begins.
#[derive(Clone, Copy, Default)]
struct Early {
    items: u32,
    failed: u32,
    bytes: usize,
}

/// A worker that is to be ended because of the call that it runs.
struct Condemned {
    ordinal: u64,
    cause: Cause,
    /// When it is ended by force.
    kill_at: Option<Instant>,
}

/// A call that no worker has begun, with its bytes, to be sent again.
pub(crate) type Recovered<H> = (H, Header, Vec<u8>);

/// A call that its worker has taken with it.
pub(crate) struct Lost<H> {
    pub(crate) ticket: H,
    pub(crate) cause: Cause,
    /// When the worker went into it, if that is known.
    pub(crate) begun: Option<u64>,
    /// Its bytes, if it may run again.
    pub(crate) copy: Option<Box<(Header, Vec<u8>)>>,
}

/// What came back from a worker.
pub(crate) enum Arrival<H> {
    /// This call was answered, which was sent with this header.
    Answer(H, Header, Reply),
    /// Of this piece, which was sent with this header, it has done no more than what was taken in before.
    Untouched(H, Header),
    Ready,
    /// It has given back memory.
    Released,
    /// It ends by itself.
    Retired,
}

/// What one worker has of shared memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Its process number; 0 for calls that wait for any worker.
    pub pid: u32,
    /// Of the parent's heap: arguments of calls that it was sent and has not answered.
    pub arguments: u64,
    /// Of the parent's heap: arguments of calls that it has answered, and has not let go of.
    pub kept: u64,
    /// Of its own heap: results that the parent has not let go of.
    pub results: u64,
}

/// The worker's half of the shared memory makes no sense any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Corrupt;

/// When a late piece of this ordinal is looked at again, and after how long.
#[derive(Clone, Copy, Debug)]
struct Again {
    ordinal: u64,
    at: Instant,
    patience: Duration,
}

pub(crate) struct Seat<H> {
    pub(crate) stage: Stage,
    pub(crate) process: Option<Process>,
    /// Its account of why it could not be set up.
    pub(crate) unfit: Option<Payload>,
    /// The keeper alarm as it was last set; `u64::MAX` is never.
    armed: u64,
    /// Nothing that the worker says counts any more: it broke the rules, or the lane is broken.
    deaf: bool,
    /// The first call that is not answered, as the keeper saw it, and since when; none while nobody waits behind it.
    front: Option<(u64, Instant)>,
    /// A call that was seen to be a long one.
    long: Option<u64>,
    /// It is a piece that the worker had not begun by then: it is looked at again.
    again: Option<Again>,
    /// Since when it has no calls, if anybody wants to know.
    idle_since: Option<Instant>,
    requests: Producer,
    replies: Consumer,
    /// What the worker says besides.
    pub(crate) hearing: Hearing,
    arena: Arena,
    flights: VecDeque<Flight<H>>,
    /// Ordinal of the front of `flights`.
    first: u64,
    /// Flights with a ticket.
    load: usize,
    /// Which functions the worker has been sent.
    known: Vec<bool>,
    spills_taken: u64,
    /// The parent's heap, which all workers see.
    heap: Arc<Heap>,
    /// Bytes of it that are lent to calls which have not ended, in all seats and the backlog.
    lent: Arc<AtomicU64>,
    /// Leases of it that the worker has for calls that it has answered, by block.
    held: HashMap<u64, Vec<Lease>>,
    /// The worker's heap.
    worker_heap: Arc<View>,
    /// What the worker is to be told to forget.
    forgotten: Vec<u64>,
    condemned: Option<Condemned>,
    pub(crate) tally: Tally,
    /// It has said that it is ready.
    has_greeted: bool,
    /// It has said that it ends.
    has_taken_leave: bool,
    /// The call that was at the front when its time was looked at last: its ordinal, whether it had begun, and since when.
    timed: Option<(u64, bool, Instant)>,
    /// Where the worker leaves what it has to say when it crashes.
    pub(crate) words: OwnedFd,
    /// Last, so that the ends of the rings go before the memory.
    pub(crate) link: Link,
}

impl<H: Ticket> Seat<H> {
    pub(crate) fn new(heap: Arc<Heap>, lent: Arc<AtomicU64>) -> io::Result<Self> {
        let mut link = Link::create()?;
        Ok(Self {
            stage: Stage::Starting,
            process: None,
            unfit: None,
            armed: u64::MAX,
            deaf: false,
            front: None,
            long: None,
            again: None,
            idle_since: None,
            requests: link.request_producer(),
            replies: link.reply_consumer(),
            hearing: Hearing::new(link.word_consumer()),
            arena: Arena::new(SPILL_SOFT, link.request_spill().len()),
            flights: VecDeque::new(),
            first: 0,
            load: 0,
            known: Vec::new(),
            spills_taken: 0,
            heap,
            lent,
            held: HashMap::new(),
            worker_heap: link.heap_view(),
            forgotten: Vec::new(),
            condemned: None,
            tally: Tally::new(),
            has_greeted: false,
            has_taken_leave: false,
            timed: None,
            words: memfd_create("raddle-words", MemfdFlags::CLOEXEC)?,
            link,
        })
    }

    /// Calls that are here and not answered.
    pub(crate) fn load(&self) -> usize {
        self.load
    }

    /// The ordinal of the first call that is not answered.
    pub(crate) fn next_call(&self) -> u64 {
        self.first + self.flights.iter().position(|flight| flight.ticket.is_some()).unwrap_or(0) as u64
    }

    /// The count at which there is room for more from the backlog: when half of what is outstanding is done, or the next call
    /// where a ring is shallow.
    pub(crate) fn refill_at(&self, shallow: bool) -> u64 {
        if shallow || self.load <= 2 { self.next_call() + 1 } else { self.first + self.flights.len() as u64 / 2 + 1 }
    }

    /// The rank of the last call, if it has not begun.
    pub(crate) fn last_waiting(&self) -> Option<Rank> {
        let flight = self.flights.iter().rev().find(|flight| flight.ticket.is_some())?;
        if self.requests.is_started(flight.slot) { None } else { flight.ticket.as_ref().map(Ticket::rank) }
    }

    /// The ordinal of the last record that was sent; of the next one if all are answered.
    pub(crate) fn last(&self) -> u64 {
        self.first + (self.flights.len() as u64).saturating_sub(1)
    }

    /// The first outstanding call that somebody must be told about.
    pub(crate) fn next_watched(&self) -> Option<u64> {
        let watched = |f: &Flight<H>| f.ticket.as_ref().is_some_and(|t| t.life().load().watched);
        self.flights.iter().position(watched).map(|index| self.first + index as u64)
    }

    /// Whether replies lie in the ring.
    pub(crate) fn has_replies(&self) -> bool {
        !self.deaf && !self.replies.is_empty()
    }

    /// Whether it has said something that was not taken in.
    pub(crate) fn has_words(&self) -> bool {
        !self.deaf && self.hearing.has_words()
    }

    /// Has the keeper woken when something more is said.
    pub(crate) fn arm_words(&self) {
        self.hearing.arm(self.link.word_alarm());
    }

    /// Takes in one piece of what the worker says.
    pub(crate) fn hear(&mut self) -> Result<Option<Words>, Corrupt> {
        if self.deaf {
            return Ok(None);
        }
        let pid = self.process.as_ref().map_or(0, Process::pid);
        self.hearing.hear(pid, self.link.word_bell())
    }

    /// Whether it may be sent calls.
    pub(crate) fn takes_calls(&self) -> bool {
        self.stage != Stage::Leaving && !self.deaf
    }

    /// Whether a payload of this size can ever be sent.
    pub(crate) fn can_hold(&self, len: usize) -> bool {
        len <= self.link.request_spill().len()
    }

    /// Whether the worker runs a call.
    pub(crate) fn is_running(&self) -> bool {
        self.load > 0 && self.has_started(self.next_call())
    }

    /// How long the worker has been inside the call that it runs, by what it says itself; 0 if it is in none.
    pub(crate) fn inside_for(&self) -> u64 {
        self.inside_since().map_or(0, |since| clock_ns().saturating_sub(since))
    }

    /// When the worker went into the call that it runs, by what it says itself.
    fn inside_since(&self) -> Option<u64> {
        // Ordering: Relaxed. Nothing but this number travels.
        Some(self.link.running_since().load(Relaxed)).filter(|&since| since != 0).map(|since| since.min(clock_ns()))
    }

    /// What the worker has done. None: it has no process yet.
    pub(crate) fn worker_counts(&mut self) -> Option<WorkerCounts> {
        let pid = self.process.as_ref()?.pid();
        let state = match self.stage {
            Stage::Starting => WorkerState::Starting,
            Stage::Live if self.is_running() => WorkerState::Busy,
            Stage::Live => WorkerState::Idle,
            Stage::Leaving => WorkerState::Leaving,
        };
        let inside = self.inside_for();
        Some(self.tally.read(pid, state, inside))
    }

    /// Calls that count when work is shared out: one more than there are while the worker is being started, because then also
    /// the first has not begun.
    pub(crate) fn spare(&self) -> usize {
        self.load + usize::from(self.stage == Stage::Starting && self.load > 0)
    }

    /// The keeper sees the seat at this moment.
    pub(crate) fn note_front(&mut self, now: Instant) {
        let front = self.next_call();
        self.front = match self.front {
            _ if self.spare() < 2 && !self.runs_many() => None,
            Some(known) if known.0 == front => Some(known),
            _ => Some((front, now)),
        };
    }

    /// Whether calls wait behind one for longer than the lane ever foretells.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.stage == Stage::Starting || self.front.is_some_and(|(_, since)| now.duration_since(since) >= LATE)
    }

    /// The piece that the worker runs, if there are items of it that it has not begun: its ordinal, how many items it has, and how
    /// many of them the worker says to have begun.
    pub(crate) fn divisible(&self) -> Option<(u64, u32, u32)> {
        let (ticket, _, early) = self.running()?;
        let (ordinal, items) = (self.next_call(), ticket.items() + early.items);
        let begun = self.link.stint().begun(ordinal)?;
        (begun > early.items && begun < items).then_some((ordinal, items, begun))
    }

    /// Whether the first call that is not answered is a piece of several items.
    fn runs_many(&self) -> bool {
        self.running().is_some_and(|(ticket, ..)| ticket.is_piece() && ticket.items() > 1)
    }

    /// The first call that is not answered, how it was sent, and what was taken in of it.
    fn running(&self) -> Option<(&H, Header, Early)> {
        let early = |flight: &Flight<H>| flight.early.as_deref().copied().unwrap_or_default();
        self.flights.iter().find_map(|flight| Some((flight.ticket.as_ref()?, flight.header, early(flight))))
    }

    /// Takes in what the worker has done of the piece that it runs, if it is not through with it.
    pub(crate) fn take_early(&mut self) -> Option<(H, Reply)> {
        let (ticket, _, early) = self.running()?;
        let ordinal = self.next_call();
        // It is taken in once: when it is known with which item the worker is left.
        if !ticket.is_piece() || early.items > 0 || self.looks_again().is_some() {
            return None;
        }
        let (done, failed, bytes) = self.link.read_draft(ordinal)?;
        if done == 0 || done >= ticket.items() || failed > done {
            return None;
        }
        let taken = ticket.cut_front(done)?;
        let early = Early { items: done, failed, bytes: bytes.len() };
        self.flight(ordinal)?.early = Some(Box::new(early));
        let payload = Payload::copied(&bytes)?;
        let flags = flag::LIST | flag::COUNTED;
        Some((taken, Reply::Answer { kind: kind::VALUE, flags, nanos: 0, done, failed, payload }))
    }

    /// Takes away what the worker has not begun of the piece that it runs: the items, and how they are to be sent again.
    pub(crate) fn take_tail(&mut self) -> Option<(H, Header)> {
        let (ordinal, items, _) = self.divisible()?;
        let from = self.link.stint().take(ordinal, items).filter(|&from| from > 0)?;
        let (ticket, header, early) = self.running()?;
        Some((ticket.cut_back(from.checked_sub(early.items)?)?, header))
    }

    /// When the piece that it runs will have taken much longer than foretold. None: nothing waits for its end, or that is known.
    pub(crate) fn late_at(&self) -> Option<Instant> {
        if let Some(Again { at, .. }) = self.looks_again() {
            return Some(at);
        }
        let since = self.front.filter(|_| !self.runs_long())?.1;
        let ticket = self.running()?.0;
        if !ticket.is_piece() || self.stage == Stage::Starting || (self.load < 2 && !self.runs_many()) {
            return None;
        }
        let patience = Duration::from_nanos(ticket.pace().unwrap_or(0).saturating_mul(OFF));
        since.checked_add(patience.max(LATE))
    }

    /// How the piece that it runs is looked at again, if it is.
    fn looks_again(&self) -> Option<Again> {
        self.again.filter(|again| self.load > 0 && again.ordinal == self.next_call())
    }

    /// The piece that it runs has taken much longer than foretold: takes back what is left of it, and what waits behind it. If the worker
    /// has not come to its first item, nothing can be said of it and it is looked at again, after twice the time each time.
    pub(crate) fn leave_late_piece(&mut self, now: Instant) -> (Option<(H, Header)>, Vec<Recovered<H>>) {
        let ordinal = self.next_call();
        self.long = Some(ordinal);
        let patience = self.looks_again().map_or(LATE, |again| again.patience.saturating_mul(2));
        let is_begun = self.link.stint().begun(ordinal).is_some_and(|begun| begun > 0);
        self.again = match now.checked_add(patience) {
            Some(at) if !is_begun => Some(Again { ordinal, at, patience }),
            _ => None,
        };
        let tail = match (self.front, self.divisible(), self.running()) {
            (Some((_, since)), Some((_, _, begun)), Some((ticket, ..))) => {
                let spent = u64::try_from(now.duration_since(since).as_nanos()).unwrap_or(u64::MAX);
                ticket.note_pace(spent / u64::from(begun));
                self.take_tail()
            }
            _ => None,
        };
        (tail, self.revoke_waiting())
    }

    /// It has no calls any more.
    pub(crate) fn note_idle(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }

    /// Since when it has no calls, if that was noted and it is to be told when that is too long.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.idle_since.filter(|_| self.load == 0 && self.stage == Stage::Live && !self.deaf)
    }

    /// Whether it runs a call that was seen to be a long one.
    pub(crate) fn runs_long(&self) -> bool {
        self.long.is_some_and(|long| self.load > 0 && long == self.next_call())
    }

    /// If calls wait behind a long one, takes them back.
    pub(crate) fn leave_long(&mut self, now: Instant) -> Vec<Recovered<H>> {
        if self.stage == Stage::Starting || !self.is_late(now) {
            return Vec::new();
        }
        self.long = Some(self.next_call());
        self.revoke_waiting()
    }

    /// Believes nothing that the worker says from now on, and ends it; its death does the rest.
    pub(crate) fn distrust(&mut self) {
        self.deaf = true;
        if let Some(process) = &mut self.process {
            process.kill_group(Signal::KILL);
        }
    }

    /// Names the process of the worker.
    pub(crate) fn occupy(&mut self, process: Process) {
        self.process = Some(process);
        if self.deaf {
            self.distrust(); // it was faster than whoever started it
        }
        if let (Some(condemned), Some(process)) = (&self.condemned, &mut self.process) {
            process.kill_group(if condemned.kill_at.is_some() { Signal::TERM } else { Signal::KILL });
        }
    }

    /// Has the keeper woken when so many records are done.
    pub(crate) fn set_alarm(&mut self, at: u64) {
        self.armed = at;
        self.link.keeper_alarm().set(at);
    }

    /// Has the keeper woken when so many records are done, or earlier.
    pub(crate) fn arm(&mut self, at: u64) {
        if at < self.armed {
            self.set_alarm(at);
        }
    }

    /// Sends a call. Gives the ticket back if there is no room for it now.
    pub(crate) fn send(
        &mut self,
        number: usize,
        functions: &[Arc<[u8]>],
        ticket: H,
        out: &Outgoing<'_>,
    ) -> Result<(), H> {
        if self.flights.len() >= DEPTH {
            self.trim();
        }
        if !self.takes_calls() || self.flights.len() >= DEPTH {
            return Err(ticket);
        }
        self.send_returns();
        if matches!(out.kind, kind::CALL | kind::BATCH | kind::PIECE) && !self.define(out.tag, functions) {
            return Err(ticket);
        }
        ticket.place().set(Spot::Seat { seat: number, ordinal: self.first + self.flights.len() as u64 });
        let is_watched = ticket.life().load().watched;
        if let Err(Some(ticket)) = self.push(Some(ticket), out) {
            return Err(ticket);
        }
        self.load += 1;
        if is_watched {
            self.arm(self.last() + 1);
        }
        self.link.worker_bell().ring();
        Ok(())
    }

    /// Tells the worker to end once it has done what it was sent.
    pub(crate) fn send_stop(&mut self) -> bool {
        let out = Outgoing { kind: kind::STOP, flags: 0, tag: 0, parts: &[] };
        let sent = self.push(None, &out).is_ok();
        if sent {
            self.stage = Stage::Leaving;
            self.link.worker_bell().ring();
        }
        sent
    }

    /// Names to the worker what is given back of its heap, and what it is to forget. It need not be woken for the former: it needs
    /// the room for its next result.
    fn send_returns(&mut self) {
        if self.worker_heap.has_returns() {
            let returns = self.worker_heap.take_returns(RETURNS);
            if !self.push_numbers(kind::RELEASE, &returns) {
                self.worker_heap.keep_returns(returns);
            }
        }
        if !self.forgotten.is_empty() {
            let keys = self.forgotten.split_off(self.forgotten.len().saturating_sub(RETURNS));
            if !self.push_numbers(kind::FORGET, &keys) {
                self.forgotten.extend(keys);
            }
        }
    }

    /// Has the worker forget what it has made of an object.
    pub(crate) fn forget(&mut self, key: u64) {
        self.forgotten.push(key);
        if self.takes_calls() {
            self.trim();
            self.send_returns();
            self.link.worker_bell().ring();
        }
    }

    fn push_numbers(&mut self, kind: u8, numbers: &[u64]) -> bool {
        let payload: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        self.flights.len() < DEPTH && self.push(None, &Outgoing { kind, flags: 0, tag: 0, parts: &[&payload] }).is_ok()
    }

    /// Makes sure that the worker has, or will have, been sent a function before the next record.
    fn define(&mut self, tag: u32, functions: &[Arc<[u8]>]) -> bool {
        let index = tag as usize;
        if self.known.get(index).copied().unwrap_or(false) {
            return true;
        }
        let out = Outgoing { kind: kind::DEFINE, flags: 0, tag, parts: &[&functions[index]] };
        if self.push(None, &out).is_err() {
            return false;
        }
        if self.known.len() <= index {
            self.known.resize(index + 1, false);
        }
        self.known[index] = true;
        true
    }

    /// Gives the ticket back if the ring or the spill region has no room now.
    fn push(&mut self, ticket: Option<H>, out: &Outgoing<'_>) -> Result<(), Option<H>> {
        let len = out.len();
        let timed = if ticket.as_ref().is_some_and(Ticket::is_timed) { flag::TIMED } else { 0 };
        let mut header = Header {
            kind: out.kind,
            flags: out.flags | timed,
            tag: out.tag,
            id: self.first + self.flights.len() as u64,
            extra: ticket.as_ref().and_then(Ticket::limit).map_or(0, |limit| (limit.as_nanos() as u64).max(1)),
        };
        let (pushed, spilled) = if len <= INLINE {
            (self.requests.push(header, out.parts), None)
        } else {
            let Some(offset) = self.arena.alloc(len) else { return Err(ticket) };
            spill_out(self.link.request_spill(), offset, out.parts);
            header.flags |= flag::SPILLED;
            (self.requests.push(header, &[&spill_pointer(offset, len)]), Some(offset))
        };
        match pushed {
            Ok(slot) => {
                let copy = ticket.as_ref().filter(|ticket| ticket.may_retry()).map(|_| {
                    let plain = Header { flags: header.flags & !flag::SPILLED, ..header };
                    Box::new((plain, out.parts.concat()))
                });
                self.flights.push_back(Flight { ticket, slot, header, len, spilled, copy, early: None });
                Ok(())
            }
            Err(_) => {
                if let Some(offset) = spilled {
                    self.arena.free(offset);
                }
                Err(ticket)
            }
        }
    }

    /// Takes a call back that has not started.
    pub(crate) fn revoke(&mut self, ordinal: u64) -> Option<H> {
        let flight = self.flight(ordinal)?;
        flight.ticket.as_ref()?;
        let slot = flight.slot;
        if !self.requests.revoke(slot) {
            return None;
        }
        let flight = self.flight(ordinal)?;
        let ticket = flight.ticket.take();
        let spilled = flight.spilled.take();
        self.release(spilled);
        self.load -= 1;
        ticket
    }

    /// Takes the last call back, with its bytes, so that another worker can do it. None if it has started, or if there
    /// is none.
    pub(crate) fn revoke_last(&mut self) -> Option<Recovered<H>> {
        let index = self.flights.iter().rposition(|flight| flight.ticket.is_some())?;
        self.revoke_at(index)
    }

    /// Takes back every call that has not started, in order.
    pub(crate) fn revoke_waiting(&mut self) -> Vec<Recovered<H>> {
        let mut left = Vec::new();
        for index in (0..self.flights.len()).rev() {
            if self.flights[index].ticket.is_some() {
                let Some(recovered) = self.revoke_at(index) else { break };
                left.push(recovered);
            }
        }
        left.reverse();
        left
    }

    fn revoke_at(&mut self, index: usize) -> Option<Recovered<H>> {
        if !self.requests.revoke(self.flights[index].slot) {
            return None;
        }
        let Some((header, payload)) = self.bytes_of(index) else {
            self.distrust(); // it wrote where it may not
            return None;
        };
        let flight = &mut self.flights[index];
        let ticket = flight.ticket.take()?;
        let spilled = flight.spilled.take();
        self.release(spilled);
        self.load -= 1;
        Some((ticket, header, payload))
    }

    /// Whether the worker has begun a call.
    pub(crate) fn has_started(&self, ordinal: u64) -> bool {
        ordinal
            .checked_sub(self.first)
            .and_then(|index| self.flights.get(index as usize))
            .is_some_and(|flight| self.requests.is_started(flight.slot))
    }

    fn flight(&mut self, ordinal: u64) -> Option<&mut Flight<H>> {
        let index = ordinal.checked_sub(self.first)?;
        self.flights.get_mut(usize::try_from(index).ok()?)
    }

    fn release(&mut self, spilled: Option<usize>) {
        if let Some(offset) = spilled {
            self.arena.free(offset);
            if self.arena.outstanding() == 0 && self.arena.high_water() > SPILL_SOFT {
                // A huge payload has been through: give its pages back to the system.
                give_back(self.link.request_spill());
                self.arena.reset_high_water();
            }
        }
    }

    /// The bytes of a record that the worker has not taken, without the flags of how they were sent. None: what lies there is not
    /// what was sent.
    fn bytes_of(&self, index: usize) -> Option<(Header, Vec<u8>)> {
        let flight = &self.flights[index];
        let (mut header, payload) =
            self.requests.read_back(flight.slot).filter(|(found, _)| *found == flight.header)?;
        let Some(offset) = flight.spilled else {
            return (payload.len() == flight.len).then_some((header, payload));
        };
        header.flags &= !flag::SPILLED;
        // SAFETY: this side alone writes there, under the lane's lock, which we are under. A worker that does it too breaks the rules
        // of its memory; then the bytes are whatever they are.
        let bytes = unsafe { spill_in(self.link.request_spill(), &spill_pointer(offset, flight.len)) }?;
        Some((header, bytes.to_vec()))
    }

    /// Takes in one reply.
    pub(crate) fn receive(&mut self) -> Result<Option<Arrival<H>>, Corrupt> {
        if self.deaf {
            return Ok(None);
        }
        let crowded = self.replies.used() > self.replies.capacity() / 4;
        let Some(record) = self.replies.peek().map_err(|_| Corrupt)? else { return Ok(None) };
        let header = record.header;
        let spilled = header.flags & flag::SPILLED != 0;
        let bytes = if spilled {
            // SAFETY: the worker leaves the range alone until `spills_taken` has passed it, below.
            let bytes = unsafe { spill_in(self.link.reply_spill(), record.payload) }.ok_or(Corrupt)?;
            if bytes.len() > SPILL_SOFT && !self.link.holds(bytes.len()) {
                return Err(Corrupt); // to read it would make it: the system would have to find so much memory
            }
            bytes
        } else {
            record.payload
        };
        let len = bytes.len();
        let (begun, bytes) = match header.flags & flag::BEGUN {
            0 => (None, bytes),
            _ => bytes
                .split_first_chunk()
                .map(|(moment, rest)| (Some(u64::from_ne_bytes(*moment)), rest))
                .ok_or(Corrupt)?,
        };
        let (failed, bytes) = match header.flags & flag::COUNTED {
            0 => (u32::from(header.flags & flag::RAISED != 0), bytes),
            _ => bytes.split_first_chunk().map(|(count, rest)| (u32::from_ne_bytes(*count), rest)).ok_or(Corrupt)?,
        };
        let early =
            if header.kind == kind::VALUE { early_of(&self.flights, self.first, header.id) } else { Early::default() };
        let (bytes, done) = (bytes.get(early.bytes..).ok_or(Corrupt)?, header.tag.saturating_sub(early.items));
        let failed = failed.saturating_sub(early.failed);
        let payload = match header.flags & flag::BUFFERS {
            0 => Payload::copied(bytes),
            _ => Payload::parcel(bytes, |copy| leases_of(copy, &self.heap, &self.worker_heap))?,
        };
        self.replies.advance();
        if spilled {
            self.spills_taken += 1;
            // Ordering: Release. Pairs with the Acquire in `WorkerEnd::room_for`: the copy above comes before the
            // worker's next write to the range.
            self.link.spills_taken().store(self.spills_taken, Release);
        }
        if spilled || crowded {
            self.link.worker_bell().ring(); // it may sleep for room
        }
        match header.kind {
            // What is no answer is said once, or is about something that the worker was given. So it cannot talk for ever.
            kind::READY if !self.has_greeted => {
                self.has_greeted = true;
                if self.stage == Stage::Starting {
                    self.stage = Stage::Live;
                }
                Ok(Some(Arrival::Ready))
            }
            kind::RETIRED if !self.has_taken_leave => {
                self.has_taken_leave = true;
                self.stage = Stage::Leaving;
                Ok(Some(Arrival::Retired))
            }
            kind::UNFIT if !self.has_taken_leave => {
                // It ends by itself, and may still have something to tell others; the lane breaks when it is gone.
                self.has_taken_leave = true;
                self.stage = Stage::Leaving;
                self.unfit = Some(payload.ok_or(Corrupt)?);
                Ok(Some(Arrival::Retired))
            }
            kind::RELEASED => {
                let payload = payload.ok_or(Corrupt)?;
                let (blocks @ [_, ..], []) = payload.as_chunks() else { return Err(Corrupt) };
                blocks.iter().try_for_each(|block| self.given_back(u64::from_ne_bytes(*block)))?;
                Ok(Some(Arrival::Released))
            }
            kind::VALUE | kind::ERROR | kind::UNREADABLE => {
                let (ticket, sent) = self.answered(header.id).ok_or(Corrupt)?;
                ticket.take_leases().into_iter().for_each(|lease| self.hold(lease));
                if early.items > 0 && done == 0 {
                    return Ok(Some(Arrival::Untouched(ticket, sent)));
                }
                let Some(payload) = payload else {
                    let reason = format!("the answer takes {len} bytes, for which there is no memory");
                    return Ok(Some(Arrival::Answer(ticket, sent, Reply::Broken(reason.into()))));
                };
                if let Some(moment) = begun {
                    ticket.begun(self.process.as_ref().map_or(0, Process::pid), Some(moment));
                }
                let flags = header.flags & !(flag::SPILLED | flag::BEGUN);
                let nanos = header.extra;
                let reply = Reply::Answer { kind: header.kind, flags, nanos, done, failed, payload };
                Ok(Some(Arrival::Answer(ticket, sent, reply)))
            }
            _ => Err(Corrupt),
        }
    }

    /// What it has of shared memory.
    pub(crate) fn holding(&self) -> Holding {
        Holding {
            pid: self.process.as_ref().map_or(0, Process::pid),
            arguments: self.flights.iter().filter_map(|flight| flight.ticket.as_ref()).map(Ticket::lent).sum(),
            kept: self.held.values().flatten().map(|lease| lease.len() as u64).sum(),
            results: self.worker_heap.borrowed().0 as u64,
        }
    }

    /// The heap from which it answers.
    pub(crate) fn worker_heap(&self) -> &Arc<View> {
        &self.worker_heap
    }

    /// Keeps a lease for the worker until it gives the block back or is dead.
    fn hold(&mut self, lease: Lease) {
        self.lent.fetch_sub(lease.len() as u64, SeqCst);
        self.held.entry(lease.piece().block).or_default().push(lease);
    }

    /// The worker uses a block of the parent's heap no longer: one that it has kept since an answer, or one of the call that it
    /// runs.
    fn given_back(&mut self, block: u64) -> Result<(), Corrupt> {
        if let Some(leases) = self.held.get_mut(&block) {
            leases.pop();
            if leases.is_empty() {
                self.held.remove(&block);
            }
            return Ok(());
        }
        let running = self.flights.iter().find_map(|flight| flight.ticket.as_ref()).ok_or(Corrupt)?;
        let lease = running.take_lease(block).ok_or(Corrupt)?;
        self.lent.fetch_sub(lease.len() as u64, SeqCst);
        Ok(())
    }

    /// Forgets the records at the front that need no answer and that the worker has passed.
    fn trim(&mut self) {
        while self.flights.front().is_some_and(|f| f.ticket.is_none() && self.requests.is_taken(f.slot)) {
            if let Some(flight) = self.flights.pop_front() {
                self.first += 1;
                self.release(flight.spilled);
            }
        }
    }

    /// Removes the flight that was answered, and those before it that need no answer. None, and nothing has changed: it is an
    /// answer out of order, or to something that was not asked.
    fn answered(&mut self, ordinal: u64) -> Option<(H, Header)> {
        let index = usize::try_from(ordinal.checked_sub(self.first)?).ok()?;
        let next = self.flights.iter().position(|flight| flight.ticket.is_some())?;
        if index != next {
            return None;
        }
        loop {
            let flight = self.flights.pop_front()?;
            self.first += 1;
            self.release(flight.spilled);
            if let Some(ticket) = flight.ticket {
                self.load -= 1;
                ticket.place().set(Spot::Nowhere);
                return Some((ticket, flight.header));
            }
        }
    }

    /// When something is to be done about the time that calls take here. `now + limit` for one that has not begun.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if let Some(condemned) = &self.condemned {
            return condemned.kill_at;
        }
        let calls = self.flights.iter().filter(|flight| flight.ticket.is_some());
        let limited = calls.enumerate().filter_map(|(index, flight)| {
            let limit = flight.ticket.as_ref()?.limit()?;
            if index > 0 || !self.requests.is_started(flight.slot) {
                return now.checked_add(limit);
            }
            now.checked_add(limit.saturating_sub(self.running_for(now)))
        });
        limited.min()
    }

    /// How long the call that runs has been running, if it has a limit: as the worker says, or as long as it was seen to run.
    fn running_for(&self, now: Instant) -> Duration {
        // Ordering: Relaxed. The record was seen to be started, by an acquiring load; the time was written before that.
        let said = Duration::from_nanos(clock_ns().saturating_sub(self.link.started_at().load(Relaxed)));
        let seen = self.timed.filter(|&(_, has_begun, _)| has_begun).map(|(.., since)| now.duration_since(since));
        said.max(seen.unwrap_or_default())
    }

    /// Does what is due: a call that has run for too long takes its worker with it. Returns the calls that go elsewhere.
    pub(crate) fn enforce(&mut self, now: Instant) -> Vec<Recovered<H>> {
        if let Some(condemned) = &mut self.condemned {
            if condemned.kill_at.is_some_and(|at| at <= now)
                && let Some(process) = &mut self.process
            {
                process.kill_group(Signal::KILL);
                condemned.kill_at = None;
            }
            return Vec::new();
        }
        let Some(flight) = self.flights.iter().find(|flight| flight.ticket.is_some()) else { return Vec::new() };
        let Some(limit) = flight.ticket.as_ref().and_then(Ticket::limit) else { return Vec::new() };
        let (ordinal, has_begun) = (self.next_call(), self.requests.is_started(flight.slot));
        if self.timed.is_none_or(|(known, had_begun, _)| (known, had_begun) != (ordinal, has_begun)) {
            self.timed = Some((ordinal, has_begun, now));
        }
        if has_begun {
            return match self.running_for(now) < limit {
                true => Vec::new(),
                false => self.condemn(ordinal, Cause::Overdue(limit), now),
            };
        }
        // It has nothing else to do, and has not begun it in all this time: it is stopped, or asleep for ever. What it has runs
        // elsewhere; if it begins just now, it is neither, and keeps the call.
        let waited = self.timed.map_or(Duration::ZERO, |(.., since)| now.duration_since(since));
        if self.stage != Stage::Live || waited < limit.max(GRACE) {
            return Vec::new();
        }
        let mut left: Vec<_> = std::iter::from_fn(|| self.revoke_last()).collect();
        left.reverse();
        if self.load == 0 {
            self.distrust();
        }
        left
    }

    /// Ends the worker because of a call that it runs. Returns the calls behind it: none of them is to be begun by a process that
    /// is being ended. If one has begun, the worker is through with the call, and is left alone.
    pub(crate) fn condemn(&mut self, ordinal: u64, cause: Cause, now: Instant) -> Vec<Recovered<H>> {
        let mut left = Vec::new();
        while self.load > 1
            && let Some(recovered) = self.revoke_last()
        {
            left.push(recovered);
        }
        left.reverse();
        if self.load > 1 {
            return left;
        }
        self.stage = Stage::Leaving;
        let kill_at = match cause {
            Cause::Overdue(_) => now.checked_add(GRACE),
            Cause::Died | Cause::Stopped => None,
        };
        if let Some(process) = &mut self.process {
            process.kill_group(if kill_at.is_some() { Signal::TERM } else { Signal::KILL });
        }
        self.condemned = Some(Condemned { ordinal, cause, kill_at });
        left
    }

    /// What the worker has left to say, if it has crashed.
    pub(crate) fn last_words(&self) -> Option<Arc<str>> {
        let mut words = vec![0; WORDS];
        let len = rustix::io::pread(&self.words, &mut words, 0).ok().filter(|&len| len > 0)?;
        Some(String::from_utf8_lossy(&words[..len]).into())
    }

    /// Why a call was lost with its worker.
    pub(crate) fn cause_of(&self, ordinal: u64) -> Cause {
        self.condemned.as_ref().filter(|condemned| condemned.ordinal == ordinal).map_or(Cause::Died, |c| c.cause)
    }

    /// Somebody wants the call stopped because of which the worker is being ended: no more grace. False: it is another call.
    pub(crate) fn hasten(&mut self, ordinal: u64) -> bool {
        let Some(condemned) = self.condemned.as_mut().filter(|condemned| condemned.ordinal == ordinal) else {
            return false;
        };
        condemned.cause = Cause::Stopped;
        condemned.kill_at = None;
        if let Some(process) = &mut self.process {
            process.kill_group(Signal::KILL);
        }
        true
    }

    /// Whether the worker was ended from here.
    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.is_some()
    }

    /// After the worker's death and a last drain: what it had begun, and what it had not, in order.
    pub(crate) fn bury(&mut self) -> (Vec<Lost<H>>, Vec<Recovered<H>>) {
        let (mut lost, mut left) = (Vec::new(), Vec::new());
        let mut begun = self.inside_since(); // the first one, which is the one that ran
        for index in 0..self.flights.len() {
            let started = self.requests.is_started(self.flights[index].slot);
            let bytes = if started { None } else { self.bytes_of(index) };
            if let Some(ticket) = self.flights[index].ticket.take() {
                match bytes {
                    Some((header, payload)) => left.push((ticket, header, payload)),
                    None => {
                        let cause = self.cause_of(self.first + index as u64);
                        lost.push(Lost { ticket, cause, begun: begun.take(), copy: self.flights[index].copy.take() });
                    }
                }
            }
        }
        self.flights.clear();
        self.load = 0;
        (lost, left)
    }

    /// Every ticket that is still here, for a lane that breaks.
    pub(crate) fn take_all(&mut self) -> Vec<H> {
        if self.is_running()
            && let Some(ticket) = self.flights.iter().find_map(|flight| flight.ticket.as_ref())
        {
            ticket.begun(self.process.as_ref().map_or(0, Process::pid), self.inside_since());
        }
        self.deaf = true; // it may still answer
        self.load = 0;
        let tickets: Vec<H> = self.flights.iter_mut().filter_map(|flight| flight.ticket.take()).collect();
        // It may still write, too: what it was lent is lent until it is dead.
        tickets.iter().flat_map(Ticket::take_leases).for_each(|lease| self.hold(lease));
        tickets
    }

    /// Takes back what has not started and is of this kind, pieces also in part.
    pub(crate) fn take_back_where(&mut self, is_wanted: &dyn Fn(&H) -> bool) -> Vec<H> {
        let wanted = |flight: &Flight<H>| flight.ticket.as_ref().is_some_and(is_wanted);
        let ordinals = (0..self.flights.len()).filter(|&index| wanted(&self.flights[index]));
        let ordinals: Vec<u64> = ordinals.map(|index| self.first + index as u64).collect();
        let mut taken: Vec<H> = ordinals.into_iter().rev().filter_map(|ordinal| self.revoke(ordinal)).collect();
        if self.running().is_some_and(|(ticket, ..)| is_wanted(ticket)) {
            taken.extend(self.take_tail().map(|(ticket, _)| ticket));
        }
        taken
    }

    /// Revokes what has not started, last first, for a lane that closes; leaves the first `spared` calls that are there.
    pub(crate) fn revoke_all_but(&mut self, spared: usize) -> Vec<H> {
        let calls = (0..self.flights.len()).filter(|&index| self.flights[index].ticket.is_some());
        let ordinals: Vec<u64> = calls.skip(spared).map(|index| self.first + index as u64).collect();
        ordinals.into_iter().rev().filter_map(|ordinal| self.revoke(ordinal)).collect()
    }
}

/// What was taken in of a piece before it was answered.
fn early_of<H>(flights: &VecDeque<Flight<H>>, first: u64, ordinal: u64) -> Early {
    let index = ordinal.checked_sub(first).and_then(|index| usize::try_from(index).ok());
    let flight = index.and_then(|index| flights.get(index));
    flight.and_then(|flight| flight.early.as_deref().copied()).unwrap_or_default()
}

/// The leases of the buffers that a reply names.
fn leases_of(payload: &[u8], heap: &Arc<Heap>, worker_heap: &Arc<View>) -> Result<Vec<Option<Arc<Lease>>>, Corrupt> {
    let (buffers, _) = parcel::read(payload).ok_or(Corrupt)?;
    let lease = |buffer: &Buffer| match *buffer {
        Buffer::Inline(_) => Ok(None),
        Buffer::Parent(piece) | Buffer::Shared(piece) => heap.receive(piece).map(Arc::new).map(Some).ok_or(Corrupt),
        Buffer::Worker(piece) => worker_heap.receive(piece).map(Arc::new).map(Some).ok_or(Corrupt),
    };
    buffers.iter().map(lease).collect()
}
