//! Sleeping and waking, through public names, with real threads and real signals.

#![cfg(not(loom))]

#[cfg(target_os = "linux")]
mod signal;

use raddle_core::park::{Parker, Unparker, Wake, with_current};
use raddle_core::prim::atomic::AtomicBool;
use raddle_core::prim::atomic::Ordering::{Acquire, Release};
use raddle_core::prim::{Arc, thread};
use std::time::{Duration, Instant};

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(5))
}

#[test]
fn a_token_that_is_there_is_taken_at_once() {
    let parker = Parker::new();
    parker.unparker().unpark();
    assert_eq!(parker.park(None), Wake::Unparked);
}

#[test]
fn a_token_is_taken_even_after_the_deadline() {
    let parker = Parker::new();
    parker.unparker().unpark();
    assert_eq!(parker.park(Some(Instant::now())), Wake::Unparked);
}

#[test]
fn tokens_are_merged() {
    let parker = Parker::new();
    let unparker = parker.unparker();
    unparker.unpark();
    unparker.clone().unpark();
    assert_eq!(parker.park(soon()), Wake::Unparked);
    assert_eq!(parker.park(soon()), Wake::TimedOut);
}

#[test]
fn a_park_ends_at_its_deadline_and_not_before() {
    let parker = Parker::new();
    let deadline = Instant::now() + Duration::from_millis(5);
    assert_eq!(parker.park(Some(deadline)), Wake::TimedOut);
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_deadline_that_has_passed_does_not_sleep() {
    let parker = Parker::new();
    let past = Instant::now();
    assert_eq!(parker.park(Some(past)), Wake::TimedOut);
}

#[test]
fn a_deadline_beyond_every_clock_is_as_good_as_none() {
    let mut far = Instant::now();
    for power in (0..64).rev() {
        far = far.checked_add(Duration::from_secs(1 << power)).unwrap_or(far);
    }
    let parker = Parker::new();
    let unparker = parker.unparker();
    let waker = thread::spawn(move || unparker.unpark());
    assert_eq!(parker.park(Some(far)), Wake::Unparked);
    waker.join().unwrap();
}

#[test]
fn a_token_that_comes_after_the_deadline_is_kept() {
    let parker = Parker::new();
    assert_eq!(parker.park(soon()), Wake::TimedOut);
    parker.unparker().unpark();
    assert_eq!(parker.park(None), Wake::Unparked);
}

#[test]
fn every_thread_has_a_parker_of_its_own() {
    let here = with_current(Parker::unparker);
    assert!(with_current(Parker::unparker).same_as(&here), "the same at every call");
    let there = thread::spawn(|| with_current(Parker::unparker)).join().unwrap();
    assert!(!here.same_as(&there));
    there.unpark(); // its thread is gone: harmless
}

#[test]
fn calls_of_with_current_may_be_nested() {
    let nested = with_current(|outer| with_current(|inner| inner.unparker().same_as(&outer.unparker())));
    assert!(nested);
}

#[test]
fn a_thread_that_is_ending_still_has_a_parker() {
    struct Last(Unparker);
    impl Drop for Last {
        fn drop(&mut self) {
            // The parker of this thread may be gone already: a fresh one stands in.
            assert_eq!(with_current(|parker| parker.park(Some(Instant::now()))), Wake::TimedOut);
            self.0.unpark();
        }
    }
    std::thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });

    let parker = Parker::new();
    let unparker = parker.unparker();
    let ending = thread::spawn(move || {
        LAST.with(|last| *last.borrow_mut() = Some(Last(unparker)));
        with_current(|_| ()); // registered after `LAST`
    });
    assert_eq!(parker.park(None), Wake::Unparked);
    ending.join().unwrap();
}

#[test]
fn two_threads_that_wake_each_other_never_miss() {
    let rounds = if cfg!(miri) { 20 } else { 5_000 };
    let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
    let main = Parker::new();

    let wait_for = |mine: &AtomicBool, parker: &Parker| {
        while !mine.swap(false, Acquire) {
            assert_eq!(parker.park(None), Wake::Unparked);
        }
    };
    let there = {
        let (flags, main) = (Arc::clone(&flags), main.unparker());
        let started = Parker::new();
        let unparker = started.unparker();
        let thread = thread::spawn(move || {
            for _ in 0..rounds {
                wait_for(&flags[1], &started);
                flags[0].store(true, Release);
                main.unpark();
            }
        });
        (thread, unparker)
    };
    for _ in 0..rounds {
        flags[1].store(true, Release);
        there.1.unpark();
        wait_for(&flags[0], &main);
    }
    there.0.join().unwrap();
}

#[test]
fn a_parker_shows_what_it_is() {
    let parker = Parker::new();
    assert_eq!(format!("{parker:?}"), "Parker(empty)");
    parker.unparker().unpark();
    assert_eq!(format!("{:?}", parker.unparker()), "Unparker(token)");
}
