//! In which order locks are taken: each pair, once for each thread and each way in which it matters.
//!
//! Whether two orders can end in a deadlock depends on what else was held at that time, and on which threads there were. So a pair is told again if it
//! comes with other locks around it, or after another thread has begun.
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL of the main interpreter.
//! 2. What is known is known by serial numbers, so a lock that is gone is never taken for a new one.
//! 3. What is known is forgotten when there is no more room for it: most of it is of locks and threads that are gone. What comes again is told again, if its
//!    thread does not know it any more either, up to [`MOST_TOLD`] in all; after that it is counted.

use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_trace::events::format::{STACK_DEPTH, header, lock, record};

use super::file::{self, Map};
use super::guarded::Guarded;
use super::here::{Here, MOST_HELD};
use super::permit::{self, Permit};
use super::place;
use super::table::{self, Entry};

/// Room for pairs: what there is at first, and at most.
const ROOM_AT_FIRST: usize = 1 << 9;
const ROOM: usize = 1 << 15;
/// How many are told. They take a tenth of the file's usual room.
const MOST_TOLD: u32 = 1 << 17;

/// (lock that was held, lock that was taken), what else was held, thread, the newest thread; by a hash that is never 0. It is short, so that many meet the
/// processor's nearest cache: of a hundred thousand pairs one or two are taken for another one, and not told.
#[repr(C)]
struct Known {
    /// By how much the part that is used is larger than at first. No larger than it has to be: a look is to meet the processor's caches.
    growth: usize,
    count: usize,
    written: u32,
    hashes: [u32; ROOM],
}

// Nothing but zeros, so that it takes no room in the extension's file.
static KNOWN: Guarded<Known> = Guarded::new(Known { growth: 0, count: 0, written: 0, hashes: [0; ROOM] });

/// How many orders a thread has at hand. A power of two.
const AT_HAND: usize = 128;

/// Orders that a thread knows to be known, by their hashes. What is the thread's own is mostly in the nearest cache of its processor, where the table of all
/// that is known is not.
pub(super) struct Recent([u32; AT_HAND]);

impl Recent {
    pub(super) const NONE: Self = Self([0; AT_HAND]);

    /// Whether this one is known. If not, it is taken to be from now on.
    #[inline]
    fn has(&mut self, hash: u32) -> bool {
        std::mem::replace(&mut self.0[(hash >> 1) as usize % AT_HAND], hash) == hash
    }
}

/// The order of a lock that is held and one that is taken, as it is known.
#[inline]
fn hash_of(held: u32, taken: u32, around: u64) -> u32 {
    let pair = u64::from(held) << 32 | u64::from(taken);
    (place::mix(place::mix(pair) ^ around) >> 32) as u32 | 1
}

/// What counts of a thread, and of the threads that there are.
#[inline]
fn threads(here: &Here) -> u64 {
    u64::from(here.number) << 32 | u64::from(Here::newest())
}

/// The thread takes a lock while it holds others.
#[inline]
pub(super) fn note(map: Map, here: &mut Here, taken: u32, entry: &mut Entry) {
    if here.held_count == 1 && here.permit_count == 0 && here.held[0] != taken {
        // What happens most, without all that more locks need.
        let held = table::entry(map, here.held[0]);
        // SAFETY: rule 1; an entry lies in room that was reserved.
        let (owner, serial) = unsafe { ((*held).owner, (*held).serial) };
        let around = place::mix(threads(here) ^ u64::from(serial));
        if owner == here.number && here.orders.has(hash_of(serial, entry.serial, around)) {
            return;
        }
    }
    note_all(map, here, taken, entry);
}

fn note_all(map: Map, here: &mut Here, taken: u32, entry: &mut Entry) {
    leave_out_released(map, here);
    let mut serials = [0; MOST_HELD];
    let mut around = threads(here);
    for (serial, number) in serials.iter_mut().zip(&here.held[..here.held_count]) {
        // SAFETY: rule 1; an entry that is held is in use.
        *serial = unsafe { (*table::entry(map, *number)).serial };
        around = place::mix(around ^ u64::from(*serial));
    }
    for at in 0..here.held_count {
        if here.held[at] == taken {
            continue;
        }
        let around = if here.permit_count == 0 { around } else { around_permits(map, here, serials[at], around) };
        // SAFETY: rule 1.
        let known = unsafe { &mut *KNOWN.get() };
        if known.is_news(hash_of(serials[at], entry.serial, around)) {
            if known.written < MOST_TOLD {
                known.written += 1;
                write(map, here, at, &serials, entry);
            } else {
                map.word(header::ORDERS_UNSEEN).fetch_add(1, Relaxed);
            }
        }
    }
}

/// What else is there, with the permits of the thread, for who holds this lock.
#[cold]
fn around_permits(map: Map, here: &Here, held: u32, around: u64) -> u64 {
    told(map, here).fold(around, |around, permit| {
        place::mix(around ^ (u64::from(permit.serial) << 32 | u64::from(permit.limits(held))))
    })
}

/// The permits that are told.
fn told(map: Map, here: &Here) -> impl Iterator<Item = &Permit> {
    here.permits.iter().take(here.permit_count).filter(move |permit| permit.is_told(map))
}

/// Whether the thread holds fewer locks than can be known, once those are left out that others have released.
#[cold]
pub(super) fn has_room(map: Map, here: &mut Here) -> bool {
    leave_out_released(map, here);
    here.held_count < MOST_HELD
}

/// Forgets locks that somebody else has released who could not find this thread.
#[inline]
fn leave_out_released(map: Map, here: &mut Here) {
    for at in (0..here.held_count).rev() {
        // SAFETY: rule 1; an entry lies in room that was reserved.
        if unsafe { (*table::entry(map, here.held[at])).owner } != here.number {
            here.let_go(at);
        }
    }
}

/// In a forked child: nothing has been told in its file.
pub(super) fn forked() {
    // SAFETY: the child has one thread, and it holds the GIL.
    let known = unsafe { &mut *KNOWN.get() };
    known.forget();
    known.written = 0;
}

impl Known {
    /// Whether this is not known. Then it is from now on.
    #[inline]
    fn is_news(&mut self, hash: u32) -> bool {
        match self.search(hash) {
            Some(at) if self.hashes[at] == hash => false,
            Some(at) => {
                self.add(at, hash);
                true
            }
            None => {
                self.forget();
                self.is_news(hash)
            }
        }
    }

    #[cold]
    fn forget(&mut self) {
        let room = self.mask() + 1;
        self.hashes[..room].fill(0);
        self.count = 0;
    }

    /// What of a hash counts.
    #[inline]
    fn mask(&self) -> usize {
        self.growth + ROOM_AT_FIRST - 1
    }

    /// Where this hash is, or would be.
    #[inline]
    fn search(&self, hash: u32) -> Option<usize> {
        let mut at = (hash >> 1) as usize & self.mask();
        for _ in 0..32 {
            let found = self.hashes[at & (ROOM - 1)];
            if found == hash || found == 0 {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    #[cold]
    fn add(&mut self, at: usize, hash: u32) {
        self.hashes[at] = hash;
        self.count += 1;
        // Half full it is made twice as large: no search is long, and what is used lies close together.
        let room = self.mask() + 1;
        if self.count * 2 >= room && room < ROOM {
            let kept: Vec<u32> = self.hashes[..room].iter().copied().filter(|hash| *hash != 0).collect();
            self.hashes[..room].fill(0);
            self.growth = room * 2 - ROOM_AT_FIRST;
            for hash in kept {
                if let Some(at) = self.search(hash) {
                    self.hashes[at] = hash;
                }
            }
        }
    }
}

#[cold]
fn write(map: Map, here: &mut Here, held_at: usize, serials: &[u32; MOST_HELD], entry: &mut Entry) {
    let held = table::entry(map, here.held[held_at]);
    let first = place::innermost(here);
    let stack = place::stack(here, first, STACK_DEPTH);
    // SAFETY: rule 1.
    let (place, code) = unsafe {
        (*held).flags |= lock::IS_NAMED;
        ((*held).taken_at, (*held).code)
    };
    entry.flags |= lock::IS_NAMED;
    let tstate = here.tstate;
    let taken = place::stack_of_other(here, tstate, code, place);
    let mut words = [0_u64; 3 + MOST_HELD / 2 + permit::MOST];
    words[0] = u64::from(entry.serial) | u64::from(here.number) << 32;
    words[1] = file::now();
    words[2] = u64::from(stack) | u64::from(taken) << 32;
    let mut gates = 0;
    for (_, gate) in serials[..here.held_count].iter().enumerate().filter(|(at, _)| *at != held_at) {
        words[3 + gates / 2] |= u64::from(*gate) << (gates % 2 * 32);
        gates += 1;
    }
    let permits_at = 3 + gates.div_ceil(2);
    let mut permits = 0;
    for (word, permit) in words[permits_at..].iter_mut().zip(told(map, here)) {
        let count = permit.limits(serials[held_at]);
        *word = u64::from(permit.serial) | u64::from(count) << 32 | u64::from(permit.of) << 48;
        permits += 1;
    }
    let counts = gates as u8 | (permits as u8) << 4;
    here.write(record::ORDER, counts, serials[held_at], &words[..permits_at + permits]);
}
