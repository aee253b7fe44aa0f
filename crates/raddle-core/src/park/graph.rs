//! Who waits for what, and who could end it: edges in, circles out.
//!
//! # Vocabulary
//!
//! * **edge**: one unit waits for one thing. A unit that sleeps has one; a unit that runs has none.
//! * **enders** of a thing: the units that could end the wait for it (who holds the lock, who is to be joined, who runs the call or, before
//!   anybody does, the workers that might, or anyone at all). One of them is enough; for some things, such as a lock that many readers hold, it takes all.
//! * **circle**: a set of waiting units, the one that asks among them, out of which no edge leads: every ender of every one of them is
//!   one of them (one ender of it where it takes all). None will ever run again, and nobody outside could help. (In graphs where one ender is enough this is called a
//!   *knot*; Holt, "Some deadlock properties of computer systems", 1972. With one ender each it is a plain cycle.)
//!
//! # Rules
//!
//! 1. A unit enters its edge once it stands where it will be called, and takes it out before it acts on having been called.
//!    In between it takes nothing.
//! 2. Only the edges of waits without a deadline count, because the others end by themselves, and only until the unit is called.
//!    Whoever brings something calls before they do anything else.
//! 3. What a thing says about its enders is true at that moment, or errs on the side of more enders.
//! 4. The unit whose edge closes a circle finds it, and nobody else does: so it has one finder, at the moment at which it forms.
//!
//! # Why what is found is true
//!
//! The walk goes on under the mutex, so no unit of the circle can take its edge out meanwhile, and by rule 1 none of them acts. What
//! could end one of their waits is an act of one of them, done before it entered its own edge. Then it has called the one that
//! waits (rule 2), and the walk, which comes later, sees that and goes no further.
//!
//! # Locks that are released by others
//!
//! A plain lock may be released by any thread, and is, where it serves as a signal or a gate. So its holder is a *likely* ender, which
//! counts as anyone, until there is a reason to believe that it will release the lock itself: then it is a holder.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::life::UnitId;
use crate::prim::Mutex;

/// Who could end a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enders {
    /// One of these, and nobody else.
    Only(Vec<UnitId>),
    /// It takes every one of these; if there are none, it is about to end.
    All(Vec<UnitId>),
    /// The holder of a lock that nobody else can release, or would.
    Holder(UnitId),
    /// The holder of a lock that others, too, may release.
    Likely(UnitId),
    /// Nobody knows who.
    Anyone,
    /// Somebody of whom nothing is known here, such as another process: there is hope.
    Outside,
}

/// What units wait for.
pub trait Thing {
    /// Who could end a wait for it, at this moment.
    fn enders(&self) -> Enders;

    /// Whether the unit that waits has been called: it runs, even if it has not come out of its sleep yet.
    fn has_come(&self) -> bool;
}

/// One wait.
#[derive(Clone, Debug)]
pub struct Edge<T> {
    /// What for.
    pub thing: T,
    /// Whether it ends by itself some time.
    pub has_deadline: bool,
    /// Since when.
    pub since: Instant,
}

/// The edges.
#[derive(Debug)]
pub struct Graph<T> {
    edges: Mutex<HashMap<UnitId, Edge<T>>>,
}

/// Units that wait for each other, and what for.
#[derive(Clone, Debug)]
pub struct Circle<T> {
    /// The one that found it first; then in the order in which the walk met them. Where each has one ender, everyone waits for the next
    /// one, and the last for the first.
    pub units: Vec<(UnitId, T)>,
    /// Whether somebody in it waits for something that anyone could have ended: it is not a ring, but everybody is in it.
    pub is_everybody: bool,
}

impl<T> Default for Graph<T> {
    fn default() -> Self {
        Self { edges: Mutex::new(HashMap::new()) }
    }
}

/// What a look at the graph has come to.
#[derive(Clone, Debug)]
pub enum Sight<T> {
    /// Somebody runs, or will, who can end the wait.
    Hope,
    /// Nobody can.
    Circle(Circle<T>),
    /// It depends on who else there is than so many sleepers: find that out and [`look`](Graph::look) again.
    WhoElse(usize),
}

impl<T> Sight<T> {
    /// The circle, if there is one.
    pub fn circle(self) -> Option<Circle<T>> {
        match self {
            Self::Circle(circle) => Some(circle),
            Self::Hope | Self::WhoElse(_) => None,
        }
    }
}

impl<T: Thing + Clone> Graph<T> {
    /// Enters an edge, and looks whether it closes a circle. Returns also the edge that it had: of a wait in the middle of which it
    /// begins this one.
    pub fn enter(&self, unit: UnitId, edge: Edge<T>) -> (Option<Edge<T>>, Sight<T>) {
        let mut edges = self.edges.lock();
        let counts = !edge.has_deadline;
        let around = edges.insert(unit, edge);
        let sight = if counts { find(&edges, unit, None) } else { Sight::Hope };
        (around, sight)
    }

    /// Looks again from a unit that sleeps.
    pub fn look_around(&self, unit: UnitId) -> Sight<T> {
        find(&self.edges.lock(), unit, None)
    }

    /// Looks again, knowing `everybody`: all units that could end a wait which anyone could end.
    pub fn look(&self, unit: UnitId, everybody: &[UnitId]) -> Sight<T> {
        find(&self.edges.lock(), unit, Some(everybody))
    }

    /// Takes an edge out, and enters the one that it had before again.
    pub fn leave(&self, unit: UnitId, around: Option<Edge<T>>) {
        let mut edges = self.edges.lock();
        let edge = match around {
            Some(around) => edges.insert(unit, around),
            None => edges.remove(&unit),
        };
        drop(edges);
        drop(edge);
    }

    /// How many sleep without a deadline and have not been called, and one of them.
    pub fn sleepers(&self) -> (usize, Option<UnitId>) {
        let edges = self.edges.lock();
        let mut sleepers = edges.keys().copied().filter(|unit| sleeper(&edges, *unit).is_some());
        let first = sleepers.next();
        (usize::from(first.is_some()) + sleepers.count(), first)
    }

    /// What a unit waits for.
    pub fn edge_of(&self, unit: UnitId) -> Option<Edge<T>> {
        self.edges.lock().get(&unit).cloned()
    }
}

fn sleeper<T: Thing>(edges: &HashMap<UnitId, Edge<T>>, unit: UnitId) -> Option<&Edge<T>> {
    edges.get(&unit).filter(|edge| !edge.has_deadline && !edge.thing.has_come())
}

fn find<T: Thing + Clone>(edges: &HashMap<UnitId, Edge<T>>, me: UnitId, everybody: Option<&[UnitId]>) -> Sight<T> {
    knot(edges, me, everybody).unwrap_or_else(|| knot_of_all(edges, me, everybody))
}

/// All that can be reached from here, if all of it sleeps and this unit is reached again.
/// `None`: there is something in it that takes all of its enders.
fn knot<T: Thing + Clone>(
    edges: &HashMap<UnitId, Edge<T>>,
    me: UnitId,
    everybody: Option<&[UnitId]>,
) -> Option<Sight<T>> {
    let mut is_everybody = false;
    let mut units: Vec<(UnitId, T)> = Vec::new();
    let mut seen = HashSet::new();
    let mut next = vec![me];
    let mut is_back = false;
    while let Some(unit) = next.pop() {
        if !seen.insert(unit) {
            continue;
        }
        let Some(Edge { thing, .. }) = sleeper(edges, unit) else { return Some(Sight::Hope) };
        units.push((unit, thing.clone()));
        match thing.enders() {
            Enders::All(_) => return None,
            // Nobody can end it, whoever else there is.
            Enders::Only(enders) if enders.is_empty() => is_back |= unit == me,
            Enders::Only(enders) => {
                is_back |= enders.contains(&me);
                // The first one is walked first.
                next.extend(enders.into_iter().rev());
            }
            Enders::Holder(holder) => {
                is_back |= holder == me;
                next.push(holder);
            }
            Enders::Outside => return Some(Sight::Hope),
            Enders::Likely(_) | Enders::Anyone if is_everybody => is_back = true,
            Enders::Likely(_) | Enders::Anyone => {
                is_everybody = true;
                let everybody = everybody.unwrap_or_default();
                is_back |= everybody.contains(&me);
                next.extend(everybody.iter().rev());
            }
        }
    }
    Some(match (is_back, is_everybody && everybody.is_none()) {
        (_, true) => who_else(edges),
        (true, _) => Sight::Circle(Circle { units, is_everybody }),
        (false, _) => Sight::Hope,
    })
}

fn who_else<T: Thing>(edges: &HashMap<UnitId, Edge<T>>) -> Sight<T> {
    Sight::WhoElse(edges.values().filter(|edge| !edge.has_deadline && !edge.thing.has_come()).count())
}

/// A sleeper, as the search for knots with things that take all of their enders sees it.
struct Node<T> {
    thing: T,
    enders: Vec<UnitId>,
    takes_all: bool,
    is_anyone: bool,
}

/// The same where some things take all of their enders: a unit is *stuck* if it sleeps, and all of its enders are stuck, or one of them where
/// it takes all. That is found by taking away, again and again, who is not.
fn knot_of_all<T: Thing + Clone>(
    edges: &HashMap<UnitId, Edge<T>>,
    me: UnitId,
    everybody: Option<&[UnitId]>,
) -> Sight<T> {
    let mut nodes: HashMap<UnitId, Node<T>> = HashMap::new();
    let mut next = vec![me];
    while let Some(unit) = next.pop() {
        let Some(Edge { thing, .. }) = sleeper(edges, unit).filter(|_| !nodes.contains_key(&unit)) else { continue };
        let (enders, takes_all, is_anyone) = match thing.enders() {
            Enders::Outside => continue, // it is not stuck
            Enders::Only(enders) => (enders, false, false),
            Enders::All(enders) => (enders, true, false),
            Enders::Holder(holder) => (vec![holder], false, false),
            Enders::Likely(_) | Enders::Anyone => (everybody.unwrap_or_default().to_vec(), false, true),
        };
        next.extend(&enders);
        nodes.insert(unit, Node { thing: thing.clone(), enders, takes_all, is_anyone });
    }
    let stuck = |anyone_helps: bool| {
        let mut stuck: HashSet<UnitId> = nodes.keys().copied().collect();
        loop {
            let is_free = |unit: &&UnitId| {
                let node = &nodes[unit];
                if node.takes_all {
                    node.enders.iter().all(|ender| !stuck.contains(ender))
                } else {
                    (anyone_helps && node.is_anyone) || node.enders.iter().any(|ender| !stuck.contains(ender))
                }
            };
            let free: Vec<UnitId> = stuck.iter().filter(is_free).copied().collect();
            if free.is_empty() {
                return stuck;
            }
            free.iter().for_each(|unit| _ = stuck.remove(unit));
        }
    };
    let mut found = stuck(everybody.is_none());
    if !found.contains(&me) {
        // Without knowing who else there is: might it be a circle?
        return if everybody.is_none() && stuck(false).contains(&me) { who_else(edges) } else { Sight::Hope };
    }
    // Of several enders that are stuck where it takes all, one tells the story: the first from which a way leads back.
    let leads_back = {
        let mut back = HashSet::from([me]);
        loop {
            let more: Vec<UnitId> = found
                .iter()
                .filter(|unit| !back.contains(unit) && nodes[unit].enders.iter().any(|ender| back.contains(ender)))
                .copied()
                .collect();
            if more.is_empty() {
                break back;
            }
            back.extend(more);
        }
    };
    let (mut units, mut next) = (Vec::new(), vec![me]);
    let (mut is_back, mut is_everybody) = (false, false);
    while let Some(unit) = next.pop() {
        if !found.remove(&unit) {
            is_back |= unit == me;
            continue;
        }
        let node = &nodes[&unit];
        units.push((unit, node.thing.clone()));
        is_everybody |= node.is_anyone;
        is_back |= node.enders.contains(&me) || (unit == me && node.enders.is_empty());
        if node.takes_all {
            let one = node.enders.iter().find(|ender| leads_back.contains(ender));
            let any = || node.enders.iter().find(|ender| found.contains(ender));
            next.extend(one.or_else(any));
        } else {
            next.extend(node.enders.iter().rev());
        }
    }
    if is_back { Sight::Circle(Circle { units, is_everybody }) } else { Sight::Hope }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Fixed(Enders);

    impl Thing for Fixed {
        fn enders(&self) -> Enders {
            self.0.clone()
        }

        fn has_come(&self) -> bool {
            false
        }
    }

    fn only(units: &[u64]) -> Enders {
        Enders::Only(units.iter().copied().map(UnitId).collect())
    }

    fn holder(unit: u64) -> Enders {
        Enders::Holder(UnitId(unit))
    }

    fn likely(unit: u64) -> Enders {
        Enders::Likely(UnitId(unit))
    }

    fn edge(enders: Enders) -> Edge<Fixed> {
        Edge { thing: Fixed(enders), has_deadline: false, since: Instant::now() }
    }

    /// Enters the edges one after the other; units are numbered from 1. Returns the units of each circle found on the way.
    fn enter(edges: &[Enders], everybody: Option<u64>) -> Vec<Vec<u64>> {
        let graph = Graph::default();
        let mut found = Vec::new();
        for (number, enders) in (1..).zip(edges) {
            let unit = UnitId(number);
            let sight = match (graph.enter(unit, edge(enders.clone())).1, everybody) {
                (Sight::WhoElse(_), Some(most)) => graph.look(unit, &(1..=most).map(UnitId).collect::<Vec<_>>()),
                (sight, _) => sight,
            };
            found.extend(sight.circle().map(|circle| circle.units.iter().map(|(unit, _)| unit.0).collect()));
        }
        found
    }

    #[test]
    fn a_ring_is_found_by_the_one_who_closes_it_once() {
        assert_eq!(enter(&[holder(2), holder(3), holder(1)], None), [[3, 1, 2]]);
        assert_eq!(enter(&[only(&[2]), holder(1)], None), [[2, 1]]);
    }

    #[test]
    fn who_waits_for_a_ring_is_not_in_it() {
        assert_eq!(enter(&[holder(2), holder(1), holder(1)], None), [[2, 1]]);
    }

    #[test]
    fn one_ender_that_runs_is_enough() {
        assert!(enter(&[only(&[2, 3]), only(&[1])], None).is_empty());
        assert_eq!(enter(&[only(&[2, 3]), only(&[1]), only(&[1])], None).len(), 1);
    }

    #[test]
    fn a_call_that_waits_is_hopeless_when_all_workers_of_its_pool_are_in_the_circle() {
        // Units 2 and 3 are a pool.
        assert!(enter(&[only(&[2, 3]), holder(1)], None).is_empty(), "3 runs, and may begin it");
        assert_eq!(enter(&[only(&[2, 3]), holder(1), holder(1)], None), [[3, 1, 2]]);
        assert_eq!(
            enter(&[only(&[4, 5]), only(&[1]), only(&[1]), only(&[2, 3]), only(&[2, 3])], None),
            [[5, 2, 1, 4, 3]]
        );
        assert_eq!(enter(&[only(&[1, 2]), only(&[1, 2])], None), [[2, 1]], "a pool that waits for itself");
        assert!(enter(&[only(&[1, 2]), Enders::Outside], None).is_empty(), "one that waits for another process");
    }

    #[test]
    fn a_lock_that_serves_as_a_signal_is_no_circle() {
        assert!(enter(&[likely(2), likely(1)], None).is_empty(), "gates that a third one opens");
        assert!(enter(&[likely(1)], None).is_empty(), "taken twice, to be released by another");
        assert!(enter(&[only(&[2]), likely(1)], None).is_empty(), "joined by the one who took the lock first");
        assert_eq!(enter(&[likely(1)], Some(1)).len(), 1, "but nobody else is there");
    }

    fn all(units: &[u64]) -> Enders {
        Enders::All(units.iter().copied().map(UnitId).collect())
    }

    #[test]
    fn where_it_takes_all_one_that_waits_back_is_a_ring() {
        assert_eq!(enter(&[holder(2), all(&[1])], None), [[2, 1]]);
        assert_eq!(enter(&[holder(2), all(&[3, 1])], None), [[2, 1]], "although the third runs");
        assert_eq!(enter(&[all(&[3, 2]), holder(1)], None), [[2, 1]]);
        assert_eq!(enter(&[all(&[2]), all(&[3]), all(&[1, 4])], None), [[3, 1, 2]]);
    }

    #[test]
    fn where_it_takes_all_and_all_run_there_is_hope() {
        assert!(enter(&[all(&[2, 3]), holder(3)], None).is_empty());
        assert!(enter(&[all(&[])], None).is_empty(), "it is about to end");
        assert!(enter(&[all(&[2]), only(&[1, 3])], None).is_empty(), "one ender of the second runs");
    }

    #[test]
    fn who_waits_for_one_of_a_ring_that_was_found_is_not_in_it() {
        assert_eq!(enter(&[holder(2), all(&[1]), all(&[4, 1])], None), [[2, 1]]);
    }

    #[test]
    fn where_it_takes_all_somebody_who_waits_for_anyone_depends_on_everybody() {
        assert!(enter(&[Enders::Anyone, all(&[1])], Some(3)).is_empty());
        assert_eq!(enter(&[Enders::Anyone, all(&[1])], Some(2)).len(), 1);
        assert!(enter(&[Enders::Anyone, all(&[1])], None).is_empty());
        assert_eq!(enter(&[Enders::Anyone, holder(3), all(&[1, 2])], None), [[3, 2]], "whatever anyone does");
    }

    #[test]
    fn a_lock_taken_twice_by_its_owner_is_one() {
        assert_eq!(enter(&[holder(1)], None), [[1]]);
    }

    #[test]
    fn what_anyone_could_end_is_a_circle_when_everybody_sleeps() {
        assert!(enter(&[Enders::Anyone, Enders::Anyone], Some(3)).is_empty());
        assert!(enter(&[Enders::Anyone, Enders::Anyone], None).is_empty());
        assert_eq!(enter(&[Enders::Anyone, only(&[1])], Some(2)).len(), 1);
    }

    #[test]
    fn what_another_process_could_end_is_never_one() {
        assert!(enter(&[Enders::Outside], Some(1)).is_empty());
        assert!(enter(&[Enders::Outside, Enders::Anyone, only(&[1])], Some(3)).is_empty());
    }

    #[test]
    fn a_deadline_breaks_it() {
        let graph = Graph::default();
        graph.enter(UnitId(1), Edge { has_deadline: true, ..edge(holder(2)) });
        assert!(graph.enter(UnitId(2), edge(holder(1))).1.circle().is_none());
        graph.leave(UnitId(1), None);
        assert!(graph.enter(UnitId(1), edge(holder(2))).1.circle().is_some());
    }

    #[test]
    fn an_edge_that_was_taken_out_is_none() {
        let graph = Graph::default();
        assert!(graph.enter(UnitId(1), edge(holder(2))).1.circle().is_none());
        graph.leave(UnitId(1), None);
        assert!(graph.enter(UnitId(2), edge(holder(1))).1.circle().is_none());
    }
}
