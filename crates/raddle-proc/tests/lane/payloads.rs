//! Payloads of every size, in both directions.

use raddle_proc::lane::{OnDeath, Outgoing, Reply, Waited, kind};

use crate::support::{Cap, Pool, eventually};
use crate::worker::{op, pattern};

const MIB: usize = 1 << 20;

#[test]
fn payloads_of_every_size_arrive_whole() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    // Around: none, the small payload, a record's unit, what goes into the ring, the ring, more than the ring.
    let sizes = [0, 1, 21, 22, 23, 31, 32, 33, 4096, 16_383, 16_384, 16_385, 131_040, 262_144, 300_000, 3 * MIB + 5];
    for size in sizes {
        let there = pool.submit(op::MEASURE, &pattern(size));
        let back = pool.submit(op::LARGE, &(size as u64).to_le_bytes());
        let both = pool.submit(op::ECHO, &pattern(size));
        assert_eq!(pool.number(&there), size as u64);
        for call in [back, both] {
            assert_eq!(pool.wait(&call), Waited::Done);
            assert!(call.value() == pattern(size), "{size} bytes");
        }
    }
}

#[test]
fn more_large_payloads_than_the_soft_limit_get_there() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    let large = pattern(8 * MIB);
    let calls: Vec<_> = (0..40).map(|_| pool.submit(op::MEASURE, &large)).collect();
    for call in &calls {
        assert_eq!(pool.number(call), large.len() as u64);
    }
}

#[test]
fn more_large_replies_than_the_soft_limit_get_back_though_nobody_waits() {
    let _cap = Cap::seconds(120);
    let pool = Pool::ready(2);
    let calls: Vec<_> = (0..40).map(|_| pool.submit(op::LARGE, &(8 * MIB as u64).to_le_bytes())).collect();
    let last = pool.submit(op::ECHO, b"");
    assert!(pool.watch(&last));
    eventually("the last one is announced", || pool.announced() == 1);
    for call in &calls {
        assert_eq!(pool.wait(call), Waited::Done);
        assert_eq!(call.value().len(), 8 * MIB);
    }
}

#[test]
fn one_payload_beyond_the_soft_limit_gets_there_and_back() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(1);
    let huge = pattern(80 * MIB);
    let calls: Vec<_> = (0..2).map(|_| pool.submit(op::MEASURE, &huge)).collect();
    for call in &calls {
        assert_eq!(pool.number(call), huge.len() as u64);
    }
    let calls: Vec<_> = (0..2).map(|_| pool.submit(op::LARGE, &(huge.len() as u64).to_le_bytes())).collect();
    for call in &calls {
        assert_eq!(pool.wait(call), Waited::Done);
        assert!(call.value() == huge);
    }
}

#[test]
fn a_full_reply_ring_is_drained_though_nobody_waits() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    // Three megabytes of replies for a ring of a quarter of one.
    let calls: Vec<_> = (0..3_000).map(|_| pool.submit(op::LARGE, &1_000_u64.to_le_bytes())).collect();
    let last = pool.submit(op::ECHO, b"");
    assert!(pool.watch(&last));
    eventually("the last one is announced", || pool.announced() == 1);
    assert!(calls.iter().all(|call| call.value().len() == 1_000));
}

#[test]
fn a_large_reply_after_a_ring_full_of_small_ones_waits_for_room() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(1, OnDeath::Replace, "");
    pool.start();
    let (first, hold) = pool.held();
    eventually("it runs", || pool.lane.has_started(&first));
    pool.lane.look();
    // From here on nobody takes replies in: there is no keeper yet, and nobody waits. In the ring a reply takes 32 bytes and its
    // payload in steps of 32, so these fill it to the last byte.
    let wide = (0..17).map(|_| pool.submit(op::LARGE, &15_360_u64.to_le_bytes()));
    let narrow = (0..7).map(|_| pool.submit(op::LARGE, &32_u64.to_le_bytes()));
    let small: Vec<_> = wide.chain(narrow).collect();
    let large = pool.submit(op::LARGE, &100_000_u64.to_le_bytes());
    hold.release();
    crate::worker::sleep(std::time::Duration::from_millis(300));
    let busy = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pool.pids()[0])).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = busy();
    crate::worker::sleep(std::time::Duration::from_millis(500));
    let after = busy();
    assert!(after - before < 10, "the worker spins: {} ticks in half a second", after - before);
    pool.keep();
    assert_eq!(pool.wait(&large), Waited::Done);
    assert!(small.iter().all(|call| [15_360, 32].contains(&call.value().len())));
}

#[test]
fn large_payloads_that_were_taken_back_or_moved_free_their_room() {
    let _cap = Cap::seconds(120);
    let pool = Pool::ready(1);
    let large = pattern(20 * MIB);
    for _ in 0..3 {
        let (running, hold) = pool.held();
        eventually("it runs", || pool.lane.has_started(&running));
        let taken: Vec<_> = (0..4).map(|_| pool.submit(op::MEASURE, &large)).collect();
        for call in &taken {
            assert!(pool.lane.take_back(call).is_some());
        }
        let moved = pool.submit(op::MEASURE, &large);
        pool.kill(pool.pids()[0], rustix::process::Signal::KILL);
        assert_eq!(pool.number(&moved), large.len() as u64, "done by the next worker");
        assert!(running.is_lost());
        drop(hold);
    }
}

#[test]
fn a_large_function_is_defined_as_a_small_one_is() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let function = [&[op::MEASURE][..], &pattern(100_000)].concat();
    let tag = pool.lane.define(&function);
    let calls: Vec<_> =
        (0..10).map(|_| pool.send(&Outgoing { kind: kind::CALL, flags: 0, tag, parts: &[] }).unwrap()).collect();
    calls.iter().for_each(|call| assert_eq!(pool.number(call), 100_000));
}

#[test]
fn a_payload_that_no_worker_can_ever_take_fails_its_call_alone() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    // The same page over and over: more than the address space of a link, at the price of one page.
    let page = pattern(16 * MIB);
    let parts: Vec<&[u8]> = std::iter::once(&[op::MEASURE][..]).chain(std::iter::repeat_n(&page[..], 1025)).collect();
    let too_large = pool.send(&Outgoing { kind: kind::APPLY, flags: 0, tag: 0, parts: &parts }).unwrap();
    let next = pool.submit(op::ECHO, b"next");
    assert_eq!(pool.wait(&next), Waited::Done);
    assert_eq!(pool.wait(&too_large), Waited::Done);
    let Reply::Broken(reason) = too_large.reply() else { panic!("{:?}", too_large.reply()) };
    assert!(reason.contains("17196646401 bytes"), "{reason}");
}
