//! What stands in front of the methods of `threading.Lock` and `threading.RLock`.
//!
//! ```text
//!   acquire ─ is it free? ─ yes ─▶ the method itself ─▶ note who holds it ─▶ if it took long after all: write the wait
//!                  │ no
//!                  ▼
//!        say what is waited for ─▶ the method itself ─▶ note who holds it ─▶ write the wait
//! ```
//!
//! # Rules
//!
//! 1. The method itself is called exactly once, with the arguments that were given, and what it returns or raises is returned; unless a try has got the lock, which
//!    returns what it would have. What a lock does is not decided here.
//! 2. Everything else of CPython that is called here (`locked`, `_is_owned`, a try) changes nothing when it says no, cannot fail, and does not give the
//!    GIL away.
//! 3. No reference into the table or to the thread is kept across a call of the method itself: handlers of signals run in there, and come in here again.
//! 4. Interpreters other than the main one go straight through: their GIL does not guard our tables.
//! 5. While a lock is held nothing is done for it that takes long: a few stores at its taking, a few at its release. Places are looked at before a sleep.
//!
//! # Locks that only look free
//!
//! Who releases a lock for which another thread sleeps hands it over, and the other notes that it has it when it gets the GIL again. Until
//! then the lock says that it is free, up to 3.13.0 a plain one, too; who wants it in that time waits all the same. So where others wait a lock that looks free is
//! tried first; a call that does not get it so says what it may wait for, and is told as a wait afterwards if it was one. And who has been handed a lock asks it before noting that it has it: somebody
//! else may have released it in that time.
//!
//! # How long a lock is held
//!
//! Two looks at a clock are what a free lock costs most. So of the holds of a busy lock one of [some](TIMED_ONE_OF) is timed, and stands for all of them;
//! the first ones are timed each, and so is every one for which somebody waits, from then on.

use std::ffi::CStr;
use std::ptr;

use pyo3::ffi;
use raddle_core::prim::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};
use raddle_trace::events::format::{STACK_DEPTH, lock, record, wait};

use super::file::{self, Map};
use super::here::{Here, MOST_HELD, Published};
use super::method::{self, Original};
use super::place::Whose;
use super::table::Entry;
use super::{join, order, permit, place, table};

type Object = *mut ffi::PyObject;

/// So many holds of a lock are timed each; afterwards one of so many.
const TIMED_ALL: u64 = 256;
const TIMED_ONE_OF: u64 = 8;

/// What it takes to get a lock that is free, at most, in nanoseconds.
const AT_ONCE: u64 = 20_000;

/// Whether anything is noted.
#[unsafe(link_section = "raddle_recorder")] // as said in `mod.rs`
pub(super) static IS_ON: AtomicBool = AtomicBool::new(false);
/// The arguments of a call that only tries: `(False,)`.
static TRY: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());
/// The main interpreter.
#[unsafe(link_section = "raddle_recorder")]
static MAIN: AtomicPtr<ffi::PyInterpreterState> = AtomicPtr::new(ptr::null_mut());
/// The methods that were there.
struct Methods {
    acquire: Original,
    release: Original,
    exit: Original,
    /// `locked`, or `_is_owned`.
    asks: Original,
    release_save: Original,
    acquire_restore: Original,
    reinit: Original,
    new: Original,
    dealloc: Original,
}

impl Methods {
    const fn new() -> Self {
        Self {
            acquire: Original::new(),
            release: Original::new(),
            exit: Original::new(),
            asks: Original::new(),
            release_save: Original::new(),
            acquire_restore: Original::new(),
            reinit: Original::new(),
            new: Original::new(),
            dealloc: Original::new(),
        }
    }
}

#[unsafe(link_section = "raddle_recorder")]
static LOCK: Methods = Methods::new();
#[unsafe(link_section = "raddle_recorder")]
static RLOCK: Methods = Methods::new();
static ALLOCATE: Original = Original::new();
/// `RLock.locked`, from 3.14 on.
static RLOCK_LOCKED: Original = Original::new();

/// This thread, if what it does is to be noted (rule 4).
#[inline]
pub(super) fn enter() -> Option<(Map, *mut Here)> {
    if !IS_ON.load(Relaxed) {
        return None;
    }
    let map = Map::get()?;
    // SAFETY: CPython has called us, so this thread is attached.
    let tstate = unsafe { ffi::PyThreadState_Get() };
    if place::interpreter(tstate) != MAIN.load(Relaxed) {
        return None;
    }
    let here = Here::get_again();
    (!here.is_null()).then(|| {
        // SAFETY: this thread's own, and it is attached.
        unsafe { (*here).tstate = tstate };
        (map, here)
    })
}

/// Asks a method that says yes or no (rule 2).
#[inline]
unsafe fn asks(this: Object, original: &Original) -> bool {
    // SAFETY: rule 2; the answer is a new reference.
    unsafe {
        let answer = original.plain()(this, ptr::null_mut());
        let is_yes = answer == ffi::Py_True();
        ffi::Py_XDECREF(answer);
        is_yes
    }
}

/// Where a lock may say in itself whether it is held, in one byte: from 3.13.1 on, and before.
const HELD_AT: [usize; 2] = [16, 32];

/// Where that byte was found; 0: nowhere.
#[unsafe(link_section = "raddle_recorder")] // as said in `mod.rs`
static BYTE_AT: AtomicUsize = AtomicUsize::new(0);

/// The bit of that byte that says so. In a lock of one byte there are others beside it.
///
/// # Safety
///
/// A `threading.Lock` that is larger than `at`, under the GIL.
#[inline]
unsafe fn byte(this: Object, at: usize) -> u8 {
    // SAFETY: the caller says so. It is changed under the GIL, or, in a lock of one byte, by one atomic operation.
    unsafe { this.cast::<u8>().add(at).read_volatile() & 1 }
}

/// Whether a `threading.Lock` is held (rule 2).
///
/// # Safety
///
/// As above.
#[inline]
unsafe fn is_held(this: Object) -> bool {
    let at = BYTE_AT.load(Relaxed);
    // SAFETY: the caller says so, and all of them are as large as the one in which it was found.
    unsafe { if at == 0 { asks(this, &LOCK.asks) } else { byte(this, at) != 0 } }
}

/// Notes that this thread holds the lock now. `number`: that of its entry, if it had one some time ago.
#[inline]
fn taken(map: Map, here: *mut Here, object: Object, kind: u8, is_try: bool, number: Option<u32>) {
    let Some((number, entry)) =
        table::find_again(map, number, object as usize).or_else(|| table::find_or_add(map, object as usize, kind))
    else {
        return;
    };
    // SAFETY: this thread's own, and an entry under the GIL; nothing of Python is called until the end.
    let (here, entry) = unsafe { (&mut *here, &mut *entry) };
    if entry.flags & lock::IS_LIFE != 0 && entry.owner != 0 {
        join::over(here, entry);
    }
    entry.owner = here.number;
    if entry.flags & lock::IS_WAITER != 0 {
        return; // nobody asks where, how often or how long
    }
    if entry.taker != here.number {
        join::meet(here, entry);
    }
    entry.taken += 1;
    entry.weight = if entry.taken <= TIMED_ALL || entry.taken % TIMED_ONE_OF == 0 {
        entry.since = table::coarse();
        if entry.taken <= TIMED_ALL { 1 } else { TIMED_ONE_OF as u8 }
    } else {
        0
    };
    if let Some(frame) = place::innermost(here)
        && entry.instruction != frame.instruction
    {
        entry.taken_at = place::place(here, frame).id;
        (entry.code, entry.instruction) = (frame.code, frame.instruction);
    }
    if entry.flags & lock::IS_LIFE != 0 {
        here.joins_seen = true; // its own, until it ends: not one of those that are taken in some order
        return;
    }
    if here.held_count >= MOST_HELD && !order::has_room(map, here) {
        return;
    }
    if here.held_count > 0 && !is_try {
        order::note(map, here, number, entry);
    }
    here.held[here.held_count] = number;
    here.held_count += 1;
}

/// Counts the hold of a lock up to now, if it is timed. `now`: by the clock of `since`. By two clocks each hold would count too much or too
/// little by half a tick, and that times its weight.
#[inline]
fn count_hold(entry: &mut Entry, now: u64) {
    entry.held += now.saturating_sub(entry.since) * u64::from(entry.weight);
}

/// How a lock was let go of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    /// Somebody released it.
    Asked,
    /// It was made new, as in a forked child. Whoever does that is not who shares it.
    MadeNew,
}

/// Notes that nobody holds the lock now. Says whether this thread has let go of what it holds as long as it lives.
#[inline]
fn released(map: Map, here: *mut Here, object: Object, how: Release) -> bool {
    // SAFETY: as above.
    let here = unsafe { &mut *here };
    let Some((number, entry)) = table::find_held(map, here, object as usize) else { return false };
    // SAFETY: as above.
    let entry = unsafe { &mut *entry };
    if entry.owner == 0 {
        return false;
    }
    here.turn();
    let is_waiter = entry.flags & lock::IS_WAITER != 0;
    if !is_waiter && entry.weight != 0 {
        count_hold(entry, table::coarse());
    }
    if entry.waiters != 0 {
        entry.releaser = here.number;
        entry.released = file::now();
    }
    let owner = std::mem::replace(&mut entry.owner, 0);
    if !is_waiter {
        if owner != here.number && how == Release::Asked && entry.kind == lock::LOCK {
            entry.flags |= lock::IS_PASSED_ON;
        }
        table::forget_held(here, number, owner);
        if entry.flags & lock::IS_PERMITS != 0 {
            permit::released(map, here, (number, entry));
        }
    }
    entry.flags & lock::IS_LIFE != 0 && owner == here.number
}

/// A call of a method that takes a lock which is free, as far as is known. `known`: its entry; `tries`: `acquire`, if that can be tried first.
#[inline]
fn take(
    here: *mut Here,
    (object, kind): (Object, u8),
    known: Option<(u32, *mut Entry)>,
    patience: impl Fn() -> Patience,
    tries: Option<ffi::PyCFunctionWithKeywords>,
    call: impl Fn() -> Object,
    got: fn(Object) -> bool,
) -> Object {
    // SAFETY: as above: an entry that was just found.
    if let Some((number, entry)) = known.filter(|(_, entry)| unsafe { (**entry).waiters } != 0) {
        let patience = patience();
        if patience != Patience::None {
            // Whoever takes it again and again gets it at once, and shall not be held up by what is written of waits.
            // SAFETY: rule 2; the arguments are there for ever.
            let result = tries.map(|tries| unsafe { tries(object, TRY.load(Relaxed), ptr::null_mut()) });
            if let Some(result) = result.filter(|result| is_true(*result)) {
                if let Some(map) = Map::get() {
                    taken(map, here, object, kind, patience == Patience::Some, Some(number));
                }
                return result;
            }
            // SAFETY: it is false, of which there is one for ever.
            unsafe { ffi::Py_XDECREF(result.unwrap_or(ptr::null_mut())) };
            return take_among_others(here, (object, kind), (number, entry), patience == Patience::Some, &call, got);
        }
    }
    let result = call();
    if got(result)
        && let Some(map) = Map::get()
    {
        taken(map, here, object, kind, patience() != Patience::Endless, known.map(|(number, _)| number));
    }
    result
}

/// The same while others wait for it: one of them may just have been given it.
#[cold]
fn take_among_others(
    here: *mut Here,
    (object, kind): (Object, u8),
    (number, entry): (u32, *mut Entry),
    is_timed: bool,
    call: &dyn Fn() -> Object,
    got: fn(Object) -> bool,
) -> Object {
    let since = file::now();
    let published = {
        // SAFETY: as in `slow`.
        let (me, entry) = unsafe { (&mut *here, &*entry) };
        let first = place::innermost(me);
        let stack = place::stack(me, first, STACK_DEPTH);
        Published { lock: entry.serial, holder: 0, since, stack, taken: 0 }
    };
    let (result, after) = call_waiting(here, object, (number, entry), published, call);
    let Some(After { map, entry, until }) = after else { return result };
    // SAFETY: as in `slow`.
    let (me, it) = unsafe { (&*here, &mut *entry) };
    let (from, has_got) = (since, got(result));
    if until.saturating_sub(from) >= AT_ONCE {
        it.flags |= lock::IS_NAMED;
        // Whoever has had it since then: before, nobody knew.
        let holder = if it.flags & lock::IS_WAITER != 0 || it.taker == me.number { 0 } else { it.taker };
        let waited = Waited { from, until, stack: published.stack, holder, taken: 0, has_got, is_timed };
        note_wait(map, here, (object, kind), (number, entry), &waited);
    } else if has_got {
        taken(map, here, object, kind, is_timed, Some(number));
    }
    result
}

/// A call of a method that may wait for a lock which is held.
#[cold]
fn slow(
    map: Map,
    here: *mut Here,
    (object, kind): (Object, u8),
    is_timed: bool,
    call: &dyn Fn() -> Object,
    got: fn(Object) -> bool,
) -> Object {
    let Some((number, entry)) = table::find_or_add(map, object as usize, kind) else {
        return call();
    };
    let published = {
        // SAFETY: as above: until the method itself is called nothing of Python is.
        let (me, entry) = unsafe { (&mut *here, &mut *entry) };
        let since = file::now();
        let first = place::innermost(me);
        let stack = place::stack(me, first, STACK_DEPTH);
        // Who waits for a notification has taken the lock for it: it is not held by anybody.
        let holder = if entry.flags & lock::IS_WAITER != 0 { 0 } else { entry.owner };
        let other = Here::of(holder);
        // SAFETY: rule 2 of `here`.
        let other = if other.is_null() { ptr::null_mut() } else { unsafe { (*other).tstate } };
        let taken = if holder == 0 { 0 } else { place::stack_of_other(me, other, entry.code, entry.taken_at) };
        if holder != 0 && entry.waiters == 0 {
            // While somebody waits for it each hold counts for itself.
            let now = table::coarse();
            count_hold(entry, now);
            (entry.since, entry.weight) = (now, 1);
        }
        entry.flags |= lock::IS_NAMED;
        Published { lock: entry.serial, holder, since, stack, taken }
    };
    let (result, after) = call_waiting(here, object, (number, entry), published, call);
    let Some(After { map, entry, until }) = after else { return result };
    let Published { since: from, stack, holder, taken, .. } = published;
    let waited = Waited { from, until, stack, holder, taken, has_got: got(result), is_timed };
    note_wait(map, here, (object, kind), (number, entry), &waited);
    result
}

/// What there is after a call that may have waited.
struct After {
    map: Map,
    entry: *mut Entry,
    until: u64,
}

/// Says what is waited for while the method itself is called. Afterwards there is nothing to be noted if the lock is gone, or nobody records any more.
fn call_waiting(
    here: *mut Here,
    object: Object,
    (number, entry): (u32, *mut Entry),
    published: Published,
    call: &dyn Fn() -> Object,
) -> (Object, Option<After>) {
    // SAFETY: as above: until the method itself is called nothing of Python is.
    let before = unsafe {
        (*entry).waiters += 1; // whoever comes after it shall know
        (*here).publish(published)
    };
    let result = call();
    // Rule 3: a handler may have forked, and the child has another file.
    let Some(map) = Map::get() else { return (result, None) };
    let until = file::now();
    // SAFETY: this thread's own.
    unsafe { (*here).publish(before) };
    let Some((_, entry)) = table::find_again(map, Some(number), object as usize) else { return (result, None) };
    // SAFETY: an entry that was just found.
    unsafe { (*entry).waiters = (*entry).waiters.saturating_sub(1) };
    (result, Some(After { map, entry, until }))
}

/// A wait that is over.
struct Waited {
    from: u64,
    until: u64,
    stack: u32,
    /// Who had it, and the stack by which it was taken.
    holder: u32,
    taken: u32,
    has_got: bool,
    is_timed: bool,
}

/// Counts a wait, notes that this thread holds the lock if it has got it, and writes the wait.
fn note_wait(
    map: Map,
    here: *mut Here,
    (object, kind): (Object, u8),
    (number, entry): (u32, *mut Entry),
    waited: &Waited,
) {
    let &Waited { from, until, stack, holder, taken: by, has_got, is_timed } = waited;
    let took = until.saturating_sub(from);
    let (serial, words) = {
        // SAFETY: as above.
        let entry = unsafe { &mut *entry };
        entry.contended = entry.contended.saturating_add(1);
        entry.waited += took;
        let is_passed = has_got && entry.released >= from && entry.released <= until;
        let (releaser, released) = if is_passed { (entry.releaser, entry.released) } else { (0, 0) };
        let holders = [u64::from(stack) | u64::from(holder) << 32, u64::from(by) | u64::from(releaser) << 32];
        (entry.serial, [from, until, holders[0], holders[1], released])
    };
    // Who has been handed it may hear of that after somebody else has released it already, which anybody may.
    // SAFETY: rule 2.
    if has_got && (kind != lock::LOCK || unsafe { is_held(object) }) {
        taken(map, here, object, kind, is_timed, Some(number));
    }
    if took >= map.threshold() {
        let flags = if has_got { wait::GOT } else { 0 } | if is_timed { wait::TIMED } else { 0 };
        // SAFETY: as above; `taken` is over.
        unsafe { (*here).write(record::WAIT, flags, serial, &words) };
    } else {
        map.drop_event();
    }
}

#[inline]
fn is_true(result: Object) -> bool {
    // SAFETY: only the address is looked at.
    result == unsafe { ffi::Py_True() }
}

#[inline]
fn is_something(result: Object) -> bool {
    !result.is_null()
}

/// How long an `acquire` with these arguments may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Some,
    Endless,
}

/// What the arguments of `acquire` say. What is not plain is taken to wait for a time.
#[inline]
unsafe fn patience(arguments: Object, keywords: Object) -> Patience {
    // SAFETY: CPython's own: a tuple, and a dictionary of strings or null.
    unsafe {
        if keywords.is_null() && ffi::PyTuple_GET_SIZE(arguments) == 0 {
            Patience::Endless
        } else {
            patience_said(arguments, keywords)
        }
    }
}

#[cold]
unsafe fn patience_said(arguments: Object, keywords: Object) -> Patience {
    // SAFETY: as above; all is borrowed, and comparing exact strings runs no code of users.
    unsafe {
        let count = ffi::PyTuple_GET_SIZE(arguments);
        let named = |name: &CStr| {
            if keywords.is_null() { ptr::null_mut() } else { ffi::PyDict_GetItemString(keywords, name.as_ptr()) }
        };
        let blocking = if count > 0 { ffi::PyTuple_GET_ITEM(arguments, 0) } else { named(c"blocking") };
        let timeout = if count > 1 { ffi::PyTuple_GET_ITEM(arguments, 1) } else { named(c"timeout") };
        // Integers too large for C are neither 0 nor -1. Nothing is raised here: the method itself says what it thinks of them.
        let is_int = |object: Object, wanted: i64| {
            let mut overflow = 0;
            !object.is_null()
                && ffi::PyLong_CheckExact(object) != 0
                && ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow) == wanted
                && overflow == 0
        };
        let is_float = |object: Object, wanted: f64| {
            !object.is_null() && ffi::PyFloat_CheckExact(object) != 0 && ffi::PyFloat_AS_DOUBLE(object) == wanted
        };
        if blocking == ffi::Py_False() || is_int(blocking, 0) || is_int(timeout, 0) || is_float(timeout, 0.0) {
            Patience::None
        } else if timeout.is_null() || is_int(timeout, -1) || is_float(timeout, -1.0) {
            Patience::Endless
        } else {
            Patience::Some
        }
    }
}

/// `Lock.acquire`, `Lock.__enter__`, `Lock.acquire_lock`.
unsafe extern "C" fn lock_acquire(this: Object, arguments: Object, keywords: Object) -> Object {
    let original = LOCK.acquire.with_keywords();
    // SAFETY: rules 1 and 2: CPython's own arguments for this method.
    unsafe {
        let Some((map, here)) = enter() else { return original(this, arguments, keywords) };
        if !is_held(this) {
            let call = || original(this, arguments, keywords);
            let known = table::find(map, this as usize);
            let patience = || patience(arguments, keywords);
            return take(here, (this, lock::LOCK), known, patience, Some(original), call, is_true);
        }
        let patience = patience(arguments, keywords);
        if patience == Patience::None {
            return original(this, arguments, keywords);
        }
        let call = || original(this, arguments, keywords);
        slow(map, here, (this, lock::LOCK), patience == Patience::Some, &call, is_true)
    }
}

/// `Lock.release`, `Lock.release_lock`.
unsafe extern "C" fn lock_release(this: Object, nothing: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let result = LOCK.release.plain()(this, nothing);
        if is_something(result)
            && let Some((map, here)) = enter()
            && released(map, here, this, Release::Asked)
        {
            // Only the main thread does it itself: of others it is the interpreter.
            join::main_ends(map);
        }
        result
    }
}

/// `Lock.__exit__`.
unsafe extern "C" fn lock_exit(this: Object, arguments: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let result = LOCK.exit.plain()(this, arguments);
        if is_something(result)
            && let Some((map, here)) = enter()
        {
            released(map, here, this, Release::Asked);
        }
        result
    }
}

unsafe extern "C" fn lock_reinit(this: Object, nothing: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let result = LOCK.reinit.plain()(this, nothing);
        if let Some((map, here)) = enter() {
            released(map, here, this, Release::MadeNew);
        }
        result
    }
}

/// Whether an `RLock` that is not this thread's can be taken at once, as far as is known.
///
/// From 3.14 on who releases it may hand it over to one that waits, which notes that only when it runs again: the lock itself is asked.
#[inline]
unsafe fn is_free(this: Object, owner: Option<u32>) -> bool {
    // SAFETY: rule 2.
    owner.is_none_or(|owner| owner == 0) && !(cfg!(Py_3_14) && unsafe { asks(this, &RLOCK_LOCKED) })
}

/// `RLock.acquire`, `RLock.__enter__`.
unsafe extern "C" fn rlock_acquire(this: Object, arguments: Object, keywords: Object) -> Object {
    let original = RLOCK.acquire.with_keywords();
    // SAFETY: as above.
    unsafe {
        let Some((map, here)) = enter() else { return original(this, arguments, keywords) };
        let known = table::find(map, this as usize);
        let owner = known.map(|(_, entry)| (*entry).owner);
        // One that nothing is known of can have been taken before there was a recorder.
        let is_mine = owner.map_or_else(|| asks(this, &RLOCK.asks), |owner| owner == (*here).number);
        if is_mine {
            return original(this, arguments, keywords); // once more by the same thread
        }
        let patience = patience(arguments, keywords);
        if patience == Patience::None || is_free(this, owner) {
            let call = || original(this, arguments, keywords);
            return take(here, (this, lock::RLOCK), known, || patience, Some(original), call, is_true);
        }
        let call = || original(this, arguments, keywords);
        slow(map, here, (this, lock::RLOCK), patience == Patience::Some, &call, is_true)
    }
}

/// `RLock.release`.
unsafe extern "C" fn rlock_release(this: Object, nothing: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let result = RLOCK.release.plain()(this, nothing);
        rlock_released(this, result)
    }
}

/// `RLock.__exit__`.
unsafe extern "C" fn rlock_exit(this: Object, arguments: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let result = RLOCK.exit.plain()(this, arguments);
        rlock_released(this, result)
    }
}

unsafe fn rlock_released(this: Object, result: Object) -> Object {
    if is_something(result)
        && let Some((map, here)) = enter()
    {
        // SAFETY: the caller has called the method itself with this.
        if !unsafe { asks(this, &RLOCK.asks) } {
            released(map, here, this, Release::Asked);
        }
    }
    result
}

/// `RLock._release_save`.
unsafe extern "C" fn rlock_release_save(this: Object, nothing: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let result = RLOCK.release_save.plain()(this, nothing);
        rlock_released(this, result)
    }
}

/// `RLock._acquire_restore`.
unsafe extern "C" fn rlock_acquire_restore(this: Object, state: Object) -> Object {
    let original = RLOCK.acquire_restore.plain();
    // SAFETY: as above.
    unsafe {
        let Some((map, here)) = enter() else { return original(this, state) };
        let known = table::find(map, this as usize);
        if is_free(this, known.map(|(_, entry)| (*entry).owner)) {
            let call = || original(this, state);
            return take(here, (this, lock::RLOCK), known, || Patience::Endless, None, call, is_something);
        }
        let call = || original(this, state);
        slow(map, here, (this, lock::RLOCK), false, &call, is_something)
    }
}

unsafe extern "C" fn rlock_reinit(this: Object, nothing: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let result = RLOCK.reinit.plain()(this, nothing);
        if let Some((map, here)) = enter() {
            released(map, here, this, Release::MadeNew);
        }
        result
    }
}

/// How much of the stack is noted by which a lock is made.
const MADE_DEPTH: usize = 6;

/// Notes where a lock was made.
unsafe fn made(object: Object, kind: u8) -> Object {
    if object.is_null() {
        return object;
    }
    if let Some((map, here)) = enter() {
        // SAFETY: this thread's own; nothing of Python is called meanwhile.
        let here = unsafe { &mut *here };
        let first = place::innermost(here);
        let at = first.map(|first| place::place(here, first)).unwrap_or_default();
        let is_waiter = at.is_wait;
        let made = if is_waiter { 0 } else { place::stack(here, first, MADE_DEPTH) };
        let flags = match if is_waiter { (false, false) } else { place::is_for_program(here, first, MADE_DEPTH) } {
            _ if is_waiter => lock::IS_WAITER,
            (true, true) => lock::IS_MEETING | lock::IS_EVENT,
            (true, false) => lock::IS_MEETING,
            _ => 0,
        };
        table::remove(map, here, object as usize); // one that was taken apart unseen
        if let Some((_, entry)) = table::find_or_add(map, object as usize, kind) {
            // SAFETY: an entry under the GIL.
            unsafe {
                (*entry).made = made;
                (*entry).flags |= flags;
                if let Some(first) = first.filter(|_| at.whose == Whose::Semaphore) {
                    permit::made(&mut *entry, first);
                }
            }
        }
    }
    object
}

/// `_thread.allocate_lock`.
unsafe extern "C" fn allocate(module: Object, nothing: Object) -> Object {
    // SAFETY: as above.
    unsafe { made(ALLOCATE.plain()(module, nothing), lock::LOCK) }
}

unsafe extern "C" fn lock_new(class: *mut ffi::PyTypeObject, arguments: Object, keywords: Object) -> Object {
    // SAFETY: as above.
    unsafe { made(LOCK.new.newfunc()(class, arguments, keywords), lock::LOCK) }
}

unsafe extern "C" fn rlock_new(class: *mut ffi::PyTypeObject, arguments: Object, keywords: Object) -> Object {
    // SAFETY: as above.
    unsafe { made(RLOCK.new.newfunc()(class, arguments, keywords), lock::RLOCK) }
}

unsafe fn gone(object: Object) {
    if let Some((map, here)) = enter() {
        // SAFETY: as above.
        let here = unsafe { &mut *here };
        super::life::leaks(map, here, object as usize);
        table::remove(map, here, object as usize);
    }
}

unsafe extern "C" fn lock_dealloc(this: Object) {
    // SAFETY: as above.
    unsafe {
        gone(this);
        LOCK.dealloc.destructor()(this);
    }
}

unsafe extern "C" fn rlock_dealloc(this: Object) {
    // SAFETY: as above.
    unsafe {
        gone(this);
        RLOCK.dealloc.destructor()(this);
    }
}

const WITH_KEYWORDS: i32 = ffi::METH_VARARGS | ffi::METH_KEYWORDS;

/// Stands in front of everything, and looks whether it works. Attached, in the main interpreter.
///
/// # Safety
///
/// Attached; `thread` is the module `_thread`.
pub(super) unsafe fn install(thread: Object) -> Result<(), &'static str> {
    // SAFETY: attached, which the caller says.
    unsafe {
        let main = ffi::PyInterpreterState_Get();
        if place::interpreter(ffi::PyThreadState_Get()) != main {
            return Err("threads do not say where it was expected of which interpreter they are");
        }
        MAIN.store(main, Relaxed);
        let arguments = ffi::PyTuple_Pack(1, ffi::Py_False());
        if arguments.is_null() {
            ffi::PyErr_Clear();
            return Err("there is no memory left");
        }
        TRY.store(arguments, Relaxed);
        let lock = ffi::PyObject_GetAttrString(thread, c"LockType".as_ptr());
        let rlock = ffi::PyObject_GetAttrString(thread, c"RLock".as_ptr());
        let result =
            if lock.is_null() || rlock.is_null() || ffi::PyType_Check(lock) == 0 || ffi::PyType_Check(rlock) == 0 {
                ffi::PyErr_Clear();
                Err("the types of locks are not where they were expected")
            } else {
                stand_before_all(lock, rlock);
                let works = self_test(lock, lock::LOCK).and_then(|()| self_test(rlock, lock::RLOCK));
                if works.is_err() {
                    IS_ON.store(false, Relaxed);
                    stand_aside_all(lock, rlock);
                }
                works.and_then(|()| stand_before_life(thread, lock, rlock))
            };
        ffi::Py_XDECREF(lock);
        ffi::Py_XDECREF(rlock);
        result
    }
}

/// A method of a lock: its name, what flags it has, where the one that was there is kept, and what stands in front.
type Front = (&'static CStr, i32, &'static Original, *mut ());

fn fronts() -> ([Front; 8], [Front; 7]) {
    let lock: [Front; 8] = [
        (c"acquire", WITH_KEYWORDS, &LOCK.acquire, lock_acquire as *mut ()),
        (c"acquire_lock", WITH_KEYWORDS, &LOCK.acquire, lock_acquire as *mut ()),
        (c"__enter__", WITH_KEYWORDS, &LOCK.acquire, lock_acquire as *mut ()),
        (c"release", ffi::METH_NOARGS, &LOCK.release, lock_release as *mut ()),
        (c"release_lock", ffi::METH_NOARGS, &LOCK.release, lock_release as *mut ()),
        (c"__exit__", ffi::METH_VARARGS, &LOCK.exit, lock_exit as *mut ()),
        (c"_at_fork_reinit", ffi::METH_NOARGS, &LOCK.reinit, lock_reinit as *mut ()),
        (c"locked", ffi::METH_NOARGS, &LOCK.asks, ptr::null_mut()),
    ];
    let rlock: [Front; 7] = [
        (c"acquire", WITH_KEYWORDS, &RLOCK.acquire, rlock_acquire as *mut ()),
        (c"__enter__", WITH_KEYWORDS, &RLOCK.acquire, rlock_acquire as *mut ()),
        (c"release", ffi::METH_NOARGS, &RLOCK.release, rlock_release as *mut ()),
        (c"__exit__", ffi::METH_VARARGS, &RLOCK.exit, rlock_exit as *mut ()),
        (c"_release_save", ffi::METH_NOARGS, &RLOCK.release_save, rlock_release_save as *mut ()),
        (c"_acquire_restore", ffi::METH_VARARGS, &RLOCK.acquire_restore, rlock_acquire_restore as *mut ()),
        (c"_at_fork_reinit", ffi::METH_NOARGS, &RLOCK.reinit, rlock_reinit as *mut ()),
    ];
    (lock, rlock)
}

fn stand_before_all(lock: Object, rlock: Object) {
    // What is asked must be there before anything stands in front.
    let (of_lock, of_rlock) = fronts();
    let asked = [(lock, c"locked", &LOCK.asks), (rlock, c"_is_owned", &RLOCK.asks), (rlock, c"locked", &RLOCK_LOCKED)];
    for (of, name, original) in &asked[..if cfg!(Py_3_14) { 3 } else { 2 }] {
        let definition = method::definition(*of, name);
        // SAFETY: a definition that lives for ever.
        if !definition.is_null() && unsafe { (*definition).ml_flags } & !ffi::METH_COEXIST == ffi::METH_NOARGS {
            // SAFETY: as above.
            original.keep(unsafe { (*definition).ml_meth.PyCFunction } as *mut ());
        } else {
            return;
        }
    }
    for (of, fronts) in [(lock, &of_lock[..]), (rlock, &of_rlock[..])] {
        for (name, flags, original, function) in fronts.iter().filter(|front| !front.3.is_null()) {
            method::stand_before(of, name, *flags, original, *function);
        }
    }
    IS_ON.store(true, Relaxed);
}

fn stand_aside_all(lock: Object, rlock: Object) {
    let (of_lock, of_rlock) = fronts();
    for (of, fronts) in [(lock, &of_lock[..]), (rlock, &of_rlock[..])] {
        for (name, _, original, function) in fronts.iter().filter(|front| !front.3.is_null()) {
            method::stand_aside(of, name, original, *function);
        }
    }
}

/// Takes a lock of its own by every method, and looks whether it was seen.
unsafe fn self_test(class: Object, kind: u8) -> Result<(), &'static str> {
    const WRONG: &str = "the methods of locks do not fit: no lock is recorded";
    // SAFETY: attached; the objects are this function's own.
    unsafe {
        let object = ffi::PyObject_CallNoArgs(class);
        let object = if object.is_null() && kind == lock::LOCK {
            // Up to 3.12 the type cannot be called.
            ffi::PyErr_Clear();
            let name = ffi::PyImport_GetModuleDict();
            let thread = ffi::PyDict_GetItemString(name, c"_thread".as_ptr());
            if thread.is_null() {
                ptr::null_mut()
            } else {
                ffi::PyObject_CallMethod(thread, c"allocate_lock".as_ptr(), ptr::null())
            }
        } else {
            object
        };
        if object.is_null() {
            ffi::PyErr_Clear();
            return Err(WRONG);
        }
        let owner = || {
            let map = Map::get()?;
            table::find(map, object as usize).map(|(_, entry)| ((*entry).owner, (*entry).taken))
        };
        let me = {
            let here = Here::get_or_begin();
            if here.is_null() { 0 } else { (*here).number }
        };
        let mut is_right = true;
        let size = (*ffi::Py_TYPE(object)).tp_basicsize as usize;
        let says = |wanted: u8| HELD_AT.map(|at| kind == lock::LOCK && size > at && byte(object, at) == wanted);
        let mut is_there = says(0);
        let mut go_on = |wanted: u8| is_there.iter_mut().zip(says(wanted)).for_each(|(is, said)| *is &= said);
        for (turn, (take, give)) in [(c"acquire", c"release"), (c"__enter__", c"__exit__")].into_iter().enumerate() {
            let taken = ffi::PyObject_CallMethod(object, take.as_ptr(), ptr::null());
            is_right &= !taken.is_null() && owner() == Some((me, turn as u64 + 1));
            ffi::Py_XDECREF(taken);
            go_on(1);
            let given = ffi::PyObject_CallMethod(object, give.as_ptr(), ptr::null());
            is_right &= owner() == Some((0, turn as u64 + 1));
            go_on(0);
            if given.is_null() {
                // `__exit__` of an RLock wants no arguments, that of others none either; if not so, it is not what we know.
                is_right = false;
            }
            ffi::Py_XDECREF(given);
        }
        ffi::PyErr_Clear();
        if let (Some(map), here) = (Map::get(), Here::get())
            && !here.is_null()
        {
            table::remove(map, &mut *here, object as usize);
        }
        ffi::Py_DECREF(object);
        if kind == lock::LOCK {
            let found = HELD_AT.into_iter().zip(is_there).find(|(_, is)| *is);
            BYTE_AT.store(found.map_or(0, |(at, _)| at), Relaxed);
        }
        if is_right { Ok(()) } else { Err(WRONG) }
    }
}

/// The making and the end of locks.
unsafe fn stand_before_life(thread: Object, lock: Object, rlock: Object) -> Result<(), &'static str> {
    // SAFETY: types that live for ever, of which slots are exchanged that are read at each use.
    unsafe {
        method::stand_before(thread, c"allocate_lock", ffi::METH_NOARGS, &ALLOCATE, allocate as *mut ());
        method::stand_before(thread, c"allocate", ffi::METH_NOARGS, &ALLOCATE, allocate as *mut ());
        for (class, methods, new, dealloc) in [
            (lock.cast::<ffi::PyTypeObject>(), &LOCK, lock_new as ffi::newfunc, lock_dealloc as ffi::destructor),
            (rlock.cast::<ffi::PyTypeObject>(), &RLOCK, rlock_new as ffi::newfunc, rlock_dealloc as ffi::destructor),
        ] {
            let Some(was) = (*class).tp_dealloc else { return Err("locks have no end that could be seen") };
            methods.dealloc.keep(was as *mut ());
            (*class).tp_dealloc = Some(dealloc);
            // Up to 3.12 a lock is made by `allocate_lock` alone.
            if let Some(was) = (*class).tp_new {
                methods.new.keep(was as *mut ());
                (*class).tp_new = Some(new);
            }
        }
    }
    Ok(())
}
