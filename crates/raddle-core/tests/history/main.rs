//! Are there orders in which what threads saw could have happened one by one?
//!
//! Real threads use a primitive, and note for each operation when it began, when it ended and what it returned. A history is *linearizable* if
//! its operations can be put in an order that keeps "ended before the other began", and in which each returns what a simple sequential model
//! returns (Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects", 1990). The search for such an order is that
//! of Wing and Gong ("Testing and verifying concurrent objects", 1993), with a memory of where it has been (Lowe, "Testing for
//! linearizability", 2017).

#![cfg(not(loom))]

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

use raddle_core::channel::{Get, Order, Put, Queue};
use raddle_core::life::UnitId;
use raddle_core::park::{Attempt, Waiter, Wake};
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::SeqCst;
use raddle_core::prim::{Arc, thread};
use raddle_core::sync::{Int, Place, Search, Step, Table};

/// How many histories are recorded of each kind.
const ROUNDS: u64 = if cfg!(miri) { 3 } else { 400 };

/// What a primitive is, one operation after the other.
trait Model: Clone + Eq + Hash {
    type Op: Clone + Debug;
    type Seen: Clone + Debug;

    /// The state after an operation, if it could have seen this.
    fn after(&self, op: &Self::Op, seen: &Self::Seen) -> Option<Self>;
}

#[derive(Clone, Debug)]
struct Entry<O, S> {
    began: usize,
    ended: usize,
    op: O,
    seen: S,
}

type History<M> = Vec<Entry<<M as Model>::Op, <M as Model>::Seen>>;

fn is_linearizable<M: Model>(start: &M, history: &History<M>) -> bool {
    assert!(history.len() <= 64, "one bit for each");
    let all = u64::MAX.checked_shr(64 - u32::try_from(history.len()).unwrap()).unwrap_or(0);
    let (mut been, mut open) = (HashSet::new(), vec![(0_u64, start.clone())]);
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || history.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        let first_end = left().map(|(_, entry)| entry.ended).min().expect("not all are done");
        for (at, entry) in left() {
            // One that began after another one had ended comes after it.
            if entry.began < first_end
                && let Some(next) = state.after(&entry.op, &entry.seen)
                && been.insert((done | 1 << at, next.clone()))
            {
                open.push((done | 1 << at, next));
            }
        }
    }
    false
}

/// Small numbers that look random, from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Runs each list of operations on a thread of its own, all at once, and records what they see.
fn record<M, T>(thing: &Arc<T>, lists: Vec<Vec<M::Op>>, act: fn(&T, usize, &M::Op) -> M::Seen) -> History<M>
where
    M: Model,
    M::Op: Send + 'static,
    M::Seen: Send + 'static,
    T: Send + Sync + 'static,
{
    let (clock, ready, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), lists.len());
    let start = |(number, ops): (usize, Vec<M::Op>)| {
        let (thing, clock, ready) = (thing.clone(), clock.clone(), ready.clone());
        thread::spawn(move || {
            ready.fetch_add(1, SeqCst);
            while ready.load(SeqCst) < count {
                thread::yield_now();
            }
            let run = |op: M::Op| {
                let began = clock.fetch_add(1, SeqCst);
                let seen = act(&thing, number, &op);
                Entry { began, ended: clock.fetch_add(1, SeqCst), op, seen }
            };
            ops.into_iter().map(run).collect::<Vec<_>>()
        })
    };
    let threads: Vec<_> = lists.into_iter().enumerate().map(start).collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

fn check<M: Model>(start: &M, history: &History<M>, seed: u64) {
    assert!(is_linearizable(start, history), "no order explains the history of seed {seed}:\n{history:#?}");
}

// The queue.

#[derive(Clone, Debug)]
enum QueueOp {
    Put(u32),
    TryPut(u32),
    Get,
    TryGet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum QueueSeen {
    Done,
    Refused,
    Item(u32),
}

const BOUND: usize = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Fifo(VecDeque<u32>);

impl Model for Fifo {
    type Op = QueueOp;
    type Seen = QueueSeen;

    fn after(&self, op: &QueueOp, seen: &QueueSeen) -> Option<Self> {
        let mut next = self.clone();
        match (op, seen) {
            (QueueOp::Put(item) | QueueOp::TryPut(item), QueueSeen::Done) => {
                next.0.push_back(*item);
                (self.0.len() < BOUND).then_some(next)
            }
            (QueueOp::TryPut(_), QueueSeen::Refused) => (self.0.len() >= BOUND).then_some(next),
            (QueueOp::Get | QueueOp::TryGet, QueueSeen::Item(item)) => (next.0.pop_front()? == *item).then_some(next),
            (QueueOp::TryGet, QueueSeen::Refused) => self.0.is_empty().then_some(next),
            _ => None,
        }
    }
}

fn use_queue(queue: &Queue<u32>, _: usize, op: &QueueOp) -> QueueSeen {
    let (mut before, waits) = (None, matches!(op, QueueOp::Put(_) | QueueOp::Get));
    loop {
        let waiter = match op {
            QueueOp::Put(item) | QueueOp::TryPut(item) => match queue.put(*item, waits, before.as_ref()) {
                Put::Done => return QueueSeen::Done,
                Put::Full(_) => return QueueSeen::Refused,
                Put::Wait(waiter, _) => waiter,
                Put::Shut(_) | Put::Moved(_) => unreachable!("it is open"),
            },
            QueueOp::Get | QueueOp::TryGet => match queue.get(waits, before.as_ref()) {
                Get::Item(item) => return QueueSeen::Item(item),
                Get::Empty => return QueueSeen::Refused,
                Get::Wait(waiter) => waiter,
                Get::Shut | Get::Moved => unreachable!("it is open"),
            },
        };
        assert_eq!(waiter.park(None), Wake::Unparked);
        before = Some(waiter);
    }
}

fn queue_history(order: Order, seed: u64, lists: Vec<Vec<QueueOp>>) -> History<Fifo> {
    _ = seed;
    record::<Fifo, _>(&Arc::new(Queue::new(order, Some(BOUND))), lists, use_queue)
}

#[test]
fn a_queue_is_a_fifo_with_a_bound() {
    for seed in 1..=ROUNDS {
        let producers = (0..2_u32).map(|producer| (0..5).map(|item| QueueOp::Put(10 * producer + item)).collect());
        let consumers = (0..2).map(|_| vec![QueueOp::Get; 5]);
        check(&Fifo::default(), &queue_history(Order::Fifo, seed, producers.chain(consumers).collect()), seed);
    }
}

#[test]
fn a_queue_refuses_only_when_it_is_full_or_empty() {
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed * 0x9E37_79B9);
        let mut item = 0;
        let mut op = |_| {
            item += 1;
            if dice.roll(2) == 0 { QueueOp::TryPut(item) } else { QueueOp::TryGet }
        };
        let lists = (0..3).map(|_| (0..6).map(&mut op).collect()).collect();
        check(&Fifo::default(), &queue_history(Order::Fifo, seed, lists), seed);
    }
}

#[test]
fn a_queue_that_gives_the_last_item_first_is_caught() {
    let list = vec![QueueOp::Put(1), QueueOp::Put(2), QueueOp::Get, QueueOp::Put(3), QueueOp::Get, QueueOp::Get];
    assert!(is_linearizable(&Fifo::default(), &queue_history(Order::Fifo, 1, vec![list.clone()])));
    assert!(!is_linearizable(&Fifo::default(), &queue_history(Order::Lifo, 1, vec![list])));
}

// The number.

#[derive(Clone, Debug)]
enum IntOp {
    Load,
    Add(i64),
    Exchange(i64),
    CompareExchange(i64, i64),
}

impl Model for i64 {
    type Op = IntOp;
    /// What it was, as far as the operation says so, and whether it was done.
    type Seen = (Option<i64>, bool);

    fn after(&self, op: &IntOp, (was, done): &(Option<i64>, bool)) -> Option<Self> {
        if was.is_some_and(|was| was != *self) {
            return None;
        }
        match op {
            IntOp::Load => Some(*self),
            IntOp::Add(by) => Some(self + by),
            IntOp::Exchange(value) => Some(*value),
            IntOp::CompareExchange(expected, value) => {
                ((self == expected) == *done).then_some(if *done { *value } else { *self })
            }
        }
    }
}

fn use_int(int: &Int, _: usize, op: &IntOp) -> (Option<i64>, bool) {
    match op {
        IntOp::Load => (Some(int.load()), true),
        IntOp::Add(by) => (Some(int.change(|value| value.checked_add(*by)).unwrap()), true),
        IntOp::Exchange(value) => (Some(int.exchange(*value)), true),
        IntOp::CompareExchange(expected, value) => match int.compare_exchange(*expected, *value) {
            Ok(()) => (Some(*expected), true),
            Err(now) => (Some(now), false),
        },
    }
}

#[test]
fn a_number_changes_in_single_steps() {
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed * 0x9E37_79B9);
        let mut op = |_| match dice.roll(4) {
            0 => IntOp::Load,
            1 => IntOp::Add(1 + dice.roll(2).cast_signed()),
            2 => IntOp::Exchange(dice.roll(3).cast_signed()),
            _ => IntOp::CompareExchange(dice.roll(3).cast_signed(), dice.roll(3).cast_signed()),
        };
        let lists = (0..3).map(|_| (0..8).map(&mut op).collect()).collect();
        check(&0, &record::<i64, _>(&Arc::new(Int::new(0)), lists, use_int), seed);
    }
}

#[test]
fn a_change_that_is_lost_is_caught() {
    let add = |began, ended| Entry { began, ended, op: IntOp::Add(1), seen: (Some(0), true) };
    let load = |began, seen| Entry { began, ended: began + 1, op: IntOp::Load, seen: (Some(seen), true) };
    assert!(!is_linearizable(&0, &vec![add(0, 3), add(1, 2)]), "both have replaced 0");
    assert!(is_linearizable(&0, &vec![add(0, 5), load(1, 0), load(3, 1)]));
    assert!(!is_linearizable(&0, &vec![add(0, 5), load(1, 1), load(3, 0)]), "what was seen is not unseen");
}

// The table.

#[derive(Clone, Debug)]
enum TableOp {
    Get(u32),
    Put(u32, u32),
    PutIfAbsent(u32, u32),
    Take(u32),
    Compute(u32, u32),
    Update(u32, u32),
    Len,
    Snapshot,
    Clear,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TableSeen {
    Nothing,
    Value(Option<u32>),
    Len(usize),
    Pairs(Vec<(u32, u32)>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pairs(Vec<(u32, u32)>);

impl Pairs {
    fn get(&self, key: u32) -> Option<u32> {
        self.0.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
    }

    fn put(mut self, key: u32, value: u32) -> Self {
        match self.0.iter_mut().find(|(other, _)| *other == key) {
            Some(pair) => pair.1 = value,
            None => self.0.push((key, value)),
        }
        self
    }
}

impl Model for Pairs {
    type Op = TableOp;
    type Seen = TableSeen;

    fn after(&self, op: &TableOp, seen: &TableSeen) -> Option<Self> {
        let next = self.clone();
        let (next, expected) = match *op {
            TableOp::Get(key) => (next, TableSeen::Value(self.get(key))),
            TableOp::Put(key, value) => (next.put(key, value), TableSeen::Value(self.get(key))),
            TableOp::PutIfAbsent(key, value) | TableOp::Compute(key, value) => {
                let value = self.get(key).unwrap_or(value);
                (next.put(key, value), TableSeen::Value(Some(value)))
            }
            TableOp::Take(key) => {
                let left = self.0.iter().filter(|(other, _)| *other != key).copied().collect();
                (Self(left), TableSeen::Value(self.get(key)))
            }
            TableOp::Update(key, by) => {
                let value = self.get(key).unwrap_or(0) + by;
                (next.put(key, value), TableSeen::Value(Some(value)))
            }
            TableOp::Len => (next, TableSeen::Len(self.0.len())),
            TableOp::Snapshot => (next, TableSeen::Pairs(self.0.clone())),
            TableOp::Clear => (Self::default(), TableSeen::Nothing),
        };
        (expected == *seen).then_some(next)
    }
}

type Numbers = Table<u32, u32>;

/// All keys have one of two hashes, no key is the same object as another, and comparing takes a while.
fn with<R>(table: &Numbers, key: u32, mut act: impl FnMut(Place<'_, u32, u32>) -> R) -> R {
    let mut search = Search::new(u64::from(key % 2));
    loop {
        match table.step(&mut search, |_| false, |key| *key, &mut act) {
            Step::Done(done) => return done,
            Step::Compare(other) => {
                thread::yield_now();
                search.answer(other == key);
            }
        }
    }
}

fn use_table(table: &Numbers, thread: usize, op: &TableOp) -> TableSeen {
    let claim = |key, unless_there: bool| {
        let mut before: Option<Arc<Waiter>> = None;
        loop {
            let attempt = with(table, key, |mut place| match place.get().filter(|_| unless_there) {
                Some(value) => Attempt::Done(Err(*value)),
                None => match place.claim(key, UnitId(thread as u64 + 1), before.as_ref()).attempt().unwrap() {
                    Attempt::Done(claim) => Attempt::Done(Ok(claim)),
                    Attempt::Wait(waiter) => Attempt::Wait(waiter),
                },
            });
            match attempt {
                Attempt::Done(claim) => return claim,
                Attempt::Wait(waiter) => {
                    assert_eq!(waiter.park(None), Wake::Unparked);
                    before = Some(waiter);
                }
            }
        }
    };
    match *op {
        TableOp::Get(key) => TableSeen::Value(with(table, key, |place| place.get().copied())),
        TableOp::Put(key, value) => TableSeen::Value(with(table, key, |mut place| place.put(key, value).value)),
        TableOp::Take(key) => TableSeen::Value(with(table, key, |mut place| place.take().value)),
        TableOp::PutIfAbsent(key, value) => TableSeen::Value(with(table, key, |mut place| {
            if place.get().is_none() {
                place.put(key, value);
            }
            place.get().copied()
        })),
        TableOp::Compute(key, value) => TableSeen::Value(match claim(key, true) {
            Err(there) => Some(there),
            Ok(claim) => {
                thread::yield_now();
                let end = |place: &mut Place<'_, u32, u32>| {
                    if place.get().is_none() {
                        place.put(key, value);
                    }
                    place.get().copied()
                };
                table.end(&claim, end).unwrap().0
            }
        }),
        TableOp::Update(key, by) => {
            let claim = claim(key, false).unwrap();
            let value = loop {
                let (value, stamp) = table.at(&claim, |place| (place.get().copied(), place.stamp())).unwrap();
                thread::yield_now();
                let new = value.unwrap_or(0) + by;
                let put = |place: &mut Place<'_, u32, u32>| {
                    place.stamp() == stamp && {
                        place.put(key, new);
                        true
                    }
                };
                if table.at(&claim, put).unwrap() {
                    break new;
                }
            };
            table.end(&claim, |_| ());
            TableSeen::Value(Some(value))
        }
        TableOp::Len => TableSeen::Len(table.len()),
        TableOp::Snapshot => TableSeen::Pairs(table.snapshot(|key, value| (*key, *value))),
        TableOp::Clear => {
            drop(table.clear());
            TableSeen::Nothing
        }
    }
}

#[test]
fn a_table_changes_in_single_steps_while_keys_are_compared_without_a_lock() {
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed * 0x9E37_79B9);
        let mut value = 0;
        let mut op = |_| {
            let key = u32::try_from(dice.roll(3)).unwrap();
            value += 1;
            match dice.roll(17) {
                0..3 => TableOp::Get(key),
                3..6 => TableOp::Put(key, 100 * value),
                6..8 => TableOp::PutIfAbsent(key, 100 * value),
                8..11 => TableOp::Take(key),
                11..13 => TableOp::Compute(key, 100 * value),
                13 | 14 => TableOp::Update(key, 1),
                15 => {
                    if dice.roll(2) == 0 {
                        TableOp::Len
                    } else {
                        TableOp::Snapshot
                    }
                }
                _ => TableOp::Clear,
            }
        };
        let lists = (0..3).map(|_| (0..7).map(&mut op).collect()).collect();
        check(&Pairs::default(), &record::<Pairs, _>(&Arc::new(Numbers::new(2)), lists, use_table), seed);
    }
}
