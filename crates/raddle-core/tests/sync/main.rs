//! What threads guard things with, through public names and with real threads: one file per part.

#![cfg(not(loom))]

mod barrier;
mod condition;
mod event;
mod fair;
mod late;
mod lock;
mod numbers;
mod once;
mod rwlock;
mod semaphore;
mod table;

use raddle_core::park::Wake;
use raddle_core::park::{Attempt, Waiter};
use raddle_core::prim::{Arc, thread};
use std::time::{Duration, Instant};

/// How often a thread does what it does.
const OFTEN: usize = if cfg!(miri) { 20 } else { 3_000 };

/// Attempts until it has what it wants.
fn until_done(mut attempt: impl FnMut(Option<&Arc<Waiter>>) -> Attempt) {
    let mut before = None;
    while let Attempt::Wait(waiter) = attempt(before.as_ref()) {
        assert_eq!(waiter.park(None), Wake::Unparked);
        before = Some(waiter);
    }
}

/// Attempts until it has what it wants, or leaves after so short a time that it often ends together with the call.
fn done_in_time(mut attempt: impl FnMut(Option<&Arc<Waiter>>) -> Attempt, leave: impl Fn(&Arc<Waiter>)) -> bool {
    let deadline = Some(Instant::now() + Duration::from_micros(20));
    let mut before = None;
    while let Attempt::Wait(waiter) = attempt(before.as_ref()) {
        if waiter.park(deadline) != Wake::Unparked {
            leave(&waiter);
            return false;
        }
        before = Some(waiter);
    }
    true
}

/// The waiter of an attempt that has to wait.
fn waiter(attempt: Attempt) -> Arc<Waiter> {
    match attempt {
        Attempt::Wait(waiter) => waiter,
        Attempt::Done(()) => panic!("it need not wait"),
    }
}

/// Runs `act` on so many threads, with their number, and returns what they return.
fn on_threads<R: Send + 'static>(count: usize, act: impl Fn(usize) -> R + Clone + Send + 'static) -> Vec<R> {
    let start = |number| {
        let act = act.clone();
        thread::spawn(move || act(number))
    };
    let threads: Vec<_> = (0..count).map(start).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}
