//! A table of keys and values for many threads, whose keys compare themselves by code that may do anything.
//!
//! # The difficulty
//!
//! To find a key in a hash table its equals are asked for, and that is code of users: it may take long, raise, wait for a lock, or use this table.
//! So it must not run under a lock of the table. But what it found out must still be true when the table is changed.
//!
//! # Vocabulary
//!
//! * **slot**: a key with its value, or its claim, or both. It has a number that is never given twice, and its key never changes.
//! * **search**: what one caller has found out about one key: which slots are not equal to it, and which one is.
//! * **step**: one look into the shard, under its mutex. It ends in an act on the slot, or in a key that the caller must compare first.
//! * **claim**: that one unit makes a value for this key. Others that want to make one stand in its line; who only reads or writes does not care.
//! * **stamp**: a number that changes with every change of a value.
//!
//! # How a key is found
//!
//! 1. The caller takes the hash of the key, and begins a [`Search`].
//! 2. [`Table::step`] goes through the slots with that hash. One that is the key itself (the same object), or that the search knows to be equal, is the
//!    one: the act is done with it, in the same step. One that the search knows to be unequal is passed over.
//! 3. Another one: the step ends, and hands out its key. The caller compares, without any lock, tells the search, and goes to 2.
//! 4. No slot is left: the key is not there, and the act is done with that, in the same step.
//!
//! # Rules
//!
//! 1. An act is done under the mutex of the shard, after *every* slot that is there at that moment was found equal or unequal. That is the moment
//!    at which the operation happens (its linearization point). What was compared before may be gone; what has come was compared, too.
//! 2. Acts run no code of users. What is taken out of the table goes to the caller, who drops it afterwards.
//! 3. Every comparison is of another slot. So a caller that compares again and again does so because others insert again and again.
//! 4. A slot lives as long as it has a value or a claim. A claimed slot is reached by its number, without comparing: what ends a claim cannot fail.
//! 5. The end of a claim calls all who stand in its line. Each looks again from the beginning.
//! 6. In the child of a fork a claim of a thread that was left behind is void: the next one takes it over.
//! 7. Whoever locks more than one shard locks them in their order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::life::UnitId;
use crate::prim::atomic::Ordering::Relaxed;
use crate::prim::atomic::{AtomicU64, AtomicUsize};
use crate::prim::{Arc, Mutex, MutexGuard};

use crate::park::{Attempt, Called, Line, Waiter, epoch};

/// Spreads hashes that were made by others, such as small numbers in a row.
#[derive(Default)]
struct Mixing(u64);

impl Hasher for Mixing {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing (Knuth, "The art of computer programming", volume 3, 6.4), both halves mixed.
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Slot<K, V> {
    number: u64,
    key: K,
    value: Option<Stored<V>>,
    claim: Option<Box<Pending>>,
}

#[derive(Debug)]
struct Stored<V> {
    value: V,
    /// Its place in the order of insertion.
    born: u64,
    stamp: u64,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    unit: UnitId,
    epoch: u32,
    line: Line,
}

type Slots<K, V> = HashMap<u64, Vec<Slot<K, V>>, BuildHasherDefault<Mixing>>;

/// The table.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Place, Search, Step, Table};
///
/// let table = Table::<String, u32>::new(4);
/// // Every key has the same hash here, so that all of them must be compared.
/// let set = |key: &str, value: u32| {
///     let mut search = Search::new(7);
///     loop {
///         let act = |mut place: Place<'_, _, _>| drop(place.put(key.to_owned(), value));
///         match table.step(&mut search, |_| false, String::clone, act) {
///             Step::Done(()) => return,
///             Step::Compare(other) => search.answer(other == key),
///         }
///     }
/// };
/// set("a", 1);
/// set("b", 2);
/// set("a", 3);
/// assert_eq!(table.snapshot(|key, value| (key.clone(), *value)), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
/// ```
#[derive(Debug)]
pub struct Table<K, V> {
    shards: Box<[Mutex<Slots<K, V>>]>,
    /// The next number of a slot, a claim or a stamp, and the next place in the order of insertion.
    next: AtomicU64,
    /// How many values there are. Changed under the mutex of a shard.
    count: AtomicUsize,
}

/// What one caller has found out about a key.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Search, Step, Table};
///
/// let table = Table::<u32, ()>::new(1);
/// let mut search = Search::new(7);
/// assert!(matches!(table.step(&mut search, |_| false, u32::clone, |place| place.get().is_none()), Step::Done(true)));
/// ```
#[derive(Debug)]
pub struct Search {
    hash: u64,
    unequal: Vec<u64>,
    equal: Option<u64>,
    asked: Option<u64>,
}

impl Search {
    /// Of a key with this hash.
    pub fn new(hash: u64) -> Self {
        Self { hash, unequal: Vec::new(), equal: None, asked: None }
    }

    /// Says how the key that the last step has handed out compares.
    pub fn answer(&mut self, is_equal: bool) {
        let asked = self.asked.take();
        if is_equal {
            self.equal = asked;
        } else {
            self.unequal.extend(asked);
        }
    }
}

/// What a step has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Place, Search, Step, Table};
///
/// let table = Table::<u32, u32>::new(1);
/// let put = |mut place: Place<'_, _, _>| drop(place.put(1, 10));
/// let mut search = Search::new(7);
/// assert!(matches!(table.step(&mut search, |key| *key == 1, u32::clone, put), Step::Done(())));
/// let mut search = Search::new(7);
/// assert!(matches!(table.step(&mut search, |key| *key == 2, u32::clone, put), Step::Compare(1)));
/// ```
#[derive(Debug)]
#[must_use = "a key must be compared"]
pub enum Step<K, R> {
    /// The act was done; what it has returned.
    Done(R),
    /// The act was not done: compare this key, [`answer`](Search::answer), and step again.
    Compare(K),
}

/// What was taken out of the table, for the caller to drop.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Place, Removed, Search, Step, Table};
///
/// let table = Table::<u32, u32>::new(1);
/// let put = |mut place: Place<'_, _, _>| place.put(1, 10);
/// let Step::Done(removed) = table.step(&mut Search::new(7), |_| true, u32::clone, put) else { panic!("it is empty") };
/// assert_eq!(removed, Removed { key: None, value: None });
/// let Step::Done(removed) = table.step(&mut Search::new(7), |_| true, u32::clone, put) else { panic!("it is the same") };
/// assert_eq!(removed, Removed { key: Some(1), value: Some(10) });
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Removed<K, V> {
    /// A key that is not needed.
    pub key: Option<K>,
    /// A value that is not needed.
    pub value: Option<V>,
}

impl<K, V> Removed<K, V> {
    const NOTHING: Self = Self { key: None, value: None };
}

/// A claim: where it lies, and its number.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::park::Attempt;
/// use raddle_core::sync::{Claiming, Place, Search, Step, Table};
///
/// let table = Table::<u32, u32>::new(1);
/// let claim = |unit| table.step(&mut Search::new(7), |_| true, u32::clone, |mut place| place.claim(1, UnitId(unit), None));
/// let Step::Done(Claiming::Mine(mine, _)) = claim(1) else { panic!("it is the first") };
/// let Step::Done(Claiming::Wait(waiter, UnitId(1))) = claim(2) else { panic!("another one is at it") };
/// let ended = table.end(&mine, |place| {
///     place.put(1, 10);
/// });
/// assert!(ended.is_some() && waiter.is_called());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    hash: u64,
    slot: u64,
    number: u64,
}

/// What claiming has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::sync::{Claiming, Search, Step, Table};
///
/// let table = Table::<u32, u32>::new(1);
/// let claim = |unit| table.step(&mut Search::new(7), |_| true, u32::clone, |mut place| place.claim(1, UnitId(unit), None));
/// let _ = claim(1);
/// assert!(matches!(claim(1), Step::Done(Claiming::Recursion)));
/// ```
#[derive(Debug)]
#[must_use = "a claim must be ended, and a waiter stands in line"]
pub enum Claiming<K = ()> {
    /// The caller has it, and must [`end`](Table::end) it. With a key that was not needed.
    Mine(Claim, Option<K>),
    /// This unit has it, and the caller stands in line for its end.
    Wait(Arc<Waiter>, UnitId),
    /// The caller has had it all along: to wait would be for ever.
    Recursion,
}

impl<K> Claiming<K> {
    /// The attempt that it is, for the loop that serves every primitive. `None`: recursion.
    pub fn attempt(self) -> Option<Attempt<Claim>> {
        match self {
            Self::Mine(claim, _) => Some(Attempt::Done(claim)),
            Self::Wait(waiter, _) => Some(Attempt::Wait(waiter)),
            Self::Recursion => None,
        }
    }
}

/// The place of a key in the table, with its slot or without, while nobody else can change it.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Place, Search, Step, Table};
///
/// let table = Table::<u32, u32>::new(1);
/// let act = |mut place: Place<'_, u32, u32>| {
///     drop(place.put(1, 10));
///     (place.get().copied(), place.take().value, place.get().copied())
/// };
/// let step = table.step(&mut Search::new(7), |_| true, u32::clone, act);
/// assert!(matches!(step, Step::Done((Some(10), Some(10), None))));
/// ```
#[derive(Debug)]
pub struct Place<'a, K, V> {
    table: &'a Table<K, V>,
    slots: &'a mut Vec<Slot<K, V>>,
    hash: u64,
    at: Option<usize>,
}

impl<K, V> Place<'_, K, V> {
    fn stored(&self) -> Option<&Stored<V>> {
        self.at.and_then(|at| self.slots[at].value.as_ref())
    }

    /// The value.
    pub fn get(&self) -> Option<&V> {
        self.stored().map(|stored| &stored.value)
    }

    /// The stamp of the value; 0: there is none.
    pub fn stamp(&self) -> u64 {
        self.stored().map_or(0, |stored| stored.stamp)
    }

    /// The slot, which is made if it is not there. The key that was not needed.
    fn slot(&mut self, key: K) -> (&mut Slot<K, V>, Option<K>) {
        let (at, rest) = match self.at {
            Some(at) => (at, Some(key)),
            None => {
                self.slots.push(Slot { number: self.table.number(), key, value: None, claim: None });
                (self.slots.len() - 1, None)
            }
        };
        self.at = Some(at);
        (&mut self.slots[at], rest)
    }

    /// Stores a value.
    pub fn put(&mut self, key: K, value: V) -> Removed<K, V> {
        let table = self.table;
        let stamp = table.number();
        let (slot, key) = self.slot(key);
        let born = slot.value.as_ref().map_or(stamp, |stored| stored.born);
        let before = slot.value.replace(Stored { value, born, stamp });
        if before.is_none() {
            table.count.fetch_add(1, Relaxed);
        }
        Removed { key, value: before.map(|stored| stored.value) }
    }

    /// Takes the value out.
    pub fn take(&mut self) -> Removed<K, V> {
        let Some(stored) = self.at.and_then(|at| self.slots[at].value.take()) else { return Removed::NOTHING };
        self.table.count.fetch_sub(1, Relaxed);
        Removed { key: self.vanish(), value: Some(stored.value) }
    }

    /// Rule 4. Returns the key of a slot that is gone.
    fn vanish(&mut self) -> Option<K> {
        let at = self.at?;
        if self.slots[at].value.is_some() || self.slots[at].claim.is_some() {
            return None;
        }
        self.at = None;
        Some(self.slots.swap_remove(at).key)
    }

    /// Claims the key, or joins the line of the claim that is there. `before`: the waiter of the attempt before, which was called.
    pub fn claim(&mut self, key: K, me: UnitId, before: Option<&Arc<Waiter>>) -> Claiming<K> {
        let (number, hash) = (self.table.number(), self.hash);
        let (slot, key) = self.slot(key);
        match &mut slot.claim {
            Some(pending) if pending.unit == me => Claiming::Recursion,
            Some(pending) if pending.epoch == epoch() => Claiming::Wait(pending.line.join(before), pending.unit),
            claim => {
                *claim = Some(Box::new(Pending { number, unit: me, epoch: epoch(), line: Line::default() }));
                Claiming::Mine(Claim { hash, slot: slot.number, number }, key)
            }
        }
    }
}

impl<K, V> Table<K, V> {
    /// An empty table in about so many shards, each with a mutex of its own.
    pub fn new(shards: usize) -> Self {
        let shards = (0..shards.max(1).next_power_of_two()).map(|_| Mutex::new(Slots::default())).collect();
        Self { shards, next: AtomicU64::new(1), count: AtomicUsize::new(0) }
    }

    fn number(&self) -> u64 {
        // Ordering: Relaxed. Numbers differ; what they are compared for lies under one mutex.
        self.next.fetch_add(1, Relaxed)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Slots<K, V>> {
        let mut mixing = Mixing::default();
        mixing.write_u64(hash);
        // Other bits than the map of the shard looks at first.
        let at = usize::try_from(mixing.finish() >> 20 & 0xFFFF).unwrap_or(0);
        self.shards[at & (self.shards.len() - 1)].lock()
    }

    /// One step of a search; see the module. `is_same` may only look whether it is the same object, `share` may only make another reference
    /// to a key, and `act` may only look and change.
    pub fn step<R>(
        &self,
        search: &mut Search,
        is_same: impl Fn(&K) -> bool,
        share: impl Fn(&K) -> K,
        act: impl FnOnce(Place<'_, K, V>) -> R,
    ) -> Step<K, R> {
        let mut shard = self.shard(search.hash);
        let slots = shard.entry(search.hash).or_default();
        let mut found = None;
        for (at, slot) in slots.iter().enumerate() {
            if search.equal == Some(slot.number) || is_same(&slot.key) {
                found = Some(at);
                break;
            }
            if !search.unequal.contains(&slot.number) {
                search.asked = Some(slot.number);
                return Step::Compare(share(&slot.key));
            }
        }
        let done = act(Place { table: self, slots, hash: search.hash, at: found });
        if let Entry::Occupied(entry) = shard.entry(search.hash)
            && entry.get().is_empty()
        {
            entry.remove();
        }
        Step::Done(done)
    }

    /// Does something with the place of a claim, which stays. `None`: the claim is void, because a fork came between.
    pub fn at<R>(&self, claim: &Claim, act: impl FnOnce(&mut Place<'_, K, V>) -> R) -> Option<R> {
        self.claimed(claim, |place| act(place)).map(|(done, ..)| done)
    }

    /// Does something with the place of a claim and ends it, in one step. Whoever stands in its line looks again. Also returns a key to drop.
    pub fn end<R>(&self, claim: &Claim, act: impl FnOnce(&mut Place<'_, K, V>) -> R) -> Option<(R, Option<K>)> {
        let ((done, called), key) = self.claimed(claim, |place| {
            let done = act(place);
            let pending = place.at.and_then(|at| place.slots[at].claim.take());
            (done, pending.map_or_else(Called::default, |mut pending| pending.line.call_all()))
        })?;
        called.wake();
        Some((done, key))
    }

    fn claimed<R>(&self, claim: &Claim, act: impl FnOnce(&mut Place<'_, K, V>) -> R) -> Option<(R, Option<K>)> {
        let mut shard = self.shard(claim.hash);
        let slots = shard.get_mut(&claim.hash)?;
        let is_it = |slot: &Slot<K, V>| {
            slot.number == claim.slot && slot.claim.as_ref().is_some_and(|pending| pending.number == claim.number)
        };
        let at = slots.iter().position(is_it)?;
        let mut place = Place { table: self, slots, hash: claim.hash, at: Some(at) };
        let done = act(&mut place);
        let key = place.vanish();
        if place.slots.is_empty() {
            shard.remove(&claim.hash);
        }
        Some((done, key))
    }

    /// Takes a waiter out of the line of a claim. A call that came too late is nobody else's: all were called.
    pub fn leave(&self, hash: u64, waiter: &Arc<Waiter>) {
        for slot in self.shard(hash).get_mut(&hash).into_iter().flatten() {
            if slot.claim.as_mut().is_some_and(|pending| pending.line.leave(waiter)) {
                return;
            }
        }
    }

    /// How many values there are, at one moment: while nobody else is between the place of a new value in the order and its being counted.
    pub fn len(&self) -> usize {
        let _shards = self.all();
        // Ordering: Relaxed here and where it changes. That is done under the mutex of a shard, all of which are held.
        self.count.load(Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn all(&self) -> Vec<MutexGuard<'_, Slots<K, V>>> {
        self.shards.iter().map(Mutex::lock).collect()
    }

    /// What `copy` makes of each value that is there at one moment, in the order of insertion. `copy` may only make further references.
    pub fn snapshot<R>(&self, copy: impl Fn(&K, &V) -> R) -> Vec<R> {
        let shards = self.all();
        let mut copies = Vec::with_capacity(self.count.load(Relaxed));
        for slot in shards.iter().flat_map(|shard| shard.values().flatten()) {
            if let Some(stored) = &slot.value {
                copies.push((stored.born, copy(&slot.key, &stored.value)));
            }
        }
        drop(shards);
        copies.sort_unstable_by_key(|(born, _)| *born);
        copies.into_iter().map(|(_, copy)| copy).collect()
    }

    /// Takes all values out, at one moment. Claims stay.
    pub fn clear(&self) -> Vec<Removed<K, V>> {
        let mut removed = Vec::new();
        let mut shards = self.all();
        for shard in &mut shards {
            let mut claimed = Slots::default();
            for (hash, slots) in shard.drain() {
                for mut slot in slots {
                    let value = slot.value.take().map(|stored| stored.value);
                    if slot.claim.is_some() {
                        removed.push(Removed { key: None, value });
                        claimed.entry(hash).or_default().push(slot);
                    } else {
                        removed.push(Removed { key: Some(slot.key), value });
                    }
                }
            }
            **shard = claimed;
        }
        self.count.store(0, Relaxed);
        drop(shards);
        removed
    }

    /// Shows every key and value, while nothing moves: for the garbage collector, which does not run code of users.
    ///
    /// Passes over shards that another thread uses right now.
    pub fn peek<E>(&self, mut show: impl FnMut(&K, Option<&V>) -> Result<(), E>) -> Result<(), E> {
        for shard in self.shards.iter().filter_map(Mutex::try_lock) {
            for slot in shard.values().flatten() {
                show(&slot.key, slot.value.as_ref().map(|stored| &stored.value))?;
            }
        }
        Ok(())
    }
}
