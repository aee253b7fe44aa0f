use proptest::prelude::*;
use raddle_core::sched::Pace;

fn pace(times: impl IntoIterator<Item = u64>) -> Pace {
    let mut pace = Pace::new();
    times.into_iter().for_each(|ns| pace.record(ns));
    pace
}

#[test]
fn nothing_is_known_before_the_first_item() {
    assert_eq!(Pace::new().mean_ns(), None);
    assert_eq!(Pace::new().window(1_000_000, 3, 512), 3);
}

#[test]
fn the_first_item_is_the_mean() {
    assert_eq!(pace([40]).mean_ns(), Some(40));
}

#[test]
fn a_change_of_pace_is_followed_and_an_outlier_is_not() {
    let steady = pace([1_000; 20]);
    let mut outlier = steady;
    outlier.record(9_000);
    assert_eq!(outlier.mean_ns(), Some(2_000), "an eighth of the way");
    let mut changed = steady;
    (0..17).for_each(|_| changed.record(9_000));
    assert!(changed.mean_ns().is_some_and(|mean| mean > 8_000), "nine tenths of the way");
}

#[test]
fn items_that_take_no_time_fill_the_window() {
    assert_eq!(pace([0]).window(1, 1, 512), 512);
    assert_eq!(pace([0]).window(0, 1, 512), 1);
}

#[test]
fn the_smaller_bound_counts_when_the_bounds_cross() {
    assert_eq!(pace([10]).window(1_000, 8, 4), 8);
}

proptest! {
    #[test]
    fn the_mean_stays_between_the_extremes(times in prop::collection::vec(0_u64..1 << 50, 1..50)) {
        let mean = pace(times.iter().copied()).mean_ns().expect("there was an item");
        prop_assert!(times.iter().min() <= Some(&mean) && Some(&mean) <= times.iter().max());
    }

    #[test]
    fn a_window_is_as_much_work_as_was_asked_for(each in 1_u64..1_000_000, target in 0_u64..1 << 40) {
        let count = pace([each]).window(target, 0, usize::MAX) as u64;
        prop_assert!(count * each <= target && target < (count + 1) * each);
    }

    #[test]
    fn a_window_keeps_its_bounds(
        times in prop::collection::vec(any::<u64>(), 0..20),
        target in any::<u64>(),
        min in 0_usize..100,
        more in 0_usize..1_000,
    ) {
        let count = pace(times).window(target, min, min + more);
        prop_assert!((min..=min + more).contains(&count));
    }
}
