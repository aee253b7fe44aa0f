//! A worker that breaks the rules of its memory is ended, and harms nobody else.

use std::time::Duration;

use raddle_proc::Ending;
use raddle_proc::lane::{Cause, Reply, Waited};
use rustix::process::Signal;

use crate::support::{Cap, Pool, eventually};
use crate::worker::op;

/// One worker scribbles in the given way while another call waits behind; the other goes on.
fn scribble(way: u64) -> Reply {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let (held, hold) = pool.held();
    let liar = pool.submit(op::SCRIBBLE, &way.to_le_bytes());
    let queued: Vec<_> = (0..20).map(|_| pool.submit(op::ECHO, b"fine")).collect();
    hold.release();
    assert_eq!(pool.wait(&held), Waited::Done);
    assert_eq!(pool.wait(&liar), Waited::Done);
    for call in &queued {
        assert_eq!(pool.wait(call), Waited::Done);
        assert_eq!(call.value(), b"fine", "done by the next worker");
    }
    eventually("the worker departs", || !pool.crew.departures.lock().is_empty());
    let departure = pool.departed(1);
    assert_eq!((departure.ending, departure.expected), (Ending::Signalled(9), false));
    assert!(pool.crew.broken.lock().is_empty(), "the lane lives");
    liar.reply()
}

fn scribble_and_lose(way: u64) {
    let reply = scribble(way);
    assert!(matches!(reply, Reply::Lost(_)), "{reply:?}");
}

#[test]
fn a_position_that_cannot_be_ends_the_worker() {
    scribble_and_lose(0);
}

#[test]
fn a_record_of_no_known_kind_ends_the_worker() {
    scribble_and_lose(1);
}

#[test]
fn an_answer_to_a_call_that_was_answered_ends_the_worker() {
    scribble_and_lose(2);
}

#[test]
fn an_answer_to_a_call_that_never_was_ends_the_worker() {
    scribble_and_lose(3);
}

#[test]
fn a_payload_outside_the_region_ends_the_worker() {
    scribble_and_lose(4);
}

#[test]
fn an_answer_to_a_later_call_ends_the_worker() {
    scribble_and_lose(5);
}

#[test]
fn an_absurd_time_does_no_harm_and_a_second_answer_ends_the_worker() {
    let reply = scribble(6);
    assert!(matches!(reply, Reply::Answer { nanos: u64::MAX, .. }), "{reply:?}");
}

#[test]
fn a_worker_that_is_ready_twice_is_ended() {
    scribble_and_lose(7);
}

#[test]
fn an_answer_that_is_said_to_be_gigabytes_and_is_not_there_ends_the_worker() {
    scribble_and_lose(8);
}

/// A worker that has changed what waits behind it, and died.
fn spoil(way: u64) {
    let _cap = Cap::seconds(60);
    let pool = Pool::of(1);
    let (held, hold) = pool.held();
    eventually("it runs", || pool.lane.has_started(&held));
    let liar = pool.submit(op::SCRIBBLE, &way.to_le_bytes());
    let queued: Vec<_> = (0..20).map(|_| pool.submit(op::ECHO, b"fine")).collect();
    hold.release();
    for call in queued.iter().chain([&held, &liar]) {
        assert_eq!(pool.wait(call), Waited::Done);
    }
    assert!(liar.is_lost());
    assert!(queued.iter().all(|call| call.is_lost()), "what they were cannot be known any more");
    let next = pool.submit(op::ECHO, b"next");
    assert_eq!(pool.wait(&next), Waited::Done);
    assert_eq!(next.value(), b"next");
    assert!(pool.crew.broken.lock().is_empty(), "the lane lives");
}

#[test]
fn calls_whose_function_was_overwritten_in_the_ring_are_lost_and_call_no_other() {
    spoil(9);
}

#[test]
fn calls_whose_kind_was_overwritten_in_the_ring_are_lost() {
    spoil(10);
}

#[test]
fn a_worker_that_lies_about_the_time_is_stopped_all_the_same() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let liar = pool.submit_for(Duration::from_millis(100), op::SCRIBBLE, &11_u64.to_le_bytes());
    assert_eq!(pool.wait(&liar), Waited::Done);
    let Reply::Lost(loss) = liar.reply() else { panic!("{:?}", liar.reply()) };
    assert_eq!(loss.cause, Cause::Overdue(Duration::from_millis(100)));
}

#[test]
fn a_call_with_a_limit_does_not_wait_for_ever_for_a_worker_that_is_stopped() {
    let _cap = Cap::seconds(60);
    let pool = Pool::ready(1);
    let stopped = pool.pids()[0];
    pool.kill(stopped, Signal::STOP);
    eventually("it stops", || std::fs::read_to_string(format!("/proc/{stopped}/stat")).unwrap().contains(") T "));
    let call = pool.submit_for(Duration::from_millis(100), op::PID, b"");
    assert_ne!(pool.number(&call), u64::from(stopped), "it had not begun there, and was done by the next worker");
}
