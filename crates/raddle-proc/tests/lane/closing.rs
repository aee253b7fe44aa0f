//! A lane ends when it is told to, and leaves nothing behind.

use std::process::Command;
use std::time::{Duration, Instant};

use raddle_core::life::Event;
use raddle_proc::lane::{Client, Departure, OnDeath, Refusal, Reply, Ticket, Waited};
use rustix::process::Signal;

use crate::support::{Call, Cap, Pool, eventually};
use crate::worker::op;

#[test]
fn a_closed_lane_does_what_it_has_and_ends() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(2);
    let calls: Vec<_> = (0..200).map(|_| pool.submit(op::ECHO, b"done")).chain([pool.sleeper(50)]).collect();
    assert!(pool.lane.close(false).is_empty());
    assert_eq!(pool.try_submit(op::ECHO, b"").err(), Some(Refusal::Closed));
    // Nobody waits for the calls.
    assert_eq!(pool.lane.join(None), Waited::Done);
    assert_eq!((pool.lane.seats(), pool.lane.outstanding(), pool.lane.is_kept()), (0, 0, false));
    calls.iter().for_each(|call| drop(call.value()));
    let departures = pool.crew.departures.lock();
    assert!(departures.len() == 2 && departures.iter().all(|departure| departure.expected), "{departures:?}");
}

#[test]
fn a_closed_lane_that_takes_back_does_only_what_runs() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let (running, hold) = pool.held();
    eventually("it runs", || pool.lane.has_started(&running));
    // More than a ring holds, so that some wait in the backlog.
    let queued: Vec<_> = (0..6_000).map(|_| pool.submit(op::ECHO, b"")).collect();
    let taken = pool.lane.close(true);
    assert_eq!((taken.len(), pool.lane.counts().cancelled), (6_000, 6_000));
    for (taken, queued) in taken.iter().zip(&queued) {
        assert!(std::ptr::eq(taken.place(), queued.place()), "in order");
    }
    assert_eq!(pool.lane.join(Some(Instant::now() + Duration::from_millis(20))), Waited::TimedOut);
    hold.release();
    assert_eq!(pool.lane.join(None), Waited::Done);
    assert!(running.value().is_empty());
    assert!(queued.iter().all(|call| !call.is_over()));
}

#[test]
fn a_lane_can_be_closed_before_its_workers_are_ready() {
    let _cap = Cap::seconds(60);
    for calls in [0, 5] {
        let pool = Pool::of(2);
        let calls: Vec<_> = (0..calls).map(|_| pool.submit(op::ECHO, b"")).collect();
        pool.lane.close(false);
        assert_eq!(pool.lane.join(None), Waited::Done);
        assert!(calls.iter().all(|call| call.is_over()));
    }
}

#[test]
fn a_closing_lane_replaces_workers_as_long_as_there_is_work() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let (running, _hold) = pool.held();
    let queued: Vec<_> = (0..20).map(|_| pool.submit(op::ECHO, b"")).collect();
    pool.lane.close(false);
    eventually("it runs", || pool.lane.has_started(&running));
    pool.kill(pool.pids()[0], Signal::KILL);
    assert_eq!(pool.lane.join(None), Waited::Done);
    assert!(running.is_lost());
    queued.iter().for_each(|call| drop(call.value()));
}

#[test]
fn a_destroyed_lane_fails_everything_at_once() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(2);
    let (running, _hold) = pool.held();
    let queued: Vec<_> = (0..6_000).map(|_| pool.submit(op::ECHO, b"")).collect();
    let watched = pool.sleeper(60_000);
    assert!(pool.watch(&watched));
    let stopped = pool.pids()[1];
    pool.kill(stopped, Signal::STOP);
    pool.lane.destroy("enough", Signal::KILL);
    for call in queued.iter().chain([&running, &watched]) {
        assert!(call.is_over(), "before `destroy` returns");
    }
    let Reply::Broken(reason) = running.reply() else { panic!("{:?}", running.reply()) };
    assert_eq!(&*reason, "enough");
    assert_eq!(pool.lane.join(None), Waited::Done);
    assert_eq!((pool.lane.seats(), watched.announcements()), (0, 1));
    assert_eq!(*pool.crew.broken.lock(), ["enough"]);
}

#[test]
fn everybody_who_joins_comes_back() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let (call, hold) = pool.held();
    std::thread::scope(|s| {
        let joiners: Vec<_> = (0..4).map(|_| s.spawn(|| pool.lane.join(None))).collect();
        pool.lane.close(false);
        hold.release();
        joiners.into_iter().for_each(|joiner| assert_eq!(joiner.join().unwrap(), Waited::Done));
    });
    assert!(call.is_over());
    assert_eq!(pool.lane.join(None), Waited::Done, "again");
}

#[test]
fn a_lane_that_was_never_kept_has_nothing_to_join() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(1, OnDeath::Replace, "");
    assert_eq!(pool.lane.join(None), Waited::Done);
    pool.lane.close(false);
    pool.keep();
    assert_eq!(pool.lane.join(None), Waited::Done, "closed and empty: the keeper ends at once");
}

#[test]
fn the_last_announcement_is_made_before_the_keeper_goes() {
    let _cap = Cap::seconds(120);
    for _ in 0..50 {
        let pool = Pool::of(1);
        let calls: Vec<_> = (0..20).map(|_| pool.submit(op::ECHO, b"")).collect();
        let watched = calls.iter().filter(|call| pool.watch(call)).count();
        pool.lane.close(false);
        // A thread that waits takes replies in, and leaves what must be told to the keeper, which may be about to go.
        let waited = pool.wait(&calls[19]);
        assert_eq!((waited, pool.lane.join(None)), (Waited::Done, Waited::Done));
        assert_eq!(pool.announced(), watched as u64);
    }
}

/// The descriptors, threads and children of this process.
fn belongings() -> (usize, usize, usize) {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let children = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        std::fs::read_to_string(task.unwrap().path().join("children")).ok() // the thread may have ended
    });
    (count("/proc/self/fd"), count("/proc/self/task"), children.map(|pids| pids.split_whitespace().count()).sum())
}

const ALONE: &str = "RADDLE_TEST_ALONE";

#[test]
fn nothing_is_left_behind() {
    let _cap = Cap::seconds(120);
    if std::env::var_os(ALONE).is_none() {
        // Other tests run beside this one; so it is run once more in a process of its own.
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["closing::nothing_is_left_behind", "--exact", "--nocapture", "--test-threads=1"]);
        let output = command.env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    if cfg!(raddle_tsan) {
        return; // that sanitizer starts a process of its own, when it looks up the names of functions for its suppressions
    }
    let before = belongings();
    for round in 0..6 {
        let pool = Pool::of(2);
        let large = [op::ECHO; 100_000];
        let calls: Vec<_> = (0..100).map(|_| pool.submit(op::ECHO, &large)).collect();
        match round % 3 {
            0 => drop(pool.lane.close(false)),
            1 => pool.kill(pool.pids()[0], Signal::KILL),
            _ => pool.lane.destroy("enough", Signal::KILL),
        }
        calls.iter().for_each(|call| assert_eq!(pool.wait(call), Waited::Done));
        let late = pool.try_submit(op::ECHO, b"");
        assert_eq!(late.is_ok(), round % 3 == 1);
    }
    // The kernel takes a thread out of the list a moment after it was joined.
    eventually("everything is gone", || belongings() == before);
}

#[test]
fn a_call_that_ended_elsewhere_is_not_the_lanes_business() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(0, OnDeath::Replace, "");
    let call = pool.submit(op::ECHO, b"");
    assert!(call.life().step(Event::Watch).is_ok());
    assert!(pool.lane.take_back(&call).is_some());
    call.cancel();
    pool.lane.watch(&call);
    assert!(!pool.lane.has_started(&call));
    assert_eq!(pool.lane.outstanding(), 0);
}

/// Fails when it is to replace a worker.
struct Helpless;

impl Client<Call> for Helpless {
    fn surround(&self, life: &mut (dyn FnMut() + Send)) {
        life();
    }

    fn announce(&self, _: Vec<Call>) {}

    fn heard(&self) {}

    fn dispose(&self, tickets: Vec<Call>) {
        drop(tickets);
    }

    fn departed(&self, _: Departure, _: bool) {
        panic!("this panic is part of the test");
    }

    fn broken(&self, _: &str) {}
}

#[test]
fn a_keeper_that_panics_takes_the_lane_with_it_and_nobody_waits_for_ever() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(2, OnDeath::Replace, "");
    pool.start();
    pool.start();
    pool.lane.start_keeper(Helpless).unwrap();
    let ((running, _hold), (lost, _hold2)) = (pool.held(), pool.held());
    eventually("both run", || pool.lane.has_started(&running) && pool.lane.has_started(&lost));
    pool.kill(pool.pids()[1], Signal::KILL);
    assert_eq!(pool.wait(&running), Waited::Done);
    assert!(matches!(running.reply(), Reply::Broken(_)));
    assert!(lost.is_lost());
    assert_eq!(pool.lane.join(None), Waited::Done);
    assert!(matches!(pool.try_submit(op::ECHO, b""), Err(Refusal::Broken(_))));
}
