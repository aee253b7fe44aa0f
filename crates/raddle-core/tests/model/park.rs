use crate::{check, later};
use raddle_core::park::{Parker, Wake};
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::cell::UnsafeCell;
use raddle_core::prim::{Arc, thread};

struct Letter(UnsafeCell<u32>);

// SAFETY: written before the token is left and read after it was taken: the models check exactly this.
unsafe impl Sync for Letter {}

#[test]
fn a_token_wakes_and_carries_what_was_written_before_it() {
    check(4, || {
        let parker = Parker::new();
        let unparker = parker.unparker();
        let letter = Arc::new(Letter(UnsafeCell::new(0)));
        let there = Arc::clone(&letter);
        let writer = thread::spawn(move || {
            // SAFETY: the reader waits for the token, which comes after this.
            there.0.with_mut(|place| unsafe { *place = 7 });
            unparker.unpark();
        });
        assert_eq!(parker.park(None), Wake::Unparked);
        // SAFETY: the token was taken, and the writer does not write after it.
        assert_eq!(letter.0.with(|place| unsafe { *place }), 7);
        writer.join().unwrap();
    });
}

#[test]
fn merged_tokens_carry_what_both_have_written() {
    check(3, || {
        let parker = Parker::new();
        let notes = Arc::new(AtomicUsize::new(0));
        let writers = [1, 2].map(|note| {
            let (unparker, notes) = (parker.unparker(), Arc::clone(&notes));
            thread::spawn(move || {
                notes.fetch_add(note, Relaxed);
                unparker.unpark();
            })
        });
        while notes.load(Relaxed) != 3 {
            assert_eq!(parker.park(None), Wake::Unparked);
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}

#[test]
fn a_token_that_comes_with_the_deadline_is_reported_now_or_kept() {
    check(4, || {
        let parker = Parker::new();
        let unparker = parker.unparker();
        let waker = thread::spawn(move || unparker.unpark());
        match parker.park(later()) {
            Wake::Unparked => {}
            Wake::TimedOut => assert_eq!(parker.park(None), Wake::Unparked),
            Wake::Interrupted => unreachable!("nobody sends a signal"),
        }
        waker.join().unwrap();
        assert_eq!(parker.park(later()), Wake::TimedOut, "one token, taken once");
    });
}

#[test]
fn a_token_that_comes_with_a_signal_is_reported_now_or_kept() {
    check(4, || {
        let parker = Parker::new();
        let (unparker, signal) = (parker.unparker(), parker.unparker());
        let waker = thread::spawn(move || unparker.unpark());
        let sender = thread::spawn(move || signal.signal());
        if parker.park(None) == Wake::Interrupted {
            assert_eq!(parker.park(None), Wake::Unparked);
        }
        waker.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn a_signal_ends_a_sleep_that_nobody_else_would_end() {
    check(4, || {
        let parker = Parker::new();
        let signal = parker.unparker();
        let sender = thread::spawn(move || signal.signal());
        assert_eq!(parker.park(None), Wake::Interrupted);
        sender.join().unwrap();
    });
}

#[test]
fn two_threads_that_wake_each_other_never_miss() {
    check(4, || {
        let (ping, pong) = (Parker::new(), Parker::new());
        let (to_ping, to_pong) = (ping.unparker(), pong.unparker());
        let other = thread::spawn(move || {
            for _ in 0..2 {
                assert_eq!(pong.park(None), Wake::Unparked);
                to_ping.unpark();
            }
        });
        for _ in 0..2 {
            to_pong.unpark();
            assert_eq!(ping.park(None), Wake::Unparked);
        }
        other.join().unwrap();
    });
}

#[test]
fn an_interruption_ends_one_park_and_takes_no_token() {
    check(4, || {
        let parker = Parker::new();
        let (unparker, stopper) = (parker.unparker(), parker.unparker());
        let waker = thread::spawn(move || unparker.unpark());
        let other = thread::spawn(move || stopper.interrupt());
        let mut interrupted = 0;
        let mut unparked = 0;
        while interrupted == 0 || unparked == 0 {
            match parker.park(None) {
                Wake::Interrupted => interrupted += 1,
                Wake::Unparked => unparked += 1,
                Wake::TimedOut => unreachable!("there is no deadline"),
            }
        }
        assert_eq!(interrupted, 1);
        waker.join().unwrap();
        other.join().unwrap();
    });
}
