//! A piece of memory behind a file descriptor.
//!
//! # Rules
//!
//! 1. A segment has no name in any file system. It lives as long as a descriptor or a mapping of it does, so nothing is
//!    left behind when every process that had it is gone, however they ended.
//! 2. Its length never changes: it is sealed against shrinking and growing before anyone else sees it. That is why an
//!    access inside a mapping cannot raise SIGBUS for lack of a file under it.
//! 3. What arrives from elsewhere is not trusted: [`Segment::from_fd`] checks seals and length.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::Mapping;

/// What every segment is sealed with.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Anonymous memory that can be given to another process: a sealed memfd.
///
/// Pages exist once they are touched, so a segment may be made much larger than what it will hold. They count as the
/// memory of the control group of the process that touches them first; the size of `/dev/shm` does not limit them. What
/// does: a `RLIMIT_FSIZE` below the length, for which the kernel raises SIGXFSZ.
///
/// The descriptor is closed on exec. To hand the segment to a child, duplicate the descriptor in the child before exec,
/// send it over a Unix socket, or let the child open `/proc/PID/fd/N`.
///
/// # Examples
///
/// ```
/// use raddle_shm::Segment;
///
/// let segment = Segment::create("example", 8192)?;
/// let (one, other) = (segment.map(0, 8192)?, segment.map(4096, 4096)?);
/// // SAFETY: inside both mappings, and this thread alone has them.
/// let seen = unsafe {
///     one.as_ptr().add(5000).write(7);
///     other.as_ptr().add(5000 - 4096).read()
/// };
/// assert_eq!(seen, 7);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Segment {
    fd: OwnedFd,
    len: usize,
}

impl Segment {
    /// Makes a segment of zero bytes, `len` of them, rounded up to whole pages.
    ///
    /// The name is for people who look into `/proc/PID/maps`; it need not be unique.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a length of zero or one that no file can have, and for a name that contains NUL or is longer than
    /// 249 bytes; else what the system says, for example that there are too many open files.
    pub fn create(name: &str, len: usize) -> io::Result<Segment> {
        let page = rustix::param::page_size();
        let rounded = len.checked_next_multiple_of(page).filter(|&l| l > 0 && i64::try_from(l).is_ok());
        let len = rounded.ok_or_else(|| refused(format!("a segment cannot have {len} bytes")))?;
        let fd = memfd(name)?;
        rustix::fs::ftruncate(&fd, len as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SEALS | SealFlags::SEAL)?;
        Ok(Segment { fd, len })
    }

    /// Takes a segment that another process made.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the descriptor is not a memfd, is not sealed against shrinking and growing, or is not a positive
    /// number of pages long.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Segment> {
        let seals = match rustix::fs::fcntl_get_seals(&fd) {
            Ok(seals) => seals,
            Err(Errno::INVAL) => return Err(refused("the descriptor is not a memfd".into())),
            Err(error) => return Err(error.into()),
        };
        if !seals.contains(SEALS) {
            return Err(refused(format!("the memfd is not sealed against shrinking and growing (seals {seals:?})")));
        }
        let size = rustix::fs::fstat(&fd)?.st_size;
        match usize::try_from(size) {
            Ok(len) if len > 0 && len.is_multiple_of(rustix::param::page_size()) => Ok(Segment { fd, len }),
            _ => Err(refused(format!("the memfd has {size} bytes, which is not a positive number of pages"))),
        }
    }

    /// Its length in bytes, a positive multiple of the page size.
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Maps a part, readable and writable. Offset and length are whole pages.
    ///
    /// The mapping stays when the segment is dropped.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the range is empty, not made of whole pages, or not inside the segment; else what the system
    /// says: mostly that a limit on address space or on the number of mappings is reached.
    pub fn map(&self, offset: usize, len: usize) -> io::Result<Mapping> {
        self.check(offset, len)?;
        Mapping::new(&self.fd, offset as u64, len)
    }

    /// Maps a part twice, the second copy right behind the first, so that the byte at `len + i` is the byte at `i`.
    ///
    /// What would wrap round in a ring is contiguous here.
    ///
    /// # Errors
    ///
    /// As [`map`](Segment::map).
    ///
    /// # Examples
    ///
    /// ```
    /// let segment = raddle_shm::Segment::create("example", 4096)?;
    /// let ring = segment.map_mirrored(0, 4096)?;
    /// // SAFETY: the mapping is twice 4096 bytes long, and this thread alone has it.
    /// let wrapped = unsafe {
    ///     ring.as_ptr().add(4094).cast::<[u8; 4]>().write([1, 2, 3, 4]);
    ///     ring.as_ptr().cast::<[u8; 2]>().read()
    /// };
    /// assert_eq!(wrapped, [3, 4]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn map_mirrored(&self, offset: usize, len: usize) -> io::Result<Mapping> {
        self.check(offset, len)?;
        Mapping::mirrored(&self.fd, offset as u64, len)
    }

    fn check(&self, offset: usize, len: usize) -> io::Result<()> {
        let page = rustix::param::page_size();
        let whole = len > 0 && len.is_multiple_of(page) && offset.is_multiple_of(page);
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        if whole && inside {
            return Ok(());
        }
        let has = self.len;
        Err(refused(format!("cannot map {len} bytes at {offset} of a segment of {has} bytes and pages of {page}")))
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A memfd that nobody can make executable, where the kernel knows that wish (6.3), else an ordinary one.
fn memfd(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        other => Ok(other?),
    }
}

fn refused(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
