//! Locks that are taken in opposite orders, or around a circle: what can become a deadlock, in a run where it did not.
//!
//! Each pair *(held, taken)* of a thread is an edge. A circle of edges is told if each is another thread's, and if all of them could have been there at
//! the same moment. Suppressed are circles in which two edges have another lock in common that was held meanwhile (a gate), and circles of
//! threads of which one had ended before the other began (Bensalem and Havelund, *Scalable dynamic deadlock analysis of multi-threaded programs*, 2005).
//! Of circles through the same locks the shortest is told, once.

use std::collections::HashMap;

use super::read::Order;

/// The most edges of a circle that is looked for.
const LONGEST: usize = 8;

/// The most edges that are looked at to find circles of more than two: where locks are many, there are more ways than time.
const MOST_STEPS: usize = 1 << 17;

/// Circles of edges, each in the order in which it is walked.
pub(super) fn circles(orders: &[Order], could_meet: impl Fn(&Order, &Order) -> bool) -> Vec<Vec<&Order>> {
    let fit = |one: &Order, other: &Order| {
        one.thread != other.thread
            && !one.gates.iter().any(|gate| *gate == other.held || other.gates.contains(gate))
            && !other.gates.contains(&one.held)
            && could_meet(one, other)
    };
    let mut found = pairs(orders, &fit);
    let mut from: HashMap<u32, Vec<&Order>> = HashMap::new();
    for order in orders {
        from.entry(order.held).or_default().push(order);
    }
    let mut starts: Vec<u32> = from.keys().copied().collect();
    starts.sort_unstable();
    let mut search = Search { from: &from, fit: &fit, steps: 0, length: 0, found: &mut found };
    for length in 3..=LONGEST {
        search.length = length;
        for start in &starts {
            for first in search.from.get(start).into_iter().flatten().filter(|first| first.taken > *start) {
                search.walk(&mut vec![first]);
            }
        }
    }
    found
}

/// Circles of two.
fn pairs<'a>(orders: &'a [Order], fit: &dyn Fn(&Order, &Order) -> bool) -> Vec<Vec<&'a Order>> {
    let mut edges: HashMap<(u32, u32), Vec<&Order>> = HashMap::new();
    for order in orders {
        edges.entry((order.held, order.taken)).or_default().push(order);
    }
    let mut pairs: Vec<_> = edges.keys().copied().filter(|(held, taken)| held < taken).collect();
    pairs.sort_unstable();
    let first_of = |(held, taken): (u32, u32)| {
        let back = edges.get(&(taken, held))?;
        let there = edges.get(&(held, taken))?;
        there.iter().flat_map(|one| back.iter().map(move |other| (*one, *other))).find(|(one, other)| fit(one, other))
    };
    pairs.into_iter().filter_map(first_of).map(|(one, other)| vec![one, other]).collect()
}

/// A search for circles of a certain length, each from its lock with the smallest number.
struct Search<'a, 'b> {
    from: &'b HashMap<u32, Vec<&'a Order>>,
    fit: &'b dyn Fn(&Order, &Order) -> bool,
    steps: usize,
    length: usize,
    found: &'b mut Vec<Vec<&'a Order>>,
}

impl<'a> Search<'a, '_> {
    /// Goes on from where a way ends. Says whether it has led around.
    fn walk(&mut self, way: &mut Vec<&'a Order>) -> bool {
        let start = way[0].held;
        let Some(nexts) = self.from.get(&way[way.len() - 1].taken) else { return false };
        let is_last = way.len() + 1 == self.length;
        for next in nexts {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return false;
            }
            let leads_on = if is_last {
                next.taken == start
            } else {
                next.taken > start && way.iter().all(|order| order.taken != next.taken)
            };
            if !leads_on || !way.iter().all(|order| (self.fit)(order, next)) {
                continue;
            }
            way.push(next);
            let has_closed = if is_last { self.close(way) } else { self.walk(way) };
            way.pop();
            if has_closed {
                return true;
            }
        }
        false
    }

    /// Keeps a circle, unless one through some of the same locks is known. Says whether it is new.
    fn close(&mut self, way: &[&'a Order]) -> bool {
        let is_new =
            !self.found.iter().any(|known| known.iter().all(|edge| way.iter().any(|other| other.held == edge.held)));
        if is_new {
            self.found.push(way.to_vec());
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(held: u32, taken: u32, thread: u32, gates: &[u32]) -> Order {
        Order { held, taken, thread, gates: gates.to_vec(), ..Order::default() }
    }

    #[test]
    fn a_circle_of_two_threads_is_told_once() {
        let orders = [edge(1, 2, 7, &[]), edge(2, 1, 8, &[]), edge(1, 2, 9, &[])];
        assert_eq!(circles(&orders, |_, _| true), [[&orders[0], &orders[1]]]);
    }

    #[test]
    fn what_cannot_happen_is_not_told() {
        let alone = [edge(1, 2, 7, &[]), edge(2, 1, 7, &[])];
        assert!(circles(&alone, |_, _| true).is_empty());
        let gated = [edge(1, 2, 7, &[5]), edge(2, 1, 8, &[4, 5])];
        assert!(circles(&gated, |_, _| true).is_empty());
        let apart = [edge(1, 2, 7, &[]), edge(2, 1, 8, &[])];
        assert!(circles(&apart, |_, _| false).is_empty());
    }

    #[test]
    fn a_circle_through_many_locks_is_told_once() {
        let table = |seats: u32| -> Vec<Order> {
            (0..seats).map(|seat| edge(seat + 1, (seat + 1) % seats + 1, 20 + seat, &[])).collect()
        };
        for seats in 3..=LONGEST as u32 {
            let mut orders = table(seats);
            orders.push(edge(1, 2, 50, &[])); // somebody else goes the same way
            let found = circles(&orders, |_, _| true);
            assert_eq!(found, [orders[..seats as usize].iter().collect::<Vec<_>>()]);
        }
        assert!(circles(&table(LONGEST as u32 + 1), |_, _| true).is_empty());
    }

    #[test]
    fn who_takes_them_the_other_way_round_breaks_the_circle() {
        let mut orders: Vec<Order> = (1..5).map(|seat| edge(seat, seat + 1, seat, &[])).collect();
        orders.push(edge(1, 5, 5, &[]));
        assert!(circles(&orders, |_, _| true).is_empty());
    }

    #[test]
    fn the_longer_of_two_circles_is_not_told_besides() {
        let orders = [edge(1, 2, 1, &[]), edge(2, 3, 2, &[]), edge(3, 1, 3, &[]), edge(2, 1, 4, &[])];
        assert_eq!(circles(&orders, |_, _| true), [[&orders[0], &orders[3]]]);
    }

    #[test]
    fn a_longer_circle_cannot_close_either_by_one_thread_or_through_a_gate() {
        let one = [edge(1, 2, 1, &[]), edge(2, 3, 2, &[]), edge(3, 1, 1, &[])];
        assert!(circles(&one, |_, _| true).is_empty());
        let gate = [edge(1, 2, 1, &[9]), edge(2, 3, 2, &[]), edge(3, 1, 3, &[9])];
        assert!(circles(&gate, |_, _| true).is_empty());
        // The third thread holds what the first one needs to be where it is.
        let held = [edge(1, 2, 1, &[]), edge(2, 3, 2, &[]), edge(3, 1, 3, &[1, 2])];
        assert!(circles(&held, |_, _| true).is_empty());
    }

    #[test]
    fn many_locks_in_many_orders_are_gone_through_in_bounded_time() {
        let all = (0..40).flat_map(|held| (0..40).map(move |taken| (held, taken))).filter(|(held, taken)| held < taken);
        let orders: Vec<Order> =
            all.flat_map(|(held, taken)| (0..8).map(move |thread| edge(held, taken, thread, &[]))).collect();
        assert!(circles(&orders, |_, _| true).is_empty());
    }
}
