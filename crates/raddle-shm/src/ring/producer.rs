//! The writing end. The rules are those of the module head (`ring.md`).

use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Mem;
use super::header::{Header, UNIT, claim, max_payload, record_len, used};
use super::memory::Memory;

/// The writing end of a ring.
///
/// # Examples
///
/// ```
/// use raddle_shm::Segment;
/// use raddle_shm::ring::{Consumer, Header, Lines, Producer};
///
/// let segment = Segment::create("example", 8192)?;
/// let (head, bytes) = (segment.map(0, 4096)?, segment.map_mirrored(4096, 4096)?);
/// let lines = head.get::<Lines>(0);
/// // SAFETY: one producer and one consumer over fresh memory that nothing else uses and that outlives them.
/// let (mut producer, mut consumer) =
///     unsafe { (Producer::new(lines, bytes.as_ptr(), 4096), Consumer::new(lines, bytes.as_ptr(), 4096)) };
///
/// let slot = producer.push(Header { id: 7, ..Header::default() }, &[b"hello, ", b"world"]).unwrap();
/// let record = consumer.peek().unwrap().unwrap();
/// assert_eq!((record.header.id, record.payload), (7, &b"hello, world"[..]));
/// assert!(consumer.claim());
/// assert!(producer.is_started(slot) && !producer.revoke(slot));
/// consumer.advance();
/// assert!(producer.is_taken(slot));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Producer {
    mem: Mem,
    /// What we have published (rule 5).
    tail: u64,
    /// The consumer's position as we saw it last. It may be further by now.
    head: u64,
}

/// The name of a record of one ring, for ever. It outlives the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    position: u64,
    ring: u64,
}

/// There is no room for the record now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is no room in the ring now")
    }
}

impl std::error::Error for Full {}

impl Producer {
    pub(super) fn over(mem: Mem) -> Self {
        // Relaxed: nothing but a producer writes `tail`, and the one before us is gone.
        let tail = mem.tail().load(Relaxed) & !(UNIT as u64 - 1);
        // Ordering: Acquire, as in `has_room_now`.
        let head = mem.head().load(Acquire);
        Self { mem, tail, head }
    }

    /// Writes a record whose payload is the parts one after the other, and publishes it.
    ///
    /// # Errors
    ///
    /// [`Full`] if the consumer has to give bytes back first. Nothing has been written then.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`max_payload`](Producer::max_payload): that would never fit.
    pub fn push(&mut self, header: Header, parts: &[&[u8]]) -> Result<Slot, Full> {
        let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        assert!(len <= self.max_payload(), "a payload of {len} bytes in a ring for at most {}", self.max_payload());
        let record = record_len(len);
        if !self.has_room(record) {
            return Err(Full);
        }
        let (slot, raw) = (self.slot(), header.encode(u32::try_from(len).expect("max_payload fits into a u32")));
        // SAFETY: rule 2: `has_room` has seen that the record lies outside `head..tail`, and we are the producer.
        unsafe { self.mem.write_header(self.tail, &raw) };
        let mut at = self.tail + UNIT as u64;
        for part in parts {
            // SAFETY: as above; the parts end where the record ends, at most half a ring from its beginning.
            unsafe { self.mem.write(at, part) };
            at += part.len() as u64;
        }
        // SAFETY: as above: the unit is ours, and we have written no payload over it.
        let word = unsafe { self.mem.claim(self.tail) };
        // Relaxed: published below, with everything else.
        word.store(claim::QUEUED, Relaxed);
        self.tail += record as u64;
        // Ordering: Release. Pairs with the Acquire in `Consumer::peek`: whoever sees the new tail sees the record too.
        self.mem.tail().store(self.tail, Release);
        Ok(slot)
    }

    /// The longest payload that ever fits: half the capacity, less the header.
    pub fn max_payload(&self) -> usize {
        max_payload(self.capacity())
    }

    /// Whether the consumer has moved past the record. So has it past a record of another ring, as far as this one knows.
    pub fn is_taken(&self, slot: Slot) -> bool {
        // Below `self.head` we may have written something else, whatever the other side says now (rule 6).
        let foreign = slot.ring != self.mem.identity();
        // Ordering: Acquire. Pairs with the Release in `Consumer::advance`: what the consumer did before that is visible.
        foreign || slot.position < self.head || slot.position < self.mem.head().load(Acquire)
    }

    /// Takes a record back that has not been claimed. `true`: the consumer will not get it. `false`: it has it already.
    pub fn revoke(&self, slot: Slot) -> bool {
        if self.is_taken(slot) {
            return false;
        }
        // SAFETY: it is a record that we published (`push` made the slot), and it is above `self.head` (`is_taken`), so we have
        // not written over it; to do that takes `&mut self`.
        let word = unsafe { self.mem.claim(slot.position) };
        // Rule 4. Relaxed: one word decides, and nothing travels across with a revocation.
        word.compare_exchange(claim::QUEUED, claim::REVOKED, Relaxed, Relaxed).is_ok()
    }

    /// Whether the consumer has claimed the record, or has moved past it.
    pub fn is_started(&self, slot: Slot) -> bool {
        if self.is_taken(slot) {
            return true;
        }
        // SAFETY: as in `revoke`.
        let word = unsafe { self.mem.claim(slot.position) };
        // Ordering: Acquire. Pairs with the Release half in `Consumer::claim`: what the consumer wrote before is visible.
        word.load(Acquire) == claim::STARTED
    }

    /// The record once more, copied out: for a call that was revoked, or whose consumer has died, and that goes elsewhere.
    /// `None` if later records have taken its place.
    pub fn read_back(&self, slot: Slot) -> Option<(Header, Vec<u8>)> {
        let written_since = self.tail.checked_sub(slot.position)?;
        if slot.ring != self.mem.identity() || written_since == 0 || written_since > self.capacity() as u64 {
            return None;
        }
        // SAFETY: it is a record that we published and have not written over (checked just above; to write takes `&mut self`).
        // The consumer may move past it meanwhile, but only we ever write to these bytes.
        let (header, len) = Header::decode(&unsafe { self.mem.read_header(slot.position) });
        let len = usize::try_from(len).ok().filter(|&len| record_len(len) as u64 <= written_since)?;
        // SAFETY: as above; the length was checked against what we have written since.
        let payload = unsafe { self.mem.view(slot.position + UNIT as u64, len) };
        Some((header, payload.to_vec()))
    }

    /// Bytes that the consumer has not given back.
    pub fn used(&self) -> usize {
        used(self.tail, self.mem.head().load(Acquire), self.capacity()).unwrap_or(self.capacity())
    }

    /// Whether the consumer has moved past every record.
    pub fn is_empty(&self) -> bool {
        self.used() == 0
    }

    /// Bytes in the ring.
    pub fn capacity(&self) -> usize {
        self.mem.capacity()
    }

    fn slot(&self) -> Slot {
        Slot { position: self.tail, ring: self.mem.identity() }
    }

    /// Whether the next record may be so long. Looks at the other side only if what it remembers is not enough.
    fn has_room(&mut self, record: usize) -> bool {
        self.free() >= record || self.has_room_now(record)
    }

    #[cold]
    fn has_room_now(&mut self, record: usize) -> bool {
        // Ordering: Acquire. Pairs with the Release in `Consumer::advance`: the consumer has stopped looking at the bytes below
        // the new head before we write over them.
        self.head = self.mem.head().load(Acquire);
        self.free() >= record
    }

    /// Bytes that may be written, given what we know of the other side; none if what it says cannot be (rule 6).
    fn free(&self) -> usize {
        self.capacity() - used(self.tail, self.head, self.capacity()).unwrap_or(self.capacity())
    }
}
