//! A worker that breaks the rules of its memory is ended, and harms nobody else.

use raddle_proc::Ending;
use raddle_proc::lane::{Reply, Waited};

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
