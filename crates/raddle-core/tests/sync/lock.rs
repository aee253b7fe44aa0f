use super::{OFTEN, done_in_time, on_threads, until_done, waiter};
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sync::Lock;

#[test]
fn it_is_taken_once() {
    let lock = Lock::new();
    assert!(lock.try_acquire() && lock.is_held());
    assert!(!lock.try_acquire());
    assert!(lock.release() && !lock.is_held());
    assert!(!lock.release(), "nobody holds it");
}

#[test]
fn a_release_calls_one_who_waits_and_gives_it_nothing() {
    let lock = Lock::new();
    assert!(lock.try_acquire());
    let (first, second) = (waiter(lock.acquire(None)), waiter(lock.acquire(None)));
    assert!(lock.release());
    assert!(first.is_called() && !second.is_called() && !lock.is_held());
    assert!(lock.try_acquire(), "whoever comes by may be faster");
}

#[test]
fn who_was_called_in_vain_keeps_its_place() {
    let lock = Lock::new();
    assert!(lock.try_acquire());
    let (first, second) = (waiter(lock.acquire(None)), waiter(lock.acquire(None)));
    assert!(lock.release() && lock.try_acquire());
    let again = waiter(lock.acquire(Some(&first)));
    assert!(lock.release());
    assert!(again.is_called() && !second.is_called());
}

#[test]
fn who_leaves_passes_its_call_on_if_the_lock_is_free() {
    let lock = Lock::new();
    assert!(lock.try_acquire());
    let (first, second) = (waiter(lock.acquire(None)), waiter(lock.acquire(None)));
    assert!(lock.release());
    lock.leave(&first);
    assert!(second.is_called());

    assert!(lock.try_acquire());
    let (third, fourth) = (waiter(lock.acquire(None)), waiter(lock.acquire(None)));
    lock.leave(&third);
    assert!(!fourth.is_called(), "nobody had called");
    assert!(lock.release() && fourth.is_called() && !third.is_called());
}

#[test]
fn a_reset_lock_is_free_and_knows_nobody() {
    let lock = Lock::new();
    assert!(lock.try_acquire());
    let stranger = waiter(lock.acquire(None));
    lock.reset();
    assert!(lock.try_acquire() && lock.release());
    assert!(!stranger.is_called());
}

#[test]
fn looking_for_a_moment_takes_what_is_free_and_nothing_else() {
    let lock = Lock::new();
    assert!(lock.try_acquire());
    assert!(!lock.acquire_soon());
    assert!(lock.release());
    assert!((0..100).any(|_| lock.acquire_soon()), "it looks again after a rest");
}

#[test]
fn what_it_guards_is_changed_by_one_at_a_time_while_some_come_and_go() {
    let shared = Arc::new((Lock::new(), AtomicUsize::new(0)));
    let there = Arc::clone(&shared);
    let counted = on_threads(4, move |number| {
        let (lock, count) = &*there;
        let mut mine = 0;
        for _ in 0..OFTEN {
            let has = if number % 2 == 0 {
                done_in_time(|before| lock.acquire(before), |waiter| lock.leave(waiter))
            } else {
                until_done(|before| lock.acquire(before));
                true
            };
            if has {
                count.store(count.load(Relaxed) + 1, Relaxed);
                mine += 1;
                assert!(lock.release());
            }
        }
        mine
    });
    assert_eq!(shared.1.load(Relaxed), counted.iter().sum::<usize>());
    assert!(counted[1] == OFTEN && counted[3] == OFTEN);
    assert!(!shared.0.is_held());
}
