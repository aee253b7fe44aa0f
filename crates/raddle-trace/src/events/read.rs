//! Reading one file of events.
//!
//! # Rules
//!
//! 1. No file makes the reader panic, or take more memory than a few times what was written into it. What does not fit the format is left out.
//! 2. A file may be written while it is read: what is used is read once, and nothing behind it is believed.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{
    BLOCK_SIZE, MAGIC, STACK_DEPTH, TEXT_LENGTH, VERSION, block, blocks_at, child, end, header, lock, record,
};
use crate::session::Ending;

/// What a file says. Times are those of `CLOCK_MONOTONIC`; numbers are the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The process.
    pub pid: u32,
    /// Which file of the process.
    pub turn: u32,
    /// Bits: [`super::format::flag`].
    pub flags: u32,
    /// When the recording began.
    pub began: u64,
    /// When the interpreter ended, or 0.
    pub ended: u64,
    /// The process and the file that it was forked from; 0 if it was not.
    pub parent: (u32, u32),
    /// The smallest number of a text, place or stack of this file.
    pub first_id: u32,
    /// How many events there was no room for.
    pub dropped: u64,
    /// How many locks there was no place for.
    pub locks_unseen: u64,
    /// How many orders of locks were not told because there were too many.
    pub orders_unseen: u64,
    /// How long the GIL was held, how long it was waited for, how often.
    pub gil: (u64, u64, u64),
    /// Since when it is held, or 0.
    pub gil_since: u64,
    /// When the main thread had nothing left to do but to wait for others, or 0.
    pub main_ended: u64,
    /// What could not be seen.
    pub note: String,
    /// Texts by their numbers.
    pub texts: HashMap<u32, String>,
    /// File, function, line of places.
    pub places: HashMap<u32, (u32, u32, u32)>,
    /// Places of stacks, the innermost first.
    pub stacks: HashMap<u32, Vec<u32>>,
    /// Threads by their numbers.
    pub threads: HashMap<u32, Thread>,
    /// Locks by their numbers.
    pub locks: HashMap<u32, Lock>,
    /// Waits for locks; `until` is 0 for one that is not over.
    pub waits: Vec<Wait>,
    /// Waits for the GIL.
    pub gil_waits: Vec<GilWait>,
    /// Pairs of locks.
    pub orders: Vec<Order>,
    /// Starts of threads.
    pub starts: Vec<Start>,
    /// Exceptions that ended threads.
    pub exceptions: Vec<Exception>,
    /// Locks that were held at the end.
    pub leaks: Vec<Leak>,
    /// Ends of threads that somebody knows of.
    pub joins: Vec<Join>,
    /// Threads that share a lock, an event or a queue of the program with another one.
    pub met: HashSet<u32>,
    /// Children that have ended: which, when, and how.
    pub reaped: Vec<(u32, u64, Ending)>,
    /// Signals that were sent: to whom, when, which. To a group: to 0.
    pub signalled: Vec<(u32, u64, i32)>,
}

/// A thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// `threading.get_ident()`.
    pub ident: u64,
    /// The kernel's number.
    pub native_id: u32,
    /// When it was first noted.
    pub began: u64,
    /// When it ended, or 0.
    pub ended: u64,
    /// How many releases of locks there were when it began.
    pub first: u64,
    /// Which of them was its last, if it has ended, or 0. A thread goes on for a moment after it was joined.
    pub last: u64,
    /// Whether the interpreter was ending then.
    pub is_cut_off: bool,
    /// Whether it has ended, and whoever had joined it would have been seen.
    pub joins_seen: bool,
}

/// A lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Its address.
    pub object: u64,
    /// Whether it is an `RLock`.
    pub is_rlock: bool,
    /// Whether `Condition.wait` made it.
    pub is_waiter: bool,
    /// Another thread than the one that had taken it has released it.
    pub is_passed_on: bool,
    /// It is that of a semaphore of which there are no more permits than at first.
    pub is_limit: bool,
    /// Whether it is there still.
    pub is_there: bool,
    /// Who holds it, or 0.
    pub owner: u32,
    /// Since when.
    pub since: u64,
    /// Where it was taken last.
    pub taken_at: u32,
    /// The stack by which it was made.
    pub made: u32,
    /// How often it was taken.
    pub taken: u64,
    /// How long it was held.
    pub held: u64,
    /// How long it was waited for.
    pub waited: u64,
    /// How often it had to be waited for.
    pub contended: u32,
}

/// A wait for a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// Who waited.
    pub thread: u32,
    /// For which lock.
    pub lock: u32,
    /// Since when.
    pub from: u64,
    /// Until when.
    pub until: u64,
    /// Where.
    pub stack: u32,
    /// Who held it, or 0.
    pub holder: u32,
    /// The stack by which that one took it.
    pub taken: u32,
    /// Who released it, or 0.
    pub releaser: u32,
    /// When.
    pub released: u64,
    /// Whether it ended with the lock.
    pub has_got: bool,
    /// Whether it could not last for ever.
    pub is_timed: bool,
}

/// A wait for the GIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GilWait {
    /// Who waited.
    pub thread: u32,
    /// Since when.
    pub from: u64,
    /// Until when.
    pub until: u64,
    /// Who held it when the wait began, or 0.
    pub holder: u32,
}

/// A lock was taken while another one was held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The one that was held.
    pub held: u32,
    /// The one that was taken.
    pub taken: u32,
    /// By whom.
    pub thread: u32,
    /// When it happened first.
    pub at: u64,
    /// Where the second one was taken.
    pub stack: u32,
    /// Where the first one was.
    pub held_stack: u32,
    /// What was held besides.
    pub gates: Vec<u32>,
    /// Permits of semaphores.
    pub permits: Vec<Permits>,
}

/// Permits that a thread has of one semaphore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    /// The lock of the semaphore.
    pub semaphore: u32,
    /// How many the thread had before it held the lock; 0 if it has waited for one afterwards.
    pub count: u16,
    /// How many there were at first.
    pub of: u16,
}

impl Permits {
    fn of(word: u64) -> Self {
        Self { semaphore: word as u32, count: (word >> 32) as u16, of: (word >> 48) as u16 }
    }
}

/// A thread was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// By whom.
    pub thread: u32,
    /// The new one's `threading.get_ident()`.
    pub ident: u64,
    /// When it was asked for.
    pub called: u64,
    /// When it was there.
    pub started: u64,
    /// Where.
    pub stack: u32,
    /// The place of the function.
    pub function: u32,
    /// The name that it had then.
    pub name: u32,
    /// Whether it is a daemon.
    pub is_daemon: Option<bool>,
    /// Its handle, or 0.
    pub handle: u64,
}

/// An exception ended a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// Which.
    pub thread: u32,
    /// When.
    pub at: u64,
    /// Where it was raised.
    pub stack: u32,
    /// The exception in a line.
    pub text: u32,
}

/// The interpreter ended while a lock was held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leak {
    /// Which.
    pub lock: u32,
    /// When.
    pub at: u64,
    /// By whom it was held.
    pub owner: u32,
    /// Where it was taken.
    pub place: u32,
}

/// Somebody knows of the end of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// Who.
    pub thread: u32,
    /// Of which one's, or 0.
    pub of: u32,
    /// Or its handle, or 0.
    pub handle: u64,
    /// Since when.
    pub at: u64,
    /// Where.
    pub stack: u32,
}

impl Events {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not one of this format and version; or, as [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), nothing has been written into it.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let known = Self::from(length, |at, room| file.read_exact_at(room, at).is_ok());
        if let Some(known) = known {
            return Ok(known);
        }
        let mut first = [0; 8];
        if length >= header::SIZE as u64 {
            file.read_exact_at(&mut first, 0)?;
        }
        // It is made as long as it will be first of all, and what makes it one of events is written last.
        let is_begun = length > 0 && (length < header::SIZE as u64 || first != [0; 8]);
        Err(match is_begun {
            false => io::Error::new(io::ErrorKind::UnexpectedEof, "nothing has been written into it"),
            true => io::Error::new(io::ErrorKind::InvalidData, "not a file of events, or of another version"),
        })
    }

    /// Reads what a file holds: so many bytes, of which `read` gives some from an offset on.
    #[must_use]
    pub fn from(length: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Option<Self> {
        let mut head = vec![0; header::SIZE];
        if length < header::SIZE as u64 || !read(0, &mut head) || head[..8] != MAGIC {
            return None;
        }
        let head = Bytes(&head);
        if head.half(header::VERSION) != VERSION || head.half(header::BLOCK_SIZE) as usize != BLOCK_SIZE {
            return None;
        }
        let note =
            head.0.get(header::NOTE..header::NOTE + (head.half(header::NOTE_LENGTH) as usize).min(header::NOTE_ROOM));
        let mut events = Self {
            pid: head.half(header::PID),
            turn: head.half(header::TURN),
            flags: head.half(header::FLAGS),
            began: head.word(header::BEGAN),
            ended: head.word(header::ENDED),
            parent: (head.half(header::PARENT_PID), head.half(header::PARENT_TURN)),
            first_id: head.half(header::FIRST_ID),
            dropped: head.word(header::DROPPED),
            locks_unseen: head.word(header::LOCKS_UNSEEN),
            orders_unseen: head.word(header::ORDERS_UNSEEN),
            gil: (head.word(header::GIL_HELD), head.word(header::GIL_WAITED), head.word(header::GIL_SWITCHES)),
            gil_since: head.word(header::GIL_SINCE),
            main_ended: head.word(header::MAIN_ENDED),
            note: String::from_utf8_lossy(note.unwrap_or_default()).into_owned(),
            ..Self::default()
        };
        let locks = (head.half(header::LOCK_COUNT) as u64).min((length - header::SIZE as u64) / lock::SIZE as u64);
        for index in 0..u64::from(head.half(header::LOCKS_USED)).min(locks) {
            let mut bytes = [0; lock::SIZE];
            if read(header::SIZE as u64 + index * lock::SIZE as u64, &mut bytes) {
                events.see_lock(Bytes(&bytes), true);
            }
        }
        let blocks_at = blocks_at(locks as usize) as u64;
        let blocks = head.half(header::BLOCK_COUNT).min(head.half(header::BLOCKS_USED));
        let mut bytes = vec![0; BLOCK_SIZE];
        for index in 0..u64::from(blocks) {
            let at = blocks_at + index * BLOCK_SIZE as u64;
            if at + BLOCK_SIZE as u64 > length || !read(at, &mut bytes) {
                break;
            }
            events.see_block(&bytes);
        }
        Some(events)
    }

    fn see_lock(&mut self, bytes: Bytes<'_>, is_there: bool) {
        let object = bytes.word(lock::OBJECT);
        if object == 0 {
            return;
        }
        let seen = Lock {
            object,
            is_rlock: bytes.byte(lock::KIND) == lock::RLOCK,
            is_waiter: bytes.byte(lock::FLAGS) & lock::IS_WAITER != 0,
            is_passed_on: bytes.byte(lock::FLAGS) & lock::IS_PASSED_ON != 0,
            is_limit: bytes.byte(lock::FLAGS) & (lock::IS_PERMITS | lock::IS_PASSED_ON) == lock::IS_PERMITS,
            is_there,
            owner: bytes.half(lock::OWNER),
            since: bytes.word(lock::SINCE),
            taken_at: bytes.half(lock::TAKEN_AT),
            made: bytes.half(lock::MADE),
            taken: bytes.word(lock::TAKEN),
            held: bytes.word(lock::HELD),
            waited: bytes.word(lock::WAITED),
            contended: bytes.half(lock::CONTENDED),
        };
        self.locks.insert(bytes.half(lock::SERIAL), seen);
    }

    fn see_block(&mut self, bytes: &[u8]) {
        let bytes = Bytes(bytes);
        let mut thread = bytes.half(block::THREAD);
        let used = (bytes.half(block::USED) as usize).min(BLOCK_SIZE);
        let wait = bytes.half(block::WAIT);
        if wait != 0 {
            self.waits.push(Wait {
                thread,
                lock: wait,
                from: bytes.word(block::SINCE),
                stack: bytes.half(block::STACK),
                holder: bytes.half(block::HOLDER),
                taken: bytes.half(block::TAKEN),
                ..Wait::default()
            });
        }
        let mut at = block::HEAD;
        while at + 8 <= used {
            let first = bytes.word(at);
            let (kind, flags, length, a) =
                (first as u8, (first >> 8) as u8, (first >> 16) as u16 as usize * 8, (first >> 32) as u32);
            if length < 8 || at + length > used {
                return;
            }
            let Some(body) = bytes.0.get(at + 8..at + length) else { return };
            self.see_record(&mut thread, kind, flags, a, Bytes(body));
            at += length;
        }
    }

    fn see_record(&mut self, thread: &mut u32, kind: u8, flags: u8, a: u32, body: Bytes<'_>) {
        match kind {
            record::THREAD => {
                *thread = a;
                let seen = self.threads.entry(a).or_default();
                if seen.began == 0 {
                    (seen.ident, seen.began, seen.native_id) = (body.word(0), body.word(8), body.half(16));
                    seen.first = body.word(24);
                }
            }
            record::END => {
                let seen = self.threads.entry(a).or_default();
                (seen.ended, seen.last) = (body.word(0), body.word(8));
                (seen.is_cut_off, seen.joins_seen) = (flags & end::CUT_OFF != 0, flags & end::JOINS_SEEN != 0);
            }
            record::TEXT => {
                let length = (body.half(0) as usize).min(TEXT_LENGTH);
                if let Some(text) = body.0.get(8..8 + length) {
                    self.texts.insert(a, String::from_utf8_lossy(text).into_owned());
                }
            }
            record::PLACE => {
                self.places.insert(a, (body.half(0), body.half(4), body.half(8)));
            }
            record::STACK => {
                let count = usize::from(flags).min(STACK_DEPTH).min(body.0.len() / 4);
                self.stacks.insert(a, (0..count).map(|index| body.half(index * 4)).collect());
            }
            record::WAIT => self.waits.push(Wait {
                thread: *thread,
                lock: a,
                from: body.word(0),
                until: body.word(8),
                stack: body.half(16),
                holder: body.half(20),
                taken: body.half(24),
                releaser: body.half(28),
                released: body.word(32),
                has_got: flags & super::format::wait::GOT != 0,
                is_timed: flags & super::format::wait::TIMED != 0,
            }),
            record::GIL => self.gil_waits.push(GilWait {
                thread: *thread,
                from: body.word(0),
                until: body.word(8),
                holder: body.half(16),
            }),
            record::LOCK => self.see_lock(body, false),
            record::ORDER => self.orders.push(Order {
                held: a,
                taken: body.half(0),
                thread: body.half(4),
                at: body.word(8),
                stack: body.half(16),
                held_stack: body.half(20),
                gates: (0..usize::from(flags & 15)).map(|index| body.half(24 + index * 4)).collect(),
                permits: {
                    let at = 24 + usize::from(flags & 15).div_ceil(2) * 8;
                    (0..usize::from(flags >> 4)).map(|index| Permits::of(body.word(at + index * 8))).collect()
                },
            }),
            record::START => self.starts.push(Start {
                thread: *thread,
                stack: a,
                ident: body.word(0),
                called: body.word(8),
                started: body.word(16),
                function: body.half(24),
                name: body.half(28),
                is_daemon: match flags {
                    1 => Some(true),
                    2 => Some(false),
                    _ => None,
                },
                handle: body.word(32),
            }),
            record::EXCEPTION => {
                self.exceptions.push(Exception { thread: *thread, stack: a, at: body.word(0), text: body.half(8) })
            }
            record::LEAKED => {
                self.leaks.push(Leak { lock: a, at: body.word(0), owner: body.half(8), place: body.half(12) });
            }
            record::JOINED => self.joins.push(Join {
                thread: *thread,
                of: a,
                at: body.word(0),
                handle: body.word(8),
                stack: body.half(16),
            }),
            record::MET => {
                self.met.insert(a);
            }
            record::REAPED => {
                let number = body.half(8) as i32;
                let is_signal = flags & child::BY_SIGNAL != 0;
                let ending = if is_signal { Ending::Signal(number) } else { Ending::Exit(number) };
                self.reaped.push((a, body.word(0), ending));
            }
            record::SIGNALLED => self.signalled.push((a, body.word(0), body.half(8) as i32)),
            _ => {}
        }
    }
}

/// Bytes of which numbers are taken; what lies behind them is 0.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn half(self, at: usize) -> u32 {
        self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    fn word(self, at: usize) -> u64 {
        self.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    }
}
