//! The parent's half of the lane: which call is where, and who gets the next one.
//!
//! Everything here runs under the lane's one lock, and nothing here waits, so that the lock is held for microseconds.
//! What must happen outside of it (telling, disposing) is collected in [`Effects`].

mod elastic;
mod pieces;
mod ranks;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use raddle_core::prim::atomic::Ordering::{Relaxed, Release, SeqCst};
use raddle_core::prim::atomic::{AtomicBool, AtomicU64};
use raddle_core::sched::{Pace, Quota, Ranked, balance};
use raddle_shm::heap::{Lease, View};
use rustix::process::Signal;

use super::link::Page;
use super::seat::{Arrival, Corrupt, Holding, Lost, Recovered, Seat, Stage};
use super::tally::{WorkerCounts, WorkerState};
use super::ticket::{Cause, Loss, OnDeath, Outgoing, Reply, SEATS, Spot, Ticket};
use super::words::Words;
use crate::Ending;
use crate::oom::OomWatch;

pub(crate) use elastic::Elastic;

/// What a wake-up between two processes costs, roughly, in nanoseconds. A call waits behind a running one rather than
/// wake a sleeping worker while it has to wait less than that.
const WAKE: u64 = 30_000;
/// What a call costs the worker besides the user's function.
const CALL: u64 = 1_500;
/// So many pieces of what workers say wait to be shown, at most; then the workers wait.
const HEARD: usize = 1024;
/// What a piece takes in its ring, at least.
const WORD: usize = 32;
/// So many workers in a row may die before they are ready; then the lane breaks instead of trying for ever.
const STILLBORN: u32 = 3;

/// So many workers that have ended are remembered, one by one.
const REMEMBERED: usize = 32;

/// The numbers of a lane and those of each of its workers, of one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// All together. The time inside calls includes the calls that run.
    pub counts: Counts,
    /// The workers that exist, by seat, and the last ones of those that have ended, the last one last.
    pub workers: Vec<WorkerCounts>,
}

/// Numbers since the lane was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Calls handed in, without those that were handed back.
    pub submitted: u64,
    /// Calls that returned a value.
    pub finished: u64,
    /// Calls that raised, or were lost with their worker.
    pub failed: u64,
    /// Calls taken back before they started.
    pub cancelled: u64,
    /// Workers that died without being asked to.
    pub died: u64,
    /// Calls that wait for a worker, or wait in a worker's ring.
    pub pending: u64,
    /// Calls that run.
    pub running: u64,
    /// Workers that exist.
    pub workers: u64,
    /// Nanoseconds that workers spent inside calls.
    pub busy: u64,
    /// Bytes of calls and answers, with the buffers that they name.
    pub bytes: u64,
}

impl Counts {
    /// A call, or a batch of so many items, was answered with a value. What a batch has not done is cancelled if an item that raised
    /// `ends` it; otherwise it goes back to whoever handed it in, as if it had never come.
    fn answered(&mut self, items: u64, done: u64, failed: u64, ends: bool) {
        let done = done.clamp(1, items.max(1));
        let failed = failed.min(done);
        self.finished += done - failed;
        self.failed += failed;
        let left = items - done;
        if ends {
            self.cancelled += left;
        } else {
            self.submitted -= left;
        }
    }
}

/// What is left to do when the lock has been released. It lies in the dispatch, so that it is there for whoever comes next
/// if the thread that caused it is slow.
pub(crate) struct Effects<H> {
    /// Calls were moved: the leader must look again.
    pub(crate) moved: bool,
    /// The keeper's alarm is to be set.
    pub(crate) alarm: bool,
    /// The lane has foretold a short wait for some call: it should be seen whether that came true.
    pub(crate) foretold: bool,
    /// For the keeper: somebody must be told about these.
    pub(crate) announce: Vec<H>,
    /// For the keeper, or for whoever is about to show something that came later: what workers have said.
    pub(crate) words: Vec<Words>,
    /// For the keeper: the reason why the lane broke.
    pub(crate) broken: Option<Arc<str>>,
    /// For the keeper: workers that have ended.
    pub(crate) departures: Vec<Departure>,
}

impl<H> Effects<H> {
    fn none() -> Self {
        Self {
            moved: false,
            alarm: false,
            foretold: false,
            announce: Vec::new(),
            words: Vec::new(),
            broken: None,
            departures: Vec::new(),
        }
    }

    /// Whether there is something for the keeper alone.
    fn concern_keeper(&self) -> bool {
        !self.announce.is_empty() || self.broken.is_some() || !self.departures.is_empty()
    }
}

/// What whoever releases the lock does next.
#[derive(Clone, Copy)]
pub(crate) struct Owed {
    /// Ring the leader.
    pub(crate) ring: bool,
    /// Wake the keeper.
    pub(crate) wake: bool,
    /// Start the keeper's timer.
    pub(crate) time: bool,
    /// Set the keeper's alarm to this moment.
    pub(crate) alarm: Option<Instant>,
}

/// A worker that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Its seat, which is free again.
    pub seat: usize,
    /// Its process number.
    pub pid: u32,
    /// How it ended.
    pub ending: Ending,
    /// Whether it ended because it was told to, or had said that it would.
    pub expected: bool,
}

/// Where the next call goes.
#[derive(Clone, Copy)]
struct Choice {
    seat: usize,
    /// It has to wait there for longer than a wake-up.
    others_wait: bool,
    /// It goes behind a running call although a worker sleeps, because it is foretold to be done there sooner.
    others_sleep: bool,
}

struct Waiting<H> {
    ticket: H,
    kind: u8,
    flags: u8,
    tag: u32,
    payload: Box<[u8]>,
}

pub(crate) struct Dispatch<H> {
    seats: Vec<Option<Seat<H>>>,
    /// Calls without a seat.
    backlog: Ranked<Waiting<H>>,
    /// Since the lane was last empty, some call had another rank than 0.
    ranked: bool,
    /// Items of calls that have not ended.
    quota: Arc<Quota>,
    elastic: Elastic,
    /// Workers have said something that nobody has shown yet.
    pub(crate) has_words: Arc<AtomicBool>,
    functions: Vec<Arc<[u8]>>,
    pace: Pace,
    counts: Counts,
    /// The last workers that have ended.
    gone: VecDeque<WorkerCounts>,
    stillborn: u32,
    on_death: OnDeath,
    pub(crate) closing: bool,
    pub(crate) broken: Option<Arc<str>>,
    pub(crate) effects: Effects<H>,
    /// The keeper was woken and has not looked yet.
    keeper_called: bool,
    /// Bytes of the heap that are lent to calls which have not ended.
    pub(crate) lent: Arc<AtomicU64>,
    oom: OomWatch,
    /// Heaps of workers that have ended, of whose results somebody holds some.
    orphaned: Vec<(u32, Weak<View>)>,
    /// The keeper's timer runs.
    timing: bool,
    /// When the keeper's alarm comes, if some call has a limit.
    alarm: Option<Instant>,
    /// Answered calls whose tickets wait to be dropped by somebody who may.
    pub(crate) graveyard: Vec<H>,
}

impl<H: Ticket> Dispatch<H> {
    pub(crate) fn new(on_death: OnDeath, quota: Arc<Quota>, elastic: Elastic) -> Self {
        Self {
            seats: Vec::new(),
            backlog: Ranked::new(),
            ranked: false,
            quota,
            elastic,
            has_words: Arc::default(),
            functions: Vec::new(),
            pace: Pace::new(),
            counts: Counts::default(),
            gone: VecDeque::new(),
            stillborn: 0,
            on_death,
            closing: false,
            broken: None,
            effects: Effects::none(),
            keeper_called: false,
            lent: Arc::default(),
            oom: OomWatch::new(),
            orphaned: Vec::new(),
            timing: false,
            alarm: None,
            graveyard: Vec::new(),
        }
    }

    pub(crate) fn forget(&mut self, key: u64) {
        self.seats.iter_mut().flatten().for_each(|seat| seat.forget(key));
    }

    pub(crate) fn define(&mut self, function: &[u8]) -> u32 {
        self.functions.push(function.into());
        (self.functions.len() - 1) as u32
    }

    pub(crate) fn counts(&self) -> Counts {
        let running = self.seats().map(|seat| u64::from(seat.is_running())).sum();
        let counts = &self.counts;
        let ended = counts.finished + counts.failed + counts.cancelled;
        Counts {
            pending: counts.submitted.saturating_sub(ended + running),
            running,
            workers: self.seats().count() as u64,
            ..self.counts
        }
    }

    /// Who has what of shared memory. Calls without a worker come as one.
    pub(crate) fn holdings(&self) -> Vec<Holding> {
        let waiting = self.backlog.iter().map(|waiting| waiting.ticket.lent()).sum();
        let orphaned = self.orphaned.iter().filter_map(|(pid, heap)| Some((*pid, heap.upgrade()?.borrowed().0 as u64)));
        let mut all = vec![Holding { arguments: waiting, ..Holding::default() }];
        all.extend(self.seats().map(Seat::holding));
        all.extend(orphaned.map(|(pid, results)| Holding { pid, results, ..Holding::default() }));
        all.retain(|holding| *holding != Holding { pid: holding.pid, ..Holding::default() });
        all
    }

    pub(crate) fn report(&mut self) -> Report {
        self.drain();
        let mut counts = self.counts();
        let mut workers = Vec::with_capacity(self.seats.len() + self.gone.len());
        for seat in self.seats.iter_mut().flatten() {
            let (counted, worker) = (seat.tally.busy, seat.worker_counts());
            counts.busy += worker.map_or(0, |worker| worker.busy.saturating_sub(counted));
            workers.extend(worker);
        }
        workers.extend(&self.gone);
        Report { counts, workers }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.counts.bytes
    }

    pub(crate) fn processes(&self) -> Vec<(usize, u32)> {
        let pid = |(number, seat): (usize, &Option<Seat<H>>)| Some((number, seat.as_ref()?.process.as_ref()?.pid()));
        self.seats.iter().enumerate().filter_map(pid).collect()
    }

    fn seats(&self) -> impl Iterator<Item = &Seat<H>> {
        self.seats.iter().flatten()
    }

    pub(crate) fn seat_mut(&mut self, number: usize) -> Option<&mut Seat<H>> {
        self.seats.get_mut(number)?.as_mut()
    }

    pub(crate) fn seat(&self, number: usize) -> Option<&Seat<H>> {
        self.seats.get(number)?.as_ref()
    }

    pub(crate) fn seat_numbers(&self) -> impl Iterator<Item = usize> {
        self.seats.iter().enumerate().filter(|(_, seat)| seat.is_some()).map(|(number, _)| number)
    }

    pub(crate) fn seat_count(&self) -> usize {
        self.seats().count()
    }

    /// Puts a fresh seat into the first free place. None: there are as many as a [`Place`](super::Place) can name.
    pub(crate) fn add_seat(&mut self, seat: Seat<H>) -> Option<usize> {
        let number = self.seats.iter().position(Option::is_none).unwrap_or(self.seats.len());
        if number >= SEATS {
            return None;
        }
        if number == self.seats.len() {
            self.seats.push(None);
        }
        self.seats[number] = Some(seat);
        Some(number)
    }

    /// Removes a seat whose worker was never started, and keeps what was sent to it.
    pub(crate) fn vacate(&mut self, number: usize) {
        if let Some(mut seat) = self.seats.get_mut(number).and_then(Option::take) {
            let (lost, left) = seat.bury();
            let pid = seat.process.as_ref().map_or(0, crate::Process::pid);
            drop(seat);
            self.put_back(left);
            // A worker that does not exist starts nothing; one that was given up in its first moments may have.
            let (cause, ending) = (Cause::Died, Ending::Unknown);
            let loss = Loss { pid, ending, cause, out_of_memory: None, peak_memory: None, words: None, output: None };
            for Lost { ticket, .. } in lost {
                self.deliver(ticket, Reply::Lost(Arc::new(loss.clone())));
            }
        }
    }

    pub(crate) fn count_unsent(&mut self) {
        self.counts.submitted += 1;
        self.counts.failed += 1;
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.backlog.len() + self.seats().map(Seat::load).sum::<usize>()
    }

    /// Takes in a call. Returns whether one more worker would help.
    pub(crate) fn submit(&mut self, ticket: H, out: &Outgoing<'_>, page: &Page) -> bool {
        self.counts.submitted += u64::from(ticket.items());
        if let Some(limit) = ticket.limit() {
            self.set_alarm(Instant::now().checked_add(limit));
        }
        let lent = ticket.lent();
        self.lent.fetch_add(lent, Relaxed);
        self.counts.bytes += out.len() as u64 + lent;
        let mut ticket = ticket;
        let had_backlog = !self.backlog.is_empty();
        self.note_rank(ticket.rank());
        if self.backlog.is_empty()
            && let Some(mut choice) = self.choose()
            && (!self.ranked || self.seats[choice.seat].as_ref().is_none_or(|seat| seat.load() == 0))
        {
            if choice.others_wait && want_idle(page) && self.has_replies() {
                // Nobody has asked for reports until now, so a worker may be idle and its last answer not be taken in. One
                // that becomes idle from here on reports itself.
                self.drain();
                choice = self.choose().unwrap_or(choice);
            }
            let seat = self.seats[choice.seat].as_mut().expect("`choose` names a seat that exists");
            if !seat.can_hold(out.len()) {
                self.refuse(ticket, out.len());
                return false;
            }
            match seat.send(choice.seat, &self.functions, ticket, out) {
                Ok(()) => {
                    if seat.stage == Stage::Starting {
                        want_idle(page); // it may be a long time coming
                    }
                    self.effects.foretold |= choice.others_sleep;
                    return choice.others_wait || self.outstanding() > self.seat_count();
                }
                Err(back) => ticket = back,
            }
        }
        let mut payload = Vec::with_capacity(out.len());
        out.parts.iter().for_each(|part| payload.extend_from_slice(part));
        self.push_back(Waiting {
            ticket,
            kind: out.kind,
            flags: out.flags,
            tag: out.tag,
            payload: payload.into_boxed_slice(),
        });
        if self.ranked {
            self.make_way();
        }
        if !had_backlog && !self.backlog.is_empty() {
            self.arm_for_backlog();
        }
        want_idle(page);
        true
    }

    /// Has the keeper look at the time that calls take at this moment, or earlier.
    fn set_alarm(&mut self, at: Option<Instant>) {
        if let Some(at) = at
            && self.alarm.is_none_or(|set| at < set)
        {
            self.alarm = Some(at);
            self.effects.alarm = true;
        }
    }

    /// The keeper's alarm has come, or may have: calls that have run for too long are stopped, and it is set anew.
    pub(crate) fn enforce_limits(&mut self, now: Instant) {
        if self.alarm.is_none_or(|at| at > now) {
            return;
        }
        self.alarm = None;
        for number in 0..self.seats.len() {
            let Some(seat) = self.seats[number].as_mut() else { continue };
            let left = seat.enforce(now);
            let due = seat.due(now);
            self.effects.moved |= !left.is_empty();
            self.put_back(left);
            self.set_alarm(due);
        }
        let waiting = self.backlog.iter().filter_map(|waiting| waiting.ticket.limit()).min();
        self.set_alarm(waiting.and_then(|limit| now.checked_add(limit)));
        self.let_idle_go(now);
    }

    /// Ends the worker that runs this call. False: none does.
    pub(crate) fn stop(&mut self, ticket: &H) -> bool {
        let Spot::Seat { seat: number, ordinal } = ticket.place().get() else { return false };
        let Some(seat) = self.seat_mut(number) else { return false };
        if seat.is_condemned() {
            return seat.hasten(ordinal);
        }
        if seat.next_call() != ordinal || !seat.has_started(ordinal) {
            return false;
        }
        let left = seat.condemn(ordinal, Cause::Stopped, Instant::now());
        let condemned = seat.is_condemned();
        self.effects.moved = true;
        self.put_back(left);
        if !condemned {
            self.drain(); // it was answered in this moment
        }
        condemned
    }

    /// The seat for the next call.
    fn choose(&self) -> Option<Choice> {
        let cost = self.pace.mean_ns().map(|mean| mean.saturating_add(CALL));
        let (mut idle, mut busy): (Option<usize>, Option<(usize, usize)>) = (None, None);
        let (mut idle_live, depth) = (false, self.depth());
        for (number, seat) in self.seats.iter().enumerate() {
            let Some(seat) = seat.as_ref().filter(|seat| seat.takes_calls()) else { continue };
            match seat.load() {
                // A worker that is ready, rather than one that is still being started.
                0 if idle.is_none() || (seat.stage == Stage::Live && !idle_live) => {
                    idle = Some(number);
                    idle_live = seat.stage == Stage::Live;
                }
                0 => {}
                load if load < depth
                    && !(self.ranked && seat.runs_long())
                    && busy.is_none_or(|(_, least)| load < least) =>
                {
                    busy = Some((number, load))
                }
                _ => {}
            }
        }
        let (seat, others_wait, others_sleep) = match (idle, busy, cost) {
            (_, Some((number, load)), Some(cost)) if cost.saturating_mul(load as u64) < WAKE => {
                (number, false, idle_live)
            }
            (Some(number), ..) => (number, false, false),
            (None, Some((number, _)), _) => (number, true, false),
            (None, None, _) => return None,
        };
        Some(Choice { seat, others_wait, others_sleep })
    }

    /// Ends a call whose payload is larger than what a worker can ever be sent.
    fn refuse(&mut self, ticket: H, len: usize) {
        let reason = format!("the call and its arguments take {len} bytes, which is more than a worker can be sent");
        self.deliver(ticket, Reply::Broken(reason.into()));
    }

    fn push_back(&mut self, waiting: Waiting<H>) {
        let rank = waiting.ticket.rank();
        waiting.ticket.place().set(Spot::Backlog(self.backlog.next_position(rank)));
        self.backlog.push_back(rank, waiting);
    }

    fn push_front(&mut self, waiting: Waiting<H>) {
        let rank = waiting.ticket.rank();
        waiting.ticket.place().set(Spot::Backlog(self.backlog.position_in_front(rank)));
        self.backlog.push_front(rank, waiting);
    }

    fn requeue(&mut self, left: Vec<Recovered<H>>) {
        for (ticket, header, payload) in left.into_iter().rev() {
            let payload = payload.into_boxed_slice();
            self.push_front(Waiting { ticket, kind: header.kind, flags: header.flags, tag: header.tag, payload });
        }
    }

    /// Takes back a call that has not started.
    pub(crate) fn take_back(&mut self, ticket: &H) -> Option<H> {
        let taken = match ticket.place().get() {
            Spot::Nowhere => None,
            Spot::Backlog(position) => self.backlog.take(position).map(|waiting| waiting.ticket),
            Spot::Seat { seat, ordinal } => self.seat_mut(seat)?.revoke(ordinal),
        }?;
        taken.place().set(Spot::Nowhere);
        self.end_leases(&taken);
        self.quota.leave(u64::from(taken.items()));
        self.counts.cancelled += u64::from(taken.items());
        Some(taken)
    }

    /// Takes back everything that has not started; in a lane that breaks, all but the next call of each worker, which the
    /// standard library counts as started.
    pub(crate) fn take_back_all(&mut self) -> Vec<H> {
        let mut taken: Vec<H> = Vec::new();
        let spared = usize::from(self.on_death == OnDeath::Break);
        for seat in self.seats.iter_mut().flatten() {
            let mut revoked = seat.revoke_all_but(spared);
            revoked.reverse();
            taken.append(&mut revoked);
            taken.append(&mut seat.take_back_where(&H::is_piece)); // none of its items has been counted as started
        }
        taken.extend(self.backlog.take_all().into_iter().map(|waiting| waiting.ticket));
        self.note_taken_back(&taken);
        taken
    }

    /// Takes back what has not started and is of this kind, pieces also in part.
    pub(crate) fn take_back_where(&mut self, is_wanted: &dyn Fn(&H) -> bool) -> Vec<H> {
        let mut taken: Vec<H> =
            self.seats.iter_mut().flatten().flat_map(|seat| seat.take_back_where(is_wanted)).collect();
        let waiting = self.backlog.iter().filter(|waiting| is_wanted(&waiting.ticket));
        let spots: Vec<Spot> = waiting.map(|waiting| waiting.ticket.place().get()).collect();
        for spot in spots {
            let Spot::Backlog(position) = spot else { continue };
            taken.extend(self.backlog.take(position).map(|waiting| waiting.ticket));
        }
        self.note_taken_back(&taken);
        taken
    }

    fn note_taken_back(&mut self, taken: &[H]) {
        for ticket in taken {
            ticket.place().set(Spot::Nowhere);
            self.end_leases(ticket);
        }
        let items = taken.iter().map(|ticket| u64::from(ticket.items())).sum();
        self.quota.leave(items);
        self.counts.cancelled += items;
    }

    /// Whether a worker has begun this call.
    pub(crate) fn has_started(&self, ticket: &H) -> bool {
        match ticket.place().get() {
            Spot::Seat { seat, ordinal } => self.seat(seat).is_some_and(|seat| seat.has_started(ordinal)),
            _ => false,
        }
    }

    /// Takes in every reply that has arrived.
    pub(crate) fn drain(&mut self) {
        let mut has_rests = false;
        for number in 0..self.seats.len() {
            while let Some(seat) = self.seats[number].as_mut() {
                match seat.receive() {
                    Ok(None) => {
                        self.hear(number, HEARD);
                        break;
                    }
                    Ok(Some(Arrival::Answer(ticket, sent, reply))) => {
                        let rest = pieces::rest_of(&ticket, &reply); // first: what is not done does not count as answered
                        seat.tally.answered(u64::from(ticket.items()), &reply);
                        if let Some(rest) = rest {
                            self.put_in_front(rest, sent);
                            has_rests = true;
                        }
                        self.note_idle(number);
                        self.hear(number, usize::MAX); // what was said during the call comes before its answer
                        self.deliver(ticket, reply);
                    }
                    Ok(Some(Arrival::Untouched(ticket, sent))) => {
                        self.put_in_front(ticket, sent);
                        has_rests = true;
                        self.note_idle(number);
                    }
                    Ok(Some(Arrival::Ready)) => {
                        self.stillborn = 0;
                        self.note_idle(number);
                    }
                    Ok(Some(Arrival::Released)) => {}
                    Ok(Some(Arrival::Retired)) => self.effects.moved = true,
                    Err(Corrupt) => {
                        seat.distrust();
                        break;
                    }
                }
            }
        }
        if has_rests {
            self.refill();
        }
    }

    /// Takes in what a worker has said, until about so many pieces wait to be shown.
    fn hear(&mut self, number: usize, most: usize) {
        // What is there now, and not what a worker goes on to say meanwhile: the lock is held.
        let mut left = self.seat(number).map_or(0, |seat| seat.hearing.waiting());
        while let Some(seat) = self.seats.get_mut(number).and_then(Option::as_mut)
            && seat.has_words()
        {
            if left == 0 || self.effects.words.len() >= most {
                return;
            }
            left = left.saturating_sub(WORD);
            match seat.hear() {
                Ok(Some(words)) => {
                    // Ordering: Release. Whoever sees the end of the call, later, by acquiring its state, sees this too.
                    self.has_words.store(true, Release);
                    self.effects.words.push(words);
                }
                Ok(None) => return,
                Err(Corrupt) => return seat.distrust(),
            }
        }
    }

    fn deliver(&mut self, ticket: H, reply: Reply) {
        self.end_leases(&ticket); // of a call that was not answered; the worker of one that was gives them back
        let items = u64::from(ticket.items());
        self.quota.leave(items);
        match &reply {
            Reply::Answer { kind, flags, nanos, done, failed, payload } => {
                self.counts.bytes += payload.len() as u64 + payload.lent();
                if *nanos > 0 {
                    self.pace.record(*nanos); // what is taken in early of a piece has no time of its own
                }
                self.counts.busy = self.counts.busy.saturating_add(*nanos);
                match *kind {
                    super::kind::VALUE => {
                        let ends = flags & super::flag::RAISED != 0;
                        self.counts.answered(items, u64::from(*done), u64::from(*failed), ends);
                    }
                    _ => self.counts.failed += items,
                }
            }
            Reply::Lost(loss) if loss.cause == Cause::Stopped => self.counts.cancelled += items,
            Reply::Lost(_) | Reply::Broken(_) => self.counts.failed += items,
        }
        ticket.place().set(Spot::Nowhere);
        if ticket.deliver(reply) { self.effects.announce.push(ticket) } else { self.graveyard.push(ticket) }
    }

    /// Ends the leases of a call that ends without an answer.
    fn end_leases(&self, ticket: &H) {
        let leases = ticket.take_leases();
        let lent: usize = leases.iter().map(Lease::len).sum();
        self.lent.fetch_sub(lent as u64, SeqCst);
    }

    /// Takes in what has arrived, and does what follows from it: rings are refilled, and workers that have nothing more to
    /// come are told to end.
    pub(crate) fn advance(&mut self) {
        self.drain();
        self.refill();
        self.stop_workers();
    }

    /// Moves calls from the backlog into rings, as far as there is room.
    pub(crate) fn refill(&mut self) {
        while let Some(next) = self.backlog.front() {
            if next.ticket.is_piece() {
                if self.send_piece() {
                    continue;
                }
                break;
            }
            let Some(Choice { seat: number, others_sleep, .. }) = self.choose() else { break };
            let Some(Waiting { ticket, kind, flags, tag, payload }) = self.backlog.pop_front() else { break };
            let seat = self.seats[number].as_mut().expect("`choose` names a seat that exists");
            if !seat.can_hold(payload.len()) {
                self.refuse(ticket, payload.len());
                continue;
            }
            match seat.send(number, &self.functions, ticket, &Outgoing { kind, flags, tag, parts: &[&payload] }) {
                Ok(()) => {
                    if self.closing {
                        seat.arm(seat.last() + 1);
                    }
                    self.effects.moved = true;
                    self.effects.foretold |= others_sleep;
                }
                Err(ticket) => {
                    self.push_front(Waiting { ticket, kind, flags, tag, payload });
                    break;
                }
            }
        }
    }

    /// Workers that run out of calls are to say so, if there is something for them in the backlog. To be called before
    /// [`refill`](Self::refill): a worker that has not seen this when it falls asleep has made its room before.
    pub(crate) fn ask_for_backlog(&self, page: &Page) {
        if !self.backlog.is_empty() {
            want_idle(page);
        }
    }

    /// Gives idle workers a share of what others have not begun.
    pub(crate) fn steal(&mut self, page: &Page) {
        let is_idle = |seat: &&Seat<H>| seat.stage == Stage::Live && seat.takes_calls() && seat.load() == 0;
        let now = Instant::now();
        for seat in self.seats.iter_mut().flatten() {
            seat.note_front(now);
        }
        self.leave_late_pieces(now);
        if self.ranked && !self.backlog.is_empty() {
            self.pass_long_calls(now);
        }
        while let Some(idle) = self.seats.iter().position(|seat| seat.as_ref().filter(is_idle).is_some()) {
            let Some((victim, count)) = self.plan_theft(idle, now) else { break };
            if self.ranked {
                self.share_out(now);
                break;
            }
            let mut stolen = Vec::with_capacity(count);
            let source = self.seats[victim].as_mut().expect("the plan names a seat with calls");
            stolen.extend(std::iter::from_fn(|| source.revoke_last()).take(count));
            if stolen.is_empty() {
                break; // it has just begun the last one
            }
            self.effects.moved = true;
            let mut rest = Vec::new();
            for (ticket, header, payload) in stolen.into_iter().rev() {
                let out = Outgoing { kind: header.kind, flags: header.flags, tag: header.tag, parts: &[&payload] };
                let thief = self.seats[idle].as_mut().expect("found above");
                if let Err(ticket) = thief.send(idle, &self.functions, ticket, &out) {
                    rest.push((ticket, header, payload));
                }
            }
            self.requeue(rest);
            if self.seats[idle].as_ref().is_none_or(|seat| seat.load() == 0) {
                break; // it has no room, idle as it is: it is still busy with the records that were revoked
            }
        }
        if !self.backlog.is_empty() || self.seats().any(|seat| seat.spare() > 1 || seat.divisible().is_some()) {
            want_idle(page);
        }
    }

    /// From whom the idle worker takes, and how many. None if nobody has more than it is through with by the time the idle
    /// worker is awake; then it should be seen whether that was right.
    fn plan_theft(&mut self, idle: usize, now: Instant) -> Option<(usize, usize)> {
        let plan = |counts: &dyn Fn(&Seat<H>) -> bool| {
            let spare = |seat: &Option<Seat<H>>| seat.as_ref().filter(|seat| counts(seat)).map_or(0, Seat::spare);
            balance::steal_plan(&self.seats.iter().map(spare).collect::<Vec<_>>(), idle)
        };
        if let Some(sure) = plan(&|seat| seat.is_late(now)) {
            return Some(sure);
        }
        let (victim, count) = plan(&|_| true)?;
        let cost = self.pace.mean_ns().map_or(u64::MAX, |mean| mean.saturating_add(CALL));
        let worth_it = cost.saturating_mul(count as u64) >= WAKE;
        self.effects.foretold |= !worth_it;
        worth_it.then_some((victim, count))
    }

    /// Sets each seat's keeper alarm to the first moment at which the keeper has something to do.
    pub(crate) fn arm_keeper(&mut self) {
        let (backlog, ranked) = (!self.backlog.is_empty(), self.ranked);
        for seat in self.seats.iter_mut().flatten() {
            let mut at = seat.next_watched().map_or(u64::MAX, |ordinal| ordinal + 1);
            if backlog && seat.load() > 0 {
                at = at.min(seat.refill_at(ranked));
            }
            if self.closing {
                at = at.min(seat.last() + 1); // then the worker is told to end
            }
            seat.set_alarm(at);
            seat.arm_words();
        }
    }

    /// The backlog has just become non-empty: the keeper refills when a ring is half done, or a shallow one has room.
    fn arm_for_backlog(&mut self) {
        let ranked = self.ranked;
        for seat in self.seats.iter_mut().flatten() {
            seat.arm(seat.refill_at(ranked));
        }
    }

    /// Somebody wants to be told about this call. Returns true if the keeper must be woken to look at once.
    pub(crate) fn watch(&mut self, ticket: &H) -> bool {
        let Spot::Seat { seat, ordinal } = ticket.place().get() else { return false };
        let Some(seat) = self.seat_mut(seat) else { return false };
        seat.arm(ordinal + 1);
        seat.has_replies()
    }

    /// A worker has ended: takes in its last words, and deals with what it left.
    pub(crate) fn bury(&mut self, number: usize, ending: Ending) {
        self.drain();
        self.hear(number, usize::MAX);
        let Some(mut seat) = self.seats.get_mut(number).and_then(Option::take) else { return };
        let pid = seat.process.as_ref().map_or(0, crate::Process::pid);
        let (lost, left) = seat.bury();
        let expected = seat.stage == Stage::Leaving && lost.is_empty() || seat.is_condemned();
        let stillborn = seat.stage == Stage::Starting && lost.is_empty();
        let unfit = seat.unfit.take();
        let (words, output) = (seat.last_words(), seat.hearing.last_output());
        let (counted, inside) = (seat.tally.busy, seat.inside_for());
        let state = if expected { WorkerState::Ended } else { WorkerState::Died };
        let mut record = seat.tally.read(pid, state, inside);
        // It was busy with the call that is lost.
        self.counts.busy = self.counts.busy.saturating_add(record.busy.saturating_sub(counted));
        let was_killed = ending == Ending::Signalled(Signal::KILL.as_raw());
        let out_of_memory = if was_killed { self.oom.has_killed() } else { None };
        let peak_memory = seat.process.as_ref().and_then(crate::Process::peak_memory);
        self.orphaned.retain(|(_, heap)| heap.strong_count() > 0);
        if seat.worker_heap().borrowed().1 > 0 {
            self.orphaned.push((pid, Arc::downgrade(seat.worker_heap())));
        }
        drop(seat);
        self.effects.moved = true;
        self.put_back(left);
        if let Some(account) = unfit {
            self.break_all(&String::from_utf8_lossy(&account), Signal::TERM);
        }
        let mut again = Vec::new();
        let mut loss = Loss { pid, ending, cause: Cause::Died, out_of_memory, peak_memory, words, output };
        for Lost { ticket, cause, begun, copy } in lost {
            if let Some(copy) = copy
                && cause != Cause::Stopped
                && self.broken.is_none()
                && ticket.retry()
            {
                let (header, payload) = *copy;
                again.push((ticket, header, payload));
                continue;
            }
            loss.cause = cause;
            ticket.begun(pid, begun);
            if cause != Cause::Stopped {
                record.calls += u64::from(ticket.items());
                record.failed += u64::from(ticket.items());
            }
            if self.on_death == OnDeath::Replace || self.broken.is_some() {
                self.deliver(ticket, Reply::Lost(Arc::new(loss.clone())));
            } else {
                let reason = format!("{loss} while it ran this call, and the pool is broken");
                self.deliver(ticket, Reply::Broken(reason.into()));
            }
        }
        self.put_back(again);
        if self.gone.len() == REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.extend((pid != 0).then_some(record));
        if !expected && self.broken.is_none() {
            self.counts.died += 1;
            // Where another worker works, the setting up is not what kills them.
            let none_works = !self.seats().any(|seat| seat.stage == Stage::Live);
            self.stillborn += u32::from(stillborn && none_works);
            if self.on_death == OnDeath::Break {
                self.break_all(&format!("{loss}, and the pool is broken"), Signal::TERM);
            } else if self.stillborn >= STILLBORN {
                let reason = format!("{STILLBORN} workers in a row ended before they were ready; the last one: {loss}");
                self.break_all(&reason, Signal::KILL);
            }
        }
        self.effects.departures.push(Departure { seat: number, pid, ending, expected });
    }

    /// Fails every call, ends every worker, and takes no more.
    pub(crate) fn break_all(&mut self, reason: &str, signal: Signal) {
        if self.broken.is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        self.broken = Some(reason.clone());
        self.quota.close();
        self.effects.broken = Some(reason.clone());
        self.effects.moved = true;
        let mut all: Vec<H> = Vec::new();
        for seat in self.seats.iter_mut().flatten() {
            all.append(&mut seat.take_all());
            if let Some(process) = &mut seat.process {
                process.kill_group(signal);
            }
        }
        all.extend(self.backlog.take_all().into_iter().map(|waiting| waiting.ticket));
        for ticket in all {
            self.deliver(ticket, Reply::Broken(reason.clone()));
        }
    }

    /// Once a closing lane has nothing left to do, tells the workers to end.
    pub(crate) fn stop_workers(&mut self) {
        if self.closing && self.outstanding() == 0 {
            for seat in self.seats.iter_mut().flatten().filter(|seat| seat.stage != Stage::Leaving) {
                seat.send_stop();
            }
        }
    }

    /// What is to be done now that the lock is released, by whoever held it.
    pub(crate) fn owed(&mut self, by_keeper: bool) -> Owed {
        let foretold = std::mem::take(&mut self.effects.foretold);
        let owed = Owed {
            ring: std::mem::take(&mut self.effects.moved),
            wake: !by_keeper
                && !self.keeper_called
                && (self.effects.concern_keeper() || !self.effects.words.is_empty()),
            time: foretold && !self.timing,
            alarm: std::mem::take(&mut self.effects.alarm).then_some(self.alarm).flatten(),
        };
        self.keeper_called |= owed.wake;
        self.timing |= owed.time;
        owed
    }

    /// The keeper looks at everything: it takes what was left for it.
    pub(crate) fn keeper_looks(&mut self) {
        (self.keeper_called, self.timing) = (false, false);
    }

    /// Now and then a submitting thread takes in what has arrived, so that a long run of submits neither fills the reply
    /// rings nor places calls by old numbers.
    pub(crate) fn is_time_to_look(&self) -> bool {
        self.counts.submitted.is_multiple_of(64)
    }

    /// Whether any reply has arrived that was not taken in.
    pub(crate) fn has_replies(&self) -> bool {
        self.seats().any(Seat::has_replies)
    }

    /// Whether any worker has said something that was not taken in, and there is room for it.
    pub(crate) fn has_words(&self) -> bool {
        self.effects.words.len() < HEARD && self.seats().any(Seat::has_words)
    }

    /// Whether the keeper may go: no calls, no workers, and no more of either to come.
    pub(crate) fn is_over(&self) -> bool {
        (self.closing || self.broken.is_some())
            && self.seats().next().is_none()
            && self.backlog.is_empty()
            && !self.effects.concern_keeper()
    }
}

/// Asks workers that run out of calls to say so. Returns whether nobody had asked before.
fn want_idle(page: &Page) -> bool {
    use raddle_core::prim::atomic::Ordering::{Relaxed, SeqCst};
    use raddle_core::prim::atomic::fence;
    if page.idle_wanted().load(Relaxed) != 0 {
        return false;
    }
    page.idle_wanted().store(1, SeqCst);
    // Ordering: SeqCst, between the store above and what the caller reads next of the rings. Pairs with the worker's fence in
    // `Bell::prepare` and its SeqCst look at this word: a worker that has not seen the word when it falls asleep has published
    // its last answer, and given back its last request, where the caller sees it.
    fence(SeqCst);
    true
}

#[cfg(test)]
mod tests;
