//! Calls go out, answers come back, and what has not started can be taken back.

use raddle_proc::lane::{OnDeath, Outgoing, Reply, Waited, kind};

use crate::support::{Cap, Pool, eventually};
use crate::worker::op;

#[test]
fn a_call_is_answered() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let call = pool.submit(op::ECHO, b"hello");
    assert_eq!(pool.wait(&call), Waited::Done);
    assert_eq!(call.value(), b"hello");
}

#[test]
fn an_error_comes_back_as_one() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let call = pool.submit(op::FAIL, b"this went wrong");
    pool.wait(&call);
    let Reply::Answer { kind, payload, .. } = call.reply() else { panic!("{:?}", call.reply()) };
    assert_eq!((kind, &payload[..]), (kind::ERROR, &b"this went wrong"[..]));
    let counts = pool.lane.counts();
    assert_eq!((counts.submitted, counts.finished, counts.failed), (1, 0, 1));
}

#[test]
fn of_a_timed_call_it_is_said_who_has_begun_it_and_when_whatever_the_size_of_its_answer() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let pid = pool.submit(op::PID, b"");
    let pid = pool.number(&pid) as u32;
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = |time: rustix::time::Timespec| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    for size in [0_u64, 8, 30_000, 3 << 20] {
        let before = nanos(now());
        let timed = pool.submit_timed(op::LARGE, &size.to_le_bytes());
        pool.wait(&timed);
        assert!(timed.value() == crate::worker::pattern(size as usize), "the moment is not part of the answer");
        let beginnings = timed.beginnings();
        let [(worker, at)] = beginnings[..] else { panic!("it was begun once, not {beginnings:?}") };
        assert_eq!(worker, pid);
        assert!((before..nanos(now())).contains(&at));
    }
    let plain = pool.submit(op::ECHO, b"plain");
    pool.wait(&plain);
    assert_eq!((plain.value(), plain.beginnings()), (b"plain".to_vec(), vec![]));
}

#[test]
fn ten_thousand_calls_are_answered_each_with_its_own_answer() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    let calls: Vec<_> = (0..10_000_u64).map(|number| pool.submit(op::ECHO, &number.to_le_bytes())).collect();
    for (number, call) in calls.iter().enumerate() {
        assert_eq!(pool.number(call), number as u64);
    }
    let counts = pool.lane.counts();
    assert_eq!((counts.submitted, counts.finished, counts.failed), (10_000, 10_000, 0));
    assert_eq!((counts.pending, counts.running, counts.died), (0, 0, 0));
    assert_eq!(pool.lane.outstanding(), 0);
}

#[test]
fn a_function_is_sent_once_to_each_worker_and_named_by_number() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(2);
    let functions: Vec<u32> =
        [&[op::ECHO, b'a'][..], &[op::ECHO, b'b']].map(|function| pool.lane.define(function)).into();
    let call = |index: usize| {
        let tag = functions[index % 2];
        pool.send(&Outgoing { kind: kind::CALL, flags: 0, tag, parts: &[b"x", &[b'0' + (index % 10) as u8]] }).unwrap()
    };
    // The worker refuses a second definition of the same number, and dies if it is asked for one it does not know.
    let calls: Vec<_> = (0..500).map(call).collect();
    for (index, call) in calls.iter().enumerate() {
        pool.wait(call);
        assert_eq!(call.value(), [b'a' + (index % 2) as u8, b'x', b'0' + (index % 10) as u8]);
    }
    assert_eq!(pool.lane.counts().died, 0);
}

#[test]
fn a_call_that_has_not_started_can_be_taken_back() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let (running, hold) = pool.held();
    eventually("the first call runs", || pool.lane.has_started(&running));
    let queued: Vec<_> = (0..3).map(|_| pool.submit(op::COUNT, b"")).collect();
    assert!(pool.lane.take_back(&queued[1]).is_some());
    assert!(pool.lane.take_back(&queued[1]).is_none(), "once");
    assert!(pool.lane.take_back(&running).is_none(), "it runs");
    assert!(!pool.lane.has_started(&queued[1]));
    let counts = pool.lane.counts();
    assert_eq!((counts.running, counts.pending, counts.cancelled), (1, 2, 1));
    hold.release();
    assert_eq!(pool.number(&queued[2]), 3, "the worker has begun three calls, not four");
    assert_eq!(pool.number(&queued[0]), 2);
    assert!(!queued[1].is_over(), "whoever takes a call back ends it");
    assert!(pool.lane.take_back(&queued[2]).is_none(), "it is over");
}

#[test]
fn a_call_without_a_worker_can_be_taken_back() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(0, OnDeath::Replace, "");
    let calls: Vec<_> = (0..3).map(|_| pool.submit(op::ECHO, b"")).collect();
    assert!(pool.lane.take_back(&calls[1]).is_some());
    assert!(pool.lane.take_back(&calls[1]).is_none());
    assert_eq!((pool.lane.outstanding(), pool.lane.counts().pending), (2, 2));
    pool.start();
    pool.keep();
    for call in [&calls[0], &calls[2]] {
        assert_eq!(pool.wait(call), Waited::Done);
    }
}

#[test]
fn a_worker_that_passes_over_a_revoked_call_is_not_running() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let (running, hold) = pool.held();
    let queued = pool.submit(op::ECHO, b"");
    assert!(pool.lane.take_back(&queued).is_some());
    hold.release();
    pool.wait(&running);
    // The worker reports itself idle to nobody here, so there is nothing to wait for but time.
    crate::worker::sleep(std::time::Duration::from_millis(50));
    let counts = pool.lane.counts();
    assert_eq!((counts.running, counts.pending), (0, 0));
}

#[test]
fn more_revoked_calls_than_a_seat_can_hold_do_not_clog_it() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let (running, hold) = pool.held();
    for _ in 0..10_000 {
        let call = pool.submit(op::ECHO, b"");
        assert!(pool.lane.take_back(&call).is_some());
    }
    let last = pool.submit(op::ECHO, b"last");
    hold.release();
    assert_eq!(pool.wait(&last), Waited::Done);
    assert_eq!(last.value(), b"last");
    assert!(running.is_over());
}
