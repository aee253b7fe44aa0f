use crate::{OFTEN, on_threads};
use proptest::prelude::*;
use raddle_core::prim::Arc;
use raddle_core::sync::{Counter, Int, OutOfRange, Usage};

#[test]
fn a_number_that_would_not_fit_is_refused_and_nothing_is_changed() {
    let int = Int::new(i64::MIN);
    assert_eq!(int.change(|value| value.checked_sub(1)), Err(OutOfRange(i64::MIN)));
    assert_eq!(int.load(), i64::MIN);
    assert_eq!(int.change(|value| value.checked_add(1)), Ok(i64::MIN));
}

#[test]
fn a_counter_wraps_around_as_a_whole() {
    let counter = Counter::new(4);
    counter.add(0, i64::MAX);
    counter.add(1, 2);
    assert_eq!(counter.sum(), i64::MIN + 1);
    counter.add(2, -3);
    assert_eq!(counter.sum(), i64::MAX - 1);
}

#[test]
fn many_threads_add_and_nothing_is_lost() {
    let shared = Arc::new((Counter::new(2), Int::new(0)));
    let there = shared.clone();
    let taken: i64 = on_threads(4, move |number| {
        (0..OFTEN)
            .map(|turn| {
                there.0.add(number as u64, 1);
                there.1.change(|value| value.checked_add(1)).unwrap();
                if turn % 100 == 0 { there.0.take() } else { 0 }
            })
            .sum::<i64>()
    })
    .into_iter()
    .sum();
    let all = 4 * i64::try_from(OFTEN).unwrap();
    assert_eq!(taken + shared.0.sum(), all);
    assert_eq!(shared.1.load(), all);
}

#[test]
fn a_hold_is_timed_from_the_moment_at_which_it_is_waited_for() {
    let usage = Usage::default();
    usage.acquired_alone();
    usage.hold_ended();
    assert_eq!(usage.numbers().longest_hold, 0, "it was in nobody's way");
    usage.acquired_alone();
    let wait = usage.wait();
    usage.hold_ended();
    usage.waited(wait, false);
    let numbers = usage.numbers();
    assert!(numbers.longest_hold > 0 && numbers.longest_hold <= numbers.longest_wait);
    assert_eq!((numbers.acquisitions, numbers.contended, numbers.gave_up), (2, 1, 1));
}

proptest! {
    #[test]
    fn a_number_is_what_checked_arithmetic_says(start: i64, changes in prop::collection::vec(any::<i64>(), 0..20)) {
        let (int, mut model) = (Int::new(start), start);
        for by in changes {
            match model.checked_add(by) {
                Some(sum) => {
                    prop_assert_eq!(int.change(|value| value.checked_add(by)), Ok(model));
                    model = sum;
                }
                None => prop_assert_eq!(int.change(|value| value.checked_add(by)), Err(OutOfRange(model))),
            }
            prop_assert_eq!(int.compare_exchange(model.wrapping_add(1), 0), Err(model));
            prop_assert_eq!(int.load(), model);
        }
    }
}
