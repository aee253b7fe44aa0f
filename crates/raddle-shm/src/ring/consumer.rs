//! The reading end. The rules are those of the module head (`ring.md`).

use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Mem;
use super::header::{Header, UNIT, claim, max_payload, record_len, used};
use super::memory::Memory;

/// The reading end of a ring. There is an example at [`Producer`](super::Producer).
#[derive(Debug)]
pub struct Consumer {
    mem: Mem,
    /// What we have given back (rule 5).
    head: u64,
    /// The producer's position as we saw it last. It may be further by now.
    tail: u64,
    /// Length of the record at `head` if it was peeked, else zero.
    peeked: usize,
}

/// A record in the ring. Its payload lies in shared memory, where nobody writes to it while this lives.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What the producer said about it.
    pub header: Header,
    /// Its bytes. They begin at a multiple of 32 of the ring.
    pub payload: &'a [u8],
}

/// What the producer has published is not a record: it broke the rules of the ring, or is not a producer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what the other side wrote into the ring is not a record")
    }
}

impl std::error::Error for Corrupt {}

impl Consumer {
    pub(super) fn over(mem: Mem) -> Self {
        // Relaxed: nothing but a consumer writes `head`, and the one before us is gone.
        let head = mem.head().load(Relaxed) & !(UNIT as u64 - 1);
        Self { mem, head, tail: head, peeked: 0 }
    }

    /// The next record, or `None` if there is none. It stays where it is, and is the next one again, until
    /// [`advance`](Consumer::advance).
    ///
    /// It may have been revoked: if the producer ever does that, [`claim`](Consumer::claim) it before acting on it.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] if what lies there cannot have been written by a producer. It stays so: the ring is of no more use.
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, Corrupt> {
        if self.tail == self.head {
            // Ordering: Acquire. Pairs with the Release in `Producer::push`: a record below the tail is all there.
            self.tail = self.mem.tail().load(Acquire);
        }
        let published = used(self.tail, self.head, self.mem.capacity()).ok_or(Corrupt)?;
        if published == 0 {
            return Ok(None);
        }
        // SAFETY: rule 3: `published` is at least one unit, so the header lies inside `head..tail`, and we are the consumer.
        let (header, len) = Header::decode(&unsafe { self.mem.read_header(self.head) });
        // SAFETY: as above.
        let word = unsafe { self.mem.claim(self.head) };
        // Relaxed: only whether it is one of the three words matters here.
        let is_word = matches!(word.load(Relaxed), claim::QUEUED | claim::STARTED | claim::REVOKED);
        let len = usize::try_from(len).map_err(|_| Corrupt)?;
        if !is_word || len > max_payload(self.mem.capacity()) || record_len(len) > published {
            return Err(Corrupt);
        }
        self.peeked = record_len(len);
        // SAFETY: rule 3: the whole record lies inside `head..tail`, checked above; `head` moves in `advance` only, which needs
        // `&mut self` and so the end of this borrow.
        let payload = unsafe { self.mem.view(self.head + UNIT as u64, len) };
        Ok(Some(Record { header, payload }))
    }

    /// Claims the record that was peeked: from now on it cannot be revoked. `false`: it was, or was claimed before, or no
    /// record was peeked.
    pub fn claim(&mut self) -> bool {
        if self.peeked == 0 {
            return false;
        }
        // SAFETY: rule 3: a record was peeked, so one lies at `head`, inside `head..tail`.
        let word = unsafe { self.mem.claim(self.head) };
        // Rule 4. Ordering: Release. Pairs with the Acquire in `Producer::is_started`: whoever sees the record started sees what
        // the consumer wrote before. A failure brings no news but itself.
        word.compare_exchange(claim::QUEUED, claim::STARTED, Release, Relaxed).is_ok()
    }

    /// Gives the bytes of the record that was peeked back to the producer, and moves on to the next. Without a peeked
    /// record it does nothing.
    pub fn advance(&mut self) {
        if self.peeked == 0 {
            return;
        }
        self.head += self.peeked as u64;
        self.peeked = 0;
        // Ordering: Release. Pairs with the Acquire in `Producer::has_room_now` and `is_taken`: we have stopped looking at the
        // bytes below before the producer writes over them.
        self.mem.head().store(self.head, Release);
    }

    /// Whether everything that was published has been given back.
    pub fn is_empty(&self) -> bool {
        self.used() == 0
    }

    /// Bytes that were published and not given back.
    pub fn used(&self) -> usize {
        used(self.tail_now(), self.head, self.mem.capacity()).unwrap_or(self.mem.capacity())
    }

    /// Bytes in the ring.
    pub fn capacity(&self) -> usize {
        self.mem.capacity()
    }

    fn tail_now(&self) -> u64 {
        // Ordering: Acquire, as in `peek`.
        self.mem.tail().load(Acquire)
    }
}
