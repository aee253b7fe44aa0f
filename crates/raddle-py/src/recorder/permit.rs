//! Permits of semaphores, which `threading` makes of a condition and a number: of threads that have some there are never more than there were permits.
//!
//! ```text
//!   __init__  self._cond = Condition(Lock())     this lock is that of a semaphore of `value` permits
//!   acquire   with self._cond: … rc = True       it is released in there: a permit was taken, if `rc` says so
//!   release   with self._cond: …                 `n` were given back, if no exception says otherwise
//! ```
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL of the main interpreter.
//! 2. Variables are read by their position, in functions of `threading` whose variables were found to be called so (`place`).
//! 3. What is not understood limits nothing: a semaphore whose lock is released anywhere else, of which a thread gives back what it has not got, as a signal,
//!    or that began with no permits. A permit that is not known of makes more be told, never less.
//! 4. A permit limits who holds a lock only if it was there first: who waits for one while holding the lock is in nobody's circle, but in the way.

use pyo3::ffi;
use raddle_trace::events::format::lock;

use super::file::Map;
use super::here::{Here, MOST_HELD};
use super::place::{self, Frame, Whose};
use super::table::{self, Entry};

/// Of so many semaphores the permits of one thread are known.
pub(super) const MOST: usize = 8;

/// The permits that a thread has of one semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Permit {
    /// The place of the lock that the semaphore has, and its number.
    number: u32,
    pub(super) serial: u32,
    pub(super) count: u16,
    /// How many there were at first.
    pub(super) of: u16,
    /// What was held when the last one was taken (rule 4).
    before: [u32; MOST_HELD],
    before_count: usize,
}

impl Permit {
    /// Whether it was there before this lock was taken. One that was let go of and taken again since is not told from one that was not.
    #[inline]
    pub(super) fn limits(&self, held: u32) -> bool {
        !self.before.iter().take(self.before_count).any(|before| *before == held)
    }

    /// Has the end of its semaphore be told, so that it is known what it was.
    pub(super) fn name(&self, map: Map) {
        let entry = table::entry(map, self.number);
        // SAFETY: rule 1; it was in use once, so it lies in room that was reserved.
        unsafe {
            if (*entry).serial == self.serial {
                (*entry).flags |= lock::IS_NAMED;
            }
        }
    }
}

/// Where these functions have their variables.
pub(super) const VALUE: usize = 1;
pub(super) const RC: usize = 3;
pub(super) const N: usize = 1;
pub(super) const ARGS: usize = 1;

/// The lock of a semaphore was made, in this frame of its `__init__`.
pub(super) fn made(entry: &mut Entry, frame: Frame) {
    if let Some(permits @ 1..) = number_in(frame, VALUE) {
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
    let mut is_raised = false;
    // Functions of the condition lie between: `__exit__`, or `wait` and what it calls.
    for _ in 0..4 {
        let Some(this) = frame else { break };
        match place::place(here, this).whose {
            Whose::Condition => {}
            Whose::ConditionExit => is_raised = has_exception(this),
            // SAFETY: only the address is looked at.
            Whose::PermitTaken if place::variable(this, RC) == unsafe { ffi::Py_True() } => {
                return take(map, here, (number, entry));
            }
            Whose::PermitTaken => return,
            Whose::PermitGiven if is_raised => return,
            Whose::PermitGiven => match number_in(this, N) {
                Some(count) => return give_back(here, entry, count),
                None => break,
            },
            _ => break,
        }
        frame = place::next(this);
    }
    entry.flags |= lock::IS_PASSED_ON; // rule 3
}

fn take(map: Map, here: &mut Here, (number, entry): (u32, &mut Entry)) {
    let count = here.held_count.min(MOST_HELD);
    let (before, of) = (here.held, u16::try_from(entry.permits).unwrap_or(u16::MAX));
    let known = here.permits.iter_mut().take(here.permit_count).find(|permit| permit.serial == entry.serial);
    if let Some(permit) = known {
        permit.count = permit.count.saturating_add(1);
        (permit.before, permit.before_count) = (before, count);
        return;
    }
    if here.permit_count >= MOST {
        leave_out(map, here);
    }
    if let Some(room) = here.permits.get_mut(here.permit_count) {
        *room = Permit { number, serial: entry.serial, count: 1, of, before, before_count: count };
        here.permit_count += 1;
    } else {
        here.more_permits += 1;
    }
}

/// Forgets permits of semaphores that are gone, or are there for signals.
fn leave_out(map: Map, here: &mut Here) {
    let mut kept = 0;
    for at in 0..here.permit_count.min(MOST) {
        let permit = here.permits[at];
        let entry = table::entry(map, permit.number);
        // SAFETY: rule 1; it was in use once, so it lies in room that was reserved.
        if unsafe { (*entry).serial == permit.serial && (*entry).flags & lock::IS_PASSED_ON == 0 } {
            here.permits[kept] = permit;
            kept += 1;
        }
    }
    here.permit_count = kept;
}

fn give_back(here: &mut Here, entry: &mut Entry, count: u32) {
    let of_it = here.permits.iter().take(here.permit_count).position(|permit| permit.serial == entry.serial);
    let Some(at) = of_it else {
        match here.more_permits.checked_sub(count) {
            Some(rest) => here.more_permits = rest,
            None => entry.flags |= lock::IS_PASSED_ON, // rule 3
        }
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

/// Whether a `with` of a condition is left by an exception.
fn has_exception(frame: Frame) -> bool {
    let arguments = place::variable(frame, ARGS);
    // SAFETY: rule 2: a tuple that lives as long as the function runs, or null.
    unsafe {
        !arguments.is_null()
            && ffi::PyTuple_CheckExact(arguments) != 0
            && ffi::PyTuple_GET_SIZE(arguments) > 0
            && ffi::PyTuple_GET_ITEM(arguments, 0) != ffi::Py_None()
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
