use crate::{OFTEN, on_threads};
use proptest::prelude::*;
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Wake};
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sync::{Claiming, Place, Removed, Search, Step, Table};

type Numbers = Table<u32, u32>;

/// Three keys have one hash; whether a key is the same object is a matter of chance.
fn with<R>(table: &Numbers, key: u32, same: bool, mut act: impl FnMut(Place<'_, u32, u32>) -> R) -> R {
    let mut search = Search::new(u64::from(key / 3));
    loop {
        match table.step(&mut search, |other| same && *other == key, |key| *key, &mut act) {
            Step::Done(done) => return done,
            Step::Compare(other) => search.answer(other == key),
        }
    }
}

#[test]
fn what_is_found_while_it_is_compared_is_still_true_when_it_is_used() {
    let table = Numbers::new(1);
    _ = with(&table, 1, true, |mut place| place.put(1, 10));
    let mut search = Search::new(0);
    let mut act = |place: Place<'_, u32, u32>| place.get().copied();
    assert!(matches!(table.step(&mut search, |_| false, |key| *key, &mut act), Step::Compare(1)));
    // While it is compared, it goes, and comes again with another value, in another slot.
    _ = with(&table, 1, true, |mut place| place.take());
    _ = with(&table, 1, true, |mut place| place.put(1, 11));
    search.answer(true);
    assert!(matches!(table.step(&mut search, |_| false, |key| *key, &mut act), Step::Compare(1)), "it is another slot");
    search.answer(true);
    assert!(matches!(table.step(&mut search, |_| false, |key| *key, &mut act), Step::Done(Some(11))));
}

#[test]
fn a_claimed_key_that_has_no_value_is_not_there() {
    let table = Numbers::new(4);
    let Claiming::Mine(mine, None) = with(&table, 1, true, |mut place| place.claim(1, UnitId(1), None)) else {
        panic!("it is the first")
    };
    assert_eq!((table.len(), table.snapshot(|key, _| *key)), (0, vec![]));
    _ = with(&table, 1, true, |mut place| place.put(1, 5));
    assert_eq!(table.clear(), [Removed { key: None, value: Some(5) }], "the claim stays");
    assert_eq!(table.at(&mine, |place| place.get().copied()), Some(None));
    assert_eq!(table.end(&mine, |_| ()), Some(((), Some(1))), "and its key goes with it");
    assert_eq!(table.end(&mine, |_| ()), None);
}

#[test]
fn every_key_is_computed_once_by_many_threads() {
    const KEYS: u32 = 20;
    for _ in 0..OFTEN / 100 {
        let shared = Arc::new((Numbers::new(4), AtomicUsize::new(0)));
        let there = shared.clone();
        on_threads(4, move |number| {
            let (table, calls) = &*there;
            for key in 0..KEYS {
                let mut before = None;
                loop {
                    let claiming = with(table, key, number % 2 == 0, |mut place| match place.get() {
                        Some(_) => None,
                        None => Some(place.claim(key, UnitId(number as u64 + 1), before.as_ref())),
                    });
                    match claiming.map(|claiming| claiming.attempt().unwrap()) {
                        None => break,
                        Some(Attempt::Done(claim)) => {
                            calls.fetch_add(1, Relaxed);
                            table.end(&claim, |place| _ = place.put(key, key));
                            break;
                        }
                        Some(Attempt::Wait(waiter)) => {
                            assert_eq!(waiter.park(None), Wake::Unparked);
                            before = Some(waiter);
                        }
                    }
                }
            }
        });
        assert_eq!(shared.1.load(Relaxed), KEYS as usize);
        assert_eq!(shared.0.len(), KEYS as usize);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Put(u32, u32),
    Take(u32),
    Get(u32),
    Claim(u32),
    End(u32, Option<u32>),
    Clear,
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0_u32..8;
    prop_oneof![
        8 => (key(), any::<u32>()).prop_map(|(key, value)| Act::Put(key, value)),
        4 => key().prop_map(Act::Take),
        4 => key().prop_map(Act::Get),
        4 => key().prop_map(Act::Claim),
        4 => (key(), any::<Option<u32>>()).prop_map(|(key, value)| Act::End(key, value)),
        1 => Just(Act::Clear),
    ]
}

proptest! {
    /// Held against a list of pairs in the order of insertion.
    #[test]
    fn a_table_is_a_list_of_pairs(shards in 1_usize..5, same: bool, acts in prop::collection::vec(act(), 0..80)) {
        let table = Numbers::new(shards);
        let mut list: Vec<(u32, u32)> = Vec::new();
        let mut claims = std::collections::HashMap::new();
        let find = |list: &Vec<(u32, u32)>, key| list.iter().position(|(other, _)| *other == key);
        for act in acts {
            match act {
                Act::Put(key, value) => {
                    let before = with(&table, key, same, |mut place| place.put(key, value).value);
                    prop_assert_eq!(before, find(&list, key).map(|at| list[at].1));
                    match find(&list, key) {
                        Some(at) => list[at].1 = value,
                        None => list.push((key, value)),
                    }
                }
                Act::Take(key) => {
                    let value = with(&table, key, same, |mut place| place.take().value);
                    prop_assert_eq!(value, find(&list, key).map(|at| list.remove(at).1));
                }
                Act::Get(key) => {
                    let value = with(&table, key, same, |place| place.get().copied());
                    prop_assert_eq!(value, find(&list, key).map(|at| list[at].1));
                }
                Act::Claim(key) => match with(&table, key, same, |mut place| place.claim(key, UnitId(1), None)) {
                    Claiming::Mine(claim, _) => prop_assert!(claims.insert(key, claim).is_none()),
                    Claiming::Recursion => prop_assert!(claims.contains_key(&key)),
                    Claiming::Wait(..) => prop_assert!(false, "nobody else claims"),
                },
                Act::End(key, value) => if let Some(claim) = claims.remove(&key) {
                    let ended = table.end(&claim, |place| {
                        if let Some(value) = value { _ = place.put(key, value); }
                    });
                    prop_assert!(ended.is_some());
                    match (find(&list, key), value) {
                        (Some(at), Some(value)) => list[at].1 = value,
                        (None, Some(value)) => list.push((key, value)),
                        (_, None) => {}
                    }
                },
                Act::Clear => {
                    let mut values: Vec<_> = table.clear().into_iter().filter_map(|removed| removed.value).collect();
                    values.sort_unstable();
                    let mut expected: Vec<_> = list.drain(..).map(|(_, value)| value).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(values, expected);
                }
            }
            prop_assert_eq!(table.len(), list.len());
            prop_assert_eq!(table.snapshot(|key, value| (*key, *value)), list.clone());
        }
    }
}
