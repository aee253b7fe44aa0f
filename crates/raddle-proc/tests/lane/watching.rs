//! Whoever wants to be told about a call is told, by the keeper, once.

use raddle_proc::lane::{OnDeath, Waited};
use rustix::process::Signal;

use crate::support::{Cap, Numbers, Pool, eventually};
use crate::worker::op;

#[test]
fn each_watched_call_is_announced_once() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    let calls: Vec<_> = (0..3_000).map(|_| pool.submit(op::ECHO, b"")).collect();
    let watched = calls.iter().filter(|call| pool.watch(call)).count() as u64;
    eventually("all are announced", || pool.announced() == watched);
    assert!(calls.iter().all(|call| call.announcements() <= 1));
}

#[test]
fn a_call_is_announced_also_when_another_thread_took_its_answer_in() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    let mut watched = 0;
    for round in 0..300_u64 {
        let calls: Vec<_> = (0..4).map(|_| pool.submit(op::ECHO, &round.to_le_bytes())).collect();
        watched += calls[..3].iter().filter(|call| pool.watch(call)).count() as u64;
        assert_eq!(pool.number(&calls[3]), round);
    }
    eventually("all are announced", || pool.announced() == watched);
}

#[test]
fn a_call_that_was_watched_before_there_was_a_worker_is_announced() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(0, OnDeath::Replace, "");
    let calls: Vec<_> = (0..100).map(|_| pool.submit(op::ECHO, b"")).collect();
    assert!(calls.iter().all(|call| pool.watch(call)));
    pool.keep();
    pool.start();
    eventually("all are announced", || pool.announced() == 100);
}

#[test]
fn calls_that_are_lost_or_broken_are_announced() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let (running, _hold) = pool.held();
    let queued = pool.submit(op::ECHO, b"");
    eventually("it runs", || pool.lane.has_started(&running));
    assert!(pool.watch(&running) && pool.watch(&queued));
    pool.kill(pool.pids()[0], Signal::KILL);
    eventually("both are announced", || pool.announced() == 2);
    assert!(running.is_lost());
    assert!(queued.value().is_empty());
    let (broken, _hold) = pool.held();
    assert!(pool.watch(&broken));
    pool.lane.destroy("enough", Signal::KILL);
    eventually("it is announced", || broken.announcements() == 1);
}

#[test]
fn watching_and_waiting_at_random_loses_nothing() {
    let _cap = Cap::seconds(120);
    let pool = Pool::of(2);
    let mut numbers = Numbers::fresh();
    let mut watched = 0;
    for _ in 0..100 {
        let calls: Vec<_> = (0..=numbers.below(30)).map(|_| pool.submit(op::ECHO, b"")).collect();
        for call in &calls {
            match numbers.below(4) {
                0 => watched += u64::from(pool.watch(call)),
                1 => assert_eq!(pool.wait(call), Waited::Done),
                2 if pool.lane.take_back(call).is_some() => call.cancel(),
                _ => {}
            }
        }
    }
    eventually("all are announced", || pool.announced() == watched);
}
