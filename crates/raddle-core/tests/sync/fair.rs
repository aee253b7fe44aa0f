use crate::{OFTEN, done_in_time, on_threads, until_done, waiter};
use proptest::prelude::*;
use raddle_core::park::{Attempt, Waiter};
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sync::FairLock;
use std::collections::VecDeque;

#[test]
fn a_fair_lock_that_is_released_is_kept_for_the_first_in_line() {
    let lock = FairLock::new();
    assert!(lock.try_acquire());
    let [first, second] = [waiter(lock.acquire(None)), waiter(lock.acquire(None))];
    assert!(lock.release());
    assert!(first.is_called() && !second.is_called());
    assert!(!lock.try_acquire() && !lock.is_held());
    assert!(lock.acquire(Some(&first)).done().is_some());
    assert!(lock.release() && second.is_called());
}

#[test]
fn a_fair_lock_with_no_holder_is_not_released() {
    let lock = FairLock::new();
    assert!(!lock.release());
    assert!(lock.try_acquire());
    let heir = waiter(lock.acquire(None));
    assert!(lock.release());
    assert!(!lock.release(), "it is kept, not held");
    lock.leave(&heir);
    assert!(lock.try_acquire());
}

#[test]
fn many_threads_with_and_without_patience_lose_nothing() {
    let shared = Arc::new((FairLock::new(), AtomicUsize::new(0)));
    let there = shared.clone();
    let taken: usize = on_threads(4, move |number| {
        let (lock, count) = &*there;
        (0..OFTEN)
            .filter(|_| {
                let has = if number % 2 == 0 {
                    until_done(|before| lock.acquire(before));
                    true
                } else {
                    done_in_time(|before| lock.acquire(before), |waiter| lock.leave(waiter))
                };
                if has {
                    count.store(count.load(Relaxed) + 1, Relaxed);
                    assert!(lock.release());
                }
                has
            })
            .count()
    })
    .into_iter()
    .sum();
    assert_eq!(shared.1.load(Relaxed), taken);
    assert!(taken >= 2 * OFTEN && shared.0.try_acquire());
}

#[derive(Clone, Debug)]
enum Act {
    Try,
    Join,
    Release,
    Come,
    Leave(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Try),
        4 => Just(Act::Join),
        4 => Just(Act::Release),
        4 => Just(Act::Come),
        2 => any::<prop::sample::Index>().prop_map(Act::Leave),
    ]
}

proptest! {
    /// Held against a list: whoever stands first in it is called when the lock is free, and nobody else gets it.
    #[test]
    fn a_fair_lock_is_a_list(acts in prop::collection::vec(act(), 0..60)) {
        let lock = FairLock::new();
        let (mut held, mut list) = (false, VecDeque::<Arc<Waiter>>::new());
        for act in acts {
            match act {
                Act::Try => {
                    let takes = !held && list.is_empty();
                    prop_assert_eq!(lock.try_acquire(), takes);
                    held |= takes;
                }
                Act::Join => match lock.acquire(None) {
                    Attempt::Done(()) => {
                        prop_assert!(!held && list.is_empty());
                        held = true;
                    }
                    Attempt::Wait(waiter) => {
                        prop_assert!(held || !list.is_empty());
                        list.push_back(waiter);
                    }
                },
                Act::Release => {
                    prop_assert_eq!(lock.release(), held);
                    held = false;
                }
                Act::Come => {
                    if let Some(heir) = list.front().filter(|_| !held).cloned() {
                        prop_assert!(lock.acquire(Some(&heir)).done().is_some());
                        list.pop_front();
                        held = true;
                    }
                }
                Act::Leave(index) => {
                    if !list.is_empty() {
                        let waiter = list.remove(index.index(list.len())).unwrap();
                        lock.leave(&waiter);
                    }
                }
            }
            for (place, waiter) in list.iter().enumerate() {
                prop_assert_eq!(waiter.is_called(), place == 0 && !held);
            }
            prop_assert_eq!((lock.is_held(), lock.waiting()), (held, list.len()));
        }
    }
}
