//! A worker may die at any moment: the call that it ran is lost, and nothing else is.

use std::collections::HashSet;
use std::time::Duration;

use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::AtomicBool;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_proc::lane::{OnDeath, Refusal, Reply, Waited};
use raddle_proc::{Ending, Process, Spawn, spawn};
use rustix::process::Signal;

use crate::support::{Cap, Numbers, Pool, eventually};
use crate::worker::{libc_signal, op};

#[test]
fn a_worker_killed_while_it_is_idle_takes_no_call_with_it() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let pid = pool.pids()[0];
    pool.kill(pid, Signal::KILL);
    let departure = pool.departed(1);
    assert_eq!((departure.pid, departure.ending, departure.expected), (pid, Ending::Signalled(9), false));
    assert_eq!((pool.lane.seats(), pool.lane.counts().died), (0, 1));
    let call = pool.submit(op::PID, b"");
    assert_ne!(pool.number(&call), u64::from(pid));
}

#[test]
fn the_way_a_worker_ends_is_told_with_the_call_that_it_ran() {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let ways = [
        (op::EXIT, 7, Ending::Exited(7)),
        (op::SIGNAL, libc_signal::ABRT, Ending::Signalled(6)),
        (op::SIGNAL, libc_signal::USR1, Ending::Signalled(10)),
        (op::SIGNAL, libc_signal::KILL, Ending::Signalled(9)),
    ];
    for (what, argument, ending) in ways {
        let pid = pool.submit(op::PID, b"");
        let pid = pool.number(&pid);
        let call = pool.submit(what, &(argument as u64).to_le_bytes());
        assert_eq!(pool.wait(&call), Waited::Done);
        let Reply::Lost(loss) = call.reply() else { panic!("{:?}", call.reply()) };
        assert_eq!((u64::from(loss.pid), loss.ending), (pid, ending));
    }
    assert_eq!(pool.lane.counts().failed, 4);
}

#[test]
fn what_waits_behind_a_lost_call_is_done_elsewhere_in_order() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let (running, _hold) = pool.held();
    let queued: Vec<_> = (0..200).map(|_| pool.submit(op::COUNT, b"")).collect();
    let taken = &queued[17];
    assert!(pool.lane.take_back(taken).is_some());
    eventually("the first call runs", || pool.lane.has_started(&running));
    pool.kill(pool.pids()[0], Signal::KILL);
    assert_eq!(pool.wait(&running), Waited::Done);
    assert!(running.is_lost());
    let numbers: Vec<_> = queued.iter().enumerate().filter(|(i, _)| *i != 17).map(|(_, c)| pool.number(c)).collect();
    assert_eq!(numbers, (1..200).collect::<Vec<_>>(), "one new worker did them one after the other");
    assert!(!taken.is_over());
}

#[test]
fn followers_hear_of_a_death_too() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(2);
    let ((one, _hold), (other, hold)) = (pool.held(), pool.held());
    std::thread::scope(|s| {
        let waiters: Vec<_> = [&one, &one, &one, &other].map(|call| s.spawn(|| pool.wait(call))).into();
        eventually("both run", || pool.lane.has_started(&one) && pool.lane.has_started(&other));
        // The first call went to the first seat.
        let (_, pid) = pool.lane.processes()[0];
        pool.kill(pid, Signal::KILL);
        eventually("somebody has lost it", || one.is_over());
        assert!(one.is_lost());
        hold.release();
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), Waited::Done));
    });
    assert!(other.value().is_empty());
}

#[test]
fn a_worker_that_dies_between_taking_the_leaders_bell_and_ringing_it_is_noticed() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let call = pool.submit(op::TAKE_BELL, b"");
    assert_eq!(pool.wait(&call), Waited::Done);
    assert!(call.is_lost());
}

#[test]
fn twenty_thousand_calls_survive_random_kills() {
    let _cap = Cap::seconds(300);
    let pool = Pool::of(3);
    let flowing = AtomicBool::new(true);
    // Workers that were ready once: three in a row that die before that break the lane.
    let ready = Mutex::new(HashSet::new());
    let (lost, kills) = std::thread::scope(|s| {
        let (pool, ready) = (&pool, &ready);
        let flows = [0, 1].map(|part| s.spawn(move || flow(pool, ready, part)));
        let killer = s.spawn(|| kill_at_random(pool, ready, &flowing));
        let lost = flows.map(|flow| flow.join());
        flowing.store(false, Relaxed);
        let kills = killer.join();
        (lost.into_iter().map(|lost| lost.unwrap()).sum::<u64>(), kills.unwrap())
    });
    let counts = pool.lane.counts();
    assert_eq!((counts.submitted, counts.finished, counts.failed), (20_000, 20_000 - lost, lost));
    assert!(kills > 0 && lost <= kills, "{lost} calls were lost with {kills} workers");
    assert_eq!((pool.lane.outstanding(), counts.pending, counts.running), (0, 0, 0));
}

/// Hands in ten thousand calls, and says how many were lost.
fn flow(pool: &Pool, ready: &Mutex<HashSet<u32>>, part: u64) -> u64 {
    let mut lost = 0;
    for batch in 0..20 {
        let base = (part * 20 + batch) * 500;
        let kind = |number: u64| if number.is_multiple_of(50) { op::PID } else { op::ECHO };
        let calls = (base..base + 500).map(|number: u64| pool.submit(kind(number), &number.to_le_bytes()));
        for (number, call) in (base..).zip(calls.collect::<Vec<_>>()) {
            assert_eq!(pool.wait(&call), Waited::Done);
            match kind(number) {
                _ if call.is_lost() => lost += 1,
                op::PID => _ = ready.lock().insert(call.number() as u32),
                _ => assert_eq!(call.number(), number),
            }
        }
    }
    lost
}

/// Kills workers as long as calls flow, and says how many.
fn kill_at_random(pool: &Pool, ready: &Mutex<HashSet<u32>>, flowing: &AtomicBool) -> u64 {
    let mut numbers = Numbers::fresh();
    let mut kills = 0;
    while flowing.load(Relaxed) {
        crate::worker::sleep(Duration::from_micros(numbers.below(4_000)));
        let pids: Vec<_> = pool.pids().into_iter().filter(|pid| ready.lock().remove(pid)).collect();
        if let Some(&pid) = pids.get(numbers.below(3) as usize) {
            pool.kill(pid, Signal::KILL);
            kills += 1;
        }
    }
    kills
}

#[test]
fn a_lane_that_is_to_break_breaks() {
    let _cap = Cap::seconds(60);
    let pool = Pool::with(2, OnDeath::Break, "");
    let ((one, _hold), (other, _hold2)) = (pool.held(), pool.held());
    let queued: Vec<_> = (0..20).map(|_| pool.submit(op::ECHO, b"")).collect();
    eventually("both run", || pool.lane.has_started(&one) && pool.lane.has_started(&other));
    pool.kill(pool.pids()[0], Signal::KILL);
    for call in queued.iter().chain([&one, &other]) {
        assert_eq!(pool.wait(call), Waited::Done);
        let Reply::Broken(reason) = call.reply() else { panic!("{:?}", call.reply()) };
        assert!(reason.contains("was killed by SIGKILL"), "{reason}");
    }
    assert!(matches!(pool.try_submit(op::ECHO, b""), Err(Refusal::Broken(_))));
    assert_eq!(pool.lane.join(None), Waited::Done);
    assert_eq!((pool.crew.broken.lock().len(), pool.lane.seats()), (1, 0), "told once, and everybody has ended");
}

#[test]
fn workers_that_never_get_ready_break_the_lane() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(1, OnDeath::Replace, "stillborn");
    let call = pool.submit(op::ECHO, b"");
    pool.keep();
    assert_eq!(pool.wait(&call), Waited::Done);
    let Reply::Broken(reason) = call.reply() else { panic!("{:?}", call.reply()) };
    assert!(reason.contains("3 workers in a row") && reason.contains("exit code 3"), "{reason}");
    assert_eq!(pool.lane.join(None), Waited::Done);
    assert_eq!(pool.crew.departures.lock().len(), 3);
}

#[test]
fn the_account_of_an_unfit_worker_is_the_reason_even_when_it_is_gone_already() {
    let _cap = Cap::seconds(60);
    for on_death in [OnDeath::Replace, OnDeath::Break] {
        let pool = Pool::empty(1, on_death, "unfit");
        let call = pool.submit(op::ECHO, b"");
        // The account and the death are there together when the keeper first looks.
        let pid = pool.pids()[0];
        eventually("it has ended", || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z "));
        pool.keep();
        assert_eq!(pool.lane.join(None), Waited::Done);
        let Reply::Broken(reason) = call.reply() else { panic!("{:?}", call.reply()) };
        assert_eq!(&*reason, "there are no tools");
        assert_eq!(*pool.crew.broken.lock(), [reason.to_string()]);
    }
}

#[test]
fn a_worker_that_retires_leaves_its_queue_to_the_next() {
    let _cap = Cap::seconds(60);
    let pool = Pool::with(1, OnDeath::Break, "");
    let first = pool.submit(op::RETIRE, b"first");
    let queued: Vec<_> = (0..50).map(|_| pool.submit(op::COUNT, b"")).collect();
    let numbers: Vec<_> = queued.iter().map(|call| pool.number(call)).collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    assert_eq!(first.value(), b"first");
    assert!(pool.departed(1).expected);
    assert_eq!(pool.lane.counts().died, 0);
}

#[test]
fn the_calls_of_a_seat_that_was_given_up_go_elsewhere() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(1, OnDeath::Replace, "");
    pool.keep();
    let seating = pool.lane.seat().unwrap();
    let calls: Vec<_> = (0..10).map(|_| pool.submit(op::COUNT, b"")).collect();
    pool.lane.vacate(seating.seat);
    assert_eq!((pool.lane.outstanding(), pool.lane.seats()), (10, 0));
    pool.start();
    let numbers: Vec<_> = calls.iter().map(|call| pool.number(call)).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_process_that_was_gone_before_it_was_named_departs_too() {
    let _cap = Cap::seconds(60);
    let pool = Pool::empty(1, OnDeath::Replace, "");
    pool.keep();
    let mut gone =
        spawn(&Spawn { argv: vec!["/bin/true".into()], env: vec![], fds: vec![], own_group: false }).unwrap();
    gone.wait().unwrap();
    let seating = pool.lane.seat().unwrap();
    let call = pool.submit(op::ECHO, b"still here");
    pool.lane.occupy(seating.seat, Process::open(gone.pid(), true).unwrap()).unwrap();
    let departure = pool.departed(1);
    assert_eq!((departure.seat, departure.ending, departure.expected), (seating.seat, Ending::Unknown, false));
    // The keeper has told, so there is a replacement.
    assert_eq!(pool.wait(&call), Waited::Done);
    assert_eq!(call.value(), b"still here");
}

#[test]
fn a_stopped_worker_stops_nobody_else() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(2);
    let (held, hold) = pool.held();
    eventually("it runs", || pool.lane.has_started(&held));
    let (_, stopped) = pool.lane.processes()[0];
    pool.kill(stopped, Signal::STOP);
    let calls: Vec<_> = (0..500).map(|_| pool.submit(op::ECHO, b"")).collect();
    calls.iter().for_each(|call| assert_eq!(pool.wait(call), Waited::Done));
    assert!(!held.is_over());
    hold.release();
    pool.kill(stopped, Signal::CONT);
    assert_eq!(pool.wait(&held), Waited::Done);
}

#[test]
fn a_replacement_that_the_keeper_started_hears_signals() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let (running, _hold) = pool.held();
    let next = pool.submit(op::PID, b"");
    eventually("it runs", || pool.lane.has_started(&running));
    pool.kill(pool.pids()[0], Signal::KILL);
    // The keeper, which takes no signals, has started the next worker.
    let pid = pool.number(&next) as u32;
    assert!(running.is_lost());
    pool.kill(pid, Signal::TERM);
    assert_eq!(pool.departed(2).ending, Ending::Signalled(15));
}
