//! What the tests of this crate share: memory, and a second process that is this test again.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::env;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use raddle_shm::ring::{Consumer, Lines, Producer};
use raddle_shm::{Mapping, Segment};

/// A wait that takes so long has lost its wake-up.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(30);

const PEER: &str = "RADDLE_SHM_TEST_PEER";

/// The segment of the parent, in a process that was started by [`Peer::start`].
pub(crate) fn parents_segment() -> Option<Segment> {
    let path = env::var_os(PEER)?;
    // To be ended with the parent, whatever ends it: a failing test leaves nothing behind.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    Some(Segment::from_fd(file.into()).unwrap())
}

/// Another process that runs the same test. It is killed and reaped when this is dropped.
pub(crate) struct Peer(Child);

impl Peer {
    /// Starts this test binary again to run the test called `name`, which finds the segment with [`parents_segment`].
    pub(crate) fn start(name: &str, segment: &Segment) -> Peer {
        let path = format!("/proc/{}/fd/{}", std::process::id(), segment.as_fd().as_raw_fd());
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(PEER, path);
        Peer(command.stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A ring in a segment: its lines on the first page, its bytes behind.
pub(crate) struct Ring {
    pub(crate) head: Mapping,
    pub(crate) bytes: Mapping,
}

impl Ring {
    pub(crate) const PAGE: usize = 4096;

    pub(crate) fn segment(capacity: usize) -> Segment {
        Segment::create("raddle-test", Self::PAGE + capacity).unwrap()
    }

    pub(crate) fn of(segment: &Segment) -> Ring {
        let capacity = segment.len() - Self::PAGE;
        let (head, bytes) = (segment.map(0, Self::PAGE), segment.map_mirrored(Self::PAGE, capacity));
        Ring { head: head.unwrap(), bytes: bytes.unwrap() }
    }

    pub(crate) fn new(capacity: usize) -> Ring {
        Self::of(&Self::segment(capacity))
    }

    pub(crate) fn lines(&self) -> &Lines {
        self.head.get(0)
    }

    /// # Safety
    ///
    /// The only producer of this ring, and not used after `self`.
    pub(crate) unsafe fn producer(&self) -> Producer {
        // SAFETY: the memory fits together (`of`); the rest is the caller's promise.
        unsafe { Producer::new(self.lines(), self.bytes.as_ptr(), self.bytes.len()) }
    }

    /// # Safety
    ///
    /// The only consumer of this ring, and not used after `self`.
    pub(crate) unsafe fn consumer(&self) -> Consumer {
        // SAFETY: the memory fits together (`of`); the rest is the caller's promise.
        unsafe { Consumer::new(self.lines(), self.bytes.as_ptr(), self.bytes.len()) }
    }
}

/// A small generator of numbers that look random.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// A fresh seed each time, printed so that a failure can be repeated with `RADDLE_SEED`.
    pub(crate) fn fresh() -> Numbers {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = env::var("RADDLE_SEED").map_or(now.as_nanos() as u64, |seed| seed.parse().unwrap());
        eprintln!("RADDLE_SEED={seed}");
        Numbers::from(seed)
    }

    pub(crate) fn from(seed: u64) -> Numbers {
        Numbers(seed | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // Xorshift (Marsaglia 2003), and a multiplication that spreads the high bits.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}
