//! The threads that wait at one primitive, in the order in which they came.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use super::{Unparker, Wake, epoch, with_current};
use crate::prim::Arc;
use crate::prim::atomic::AtomicBool;
use crate::prim::atomic::Ordering::{AcqRel, Acquire};

/// One wait: of a thread, or of a task that a bell wakes.
///
/// It may stand in several lines at once, for who waits for the first of several things. Then it is called by one of them at most:
/// the others find that it was called, and call the next in their line.
///
/// # Examples
///
/// ```
/// use raddle_core::park::Wake;
/// use raddle_core::park::Line;
/// use std::time::Instant;
///
/// let mut line = Line::default();
/// let waiter = line.join(None);
/// assert_eq!(waiter.park(Some(Instant::now())), Wake::TimedOut);
/// line.call().wake();
/// assert_eq!(waiter.park(Some(Instant::now())), Wake::Unparked);
/// assert!(!line.leave(&waiter), "it was called");
/// ```
pub struct Waiter {
    /// Set once, by the caller, under the mutex of the line.
    called: AtomicBool,
    sleeper: Sleeper,
}

/// Who is woken.
enum Sleeper {
    Thread(Unparker),
    Task(Box<dyn Fn() + Send + Sync>),
}

impl Waiter {
    /// A waiter of this thread.
    pub fn new() -> Arc<Self> {
        Self::of(Sleeper::Thread(with_current(|parker| parker.unparker())))
    }

    /// A waiter of something that does not sleep in a thread. `ring` is called once it has been called, by the thread that wakes it and
    /// outside of all locks of the house.
    pub fn of_task(ring: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Self::of(Sleeper::Task(ring))
    }

    fn of(sleeper: Sleeper) -> Arc<Self> {
        Arc::new(Self { called: AtomicBool::new(false), sleeper })
    }

    /// To be called under the mutex of a line it stood in. `false`: another line has called it.
    fn call(&self) -> bool {
        // Ordering: AcqRel. Pairs with the Acquire in `is_called`: what the caller changed before is seen.
        !self.called.swap(true, AcqRel)
    }

    fn wake(&self) {
        match &self.sleeper {
            Sleeper::Thread(unparker) => unparker.unpark(),
            Sleeper::Task(ring) => ring(),
        }
    }

    /// Whether it was called. It stays so.
    #[inline]
    pub fn is_called(&self) -> bool {
        // Ordering: Acquire. Pairs with the one who calls.
        self.called.load(Acquire)
    }

    /// Sleeps until it is called, or for another of the reasons for which a park ends. To be used on the thread that made it.
    ///
    /// [`Wake::Unparked`] means that it was called: tokens of other waits are taken and forgotten. It sleeps at once: whoever calls often
    /// holds what the woken thread needs next (an interpreter, the lock of a condition) for a while.
    ///
    /// # Stopping
    ///
    /// Whoever stops the thread notes it where the thread will look, and interrupts the park as for
    /// [`Parker::park`](crate::park::Parker::park).
    pub fn park(&self, deadline: Option<Instant>) -> Wake {
        with_current(|parker| {
            loop {
                if self.is_called() {
                    return Wake::Unparked;
                }
                match parker.park_at_once(deadline) {
                    Wake::Unparked => {}
                    other => return other,
                }
            }
        })
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("called", &self.is_called()).finish_non_exhaustive()
    }
}

/// What an attempt has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::Lock;
///
/// let lock = Lock::new();
/// assert!(lock.acquire(None).done().is_some());
/// assert!(lock.acquire(None).done().is_none(), "it would have to wait");
/// ```
#[derive(Debug)]
#[must_use = "a waiter that is dropped in its line swallows a call: park it, then try again or leave"]
pub enum Attempt<T = ()> {
    /// It has what it wanted.
    Done(T),
    /// It stands in line.
    Wait(Arc<Waiter>),
}

impl<T> Attempt<T> {
    /// What it has, if it has it.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Wait(_) => None,
        }
    }
}

/// Waiters that were called and are still to be woken, once the mutex is released.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::Mutex;
/// use raddle_core::park::Line;
///
/// let line = Mutex::new(Line::default());
/// let waiter = line.lock().join(None);
/// let called = line.lock().call();
/// assert!(waiter.is_called() && !called.is_nobody());
/// called.wake();
/// ```
#[derive(Debug, Default)]
#[must_use = "whoever was called must be woken"]
pub struct Called(Few);

#[derive(Debug, Default)]
enum Few {
    #[default]
    Nobody,
    One(Arc<Waiter>),
    #[allow(clippy::box_collection, reason = "nearly always it is nobody, and that should go through registers")]
    Many(Box<VecDeque<Arc<Waiter>>>),
}

impl Called {
    /// Wakes them.
    #[inline]
    pub fn wake(self) {
        match self.0 {
            Few::Nobody => {}
            Few::One(waiter) => waiter.wake(),
            Few::Many(waiters) => waiters.iter().for_each(|waiter| waiter.wake()),
        }
    }

    /// Calls waiters that stood in a line of another kind, and were taken out of it; those that were called by another line are left
    /// out. To be used under the mutex of that line.
    pub fn of(waiters: impl IntoIterator<Item = Arc<Waiter>>) -> Self {
        let waiters: VecDeque<_> = waiters.into_iter().filter(|waiter| waiter.call()).collect();
        Self(if waiters.is_empty() { Few::Nobody } else { Few::Many(Box::new(waiters)) })
    }

    /// Shows whom it is about to wake.
    pub fn each(&self, mut show: impl FnMut(&Arc<Waiter>)) {
        match &self.0 {
            Few::Nobody => {}
            Few::One(waiter) => show(waiter),
            Few::Many(waiters) => waiters.iter().for_each(show),
        }
    }

    /// Whether nobody was called.
    pub fn is_nobody(&self) -> bool {
        matches!(self.0, Few::Nobody)
    }
}

/// The waiters. It lives under the mutex of its primitive.
///
/// # Examples
///
/// ```
/// use raddle_core::park::Line;
///
/// let mut line = Line::default();
/// let [first, second] = [line.join(None), line.join(None)];
/// line.call().wake();
/// assert!(first.is_called() && !second.is_called());
/// assert!(line.leave(&second) && line.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Line {
    waiters: VecDeque<Arc<Waiter>>,
    /// The number of forks at which the first of them joined.
    epoch: u32,
}

impl Line {
    /// How many stand in it.
    pub fn len(&mut self) -> usize {
        self.forget_strangers();
        self.waiters.len()
    }

    /// Whether nobody stands in it.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// A new waiter of this thread at the end; or, if it was called from this line `before`, at the front.
    pub fn join(&mut self, before: Option<&Arc<Waiter>>) -> Arc<Waiter> {
        self.forget_strangers();
        self.epoch = epoch();
        let waiter = Waiter::new();
        match before {
            None => self.waiters.push_back(waiter.clone()),
            Some(_) => self.waiters.push_front(waiter.clone()),
        }
        waiter
    }

    /// The same for a waiter that is there already: it stands in other lines, too, or is no thread's. `first`: at the front.
    pub fn join_as(&mut self, waiter: &Arc<Waiter>, first: bool) {
        self.forget_strangers();
        self.epoch = epoch();
        if first {
            self.waiters.push_front(waiter.clone());
        } else {
            self.waiters.push_back(waiter.clone());
        }
    }

    /// Calls the first.
    #[inline]
    pub fn call(&mut self) -> Called {
        // Nearly always nobody waits; then nothing is looked up.
        if self.waiters.is_empty() {
            return Called::default();
        }
        self.call_first()
    }

    #[cold]
    fn call_first(&mut self) -> Called {
        self.forget_strangers();
        while let Some(waiter) = self.waiters.pop_front() {
            if waiter.call() {
                return Called(Few::One(waiter));
            }
        }
        Called::default()
    }

    /// Calls the first that is not this one.
    pub fn call_other(&mut self, than: &Arc<Waiter>) -> Called {
        self.forget_strangers();
        while let Some(at) = self.waiters.iter().position(|waiter| !Arc::ptr_eq(waiter, than)) {
            if let Some(waiter) = self.waiters.remove(at)
                && waiter.call()
            {
                return Called(Few::One(waiter));
            }
        }
        Called::default()
    }

    /// Calls the first `most`.
    pub fn call_many(&mut self, most: usize) -> Called {
        if self.waiters.is_empty() {
            return Called::default();
        }
        self.forget_strangers();
        let most = most.min(self.waiters.len());
        if most <= 1 {
            return if most == 0 { Called::default() } else { self.call() };
        }
        let mut called = VecDeque::with_capacity(most);
        while called.len() < most
            && let Some(waiter) = self.waiters.pop_front()
        {
            if waiter.call() {
                called.push_back(waiter);
            }
        }
        Called(Few::Many(Box::new(called)))
    }

    /// Calls all.
    pub fn call_all(&mut self) -> Called {
        self.call_many(usize::MAX)
    }

    /// Takes a waiter out. `false`: it was called before, and whoever called it must be answered for.
    #[must_use = "a call that came too late must be passed on"]
    pub fn leave(&mut self, waiter: &Arc<Waiter>) -> bool {
        let place = self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter));
        place.is_some_and(|place| self.waiters.remove(place).is_some())
    }

    /// Forgets waiters of threads that a fork has left behind. They are leaked: their last owner may not exist here.
    fn forget_strangers(&mut self) {
        if self.epoch != epoch() && !self.waiters.is_empty() {
            self.waiters.clear();
        }
    }
}
