//! Locks that are taken in opposite orders: what can become a deadlock, in a run where it did not.
//!
//! Each pair *(held, taken)* of a thread is an edge; a circle of two edges is told if the two threads could have been there at the same moment. Suppressed
//! are circles of one thread alone, circles whose edges have another lock in common that was held meanwhile (a gate), and circles of
//! threads of which one had ended before the other began (Bensalem and Havelund, *Scalable dynamic deadlock analysis of multi-threaded programs*, 2005).

use std::collections::HashMap;

use super::read::Order;

/// Two edges that form a circle.
pub(super) fn circles(orders: &[Order], could_meet: impl Fn(&Order, &Order) -> bool) -> Vec<(&Order, &Order)> {
    let mut edges: HashMap<(u32, u32), Vec<&Order>> = HashMap::new();
    for order in orders {
        edges.entry((order.held, order.taken)).or_default().push(order);
    }
    let mut found = Vec::new();
    let mut pairs: Vec<_> = edges.keys().copied().filter(|(held, taken)| held < taken).collect();
    pairs.sort_unstable();
    for (held, taken) in pairs {
        let Some(back) = edges.get(&(taken, held)) else { continue };
        let there = edges.get(&(held, taken)).into_iter().flatten().copied();
        let is_circle = |one: &Order, other: &Order| {
            one.thread != other.thread
                && !one.gates.iter().any(|gate| other.gates.contains(gate))
                && could_meet(one, other)
        };
        let pair = there
            .flat_map(|one| back.iter().map(move |other| (one, *other)))
            .find(|(one, other)| is_circle(one, other));
        found.extend(pair);
    }
    found
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
        assert_eq!(circles(&orders, |_, _| true), [(&orders[0], &orders[1])]);
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
}
