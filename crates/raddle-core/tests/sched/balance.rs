use proptest::prelude::*;
use raddle_core::sched::balance::{least_loaded, steal_plan};

#[test]
fn the_first_of_equals_is_chosen() {
    assert_eq!(least_loaded([1, 1, 1]), Some(0));
    assert_eq!(steal_plan(&[4, 0, 4], 1), Some((0, 2)));
}

#[test]
fn nobody_steals_what_does_not_pay() {
    assert_eq!(steal_plan(&[], 0), None);
    assert_eq!(steal_plan(&[0], 0), None);
    assert_eq!(steal_plan(&[9], 0), None, "not from oneself");
    assert_eq!(steal_plan(&[1, 0], 1), None, "not the running item");
    assert_eq!(steal_plan(&[3, 2], 1), None, "not to become the richer one");
    assert_eq!(steal_plan(&[9, 9], 2), None, "there is no such worker");
}

#[test]
fn loads_of_any_size_are_balanced() {
    assert_eq!(steal_plan(&[usize::MAX, 0], 1), Some((0, usize::MAX / 2)));
}

proptest! {
    #[test]
    fn nobody_has_less_than_the_least_loaded(loads in prop::collection::vec(0_usize..50, 0..20)) {
        match least_loaded(loads.iter().copied()) {
            None => prop_assert!(loads.is_empty()),
            Some(worker) => {
                prop_assert!(loads.iter().all(|&load| load >= loads[worker]));
                prop_assert!(loads[..worker].iter().all(|&load| load > loads[worker]), "the first of equals");
            }
        }
    }

    #[test]
    fn a_theft_takes_half_from_the_richest_and_leaves_the_running_item(
        mut loads in prop::collection::vec(0_usize..50, 1..20),
        idle in any::<prop::sample::Index>(),
    ) {
        let idle = idle.index(loads.len());
        loads[idle] = 0;
        let richest = loads.iter().copied().max().unwrap_or(0);
        match steal_plan(&loads, idle) {
            None => prop_assert!(richest < 2),
            Some((victim, count)) => {
                prop_assert!(victim != idle);
                prop_assert_eq!(loads[victim], richest);
                prop_assert_eq!(count, richest / 2);
                prop_assert!(count >= 1 && richest - count >= 1);
            }
        }
    }

    #[test]
    fn a_theft_never_makes_the_thief_richer_than_the_robbed(
        loads in prop::collection::vec(0_usize..50, 1..20),
        idle in any::<prop::sample::Index>(),
    ) {
        let idle = idle.index(loads.len());
        if let Some((victim, count)) = steal_plan(&loads, idle) {
            prop_assert!(count > 0);
            prop_assert!(loads[idle] + count <= loads[victim] - count);
        }
    }

    #[test]
    fn stealing_comes_to_an_end(mut loads in prop::collection::vec(0_usize..1000, 1..20)) {
        let total: usize = loads.iter().sum();
        for step in 0.. {
            prop_assert!(step < 100_000, "still stealing: {loads:?}");
            let Some((thief, victim, count)) = (0..loads.len())
                .find_map(|thief| steal_plan(&loads, thief).map(|(victim, count)| (thief, victim, count)))
            else {
                break;
            };
            loads[victim] -= count;
            loads[thief] += count;
        }
        prop_assert_eq!(loads.iter().sum::<usize>(), total);
        let (least, most) = (loads.iter().min(), loads.iter().max());
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
    }
}
