//! The file that this process writes its events into, mapped.
//!
//! # Rules
//!
//! 1. The file is mapped until the process ends, or, in a forked child, until the child has one of its own. It is as long as the mapping.
//! 2. Nothing is stored where the kernel has not been asked for room: [`Map::reserve`] comes first. A store into a page for which the disk has
//!    no room would be a SIGBUS.
//! 3. A block has one writer: whoever has claimed it. A word of the header is changed by one atomic operation, or by who holds the GIL; what is
//!    said of the GIL itself, by who holds its mutex.
//! 4. No descriptor is kept: the program's own would have other numbers.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::{ptr, slice};

use raddle_core::prim::atomic::{
    AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use raddle_trace::events::format::{self, BLOCK_SIZE, LOCK_COUNT, VERSION, blocks_at, header};
use rustix::fs::{Mode, OFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The mapping, or null.
#[unsafe(link_section = "raddle_recorder")] // as said in `mod.rs`
static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static LENGTH: AtomicU64 = AtomicU64::new(0);

/// The longest name of a directory.
const LONGEST: usize = 3800;

/// Where the files lie, as it was said at the start: a program may change its environment.
pub(super) struct Directory {
    path: [u8; LONGEST],
    length: usize,
}

impl Directory {
    pub(super) fn new(path: &[u8]) -> Option<Self> {
        if path.first() != Some(&b'/') || path.len() > LONGEST || path.contains(&0) {
            return None;
        }
        let mut kept = Self { path: [0; LONGEST], length: path.len() };
        kept.path[..path.len()].copy_from_slice(path);
        Some(kept)
    }
}

/// The mapped file.
#[derive(Clone, Copy)]
pub(super) struct Map {
    base: *mut u8,
}

/// Which file it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) pid: u32,
    pub(super) turn: u32,
}

impl Map {
    /// The file that is written, if there is one.
    #[inline]
    pub(super) fn get() -> Option<Self> {
        // Ordering: Acquire. Pairs with the Release in `open`: who sees the mapping sees its header.
        let base = BASE.load(Acquire);
        (!base.is_null()).then_some(Self { base })
    }

    /// Opens a new file and writes into it from now on. Allocates nothing: a forked child does it, too.
    pub(super) fn open(
        directory: &Directory,
        buffer: usize,
        pid: u32,
        parent: Option<Name>,
        now: u64,
    ) -> Result<Name, &'static str> {
        let blocks = (buffer / BLOCK_SIZE).clamp(4, 1 << 20);
        let length = blocks_at(LOCK_COUNT) + blocks * BLOCK_SIZE;
        let mut path = [0; LONGEST + 64];
        for turn in 0..10_000 {
            let name = Name { pid, turn };
            let path = path_of(directory, name, &mut path);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => file,
                Err(rustix::io::Errno::EXIST) => continue,
                Err(_) => return Err("no file could be made in the session's directory"),
            };
            let failed = |why| {
                // One that is empty, or has no head yet, is that of a process which was killed before it could write: this one is told of.
                _ = rustix::fs::ftruncate(&file, 1);
                Err(why)
            };
            if rustix::fs::ftruncate(&file, length as u64).is_err() {
                return failed("the file could not be made as long as it must be");
            }
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            // SAFETY: a new mapping at an address that the kernel chooses.
            let mapped = unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, flags, file.as_fd(), 0) };
            let Ok(mapped) = mapped else { return failed("the file could not be mapped") };
            let map = Self { base: mapped.cast() };
            // Nothing is read here, and nothing lies in the file: to read on from the first page, as far as the disk's settings have it, could mean megabytes
            // of zeros. Where this is refused, that is what is done.
            // SAFETY: the whole of a mapping that was just made; the advice changes no contents.
            _ = unsafe { rustix::mm::madvise(mapped, length, Advice::Random) };
            if !map.reserve(0, header::SIZE)
                && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length as u64).is_err()
            {
                return failed("there is no room on the disk for the file");
            }
            LENGTH.store(length as u64, Relaxed);
            map.set_up(name, parent, blocks, now);
            // Ordering: Release. Pairs with the Acquire in `get`.
            BASE.store(map.base, Release);
            return Ok(name);
        }
        Err("there are too many files of this process already")
    }

    fn set_up(self, name: Name, parent: Option<Name>, blocks: usize, now: u64) {
        for (at, value) in [
            (header::VERSION, VERSION),
            (header::PID, name.pid),
            (header::TURN, name.turn),
            (header::BLOCK_SIZE, BLOCK_SIZE as u32),
            (header::BLOCK_COUNT, blocks as u32),
            (header::LOCK_COUNT, LOCK_COUNT as u32),
            (header::PARENT_PID, parent.map_or(0, |parent| parent.pid)),
            (header::PARENT_TURN, parent.map_or(0, |parent| parent.turn)),
        ] {
            self.half(at).store(value, Relaxed);
        }
        self.word(header::BEGAN).store(now, Relaxed);
        // Last: without it the rest is not read.
        self.word(0).store(u64::from_ne_bytes(format::MAGIC), Release);
    }

    /// Forgets the mapping, which is the parent's. Returns what was there.
    pub(super) fn leave() -> Option<Self> {
        let base = BASE.swap(ptr::null_mut(), Acquire);
        (!base.is_null()).then_some(Self { base })
    }

    /// Takes a mapping away that [`Map::leave`] has returned.
    pub(super) fn unmap(self) {
        // SAFETY: rule 1: the mapping has this length, and after `leave` nobody uses it; the child has one thread.
        _ = unsafe { rustix::mm::munmap(self.base.cast(), LENGTH.load(Relaxed) as usize) };
    }

    /// Asks for room. False: nothing may be stored there.
    pub(super) fn reserve(self, at: usize, length: usize) -> bool {
        let start = at & !4095;
        // SAFETY: the range lies within the mapping (the callers' places are computed from its length), and populating changes no contents.
        unsafe {
            rustix::mm::madvise(self.base.add(start).cast(), at + length - start, Advice::LinuxPopulateWrite).is_ok()
        }
    }

    /// A word of the header.
    #[inline]
    pub(super) fn word(self, at: usize) -> &'static AtomicU64 {
        debug_assert!(at + 8 <= header::SIZE && at.is_multiple_of(8));
        // SAFETY: rule 1, and `at` lies in the header. In a forked child the words are left together with the mapping.
        unsafe { &*self.base.add(at).cast() }
    }

    /// Half a word of the header.
    #[inline]
    pub(super) fn half(self, at: usize) -> &'static AtomicU32 {
        debug_assert!(at + 4 <= header::SIZE && at.is_multiple_of(4));
        // SAFETY: as above.
        unsafe { &*self.base.add(at).cast() }
    }

    /// Where a place for a lock lies.
    #[inline]
    pub(super) fn lock(self, index: usize) -> *mut u8 {
        debug_assert!(index < LOCK_COUNT);
        // SAFETY: within the mapping: `open` made room for so many.
        unsafe { self.base.add(header::SIZE + index * format::lock::SIZE) }
    }

    /// Claims a block that nobody has had yet.
    pub(super) fn claim(self) -> Option<*mut u8> {
        let (used, count) = (self.half(header::BLOCKS_USED), self.half(header::BLOCK_COUNT).load(Relaxed));
        if used.load(Relaxed) >= count {
            return None;
        }
        let index = used.fetch_add(1, Relaxed);
        let at = blocks_at(LOCK_COUNT) + index as usize * BLOCK_SIZE;
        if index >= count || !self.reserve(at, BLOCK_SIZE) {
            return None;
        }
        // SAFETY: within the mapping: less than `count`, for which `open` made room.
        Some(unsafe { self.base.add(at) })
    }

    /// How long a wait must have been to be written, now that so much is used.
    #[inline]
    pub(super) fn threshold(self) -> u64 {
        let (used, count) =
            (self.half(header::BLOCKS_USED).load(Relaxed), self.half(header::BLOCK_COUNT).load(Relaxed));
        match used.saturating_mul(4) / count.max(1) {
            0 => 0,
            1 => 20_000,
            2 => 200_000,
            _ => 2_000_000,
        }
    }

    /// An event there was no room for.
    #[cold]
    pub(super) fn drop_event(self) {
        self.word(header::DROPPED).fetch_add(1, Relaxed);
    }

    /// What could not be seen. Adds a line.
    pub(super) fn note(self, text: &str) {
        let length = self.half(header::NOTE_LENGTH);
        let had = length.load(Relaxed) as usize;
        let text = &text.as_bytes()[..text.len().min(header::NOTE_ROOM.saturating_sub(had + 1))];
        if text.is_empty() {
            return;
        }
        // SAFETY: NOTE_ROOM bytes from NOTE on lie in the header, and who starts the recorder or holds the GIL is alone here (rule 3).
        let room = unsafe { slice::from_raw_parts_mut(self.base.add(header::NOTE + had), text.len() + 1) };
        room[..text.len()].copy_from_slice(text);
        room[text.len()] = b'\n';
        length.store((had + text.len() + 1) as u32, Release);
    }
}

/// `DIRECTORY/PID-TURN.events`.
fn path_of<'a>(directory: &Directory, name: Name, room: &'a mut [u8; LONGEST + 64]) -> &'a CStr {
    use std::io::Write;
    let mut rest = &mut room[..];
    // Both fit: the directory's length was looked at, and the rest is short.
    _ = rest.write_all(&directory.path[..directory.length]);
    _ = write!(rest, "/{}-{}{}\0", name.pid, name.turn, format::SUFFIX);
    CStr::from_bytes_until_nul(room).unwrap_or(c"/")
}

/// The time on the clock of all processes.
#[inline]
pub(super) fn now() -> u64 {
    nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

/// The same clock as it was at its last tick, some milliseconds ago at most. Much quicker.
#[inline]
pub(super) fn coarse_now() -> u64 {
    nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse))
}

#[inline]
fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}
