//! The GIL: who waits for it, for how long, and how long it is held, seen where the interpreter sleeps for it.
//!
//! CPython takes and drops its GIL with a mutex and two condition variables (`Python/ceval_gil.c`): who wants it sleeps on `cond` with a time limit, as often as needed;
//! who drops it signals `cond`; who has taken it signals `switch_cond`.
//!
//! ```text
//!   pthread_cond_timedwait(cond)      this thread waits        one wait may be many sleeps
//!   pthread_cond_signal(switch_cond)  this thread has taken it the wait is over, and is written
//!   pthread_cond_signal(cond)         this thread drops it
//! ```
//!
//! # Rules
//!
//! 1. The function of the C library is called exactly once, with the same arguments.
//! 2. All three are called by CPython with the GIL's own mutex locked: what is changed here for all threads is changed by one at a time.
//! 3. The two addresses are learned at the start, from what one drop and one take signal. If that is not one signal each, nothing is kept.

use std::ffi::{c_int, c_void};

use raddle_core::prim::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use raddle_trace::events::format::{header, record};

use super::file::{self, Map};
use super::got::{self, Front};
use super::here::Here;
use crate::gate;

/// The wait for the GIL that a thread is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Since when; 0 if it is in none.
    from: u64,
    until: u64,
    holder: u32,
    sleeps: u32,
}

impl Waiting {
    pub(super) const NONE: Self = Self { from: 0, until: 0, holder: 0, sleeps: 0 };
}

/// What is looked at by every thread that waits for anything, and changes at the start only.
#[repr(align(64))]
struct Conditions {
    cond: AtomicUsize,
    switch_cond: AtomicUsize,
    /// The thread that learns them, if that goes on.
    learner: AtomicU32,
}

static CONDITIONS: Conditions =
    Conditions { cond: AtomicUsize::new(0), switch_cond: AtomicUsize::new(0), learner: AtomicU32::new(0) };

/// Who has the GIL. In a line of its own: it changes with each switch, and others would be fetched with it.
static HOLDER: Alone<AtomicU32> = Alone(AtomicU32::new(0));

#[repr(align(64))]
struct Alone<T>(T);

/// What was signalled while it was learned.
static LEARNED: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
static LEARNED_COUNT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn timedwait(
    cond: *mut libc::pthread_cond_t,
    mutex: *mut libc::pthread_mutex_t,
    until: *const libc::timespec,
) -> c_int {
    let here = if cond as usize == CONDITIONS.cond.load(Relaxed) { Here::get_or_begin() } else { std::ptr::null_mut() };
    if !here.is_null() {
        // SAFETY: this thread's own.
        let me = unsafe { &mut (*here).gil };
        if me.from == 0 {
            *me = Waiting { from: file::now(), until: 0, holder: HOLDER.0.load(Relaxed), sleeps: 0 };
        }
        me.sleeps = me.sleeps.saturating_add(1);
    }
    // SAFETY: rule 1.
    unsafe { libc::pthread_cond_timedwait(cond, mutex, until) }
}

unsafe extern "C" fn signal(cond: *mut libc::pthread_cond_t) -> c_int {
    let at = cond as usize;
    if at == CONDITIONS.switch_cond.load(Relaxed) {
        taken();
    } else if at == CONDITIONS.cond.load(Relaxed) {
        dropped();
    } else if CONDITIONS.learner.load(Relaxed) != 0 {
        learn(at);
    }
    // SAFETY: rule 1.
    unsafe { libc::pthread_cond_signal(cond) }
}

fn taken() {
    let (Some(map), here) = (Map::get(), Here::get_or_begin()) else { return };
    if here.is_null() {
        return;
    }
    let now = file::now();
    // SAFETY: this thread's own.
    let me = unsafe { &mut *here };
    // Rule 2 for these words.
    map.word(header::GIL_SINCE).store(now, Relaxed);
    HOLDER.0.store(me.number, Relaxed);
    if me.gil.from != 0 {
        me.gil.until = now;
        let waited = map.word(header::GIL_WAITED);
        waited.store(waited.load(Relaxed).saturating_add(now.saturating_sub(me.gil.from)), Relaxed);
        let switches = map.word(header::GIL_SWITCHES);
        switches.store(switches.load(Relaxed) + 1, Relaxed);
        flush(me);
    }
}

fn dropped() {
    let Some(map) = Map::get() else { return };
    let (since, held) = (map.word(header::GIL_SINCE), map.word(header::GIL_HELD));
    let from = since.load(Relaxed);
    since.store(0, Relaxed);
    if from != 0 {
        held.store(held.load(Relaxed).saturating_add(file::now().saturating_sub(from)), Relaxed);
    }
    HOLDER.0.store(0, Relaxed);
}

/// Writes the wait that is over.
pub(super) fn flush(me: &mut Here) {
    let wait = std::mem::replace(&mut me.gil, Waiting::NONE);
    let Some(map) = Map::get().filter(|_| wait.until != 0) else { return };
    if wait.until.saturating_sub(wait.from) >= map.threshold() {
        me.write(record::GIL, 0, wait.sleeps, &[wait.from, wait.until, u64::from(wait.holder)]);
    } else {
        map.drop_event();
    }
}

fn learn(at: usize) {
    if CONDITIONS.learner.load(Relaxed) == rustix::thread::gettid().as_raw_nonzero().get() as u32 {
        let index = LEARNED_COUNT.fetch_add(1, Relaxed);
        if let Some(place) = LEARNED.get(index) {
            place.store(at, Relaxed);
        }
    }
}

/// # Safety
///
/// Attached.
pub(super) unsafe fn install() -> Result<(), &'static str> {
    let fronts = [
        Front { name: c"pthread_cond_timedwait", function: timedwait as *const c_void },
        Front { name: c"pthread_cond_signal", function: signal as *const c_void },
    ];
    CONDITIONS.learner.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Relaxed);
    let changed = got::stand_before(&fronts);
    // SAFETY: attached, which the caller says. It is left and entered again: one drop and one take.
    _ = unsafe { gate::called(|py| gate::detached(py, || ())) };
    CONDITIONS.learner.store(0, Relaxed);
    let [cond, switch_cond, ..] = [LEARNED[0].load(Relaxed), LEARNED[1].load(Relaxed)];
    // Rule 3.
    if LEARNED_COUNT.load(Relaxed) != 2 || cond == switch_cond {
        got::stand_aside(&changed);
        return Err("the GIL is not taken and dropped as it was expected: waits for it are not recorded");
    }
    let here = Here::get_or_begin();
    if let (Some(map), false) = (Map::get(), here.is_null()) {
        map.word(header::GIL_SINCE).store(file::now(), Relaxed);
        // SAFETY: this thread's own.
        HOLDER.0.store(unsafe { (*here).number }, Relaxed);
    }
    CONDITIONS.switch_cond.store(switch_cond, Relaxed);
    CONDITIONS.cond.store(cond, Relaxed);
    Ok(())
}

/// In a forked child, whose only thread holds the GIL.
pub(super) fn forked() {
    let here = Here::get();
    if let (Some(map), false) = (Map::get(), here.is_null()) {
        map.word(header::GIL_SINCE).store(file::now(), Relaxed);
        // SAFETY: this thread's own.
        HOLDER.0.store(unsafe { (*here).number }, Relaxed);
    }
}
