//! Any number of threads wait at once; one of them sleeps for all.

use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use raddle_proc::lane::Waited;

use crate::support::{Cap, Numbers, Pool, eventually};
use crate::worker::op;

/// By hand, because a scope tells nobody but itself, and the thread sanitizer must know too.
fn join(threads: Vec<ScopedJoinHandle<'_, ()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn many_threads_that_wait_at_once_all_get_their_answers() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    std::thread::scope(|s| {
        let pool = &pool;
        let waiters = (0..8_u64).map(|thread| {
            s.spawn(move || {
                for number in 0..250 {
                    let wanted = thread * 1_000 + number;
                    let call = pool.submit(op::ECHO, &wanted.to_le_bytes());
                    assert_eq!(pool.number(&call), wanted);
                }
            })
        });
        join(waiters.collect());
    });
}

#[test]
fn threads_that_wait_for_calls_of_different_length_all_wake() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    let mut numbers = Numbers::fresh();
    for _ in 0..20 {
        let calls: Vec<_> = (0..8).map(|_| pool.sleeper(numbers.below(4))).collect();
        std::thread::scope(|s| {
            let pool = &pool;
            join(calls.iter().map(|call| s.spawn(move || assert_eq!(pool.wait(call), Waited::Done))).collect());
        });
    }
}

#[test]
fn a_wait_ends_at_its_deadline_and_the_call_goes_on() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let (call, hold) = pool.held();
    let start = Instant::now();
    let deadline = Some(start + Duration::from_millis(30));
    assert_eq!(pool.wait_until(&call, deadline), Waited::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(pool.wait_until(&call, deadline), Waited::TimedOut, "a deadline in the past");
    hold.release();
    assert_eq!(pool.wait(&call), Waited::Done);
}

#[test]
fn a_leader_that_gives_up_leaves_the_lead_to_a_follower() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(2);
    let ((first, hold_first), (second, hold_second)) = (pool.held(), pool.held());
    std::thread::scope(|s| {
        let (pool, first, second) = (&pool, &first, &second);
        let patient = (0..3).map(|_| s.spawn(move || assert_eq!(pool.wait(second), Waited::Done)));
        let hasty = [10, 20, 30].map(|millis| {
            let deadline = Some(Instant::now() + Duration::from_millis(millis));
            s.spawn(move || assert_eq!(pool.wait_until(first, deadline), Waited::TimedOut))
        });
        let all = patient.chain(hasty).collect();
        crate::worker::sleep(Duration::from_millis(40));
        hold_second.release();
        join(all);
    });
    hold_first.release();
    assert_eq!(pool.wait(&first), Waited::Done);
}

#[test]
fn a_leader_hears_that_its_call_was_taken_back() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let (running, hold) = pool.held();
    eventually("the first call runs", || pool.lane.has_started(&running));
    let queued = pool.submit(op::ECHO, b"");
    std::thread::scope(|s| {
        let waiter = s.spawn(|| pool.wait(&queued));
        crate::worker::sleep(Duration::from_millis(10));
        assert!(pool.lane.take_back(&queued).is_some());
        queued.cancel();
        pool.lane.nudge();
        assert_eq!(waiter.join().unwrap(), Waited::Done);
    });
    assert!(!running.is_over());
    hold.release();
    pool.wait(&running);
}

#[test]
fn waiting_needs_no_keeper() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(1, raddle_proc::lane::OnDeath::Replace, "");
    pool.start();
    for number in 0..100_u64 {
        let call = pool.submit(op::ECHO, &number.to_le_bytes());
        assert_eq!(pool.number(&call), number);
    }
    pool.keep();
}

#[test]
fn a_result_that_nobody_waits_for_is_found_by_a_look() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let call = pool.submit(op::ECHO, b"here");
    eventually("the answer is there", || {
        pool.lane.look();
        call.is_over()
    });
    assert_eq!(call.value(), b"here");
    assert_eq!(pool.wait(&call), Waited::Done);
}
