//! No call waits behind a long one while a worker has nothing to do.

use std::time::{Duration, Instant};

use raddle_proc::lane::{OnDeath, Waited};

use crate::support::{Cap, Hold, Pool, eventually, start};
use crate::worker::op;

#[test]
fn eight_slow_calls_on_two_workers_are_shared() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(2);
    let start = Instant::now();
    let calls: Vec<_> = (0..8).map(|_| pool.sleeper(100)).collect();
    calls.iter().for_each(|call| assert_eq!(pool.wait(call), Waited::Done));
    let took = start.elapsed();
    assert!(took < Duration::from_millis(700), "eight calls of 100 ms on two workers took {took:?}");
}

#[test]
fn slow_calls_after_fast_ones_are_shared() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(2);
    // The lane learns that calls take next to no time, and places the next ones accordingly.
    for _ in 0..200 {
        let call = pool.submit(op::ECHO, b"");
        assert_eq!(pool.wait(&call), Waited::Done);
    }
    let start = Instant::now();
    let calls: Vec<_> = (0..8).map(|_| pool.sleeper(100)).collect();
    calls.iter().for_each(|call| assert_eq!(pool.wait(call), Waited::Done));
    let took = start.elapsed();
    assert!(took < Duration::from_millis(700), "eight calls of 100 ms on two workers took {took:?}");
}

#[test]
fn calls_behind_a_long_one_are_done_by_the_other_worker() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(2);
    let (long, hold) = pool.held();
    let calls: Vec<_> = (0..50).map(|_| pool.submit(op::ECHO, b"")).collect();
    calls.iter().for_each(|call| assert_eq!(pool.wait(call), Waited::Done));
    assert!(!long.is_over());
    hold.release();
    pool.wait(&long);
}

#[test]
fn an_answer_that_nobody_took_in_does_not_make_its_worker_look_busy() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(2);
    let (first, hold_first) = pool.held();
    let (second, hold_second) = pool.held();
    eventually("both run", || pool.lane.has_started(&first) && pool.lane.has_started(&second));
    hold_second.release();
    // The answer lies in the ring and the worker sleeps. Nobody has looked.
    crate::worker::sleep(Duration::from_millis(100));
    let next = pool.submit(op::ECHO, b"");
    let deadline = Some(Instant::now() + Duration::from_secs(20));
    assert_eq!(pool.wait_until(&next, deadline), Waited::Done, "it waits behind the first call");
    assert!(!first.is_over());
    hold_first.release();
    pool.wait(&first);
}

#[test]
fn a_worker_that_is_ready_does_the_calls_of_one_that_is_not() {
    let _cap = Cap::seconds(60);
    let hold = Hold::new();
    let pool = Pool::empty(1, OnDeath::Replace, "");
    start(&pool.lane, &format!("late:{}", hold.name()));
    // Goes to the only worker there is, which is a long time coming.
    let calls: Vec<_> = (0..3).map(|_| pool.submit(op::ECHO, b"")).collect();
    pool.start();
    pool.keep();
    for call in &calls {
        let deadline = Some(Instant::now() + Duration::from_secs(20));
        assert_eq!(pool.wait_until(call, deadline), Waited::Done, "it waits for the late worker");
    }
    hold.release();
}
