//! Permits of semaphores, which `threading` makes of a condition and a number: of threads that have some there are never more than there were permits.
//!
//! ```text
//!   __init__  self._cond = Condition(Lock())     this lock is that of a semaphore of `value` permits
//!   acquire   with self._cond: … rc = True       it is released in there: a permit was taken, if `rc` says so
//!   release   with self._cond: …                 `n` were given back; of a bounded one, if it did not raise ValueError
//! ```
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL of the main interpreter.
//! 2. Variables are read by their position, in functions of `threading` whose variables were found to be called so (`place`).
//! 3. What is not understood limits nothing: a semaphore whose lock is released anywhere else, of which a thread gives back what it has not got, as a signal,
//!    that began with no permits or more than can be counted, or of which somebody has a permit that there was no room for.
//! 4. A permit limits who holds a lock only if it was there first, or did not have to be waited for. A circle with somebody who waited for one while holding a
//!    lock is not limited by that semaphore at all: who has a permit may wait for that lock. So such a permit is told, too, as none.

use std::ptr;

use pyo3::ffi;
use raddle_trace::events::format::lock;

use super::file::Map;
use super::guarded::Guarded;
use super::here::{Here, MOST_HELD};
use super::place::{self, Frame, Whose};
use super::table::{self, Entry};

/// Of so many semaphores the permits of one thread are known.
pub(super) const MOST: usize = 8;
const MOST_OF_ONE: u32 = u16::MAX as u32;

/// The permits that a thread has of one semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Permit {
    /// The place of the lock that the semaphore has, and its number.
    number: u32,
    pub(super) serial: u32,
    pub(super) count: u16,
    /// How many there were at first.
    pub(super) of: u16,
    /// The numbers of the locks that were held when the last one was waited for (rule 4).
    before: [u32; MOST_HELD],
    before_count: usize,
}

impl Permit {
    /// How many of them limit who holds this lock: none if it was held before. One that was let go of and taken again since is not told from one that was
    /// not.
    pub(super) fn limits(&self, held: u32) -> u16 {
        let is_before = self.before.iter().take(self.before_count).any(|before| *before == held);
        if is_before { 0 } else { self.count }
    }

    /// Whether its semaphore is there, and limits anything, as far as is known.
    fn is_of_limit(&self, map: Map) -> bool {
        let entry = table::entry(map, self.number);
        // SAFETY: rule 1; it was in use once, so it lies in room that was reserved.
        unsafe { (*entry).serial == self.serial && (*entry).flags & lock::IS_PASSED_ON == 0 }
    }

    /// Whether it is told with orders of locks.
    pub(super) fn is_told(&self, map: Map) -> bool {
        // SAFETY: as above.
        self.is_of_limit(map) && unsafe { (*table::entry(map, self.number)).flags } & lock::IS_NAMED != 0
    }
}

/// Where these functions have their variables.
pub(super) const VALUE: usize = 1;
pub(super) const BLOCKING: usize = 1;
pub(super) const RC: usize = 3;
pub(super) const N: usize = 1;
pub(super) const ARGS: usize = 1;

/// The lock of a semaphore was made, in this frame of its `__init__`.
pub(super) fn made(entry: &mut Entry, frame: Frame) {
    if let Some(permits @ 1..=MOST_OF_ONE) = number_in(frame, VALUE) {
        entry.permits = permits;
        entry.flags |= lock::IS_PERMITS;
    }
}

/// The lock of a semaphore is released.
#[cold]
pub(super) fn released(map: Map, here: &mut Here, (number, entry): (u32, &mut Entry)) {
    if entry.flags & lock::IS_PASSED_ON != 0 {
        return;
    }
    let mut frame = place::innermost(here);
    let mut raised = ptr::null_mut();
    // Functions of the condition lie between: `__exit__`, or `wait` and what it calls.
    for _ in 0..4 {
        let Some(this) = frame else { break };
        match place::place(here, this).whose {
            Whose::Condition => {}
            Whose::ConditionExit => raised = exception(this),
            // SAFETY: only the address is looked at.
            Whose::PermitTaken if place::variable(this, RC) == unsafe { ffi::Py_True() } => {
                // SAFETY: as above.
                let has_waited = place::variable(this, BLOCKING) != unsafe { ffi::Py_False() };
                return take(map, here, (number, entry), has_waited);
            }
            Whose::PermitTaken => return,
            Whose::PermitGiven | Whose::BoundedPermitGiven if raised.is_null() => match number_in(this, N) {
                Some(count) => return give_back(here, entry, count),
                None => break,
            },
            // SAFETY: as above.
            Whose::BoundedPermitGiven if raised == unsafe { ffi::PyExc_ValueError } => return,
            _ => break,
        }
        frame = place::next(this);
    }
    entry.flags |= lock::IS_PASSED_ON; // rule 3
}

fn take(map: Map, here: &mut Here, (number, entry): (u32, &mut Entry), has_waited: bool) {
    let count = if has_waited { here.held_count.min(MOST_HELD) } else { 0 };
    let mut before = [0; MOST_HELD];
    for (serial, held) in before.iter_mut().zip(&here.held[..count]) {
        // SAFETY: rule 1; an entry that is held is in use.
        *serial = unsafe { (*table::entry(map, *held)).serial };
    }
    let of = entry.permits as u16;
    if entry.flags & lock::IS_NAMED == 0 && is_to_be_told(entry.made) {
        entry.flags |= lock::IS_NAMED;
    }
    let known = here.permits.iter_mut().take(here.permit_count).find(|permit| permit.serial == entry.serial);
    if let Some(permit) = known {
        permit.count = permit.count.saturating_add(1);
        if has_waited {
            (permit.before, permit.before_count) = (before, count);
        }
        return;
    }
    if here.permit_count >= MOST {
        leave_out(map, here);
    }
    if let Some(room) = here.permits.get_mut(here.permit_count) {
        *room = Permit { number, serial: entry.serial, count: 1, of, before, before_count: count };
        here.permit_count += 1;
    } else {
        entry.flags |= lock::IS_PASSED_ON; // rule 3
    }
}

/// How many semaphores are told of, of those that were made at the same place, and of those for whose place there is no room: a program may make one for
/// each thing that it does.
const MOST_OF_PLACE: u32 = 64;
const MOST_BESIDES: u32 = 4096;

/// How many were, by the stacks by which they were made; and besides.
static TOLD: Guarded<([(u32, u32); 64], u32)> = Guarded::new(([(0, 0); 64], 0));

/// Whether one more semaphore that was made there is told of. Its end is told then, so that it is known what it was.
fn is_to_be_told(made: u32) -> bool {
    // SAFETY: rule 1.
    let (places, besides) = unsafe { &mut *TOLD.get() };
    let (place, count) = &mut places[made as usize % 64];
    if *count == 0 {
        *place = made;
    }
    let (count, most) = if *place == made { (count, MOST_OF_PLACE) } else { (besides, MOST_BESIDES) };
    *count += u32::from(*count < most);
    *count < most
}

/// Forgets permits of semaphores that are gone, or are there for signals.
fn leave_out(map: Map, here: &mut Here) {
    let mut kept = 0;
    for at in 0..here.permit_count.min(MOST) {
        let permit = here.permits[at];
        if permit.is_of_limit(map) {
            here.permits[kept] = permit;
            kept += 1;
        }
    }
    here.permit_count = kept;
}

fn give_back(here: &mut Here, entry: &mut Entry, count: u32) {
    let of_it = here.permits.iter().take(here.permit_count).position(|permit| permit.serial == entry.serial);
    let Some(at) = of_it else {
        entry.flags |= lock::IS_PASSED_ON; // rule 3
        return;
    };
    match u32::from(here.permits[at].count).checked_sub(count) {
        Some(0) => {
            here.permits.copy_within(at + 1..here.permit_count, at);
            here.permit_count -= 1;
        }
        Some(rest) => here.permits[at].count = rest as u16,
        None => entry.flags |= lock::IS_PASSED_ON,
    }
}

/// The type of the exception by which a `with` of a condition is left; null if by none.
fn exception(frame: Frame) -> *mut ffi::PyObject {
    let arguments = place::variable(frame, ARGS);
    // SAFETY: rule 2: a tuple that lives as long as the function runs, or null.
    unsafe {
        if arguments.is_null() || ffi::PyTuple_CheckExact(arguments) == 0 || ffi::PyTuple_GET_SIZE(arguments) == 0 {
            return ptr::null_mut();
        }
        let raised = ffi::PyTuple_GET_ITEM(arguments, 0);
        if raised == ffi::Py_None() { ptr::null_mut() } else { raised }
    }
}

/// The whole number that a variable is.
fn number_in(frame: Frame, variable: usize) -> Option<u32> {
    let object = place::variable(frame, variable);
    // SAFETY: rule 2: an object that lives as long as the function runs, or null.
    unsafe {
        if object.is_null() || ffi::PyLong_CheckExact(object) == 0 {
            return None;
        }
        let mut overflow = 0;
        let number = ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow);
        if overflow == 0 { u32::try_from(number).ok() } else { None }
    }
}
