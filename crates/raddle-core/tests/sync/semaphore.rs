use super::{OFTEN, done_in_time, on_threads, until_done, waiter};
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sync::{Overfull, Semaphore};

#[test]
fn it_has_as_many_permits_as_it_was_given() {
    let semaphore = Semaphore::new(2, None);
    assert!(semaphore.try_acquire() && semaphore.acquire(None).done().is_some());
    assert!(!semaphore.try_acquire());
    assert_eq!(semaphore.release(3), Ok(()));
    assert_eq!((semaphore.permits(), semaphore.bound()), (3, None));
}

#[test]
fn a_bounded_one_refuses_what_is_too_much() {
    let semaphore = Semaphore::new(1, Some(2));
    assert_eq!(semaphore.release(2), Err(Overfull));
    assert_eq!(semaphore.permits(), 1, "nothing was changed");
    assert_eq!(semaphore.release(1), Ok(()));
    assert_eq!(semaphore.release(usize::MAX), Err(Overfull));
    assert_eq!(semaphore.bound(), Some(2));
}

#[test]
fn each_permit_calls_one_in_the_order_of_coming() {
    let semaphore = Semaphore::new(0, None);
    let waiters = [(); 3].map(|()| waiter(semaphore.acquire(None)));
    semaphore.release(2).unwrap();
    assert_eq!(waiters.each_ref().map(|waiter| waiter.is_called()), [true, true, false]);
    semaphore.leave(&waiters[0]);
    assert!(waiters[2].is_called(), "the call was passed on");
}

#[test]
fn who_leaves_when_nothing_is_there_calls_nobody() {
    let semaphore = Semaphore::new(0, None);
    let waiters = [(); 2].map(|()| waiter(semaphore.acquire(None)));
    semaphore.release(1).unwrap();
    assert!(semaphore.try_acquire(), "another was faster");
    semaphore.leave(&waiters[0]);
    assert!(!waiters[1].is_called());
    semaphore.restart(1, None);
    assert!(waiters[1].is_called());
}

#[test]
fn no_more_are_inside_than_it_has_permits_while_some_come_and_go() {
    let shared = Arc::new((Semaphore::new(2, Some(2)), AtomicUsize::new(0)));
    let there = Arc::clone(&shared);
    on_threads(4, move |number| {
        let (semaphore, inside) = &*there;
        for _ in 0..OFTEN {
            let has = if number % 2 == 0 {
                done_in_time(|before| semaphore.acquire(before), |waiter| semaphore.leave(waiter))
            } else {
                until_done(|before| semaphore.acquire(before));
                true
            };
            if has {
                assert!(inside.fetch_add(1, Relaxed) < 2);
                inside.fetch_sub(1, Relaxed);
                semaphore.release(1).unwrap();
            }
        }
    });
    assert_eq!(shared.0.permits(), 2);
}
