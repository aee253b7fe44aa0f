//! The other side writes garbage: positions, lengths, claim words, pieces, bells. Nothing panics, nothing is touched outside of the
//! memory that is shared, and nobody hangs.
//!
//! The memory of the rings lies between pages that nobody may touch, so that an access beside it ends the test.
#![cfg(all(target_os = "linux", not(loom)))]

mod support;

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use proptest::prelude::*;
use raddle_core::prim::atomic::Ordering::{Relaxed, SeqCst};
use raddle_core::prim::atomic::{AtomicBool, AtomicU32, AtomicU64};
use raddle_shm::heap::{Heap, Piece, View};
use raddle_shm::ring::{Consumer, Header, Lines, Producer, Slot};
use raddle_shm::{Alarm, Bell, Segment};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use support::{Numbers, Peer, Ring, parents_segment};

const PAGE: usize = 4096;
const CAPACITY: usize = 4096;
/// Where the tail and the head of a ring lie in its lines.
const TAIL: usize = 0x00;
const HEAD: usize = 0x80;

/// A ring with guards: a page of lines, and its bytes twice, each with forbidden pages before and behind.
struct Guarded {
    start: *mut u8,
    _segment: Segment,
}

impl Guarded {
    const TOTAL: usize = PAGE * 5 + 2 * CAPACITY;
    const LINES: usize = PAGE;
    const BYTES: usize = PAGE * 3;

    fn new() -> Self {
        let segment = Ring::segment(CAPACITY);
        let none = ProtFlags::empty();
        // SAFETY: the kernel chooses a range that nothing else uses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), Self::TOTAL, none, MapFlags::PRIVATE) }.unwrap();
        let place = |at: usize, len: usize, offset: usize| {
            // SAFETY: inside the range reserved above.
            let at = unsafe { start.byte_add(at) };
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: the range is ours, and nobody has a pointer into it yet.
            unsafe { mmap(at, len, ProtFlags::READ | ProtFlags::WRITE, flags, &segment, offset as u64) }.unwrap();
        };
        place(Self::LINES, PAGE, 0);
        place(Self::BYTES, CAPACITY, Ring::PAGE);
        place(Self::BYTES + CAPACITY, CAPACITY, Ring::PAGE);
        Self { start: start.cast(), _segment: segment }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at + 8 <= PAGE);
        // SAFETY: an aligned word of the page of lines; all that touches it is atomic.
        unsafe { &*self.start.add(Self::LINES + at).cast() }
    }

    fn claim_word(&self, unit: usize) -> &AtomicU32 {
        // SAFETY: an aligned word of the first copy of the bytes.
        unsafe { &*self.start.add(Self::BYTES + unit * 32 % CAPACITY).cast() }
    }

    /// Writes bytes into the ring, wherever; nobody has a reference into it meanwhile.
    fn scribble(&self, at: usize, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            // SAFETY: inside the first copy.
            unsafe { self.start.add(Self::BYTES + (at + index) % CAPACITY).write_volatile(byte) };
        }
    }

    fn ends(&self) -> (Producer, Consumer) {
        // SAFETY: inside the range.
        let (lines, bytes) = unsafe { (self.start.add(Self::LINES).cast::<Lines>(), self.start.add(Self::BYTES)) };
        // SAFETY: the memory fits together and outlives both. What this test does to it is what the ends must survive.
        unsafe { (Producer::new(lines, bytes, CAPACITY), Consumer::new(lines, bytes, CAPACITY)) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the whole range is ours, and the ends are gone.
        unsafe { munmap(self.start.cast::<c_void>(), Self::TOTAL) }.unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Scribble(usize, Vec<u8>),
    Length(usize, u32),
    ClaimWord(usize, u32),
    Tail(u64),
    Head(u64),
    Peek,
    Claim,
    Advance,
    Push(usize),
    Ask(usize),
    Revoke(usize),
}

/// A position that is nearly right, or anything.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..512_u64).prop_map(|unit| unit * 32),
        0..3 * CAPACITY as u64,
        (0..200_u64).prop_map(|unit| 0_u64.wrapping_sub(unit * 32)),
        any::<u64>(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..CAPACITY, proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(at, bytes)| Step::Scribble(at, bytes)),
        (0..CAPACITY / 32, prop_oneof![0..5000_u32, any::<u32>()]).prop_map(|(unit, len)| Step::Length(unit, len)),
        (0..CAPACITY / 32, 0..5_u32).prop_map(|(unit, word)| Step::ClaimWord(unit, word)),
        position().prop_map(Step::Tail),
        position().prop_map(Step::Head),
        Just(Step::Peek),
        Just(Step::Peek),
        Just(Step::Claim),
        Just(Step::Advance),
        (0..CAPACITY / 2 - 32).prop_map(Step::Push),
        (0..64_usize).prop_map(Step::Ask),
        (0..64_usize).prop_map(Step::Revoke),
    ];
    proptest::collection::vec(step, 0..120)
}

fn look(consumer: &mut Consumer) {
    if let Ok(Some(record)) = consumer.peek() {
        assert!(record.payload.len() <= CAPACITY / 2 - 32);
        std::hint::black_box(record.payload.iter().fold(0_u64, |sum, &byte| sum + u64::from(byte)));
    }
}

fn ask(producer: &Producer, slot: Slot) {
    std::hint::black_box((producer.is_taken(slot), producer.is_started(slot), producer.is_empty()));
    if let Some((_, payload)) = producer.read_back(slot) {
        assert!(payload.len() <= CAPACITY);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default()
    })]

    #[test]
    fn both_ends_of_a_ring_survive_whatever_is_written_into_it(steps in steps()) {
        let memory = Guarded::new();
        let (mut producer, mut consumer) = memory.ends();
        let mut slots = Vec::new();
        for step in steps {
            match step {
                Step::Scribble(at, bytes) => memory.scribble(at, &bytes),
                Step::Length(unit, len) => memory.scribble(unit * 32 + 4, &len.to_ne_bytes()),
                Step::ClaimWord(unit, word) => memory.claim_word(unit).store(word, SeqCst),
                Step::Tail(position) => memory.word(TAIL).store(position, SeqCst),
                Step::Head(position) => memory.word(HEAD).store(position, SeqCst),
                Step::Peek => look(&mut consumer),
                Step::Claim => _ = consumer.claim(),
                Step::Advance => consumer.advance(),
                Step::Push(len) => slots.extend(producer.push(Header::default(), &[&[7; CAPACITY][..len]])),
                Step::Ask(number) if !slots.is_empty() => ask(&producer, slots[number % slots.len()]),
                Step::Revoke(number) if !slots.is_empty() => _ = producer.revoke(slots[number % slots.len()]),
                Step::Ask(_) | Step::Revoke(_) => {}
            }
            prop_assert!(producer.used() <= CAPACITY && consumer.used() <= CAPACITY);
        }
    }

    #[test]
    fn no_piece_that_is_named_lies_outside_of_its_heap(
        pieces in proptest::collection::vec((word(), word(), word()), 1..40),
        returned in proptest::collection::vec(word(), 0..20),
    ) {
        let segment = Segment::create("raddle-test", HEAP).unwrap();
        let (own, theirs) = (segment.map(0, HEAP).unwrap(), segment.map(0, HEAP).unwrap());
        let (own_at, their_at) = (own.as_ptr() as usize, theirs.as_ptr() as usize);
        let (heap, view) = (Heap::new(own, HEAP), View::new(theirs));
        let kept: Vec<_> = (0..8).map(|number| heap.lease(1 << (number + 4)).unwrap()).collect();
        let mut leases = Vec::new();
        let mut given = returned.into_iter();
        for (block, start, len) in pieces {
            let piece = Piece { block, start, len };
            for (lease, from) in [(heap.receive(piece), own_at), (view.receive(piece), their_at), (view.receive_shared(piece), their_at)] {
                let Some(lease) = lease else { continue };
                let at = lease.as_ptr() as usize;
                prop_assert!(at >= from && at.checked_add(lease.len()).is_some_and(|end| end <= from + HEAP));
                leases.push(lease);
            }
            if let Some(block) = given.next() {
                heap.given_back(block);
            }
            std::hint::black_box((heap.used(), heap.blocks(), view.borrowed(), heap.find((own_at + 5) as *const u8, 1)));
        }
        drop(leases);
        drop(kept);
        while view.has_returns() {
            view.take_returns(7);
        }
        prop_assert!(heap.lease(HEAP / 2).is_some(), "the books are in order");
    }
}

const HEAP: usize = 1 << 20;

/// A number that is nearly right for a heap, or anything.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..64_u64).prop_map(|number| number * 64),
        0..HEAP as u64 + 100,
        (0..100_u64).prop_map(|number| 0_u64.wrapping_sub(number)),
        any::<u64>()
    ]
}

#[test]
fn a_bell_and_an_alarm_with_foreign_contents_wake_too_often_and_do_no_harm() {
    let (bell, alarm, words) = (Bell::new(), Alarm::new(), Segment::create("raddle-test", PAGE).unwrap());
    let mapping = words.map(0, PAGE).unwrap();
    let (foreign_bell, foreign_alarm) = (mapping.get::<Bell>(0), mapping.get::<Alarm>(64));
    let mut numbers = Numbers::fresh();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                for at in [0, 4, 64, 68] {
                    mapping.get::<AtomicU32>(at).store(numbers.below(4) as u32, Relaxed);
                }
                foreign_bell.ring_always();
            }
        });
        for count in 0..2000 {
            foreign_alarm.set(count + 1);
            std::hint::black_box(foreign_alarm.due(count));
            let ticket = foreign_bell.prepare();
            foreign_bell.sleep(ticket, Some(Duration::from_micros(50)));
            foreign_bell.ring();
        }
        over.store(true, Relaxed);
    });
    assert!(!bell.ring() && !alarm.due(1), "what is ours is as it was");
}

/// Not only between two steps: another process writes all the time.
#[test]
fn a_process_that_writes_garbage_all_the_time_disturbs_nobody_but_itself() {
    const NAME: &str = "a_process_that_writes_garbage_all_the_time_disturbs_nobody_but_itself";
    let mut numbers = Numbers::fresh();
    if let Some(segment) = parents_segment() {
        let all = segment.map(0, segment.len()).unwrap();
        loop {
            let at = match numbers.below(4) {
                0 => TAIL,
                1 => HEAD,
                2 => Ring::PAGE + 32 * numbers.below(CAPACITY as u64 / 32) as usize,
                _ => 8 * numbers.below(segment.len() as u64 / 8) as usize,
            };
            let word = match numbers.below(3) {
                0 => 32 * numbers.below(1000),
                1 => (1 + numbers.below(3)) | (numbers.below(3000) << 32),
                _ => numbers.below(u64::MAX),
            };
            all.get::<AtomicU64>(at).store(word, Relaxed);
        }
    }
    if cfg!(raddle_tsan) {
        return; // the two sides are meant to race here
    }
    let segment = Ring::segment(CAPACITY);
    let ring = Ring::of(&segment);
    // SAFETY: one of each, dropped before the ring.
    let (mut producer, mut consumer) = unsafe { (ring.producer(), ring.consumer()) };
    let mut peer = Peer::start(NAME, &segment);
    let mut slots: Vec<Slot> = Vec::new();
    let (mut records, mut corrupt) = (0, 0);
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(300) || corrupt == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the other side has not begun");
        match consumer.peek() {
            Ok(None) => {}
            Ok(Some(record)) => {
                std::hint::black_box(record.payload.iter().fold(0_u64, |sum, &byte| sum + u64::from(byte)));
                records += 1;
                consumer.claim();
                consumer.advance();
            }
            Err(_) => {
                corrupt += 1;
                // SAFETY: the one before it is not used any more.
                consumer = unsafe { ring.consumer() };
            }
        }
        slots.extend(producer.push(Header::default(), &[&[3; 900]]));
        for &slot in slots.iter().rev().take(5) {
            ask(&producer, slot);
            producer.revoke(slot);
        }
    }
    assert!(corrupt > 0, "{records} records");
    peer.kill();
    peer.wait();
}
