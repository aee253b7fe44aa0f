use crate::{check, later};
use raddle_core::park::{Attempt, Waiter, Wake};
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::{Arc, thread};
use raddle_core::sync::{Arrival, Barrier, Broken, Condition, Event, Lock, Semaphore};

/// Attempts until it has what it wants.
fn until_done(mut attempt: impl FnMut(Option<&Arc<Waiter>>) -> Attempt) {
    let mut before = None;
    while let Attempt::Wait(waiter) = attempt(before.as_ref()) {
        assert_eq!(waiter.park(None), Wake::Unparked);
        before = Some(waiter);
    }
}

/// Attempts until it has what it wants, or leaves. Under the model checker the time is over at any moment.
fn done_in_time(mut attempt: impl FnMut(Option<&Arc<Waiter>>) -> Attempt, leave: impl Fn(&Arc<Waiter>)) -> bool {
    let mut before = None;
    while let Attempt::Wait(waiter) = attempt(before.as_ref()) {
        if waiter.park(later()) == Wake::TimedOut {
            leave(&waiter);
            return false;
        }
        before = Some(waiter);
    }
    true
}

/// A lock, and something that two threads at once would spoil: it is read, and then written.
#[derive(Default)]
struct Guarded {
    lock: Lock,
    count: AtomicUsize,
}

impl Guarded {
    fn take(&self) {
        until_done(|before| self.lock.acquire(before));
    }

    fn take_in_time(&self) -> bool {
        done_in_time(|before| self.lock.acquire(before), |waiter| self.lock.leave(waiter))
    }

    fn count_and_release(&self) {
        let count = self.count.load(Relaxed);
        self.count.store(count + 1, Relaxed);
        assert!(self.lock.release());
    }
}

#[test]
fn sync_lock_has_one_holder_who_sees_what_the_last_one_did() {
    check(3, || {
        let guarded = Arc::new(Guarded::default());
        let others = [(); 2].map(|()| {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || {
                guarded.take();
                guarded.count_and_release();
            })
        });
        guarded.take();
        guarded.count_and_release();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(guarded.count.load(Relaxed), 3);
        assert!(!guarded.lock.is_held());
    });
}

#[test]
fn sync_lock_taken_twice_by_each_of_two_threads_loses_no_call() {
    check(4, || {
        let guarded = Arc::new(Guarded::default());
        let there = Arc::clone(&guarded);
        let twice = |guarded: &Guarded| {
            for _ in 0..2 {
                guarded.take();
                guarded.count_and_release();
            }
        };
        let other = thread::spawn(move || twice(&there));
        twice(&guarded);
        other.join().unwrap();
        assert_eq!(guarded.count.load(Relaxed), 4);
    });
}

#[test]
fn sync_lock_that_a_waiter_leaves_calls_the_next_one() {
    check(4, || {
        let guarded = Arc::new(Guarded::default());
        guarded.take();
        let there = Arc::clone(&guarded);
        let hasty = thread::spawn(move || {
            let has = there.take_in_time();
            if has {
                there.count_and_release();
            }
            usize::from(has)
        });
        let there = Arc::clone(&guarded);
        let patient = thread::spawn(move || {
            there.take();
            there.count_and_release();
        });
        guarded.count_and_release();
        patient.join().unwrap();
        let taken = hasty.join().unwrap();
        assert_eq!(guarded.count.load(Relaxed), 2 + taken);
        assert!(guarded.lock.try_acquire(), "nobody has left it held");
    });
}

#[test]
fn sync_lock_that_is_called_and_left_while_another_comes_by_calls_the_next_one() {
    check(3, || {
        let guarded = Arc::new(Guarded::default());
        guarded.take();
        let hasty = match guarded.lock.acquire(None) {
            Attempt::Wait(waiter) => waiter,
            Attempt::Done(()) => unreachable!("it is held"),
        };
        let others = [(); 2].map(|()| {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || {
                guarded.take();
                guarded.count_and_release();
            })
        });
        guarded.count_and_release();
        guarded.lock.leave(&hasty);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(guarded.count.load(Relaxed), 3);
    });
}

#[test]
fn sync_lock_released_by_another_thread_is_a_signal_that_carries_what_was_written() {
    check(5, || {
        let guarded = Arc::new(Guarded::default());
        guarded.take();
        let there = Arc::clone(&guarded);
        let other = thread::spawn(move || there.count_and_release());
        guarded.take();
        assert_eq!(guarded.count.load(Relaxed), 1);
        other.join().unwrap();
        assert!(guarded.lock.release());
        assert!(!guarded.lock.release(), "nobody holds it");
    });
}

/// Takes a permit, is alone with it, gives it back.
fn pass(semaphore: &Semaphore, inside: &AtomicUsize) {
    until_done(|before| semaphore.acquire(before));
    assert_eq!(inside.fetch_add(1, Relaxed), 0, "one permit, one thread");
    inside.fetch_sub(1, Relaxed);
    semaphore.release(1).unwrap();
}

#[test]
fn sync_semaphore_lets_in_as_many_as_it_has_permits() {
    check(3, || {
        let shared = Arc::new((Semaphore::new(1, Some(1)), AtomicUsize::new(0)));
        let others = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || pass(&shared.0, &shared.1))
        });
        pass(&shared.0, &shared.1);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.0.permits(), 1);
    });
}

#[test]
fn sync_semaphore_that_gets_two_permits_at_once_wakes_two() {
    check(4, || {
        let semaphore = Arc::new(Semaphore::new(0, None));
        let others = [(); 2].map(|()| {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || until_done(|before| semaphore.acquire(before)))
        });
        semaphore.release(2).unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(semaphore.permits(), 0);
    });
}

#[test]
fn sync_semaphore_that_a_waiter_leaves_calls_the_next_one() {
    check(4, || {
        let semaphore = Arc::new(Semaphore::new(0, None));
        let there = Arc::clone(&semaphore);
        let hasty = thread::spawn(move || {
            let has = done_in_time(|before| there.acquire(before), |waiter| there.leave(waiter));
            if has {
                there.release(1).unwrap();
            }
        });
        let there = Arc::clone(&semaphore);
        let patient = thread::spawn(move || until_done(|before| there.acquire(before)));
        semaphore.release(1).unwrap();
        patient.join().unwrap();
        hasty.join().unwrap();
        assert_eq!(semaphore.permits(), 0);
    });
}

#[test]
fn sync_semaphore_that_begins_anew_is_looked_at_again() {
    check(5, || {
        let semaphore = Arc::new(Semaphore::new(0, None));
        let there = Arc::clone(&semaphore);
        let other = thread::spawn(move || until_done(|before| there.acquire(before)));
        semaphore.restart(1, Some(1));
        other.join().unwrap();
        assert_eq!((semaphore.permits(), semaphore.bound()), (0, Some(1)));
    });
}

#[test]
fn sync_event_that_is_set_wakes_all_and_shows_what_was_written_before() {
    check(4, || {
        let shared = Arc::new((Event::new(), AtomicUsize::new(0)));
        let others = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                until_done(|before| shared.0.wait(before));
                assert_eq!(shared.1.load(Relaxed), 1);
            })
        });
        shared.1.store(1, Relaxed);
        shared.0.set();
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn sync_event_that_is_set_and_cleared_at_once_wakes_who_was_there() {
    check(5, || {
        let event = Arc::new(Event::new());
        let Attempt::Wait(waiter) = event.wait(None) else { unreachable!("it is not set") };
        let there = Arc::clone(&event);
        let other = thread::spawn(move || {
            there.set();
            there.clear();
        });
        assert_eq!(waiter.park(None), Wake::Unparked);
        assert!(event.wait(Some(&waiter)).done().is_some(), "called is called");
        other.join().unwrap();
        assert!(!event.is_set());
    });
}

#[test]
fn sync_event_that_is_cleared_in_between_wakes_its_waiter_at_last() {
    check(5, || {
        let event = Arc::new(Event::new());
        let there = Arc::clone(&event);
        let waiter = thread::spawn(move || until_done(|before| there.wait(before)));
        event.set();
        event.clear();
        event.set();
        waiter.join().unwrap();
    });
}

#[test]
fn sync_event_that_a_waiter_leaves_wakes_the_other() {
    check(4, || {
        let event = Arc::new(Event::new());
        let there = Arc::clone(&event);
        let hasty = thread::spawn(move || {
            _ = done_in_time(|before| there.wait(before), |waiter| _ = there.leave(waiter));
        });
        let there = Arc::clone(&event);
        let patient = thread::spawn(move || until_done(|before| there.wait(before)));
        event.set();
        patient.join().unwrap();
        hasty.join().unwrap();
    });
}

#[test]
fn sync_condition_notified_between_the_joining_and_the_sleep_wakes() {
    check(4, || {
        let shared = Arc::new((Guarded::default(), Condition::new()));
        let there = Arc::clone(&shared);
        let other = thread::spawn(move || {
            let (guarded, condition) = &*there;
            guarded.take();
            guarded.count_and_release();
            condition.notify(1);
        });
        let (guarded, condition) = &*shared;
        guarded.take();
        while guarded.count.load(Relaxed) == 0 {
            let waiter = condition.join();
            assert!(guarded.lock.release());
            assert_eq!(waiter.park(None), Wake::Unparked);
            guarded.take();
        }
        other.join().unwrap();
        assert_eq!(condition.waiting(), 0);
    });
}

#[test]
fn sync_condition_notifies_the_leaver_or_the_next_one() {
    check(5, || {
        let condition = Arc::new(Condition::new());
        let hasty = condition.join();
        let there = Arc::clone(&condition);
        let patient = thread::spawn(move || {
            let patient = there.join();
            let notifier = {
                let there = Arc::clone(&there);
                thread::spawn(move || there.notify(1))
            };
            assert_eq!(patient.park(None), Wake::Unparked);
            assert!(!there.leave(&patient), "it was notified");
            notifier.join().unwrap();
        });
        let woken = hasty.park(later()) == Wake::Unparked;
        let notified = !condition.leave(&hasty);
        assert!(notified || !woken);
        if notified {
            condition.notify(1);
        }
        patient.join().unwrap();
        assert_eq!(condition.waiting(), 0);
    });
}

#[test]
fn sync_condition_notifies_all_who_are_there() {
    check(4, || {
        let condition = Arc::new(Condition::new());
        let first = condition.join();
        let there = Arc::clone(&condition);
        let second = thread::spawn(move || {
            let second = there.join();
            let notifier = {
                let there = Arc::clone(&there);
                thread::spawn(move || there.notify(usize::MAX))
            };
            assert_eq!(second.park(None), Wake::Unparked);
            notifier.join().unwrap();
        });
        assert_eq!(first.park(None), Wake::Unparked);
        second.join().unwrap();
    });
}

/// Meets the others. Whoever is last opens.
fn meet(barrier: &Barrier) -> Result<usize, Broken> {
    match barrier.arrive()? {
        Arrival::Last(crossing) => crossing.open().map(|()| crossing.index),
        Arrival::Wait(waiter, crossing) => {
            assert_eq!(waiter.park(None), Wake::Unparked);
            crossing.fate().expect("it was called").map(|()| crossing.index)
        }
    }
}

/// Meets the others, or breaks the round.
fn meet_in_time(barrier: &Barrier) -> Result<usize, Broken> {
    match barrier.arrive()? {
        Arrival::Last(crossing) => crossing.open().map(|()| crossing.index),
        Arrival::Wait(waiter, crossing) => {
            let _ = waiter.park(later());
            match crossing.fate() {
                Some(fate) => fate.map(|()| crossing.index),
                None if barrier.abort_round(&crossing) => Err(Broken),
                None => Ok(crossing.index),
            }
        }
    }
}

#[test]
fn sync_barrier_is_crossed_round_after_round() {
    check(4, || {
        let shared = Arc::new((Barrier::new(2), [AtomicUsize::new(0), AtomicUsize::new(0)]));
        let two_rounds = |barrier: &Barrier, mine: &AtomicUsize, others: &AtomicUsize| {
            [1, 2].map(|round| {
                mine.store(round, Relaxed);
                let index = meet(barrier).unwrap();
                assert!(others.load(Relaxed) >= round, "the other has arrived, and what it did is seen");
                index
            })
        };
        let there = Arc::clone(&shared);
        let other = thread::spawn(move || two_rounds(&there.0, &there.1[0], &there.1[1]));
        let mine = two_rounds(&shared.0, &shared.1[1], &shared.1[0]);
        let others = other.join().unwrap();
        assert_eq!([mine[0] + others[0], mine[1] + others[1]], [1, 1]);
        assert_eq!(shared.0.arrived(), 0);
    });
}

#[test]
fn sync_barrier_for_three_is_opened_by_the_last() {
    check(3, || {
        let barrier = Arc::new(Barrier::new(3));
        let others = [(); 2].map(|()| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || meet(&barrier))
        });
        let mine = meet(&barrier).unwrap();
        let all: usize = others.into_iter().map(|other| other.join().unwrap().unwrap()).sum();
        assert_eq!(all + mine, 3);
    });
}

#[test]
fn sync_barrier_that_is_aborted_tells_all() {
    check(4, || {
        let barrier = Arc::new(Barrier::new(3));
        let others = [(); 2].map(|()| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || meet(&barrier))
        });
        barrier.abort();
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), Err(Broken)));
        assert!(barrier.is_broken());
    });
}

#[test]
fn sync_barrier_that_one_leaves_is_crossed_by_all_or_by_none() {
    check(5, || {
        let barrier = Arc::new(Barrier::new(2));
        let there = Arc::clone(&barrier);
        let other = thread::spawn(move || meet_in_time(&there).is_ok());
        let crossed = meet_in_time(&barrier).is_ok();
        assert_eq!(crossed, other.join().unwrap());
        assert_eq!(crossed, !barrier.is_broken());
    });
}

#[test]
fn sync_barrier_for_three_that_one_leaves_is_crossed_by_all_or_by_none() {
    check(3, || {
        let barrier = Arc::new(Barrier::new(3));
        let others = [(); 2].map(|()| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || meet(&barrier).is_ok())
        });
        let crossed = meet_in_time(&barrier).is_ok();
        others.into_iter().for_each(|other| assert_eq!(crossed, other.join().unwrap()));
        assert_eq!(crossed, !barrier.is_broken());
    });
}

#[test]
fn sync_barrier_that_was_reset_is_not_broken_by_who_leaves_the_round_before() {
    check(5, || {
        let barrier = Arc::new(Barrier::new(2));
        let Ok(Arrival::Wait(waiter, crossing)) = barrier.arrive() else { unreachable!("the first of two waits") };
        let there = Arc::clone(&barrier);
        let other = thread::spawn(move || there.reset());
        let _ = waiter.park(later());
        assert!(barrier.abort_round(&crossing), "it never opens");
        assert_eq!(crossing.fate(), Some(Err(Broken)));
        other.join().unwrap();
        assert!(!barrier.is_broken(), "as new: the reset comes after the leaver, or the leaver's round was over");
        assert_eq!(barrier.arrived(), 0);
    });
}
