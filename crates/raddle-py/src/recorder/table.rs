//! The locks that there are: what is known of each lies in the file, and an index by addresses beside it.
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL of the main interpreter, and calls nothing of Python meanwhile.
//! 2. A lock has one entry from when it was made or first taken until it is deallocated. A serial number is never given twice.
//! 3. The index is open addressing with linear probing; a removal moves those behind up (Knuth, algorithm 6.4 R), so nothing is left that is dead.
//!    It is at most half full, and as small as that allows: scattered over many pages, each look would be a miss of the processor's caches.

use std::mem::offset_of;
use std::ptr;

use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_trace::events::format::{LOCK_COUNT, header, lock, record};

use super::file::{self, Map};
use super::guarded::Guarded;
use super::here::{Here, MOST_HELD};
use super::place;

/// What is known of a lock. Whoever takes or releases one that nobody waits for touches the first half only, which is one line of a processor's cache;
/// the front part is read by others.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) object: u64,
    pub(super) serial: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// For how many holds the one that began at `since` stands; 0: it is not timed.
    pub(super) weight: u8,
    /// Two threads have taken it, and that was noted of the first.
    pub(super) is_met: bool,
    pub(super) owner: u32,
    pub(super) waiters: u32,
    pub(super) since: u64,
    pub(super) taken_at: u32,
    /// Who took it last.
    pub(super) taker: u32,
    pub(super) taken: u64,
    pub(super) held: u64,
    /// The instruction that `taken_at` is the number of.
    pub(super) instruction: usize,

    pub(super) waited: u64,
    pub(super) made: u32,
    pub(super) contended: u32,
    /// Who released it last while others waited, and when.
    pub(super) releaser: u32,
    next_free: u32,
    pub(super) released: u64,
    /// The code that `instruction` is of.
    pub(super) code: usize,
    /// How many permits the semaphore had at first whose lock it is.
    pub(super) permits: u32,
    spare: [u32; 5],
}

const _: () = {
    assert!(size_of::<Entry>() == lock::SIZE && offset_of!(Entry, waited) == 64);
    assert!(
        offset_of!(Entry, serial) == lock::SERIAL
            && offset_of!(Entry, kind) == lock::KIND
            && offset_of!(Entry, flags) == lock::FLAGS
    );
    assert!(
        offset_of!(Entry, owner) == lock::OWNER
            && offset_of!(Entry, waiters) == lock::WAITERS
            && offset_of!(Entry, since) == lock::SINCE
    );
    assert!(
        offset_of!(Entry, taken_at) == lock::TAKEN_AT
            && offset_of!(Entry, made) == lock::MADE
            && offset_of!(Entry, taken) == lock::TAKEN
    );
    assert!(
        offset_of!(Entry, held) == lock::HELD
            && offset_of!(Entry, waited) == lock::WAITED
            && offset_of!(Entry, contended) == lock::CONTENDED
    );
};

/// Room of the index: what it begins with, and what it has at most. Powers of two.
const INDEX_AT_FIRST: usize = 1 << 6;
const INDEX: usize = (2 * LOCK_COUNT).next_power_of_two();
/// How many entries the kernel is asked for at a time.
const AHEAD: usize = 128;

#[repr(C)]
struct Table {
    /// By how much the part of the index that is used is larger than at first.
    growth: usize,
    /// How many entries have been in use, and how many there is room for so far.
    used: usize,
    reserved: usize,
    /// The first that is free again, + 1.
    free: u32,
    last_serial: u32,
    /// Entries by the addresses of their objects: number + 1, or 0.
    index: [u32; INDEX],
}

// Nothing but zeros, so that it takes no room in the extension's file.
static TABLE: Guarded<Table> =
    Guarded::new(Table { growth: 0, used: 0, reserved: 0, free: 0, last_serial: 0, index: [0; INDEX] });

impl Table {
    /// What of a hash counts.
    #[inline]
    fn mask(&self) -> usize {
        self.growth + INDEX_AT_FIRST - 1
    }

    /// Where the search for an object begins.
    #[inline]
    fn home(&self, object: usize) -> usize {
        // Objects are aligned to 16.
        place::mix(object as u64 >> 4) as usize & self.mask()
    }

    fn insert(&mut self, object: usize, number: u32) {
        let mut at = self.home(object);
        while self.index[at] != 0 {
            at = (at + 1) & self.mask();
        }
        self.index[at] = number + 1;
    }

    /// Uses more of the index. Entries that were never in it, or are not any more, belong to no object.
    #[cold]
    fn grow(&mut self, map: Map) {
        self.index.fill(0);
        self.growth = ((self.growth + INDEX_AT_FIRST) * 2).min(INDEX) - INDEX_AT_FIRST;
        for number in 0..self.used as u32 {
            // SAFETY: rule 1; entries that have been in use lie in room that was reserved.
            let object = unsafe { (*entry(map, number)).object } as usize;
            if object != 0 {
                self.insert(object, number);
            }
        }
    }
}

/// The entry with this number.
#[inline]
pub(super) fn entry(map: Map, number: u32) -> *mut Entry {
    map.lock(number as usize % LOCK_COUNT).cast()
}

/// The entry of a lock, if it has one.
#[inline]
pub(super) fn find(map: Map, object: usize) -> Option<(u32, *mut Entry)> {
    // SAFETY: rule 1.
    let table = unsafe { &*TABLE.get() };
    let mut at = table.home(object);
    loop {
        let number = table.index[at & (INDEX - 1)].checked_sub(1)?;
        let entry = entry(map, number);
        // SAFETY: an entry in the index lies in room that was reserved.
        if unsafe { (*entry).object } == object as u64 {
            return Some((number, entry));
        }
        at = (at + 1) & table.mask();
    }
}

/// The entry with this number, if it is still this lock's.
#[inline]
pub(super) fn find_again(map: Map, number: Option<u32>, object: usize) -> Option<(u32, *mut Entry)> {
    let number = number?;
    let entry = entry(map, number);
    // SAFETY: rule 1; it was in use once, so it lies in room that was reserved.
    (unsafe { (*entry).object } == object as u64).then_some((number, entry))
}

/// The entry of a lock that this thread is about to let go of, which mostly is the last that it took.
#[inline]
pub(super) fn find_held(map: Map, here: &Here, object: usize) -> Option<(u32, *mut Entry)> {
    if let Some(last) = here.held_count.checked_sub(1)
        && let Some(number) = here.held.get(last).copied()
    {
        let entry = entry(map, number);
        // SAFETY: rule 1, and an entry that is held is in use.
        if unsafe { (*entry).object } == object as u64 {
            return Some((number, entry));
        }
    }
    find(map, object)
}

/// The entry of a lock; makes one.
#[inline]
pub(super) fn find_or_add(map: Map, object: usize, kind: u8) -> Option<(u32, *mut Entry)> {
    find(map, object).or_else(|| add(map, object, kind))
}

#[cold]
fn add(map: Map, object: usize, kind: u8) -> Option<(u32, *mut Entry)> {
    // SAFETY: rule 1.
    let table = unsafe { &mut *TABLE.get() };
    let number = if let Some(number) = table.free.checked_sub(1) {
        // SAFETY: it was in use once, so there is room.
        table.free = unsafe { (*entry(map, number)).next_free };
        number as usize
    } else {
        if table.used == table.reserved
            && table.reserved < LOCK_COUNT
            && map.reserve(header::SIZE + table.reserved * lock::SIZE, AHEAD * lock::SIZE)
        {
            table.reserved += AHEAD;
        }
        if table.used == table.reserved {
            map.word(header::LOCKS_UNSEEN).fetch_add(1, Relaxed);
            return None;
        }
        if table.used * 2 > table.mask() {
            table.grow(map);
        }
        table.used += 1;
        map.half(header::LOCKS_USED).store(table.used as u32, Relaxed);
        table.used - 1
    };
    table.insert(object, number as u32);
    table.last_serial = table.last_serial.wrapping_add(1);
    let serial = table.last_serial;
    let new = Entry {
        object: object as u64,
        serial,
        kind,
        flags: 0,
        weight: 0,
        is_met: false,
        owner: 0,
        waiters: 0,
        since: 0,
        taken_at: 0,
        taker: 0,
        taken: 0,
        held: 0,
        instruction: 0,
        waited: 0,
        made: 0,
        contended: 0,
        releaser: 0,
        next_free: 0,
        released: 0,
        code: 0,
        permits: 0,
        spare: [0; 5],
    };
    let entry = entry(map, number as u32);
    // SAFETY: the room is reserved, and the entry is nobody's.
    unsafe { entry.write(new) };
    Some((number as u32, entry))
}

/// Forgets a lock that is gone.
pub(super) fn remove(map: Map, here: &mut Here, object: usize) {
    let Some((number, entry)) = find(map, object) else { return };
    // SAFETY: rule 1, and as in `find`.
    unsafe {
        if (*entry).owner != 0 {
            forget_held(here, number, (*entry).owner);
        }
        // What `Condition.wait` makes for one wait is nobody's lock: nothing is told of it but the wait.
        if (*entry).flags & (lock::IS_NAMED | lock::IS_WAITER) == lock::IS_NAMED {
            let words = entry.cast::<[u64; 10]>().read();
            here.write(record::LOCK, 0, (*entry).serial, &words);
        }
    }
    // SAFETY: rule 1.
    let table = unsafe { &mut *TABLE.get() };
    let mask = table.mask();
    let mut hole = table.home(object);
    while table.index[hole] != number + 1 {
        hole = (hole + 1) & mask;
    }
    let mut at = hole;
    loop {
        at = (at + 1) & mask;
        let Some(other) = table.index[at].checked_sub(1) else { break };
        // SAFETY: as in `find`.
        let wanted = table.home(unsafe { (*self::entry(map, other)).object } as usize);
        // It may move up if its home does not lie between the hole and itself.
        if at.wrapping_sub(wanted) & mask >= at.wrapping_sub(hole) & mask {
            table.index[hole] = other + 1;
            hole = at;
        }
    }
    table.index[hole] = 0;
    // SAFETY: as above.
    unsafe {
        (*entry).object = 0;
        (*entry).owner = 0;
        (*entry).next_free = table.free;
    }
    table.free = number + 1;
}

/// The thread does not hold the lock any more.
#[inline]
pub(super) fn forget_held(here: &mut Here, number: u32, owner: u32) {
    if owner == here.number {
        drop_held(here, number);
    } else {
        forget_held_by(number, owner);
    }
}

/// The same for another thread.
#[cold]
fn forget_held_by(number: u32, owner: u32) {
    let other = Here::of(owner);
    if !other.is_null() {
        // SAFETY: rule 2 of `here`: `held` may be changed by who holds the GIL, and it is not this thread's.
        unsafe { drop_held(&mut *other, number) };
    }
}

#[inline]
fn drop_held(here: &mut Here, number: u32) {
    let count = here.held_count.min(MOST_HELD);
    if count > 0 && here.held[count - 1] == number {
        here.held_count = count - 1;
    } else if let Some(at) = here.held[..count].iter().rposition(|held| *held == number) {
        here.let_go(at);
    }
}

/// In a forked child: takes the entries over from the parent's file.
pub(super) fn forked(from: Map, to: Map) {
    // SAFETY: the child has one thread, and it holds the GIL.
    let table = unsafe { &mut *TABLE.get() };
    let length = table.reserved * lock::SIZE;
    if length == 0 || !to.reserve(header::SIZE, length) {
        table.index.fill(0);
        (table.used, table.reserved, table.free) = (0, 0, 0);
        let here = Here::get();
        if !here.is_null() {
            // SAFETY: this thread's own. The places of what it holds are in no room.
            unsafe { ((*here).held_count, (*here).permit_count) = (0, 0) };
        }
        return;
    }
    // SAFETY: so many entries have room in both, and they are two mappings.
    unsafe { ptr::copy_nonoverlapping(from.lock(0), to.lock(0), length) };
    to.half(header::LOCKS_USED).store(table.used as u32, Relaxed);
    for number in 0..table.used {
        // SAFETY: as above. Nobody waits in the child.
        unsafe { (*entry(to, number as u32)).waiters = 0 };
    }
}

/// When a thread took a lock of which the others are free to take it: by a coarse clock.
#[inline]
pub(super) fn coarse() -> u64 {
    file::coarse_now()
}
