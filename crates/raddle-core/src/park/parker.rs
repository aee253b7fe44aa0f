//! The token: one word per parker, with all its changes. `park.md` has the protocol and the proof.

use super::Patience;
use super::os::{Ended, Site};
use crate::prim::Arc;
use crate::prim::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::prim::atomic::{AtomicBool, AtomicU32};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::time::Instant;

const EMPTY: u32 = 0;
const TOKEN: u32 = 1;
const PARKED: u32 = 2;

/// Why [`Parker::park`] came back.
#[must_use = "a park can end without the thing that was waited for"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// A token was there or has come, and is taken. Look whether it is what you wait for.
    Unparked,
    /// The deadline has passed, and there was no token.
    TimedOut,
    /// A signal handler has run on this thread while it slept, or someone has called [`Unparker::interrupt`]. A token that came with it
    /// is there for the next park.
    Interrupted,
}

/// The sleeping side, owned by one thread.
///
/// Most threads need only one, and have it: [`with_current`](super::with_current).
///
/// # Examples
///
/// ```
/// use raddle_core::park::{Parker, Wake};
/// use raddle_core::prim::thread;
/// use std::time::Instant;
///
/// let parker = Parker::new();
/// let unparker = parker.unparker();
/// thread::spawn(move || unparker.unpark());
/// assert_eq!(parker.park(None), Wake::Unparked);
/// assert_eq!(parker.park(Some(Instant::now())), Wake::TimedOut);
/// ```
pub struct Parker {
    shared: Arc<Shared>,
    patience: Patience,
    /// One sleeper at a time: a parker can be sent to another thread, not shared with it.
    alone: PhantomData<Cell<()>>,
}

/// The waking side of a [`Parker`].
#[derive(Clone)]
pub struct Unparker {
    shared: Arc<Shared>,
}

struct Shared {
    /// `EMPTY`, `TOKEN` or `PARKED`. The owner moves it from `TOKEN` to `EMPTY` and between `EMPTY` and
    /// `PARKED`; unparkers move it to `TOKEN`.
    word: AtomicU32,
    /// Set by who interrupts, before the token; taken by the owner, after it.
    interrupted: AtomicBool,
    site: Site,
}

impl Parker {
    /// A parker without a token.
    pub fn new() -> Self {
        let shared =
            Arc::new(Shared { word: AtomicU32::new(EMPTY), interrupted: AtomicBool::new(false), site: Site::new() });
        Self { shared, patience: Patience::new(), alone: PhantomData }
    }

    /// Sleeps until there is a token, and takes it; or until the deadline; or until a signal arrives.
    ///
    /// A token that is there already is taken at once, also when the deadline has passed. Without a
    /// deadline it sleeps as long as it takes.
    ///
    /// # Stopping
    ///
    /// Whoever stops this thread notes it where the thread will look, and calls [`Unparker::unpark`].
    #[inline]
    pub fn park(&self, deadline: Option<Instant>) -> Wake {
        if self.shared.take_token() { self.shared.awake() } else { self.park_slow(deadline, true) }
    }

    /// As [`park`](Self::park), without looking for a moment before it sleeps: for who, once awake, has to wait for the waker to finish
    /// with something else.
    pub fn park_at_once(&self, deadline: Option<Instant>) -> Wake {
        if self.shared.take_token() { self.shared.awake() } else { self.park_slow(deadline, false) }
    }

    #[cold]
    fn park_slow(&self, deadline: Option<Instant>, looks: bool) -> Wake {
        let Shared { word, site, .. } = &*self.shared;
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Wake::TimedOut;
        }
        // A token that comes while we look saves its sender the system call, too: we are not PARKED yet.
        if looks && self.patience.look(|| word.load(Relaxed) == TOKEN) && self.shared.take_token() {
            return self.shared.awake();
        }
        // Ordering: Relaxed. Nothing is published by falling asleep. If it fails there is a token, which nobody but
        // this thread takes.
        if word.compare_exchange(EMPTY, PARKED, Relaxed, Relaxed).is_err() {
            self.shared.take_token();
            return self.shared.awake();
        }
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            match site.wait(word, PARKED, left) {
                Ended::Woken if self.shared.take_token() => return self.shared.awake(),
                Ended::Woken => {}
                Ended::TimedOut => {
                    self.shared.get_up();
                    return if self.shared.take_token() { self.shared.awake() } else { Wake::TimedOut };
                }
                Ended::Interrupted => {
                    self.shared.get_up();
                    return Wake::Interrupted;
                }
            }
        }
    }

    /// The waking side.
    pub fn unparker(&self) -> Unparker {
        Unparker { shared: Arc::clone(&self.shared) }
    }
}

impl Unparker {
    /// Leaves a token, and wakes the thread if it sleeps.
    ///
    /// Costs one atomic swap, and one system call if the thread sleeps.
    #[inline]
    pub fn unpark(&self) {
        // Ordering: Release. Pairs with the Acquire in `take_token`: whoever takes this token
        // sees what was written before it was left.
        if self.shared.word.swap(TOKEN, Release) == PARKED {
            self.shared.site.wake(&self.shared.word);
        }
    }

    /// Ends the park that the thread is in, or else its next one, as [`Wake::Interrupted`]. Several before that are one.
    ///
    /// For news that concern every wait of the thread, such as that it shall stop. Note them first where it will look.
    pub fn interrupt(&self) {
        // Ordering: Release. Pairs with the swap in `awake`: what was noted before is seen.
        self.shared.interrupted.store(true, Release);
        self.unpark();
    }

    /// Whether both wake the same parker.
    #[inline]
    pub fn same_as(&self, other: &Unparker) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Plays a signal that arrives at the sleeping thread, or just before it falls asleep.
    #[cfg(loom)]
    pub fn signal(&self) {
        self.shared.site.interrupt();
    }
}

impl Shared {
    #[inline]
    fn take_token(&self) -> bool {
        // Ordering: Acquire. Pairs with the Release in `unpark`: what was written before the token was left
        // is seen after it was taken.
        self.word.compare_exchange(TOKEN, EMPTY, Acquire, Relaxed).is_ok()
    }

    /// A token was taken: what it means. One that came with an interruption is put back, because it may be another's as well.
    #[inline]
    fn awake(&self) -> Wake {
        // Ordering: Relaxed. It was set before the token that was taken with Acquire, or its own token is still to come.
        if !self.interrupted.load(Relaxed) {
            return Wake::Unparked;
        }
        // Ordering: Acquire, both. What was noted before the interruption is seen, and what was written before any token that
        // comes in between and is overwritten here.
        self.interrupted.swap(false, Acquire);
        self.word.swap(TOKEN, Acquire);
        Wake::Interrupted
    }

    /// From `PARKED` to `EMPTY`. A token that has come stays where it is.
    fn get_up(&self) {
        // Ordering: Relaxed. Nothing is published by getting up, and a token is taken by `take_token`.
        _ = self.word.compare_exchange(PARKED, EMPTY, Relaxed, Relaxed);
    }
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Parker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe("Parker", f)
    }
}

impl fmt::Debug for Unparker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe("Unparker", f)
    }
}

impl Shared {
    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.word.load(Relaxed) {
            EMPTY => "empty",
            TOKEN => "token",
            _ => "parked",
        };
        f.debug_tuple(name).field(&format_args!("{word}")).finish()
    }
}
