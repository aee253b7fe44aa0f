//! A view of a segment.
//!
//! # Rules
//!
//! 1. `start` is the beginning of `total` bytes of address space that belong to this mapping alone, until it is dropped.
//! 2. `total` is `len`, or twice `len` if the mapping is mirrored; both are whole pages.
//! 3. The file under it is sealed, so the pages stay accessible ([`Segment`](super::Segment), rule 2).
//! 4. The bytes are handed out as a raw pointer only, never as a reference: others may write to them at any moment. Whoever
//!    makes a reference says why nobody does while it lives. The exception is [`Mapping::get`]: words that are atomic.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::Shared;

/// Bytes of a [`Segment`](crate::Segment) in this process's address space. Unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    total: usize,
}

// SAFETY: a mapping is a range of addresses that every thread sees alike; it offers no access of its own but to atomic
// words (rule 4).
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods that take `&self` only compute, or call the kernel.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(fd: &OwnedFd, offset: u64, len: usize) -> io::Result<Mapping> {
        // SAFETY: with no address wished for, the kernel chooses a range that nothing else uses.
        let start = unsafe { map(ptr::null_mut(), len, MapFlags::empty(), fd.as_fd(), offset) }?;
        Ok(Mapping { start, len, total: len })
    }

    pub(super) fn mirrored(fd: &OwnedFd, offset: u64, len: usize) -> io::Result<Mapping> {
        let total = len.checked_mul(2).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: as in `new`. This reserves the addresses; nothing can be read or written there yet.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), total, ProtFlags::empty(), flags) }?;
        // From here on a failure drops `mapping`, and that gives back the whole range, whatever lies in it.
        let mapping = Mapping { start: not_null(start)?, len, total };
        for copy in 0..2 {
            // SAFETY: both copies lie inside the `2 * len` bytes reserved above.
            let at = unsafe { start.byte_add(copy * len) };
            // SAFETY: rule 1: the range replaced is ours, reserved above, and nobody has been given a pointer to it.
            unsafe { map(at, len, MapFlags::FIXED, fd.as_fd(), offset) }?;
        }
        Ok(mapping)
    }

    /// The first byte. The pointer is valid for reads and writes of [`len`](Mapping::len) bytes, twice as many if the mapping
    /// is mirrored, until the mapping is dropped.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// How many bytes there are; of a mirrored mapping, in one copy.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The shared words at `offset`.
    ///
    /// # Panics
    ///
    /// If they would not lie wholly inside the mapping, or not at a multiple of their alignment.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle_shm::{Bell, Segment};
    ///
    /// let mapping = Segment::create("example", 4096)?.map(0, 4096)?;
    /// let bell: &Bell = mapping.get(128);
    /// assert!(!bell.ring(), "nobody sleeps there");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get<T: Shared>(&self, offset: usize) -> &T {
        let inside = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len);
        assert!(inside, "{} bytes at {offset} are not inside a mapping of {}", size_of::<T>(), self.len);
        // SAFETY: inside the mapping, checked above.
        let at = unsafe { self.start.add(offset) }.cast::<T>();
        assert!(at.is_aligned(), "{offset} is not a multiple of {}", align_of::<T>());
        // SAFETY: inside and aligned, checked above; alive as long as `self` (rule 1); any bytes are a valid `T`, which is
        // made of atomic words alone (the duties of whoever implements `Shared`).
        unsafe { at.as_ref() }
    }

    /// So many shared words of one kind, one behind the other, from `offset` on.
    ///
    /// # Panics
    ///
    /// As [`get`](Mapping::get).
    #[inline]
    pub fn get_all<T: Shared>(&self, offset: usize, count: usize) -> &[T] {
        let size = size_of::<T>().checked_mul(count);
        let inside = size.and_then(|size| offset.checked_add(size)).is_some_and(|end| end <= self.len);
        assert!(inside, "{count} times {} bytes at {offset} are not inside a mapping of {}", size_of::<T>(), self.len);
        // SAFETY: inside the mapping, checked above.
        let at = unsafe { self.start.add(offset) }.cast::<T>();
        assert!(at.is_aligned(), "{offset} is not a multiple of {}", align_of::<T>());
        // SAFETY: as in `get`, for each of them.
        unsafe { NonNull::slice_from_raw_parts(at, count).as_ref() }
    }

    /// Gives the memory of whole pages inside `offset..offset + len` back to the system. Every process reads zeros there from
    /// now on, and memory is taken anew when something is written.
    ///
    /// Where the system keeps memory in pieces larger than a page, a piece may become free only when all of it was given back.
    /// For those who made references into the range this counts as a write by another process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the range is not inside the mapping (inside one copy of a mirrored one).
    pub fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len).ok_or_else(|| {
            let message = format!("cannot give back {len} bytes at {offset} of a mapping of {} bytes", self.len);
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let page = rustix::param::page_size();
        let (first, last) = (offset.next_multiple_of(page), end - end % page);
        if first >= last {
            return Ok(());
        }
        // SAFETY: inside the mapping, checked above.
        let at = unsafe { self.start.add(first) };
        // SAFETY: the pages are ours (rule 1) and stay mapped; only what they contain changes, which rule 4 allows any process
        // at any moment.
        unsafe { rustix::mm::madvise(at.as_ptr().cast(), last - first, Advice::LinuxRemove) }?;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: rule 1: the range is ours, and whoever took a pointer promised not to use it after this.
        let _ended = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.total) };
        // It could fail only if it had to split a mapping in two; the range is given back whole.
    }
}

/// Maps a part of the file.
///
/// # Safety
///
/// With `FIXED`, the range at `at` is the caller's, and nothing in it is in use.
unsafe fn map(
    at: *mut c_void,
    len: usize,
    flags: MapFlags,
    fd: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<NonNull<u8>> {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    let flags = flags | MapFlags::SHARED | MapFlags::NORESERVE;
    // SAFETY: the caller's promise; without `FIXED` the kernel replaces nothing.
    not_null(unsafe { rustix::mm::mmap(at, len, rights, flags, fd, offset) }?)
}

/// The kernel maps nothing at address zero unless asked to.
fn not_null(start: *mut c_void) -> io::Result<NonNull<u8>> {
    NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the system mapped memory at address zero"))
}
