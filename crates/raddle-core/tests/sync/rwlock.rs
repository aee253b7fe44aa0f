use crate::{OFTEN, done_in_time, on_threads, until_done, waiter};
use proptest::prelude::*;
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Waiter};
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::sync::{Access, NotHeld, Preference, RwLock, Upgrade};

use Access::{Read, Write};

const POLICIES: [Preference; 3] = [Preference::Readers, Preference::Writers, Preference::Fair];

fn waits(lock: &RwLock, access: Access, unit: u64) -> Arc<Waiter> {
    waiter(lock.acquire(access, UnitId(unit), None).unwrap())
}

fn has(lock: &RwLock, access: Access, unit: u64) -> bool {
    lock.try_acquire(access, UnitId(unit)).unwrap()
}

fn comes(lock: &RwLock, access: Access, unit: u64, waiter: &Arc<Waiter>) -> bool {
    waiter.is_called() && lock.acquire(access, UnitId(unit), Some(waiter)).unwrap().done().is_some()
}

#[test]
fn who_reads_may_not_begin_to_write_whoever_else_has_it() {
    for preference in POLICIES {
        let lock = RwLock::new(preference);
        assert!(has(&lock, Read, 1));
        assert_eq!(lock.try_acquire(Write, UnitId(1)), Err(Upgrade));
        assert!(matches!(lock.acquire(Write, UnitId(1), None), Err(Upgrade)));
        assert!(has(&lock, Read, 2));
        assert_eq!(lock.try_acquire(Write, UnitId(2)), Err(Upgrade));
        assert_eq!(lock.release(Read, UnitId(1)), Ok(false));
        assert_eq!(lock.release(Read, UnitId(2)), Ok(true));
        assert!(has(&lock, Write, 1));
    }
}

#[test]
fn who_does_not_have_it_does_not_release_it() {
    let lock = RwLock::new(Preference::Fair);
    assert!(has(&lock, Read, 1));
    assert_eq!(lock.release(Read, UnitId(2)), Err(NotHeld));
    assert_eq!(lock.release(Write, UnitId(1)), Err(NotHeld));
    assert_eq!(lock.held_by(UnitId(1)), (1, 0));
}

#[test]
fn a_writer_that_leaves_frees_the_readers_behind_it() {
    for preference in [Preference::Writers, Preference::Fair] {
        let lock = RwLock::new(preference);
        assert!(has(&lock, Read, 1));
        let writer = waits(&lock, Write, 2);
        let readers = [waits(&lock, Read, 3), waits(&lock, Read, 4)];
        lock.leave(&writer);
        for (unit, reader) in (3..).zip(&readers) {
            assert!(comes(&lock, Read, unit, reader));
        }
    }
}

#[test]
fn a_fair_one_lets_readers_in_up_to_the_next_writer() {
    let lock = RwLock::new(Preference::Fair);
    assert!(has(&lock, Write, 1));
    let [first, second] = [waits(&lock, Read, 2), waits(&lock, Read, 3)];
    let writer = waits(&lock, Write, 4);
    let third = waits(&lock, Read, 5);
    assert_eq!(lock.release(Write, UnitId(1)), Ok(true));
    assert!(!writer.is_called() && !third.is_called());
    assert!(comes(&lock, Read, 2, &first) && comes(&lock, Read, 3, &second));
    assert_eq!(lock.release(Read, UnitId(2)), Ok(false));
    assert!(!writer.is_called());
    assert_eq!(lock.release(Read, UnitId(3)), Ok(true));
    assert!(comes(&lock, Write, 4, &writer));
    assert!(!third.is_called());
    assert_eq!(lock.release(Write, UnitId(4)), Ok(true));
    assert!(comes(&lock, Read, 5, &third));
}

#[test]
fn who_waits_says_so_while_it_is_held_and_the_last_one_to_release_before_anyone_else_has_it() {
    let lock = RwLock::new(Preference::Fair);
    let awaited = std::cell::Cell::new(None);
    let wait = |access, unit| {
        awaited.set(None);
        waiter(lock.acquire_with(access, UnitId(unit), None, |writes| awaited.set(Some(writes))).unwrap())
    };
    let release = |access, unit| {
        let over = std::cell::Cell::new(false);
        lock.release_with(access, UnitId(unit), || over.set(true)).unwrap();
        over.get()
    };
    assert!(has(&lock, Read, 1) && has(&lock, Read, 2));
    let writer = wait(Write, 3);
    assert_eq!(awaited.get(), Some(false), "readers have it");
    assert!(!release(Read, 1) && release(Read, 2));
    let late = wait(Read, 4);
    assert_eq!(awaited.get(), None, "nobody has it yet");
    assert!(comes(&lock, Write, 3, &writer));
    wait(Read, 5);
    assert_eq!(awaited.get(), Some(true), "a writer has it");
    assert!(has(&lock, Write, 3) && !release(Write, 3) && release(Write, 3));
    assert!(comes(&lock, Read, 4, &late));
}

#[test]
fn who_is_in_the_way_is_known() {
    let lock = RwLock::new(Preference::Fair);
    assert!(has(&lock, Read, 1) && has(&lock, Read, 2));
    let writer = waits(&lock, Write, 3);
    let reader = waits(&lock, Read, 4);
    assert_eq!(lock.in_the_way(&writer), [UnitId(1), UnitId(2)]);
    assert_eq!(lock.in_the_way(&reader), [UnitId(3)]);
    assert_eq!(lock.release(Read, UnitId(1)), Ok(false));
    assert_eq!(lock.in_the_way(&writer), [UnitId(2)]);
    assert_eq!(lock.release(Read, UnitId(2)), Ok(true));
    assert_eq!(lock.in_the_way(&writer), [], "it is called");
    assert_eq!(lock.in_the_way(&reader), [UnitId(3)]);
}

#[test]
fn many_threads_with_and_without_patience_never_meet_and_all_end() {
    for preference in POLICIES {
        let shared = Arc::new((RwLock::new(preference), AtomicUsize::new(0), AtomicUsize::new(0)));
        let there = shared.clone();
        let written: usize = on_threads(4, move |number| {
            let (lock, left, right) = &*there;
            let unit = UnitId(number as u64 + 1);
            (0..OFTEN / 3)
                .filter(|turn| {
                    let access = if (turn + number) % 3 == 0 { Write } else { Read };
                    let attempt = |before: Option<&Arc<Waiter>>| lock.acquire(access, unit, before).unwrap();
                    let has = if number % 2 == 0 {
                        until_done(attempt);
                        true
                    } else {
                        done_in_time(attempt, |waiter| lock.leave(waiter))
                    };
                    if has {
                        let seen = left.load(Relaxed);
                        assert_eq!(seen, right.load(Relaxed));
                        if access == Write {
                            left.store(seen + 1, Relaxed);
                            right.store(seen + 1, Relaxed);
                        }
                        lock.release(access, unit).unwrap();
                    }
                    has && access == Write
                })
                .count()
        })
        .into_iter()
        .sum();
        assert_eq!(shared.1.load(Relaxed), written);
        assert!(has(&shared.0, Write, 9) && shared.0.waiting() == (0, 0));
    }
}

#[derive(Clone, Debug)]
enum Act {
    Acquire(u64, Access),
    Release(prop::sample::Index),
    Come(prop::sample::Index),
    Leave(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    let access = prop_oneof![Just(Read), Just(Write)];
    prop_oneof![
        6 => (1_u64..6, access).prop_map(|(unit, access)| Act::Acquire(unit, access)),
        5 => any::<prop::sample::Index>().prop_map(Act::Release),
        5 => any::<prop::sample::Index>().prop_map(Act::Come),
        1 => any::<prop::sample::Index>().prop_map(Act::Leave),
    ]
}

/// Units in lists, and the rules as the module's head says them.
#[derive(Default)]
struct Model {
    /// One entry for each time that somebody has it.
    holds: Vec<(u64, Access)>,
    /// In the order of arrival; `true`: called.
    waiting: Vec<(u64, Access, Arc<Waiter>, bool)>,
}

impl Model {
    fn has(&self, unit: u64, access: Access) -> bool {
        self.holds.contains(&(unit, access))
    }

    fn is_free_for(&self, unit: u64, access: Access) -> bool {
        let kept = || self.waiting.iter().filter(|place| place.3);
        let others = |(holder, _): &&(u64, Access)| *holder != unit;
        match access {
            Read => {
                !self.holds.iter().filter(others).any(|(_, held)| *held == Write)
                    && !kept().any(|place| place.1 == Write)
            }
            Write => !self.holds.iter().any(|hold| others(&hold)) && kept().count() == 0,
        }
    }

    /// Whether somebody who comes gets it at once.
    fn admits(&self, preference: Preference, unit: u64, access: Access) -> bool {
        if self.has(unit, Write) || access == Read && self.has(unit, Read) {
            return true;
        }
        let mut waiting = self.waiting.iter().filter(|place| !place.3);
        let is_behind = match (preference, access) {
            (Preference::Fair, _) => waiting.next().is_some(),
            (Preference::Writers, Read) => waiting.any(|place| place.1 == Write),
            _ => false,
        };
        self.is_free_for(unit, access) && !is_behind
    }

    /// Calls, one by one, whoever can enter now and has nobody before it.
    fn settle(&mut self, preference: Preference) {
        loop {
            let waiting = || self.waiting.iter().enumerate().filter(|(_, place)| !place.3);
            let first_of = |access| waiting().find(move |(_, place)| place.1 == access).map(|(at, _)| at);
            let next = match preference {
                Preference::Fair => waiting().next().map(|(at, _)| at),
                Preference::Writers => first_of(Write).or(first_of(Read)),
                Preference::Readers => first_of(Read).or(first_of(Write)),
            };
            let Some(next) = next else { return };
            let (unit, access) = (self.waiting[next].0, self.waiting[next].1);
            if !self.is_free_for(unit, access) {
                return;
            }
            self.waiting[next].3 = true;
        }
    }
}

proptest! {
    #[test]
    fn it_does_what_its_rules_say(
        preference in prop_oneof![Just(POLICIES[0]), Just(POLICIES[1]), Just(POLICIES[2])],
        acts in prop::collection::vec(act(), 0..80),
    ) {
        let (lock, mut model) = (RwLock::new(preference), Model::default());
        for act in acts {
            match act {
                Act::Acquire(unit, _) if model.waiting.iter().any(|place| place.0 == unit) => {}
                Act::Acquire(unit, access) => {
                    let upgrades = access == Write && model.has(unit, Read) && !model.has(unit, Write);
                    let admits = model.admits(preference, unit, access);
                    match lock.acquire(access, UnitId(unit), None) {
                        Err(Upgrade) => prop_assert!(upgrades),
                        Ok(Attempt::Done(())) => {
                            prop_assert!(!upgrades && admits);
                            model.holds.push((unit, access));
                        }
                        Ok(Attempt::Wait(waiter)) => {
                            prop_assert!(!upgrades && !admits);
                            model.waiting.push((unit, access, waiter, false));
                        }
                    }
                }
                Act::Release(index) => {
                    // Who waits runs nothing.
                    let can: Vec<_> = (0..model.holds.len())
                        .filter(|at| !model.waiting.iter().any(|place| place.0 == model.holds[*at].0))
                        .collect();
                    if !can.is_empty() {
                        let (unit, access) = model.holds.remove(can[index.index(can.len())]);
                        let is_over = !model.holds.iter().any(|(_, held)| *held == access);
                        prop_assert_eq!(lock.release(access, UnitId(unit)), Ok(is_over));
                    }
                }
                Act::Come(index) => {
                    let called: Vec<_> = (0..model.waiting.len()).filter(|at| model.waiting[*at].3).collect();
                    if !called.is_empty() {
                        let (unit, access, waiter, _) = model.waiting.remove(called[index.index(called.len())]);
                        prop_assert!(lock.acquire(access, UnitId(unit), Some(&waiter)).unwrap().done().is_some());
                        model.holds.push((unit, access));
                    }
                }
                Act::Leave(index) => {
                    if !model.waiting.is_empty() {
                        let (_, _, waiter, _) = model.waiting.remove(index.index(model.waiting.len()));
                        lock.leave(&waiter);
                    }
                }
            }
            model.settle(preference);
            for (unit, access, waiter, called) in &model.waiting {
                prop_assert_eq!(waiter.is_called(), *called, "{} to {:?}", unit, access);
            }
            for unit in 1..6 {
                let times = |access| model.holds.iter().filter(|hold| **hold == (unit, access)).count();
                prop_assert_eq!(lock.held_by(UnitId(unit)), (times(Read), times(Write)));
            }
        }
    }
}
