use super::{OFTEN, on_threads};
use raddle_core::park::Waiter;
use raddle_core::park::Wake;
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sync::{Arrival, Barrier, Broken, Crossing};

fn waits(barrier: &Barrier) -> (Arc<Waiter>, Crossing) {
    match barrier.arrive() {
        Ok(Arrival::Wait(waiter, crossing)) => (waiter, crossing),
        answer => panic!("{answer:?}"),
    }
}

fn is_last(barrier: &Barrier) -> Crossing {
    match barrier.arrive() {
        Ok(Arrival::Last(crossing)) => crossing,
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn the_last_one_opens_it() {
    let barrier = Barrier::new(2);
    let (waiter, first) = waits(&barrier);
    assert_eq!((first.index, first.fate(), barrier.arrived(), barrier.parties()), (0, None, 1, 2));
    let last = is_last(&barrier);
    assert!(last.index == 1 && !waiter.is_called());
    assert_eq!(last.open(), Ok(()));
    assert_eq!((waiter.is_called(), first.fate()), (true, Some(Ok(()))));
    assert!(!barrier.abort_round(&first), "too late to leave");
    assert!(!barrier.is_broken());
}

#[test]
fn a_round_that_wakes_late_is_not_mixed_up_with_the_next() {
    let barrier = Barrier::new(2);
    let (_, late) = waits(&barrier);
    is_last(&barrier).open().unwrap();
    let (waiter, next) = waits(&barrier);
    assert_eq!((late.fate(), next.fate()), (Some(Ok(())), None));
    barrier.abort();
    assert_eq!((late.fate(), next.fate()), (Some(Ok(())), Some(Err(Broken))));
    assert!(waiter.is_called() && barrier.is_broken());
}

#[test]
fn a_broken_one_lets_nobody_in_until_it_is_reset() {
    let barrier = Barrier::new(2);
    barrier.abort();
    assert!(barrier.arrive().is_err());
    assert_eq!(barrier.arrived(), 0);
    barrier.reset();
    let (waiter, crossing) = waits(&barrier);
    barrier.reset();
    assert!(waiter.is_called() && crossing.fate() == Some(Err(Broken)));
    assert!(!barrier.is_broken());
}

#[test]
fn who_leaves_after_a_reset_breaks_nothing() {
    let barrier = Barrier::new(2);
    let (_, before) = waits(&barrier);
    barrier.reset();
    let (_, after) = waits(&barrier);
    assert!(barrier.abort_round(&before));
    assert_eq!((after.fate(), barrier.is_broken()), (None, false));
}

#[test]
fn who_leaves_before_it_opens_breaks_it_for_the_last_one_too() {
    let barrier = Barrier::new(2);
    let (_, first) = waits(&barrier);
    let last = is_last(&barrier);
    assert!(barrier.abort_round(&first));
    assert_eq!(last.open(), Err(Broken));
    assert!(barrier.is_broken());
}

#[test]
fn an_action_that_fails_breaks_it() {
    let barrier = Barrier::new(2);
    let (waiter, first) = waits(&barrier);
    assert!(barrier.abort_round(&is_last(&barrier)));
    assert_eq!((waiter.is_called(), first.fate()), (true, Some(Err(Broken))));

    let alone = Barrier::new(1);
    is_last(&alone).open().unwrap();
    assert!(alone.abort_round(&is_last(&alone)), "the second action, after a first one that has not failed");
    assert!(alone.is_broken());
}

#[test]
fn a_barrier_for_nobody_is_one_for_one() {
    assert_eq!(Barrier::new(0).parties(), 1);
}

#[test]
fn many_rounds_of_many_threads_stay_in_step() {
    let (parties, rounds) = (4, OFTEN / 10);
    let shared = Arc::new((Barrier::new(parties), AtomicUsize::new(0)));
    on_threads(parties, move |_| {
        let (barrier, arrived) = &*shared;
        for round in 1..=rounds {
            arrived.fetch_add(1, Relaxed);
            match barrier.arrive().unwrap() {
                Arrival::Last(crossing) => crossing.open().unwrap(),
                Arrival::Wait(waiter, crossing) => {
                    assert_eq!(waiter.park(None), Wake::Unparked);
                    assert_eq!(crossing.fate(), Some(Ok(())));
                }
            }
            let seen = arrived.load(Relaxed);
            assert!((parties * round..parties * (round + 1)).contains(&seen), "all of this round, not all of the next");
        }
    });
}
