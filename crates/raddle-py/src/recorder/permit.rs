//! Permits of semaphores, which `threading` makes of a condition and a number: of threads that have some there are never more than there were permits.
//!
//! ```text
//!   __init__  self._cond = Condition(Lock())     this lock is that of a semaphore of `value` permits
//!   acquire   with self._cond: … rc = True       it is released in there: a permit was taken, if `rc` says so
//!   release   with self._cond: …                 `n` were given back
//! ```
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL of the main interpreter.
//! 2. Variables are read by their position, in functions of `threading` whose variables were found to be called so (`place`).
//! 3. A semaphore of which a thread gives back what it has not got is there for signals, and limits nothing; nor does one that began with none.

use pyo3::ffi;
use raddle_trace::events::format::lock;

use super::here::Here;
use super::place::{self, Frame, Whose};
use super::table::Entry;

/// So many permits of one thread are known.
pub(super) const MOST: usize = 8;

/// A permit that a thread has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Permit {
    /// The number of the lock that the semaphore has.
    pub(super) serial: u32,
    /// How many permits there were at first.
    pub(super) of: u32,
}

/// Where these functions have their variables.
pub(super) const VALUE: usize = 1;
pub(super) const RC: usize = 3;
pub(super) const N: usize = 1;

/// The lock of a semaphore was made, in this frame of its `__init__`.
pub(super) fn made(entry: &mut Entry, frame: Frame) {
    if let Some(permits @ 1..) = number(frame, VALUE) {
        entry.permits = permits;
        entry.flags |= lock::IS_PERMITS;
    }
}

/// The lock of a semaphore is released.
#[cold]
pub(super) fn released(here: &mut Here, entry: &mut Entry) {
    let mut frame = place::innermost(here);
    // `Condition.__exit__` lies between.
    for _ in 0..2 {
        let Some(this) = frame else { return };
        match place::place(here, this).whose {
            Whose::PermitTaken => {
                // SAFETY: only the address is looked at.
                if place::variable(this, RC) == unsafe { ffi::Py_True() } {
                    take(here, entry);
                }
                return;
            }
            Whose::PermitGiven => return give_back(here, entry, number(this, N).unwrap_or(1)),
            _ => frame = place::next(this),
        }
    }
}

fn take(here: &mut Here, entry: &mut Entry) {
    entry.flags |= lock::IS_NAMED; // its end is told, so that it is known what it was
    match here.permits.get_mut(here.permit_count) {
        Some(room) => {
            *room = Permit { serial: entry.serial, of: entry.permits };
            here.permit_count += 1;
        }
        None => entry.flags |= lock::IS_PASSED_ON,
    }
}

fn give_back(here: &mut Here, entry: &mut Entry, count: u32) {
    for _ in 0..count.min(MOST as u32 + 1) {
        let known = here.permits.iter().take(here.permit_count);
        let Some(at) = known.rev().position(|permit| permit.serial == entry.serial) else {
            entry.flags |= lock::IS_PASSED_ON; // rule 3
            return;
        };
        let at = here.permit_count - 1 - at;
        here.permits.copy_within(at + 1..here.permit_count, at);
        here.permit_count -= 1;
    }
}

/// The whole number that a variable is.
fn number(frame: Frame, variable: usize) -> Option<u32> {
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
