//! What a worker has to say besides its answers: lines that it prints, log records, warnings.
//!
//! An outlet is the worker's end of a ring of its own (see the layout in `link`), so that words neither crowd answers nor come
//! through the thread that answers: any thread of the worker may speak.
//!
//! # Rules
//!
//! 1. Whoever speaks holds the outlet's lock: the ring has one writer at a time.
//! 2. A record is published before the alarm is looked at; the parent sets the alarm before it looks at the ring (the protocol of
//!    `bell.md`). So the parent is woken once for whatever was said since it looked last, and not for each line.
//! 3. What was said during a call is published before its answer. The parent takes words in before an answer.
//! 4. Who finds no room wakes the parent and sleeps, with the lock held so that nobody speaks in between, until the parent has taken something. Words are never
//!    dropped; if the parent is gone, so is the worker.
//!
//! # Fork
//!
//! A process that was forked off must not speak here: it would be a second writer. The language above sees to that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use raddle_core::prim::Mutex;
use raddle_shm::Segment;
use raddle_shm::ring::{Header, Producer};

use crate::lane::link::OutletLink;
use crate::watch::ring;

/// Payloads are cut into pieces of this size at most.
const PIECE: usize = 8 << 10;

/// A worker's end of the ring for words.
#[derive(Debug)]
pub struct Outlet {
    speaking: Mutex<Speaking>,
    keeper: OwnedFd,
    link: OutletLink,
}

#[derive(Debug)]
struct Speaking {
    ring: Producer,
    /// Records published.
    count: u64,
}

impl Outlet {
    /// Opens the outlet of a worker's link. Once per worker.
    ///
    /// # Errors
    ///
    /// When a descriptor is not what it should be, or memory cannot be mapped.
    pub fn open(link: BorrowedFd<'_>, keeper: BorrowedFd<'_>) -> io::Result<Self> {
        let link = OutletLink::open(&Segment::from_fd(link.try_clone_to_owned()?)?)?;
        let speaking = Speaking { ring: link.producer(), count: 0 };
        Ok(Self { speaking: Mutex::new(speaking), keeper: keeper.try_clone_to_owned()?, link })
    }

    /// Says something, without waiting: `head` and then `words`, which are cut into several records if they are long; each has the
    /// head. False, and nothing was said: there is no room for all of it now, or somebody else is speaking.
    #[must_use = "what was not said is to be said patiently"]
    pub fn say(&self, kind: u8, head: &[u8], words: &[u8]) -> bool {
        let Some(mut speaking) = self.speaking.try_lock() else { return false };
        let records = words.len() / PIECE + 1;
        let room = speaking.ring.capacity() - speaking.ring.used();
        // What a record takes besides its payload, generously, and what may be lost where the ring wraps around.
        if words.len() + records * (head.len() + 128) + PIECE > room {
            return false;
        }
        self.publish(&mut speaking, kind, head, words).is_none()
    }

    /// The same, sleeping until there is room. What one thread says is not interrupted by another.
    pub fn say_patiently(&self, kind: u8, head: &[u8], words: &[u8]) {
        let mut speaking = self.speaking.lock();
        let mut left = Some(words);
        while let Some(words) = left {
            left = self.publish(&mut speaking, kind, head, words);
            if left.is_some() {
                self.sleep_for_room(&speaking);
            }
        }
    }

    fn publish<'w>(&self, speaking: &mut Speaking, kind: u8, head: &[u8], words: &'w [u8]) -> Option<&'w [u8]> {
        let mut left = words;
        loop {
            let (piece, rest) = left.split_at(left.len().min(PIECE));
            if speaking.ring.push(Header { kind, tag: head.len() as u32, ..Header::default() }, &[head, piece]).is_err()
            {
                break;
            }
            speaking.count += 1;
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        // Rule 2.
        if self.link.alarm().due(speaking.count) {
            ring(self.keeper.as_fd());
        }
        (!left.is_empty()).then_some(left)
    }

    fn sleep_for_room(&self, speaking: &Speaking) {
        let ticket = self.link.bell().prepare();
        ring(self.keeper.as_fd());
        if speaking.ring.used() <= speaking.ring.capacity() / 2 {
            self.link.bell().cancel(ticket);
        } else {
            // A signal ends it, too: whoever waits looks again.
            let _ = self.link.bell().sleep(ticket, None);
        }
    }
}
