use super::{OFTEN, until_done};
use raddle_core::park::Wake;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::{Arc, thread};
use raddle_core::sync::{Condition, Lock};

#[test]
fn it_notifies_in_the_order_of_coming() {
    let condition = Condition::new();
    condition.notify(1);
    let waiters = [(); 4].map(|()| condition.join());
    condition.notify(0);
    condition.notify(1);
    assert_eq!(waiters.each_ref().map(|waiter| waiter.is_called()), [true, false, false, false]);
    condition.notify(2);
    assert_eq!(waiters.each_ref().map(|waiter| waiter.is_called()), [true, true, true, false]);
    assert_eq!(condition.waiting(), 1);
    condition.notify(usize::MAX);
    assert!(waiters[3].is_called());
}

#[test]
fn who_leaves_learns_whether_it_was_notified() {
    let condition = Condition::new();
    let waiters = [(); 2].map(|()| condition.join());
    assert!(condition.leave(&waiters[0]));
    condition.notify(1);
    assert!(!condition.leave(&waiters[1]), "the notification was its own");
}

#[test]
fn two_threads_take_turns() {
    let shared = Arc::new((Lock::new(), Condition::new(), AtomicUsize::new(0)));
    let turns = |(lock, condition, turn): &(Lock, Condition, AtomicUsize), mine: usize| {
        for _ in 0..OFTEN {
            until_done(|before| lock.acquire(before));
            while turn.load(Relaxed) % 2 != mine {
                let waiter = condition.join();
                assert!(lock.release());
                assert_eq!(waiter.park(None), Wake::Unparked);
                until_done(|before| lock.acquire(before));
            }
            turn.store(turn.load(Relaxed) + 1, Relaxed);
            condition.notify(1);
            assert!(lock.release());
        }
    };
    let there = Arc::clone(&shared);
    let other = thread::spawn(move || turns(&there, 1));
    turns(&shared, 0);
    other.join().unwrap();
    assert_eq!(shared.2.load(Relaxed), 2 * OFTEN);
}
