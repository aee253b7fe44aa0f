//! Locks that are taken in opposite orders, or around a circle: what can become a deadlock, in a run where it did not.
//!
//! Each pair *(held, taken)* of a thread is an edge. A circle of edges is told if each is another thread's, and if all of them could have been there at
//! the same moment. Suppressed are circles in which two edges have another lock in common that was held meanwhile (a gate), and circles of
//! threads of which one had ended before the other began (Bensalem and Havelund, *Scalable dynamic deadlock analysis of multi-threaded programs*, 2005).
//! And those in which threads have more permits of a semaphore than it has, as when philosophers are one fewer at the table than there are seats.
//!
//! # Rules
//!
//! 1. Of circles through the same locks the shortest is told, once: none is told that goes through all locks of another one.
//! 2. Circles lie within strongly connected components: locks that are always taken in the same order, however many, cost nothing.
//! 3. From each lock, only those ways are followed that are short enough to come back to it. If there are more than can be gone through in the time there is,
//!    components with few edges have been gone through first, and it is said that something is left.

use std::collections::{HashMap, HashSet, VecDeque};

use super::components::components;
use super::read::Order;

/// The most edges of a circle that is looked for.
const LONGEST: usize = 8;

/// The most edges that are looked at (rule 3), to find circles of two, and to find longer ones. In a component with many locks there are more ways than time.
const MOST_STEPS: usize = 1 << 20;

/// And of those between two locks: others are to have their turn, too.
const MOST_OF_PAIR: usize = MOST_STEPS / 16;

/// What was found.
#[derive(Debug)]
pub(super) struct Circles<'a> {
    /// Circles of edges, each in the order in which it is walked.
    pub(super) found: Vec<Vec<&'a Order>>,
    /// Whether all that could be circles was gone through.
    pub(super) is_whole: bool,
    /// Whether there are others, through locks of which it is not told.
    pub(super) is_left_out: bool,
}

/// Looks for circles.
pub(super) fn circles<'a>(
    orders: impl Iterator<Item = &'a Order> + Clone,
    could_meet: impl Fn(&Order, &Order) -> bool,
    is_limit: impl Fn(u32) -> bool,
) -> Circles<'a> {
    let fit = |one: &Order, other: &Order| {
        one.thread != other.thread
            && !one.gates.iter().any(|gate| *gate == other.held || other.gates.contains(gate))
            && !other.gates.contains(&one.held)
            && could_meet(one, other)
    };
    let mut leads_to: HashMap<u32, HashSet<u32>> = HashMap::new();
    let orders = orders.filter(|order| order.held != order.taken);
    for order in orders.clone() {
        leads_to.entry(order.held).or_default().insert(order.taken);
    }
    let leads_to = leads_to.into_iter().map(|(held, taken)| (held, taken.into_iter().collect())).collect();
    let components = components(&leads_to);
    let component_of: HashMap<u32, usize> =
        components.iter().zip(0..).flat_map(|(locks, index)| locks.iter().map(move |lock| (*lock, index))).collect();
    let mut inside: Vec<Vec<&Order>> = vec![Vec::new(); components.len()];
    for order in orders {
        if let Some(index) =
            component_of.get(&order.held).filter(|index| component_of.get(&order.taken) == Some(*index))
        {
            inside[*index].push(order);
        }
    }
    inside.sort_by_key(Vec::len);
    let mut search = Search {
        fit: &fit,
        is_limit: &is_limit,
        from: HashMap::new(),
        back: HashMap::new(),
        distance: HashMap::new(),
        steps: 0,
        is_cut: false,
        length: 0,
        through: HashMap::new(),
        found: Vec::new(),
    };
    inside.iter().for_each(|orders| search.pairs(orders));
    let mut is_whole = search.steps <= MOST_STEPS;
    search.steps = 0;
    inside.iter().for_each(|orders| search.longer(orders));
    is_whole &= search.steps <= MOST_STEPS && !search.is_cut;
    Circles { found: search.found, is_whole, is_left_out: false }
}

/// A search for circles, each from its lock with the smallest number.
struct Search<'a, 'b> {
    fit: &'b dyn Fn(&Order, &Order) -> bool,
    /// Whether of a semaphore no more threads have permits than it has.
    is_limit: &'b dyn Fn(u32) -> bool,
    /// Of the component: the edges from each lock, and the locks from which one leads to each.
    from: HashMap<u32, Vec<&'a Order>>,
    back: HashMap<u32, HashSet<u32>>,
    /// By how many edges a lock is from the one where the search has begun.
    distance: HashMap<u32, usize>,
    steps: usize,
    /// Whether there are ways between two locks that were not gone through.
    is_cut: bool,
    /// How long a circle is looked for.
    length: usize,
    /// Which circles lead through a lock.
    through: HashMap<u32, Vec<usize>>,
    found: Vec<Vec<&'a Order>>,
}

impl<'a> Search<'a, '_> {
    /// Circles of two.
    fn pairs(&mut self, orders: &[&'a Order]) {
        let mut edges: HashMap<(u32, u32), Vec<&'a Order>> = HashMap::new();
        for order in orders {
            edges.entry((order.held, order.taken)).or_default().push(order);
        }
        let mut pairs: Vec<_> = edges.keys().copied().filter(|(held, taken)| held < taken).collect();
        pairs.sort_unstable();
        for (held, taken) in pairs {
            let (Some(there), Some(back)) = (edges.get(&(held, taken)), edges.get(&(taken, held))) else { continue };
            let mut ways = there.iter().flat_map(|one| back.iter().map(|other| (*one, *other)));
            let mut steps = 0;
            let circle = ways.find(|(one, other)| {
                self.steps += 1;
                steps += 1;
                self.steps > MOST_STEPS
                    || steps > MOST_OF_PAIR
                    || (self.fit)(one, other) && self.has_permits(&[one, other])
            });
            self.is_cut |= steps > MOST_OF_PAIR;
            if self.steps > MOST_STEPS {
                return;
            }
            if let Some((one, other)) = circle.filter(|_| steps <= MOST_OF_PAIR) {
                self.keep(&[one, other]);
            }
        }
    }

    /// Circles of more than two.
    fn longer(&mut self, orders: &[&'a Order]) {
        (self.from, self.back) = (HashMap::new(), HashMap::new());
        for order in orders {
            self.from.entry(order.held).or_default().push(order);
            self.back.entry(order.taken).or_default().insert(order.held);
        }
        let mut starts: Vec<u32> = self.from.keys().copied().collect();
        starts.sort_unstable();
        for length in 3..=LONGEST.min(starts.len()) {
            self.length = length;
            for start in &starts {
                self.measure(*start);
                for at in 0..self.from.get(start).map_or(0, Vec::len) {
                    let first = self.from[start][at];
                    if self.leads_back(first, 1) && !self.is_known(&[first]) {
                        self.walk(&mut vec![first]);
                    }
                }
                if self.steps > MOST_STEPS {
                    return;
                }
            }
        }
    }

    /// How far it is to a lock from those with greater numbers, as far as a circle can be.
    fn measure(&mut self, start: u32) {
        self.distance.clear();
        let mut next = VecDeque::from([(start, 0)]);
        while let Some((lock, distance)) = next.pop_front() {
            for before in self.back.get(&lock).into_iter().flatten().filter(|before| **before > start) {
                self.steps += 1;
                if distance + 1 < self.length && !self.distance.contains_key(before) {
                    self.distance.insert(*before, distance + 1);
                    next.push_back((*before, distance + 1));
                }
            }
        }
    }

    /// Whether a way of so many edges, of which this is the last, can become a circle.
    fn leads_back(&self, last: &Order, edges: usize) -> bool {
        self.distance.get(&last.taken).is_some_and(|distance| edges + distance <= self.length)
    }

    /// Goes on from where a way ends.
    fn walk(&mut self, way: &mut Vec<&'a Order>) {
        let (start, end) = (way[0].held, way[way.len() - 1].taken);
        let is_last = way.len() + 1 == self.length;
        for at in 0..self.from.get(&end).map_or(0, Vec::len) {
            let next = self.from[&end][at];
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return;
            }
            let leads_on = if is_last {
                next.taken == start
            } else {
                self.leads_back(next, way.len() + 1) && way.iter().all(|order| order.taken != next.taken)
            };
            if !leads_on || !way.iter().all(|order| (self.fit)(order, next)) {
                continue;
            }
            way.push(next);
            if !is_last {
                if !self.is_known(way) {
                    self.walk(way);
                }
                way.pop();
                continue;
            }
            let has_permits = self.has_permits(way);
            if has_permits {
                self.keep(way);
            }
            way.pop();
            if has_permits {
                return; // others go the same way
            }
        }
    }

    /// Whether there are permits enough for all of a circle. A semaphore that somebody waits for while holding a lock of the circle limits nothing: that is a
    /// way round of its own.
    fn has_permits(&self, circle: &[&Order]) -> bool {
        let all = || circle.iter().flat_map(|order| &order.permits);
        all().filter(|permits| (self.is_limit)(permits.semaphore)).all(|limit| {
            let of_it = || all().filter(|permits| permits.semaphore == limit.semaphore).map(|permits| permits.count);
            of_it().any(|count| count == 0) || of_it().map(u32::from).sum::<u32>() <= u32::from(limit.of)
        })
    }

    /// Whether a circle that is known leads through the end of a way and otherwise only through what the way does (rule 1).
    fn is_known(&self, way: &[&'a Order]) -> bool {
        let Some(through) = self.through.get(&way[way.len() - 1].taken) else { return false };
        let is_on_way = |lock: u32| way[0].held == lock || way.iter().any(|order| order.taken == lock);
        through.iter().any(|known| self.found[*known].iter().all(|edge| is_on_way(edge.held)))
    }

    fn keep(&mut self, way: &[&'a Order]) {
        for edge in way {
            self.through.entry(edge.held).or_default().push(self.found.len());
        }
        self.found.push(way.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::Permits;
    use super::*;

    fn edge(held: u32, taken: u32, thread: u32, gates: &[u32]) -> Order {
        Order { held, taken, thread, gates: gates.to_vec(), ..Order::default() }
    }

    /// The circles of a search that was not cut short.
    fn found(orders: &[Order]) -> Vec<Vec<&Order>> {
        let circles = circles(orders.iter(), |_, _| true, |_| true);
        assert!(circles.is_whole);
        circles.found
    }

    #[test]
    fn a_circle_of_two_threads_is_told_once() {
        let orders = [edge(1, 2, 7, &[]), edge(2, 1, 8, &[]), edge(1, 2, 9, &[])];
        assert_eq!(found(&orders), [[&orders[0], &orders[1]]]);
    }

    #[test]
    fn what_cannot_happen_is_not_told() {
        let alone = [edge(1, 2, 7, &[]), edge(2, 1, 7, &[])];
        assert!(found(&alone).is_empty());
        let gated = [edge(1, 2, 7, &[5]), edge(2, 1, 8, &[4, 5])];
        assert!(found(&gated).is_empty());
        let apart = [edge(1, 2, 7, &[]), edge(2, 1, 8, &[])];
        assert!(circles(apart.iter(), |_, _| false, |_| true).found.is_empty());
    }

    #[test]
    fn of_those_with_a_permit_there_are_no_more_than_permits() {
        let permits =
            |count, of| vec![Permits { semaphore: 90, count: 1, of: 1000 }, Permits { semaphore: 99, count, of }];
        let seated = |count: u16, of: u16| -> Vec<Order> {
            let seats = (0..4).map(|seat| edge(seat + 1, (seat + 1) % 4 + 1, 20 + seat, &[]));
            seats.map(|edge| Order { permits: permits(count, of), ..edge }).collect()
        };
        for (count, of, is_told) in [(1, 1, false), (1, 3, false), (1, 4, true), (2, 6, false), (2, 8, true)] {
            assert_eq!(found(&seated(count, of)).len(), usize::from(is_told), "{count} each of {of} permits for four");
        }
        // One who takes no permit can be there besides.
        let mut orders = seated(1, 3);
        orders[2].permits.clear();
        assert_eq!(found(&orders).len(), 1);
        // Nor does it limit anybody where one has waited for a permit while holding what another one waits for.
        let mut orders = seated(1, 1);
        orders[2].permits[1].count = 0;
        assert_eq!(found(&orders).len(), 1);
        // What is there for signals limits nothing.
        assert_eq!(circles(seated(1, 3).iter(), |_, _| true, |semaphore| semaphore != 99).found.len(), 1);
        let both = [edge(1, 2, 7, &[]), edge(2, 1, 8, &[])].map(|edge| Order { permits: permits(1, 1), ..edge });
        assert!(found(&both).is_empty());
    }

    #[test]
    fn a_circle_through_many_locks_is_told_once() {
        let table = |seats: u32| -> Vec<Order> {
            (0..seats).map(|seat| edge(seat + 1, (seat + 1) % seats + 1, 20 + seat, &[])).collect()
        };
        for seats in 3..=LONGEST as u32 {
            let mut orders = table(seats);
            orders.push(edge(1, 2, 50, &[])); // somebody else goes the same way
            let found = found(&orders);
            assert_eq!(found, [orders[..seats as usize].iter().collect::<Vec<_>>()]);
        }
        assert!(found(&table(LONGEST as u32 + 1)).is_empty());
    }

    #[test]
    fn who_takes_them_the_other_way_round_breaks_the_circle() {
        let mut orders: Vec<Order> = (1..5).map(|seat| edge(seat, seat + 1, seat, &[])).collect();
        orders.push(edge(1, 5, 5, &[]));
        assert!(found(&orders).is_empty());
    }

    #[test]
    fn the_longer_of_two_circles_is_not_told_besides() {
        let orders = [edge(1, 2, 1, &[]), edge(2, 3, 2, &[]), edge(3, 1, 3, &[]), edge(2, 1, 4, &[])];
        assert_eq!(found(&orders), [[&orders[0], &orders[3]]]);
    }

    #[test]
    fn a_longer_circle_cannot_close_either_by_one_thread_or_through_a_gate() {
        let one = [edge(1, 2, 1, &[]), edge(2, 3, 2, &[]), edge(3, 1, 1, &[])];
        assert!(found(&one).is_empty());
        let gate = [edge(1, 2, 1, &[9]), edge(2, 3, 2, &[]), edge(3, 1, 3, &[9])];
        assert!(found(&gate).is_empty());
        // The third thread holds what the first one needs to be where it is.
        let held = [edge(1, 2, 1, &[]), edge(2, 3, 2, &[]), edge(3, 1, 3, &[1, 2])];
        assert!(found(&held).is_empty());
    }

    /// So many locks, taken in the same order by eight threads.
    fn in_order(locks: u32) -> Vec<Order> {
        let pairs = (0..locks).flat_map(|held| (held + 1..locks).map(move |taken| (held, taken)));
        pairs.flat_map(|(held, taken)| (0..8).map(move |thread| edge(held, taken, thread, &[]))).collect()
    }

    #[test]
    fn circles_that_share_an_edge_are_told_each() {
        let orders =
            [edge(1, 2, 1, &[]), edge(2, 3, 2, &[]), edge(3, 1, 3, &[]), edge(2, 4, 4, &[]), edge(4, 1, 5, &[])];
        let [ab, bc, ca, bd, da] = &orders;
        assert_eq!(found(&orders), [[ab, bc, ca], [ab, bd, da]]);
    }

    #[test]
    fn each_set_of_locks_is_told_once() {
        let both_ways = [(1, 2), (2, 3), (3, 1), (2, 1), (3, 2), (1, 3)];
        // By three threads the one way round and by three others the other way, but no two locks in both orders at a time.
        let orders: Vec<Order> =
            both_ways.into_iter().zip(0..).map(|((a, b), thread)| edge(a, b, thread, &[])).collect();
        let round = |one: &Order, other: &Order| (one.thread < 3) == (other.thread < 3);
        assert_eq!(circles(orders.iter(), round, |_| true).found.len(), 1);
    }

    #[test]
    fn many_locks_in_the_same_order_hide_no_circle() {
        let mut orders = in_order(40);
        orders.extend([edge(100, 101, 20, &[]), edge(101, 102, 21, &[]), edge(102, 100, 22, &[])]);
        let ring: Vec<&Order> = orders[orders.len() - 3..].iter().collect();
        assert_eq!(found(&orders), [ring]);
        // Nor where the circle hangs together with all the others.
        let mut orders = in_order(40);
        orders.extend([edge(39, 100, 20, &[]), edge(100, 0, 21, &[])]);
        let circles = circles(orders.iter(), |_, _| true, |_| true).found;
        assert_eq!(circles[0].iter().map(|order| order.held).collect::<Vec<_>>(), [0, 39, 100]);
    }

    #[test]
    fn a_search_that_was_cut_short_says_so() {
        let mut orders = in_order(40);
        // It closes more circles than can be counted, and nobody can be there when somebody else is.
        orders.push(edge(39, 0, 20, &[]));
        let circles = circles(orders.iter(), |one, other| one.thread != 20 && other.thread != 20, |_| true);
        assert!(circles.found.is_empty() && !circles.is_whole);
    }

    #[test]
    fn many_locks_in_many_orders_are_gone_through_in_bounded_time() {
        let orders = in_order(40);
        assert!(found(&orders).is_empty());
    }
}
