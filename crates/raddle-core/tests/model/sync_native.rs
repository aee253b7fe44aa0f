//! What `raddle.sync` stands on: the fair lock, the lock for readers and writers, once, the latch, the atomic number, the counter, the table.

use crate::{check, later};
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Waiter, Wake};
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::{Arc, thread};
use raddle_core::sync::{
    Access, Claim, Claiming, Counter, FairLock, Int, Latch, Once, Place, Preference, RwLock, Search, Step, Table, Turn,
};

const POLICIES: [Preference; 3] = [Preference::Readers, Preference::Writers, Preference::Fair];

fn until_done<T>(mut attempt: impl FnMut(Option<&Arc<Waiter>>) -> Attempt<T>) -> T {
    let mut before = None;
    loop {
        match attempt(before.as_ref()) {
            Attempt::Done(value) => return value,
            Attempt::Wait(waiter) => {
                assert_eq!(waiter.park(None), Wake::Unparked);
                before = Some(waiter);
            }
        }
    }
}

/// `None`: it has left. Under the model checker the time is over at any moment.
fn done_in_time<T>(
    mut attempt: impl FnMut(Option<&Arc<Waiter>>) -> Attempt<T>,
    leave: impl Fn(&Arc<Waiter>),
) -> Option<T> {
    let mut before = None;
    loop {
        match attempt(before.as_ref()) {
            Attempt::Done(value) => return Some(value),
            Attempt::Wait(waiter) if waiter.park(later()) == Wake::TimedOut => {
                leave(&waiter);
                return None;
            }
            Attempt::Wait(waiter) => before = Some(waiter),
        }
    }
}

fn start<T: Send + Sync + 'static, R: 'static>(
    shared: &Arc<T>,
    act: impl FnOnce(&T) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = Arc::clone(shared);
    thread::spawn(move || act(&shared))
}

// The fair lock.

#[derive(Default)]
struct Fair {
    lock: FairLock,
    count: AtomicUsize,
}

impl Fair {
    fn count_and_release(&self) {
        let count = self.count.load(Relaxed);
        self.count.store(count + 1, Relaxed);
        assert!(self.lock.release());
    }

    fn take(&self) {
        until_done(|before| self.lock.acquire(before));
    }

    fn take_in_time(&self) -> bool {
        done_in_time(|before| self.lock.acquire(before), |waiter| self.lock.leave(waiter)).is_some()
    }
}

#[test]
fn sync_fair_lock_has_one_holder_who_sees_what_the_last_one_did() {
    check(3, || {
        let fair = Arc::new(Fair::default());
        let others = [(); 2].map(|()| {
            start(&fair, |fair| {
                fair.take();
                fair.count_and_release();
            })
        });
        fair.take();
        fair.count_and_release();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(fair.count.load(Relaxed), 3);
        assert!(fair.lock.try_acquire(), "nobody has left it held, or kept");
    });
}

#[test]
fn sync_fair_lock_that_an_heir_leaves_goes_to_the_next_one() {
    check(4, || {
        let fair = Arc::new(Fair::default());
        fair.take();
        let hasty = start(&fair, |fair| fair.take_in_time().then(|| fair.count_and_release()).is_some());
        let patient = start(&fair, |fair| {
            fair.take();
            fair.count_and_release();
        });
        fair.count_and_release();
        patient.join().unwrap();
        let taken = hasty.join().unwrap();
        assert_eq!(fair.count.load(Relaxed), 2 + usize::from(taken));
        assert!(fair.lock.try_acquire());
    });
}

#[test]
fn sync_fair_lock_is_never_taken_before_those_who_came_earlier() {
    check(4, || {
        let fair = Arc::new(Fair::default());
        fair.take();
        let Attempt::Wait(first) = fair.lock.acquire(None) else { unreachable!("it is held") };
        let Attempt::Wait(second) = fair.lock.acquire(None) else { unreachable!("it is held") };
        let late = start(&fair, |fair| {
            fair.take();
            let place = fair.count.load(Relaxed);
            fair.count_and_release();
            place
        });
        assert!(fair.lock.release());
        for (place, waiter) in [first, second].iter().enumerate() {
            assert!(fair.lock.acquire(Some(waiter)).done().is_some(), "it is kept for this one");
            assert_eq!(fair.count.load(Relaxed), place);
            fair.count_and_release();
        }
        assert_eq!(late.join().unwrap(), 2);
    });
}

// Readers and writers.

struct Guarded {
    lock: RwLock,
    /// Two halves that writers change one after the other, and readers find equal.
    halves: [AtomicUsize; 2],
}

impl Guarded {
    fn new(preference: Preference) -> Arc<Self> {
        Arc::new(Self { lock: RwLock::new(preference), halves: [AtomicUsize::new(0), AtomicUsize::new(0)] })
    }

    fn take(&self, access: Access, me: UnitId) {
        until_done(|before| self.lock.acquire(access, me, before).expect("it does not upgrade"));
    }

    fn take_in_time(&self, access: Access, me: UnitId) -> bool {
        let attempt =
            |before: Option<&Arc<Waiter>>| self.lock.acquire(access, me, before).expect("it does not upgrade");
        done_in_time(attempt, |waiter| self.lock.leave(waiter)).is_some()
    }

    fn work_and_release(&self, access: Access, me: UnitId) {
        let [left, right] = &self.halves;
        let seen = left.load(Relaxed);
        assert_eq!(seen, right.load(Relaxed), "a writer is at work");
        if access == Access::Write {
            left.store(seen + 1, Relaxed);
            right.store(seen + 1, Relaxed);
        }
        self.lock.release(access, me).expect("it has it");
    }

    fn work(&self, access: Access, me: UnitId) {
        self.take(access, me);
        self.work_and_release(access, me);
    }

    fn is_free(&self) -> bool {
        self.lock.try_acquire(Access::Write, UnitId(99)) == Ok(true)
    }
}

fn readers_and_writers(accesses: [Access; 3], preemptions: usize) {
    for preference in POLICIES {
        check(preemptions, move || {
            let guarded = Guarded::new(preference);
            let [mine, first, second] = accesses;
            let others = [(1, first), (2, second)]
                .map(|(unit, access)| start(&guarded, move |guarded| guarded.work(access, UnitId(unit))));
            guarded.work(mine, UnitId(3));
            others.into_iter().for_each(|other| other.join().unwrap());
            let writers = accesses.iter().filter(|access| **access == Access::Write).count();
            assert_eq!(guarded.halves[0].load(Relaxed), writers);
            assert!(guarded.is_free());
        });
    }
}

#[test]
fn sync_rwlock_two_writers_and_a_reader_never_meet() {
    readers_and_writers([Access::Write, Access::Read, Access::Write], 3);
    readers_and_writers([Access::Read, Access::Write, Access::Write], 3);
}

#[test]
fn sync_rwlock_two_readers_and_a_writer_all_come_through() {
    readers_and_writers([Access::Read, Access::Read, Access::Write], 3);
    readers_and_writers([Access::Write, Access::Read, Access::Read], 3);
}

/// One that leaves at any moment is in nobody's way, whoever holds it and whoever waits.
fn leavers(held: Access, hasty: Access, patient: Access) {
    for preference in POLICIES {
        check(3, move || {
            let guarded = Guarded::new(preference);
            guarded.take(held, UnitId(3));
            let hasty = start(&guarded, move |guarded| {
                if guarded.take_in_time(hasty, UnitId(1)) {
                    guarded.work_and_release(hasty, UnitId(1));
                }
            });
            let patient = start(&guarded, move |guarded| guarded.work(patient, UnitId(2)));
            guarded.work_and_release(held, UnitId(3));
            patient.join().unwrap();
            hasty.join().unwrap();
            assert!(guarded.is_free());
        });
    }
}

#[test]
fn sync_rwlock_that_a_writer_leaves_lets_the_next_ones_in() {
    leavers(Access::Write, Access::Write, Access::Write);
    leavers(Access::Write, Access::Write, Access::Read);
}

#[test]
fn sync_rwlock_that_a_reader_leaves_lets_the_next_ones_in() {
    leavers(Access::Write, Access::Read, Access::Write);
    leavers(Access::Write, Access::Read, Access::Read);
}

#[test]
fn sync_rwlock_a_writer_that_waits_for_a_reader_and_leaves_frees_the_readers_behind_it() {
    for preference in POLICIES {
        check(4, move || {
            let guarded = Guarded::new(preference);
            guarded.take(Access::Read, UnitId(3));
            let hasty = start(&guarded, |guarded| {
                if guarded.take_in_time(Access::Write, UnitId(1)) {
                    guarded.work_and_release(Access::Write, UnitId(1));
                    return true;
                }
                false
            });
            // The reader that holds it does not release it before this one has come through, unless the writer may be the reason.
            let other = start(&guarded, |guarded| guarded.work(Access::Read, UnitId(2)));
            if preference == Preference::Readers {
                other.join().unwrap();
                guarded.work_and_release(Access::Read, UnitId(3));
            } else {
                guarded.work_and_release(Access::Read, UnitId(3));
                other.join().unwrap();
            }
            hasty.join().unwrap();
            assert!(guarded.is_free());
        });
    }
}

#[test]
fn sync_rwlock_a_reader_takes_it_again_while_a_writer_waits() {
    for preference in POLICIES {
        check(4, move || {
            let guarded = Guarded::new(preference);
            guarded.take(Access::Read, UnitId(1));
            let writer = start(&guarded, |guarded| guarded.work(Access::Write, UnitId(2)));
            guarded.work(Access::Read, UnitId(1));
            guarded.work_and_release(Access::Read, UnitId(1));
            writer.join().unwrap();
            assert!(guarded.is_free());
        });
    }
}

#[test]
fn sync_rwlock_a_writer_goes_on_as_a_reader_and_nobody_writes_in_between() {
    for preference in POLICIES {
        check(4, move || {
            let guarded = Guarded::new(preference);
            guarded.take(Access::Write, UnitId(1));
            let writer = start(&guarded, |guarded| guarded.work(Access::Write, UnitId(2)));
            guarded.take(Access::Read, UnitId(1));
            assert_eq!(guarded.lock.release(Access::Write, UnitId(1)), Ok(true));
            assert_eq!(guarded.halves[0].load(Relaxed), 0);
            guarded.work_and_release(Access::Read, UnitId(1));
            writer.join().unwrap();
            assert!(guarded.is_free());
        });
    }
}

// Once.

fn run_once(once: &Once, me: UnitId, runs: &AtomicUsize, succeeds: bool) -> bool {
    let turn = until_done(|before| once.begin(me, before).expect("it does not call itself"));
    if turn == Turn::Mine {
        let count = runs.load(Relaxed);
        runs.store(count + 1, Relaxed);
        once.end(succeeds);
    }
    turn == Turn::Mine
}

#[test]
fn sync_once_is_run_once_and_seen_by_all() {
    check(3, || {
        let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
        let others = [1, 2].map(|unit| start(&shared, move |(once, runs)| run_once(once, UnitId(unit), runs, true)));
        let mut ran = usize::from(run_once(&shared.0, UnitId(3), &shared.1, true));
        assert_eq!(shared.1.load(Relaxed), 1, "done is seen with what was done");
        ran += others.into_iter().map(|other| usize::from(other.join().unwrap())).sum::<usize>();
        assert_eq!(ran, 1);
    });
}

#[test]
fn sync_once_that_fails_is_tried_by_the_next_one() {
    check(3, || {
        let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
        let others = [1, 2].map(|unit| start(&shared, move |(once, runs)| run_once(once, UnitId(unit), runs, true)));
        let failed = run_once(&shared.0, UnitId(3), &shared.1, false);
        others.into_iter().for_each(|other| _ = other.join().unwrap());
        assert!(shared.0.is_done());
        assert_eq!(shared.1.load(Relaxed), 1 + usize::from(failed));
    });
}

#[test]
fn sync_once_that_a_waiter_leaves_is_tried_by_the_next_one() {
    check(4, || {
        let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
        assert_eq!(shared.0.begin(UnitId(3), None).unwrap().done(), Some(Turn::Mine));
        let hasty = start(&shared, |(once, _)| {
            let attempt =
                |before: Option<&Arc<Waiter>>| once.begin(UnitId(1), before).expect("it does not call itself");
            if done_in_time(attempt, |waiter| once.leave(waiter)) == Some(Turn::Mine) {
                once.end(false);
            }
        });
        let patient = start(&shared, |(once, runs)| run_once(once, UnitId(2), runs, true));
        shared.0.end(false);
        assert!(patient.join().unwrap());
        hasty.join().unwrap();
        assert!(shared.0.is_done());
    });
}

// The latch.

#[test]
fn sync_latch_opens_for_all_who_wait_after_the_last_count() {
    check(3, || {
        let shared = Arc::new((Latch::new(2), AtomicUsize::new(0)));
        let counter = start(&shared, |(latch, work)| {
            work.fetch_add(1, Relaxed);
            latch.count_down(1).unwrap();
        });
        let waiter = start(&shared, |(latch, work)| {
            until_done(|_| latch.wait());
            assert_eq!(work.load(Relaxed), 2);
        });
        shared.1.fetch_add(1, Relaxed);
        shared.0.count_down(1).unwrap();
        until_done(|_| shared.0.wait());
        assert_eq!(shared.1.load(Relaxed), 2);
        counter.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn sync_latch_that_one_leaves_opens_for_the_others() {
    check(4, || {
        let latch = Arc::new(Latch::new(1));
        let hasty = start(&latch, |latch| done_in_time(|_| latch.wait(), |waiter| latch.leave(waiter)));
        let patient = start(&latch, |latch| until_done(|_| latch.wait()));
        latch.count_down(1).unwrap();
        patient.join().unwrap();
        hasty.join().unwrap();
    });
}

// Numbers.

#[test]
fn sync_int_loses_no_change() {
    check(4, || {
        let int = Arc::new(Int::new(0));
        let others = [1, 10].map(|by| start(&int, move |int| int.change(|value| value.checked_add(by)).unwrap()));
        let mine = int.change(|value| value.checked_add(100)).unwrap();
        let mut seen: Vec<i64> = others.into_iter().map(|other| other.join().unwrap()).chain([mine]).collect();
        assert_eq!(int.load(), 111);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3, "each has replaced another value");
    });
}

#[test]
fn sync_counter_each_addition_is_taken_once() {
    check(4, || {
        let counter = Arc::new(Counter::new(2));
        let adders = [0, 1].map(|thread| start(&counter, move |counter| counter.add(thread, 1)));
        let taken = counter.take();
        adders.into_iter().for_each(|adder| adder.join().unwrap());
        assert_eq!(taken + counter.sum(), 2);
    });
}

// The table.

type Numbers = Table<u32, u32>;

/// Every key has the same hash, so that all of them are compared; and no two are the same object.
fn with<R>(table: &Numbers, key: u32, mut act: impl FnMut(Place<'_, u32, u32>) -> R) -> R {
    let mut search = Search::new(7);
    loop {
        match table.step(&mut search, |_| false, |key| *key, &mut act) {
            Step::Done(done) => return done,
            Step::Compare(other) => {
                // Here code of users runs.
                thread::yield_now();
                search.answer(other == key);
            }
        }
    }
}

fn get(table: &Numbers, key: u32) -> Option<u32> {
    with(table, key, |place| place.get().copied())
}

fn put(table: &Numbers, key: u32, value: u32) -> Option<u32> {
    with(table, key, |mut place| place.put(key, value).value)
}

fn take(table: &Numbers, key: u32) -> Option<u32> {
    with(table, key, |mut place| place.take().value)
}

/// Claims a key; `Err`: the value is there.
fn claim(table: &Numbers, key: u32, me: UnitId, unless_there: bool) -> Result<Claim, u32> {
    until_done(|before| {
        with(table, key, |mut place| match place.get().filter(|_| unless_there) {
            Some(value) => Attempt::Done(Err(*value)),
            None => match place.claim(key, me, before).attempt().expect("it does not ask for its own") {
                Attempt::Done(claim) => Attempt::Done(Ok(claim)),
                Attempt::Wait(waiter) => Attempt::Wait(waiter),
            },
        })
    })
}

fn compute(table: &Numbers, key: u32, me: UnitId, value: Option<u32>, calls: &AtomicUsize) -> Option<u32> {
    match claim(table, key, me, true) {
        Err(value) => Some(value),
        Ok(claim) => {
            let count = calls.load(Relaxed);
            calls.store(count + 1, Relaxed);
            let end = |place: &mut Place<'_, u32, u32>| {
                if place.get().is_none()
                    && let Some(value) = value
                {
                    place.put(key, value);
                }
                place.get().copied()
            };
            table.end(&claim, end).expect("nobody else ends it").0
        }
    }
}

#[test]
fn sync_table_has_each_key_once_however_slow_the_comparing() {
    check(3, || {
        let table = Arc::new(Numbers::new(1));
        put(&table, 1, 0);
        let others = [2, 2].map(|key| start(&table, move |table| put(table, key, 5)));
        let mine = put(&table, 2, 6);
        let replaced = others.into_iter().filter_map(|other| other.join().unwrap()).chain(mine).count();
        assert_eq!(replaced, 2, "two of the three have replaced a value");
        assert_eq!(table.len(), 2);
        assert_eq!(table.snapshot(|key, _| *key), [1, 2]);
    });
}

#[test]
fn sync_table_a_key_that_goes_and_comes_while_others_compare_is_found_or_not_but_never_twice() {
    check(3, || {
        let table = Arc::new(Numbers::new(1));
        put(&table, 1, 10);
        let mover = start(&table, |table| (take(table, 1), put(table, 1, 11)));
        let other = start(&table, |table| put(table, 1, 12));
        let seen = get(&table, 1);
        assert!([None, Some(10), Some(11), Some(12)].contains(&seen));
        mover.join().unwrap();
        other.join().unwrap();
        assert_eq!(table.len(), 1);
        assert_eq!(table.snapshot(|_, _| ()).len(), 1);
    });
}

#[test]
fn sync_table_a_value_is_computed_once_and_returned_to_all() {
    check(3, || {
        let shared = Arc::new((Numbers::new(1), AtomicUsize::new(0)));
        let others = [1, 2].map(|unit| {
            start(&shared, move |(table, calls)| compute(table, 1, UnitId(unit.into()), Some(unit), calls))
        });
        let mine = compute(&shared.0, 1, UnitId(3), Some(3), &shared.1);
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), mine));
        assert_eq!(shared.1.load(Relaxed), 1);
        assert_eq!(get(&shared.0, 1), mine);
    });
}

#[test]
fn sync_table_a_computation_that_fails_is_tried_by_the_next_one() {
    check(3, || {
        let shared = Arc::new((Numbers::new(1), AtomicUsize::new(0)));
        let others = [1, 2].map(|unit| {
            start(&shared, move |(table, calls)| compute(table, 1, UnitId(unit.into()), Some(unit), calls))
        });
        compute(&shared.0, 1, UnitId(3), None, &shared.1);
        let values = others.map(|other| other.join().unwrap());
        assert!(values[0].is_some() && values[0] == values[1]);
        assert!((1..=2).contains(&shared.1.load(Relaxed)));
    });
}

#[test]
fn sync_table_one_that_leaves_a_claim_is_in_nobodys_way() {
    check(4, || {
        let shared = Arc::new((Numbers::new(1), AtomicUsize::new(0)));
        let mine = claim(&shared.0, 1, UnitId(3), true).unwrap();
        let hasty = start(&shared, |(table, _)| {
            let attempt = |before: Option<&Arc<Waiter>>| {
                with(table, 1, |mut place| match place.get() {
                    Some(_) => Attempt::Done(None),
                    None => match place.claim(1, UnitId(1), before) {
                        Claiming::Mine(claim, _) => Attempt::Done(Some(claim)),
                        Claiming::Wait(waiter, _) => Attempt::Wait(waiter),
                        Claiming::Recursion => unreachable!("it does not ask for its own"),
                    },
                })
            };
            if let Some(Some(claim)) = done_in_time(attempt, |waiter| table.leave(7, waiter)) {
                table.end(&claim, |_| ());
            }
        });
        let patient = start(&shared, |(table, calls)| compute(table, 1, UnitId(2), Some(5), calls));
        shared.0.end(&mine, |_| ());
        assert_eq!(patient.join().unwrap(), Some(5));
        hasty.join().unwrap();
    });
}

#[test]
fn sync_table_updates_by_claim_lose_nothing_beside_a_plain_put() {
    check(3, || {
        let table = Arc::new(Numbers::new(1));
        put(&table, 1, 0);
        let update = |table: &Numbers, me: UnitId| {
            let claim = claim(table, 1, me, false).unwrap();
            loop {
                let (value, stamp) =
                    table.at(&claim, |place| (place.get().copied().expect("it stays"), place.stamp())).unwrap();
                let put =
                    |place: &mut Place<'_, u32, u32>| place.stamp() == stamp && place.put(1, value + 1).value.is_some();
                if table.at(&claim, put).unwrap() {
                    break;
                }
            }
            table.end(&claim, |_| ());
        };
        let other = start(&table, move |table| update(table, UnitId(1)));
        let putter = start(&table, |table| put(table, 1, 100).expect("it is there"));
        update(&table, UnitId(2));
        other.join().unwrap();
        let replaced = putter.join().unwrap();
        assert_eq!(get(&table, 1).unwrap() + replaced, 102, "two updates, before the put or after it");
    });
}
