//! A channel, as this process has it: one for each channel, whatever number of ends there are here.
//!
//! # Rules
//!
//! 1. A process joins a channel once. Its ends count themselves there; a channel without an end in this process is left as soon as the last
//!    buffer is gone that lies in it.
//! 2. An end that is sent to another process is counted by its *transit* until it is there. The process that sends it keeps the channel
//!    until then, also if it has no end of its own any more: the receiver opens its descriptor.
//! 3. Before a fork each side of which there are ends here is in transit; the child joins, counts the ends that it has inherited, and
//!    ends the transit. So at no moment is an end counted nowhere. The process that is to bring an end is watched (a forked one by a pipe of
//!    which it has the other end): if it ends before, the end never arrives.
//! 4. Before a thread sleeps, every other process that has the channel is watched: whoever is killed is buried, and everybody looks again.
//!    Who joins later wakes the sleepers, who watch it, too.
//! 5. Who waits for the channel alone sleeps at its gong. Who waits for several things, and every task, stands in the line of an ear, whose
//!    listener is there for as long as the channel is joined, at most. It looks, and takes nothing.

use std::collections::HashMap;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Instant;

use pyo3::prelude::*;
use raddle_core::park::{Patience, Waiter};
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};
use raddle_core::prim::{Mutex, thread};
use raddle_proc::lane::Waited;
use raddle_proc::sentry::{Post, Sentry, started_at};
use raddle_proc::with_signals_blocked;
use raddle_shm::channel::{Member, Other, Side, Transit};
use raddle_shm::futex::Wait;
use raddle_shm::{Ear, Gong, Intention, News};

use crate::errors;
use crate::of_process::OfProcess;
use crate::unit::{Elsewhere, current_ident};

/// Which file it is.
pub(super) type Identity = (u64, u64);

pub(super) struct Joined {
    pub(super) member: Arc<Member>,
    pub(super) identity: Identity,
    /// Ends of this process that are counted, of each side.
    open: [AtomicU32; 2],
    patience: [Patience; 2],
    /// By what is wanted.
    ears: [Arc<Ear>; 3],
    /// What was new when it was looked at last who there is.
    seen: AtomicU64,
    /// Who is watched. In a child that was forked since it is the parent's.
    watched: ManuallyDrop<Mutex<Watched>>,
    /// Ends that are on their way with a process: it is watched, and if it ends before they have arrived, they never will.
    carried: ManuallyDrop<Mutex<Vec<Carried>>>,
}

/// The others, each with its watch, unless it had ended before.
type Watched = HashMap<Other, Option<Post>>;
/// An end on its way, and the watch of who brings it.
type Carried = (Transit, Option<Arc<Post>>);
type Channels = HashMap<Identity, Weak<Joined>>;

/// The channels of this process.
static CHANNELS: OfProcess<Mutex<Channels>> = OfProcess::new(Mutex::default);
/// Channels that are kept because of ends that are on their way (rule 2).
static LINGERING: OfProcess<Mutex<Vec<Arc<Joined>>>> = OfProcess::new(Mutex::default);
static SENTRY: OfProcess<Mutex<Option<Arc<Sentry>>>> = OfProcess::new(Mutex::default);

/// To be called in a forked child: what was there is the parent's.
pub(crate) fn forked() {
    CHANNELS.renew();
    LINGERING.renew();
    SENTRY.renew();
}

/// This process, as other processes know it.
fn myself() -> (u32, u64) {
    let pid = std::process::id();
    (pid, started_at(pid).unwrap_or(0))
}

fn identity_of(fd: impl AsFd) -> PyResult<Identity> {
    let stat = rustix::fs::fstat(fd).map_err(|error| errors::of_system(error.into()))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Runs `work` on the channels of this process.
fn with_channels<R>(work: impl FnOnce(&mut Channels) -> R) -> R {
    work(&mut CHANNELS.get().lock())
}

fn sentry() -> PyResult<Arc<Sentry>> {
    find_sentry().map_err(errors::of_system)
}

fn find_sentry() -> io::Result<Arc<Sentry>> {
    let mut sentry = SENTRY.get().lock();
    if let Some(sentry) = &*sentry {
        return Ok(sentry.clone());
    }
    let made = Sentry::new()?;
    *sentry = Some(made.clone());
    Ok(made)
}

/// Lets go of the channels whose ends have arrived.
pub(super) fn reap() {
    let mut kept = LINGERING.get().lock();
    let gone: Vec<_> = kept.extract_if(.., |joined| !joined.member.has_under_way()).collect();
    drop(kept);
    drop(gone);
}

impl Joined {
    /// Makes a channel.
    pub(super) fn create(capacity: usize, limit: Option<usize>) -> PyResult<Arc<Self>> {
        reap();
        let (pid, start) = myself();
        let member = Member::create("raddle-channel", capacity, limit, pid, start).map_err(errors::of_system)?;
        let identity = identity_of(&member)?;
        let joined = Self::new(member, identity);
        with_channels(|channels| channels.insert(identity, Arc::downgrade(&joined)));
        Ok(joined)
    }

    /// Joins a channel, or finds it, if this process has joined it.
    pub(super) fn of_descriptor(fd: OwnedFd) -> PyResult<Arc<Self>> {
        reap();
        let identity = identity_of(&fd)?;
        with_channels(|channels| {
            channels.retain(|_, joined| joined.strong_count() > 0);
            if let Some(joined) = channels.get(&identity).and_then(Weak::upgrade) {
                return Ok(joined);
            }
            let (pid, start) = myself();
            let joined = Self::new(Member::open(fd, pid, start).map_err(errors::of_system)?, identity);
            channels.insert(identity, Arc::downgrade(&joined));
            Ok(joined)
        })
    }

    /// The same channel, in a child that was forked since this process joined it.
    pub(super) fn in_child(&self) -> PyResult<Arc<Self>> {
        with_channels(|channels| {
            if let Some(joined) = channels.get(&self.identity).and_then(Weak::upgrade) {
                return Ok(joined);
            }
            let (pid, start) = myself();
            let joined = Self::new(self.member.rejoin(pid, start).map_err(errors::of_system)?, self.identity);
            channels.insert(self.identity, Arc::downgrade(&joined));
            Ok(joined)
        })
    }

    fn new(member: Member, identity: Identity) -> Arc<Self> {
        Arc::new(Self {
            member: Arc::new(member),
            identity,
            open: [AtomicU32::new(0), AtomicU32::new(0)],
            patience: [Patience::new(), Patience::new()],
            ears: std::array::from_fn(|_| Arc::new(Ear::new())),
            seen: AtomicU64::new(u64::MAX),
            watched: ManuallyDrop::new(Mutex::default()),
            carried: ManuallyDrop::new(Mutex::default()),
        })
    }

    /// Counts one more end.
    pub(super) fn add(&self, side: Side) {
        self.member.add(side);
        self.open[side as usize].fetch_add(1, Relaxed);
    }

    /// Counts one less.
    pub(super) fn remove(self: &Arc<Self>, side: Side) {
        // A child that was forked without the hooks has ends that were never counted.
        if self.open[side as usize].fetch_update(Relaxed, Relaxed, |open| open.checked_sub(1)).is_err() {
            return;
        }
        self.member.remove(side);
        let is_last = self.open.iter().all(|open| open.load(Relaxed) == 0);
        if is_last && self.member.has_under_way() {
            LINGERING.get().lock().push(self.clone());
        }
    }

    /// Takes out what nobody will receive any more, for its memory.
    pub(super) fn drain(&self) {
        // One that is just being sent may stay. Whoever has overwritten the memory has it stay, too.
        for _ in 0..self.member.capacity() {
            let Ok(Some(_)) = self.member.receive() else { return };
        }
    }

    /// Rule 4.
    pub(super) fn watch(self: &Arc<Self>) -> io::Result<()> {
        let news = self.member.news();
        if self.seen.load(Relaxed) == news {
            return Ok(());
        }
        let mut watched = self.watched.lock();
        let sentry = find_sentry()?;
        let others = self.member.others();
        let mut before = std::mem::take(&mut *watched);
        for (other, pid, start) in others {
            let post = match before.remove(&other) {
                Some(post) => post,
                None => {
                    let me = Arc::downgrade(self);
                    let act = move || {
                        if let Some(me) = me.upgrade() {
                            me.member.bury(other);
                        }
                    };
                    sentry.watch(pid, start, Box::new(act))?
                }
            };
            watched.insert(other, post);
        }
        self.seen.store(news, Relaxed);
        drop(watched);
        drop(before);
        Ok(())
    }

    /// An end is on its way with this process, which was just started.
    pub(super) fn carry(self: &Arc<Self>, transit: Transit, pid: u32) -> PyResult<()> {
        let me = Arc::downgrade(self);
        let act = move || {
            if let Some(me) = me.upgrade() {
                me.member.arrived(transit);
            }
        };
        let post = sentry()?.watch(pid, started_at(pid), Box::new(act)).map_err(errors::of_system)?;
        self.keep_post(transit, post.map(Arc::new));
        Ok(())
    }

    fn keep_post(&self, transit: Transit, post: Option<Arc<Post>>) {
        let mut carried = self.carried.lock();
        let there: Vec<_> = carried.extract_if(.., |(transit, _)| !self.member.is_under_way(*transit)).collect();
        carried.push((transit, post));
        drop(carried);
        drop(there);
    }

    /// Looks for a moment whether a side had better try.
    pub(super) fn look(&self, side: Side) -> bool {
        self.look_until(side, || self.member.is_ready(side))
    }

    /// Looks for a moment, as long as it pays for that side.
    pub(super) fn look_until(&self, side: Side, is_ready: impl Fn() -> bool) -> bool {
        self.patience[side as usize].look(is_ready)
    }

    /// Where who waits for this sleeps.
    pub(super) fn gong(&self, wanted: Wanted) -> &Gong {
        gong_of(&self.member, wanted)
    }

    /// Whether there is no use in sleeping: the other side is gone, or there are processes that nobody here watches.
    pub(super) fn is_in_vain(&self, side: Side) -> bool {
        self.member.is_closed(side.other()) || self.seen.load(Relaxed) != self.member.news()
    }

    /// Joins the line of those who wait elsewhere, too. Look after this; then [`hear`](Self::hear), or [`leave`](Self::leave).
    pub(super) fn join(&self, wanted: Wanted, waiter: &Arc<Waiter>, first: bool) {
        self.ears[wanted as usize].join(waiter, first, &self.gong(wanted).prepare());
    }

    /// Sees to it that somebody listens, for who has joined the line and found nothing.
    pub(super) fn hear(self: &Arc<Self>, wanted: Wanted) -> io::Result<()> {
        let ear = &self.ears[wanted as usize];
        if !ear.needs_listener() {
            return Ok(());
        }
        let (me, member, there) = (Arc::downgrade(self), self.member.clone(), ear.clone());
        let listen = move || {
            let gong = gong_of(&member, wanted);
            there.listen(gong, || me.upgrade().map_or(News::Nothing, |me| me.news_for(wanted)));
        };
        // Signals are for the threads of the program.
        let started = with_signals_blocked(|| thread::Builder::new().name("raddle-ear".into()).spawn(listen));
        if started.is_err() {
            ear.has_no_listener();
        }
        started.map(drop)
    }

    /// What a listener finds.
    fn news_for(self: &Arc<Self>, wanted: Wanted) -> News {
        // Who cannot watch the others finds out why when it tries to.
        if self.is_in_vain(wanted.side()) && (self.watch().is_err() || self.member.is_closed(wanted.side().other())) {
            News::All
        } else if wanted == Wanted::Space {
            News::Perhaps
        } else if self.member.is_ready(wanted.side()) {
            News::Work
        } else {
            News::Nothing
        }
    }

    /// Leaves the line. `true`: whoever was called there has to [answer](Self::answer), once it has looked.
    pub(super) fn leave(&self, wanted: Wanted, waiter: &Arc<Waiter>) -> bool {
        // In a child that was forked since, the line is the parent's.
        self.member.is_mine() && self.ears[wanted as usize].leave(waiter)
    }

    /// What is there now is for others.
    pub(super) fn answer(&self, wanted: Wanted, waiter: &Arc<Waiter>) {
        if self.member.is_mine() {
            let has_work = || wanted != Wanted::Space && self.member.is_ready(wanted.side());
            self.ears[wanted as usize].answer(waiter, self.gong(wanted), has_work);
        }
    }

    /// Has all threads and tasks of this process look that wait at a side: an end was closed.
    pub(super) fn call_all(&self, side: Side) {
        for wanted in [Wanted::Item, Wanted::Slot, Wanted::Space] {
            if wanted.side() == side && self.member.is_mine() {
                self.ears[wanted as usize].call_all();
                self.gong(wanted).ring_all();
            }
        }
    }

    /// Sleeps once. The caller tries again, whatever the answer is.
    pub(super) fn sleep(
        &self,
        wanted: Wanted,
        intention: &Intention,
        until: Option<Instant>,
        elsewhere: &Elsewhere,
    ) -> Waited {
        if elsewhere.has_due_orders() {
            return Waited::Interrupted;
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match self.gong(wanted).sleep(intention, left) {
            Wait::Woken | Wait::Changed if elsewhere.has_due_orders() => Waited::Interrupted,
            Wait::Woken | Wait::Changed => Waited::Done,
            Wait::TimedOut => Waited::TimedOut,
            Wait::Interrupted => Waited::Interrupted,
        }
    }
}

fn gong_of(member: &Member, wanted: Wanted) -> &Gong {
    match wanted {
        Wanted::Item => member.gong(Side::Receive),
        Wanted::Slot => member.gong(Side::Send),
        Wanted::Space => member.space(),
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if self.member.is_mine() {
            for wanted in [Wanted::Item, Wanted::Slot, Wanted::Space] {
                self.ears[wanted as usize].close(self.gong(wanted));
            }
        }
        // Else the posts are the parent's, and the lock of its sentry may be held by nobody.
        if self.member.is_mine() {
            // SAFETY: it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.watched) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.carried) };
        }
    }
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A message.
    Item,
    /// A free slot.
    Slot,
    /// Room for a long message.
    Space,
}

impl Wanted {
    pub(super) fn side(self) -> Side {
        match self {
            Self::Item => Side::Receive,
            Self::Slot | Self::Space => Side::Send,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Item => "a message in a shared channel",
            Self::Slot | Self::Space => "room in a shared channel",
        }
    }
}

/// What is in transit to a child, and the pipe whose writing end the child has until it has arrived.
#[derive(Default)]
struct Fork {
    under_way: Vec<(Arc<Joined>, Side, Transit)>,
    pipe: Option<(OwnedFd, OwnedFd)>,
}

/// The forks that threads of this process are about to make, by thread.
static FORKING: Mutex<Vec<(u64, Fork)>> = Mutex::new(Vec::new());

/// To be called before a fork (rule 3).
#[pyfunction]
pub(crate) fn channels_before_fork() -> PyResult<()> {
    let channels: Vec<_> = with_channels(|channels| channels.values().filter_map(Weak::upgrade).collect());
    let mut fork = Fork::default();
    for joined in channels {
        for side in [Side::Send, Side::Receive] {
            if joined.open[side as usize].load(Relaxed) > 0
                && let Some(transit) = joined.member.dispatch(side)
            {
                fork.under_way.push((joined.clone(), side, transit));
            }
        }
    }
    if fork.under_way.is_empty() {
        return Ok(());
    }
    fork.pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok();
    FORKING.lock().push((current_ident(), fork));
    Ok(())
}

fn take_fork() -> Option<Fork> {
    let (me, mut forking) = (current_ident(), FORKING.lock());
    let mine = forking.iter().position(|(ident, _)| *ident == me)?;
    Some(forking.swap_remove(mine).1)
}

/// To be called after a fork in the process that has forked.
#[pyfunction]
pub(crate) fn channels_after_fork() -> PyResult<()> {
    let Some(Fork { under_way, pipe }) = take_fork() else { return Ok(()) };
    // Without a pipe, and without a sentry, nobody will know if the child is killed before it has begun.
    let Some((reading, writing)) = pipe else { return Ok(()) };
    drop(writing);
    let carried: Vec<_> = under_way.iter().map(|(joined, _, transit)| (Arc::downgrade(joined), *transit)).collect();
    let act = move || {
        for (joined, transit) in carried {
            if let Some(joined) = joined.upgrade() {
                joined.member.arrived(transit);
            }
        }
    };
    let post = sentry()?.watch_pipe(reading, Box::new(act)).map_err(errors::of_system)?.map(Arc::new);
    for (joined, _, transit) in under_way {
        joined.keep_post(transit, post.clone());
    }
    Ok(())
}

/// To be called in a forked child, after [`forked`](runtime::forked): counts the ends that it has inherited.
#[pyfunction]
pub(crate) fn channels_in_child() -> PyResult<()> {
    let mine = take_fork();
    for (_, Fork { under_way, pipe }) in FORKING.lock().drain(..) {
        // Of another thread, which does not exist here. Its pipe is closed.
        std::mem::forget(under_way);
        drop(pipe);
    }
    let Some(Fork { under_way, pipe }) = mine else { return Ok(()) };
    let mut result = Ok(());
    for (joined, side, transit) in under_way {
        match joined.in_child() {
            Ok(here) => {
                for _ in 0..joined.open[side as usize].load(Relaxed) {
                    here.add(side);
                }
                here.member.arrived(transit);
                INHERITED.lock().get_or_insert_default().push(here);
            }
            Err(error) => {
                joined.member.arrived(transit);
                result = Err(error);
            }
        }
        std::mem::forget(joined);
    }
    drop(pipe);
    result
}

/// In a forked child: the channels that it has inherited, until its ends have taken them up.
static INHERITED: Mutex<Option<Vec<Arc<Joined>>>> = Mutex::new(None);

/// To be called in a forked child when every end that it has inherited has taken up its channel.
#[pyfunction]
pub(crate) fn channels_taken_up() {
    let inherited = INHERITED.lock().take();
    drop(inherited);
}
