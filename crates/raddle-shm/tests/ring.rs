//! Rings over real memory: against a model, between threads, between processes of which one is killed.
#![cfg(all(target_os = "linux", not(loom)))]

mod support;

use std::collections::VecDeque;

use proptest::prelude::*;
use raddle_core::prim::atomic::AtomicU64;
use raddle_core::prim::atomic::Ordering::{Acquire, Release};
use raddle_core::prim::thread;
use raddle_shm::futex::Wait;
use raddle_shm::ring::{Consumer, Corrupt, Full, Header, Lines, Producer, Slot};
use raddle_shm::{Bell, Segment, Shared};
use support::{FOR_EVER, Numbers, Peer, Ring, parents_segment};

const CAPACITY: usize = 4096;
const HEADER: usize = 32;
const LONGEST: usize = CAPACITY / 2 - HEADER;

/// Bytes that differ from record to record and inside one.
fn payload(n: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (n.wrapping_mul(167) ^ (i >> 3).wrapping_mul(31) ^ i) as u8).collect()
}

fn header(n: u64) -> Header {
    Header { kind: n as u8, flags: (n >> 3) as u8, tag: n as u32, id: n, extra: !n }
}

/// Takes the next record, whose bytes must be those of the nth.
fn expect(consumer: &mut Consumer, n: u64, len: usize) {
    let record = consumer.peek().unwrap().expect("a record");
    assert_eq!(record.header, header(n));
    assert_eq!(record.payload, payload(n, len));
    consumer.advance();
}

/// Both ends of a fresh ring. The memory comes last, to be dropped last.
fn ring(capacity: usize) -> (Producer, Consumer, Ring) {
    let ring = Ring::new(capacity);
    // SAFETY: one of each, and the caller drops them before the ring.
    let (producer, consumer) = unsafe { (ring.producer(), ring.consumer()) };
    (producer, consumer, ring)
}

#[test]
fn an_empty_ring_has_nothing_to_give() {
    let (producer, mut consumer, _ring) = ring(CAPACITY);
    assert!(consumer.peek().unwrap().is_none());
    assert!(!consumer.claim(), "there is nothing to claim");
    consumer.advance();
    assert!(producer.is_empty() && consumer.is_empty());
    assert_eq!((producer.used(), consumer.used(), producer.capacity()), (0, 0, CAPACITY));
    assert_eq!(producer.max_payload(), LONGEST);
}

#[test]
fn a_record_is_its_parts_one_after_the_other() {
    let (mut producer, mut consumer, _ring) = ring(CAPACITY);
    producer.push(header(1), &[b"ab", b"", b"cde", b"f"]).unwrap();
    let record = consumer.peek().unwrap().unwrap();
    assert_eq!((record.header, record.payload), (header(1), &b"abcdef"[..]));
    assert_eq!((producer.used(), consumer.used()), (64, 64));
}

#[test]
fn a_payload_begins_at_a_multiple_of_32() {
    let (mut producer, mut consumer, _ring) = ring(CAPACITY);
    for n in 0..500 {
        producer.push(header(n), &[&payload(n, n as usize % 100)]).unwrap();
        assert!(consumer.peek().unwrap().unwrap().payload.as_ptr().addr().is_multiple_of(32));
        expect(&mut consumer, n, n as usize % 100);
    }
}

#[test]
fn records_fill_the_ring_to_the_last_byte() {
    let (mut producer, mut consumer, _ring) = ring(CAPACITY);
    for round in 0..3 {
        let first = round * 10;
        for (n, len) in [(first, LONGEST), (first + 1, 1000 - 8), (first + 2, LONGEST - 1024)] {
            producer.push(header(n), &[&payload(n, len)]).unwrap();
        }
        assert_eq!((producer.used(), consumer.used()), (CAPACITY, CAPACITY));
        assert_eq!(producer.push(header(99), &[]), Err(Full));
        for (n, len) in [(first, LONGEST), (first + 1, 1000 - 8), (first + 2, LONGEST - 1024)] {
            expect(&mut consumer, n, len);
        }
        assert!(producer.is_empty() && consumer.peek().unwrap().is_none());
    }
}

#[test]
fn two_of_the_longest_fit_wherever_the_ring_stands() {
    let (mut producer, mut consumer, _ring) = ring(CAPACITY);
    for n in 0..300 {
        producer.push(header(n), &[&payload(n, LONGEST)]).unwrap();
        producer.push(header(n + 1000), &[&payload(n + 1000, LONGEST)]).unwrap();
        expect(&mut consumer, n, LONGEST);
        expect(&mut consumer, n + 1000, LONGEST);
        // Move on by one unit, so that the longest records begin everywhere.
        producer.push(header(0), &[]).unwrap();
        expect(&mut consumer, 0, 0);
    }
}

#[test]
#[should_panic(expected = "a payload of 2017 bytes in a ring for at most 2016")]
fn a_payload_that_never_fits_is_refused() {
    let (mut producer, _consumer, _ring) = ring(CAPACITY);
    let _ = producer.push(header(0), &[&[0; LONGEST], &[0]]);
}

#[test]
#[should_panic(expected = "power of two")]
fn a_capacity_that_is_no_power_of_two_is_refused() {
    let ring = Ring::new(3 * 4096);
    // SAFETY: the only producer; it is refused.
    unsafe { ring.producer() };
}

#[test]
fn a_record_is_claimed_or_revoked_and_only_once() {
    let (mut producer, mut consumer, _ring) = ring(CAPACITY);
    let slots: Vec<_> = (0..3).map(|n| producer.push(header(n), &[b"x"]).unwrap()).collect();
    assert!(producer.revoke(slots[1]) && !producer.revoke(slots[1]));
    assert!(!producer.is_started(slots[1]), "nobody will start it");
    consumer.peek().unwrap();
    assert!(!producer.is_started(slots[0]));
    assert!(consumer.claim() && !consumer.claim());
    assert!(producer.is_started(slots[0]) && !producer.is_taken(slots[0]) && !producer.revoke(slots[0]));
    consumer.advance();
    assert!(producer.is_taken(slots[0]) && !producer.revoke(slots[0]));
    assert!(!consumer.claim(), "the next one was not peeked");
    assert_eq!(consumer.peek().unwrap().unwrap().header.id, 1);
    assert!(!consumer.claim(), "it was revoked");
    consumer.advance();
    assert!(producer.is_started(slots[1]), "the consumer has moved past it");
    assert_eq!(consumer.peek().unwrap().unwrap().header.id, 2);
    assert!(consumer.claim());
}

#[test]
fn a_slot_names_its_record_for_ever() {
    let (mut producer, mut consumer, _ring) = ring(64);
    let old = producer.push(header(0), &[]).unwrap();
    let mut seen = vec![old];
    for n in 1..1000 {
        let new = producer.push(header(n), &[]).unwrap();
        assert!(!seen.contains(&new));
        seen.push(new);
        expect(&mut consumer, n - 1, 0);
        // In the ring of two units it lies where the old one lay.
        assert!(producer.is_taken(old) && !producer.revoke(old));
        assert!(!producer.is_taken(new));
    }
}

#[test]
fn a_slot_of_another_ring_is_gone() {
    let (mut one, _c1, _r1) = ring(CAPACITY);
    let (mut other, _c2, _r2) = ring(CAPACITY);
    let (here, there) = (one.push(header(0), &[]).unwrap(), other.push(header(0), &[]).unwrap());
    assert_ne!(here, there);
    assert!(one.is_taken(there) && one.is_started(there) && !one.revoke(there));
    assert!(!one.is_taken(here) && one.revoke(here));
}

#[test]
fn a_ring_goes_on_where_its_ends_left_it() {
    let ring = Ring::new(CAPACITY);
    for n in 0..200 {
        // SAFETY: one of each at a time, dropped before the ring.
        let (mut producer, mut consumer) = unsafe { (ring.producer(), ring.consumer()) };
        producer.push(header(2 * n), &[&payload(2 * n, 700)]).unwrap();
        producer.push(header(2 * n + 1), &[&payload(2 * n + 1, 30)]).unwrap();
        if n > 0 {
            expect(&mut consumer, 2 * n - 1, 30);
        }
        expect(&mut consumer, 2 * n, 700);
        // What was peeked and not given back is there for the next consumer.
        assert_eq!(consumer.peek().unwrap().unwrap().header.id, 2 * n + 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, usize),
    Take,
    Skip,
    Revoke(usize),
    Look(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![
        4 => 0..200_usize,
        1 => LONGEST - 70..=LONGEST,
        1 => Just(0_usize),
        1 => (0..20_usize).prop_map(|units| units * HEADER),
    ];
    let step = prop_oneof![
        6 => (len, 0..300_usize).prop_map(|(len, cut)| Step::Push(len, cut)),
        4 => Just(Step::Take),
        1 => Just(Step::Skip),
        2 => (0..60_usize).prop_map(Step::Revoke),
        1 => (0..60_usize).prop_map(Step::Look),
    ];
    proptest::collection::vec(step, 0..300)
}

/// A record as the test remembers it.
struct Sent {
    n: u64,
    bytes: Vec<u8>,
    slot: Slot,
    is_revoked: bool,
}

impl Sent {
    fn units(&self) -> usize {
        HEADER + self.bytes.len().next_multiple_of(HEADER)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_is_a_queue_of_byte_strings(steps in steps()) {
        let (mut producer, mut consumer, _ring) = ring(CAPACITY);
        let (mut queue, mut gone, mut used) = (VecDeque::<Sent>::new(), Vec::<Slot>::new(), 0);
        for (n, step) in (0..).zip(steps) {
            match step {
                Step::Push(len, cut) => {
                    let bytes = payload(n, len);
                    let (front, back) = bytes.split_at(cut.min(len));
                    let fits = used + HEADER + len.next_multiple_of(HEADER) <= CAPACITY;
                    let pushed = producer.push(header(n), &[front, back]);
                    prop_assert_eq!(pushed.is_ok(), fits);
                    if let Ok(slot) = pushed {
                        queue.push_back(Sent { n, bytes, slot, is_revoked: false });
                        used += queue.back().unwrap().units();
                    }
                }
                Step::Take => {
                    let record = consumer.peek().unwrap();
                    prop_assert_eq!(record.is_some(), !queue.is_empty());
                    if let Some(record) = record {
                        let sent = queue.pop_front().unwrap();
                        prop_assert_eq!(record.header, header(sent.n));
                        prop_assert_eq!(record.payload, &sent.bytes[..]);
                        prop_assert_eq!(consumer.claim(), !sent.is_revoked);
                        prop_assert_eq!(producer.is_started(sent.slot), !sent.is_revoked);
                        prop_assert!(!producer.revoke(sent.slot));
                        consumer.advance();
                        used -= sent.units();
                        gone.push(sent.slot);
                    }
                }
                // Nothing was peeked since the last one, or the same again: `advance` needs a record that was looked at.
                Step::Skip => {
                    let front = queue.front().map(|sent| sent.n);
                    prop_assert_eq!(consumer.peek().unwrap().map(|record| record.header.id), front);
                }
                Step::Revoke(index) if !queue.is_empty() => {
                    let count = queue.len();
                    let sent = &mut queue[index % count];
                    prop_assert_eq!(producer.revoke(sent.slot), !sent.is_revoked);
                    sent.is_revoked = true;
                }
                Step::Look(index) if !gone.is_empty() => {
                    let slot = gone[index % gone.len()];
                    prop_assert!(producer.is_taken(slot) && producer.is_started(slot) && !producer.revoke(slot));
                }
                Step::Revoke(_) | Step::Look(_) => {}
            }
            prop_assert_eq!((producer.used(), consumer.used()), (used, used));
            prop_assert_eq!((producer.is_empty(), consumer.is_empty()), (used == 0, used == 0));
            prop_assert!(queue.iter().all(|sent| !producer.is_taken(sent.slot) && !producer.is_started(sent.slot)));
        }
    }

    #[test]
    fn a_consumer_survives_whatever_lies_in_the_ring(
        bytes in proptest::collection::vec(any::<u8>(), 1..200),
        claims in proptest::collection::vec(0_u32..5, 0..8),
        lens in proptest::collection::vec(prop_oneof![0_u32..300, any::<u32>()], 8),
        tail in prop_oneof![(0..=CAPACITY as u64 / 32).prop_map(|unit| unit * 32), any::<u64>()],
    ) {
        let ring = Ring::new(CAPACITY);
        // SAFETY: inside the ring, which nobody uses yet.
        unsafe {
            for (at, byte) in (0..CAPACITY).zip(bytes.iter().cycle()) {
                ring.bytes.as_ptr().add(at).write(*byte);
            }
            for (unit, (claim, len)) in claims.iter().zip(&lens).enumerate() {
                ring.bytes.as_ptr().add(unit * 32).cast::<[u32; 2]>().write([*claim, *len]);
            }
        }
        ring.head.get::<AtomicU64>(0).store(tail, Release);
        // SAFETY: the only consumer, dropped before the ring.
        let mut consumer = unsafe { ring.consumer() };
        let mut passed = 0;
        let ended = loop {
            match consumer.peek() {
                Ok(Some(record)) => {
                    let payload = record.payload;
                    prop_assert!(payload.len() <= LONGEST);
                    let first = ring.bytes.as_ptr().addr() + passed + HEADER;
                    prop_assert_eq!(payload.as_ptr().addr(), first);
                    passed += HEADER + payload.len().next_multiple_of(HEADER);
                    prop_assert!(passed as u64 <= tail, "beyond what was published");
                    consumer.claim();
                    consumer.advance();
                }
                ended => break ended.map(|record| record.is_none()),
            }
        };
        if ended.is_ok() {
            prop_assert_eq!(passed as u64, tail);
        } else {
            prop_assert_eq!(consumer.peek().err(), Some(Corrupt), "it stays so");
        }
        prop_assert!(consumer.used() <= CAPACITY);
    }

    #[test]
    fn a_producer_survives_whatever_the_consumer_says(heads in proptest::collection::vec(any::<u64>(), 1..20)) {
        let (mut producer, _consumer, ring) = ring(CAPACITY);
        let mut slots = Vec::new();
        for (n, head) in (0..).zip(heads) {
            ring.head.get::<AtomicU64>(128).store(head, Release);
            prop_assert!(producer.used() <= CAPACITY);
            while let Ok(slot) = producer.push(header(n), &[&payload(n, 500)]) {
                slots.push(slot);
                prop_assert!(slots.len() < 10_000, "it would never be full");
            }
            for &slot in &slots {
                producer.revoke(slot);
                producer.is_started(slot);
            }
        }
    }
}

#[test]
fn memory_that_nobody_wrote_to_is_not_a_record() {
    let ring = Ring::new(CAPACITY);
    // SAFETY: the only consumer, dropped before the ring.
    let mut consumer = unsafe { ring.consumer() };
    ring.head.get::<AtomicU64>(0).store(64, Release);
    assert_eq!(consumer.peek().err(), Some(Corrupt));
}

/// How long the nth record is: mostly short, sometimes empty, sometimes the longest.
fn len_of(n: u64, longest: usize) -> usize {
    match n % 97 {
        0 => longest,
        1 => 0,
        _ => (n.wrapping_mul(2_654_435_761) >> 7) as usize % 300,
    }
}

/// What two sides share besides the ring: where each sleeps.
#[repr(C)]
struct Page {
    lines: Lines,
    /// Where the consumer waits for records.
    consumer: Bell,
    /// Where the producer waits for room.
    producer: Bell,
    /// Records that the consumer has finished.
    done: AtomicU64,
    /// Not zero: the peer is dead.
    dead: AtomicU64,
}

// SAFETY: types that keep the rules, in a fixed order.
unsafe impl Shared for Page {}

/// Pushes a record, sleeping while there is no room. `None` if the peer died meanwhile.
fn push(page: &Page, producer: &mut Producer, n: u64, len: usize) -> Option<Slot> {
    loop {
        let pushed = producer.push(header(n), &[&payload(n, len)]);
        let pushed = pushed.or_else(|Full| {
            let ticket = page.producer.prepare();
            let again = producer.push(header(n), &[&payload(n, len)]);
            if again.is_ok() || page.dead.load(Acquire) != 0 {
                page.producer.cancel(ticket);
            } else {
                assert_ne!(page.producer.sleep(ticket, Some(FOR_EVER)), Wait::TimedOut, "a wake-up was lost");
            }
            again
        });
        if let Ok(slot) = pushed {
            page.consumer.ring();
            return Some(slot);
        }
        if page.dead.load(Acquire) != 0 {
            return None;
        }
    }
}

/// Waits until a record is there. `false` if the peer is dead and there will be none.
fn wait(page: &Page, consumer: &mut Consumer) -> bool {
    loop {
        if consumer.peek().expect("an honest producer").is_some() {
            return true;
        }
        let ticket = page.consumer.prepare();
        // In this order: what it published before it died is seen after the news of its death.
        let is_dead = page.dead.load(Acquire) != 0;
        if !consumer.is_empty() {
            page.consumer.cancel(ticket);
        } else if is_dead {
            page.consumer.cancel(ticket);
            return false;
        } else {
            assert_ne!(page.consumer.sleep(ticket, Some(FOR_EVER)), Wait::TimedOut, "a wake-up was lost");
        }
    }
}

#[test]
fn two_threads_that_wait_for_each_other_pass_every_record() {
    const COUNT: u64 = 30_000;
    let (mut producer, mut consumer, ring) = ring(CAPACITY);
    let page = ring.head.get::<Page>(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            for n in 0..COUNT {
                push(page, &mut producer, n, len_of(n, LONGEST)).unwrap();
            }
        });
        for n in 0..COUNT {
            assert!(wait(page, &mut consumer));
            expect(&mut consumer, n, len_of(n, LONGEST));
            page.producer.ring();
        }
    });
    assert!(consumer.is_empty());
}

#[test]
fn threads_that_claim_and_revoke_do_every_record_once() {
    const COUNT: u64 = 20_000;
    let (mut producer, mut consumer, ring) = ring(CAPACITY);
    let page = ring.head.get::<Page>(0);
    let (revoked, claimed) = std::thread::scope(|s| {
        let revoked = s.spawn(|| {
            let (mut recent, mut revoked) = (VecDeque::new(), Vec::new());
            for n in 0..COUNT {
                recent.push_back((n, push(page, &mut producer, n, 40).unwrap()));
                // Some at once, some late: at the front, which the consumer is likely to hold now.
                let chosen = if n % 3 == 0 { recent.pop_back() } else { recent.pop_front() };
                let (n, slot) = chosen.expect("one was pushed just now");
                if n % 2 == 0 && producer.revoke(slot) {
                    revoked.push(n);
                }
            }
            revoked
        });
        let mut claimed = Vec::new();
        for n in 0..COUNT {
            assert!(wait(page, &mut consumer));
            if consumer.claim() {
                claimed.push(n);
            }
            expect(&mut consumer, n, 40);
            page.producer.ring();
        }
        (revoked.join().unwrap(), claimed)
    });
    let mut all = [revoked, claimed].concat();
    all.sort_unstable();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>(), "each one claimed or revoked, none both");
}

/// Kills the peer, and makes its death known to whoever sleeps at the page, as a supervisor does.
fn kill(mut peer: Peer, segment: &Segment) {
    let mapping = segment.map(0, Ring::PAGE).unwrap();
    peer.kill();
    thread::spawn(move || {
        peer.wait();
        let page = mapping.get::<Page>(0);
        page.dead.store(1, Release);
        page.consumer.ring_always();
        page.producer.ring_always();
    });
}

#[test]
fn a_producer_that_is_killed_leaves_whole_records_in_order() {
    if let Some(segment) = parents_segment() {
        let ring = Ring::of(&segment);
        // SAFETY: the only producer; the process is killed before the ring is dropped.
        let mut producer = unsafe { ring.producer() };
        let longest = producer.max_payload();
        for n in 0.. {
            push(ring.head.get::<Page>(0), &mut producer, n, len_of(n, longest)).unwrap();
        }
        return;
    }
    let mut numbers = Numbers::fresh();
    for _ in 0..40 {
        let segment = Ring::segment(CAPACITY << numbers.below(3));
        let ring = Ring::of(&segment);
        // SAFETY: the only consumer, dropped before the ring.
        let mut consumer = unsafe { ring.consumer() };
        let page = ring.head.get::<Page>(0);
        let mut peer = Some(Peer::start("a_producer_that_is_killed_leaves_whole_records_in_order", &segment));
        let last = numbers.below(2000);
        let mut n = 0;
        while wait(page, &mut consumer) {
            expect(&mut consumer, n, len_of(n, ring.bytes.len() / 2 - HEADER));
            page.producer.ring();
            n += 1;
            if n > last
                && let Some(peer) = peer.take()
            {
                kill(peer, &segment);
            }
        }
        assert!(n > last && consumer.is_empty() && peer.is_none());
    }
}

#[test]
fn a_consumer_that_is_killed_has_started_at_most_one_more_than_it_finished() {
    if let Some(segment) = parents_segment() {
        let ring = Ring::of(&segment);
        // SAFETY: the only consumer; the process is killed before the ring is dropped.
        let mut consumer = unsafe { ring.consumer() };
        let page = ring.head.get::<Page>(0);
        for n in 0.. {
            assert!(wait(page, &mut consumer));
            assert!(consumer.claim());
            page.done.store(n + 1, Release);
            expect(&mut consumer, n, len_of(n, 200));
            page.producer.ring();
        }
        return;
    }
    let mut numbers = Numbers::fresh();
    for _ in 0..40 {
        let segment = Ring::segment(CAPACITY);
        let ring = Ring::of(&segment);
        // SAFETY: the only producer, dropped before the ring.
        let mut producer = unsafe { ring.producer() };
        let page = ring.head.get::<Page>(0);
        let mut peer =
            Some(Peer::start("a_consumer_that_is_killed_has_started_at_most_one_more_than_it_finished", &segment));
        let (last, mut slots) = (numbers.below(3000), Vec::new());
        while let Some(slot) = push(page, &mut producer, slots.len() as u64, len_of(slots.len() as u64, 200)) {
            slots.push(slot);
            if slots.len() as u64 > last
                && page.done.load(Acquire) > 0
                && let Some(peer) = peer.take()
            {
                kill(peer, &segment);
            }
        }
        // What a supervisor finds: records that were taken, then perhaps one that was started, then ones it takes back.
        let done = page.done.load(Acquire) as usize;
        let taken = slots.iter().filter(|&&slot| producer.is_taken(slot)).count();
        let started = slots.iter().filter(|&&slot| producer.is_started(slot)).count();
        let revoked = slots.iter().filter(|&&slot| producer.revoke(slot)).count();
        assert!((taken..=taken + 1).contains(&done), "{taken} taken, {done} done");
        assert!((done..=taken + 1).contains(&started), "{taken} taken, {done} done, {started} started");
        assert_eq!(started + revoked, slots.len(), "each one was started, or can be done elsewhere");
        assert!(slots[..taken].iter().all(|&slot| producer.is_taken(slot)), "those taken are the first ones");
        assert!(slots[started..].iter().all(|&slot| !producer.is_started(slot)), "those started are the first ones");
    }
}
