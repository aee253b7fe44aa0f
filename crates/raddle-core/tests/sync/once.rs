use crate::{OFTEN, on_threads};
use proptest::prelude::*;
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Waiter, Wake};
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sync::{Latch, Once, Recursion, TooMany, Turn};

fn turn(once: &Once, me: UnitId) -> Turn {
    let mut before = None;
    loop {
        match once.begin(me, before.as_ref()).unwrap() {
            Attempt::Done(turn) => return turn,
            Attempt::Wait(waiter) => {
                assert_eq!(waiter.park(None), Wake::Unparked);
                before = Some(waiter);
            }
        }
    }
}

#[test]
fn of_many_threads_one_runs_it_however_often_it_fails() {
    for fails in 0..OFTEN / 100 {
        let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
        let there = shared.clone();
        let fails = fails % 3;
        let ran: usize = on_threads(4, move |number| {
            let (once, runs) = &*there;
            let mine = turn(once, UnitId(number as u64 + 1)) == Turn::Mine;
            if mine {
                once.end(runs.fetch_add(1, Relaxed) >= fails);
            }
            usize::from(mine)
        })
        .into_iter()
        .sum();
        assert_eq!(ran, fails + 1);
        assert!(shared.0.is_done());
    }
}

#[test]
fn who_runs_it_may_not_wait_for_it() {
    let once = Once::new();
    assert_eq!(once.begin(UnitId(1), None).unwrap().done(), Some(Turn::Mine));
    assert_eq!(once.begin(UnitId(1), None).unwrap_err(), Recursion);
    assert_eq!(once.runner(), Some(UnitId(1)));
    once.end(true);
    assert_eq!(once.begin(UnitId(1), None).unwrap().done(), Some(Turn::Over));
}

#[test]
fn a_latch_refuses_to_be_counted_down_below_zero() {
    let latch = Latch::new(2);
    assert_eq!(latch.count_down(3), Err(TooMany { left: 2 }));
    assert_eq!(latch.count_down(0), Ok(2));
    assert_eq!(latch.count_down(2), Ok(0));
    assert_eq!(latch.count_down(1), Err(TooMany { left: 0 }));
    assert!(latch.wait().done().is_some());
    assert!(Latch::new(0).wait().done().is_some());
}

#[test]
fn a_latch_opens_for_many_threads_once_all_have_counted() {
    for _ in 0..OFTEN / 100 {
        let shared = Arc::new((Latch::new(4), AtomicUsize::new(0)));
        on_threads(4, move |_| {
            let (latch, count) = &*shared;
            count.fetch_add(1, Relaxed);
            latch.count_down(1).unwrap();
            while let Attempt::Wait(waiter) = latch.wait() {
                assert_eq!(waiter.park(None), Wake::Unparked);
            }
            assert_eq!(count.load(Relaxed), 4);
        });
    }
}

#[derive(Clone, Debug)]
enum Act {
    Begin(u64),
    End(bool),
    Leave(prop::sample::Index),
    Retry(prop::sample::Index),
}

proptest! {
    /// While nobody runs it and somebody waits, somebody is called; done, all are.
    #[test]
    fn nobody_is_forgotten(acts in prop::collection::vec(prop_oneof![
        4 => (1_u64..5).prop_map(Act::Begin),
        3 => prop_oneof![4 => Just(false), 1 => Just(true)].prop_map(Act::End),
        2 => any::<prop::sample::Index>().prop_map(Act::Leave),
        3 => any::<prop::sample::Index>().prop_map(Act::Retry),
    ], 0..60)) {
        let once = Once::new();
        let (mut runner, mut done) = (None, false);
        let mut waiting: Vec<(u64, Arc<Waiter>)> = Vec::new();
        for act in acts {
            let (unit, before) = match act {
                Act::Begin(unit) if waiting.iter().any(|(other, _)| *other == unit) => continue,
                Act::Begin(unit) => (unit, None),
                Act::Retry(index) => {
                    let called: Vec<_> = (0..waiting.len()).filter(|at| waiting[*at].1.is_called()).collect();
                    if called.is_empty() { continue }
                    let (unit, waiter) = waiting.remove(called[index.index(called.len())]);
                    (unit, Some(waiter))
                }
                Act::End(succeeds) => {
                    if runner.take().is_some() {
                        once.end(succeeds);
                        done |= succeeds;
                    }
                    (0, None)
                }
                Act::Leave(index) => {
                    if !waiting.is_empty() {
                        once.leave(&waiting.remove(index.index(waiting.len())).1);
                    }
                    (0, None)
                }
            };
            if unit != 0 {
                match once.begin(UnitId(unit), before.as_ref()) {
                    Err(Recursion) => prop_assert_eq!(runner, Some(unit)),
                    Ok(Attempt::Done(Turn::Over)) => prop_assert!(done),
                    Ok(Attempt::Done(Turn::Mine)) => {
                        prop_assert!(!done && runner.is_none());
                        runner = Some(unit);
                    }
                    Ok(Attempt::Wait(waiter)) => {
                        prop_assert!(!done && runner.is_some());
                        waiting.push((unit, waiter));
                    }
                }
            }
            let called = waiting.iter().filter(|(_, waiter)| waiter.is_called()).count();
            let is_well = if done { called == waiting.len() } else { runner.is_some() || waiting.is_empty() || called > 0 };
            prop_assert!(is_well);
        }
    }
}
