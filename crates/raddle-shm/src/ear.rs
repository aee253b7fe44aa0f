#![doc = include_str!("ear.md")]
#![forbid(unsafe_code)]

use std::fmt;

use raddle_core::park::{Called, Line, Waiter};
use raddle_core::prim::{Arc, Mutex};

use crate::futex::Wait;
use crate::{Gong, Intention};

/// Waiters of this process at a gong, and the thread that sleeps there for them. Lives in the memory of this process.
///
/// # Examples
///
/// ```
/// use raddle_core::park::Waiter;
/// use raddle_core::prim::Arc;
/// use raddle_core::prim::atomic::{AtomicU32, Ordering::{Acquire, Release}};
/// use raddle_shm::{Ear, Gong, News};
///
/// let (gong, ear, work) = (Gong::new(), Ear::new(), AtomicU32::new(0));
/// let has_work = || work.load(Acquire) == 1;
/// std::thread::scope(|s| {
///     let waiter = Waiter::new();
///     ear.join(&waiter, false, &gong.prepare());
///     if !has_work() && ear.needs_listener() {
///         s.spawn(|| ear.listen(&gong, || if has_work() { News::Work } else { News::Nothing }));
///     }
///     s.spawn(|| {
///         work.store(1, Release);
///         gong.ring();
///     });
///     let _ = waiter.park(None);
///     if ear.leave(&waiter) {
///         assert!(has_work());
///         ear.answer(&waiter, &gong, || false);
///     }
///     ear.close(&gong);
/// });
/// ```
#[derive(Default)]
pub struct Ear {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    line: Line,
    due: Vec<Arc<Waiter>>,
    /// The word of the oldest intention of those who have joined since the listener looked.
    since: Option<u32>,
    has_listener: bool,
    is_closed: bool,
}

/// What the listener finds when it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing is there.
    Nothing,
    /// Something that one waiter can take.
    Work,
    /// Only the waiters know whether there is something, if the gong was rung.
    Perhaps,
    /// Something that concerns all waiters.
    All,
}

impl Inner {
    /// Takes the first out of the line, to be called. It owes an answer.
    fn call(&mut self) -> Called {
        let due = &mut self.due;
        let called = self.line.call();
        called.each(|waiter| due.push(waiter.clone()));
        called
    }

    /// The same for all.
    fn call_all(&mut self) -> Called {
        let due = &mut self.due;
        let called = self.line.call_all();
        called.each(|waiter| due.push(waiter.clone()));
        called
    }
}

impl Ear {
    /// One at which nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins the line, at the front if it is `first`. Look after this, and [leave](Self::leave).
    pub fn join(&self, waiter: &Arc<Waiter>, first: bool, intention: &Intention) {
        let mut inner = self.inner.lock();
        inner.since.get_or_insert(intention.to_word());
        inner.line.join_as(waiter, first);
    }

    /// To be asked by who joined and found nothing: whether a thread is to be started that [listens](Self::listen).
    #[must_use = "nobody else will start it"]
    pub fn needs_listener(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().has_listener, true)
    }

    /// That thread could not be started: who relies on it looks again, and learns why.
    pub fn has_no_listener(&self) {
        let mut inner = self.inner.lock();
        inner.has_listener = false;
        let called = inner.call_all();
        drop(inner);
        called.wake();
    }

    /// Leaves the line. `true`: an [answer](Self::answer) is due.
    #[must_use = "who was called has to answer"]
    pub fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        let mut inner = self.inner.lock();
        !inner.line.leave(waiter) && inner.due.iter().any(|due| Arc::ptr_eq(due, waiter))
    }

    /// Says that it has looked, or that it will not. What is there is for others.
    pub fn answer(&self, waiter: &Arc<Waiter>, gong: &Gong, has_work: impl Fn() -> bool) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.due.iter().position(|due| Arc::ptr_eq(due, waiter)) else { return };
        let mine = inner.due.swap_remove(at);
        let called = if has_work() { inner.call() } else { Called::default() };
        drop(inner);
        drop(mine);
        if called.is_nobody() {
            gong.pass_on(has_work);
        }
        called.wake();
    }

    /// Has all look who wait: the news have come by another way than the gong.
    pub fn call_all(&self) {
        let called = self.inner.lock().call_all();
        called.wake();
    }

    /// Ends the listener, if there is one. Nobody waits here any more.
    pub fn close(&self, gong: &Gong) {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        let has_listener = inner.has_listener;
        drop(inner);
        if has_listener {
            gong.ring_all();
        }
    }

    /// What the listener does, until nobody wants it. `look` takes nothing.
    pub fn listen(&self, gong: &Gong, mut look: impl FnMut() -> News) {
        let mut was_rung = false;
        loop {
            let intention = gong.prepare();
            let news = look();
            let mut inner = self.inner.lock();
            let is_new = inner.since.take().is_some_and(|since| since != intention.to_word());
            if inner.is_closed || was_rung && inner.line.is_empty() {
                inner.has_listener = false;
                break;
            }
            let called = match news {
                News::Work if was_rung || inner.due.is_empty() => inner.call(),
                News::Perhaps if was_rung || is_new => inner.call_all(),
                News::All => inner.call_all(),
                _ => Called::default(),
            };
            drop(inner);
            if was_rung && news == News::Work && called.is_nobody() {
                continue; // nobody is left in line
            }
            called.wake();
            was_rung = matches!(gong.sleep(&intention, None), Wait::Woken | Wait::Changed);
        }
        gong.pass_on(|| look() == News::Work);
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("Ear")
            .field("due", &inner.due.len())
            .field("has_listener", &inner.has_listener)
            .finish_non_exhaustive()
    }
}
