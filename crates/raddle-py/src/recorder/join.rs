//! Who knows of the end of a thread.
//!
//! Joining a thread that has ended already waits for nothing, and would leave no trace. So what is listened to is not the wait, but what tells of the end:
//!
//! ```text
//!   up to 3.12   each thread holds a lock as long as it lives; `join` and `is_alive` take it, as soon as the interpreter has released it
//!   from 3.13    each thread has a handle; `join` and `is_alive` ask it
//! ```
//!
//! A class of the program's with a `join` of its own comes here all the same, if that waits for the end at all. There are other ways to learn that a thread is
//! done: an event that it sets, a queue that it fills. They are not understood here; it is only noted that the thread has *met* another one: that both have taken the
//! same lock, which the program made, or which is a part of an event, a condition, a queue, a future, whoever made that.
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL of the main interpreter, but for the functions that stand in front, which call the one that was there in any case, once.
//! 2. An end is noted once, or a few times: not each time that somebody looks.
//! 3. A thread has met others once and for all.

use std::ptr;

use pyo3::ffi;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_trace::events::format::{STACK_DEPTH, flag, header, lock, record};

use super::file::{self, Map};
use super::guarded::Guarded;
use super::here::Here;
use super::method::{self, Original};
use super::table::{self, Entry};
use super::{lock as locks, place};

type Object = *mut ffi::PyObject;

static SET_SENTINEL: Original = Original::new();
static JOIN: Original = Original::new();
static IS_DONE: Original = Original::new();
static SHUTDOWN: Original = Original::new();
static PUT: Original = Original::new();

const ROOM: usize = 1 << 12;

/// Handles whose end was noted, by the low bits of their addresses.
static OVER: Guarded<[usize; ROOM]> = Guarded::new([0; ROOM]);
/// Threads that have met others, by the low bits of their numbers.
static MET: Guarded<[u32; ROOM]> = Guarded::new([0; ROOM]);
/// Whether simple queues have somebody in front.
static HAS_QUEUES: Guarded<bool> = Guarded::new(false);

/// `_thread._set_sentinel`, up to 3.12: makes the lock that this thread will hold as long as it lives.
unsafe extern "C" fn set_sentinel(module: Object, nothing: Object) -> Object {
    // SAFETY: CPython's own arguments for this function.
    unsafe {
        let made = SET_SENTINEL.plain()(module, nothing);
        if !made.is_null()
            && let Some((map, here)) = locks::enter()
        {
            table::remove(map, &mut *here, made as usize); // one that was taken apart unseen
            if let Some((_, entry)) = table::find_or_add(map, made as usize, lock::LOCK) {
                (*entry).flags |= lock::IS_LIFE;
            }
        }
        made
    }
}

/// Somebody gets the lock that another thread has held as long as it lived. From now on it is a lock as others are.
#[cold]
pub(super) fn over(here: &mut Here, entry: &mut Entry) {
    entry.flags &= !lock::IS_LIFE;
    if entry.owner != here.number {
        note(here, entry.owner, 0);
    }
}

fn note(here: &mut Here, of: u32, handle: usize) {
    let first = place::innermost(here);
    let stack = place::stack(here, first, STACK_DEPTH);
    here.write(record::JOINED, 0, of, &[file::now(), handle as u64, u64::from(stack)]);
}

/// `_ThreadHandle.join`, from 3.13 on.
unsafe extern "C" fn handle_join(this: Object, arguments: Object) -> Object {
    // SAFETY: as above; asking whether it is done runs no code of the program and cannot fail.
    unsafe {
        let result = JOIN.plain()(this, arguments);
        if !result.is_null() {
            let answer = IS_DONE.plain()(this, ptr::null_mut());
            if answer == ffi::Py_True() {
                done(this);
            }
            ffi::Py_XDECREF(answer);
        }
        result
    }
}

/// `_ThreadHandle.is_done`.
unsafe extern "C" fn handle_is_done(this: Object, nothing: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let answer = IS_DONE.plain()(this, nothing);
        if answer == ffi::Py_True() {
            done(this);
        }
        answer
    }
}

fn done(handle: Object) {
    let Some((_, here)) = locks::enter() else { return };
    // SAFETY: rule 1; the index is within the table.
    let slot = unsafe { &mut (*OVER.get())[slot(handle)] };
    if *slot != handle as usize {
        *slot = handle as usize;
        // SAFETY: this thread's own.
        note(unsafe { &mut *here }, 0, handle as usize);
    }
}

fn slot(handle: Object) -> usize {
    // Objects are aligned to 16.
    place::mix(handle as u64 >> 4) as usize % ROOM
}

/// A handle is given to a new thread: an old one at its address is gone.
pub(super) fn begins(handle: Object) {
    if locks::enter().is_some() {
        // SAFETY: as above.
        unsafe { (*OVER.get())[slot(handle)] = 0 };
    }
}

/// `_thread._shutdown`, from 3.13 on: the main thread waits for the others, and has nothing else left to do.
unsafe extern "C" fn shutdown(module: Object, nothing: Object) -> Object {
    if let Some((map, _)) = locks::enter() {
        main_ends(map);
    }
    // SAFETY: as above.
    unsafe { SHUTDOWN.plain()(module, nothing) }
}

pub(super) fn main_ends(map: Map) {
    let word = map.word(header::MAIN_ENDED);
    if word.load(Relaxed) == 0 {
        word.store(file::now(), Relaxed);
    }
}

/// This thread takes a lock that it has not taken last.
#[inline]
pub(super) fn meet(here: &mut Here, entry: &mut Entry) {
    if entry.flags & lock::IS_MEETING != 0 {
        // That an event is set can be seen without its lock.
        if !here.has_met && (entry.taker != 0 || entry.flags & lock::IS_EVENT != 0) {
            has_met(here, here.number);
        }
        // Whoever took it later has been noted then.
        if entry.taker != 0 && !entry.is_met {
            entry.is_met = true;
            has_met(here, entry.taker);
        }
    }
    entry.taker = here.number;
}

#[cold]
fn has_met(here: &mut Here, number: u32) {
    here.has_met |= number == here.number;
    // SAFETY: as above.
    let slot = unsafe { &mut (*MET.get())[number as usize % ROOM] };
    if *slot != number {
        *slot = number;
        here.write(record::MET, 0, number, &[file::now()]);
    }
}

/// `SimpleQueue.put`, which has a lock that is not seen.
unsafe extern "C" fn put(this: Object, arguments: *const Object, count: ffi::Py_ssize_t, names: Object) -> Object {
    if let Some((_, here)) = locks::enter() {
        // SAFETY: this thread's own.
        let here = unsafe { &mut *here };
        has_met(here, here.number);
    }
    // SAFETY: as above.
    unsafe { PUT.fast()(this, arguments, count, names) }
}

/// A thread was started: by which means could it talk to others that no lock is seen of?
pub(super) fn look_for_means(map: Map) {
    // SAFETY: rule 1; all is borrowed from the dictionaries of modules, by names that are strings.
    unsafe {
        let modules = ffi::PyImport_GetModuleDict();
        if modules.is_null() {
            return;
        }
        if !ffi::PyDict_GetItemString(modules, c"raddle".as_ptr()).is_null() {
            map.half(header::FLAGS).fetch_or(flag::UNSEEN_MEANS, Relaxed);
        }
        let has_queues = &mut *HAS_QUEUES.get();
        let module = if *has_queues { ptr::null_mut() } else { ffi::PyDict_GetItemString(modules, c"_queue".as_ptr()) };
        if module.is_null() || ffi::PyModule_Check(module) == 0 {
            return;
        }
        *has_queues = true;
        let class = ffi::PyDict_GetItemString(ffi::PyModule_GetDict(module), c"SimpleQueue".as_ptr());
        let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        if class.is_null() || !method::stand_before(class, c"put", flags, &PUT, put as *mut ()) {
            map.half(header::FLAGS).fetch_or(flag::UNSEEN_MEANS, Relaxed);
        }
    }
}

/// # Safety
///
/// Attached; `thread` is the module `_thread`.
pub(super) unsafe fn install(thread: Object) -> Result<(), &'static str> {
    const WRONG: &str = "who joins threads is not recorded: none is told that nobody waited for, or that was left over";
    let no_arguments = ffi::METH_NOARGS;
    let fits = if cfg!(Py_3_13) {
        // SAFETY: attached; the type lives as long as the module.
        let handle = unsafe { ffi::PyObject_GetAttrString(thread, c"_ThreadHandle".as_ptr()) };
        if handle.is_null() {
            // SAFETY: attached.
            unsafe { ffi::PyErr_Clear() };
            return Err(WRONG);
        }
        // `join` asks `is_done`, which must be there before.
        let fits = method::stand_before(handle, c"is_done", no_arguments, &IS_DONE, handle_is_done as *mut ())
            && method::stand_before(handle, c"join", ffi::METH_VARARGS, &JOIN, handle_join as *mut ())
            && method::stand_before(thread, c"_shutdown", no_arguments, &SHUTDOWN, shutdown as *mut ());
        // SAFETY: a reference of this function's own.
        unsafe { ffi::Py_DECREF(handle) };
        fits
    } else {
        method::stand_before(thread, c"_set_sentinel", no_arguments, &SET_SENTINEL, set_sentinel as *mut ())
    };
    if fits { Ok(()) } else { Err(WRONG) }
}
