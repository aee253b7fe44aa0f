//! Messages arrive in order, whole, once; a record is claimed or revoked, never both (ring.md).

use raddle_core::prim::thread;
use raddle_shm::ring::model::ring;
use raddle_shm::ring::{Consumer, Header, Producer};

/// The payload of the nth record: so long, and of such bytes.
fn payload(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (n * 31 + i) as u8).collect()
}

fn header(n: usize) -> Header {
    Header { kind: n as u8, flags: 1, tag: n as u32 * 3, id: n as u64, extra: !(n as u64) }
}

/// Sends records of these lengths, each in two parts, waiting for room.
fn send(producer: &mut Producer, lens: &[usize]) {
    for (n, &len) in lens.iter().enumerate() {
        let bytes = payload(n, len);
        let (front, back) = bytes.split_at(len / 2);
        while producer.push(header(n), &[front, back]).is_err() {
            thread::yield_now();
        }
    }
}

/// Receives records of these lengths, waiting for each.
fn receive(consumer: &mut Consumer, lens: &[usize]) {
    for (n, &len) in lens.iter().enumerate() {
        loop {
            match consumer.peek().expect("an honest producer") {
                Some(record) => {
                    assert_eq!(record.header, header(n));
                    assert_eq!(record.payload, payload(n, len));
                    break;
                }
                None => thread::yield_now(),
            }
        }
        assert!(consumer.claim(), "nobody revokes here");
        // Still there, and still the same: the producer does not write over it before `advance`.
        assert_eq!(consumer.peek().unwrap().unwrap().payload, payload(n, len));
        consumer.advance();
    }
    assert!(consumer.peek().expect("an honest producer").is_none());
}

fn a_stream(capacity: usize, preemptions: usize, lens: &'static [usize]) {
    super::check(preemptions, move || {
        let (mut producer, mut consumer) = ring(capacity);
        let sender = thread::spawn(move || {
            send(&mut producer, lens);
            producer
        });
        receive(&mut consumer, lens);
        let producer = sender.join().unwrap();
        assert!(producer.is_empty() && consumer.is_empty());
    });
}

#[test]
fn empty_records_arrive_in_order_and_once() {
    // Two units: the third and the fourth wait for room and use the bytes of the first and second again.
    a_stream(64, 4, &[0, 0, 0, 0]);
}

#[test]
fn records_wrap_round_the_end_and_arrive_whole() {
    // Four units: records of two, one, two and two; the third runs over the end.
    a_stream(128, 4, &[32, 0, 20, 32]);
}

#[test]
fn the_longest_records_arrive_whole() {
    // Eight units: records of four, one, four; the last begins in the sixth unit and ends in the first.
    a_stream(256, 4, &[96, 0, 96, 65]);
}

#[test]
fn exactly_one_of_claim_and_revoke_wins() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(64);
        let slot = producer.push(header(0), &[]).unwrap();
        let worker = thread::spawn(move || {
            assert!(consumer.peek().unwrap().is_some());
            let claimed = consumer.claim();
            consumer.advance();
            claimed
        });
        let revoked = producer.revoke(slot);
        let claimed = worker.join().unwrap();
        assert!(claimed != revoked, "claimed: {claimed}, revoked: {revoked}");
        assert!(!producer.revoke(slot), "a second time");
        assert!(producer.is_taken(slot) && producer.is_started(slot));
    });
}

#[test]
fn a_revoked_record_is_stepped_over_and_its_room_used_again() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(64);
        let slots: Vec<_> = (0..2).map(|n| producer.push(header(n), &[]).unwrap()).collect();
        let worker = thread::spawn(move || {
            let mut done = Vec::new();
            for _ in 0..3 {
                let record = loop {
                    match consumer.peek().unwrap() {
                        Some(record) => break record.header.id,
                        None => thread::yield_now(),
                    }
                };
                if consumer.claim() {
                    done.push(record);
                }
                consumer.advance();
            }
            done
        });
        let revoked = producer.revoke(slots[1]);
        while producer.push(header(2), &[]).is_err() {
            thread::yield_now();
        }
        // The record that now lies where the first one was is not mistaken for it.
        assert!(!producer.revoke(slots[0]));
        let done = worker.join().unwrap();
        assert_eq!(done, if revoked { vec![0, 2] } else { vec![0, 1, 2] });
    });
}

#[test]
fn a_record_that_is_seen_as_started_was_started_by_a_worker_whose_words_are_visible() {
    use raddle_core::prim::Arc;
    use raddle_core::prim::atomic::{AtomicU32, Ordering::Relaxed};
    loom::model(|| {
        let (mut producer, mut consumer) = ring(64);
        let slot = producer.push(header(0), &[]).unwrap();
        let note = Arc::new(AtomicU32::new(0));
        let worker = {
            let note = note.clone();
            thread::spawn(move || {
                assert!(consumer.peek().unwrap().is_some());
                note.store(1, Relaxed);
                assert!(consumer.claim());
                consumer.advance();
            })
        };
        if producer.is_started(slot) {
            assert_eq!(note.load(Relaxed), 1);
        }
        worker.join().unwrap();
    });
}

#[test]
fn a_consumer_that_dies_leaves_what_it_did_not_start_to_be_revoked() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(128);
        let slots: Vec<_> = (0..3).map(|n| producer.push(header(n), &[]).unwrap()).collect();
        let worker = thread::spawn(move || {
            assert!(consumer.peek().unwrap().is_some());
            assert!(consumer.claim());
            consumer.advance();
            assert!(consumer.peek().unwrap().is_some());
            // Killed in the middle of the second, before the third.
            consumer.claim()
        });
        let early = producer.revoke(slots[1]);
        assert!(worker.join().unwrap() != early);
        // What its supervisor finds.
        assert!(producer.is_taken(slots[0]) && !producer.is_taken(slots[1]));
        assert_eq!(producer.is_started(slots[1]), !early);
        assert!(!producer.revoke(slots[1]), "it was started, or is revoked already");
        assert!(producer.revoke(slots[2]), "it was never begun");
    });
}
