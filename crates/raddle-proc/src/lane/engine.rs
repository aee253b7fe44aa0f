//! The lane as its users see it: submit, wait, take back, close.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raddle_core::park::{self, Crowd, Patience, Unparker, Wake};
use raddle_core::prim::atomic::Ordering::{Relaxed, SeqCst};
use raddle_core::prim::atomic::{AtomicBool, AtomicU64};
use raddle_core::prim::thread::{self, JoinHandle};
use raddle_core::prim::{Mutex, MutexGuard};
use raddle_core::sched::Quota;
use raddle_shm::futex;
use raddle_shm::heap::Heap;
use rustix::process::Signal;

use super::dispatch::{Dispatch, Elastic, Owed};
use super::keeper::{self, Client};
use super::lead::{Lead, Waited};
use super::link::Page;
use super::post::{Post, Posted};
use super::seat::{Holding, LATE, Seat};
use super::ticket::{OnDeath, Outgoing, SEATS, Spot, Ticket};
use super::words::Words;
use super::zygote::Zygote;
use crate::{Process, with_signals_blocked};

pub use super::dispatch::{Counts, Departure, Report};

/// How a lane behaves.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// What the death of a worker means.
    pub on_death: OnDeath,
    /// The heap of this process, whose pieces calls may name. It was made with [`Heap::create`].
    pub heap: Arc<Heap>,
    /// How many calls may be under way, counting each item of a batch. None: any number.
    pub most: Option<u64>,
    /// So many workers stay when there is nothing to do.
    pub least: usize,
    /// After so long without a call the others are told to end.
    pub idle: Option<Duration>,
}

/// What became of a [`Lane::submit`].
#[derive(Debug)]
pub struct Submit<H> {
    /// One more worker would have something to do at once.
    pub wants_worker: bool,
    /// Tickets of answered calls that the lane is through with, to be dropped where that is allowed.
    pub spent: Vec<H>,
}

/// Why a call was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The lane was closed.
    Closed,
    /// The lane is broken, for this reason.
    Broken(Arc<str>),
    /// So many calls are under way that there is no room for another one: [`Lane::wait_for_place`].
    Full,
}

/// A free seat, and what its worker's process must be given.
#[derive(Debug)]
pub struct Seating {
    /// The number to name in [`Lane::occupy`] or [`Lane::vacate`].
    pub seat: usize,
    /// The link. A copy that the caller hands to the child and then drops.
    pub link: std::os::fd::OwnedFd,
    /// A file for the worker's last words: what is written there is in the [`Loss`](super::Loss). A copy, too.
    pub words: std::os::fd::OwnedFd,
}

/// A process lane, as the [`lane`](crate::lane) module describes it.
pub struct Lane<H> {
    pub(super) page: Page,
    pub(super) post: Posted,
    pub(super) dispatch: Mutex<Dispatch<H>>,
    pub(super) lead: Lead,
    /// How long the leader looks before it sleeps.
    patience: Patience,
    keeper: Mutex<Keeper>,
    heap: Arc<Heap>,
    /// Bytes of the heap that are lent to calls which have not ended.
    lent: Arc<AtomicU64>,
    /// Items of calls that have not ended.
    quota: Arc<Quota>,
    /// Threads that wait for room in the heap, or below the quota.
    crowd: Crowd,
    /// Workers have said something that nobody has shown yet.
    has_words: Arc<AtomicBool>,
    /// What workers are forked from, if they are. Locked under the lock of the dispatch, or alone.
    pub(super) zygote: Mutex<Option<Zygote>>,
}

impl<H> std::fmt::Debug for Lane<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// The keeper thread, and who waits for its end.
#[derive(Default)]
struct Keeper {
    handle: Option<JoinHandle<()>>,
    is_over: bool,
    joiners: Vec<Unparker>,
}

impl<H: Ticket> Lane<H> {
    /// Makes a lane without workers.
    ///
    /// # Errors
    ///
    /// When the system has no memory or no file descriptors for it.
    pub fn new(config: LaneConfig) -> io::Result<Self> {
        let quota = Arc::new(Quota::new(config.most));
        let dispatch =
            Dispatch::new(config.on_death, quota.clone(), Elastic { least: config.least, idle: config.idle });
        let (page, segment) = Page::create()?;
        Ok(Self {
            page,
            post: Posted::new(segment)?,
            lent: dispatch.lent.clone(),
            quota,
            crowd: Crowd::default(),
            has_words: dispatch.has_words.clone(),
            dispatch: Mutex::new(dispatch),
            lead: Lead::default(),
            patience: Patience::new(),
            keeper: Mutex::new(Keeper::default()),
            heap: config.heap,
            zygote: Mutex::default(),
        })
    }

    /// The descriptors that a worker is given of the lane, to be held until it has them.
    ///
    /// # Errors
    ///
    /// When the lane has ended. With a [`seat`](Self::seat) to fill it has not.
    pub fn post(&self) -> io::Result<Arc<Post>> {
        self.post.get().ok_or_else(|| io::Error::other("the lane has ended"))
    }

    /// The descriptor of the heap, for a worker.
    ///
    /// # Panics
    ///
    /// If the heap has none.
    pub fn heap_fd(&self) -> BorrowedFd<'_> {
        self.heap.fd().expect("the heap of a lane was made with a segment of its own")
    }

    /// The heap whose pieces calls may name.
    pub fn heap(&self) -> &Arc<Heap> {
        &self.heap
    }

    /// Makes memory for one more worker. It can be sent calls from now on.
    ///
    /// # Errors
    ///
    /// When the system has no memory, address space or file descriptors for it.
    pub fn seat(&self) -> io::Result<Seating> {
        let seat = Seat::new(self.heap.clone(), self.lent.clone())?;
        let link = seat.link.fd().try_clone_to_owned()?;
        let words = seat.words.try_clone()?;
        let number = self.dispatch.lock().add_seat(seat);
        let number = number.ok_or_else(|| io::Error::other(format!("a lane has at most {SEATS} workers")))?;
        Ok(Seating { seat: number, link, words })
    }

    /// Names the process that a seat's worker runs in, and watches over it.
    ///
    /// # Errors
    ///
    /// When the process cannot be watched. The seat is vacated then and the process is ended.
    pub fn occupy(&self, number: usize, mut process: Process) -> io::Result<()> {
        let mut dispatch = self.dispatch.lock();
        match self.post().and_then(|post| post.watch.add(&process, number)) {
            Ok(true) => {
                if dispatch.broken.is_some() {
                    process.kill_group(Signal::KILL); // it was being started while the lane broke
                }
                if let Some(seat) = dispatch.seat_mut(number) {
                    seat.occupy(process);
                }
                dispatch.refill();
                dispatch.stop_workers();
            }
            Ok(false) => {
                dispatch.bury(number, crate::Ending::Unknown);
            }
            Err(error) => {
                process.kill_group(Signal::KILL);
                dispatch.vacate(number);
                return Err(error);
            }
        }
        self.release(dispatch);
        self.post.wake();
        Ok(())
    }

    /// Gives up a seat whose process could not be started. Its calls go back to the backlog.
    pub fn vacate(&self, number: usize) {
        self.dispatch.lock().vacate(number);
        self.post.wake();
    }

    /// Registers a function, once, under the number that calls then name.
    pub fn define(&self, function: &[u8]) -> u32 {
        self.dispatch.lock().define(function)
    }

    /// Has every worker forget what it has made of an object, which calls have named by this key.
    pub fn forget(&self, key: u64) {
        self.dispatch.lock().forget(key);
    }

    /// Takes in a call. With `must`, also where that are more than there may be.
    ///
    /// # Errors
    ///
    /// When the lane is closed, broken or full; the ticket comes back.
    pub fn submit(&self, ticket: H, out: &Outgoing<'_>, must: bool) -> Result<Submit<H>, (Refusal, H)> {
        let mut dispatch = self.dispatch.lock();
        if let Some(reason) = &dispatch.broken {
            return Err((Refusal::Broken(reason.clone()), ticket));
        }
        if dispatch.closing {
            return Err((Refusal::Closed, ticket));
        }
        let items = u64::from(ticket.items());
        if must {
            self.quota.force(items);
        } else if !self.quota.enter(items) {
            return Err((Refusal::Full, ticket));
        }
        let wants_worker = dispatch.submit(ticket, out, &self.page);
        if dispatch.is_time_to_look() {
            dispatch.drain();
        }
        let spent = std::mem::take(&mut dispatch.graveyard);
        self.release(dispatch);
        Ok(Submit { wants_worker, spent })
    }

    /// Takes in a piece of a map. Its payload, of so many bytes, is the ticket's, and `out` has no parts. Full lanes take it all the same.
    ///
    /// # Errors
    ///
    /// When the lane is closed or broken; the ticket comes back.
    pub fn submit_piece(&self, ticket: H, out: &Outgoing<'_>, bytes: usize) -> Result<Submit<H>, (Refusal, H)> {
        let mut dispatch = self.dispatch.lock();
        if let Some(reason) = &dispatch.broken {
            return Err((Refusal::Broken(reason.clone()), ticket));
        }
        if dispatch.closing {
            return Err((Refusal::Closed, ticket));
        }
        self.quota.force(u64::from(ticket.items()));
        let wants_worker = dispatch.submit_piece(ticket, out, bytes, &self.page);
        let spent = std::mem::take(&mut dispatch.graveyard);
        self.release(dispatch);
        Ok(Submit { wants_worker, spent })
    }

    /// Has a piece that was handed in grow by an item: `grow` does it, and returns by how many bytes. False, and nothing was done:
    /// it is not what the next call would lie behind, or the lane takes no more.
    pub fn extend_piece(&self, ticket: &H, grow: &mut dyn FnMut() -> usize) -> bool {
        let mut dispatch = self.dispatch.lock();
        if dispatch.broken.is_some() || dispatch.closing || !dispatch.is_last(ticket) {
            return false;
        }
        self.quota.force(1);
        dispatch.extend_piece(grow);
        self.release(dispatch);
        true
    }

    /// Counts a call that failed before it could be handed in.
    pub fn count_unsent(&self) {
        self.dispatch.lock().count_unsent();
    }

    /// Why the lane takes no more calls, if it takes no more.
    pub fn refusal(&self) -> Option<Refusal> {
        let dispatch = self.dispatch.lock();
        match &dispatch.broken {
            Some(reason) => Some(Refusal::Broken(reason.clone())),
            None => dispatch.closing.then_some(Refusal::Closed),
        }
    }

    /// Takes back a call that has not started, and gives its ticket back.
    pub fn take_back(&self, ticket: &H) -> Option<H> {
        let mut dispatch = self.dispatch.lock();
        let taken = dispatch.take_back(ticket);
        if dispatch.closing {
            dispatch.stop_workers();
        }
        drop(dispatch);
        self.wake_crowd();
        taken
    }

    /// Takes back what has not started and is of this kind, pieces also in part, and gives the tickets back.
    pub fn take_back_where(&self, is_wanted: &dyn Fn(&H) -> bool) -> Vec<H> {
        let mut dispatch = self.dispatch.lock();
        let taken = dispatch.take_back_where(is_wanted);
        if dispatch.closing {
            dispatch.stop_workers();
        }
        drop(dispatch);
        self.wake_crowd();
        taken
    }

    /// Ends the worker that runs this call, and with it the call. False: no worker runs it.
    ///
    /// The call has ended when the worker is dead: [`wait`](Self::wait).
    pub fn stop(&self, ticket: &H) -> bool {
        let mut dispatch = self.dispatch.lock();
        dispatch.drain();
        let stopped = dispatch.stop(ticket);
        self.release(dispatch);
        stopped
    }

    /// Whether a worker has begun this call and not answered it.
    pub fn has_started(&self, ticket: &H) -> bool {
        self.dispatch.lock().has_started(ticket)
    }

    /// From now on the keeper sees to it that somebody is told when this call ends. To be called after the step
    /// `Event::Watch` of its life.
    pub fn watch(&self, ticket: &H) {
        let must_look = self.dispatch.lock().watch(ticket);
        if must_look {
            self.post.wake();
        }
    }

    /// Sleeps until the call's life is over. To be called after the step `Event::Wait` of its life, with `deliver` of
    /// the ticket unparking this thread's [parker](park::with_current).
    ///
    /// # Stopping
    ///
    /// The call goes on when the wait ends early.
    pub fn wait(&self, ticket: &H, deadline: Option<Instant>) -> Waited {
        self.wait_for(Some(ticket), &|| ticket.life().load().outcome().is_some(), deadline)
    }

    /// Sleeps until `is_done` says so; it is asked whenever this thread was unparked or replies have come in. With a
    /// ticket, the wait is for this call alone, and the workers do not ring earlier.
    pub fn wait_for(&self, ticket: Option<&H>, is_done: &dyn Fn() -> bool, deadline: Option<Instant>) -> Waited {
        // Rule 6: a follower disturbs the leader, whose alarms must serve it too.
        let disturb = || _ = self.page.bell().ring();
        self.lead.wait(is_done, deadline, &disturb, &mut || self.lead_until(ticket, is_done, deadline))
    }

    /// Sleeps until so many bytes more stay below the limit of the heap, or no call of this lane has leases of it any more: then
    /// nothing that happens here makes room.
    pub fn wait_for_room(&self, len: usize, deadline: Option<Instant>) -> Waited {
        self.wait_in_crowd(&|| self.heap.has_room(len) || self.lent.load(SeqCst) == 0, deadline)
    }

    /// Sleeps until there may be room for one more call, or the lane takes no more.
    pub fn wait_for_place(&self, deadline: Option<Instant>) -> Waited {
        self.wait_in_crowd(&|| self.quota.has_room(), deadline)
    }

    /// Something has changed that the crowd may wait for: also the leader may be one of it.
    fn wake_crowd(&self) {
        self.crowd.wake();
        self.page.bell().ring();
    }

    fn wait_in_crowd(&self, is_done: &dyn Fn() -> bool, deadline: Option<Instant>) -> Waited {
        let _in_crowd = self.crowd.enter(park::with_current(park::Parker::unparker));
        self.wait_for(None, is_done, deadline)
    }

    /// Whether this thread is the lane's keeper, which must not wait for what only it can do.
    pub fn is_keeper(&self) -> bool {
        let keeper = self.keeper.lock();
        keeper.handle.as_ref().is_some_and(|handle| handle.thread().id() == thread::current().id())
    }

    fn lead_until(&self, ticket: Option<&H>, is_done: &dyn Fn() -> bool, deadline: Option<Instant>) -> Waited {
        loop {
            let mut dispatch = self.dispatch.lock();
            dispatch.advance();
            if is_done() {
                self.release(dispatch);
                return Waited::Done;
            }
            dispatch.effects.moved = false; // the leader itself is looking
            let sleep = self.page.bell().prepare();
            self.set_alarms(&dispatch, ticket);
            let found = dispatch.has_replies();
            self.release(dispatch);
            if found {
                self.page.bell().cancel(sleep);
                continue;
            }
            let timeout = match deadline {
                None => None,
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if left > Duration::ZERO => Some(left),
                    _ => {
                        self.page.bell().cancel(sleep);
                        return Waited::TimedOut;
                    }
                },
            };
            if matches!(self.page.bell().sleep_patiently(sleep, timeout, &self.patience), futex::Wait::Interrupted) {
                return if is_done() { Waited::Done } else { Waited::Interrupted };
            }
        }
    }

    /// Rule 5: says for which counts the leader wants to be woken.
    fn set_alarms(&self, dispatch: &Dispatch<H>, ticket: Option<&H>) {
        let mine = match ticket.map(|ticket| ticket.place().get()) {
            Some(Spot::Seat { seat, ordinal }) if !self.lead.has_followers() => Some((seat, ordinal)),
            _ => None,
        };
        for number in dispatch.seat_numbers() {
            let Some(seat) = dispatch.seat(number) else { continue };
            match mine {
                Some((mine, ordinal)) if mine == number => seat.link.leader_alarm().set(ordinal + 1),
                Some(_) => seat.link.leader_alarm().clear(),
                None => seat.link.leader_alarm().set(seat.next_call() + 1),
            }
        }
    }

    /// Makes the leader look again: something it waits for has happened elsewhere than in a worker.
    pub fn nudge(&self) {
        self.page.bell().ring();
    }

    /// Releases the lock, and does what a change owes.
    fn release(&self, mut dispatch: MutexGuard<'_, Dispatch<H>>) {
        let owed = dispatch.owed(false);
        self.set_alarm(owed);
        drop(dispatch);
        self.pay(owed);
    }

    /// Does, without the lock, what a change owes.
    pub(super) fn pay(&self, owed: Owed) {
        if owed.ring {
            self.page.bell().ring();
        }
        if owed.wake {
            self.post.wake();
        }
        if owed.time {
            self.post.wake_in(LATE);
        }
        self.crowd.wake();
    }

    /// Sets the keeper's alarm. Under the dispatch's lock: a later one must not take the place of an earlier one.
    pub(super) fn set_alarm(&self, owed: Owed) {
        if let Some(at) = owed.alarm {
            self.post.alarm_in(at.saturating_duration_since(Instant::now()));
        }
    }

    /// Takes in what has arrived, without waiting.
    pub fn look(&self) {
        let mut dispatch = self.dispatch.lock();
        dispatch.advance();
        self.release(dispatch);
    }

    /// What workers have said and nobody has shown yet, in order. Whoever takes it shows it before anything that it takes later, and
    /// comes again until nothing is left: then everything has been shown.
    pub fn words(&self) -> Vec<Words> {
        let mut dispatch = self.dispatch.lock();
        let words = std::mem::take(&mut dispatch.effects.words);
        if words.is_empty() {
            self.has_words.store(false, Relaxed);
        } else {
            dispatch.drain(); // there may be more, for which there was no room
        }
        self.release(dispatch);
        words
    }

    /// Whether there may be something to show, or somebody shows it in this moment.
    pub fn has_words(&self) -> bool {
        // Ordering: Relaxed. Whoever has seen a call end has seen what was stored before that.
        self.has_words.load(Relaxed)
    }

    /// Tickets of answered calls that the lane is through with, to be dropped where that is allowed.
    pub fn spent(&self) -> Vec<H> {
        std::mem::take(&mut self.dispatch.lock().graveyard)
    }

    /// Takes no more calls. What is there is still done, unless it has not started and `take_back` is set: then
    /// it is returned. Workers end when nothing is left.
    pub fn close(&self, take_back: bool) -> Vec<H> {
        let mut dispatch = self.dispatch.lock();
        dispatch.closing = true;
        self.quota.close();
        let taken = if take_back { dispatch.take_back_all() } else { Vec::new() };
        dispatch.stop_workers();
        drop(dispatch);
        self.wake_crowd();
        self.post.wake();
        taken
    }

    /// Ends the lane at once: every call fails for this reason, every worker gets the signal, and what it has started.
    pub fn destroy(&self, reason: &str, signal: Signal) {
        let mut dispatch = self.dispatch.lock();
        dispatch.break_all(reason, signal);
        for number in dispatch.seat_numbers().collect::<Vec<_>>() {
            if let Some(process) = dispatch.seat_mut(number).and_then(|seat| seat.process.as_mut()) {
                process.kill_group(signal); // also where the lane was broken before
            }
        }
        if signal == Signal::KILL
            && let Some(zygote) = self.zygote.lock().as_ref()
        {
            zygote.wake();
        }
        self.release(dispatch);
        self.post.wake();
    }

    /// Who has what of shared memory.
    pub fn holdings(&self) -> Vec<Holding> {
        self.dispatch.lock().holdings()
    }

    /// Bytes of calls and answers since the lane was made, with the buffers that they name.
    pub fn bytes(&self) -> u64 {
        self.dispatch.lock().bytes()
    }

    /// Numbers since the lane was made.
    pub fn counts(&self) -> Counts {
        self.dispatch.lock().counts()
    }

    /// The same, and those of each worker.
    pub fn report(&self) -> Report {
        let mut dispatch = self.dispatch.lock();
        let report = dispatch.report();
        self.release(dispatch);
        report
    }

    /// Seats and process numbers of the workers.
    pub fn processes(&self) -> Vec<(usize, u32)> {
        self.dispatch.lock().processes()
    }

    /// Workers that exist or are being started.
    pub fn seats(&self) -> usize {
        self.dispatch.lock().seat_count()
    }

    /// Whether there are more calls than workers that take them.
    pub fn wants_worker(&self) -> bool {
        self.dispatch.lock().wants_worker()
    }

    /// Calls that are not answered yet.
    pub fn outstanding(&self) -> usize {
        self.dispatch.lock().outstanding()
    }

    /// Starts the keeper, if it has not been started. It ends by itself when the lane is closed or broken and its last
    /// worker has ended.
    ///
    /// # Errors
    ///
    /// When the system has no more threads.
    pub fn start_keeper(self: &Arc<Self>, client: impl Client<H>) -> io::Result<()> {
        let mut keeper = self.keeper.lock();
        if keeper.handle.is_some() || keeper.is_over {
            return Ok(());
        }
        let lane = self.clone();
        let builder = thread::Builder::new().name("raddle-keeper".into());
        keeper.handle = Some(with_signals_blocked(|| builder.spawn(move || lane.keep(&client)))?);
        Ok(())
    }

    /// Whether a keeper was started and has not ended.
    pub fn is_kept(&self) -> bool {
        let keeper = self.keeper.lock();
        keeper.handle.is_some() && !keeper.is_over
    }

    fn keep(&self, client: &impl Client<H>) {
        /// Says that the keeper is over also when it panics: whoever joins must not wait for ever, nor whoever waits for a
        /// call of a worker that nobody watches.
        struct Over<'a, H: Ticket> {
            lane: &'a Lane<H>,
            has_panicked: bool,
        }
        impl<H: Ticket> Drop for Over<'_, H> {
            fn drop(&mut self) {
                if self.has_panicked {
                    self.lane.destroy("the thread that watched over the workers has panicked", Signal::KILL);
                }
                let mut keeper = self.lane.keeper.lock();
                keeper.is_over = true;
                keeper.joiners.drain(..).for_each(|joiner| joiner.unpark());
            }
        }
        let mut over = Over { lane: self, has_panicked: true };
        keeper::run(self, client);
        self.post.give_up();
        over.has_panicked = false;
    }

    /// Sleeps until the keeper has ended: then every worker has, too. At once if it was never started, and in the keeper itself,
    /// where it says that time is up.
    ///
    /// # Stopping
    ///
    /// The keeper goes on when the wait ends early.
    pub fn join(&self, deadline: Option<Instant>) -> Waited {
        if self.is_keeper() {
            return Waited::TimedOut; // it cannot wait for itself
        }
        park::with_current(|parker| {
            let me = parker.unparker();
            loop {
                let mut keeper = self.keeper.lock();
                keeper.joiners.retain(|other| !other.same_as(&me));
                if keeper.is_over || keeper.handle.is_none() {
                    let handle = keeper.handle.take();
                    drop(keeper);
                    if let Some(handle) = handle.filter(|handle| handle.thread().id() != thread::current().id()) {
                        // It has done all it does; a panic in it was reported by the panic hook.
                        let _ = handle.join();
                    }
                    return Waited::Done;
                }
                keeper.joiners.push(me.clone());
                drop(keeper);
                match parker.park(deadline) {
                    Wake::Unparked => {}
                    Wake::TimedOut => return Waited::TimedOut,
                    Wake::Interrupted => return Waited::Interrupted,
                }
            }
        })
    }
}
