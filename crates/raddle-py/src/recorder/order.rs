//! In which order locks are taken: each pair, once for each thread.
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL of the main interpreter.
//! 2. What is known is known by serial numbers, so a lock that is gone is never taken for a new one.

use raddle_trace::events::format::{STACK_DEPTH, lock, record};

use super::file::{self, Map};
use super::guarded::Guarded;
use super::here::Here;
use super::place;
use super::table::{self, Entry};

/// Room for pairs: what there is at first, and at most.
const ROOM_AT_FIRST: usize = 1 << 9;
const ROOM: usize = 1 << 15;

/// (lock that was held, lock that was taken), thread; by a hash that is never 0.
struct Known {
    hashes: [u64; ROOM],
    /// By how much the part that is used is larger than at first. No larger than it has to be: a look is to meet the processor's caches.
    growth: usize,
    count: usize,
}

// Nothing but zeros, so that it takes no room in the extension's file.
static KNOWN: Guarded<Known> = Guarded::new(Known { hashes: [0; ROOM], growth: 0, count: 0 });

/// The thread takes a lock while it holds others.
#[inline]
pub(super) fn note(map: Map, here: &mut Here, taken: u32, entry: &mut Entry) {
    for at in 0..here.held_count {
        let number = here.held[at];
        if number == taken {
            continue;
        }
        let held = table::entry(map, number);
        // SAFETY: rule 1; an entry that is held is in use.
        let serial = unsafe { (*held).serial };
        let hash =
            place::mix(place::mix(u64::from(serial) << 32 | u64::from(entry.serial)) ^ u64::from(here.number)) | 1;
        if !is_known(hash) {
            write(map, here, at, entry);
        }
    }
}

#[inline]
fn is_known(hash: u64) -> bool {
    // SAFETY: rule 1.
    let known = unsafe { &mut *KNOWN.get() };
    match known.search(hash) {
        Some(at) if known.hashes[at] == hash => true,
        Some(at) => {
            known.add(at, hash);
            false
        }
        None => true, // no room: it is not told
    }
}

impl Known {
    /// What of a hash counts.
    #[inline]
    fn mask(&self) -> usize {
        self.growth + ROOM_AT_FIRST - 1
    }

    /// Where this hash is, or would be.
    #[inline]
    fn search(&self, hash: u64) -> Option<usize> {
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
    fn add(&mut self, at: usize, hash: u64) {
        self.hashes[at] = hash;
        self.count += 1;
        // A quarter full it is made four times as large, so that no search is long before the room is at its end.
        let room = self.mask() + 1;
        if self.count * 4 >= room && room < ROOM {
            let kept: Vec<u64> = self.hashes[..room].iter().copied().filter(|hash| *hash != 0).collect();
            self.hashes[..room].fill(0);
            self.growth = room * 4 - ROOM_AT_FIRST;
            for hash in kept {
                if let Some(at) = self.search(hash) {
                    self.hashes[at] = hash;
                }
            }
        }
    }
}

#[cold]
fn write(map: Map, here: &mut Here, held_at: usize, entry: &mut Entry) {
    let held = table::entry(map, here.held[held_at]);
    let first = place::innermost(here);
    let stack = place::stack(here, first, STACK_DEPTH);
    // SAFETY: rule 1.
    let (serial, place, code) = unsafe {
        (*held).flags |= lock::IS_NAMED;
        ((*held).serial, (*held).taken_at, (*held).code)
    };
    entry.flags |= lock::IS_NAMED;
    let tstate = here.tstate;
    let taken = place::stack_of_other(here, tstate, code, place);
    let mut words = [0_u64; 6];
    words[0] = u64::from(entry.serial) | u64::from(here.number) << 32;
    words[1] = file::now();
    words[2] = u64::from(stack) | u64::from(taken) << 32;
    let mut gates = 0;
    for (at, number) in here.held[..here.held_count].iter().enumerate() {
        if at != held_at && gates < 6 {
            // SAFETY: rule 1.
            let gate = unsafe { (*table::entry(map, *number)).serial };
            words[3 + gates / 2] |= u64::from(gate) << (gates % 2 * 32);
            gates += 1;
        }
    }
    here.write(record::ORDER, gates as u8, serial, &words[..3 + gates.div_ceil(2)]);
}
