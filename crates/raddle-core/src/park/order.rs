//! In which order locks are taken: edges in, inversions out, although the run was lucky.
//!
//! # Vocabulary
//!
//! * **edge**: a lock was wanted by a thread that held another one. There is one from the held lock to the wanted one.
//! * **witness** of an edge: who did so, where, with what else in its hands, and when.
//! * **inversion**: a ring of edges, each with a witness, all of which might have happened at the same moment. Then the threads would wait for
//!   each other for ever.
//!
//! # Rules
//!
//! 1. A ring is looked for when an edge has a new witness, and only then: a program takes the same locks in the same places
//!    again and again, and pays for that once. (So does the lock validator of the Linux kernel.)
//! 2. Witnesses of one ring are of different threads, have no lock in common (a *gate lock*, which lets one of them in at a time), and none of them was
//!    before another by the start or the join of a thread. (Bensalem and Havelund, "Dynamic deadlock analysis of multi-threaded programs", 2005.)
//! 3. Each ring is told once.
//! 4. Attempts, and waits with a deadline, make no edge: they end. What they have taken is held, as anything else.
//!
//! It is a pure structure: it knows neither locks nor threads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::life::UnitId;

/// Which lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockId(pub u64);

/// What a unit knows to be over: of each unit the last stretch of its life that was before this one. Its own stretch is in it.
pub type Clock = BTreeMap<UnitId, u64>;

/// One thread's part in a ring: it held the first lock, which it had taken there, and wanted the second one here.
#[derive(Clone, Debug)]
pub struct Step<P> {
    /// Who.
    pub unit: UnitId,
    /// What it held, and where it had taken that.
    pub held: (LockId, P),
    /// What it wanted, and where.
    pub wanted: (LockId, P),
}

#[derive(Clone, Debug)]
struct Witness<P> {
    step: Step<P>,
    /// All that it held, in order of the numbers.
    hands: Vec<LockId>,
    clock: Arc<Clock>,
}

/// So many witnesses of one edge are remembered.
const WITNESSES: usize = 16;
/// So many locks has the longest ring that is looked for.
const LONGEST: usize = 8;
/// So many steps a search takes before it gives up.
const STEPS: usize = 20_000;

impl<P> Witness<P> {
    fn is_before(&self, other: &Self) -> bool {
        let mine = self.clock.get(&self.step.unit);
        mine.is_some() && other.clock.get(&self.step.unit) >= mine
    }

    /// Whether both might have happened at the same moment (rule 2).
    fn may_be_beside(&self, other: &Self) -> bool {
        self.step.unit != other.step.unit
            && !self.hands.iter().any(|lock| other.hands.contains(lock))
            && !self.is_before(other)
            && !other.is_before(self)
    }
}

/// What one unit does.
#[derive(Debug)]
struct Doing<P> {
    clock: Arc<Clock>,
    hands: Vec<(LockId, P)>,
}

/// The edges, and what units hold.
#[derive(Debug)]
pub struct Order<P> {
    units: HashMap<UnitId, Doing<P>>,
    edges: HashMap<LockId, HashMap<LockId, Vec<Witness<P>>>>,
    /// From where edges lead to a lock.
    into: HashMap<LockId, HashSet<LockId>>,
    told: HashSet<BTreeSet<LockId>>,
}

impl<P> Default for Order<P> {
    fn default() -> Self {
        Self { units: HashMap::new(), edges: HashMap::new(), into: HashMap::new(), told: HashSet::new() }
    }
}

impl<P: Clone> Order<P> {
    fn unit(&mut self, unit: UnitId) -> &mut Doing<P> {
        let fresh = || Doing { clock: Arc::new(Clock::from([(unit, 1)])), hands: Vec::new() };
        self.units.entry(unit).or_insert_with(fresh)
    }

    /// A unit wants a lock, and will wait for it as long as it takes. Returns the steps of a ring that this closes: the first one is this unit's, and
    /// each holds what the one before it wants.
    pub fn want(&mut self, unit: UnitId, lock: LockId, place: &P) -> Option<Vec<Step<P>>> {
        let doing = self.units.get(&unit).filter(|doing| !doing.hands.is_empty())?;
        if doing.hands.iter().any(|(held, _)| *held == lock) {
            return None; // it waits for itself, which is no question of order
        }
        let mut hands: Vec<LockId> = doing.hands.iter().map(|(held, _)| *held).collect();
        hands.sort_unstable();
        let mut fresh = Vec::new();
        for held in &doing.hands {
            let witnesses = self.edges.entry(held.0).or_default().entry(lock).or_default();
            let is_known = |known: &Witness<P>| {
                known.step.unit == unit && known.hands == hands && known.clock.get(&unit) == doing.clock.get(&unit)
            };
            if witnesses.len() >= WITNESSES || witnesses.iter().any(is_known) {
                continue;
            }
            let step = Step { unit, held: held.clone(), wanted: (lock, place.clone()) };
            let witness = Witness { step, hands: hands.clone(), clock: doing.clock.clone() };
            witnesses.push(witness.clone());
            self.into.entry(lock).or_default().insert(held.0);
            fresh.push(witness);
        }
        fresh.into_iter().find_map(|witness| self.ring_of(witness))
    }

    /// A unit has taken a lock.
    pub fn took(&mut self, unit: UnitId, lock: LockId, place: P) {
        self.unit(unit).hands.push((lock, place));
    }

    /// A unit does not hold a lock any more.
    pub fn released(&mut self, unit: UnitId, lock: LockId) {
        if let Some(doing) = self.units.get_mut(&unit)
            && let Some(index) = doing.hands.iter().rposition(|(held, _)| *held == lock)
        {
            doing.hands.remove(index);
        }
    }

    /// A lock does not exist any more.
    pub fn forget(&mut self, lock: LockId) {
        for to in self.edges.remove(&lock).into_iter().flatten().map(|(to, _)| to) {
            self.into.get_mut(&to).map(|from| from.remove(&lock));
        }
        for from in self.into.remove(&lock).into_iter().flatten() {
            self.edges.get_mut(&from).map(|edges| edges.remove(&lock));
        }
        self.told.retain(|ring| !ring.contains(&lock));
    }

    /// A unit is about to start another one, which is to be told what is over then.
    pub fn fork(&mut self, unit: UnitId) -> Clock {
        let doing = self.unit(unit);
        let before = Clock::clone(&doing.clock);
        *Arc::make_mut(&mut doing.clock).entry(unit).or_default() += 1;
        before
    }

    /// What is over for a unit that has done its work: all that it has done, and all that was over for it.
    pub fn clock_of(&mut self, unit: UnitId) -> Clock {
        Clock::clone(&self.unit(unit).clock)
    }

    /// All this is over for a unit from now on: it was started by that one, or has waited for its end.
    pub fn follow(&mut self, unit: UnitId, over: &Clock) {
        let clock = Arc::make_mut(&mut self.unit(unit).clock);
        for (other, stretch) in over {
            if *other != unit {
                let known = clock.entry(*other).or_default();
                *known = (*known).max(*stretch);
            }
        }
    }

    /// A unit has ended.
    pub fn ended(&mut self, unit: UnitId) {
        self.units.remove(&unit);
    }

    fn ring_of(&mut self, first: Witness<P>) -> Option<Vec<Step<P>>> {
        let mut ring = vec![first];
        let mut steps = STEPS;
        if !self.close(&mut ring, &mut steps) {
            return None;
        }
        self.told.insert(ring.iter().map(|witness| witness.step.held.0).collect());
        Some(ring.into_iter().map(|witness| witness.step).collect())
    }

    /// Goes on from the last lock that is wanted, until that is the first one that is held.
    fn close(&self, ring: &mut Vec<Witness<P>>, steps: &mut usize) -> bool {
        let (start, end) = (ring[0].step.held.0, ring[ring.len() - 1].step.wanted.0);
        if start == end {
            return !self.told.contains(&ring.iter().map(|witness| witness.step.held.0).collect());
        }
        if ring.len() == LONGEST {
            return false;
        }
        let Some(edges) = self.edges.get(&end) else { return false };
        for (to, witnesses) in edges {
            // A ring passes each lock once.
            if *to != start && ring.iter().any(|witness| witness.step.held.0 == *to) {
                continue;
            }
            for witness in witnesses {
                let Some(left) = steps.checked_sub(1) else { return false };
                *steps = left;
                if ring.iter().all(|other| witness.may_be_beside(other)) {
                    ring.push(witness.clone());
                    if self.close(ring, steps) {
                        return true;
                    }
                    ring.pop();
                }
            }
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MAIN: UnitId = UnitId(1);
    const ONE: UnitId = UnitId(2);
    const TWO: UnitId = UnitId(3);
    const A: LockId = LockId(1);
    const B: LockId = LockId(2);
    const C: LockId = LockId(3);
    const GATE: LockId = LockId(4);

    type Ring = Option<Vec<(UnitId, LockId, LockId)>>;

    /// Takes locks one in the other, and releases them. Returns the ring that the last of them closes.
    fn nest(order: &mut Order<()>, unit: UnitId, locks: &[LockId]) -> Ring {
        let mut ring = None;
        for lock in locks {
            ring = order.want(unit, *lock, &()).or(ring);
            order.took(unit, *lock, ());
        }
        locks.iter().rev().for_each(|lock| order.released(unit, *lock));
        ring.map(|steps| steps.into_iter().map(|step| (step.unit, step.held.0, step.wanted.0)).collect())
    }

    #[test]
    fn both_orders_are_an_inversion_though_nobody_has_waited() {
        let mut order = Order::default();
        assert_eq!(nest(&mut order, ONE, &[A, B]), None);
        assert_eq!(nest(&mut order, TWO, &[B, A]), Some(vec![(TWO, B, A), (ONE, A, B)]));
        assert_eq!(nest(&mut order, TWO, &[B, A]), None, "rule 3");
        assert_eq!(nest(&mut order, MAIN, &[B, A]), None, "rule 3, whoever does it");
    }

    #[test]
    fn a_ring_of_three_is_one() {
        let mut order = Order::default();
        assert_eq!(nest(&mut order, ONE, &[A, B]), None);
        assert_eq!(nest(&mut order, TWO, &[B, C]), None);
        assert_eq!(nest(&mut order, MAIN, &[C, A]), Some(vec![(MAIN, C, A), (ONE, A, B), (TWO, B, C)]));
    }

    #[test]
    fn an_inversion_around_a_lock_between_is_one() {
        let mut order = Order::default();
        assert_eq!(nest(&mut order, ONE, &[A, C, B]), None);
        assert_eq!(nest(&mut order, TWO, &[B, A]), Some(vec![(TWO, B, A), (ONE, A, B)]));
    }

    #[test]
    fn one_order_is_none() {
        let mut order = Order::default();
        for unit in [ONE, TWO, MAIN] {
            assert_eq!(nest(&mut order, unit, &[A, B, C]), None);
            assert_eq!(nest(&mut order, unit, &[A, C]), None);
            assert_eq!(nest(&mut order, unit, &[B, C]), None);
        }
    }

    #[test]
    fn both_orders_in_one_thread_are_none() {
        let mut order = Order::default();
        assert_eq!(nest(&mut order, ONE, &[A, B]), None);
        assert_eq!(nest(&mut order, ONE, &[B, A]), None);
    }

    #[test]
    fn both_orders_behind_a_gate_are_none() {
        let mut order = Order::default();
        assert_eq!(nest(&mut order, ONE, &[GATE, A, B]), None);
        assert_eq!(nest(&mut order, TWO, &[GATE, B, A]), None);
        assert!(nest(&mut order, MAIN, &[B, A]).is_some(), "but who does not pass the gate inverts it");
    }

    #[test]
    fn what_was_over_before_the_other_began_is_none() {
        let mut order = Order::default();
        let before = order.fork(MAIN);
        order.follow(ONE, &before);
        assert_eq!(nest(&mut order, ONE, &[A, B]), None);
        let over = order.clock_of(ONE);
        order.ended(ONE);
        order.follow(MAIN, &over);
        assert_eq!(nest(&mut order, MAIN, &[B, A]), None, "joined");
        let before = order.fork(MAIN);
        order.follow(TWO, &before);
        assert_eq!(nest(&mut order, TWO, &[B, A]), None, "started after that");
    }

    #[test]
    fn what_was_done_before_a_start_is_none_and_after_it_is_one() {
        let mut order = Order::default();
        assert_eq!(nest(&mut order, MAIN, &[A, B]), None);
        let before = order.fork(MAIN);
        order.follow(ONE, &before);
        assert_eq!(nest(&mut order, ONE, &[B, A]), None);
        assert!(nest(&mut order, MAIN, &[A, B]).is_some());
    }

    #[test]
    fn a_lock_that_is_gone_is_forgotten() {
        let mut order = Order::default();
        assert_eq!(nest(&mut order, ONE, &[A, B]), None);
        order.forget(A);
        assert_eq!(nest(&mut order, TWO, &[B, A]), None);
        assert!(order.into.values().all(|from| !from.contains(&B)) || order.edges.contains_key(&B));
    }

    #[test]
    fn who_attempts_makes_no_edge_and_holds_what_it_got() {
        let mut order = Order::<()>::default();
        assert_eq!(nest(&mut order, ONE, &[A, B]), None);
        order.took(TWO, B, ());
        order.took(TWO, A, ()); // an attempt
        assert!(order.want(TWO, C, &()).is_none());
        order.released(TWO, A);
        order.released(TWO, B);
        assert!(nest(&mut order, ONE, &[C, A]).is_some(), "it held A when it wanted C");
    }
}
