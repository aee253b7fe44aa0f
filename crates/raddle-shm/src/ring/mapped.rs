//! The real memory of a ring.
//!
//! # Rules
//!
//! 1. Whoever made the producer or the consumer promised that `lines` and `2 * capacity` bytes, a mirror image of
//!    `capacity`, stay there as long as it.
//! 2. A position is reduced modulo `capacity` (`byte`), so `capacity` bytes from it lie inside both copies; that of a header
//!    also to a multiple of [`UNIT`] (`unit`), so it lies inside the first copy, and aligned.

use std::ptr::NonNull;

use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};

use super::header::{Raw, UNIT, check_capacity};
use super::memory::Memory;
use super::{Consumer, Lines, Producer};

/// Addresses of a ring in this process.
#[derive(Debug)]
pub(super) struct Mapped {
    lines: NonNull<Lines>,
    bytes: NonNull<u8>,
    capacity: usize,
    identity: u64,
}

// SAFETY: addresses that any thread may use (rule 1 does not speak of threads); the producer's and the consumer's own rules say
// who touches what.
unsafe impl Send for Mapped {}
// SAFETY: as above. What producer and consumer offer through `&self` are atomic operations only.
unsafe impl Sync for Mapped {}

/// Numbers the rings that this process opens, so that a slot of one is never taken for a slot of another.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Mapped {
    /// # Safety
    ///
    /// Rule 1 of the module head.
    unsafe fn new(lines: *const Lines, bytes: *mut u8, capacity: usize) -> Self {
        check_capacity(capacity);
        let lines = NonNull::new(lines.cast_mut()).expect("the lines of a ring are not at address zero");
        let bytes = NonNull::new(bytes).expect("the bytes of a ring are not at address zero");
        assert!(lines.is_aligned(), "the lines of a ring begin at a multiple of {}", align_of::<Lines>());
        assert!(bytes.cast::<u64>().is_aligned(), "the bytes of a ring begin at a multiple of 8");
        Self { lines, bytes, capacity, identity: NEXT.fetch_add(1, Relaxed) }
    }

    fn lines(&self) -> &Lines {
        // SAFETY: rule 1; they are atomic words, so a shared reference is all that either side needs.
        unsafe { self.lines.as_ref() }
    }

    fn byte(&self, position: u64) -> NonNull<u8> {
        // Truncation is harmless: the capacity is a power of two that fits into a usize.
        let offset = position as usize & (self.capacity - 1);
        // SAFETY: rule 2: inside the first copy.
        unsafe { self.bytes.add(offset) }
    }

    fn unit(&self, position: u64) -> NonNull<u8> {
        self.byte(position & !(UNIT as u64 - 1))
    }
}

impl Memory for Mapped {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn tail(&self) -> &AtomicU64 {
        &self.lines().tail.position
    }

    fn head(&self) -> &AtomicU64 {
        &self.lines().head.position
    }

    unsafe fn claim(&self, position: u64) -> &AtomicU32 {
        // SAFETY: rule 2: a whole unit lies there, aligned to 8; the caller's promise: nobody accesses it but atomically.
        unsafe { self.unit(position).cast().as_ref() }
    }

    unsafe fn write_header(&self, position: u64, raw: &Raw) {
        // SAFETY: rule 2: a whole unit lies there, so its last 28 bytes do.
        let to = unsafe { self.unit(position).add(UNIT - raw.len()) };
        // SAFETY: inside the ring, and the caller's promise: nobody else touches them.
        unsafe { to.cast::<Raw>().write(*raw) };
    }

    unsafe fn read_header(&self, position: u64) -> Raw {
        // SAFETY: rule 2: a whole unit lies there, so its last 28 bytes do.
        let from = unsafe { self.unit(position).add(UNIT - size_of::<Raw>()) };
        // SAFETY: inside the ring, and the caller's promise: nobody writes to them.
        unsafe { from.cast::<Raw>().read() }
    }

    unsafe fn write(&self, position: u64, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.capacity, "the caller's promise");
        // SAFETY: rule 2: at most `capacity` bytes from there lie inside both copies; the caller's promise: nobody else
        // touches them. What the caller can hold a reference to is not inside the ring, so they do not overlap.
        unsafe { self.byte(position).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    unsafe fn view(&self, position: u64, len: usize) -> &[u8] {
        debug_assert!(len <= self.capacity, "the caller's promise");
        // SAFETY: rule 2: at most `capacity` bytes from there lie inside both copies; the caller's promise: nobody writes to
        // them while the reference lives.
        unsafe { NonNull::slice_from_raw_parts(self.byte(position), len).as_ref() }
    }
}

impl Producer {
    /// Opens the writing end of a ring: an empty one (all zero), or one whose producer is gone.
    ///
    /// # Safety
    ///
    /// 1. `lines` is valid, and `bytes` is valid for reads and writes of `2 * capacity` bytes of which the second half mirrors
    ///    the first, until the producer is dropped. So it is with a [`Mapping`](crate::Mapping) of `capacity` bytes made by
    ///    [`Segment::map_mirrored`](crate::Segment::map_mirrored).
    /// 2. The ring has no other producer, in any process, and nobody but its consumer accesses this memory.
    ///
    /// # Panics
    ///
    /// If the capacity is not a power of two from 64 on, or the addresses are not aligned.
    pub unsafe fn new(lines: *const Lines, bytes: *mut u8, capacity: usize) -> Producer {
        // SAFETY: the caller's promise is rule 1 of the module head.
        Producer::over(unsafe { Mapped::new(lines, bytes, capacity) })
    }
}

impl Consumer {
    /// Opens the reading end of a ring.
    ///
    /// # Safety
    ///
    /// As [`Producer::new`], with producer and consumer exchanged.
    ///
    /// # Panics
    ///
    /// As [`Producer::new`].
    pub unsafe fn new(lines: *const Lines, bytes: *mut u8, capacity: usize) -> Consumer {
        // SAFETY: the caller's promise is rule 1 of the module head.
        Consumer::over(unsafe { Mapped::new(lines, bytes, capacity) })
    }
}
