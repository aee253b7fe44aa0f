//! Strongly connected components: what lies on circles together.
//!
//! As in Tarjan, *Depth-first search and linear graph algorithms* (SIAM Journal on Computing, 1972), with a stack of its own in the place of the call stack, since a row
//! of locks may be as long as a program likes.

use std::collections::HashMap;

/// What is known of a node that was reached.
struct Reached {
    /// When.
    order: usize,
    /// The earliest that is still open and can be reached from it, as far as was seen.
    low: usize,
    is_open: bool,
}

/// The components of more than one node, each in order. `edges`: where each node leads to.
pub(super) fn components(edges: &HashMap<u32, Vec<u32>>) -> Vec<Vec<u32>> {
    let mut starts: Vec<u32> = edges.keys().copied().collect();
    starts.sort_unstable();
    let mut reached: HashMap<u32, Reached> = HashMap::new();
    // The way to where the search is: nodes, each with how many of its edges were followed; and all nodes whose component is not complete.
    let mut way: Vec<(u32, usize)> = Vec::new();
    let mut open: Vec<u32> = Vec::new();
    let mut found = Vec::new();
    for start in starts {
        if !reached.contains_key(&start) {
            enter(start, &mut reached, &mut way, &mut open);
        }
        while let Some((node, followed)) = way.last_mut() {
            let node = *node;
            if let Some(next) = edges.get(&node).and_then(|nexts| nexts.get(*followed)).copied() {
                *followed += 1;
                match reached.get(&next).map(|other| (other.is_open, other.order)) {
                    None => enter(next, &mut reached, &mut way, &mut open),
                    Some((true, order)) => lower(&mut reached, node, order),
                    Some((false, _)) => {}
                }
                continue;
            }
            way.pop();
            let Some((order, low)) = reached.get(&node).map(|node| (node.order, node.low)) else { continue };
            if let Some((before, _)) = way.last() {
                lower(&mut reached, *before, low);
            }
            if low == order {
                let first = open.iter().rposition(|other| *other == node).unwrap_or(0);
                let mut component = open.split_off(first);
                for node in &component {
                    reached.entry(*node).and_modify(|node| node.is_open = false);
                }
                component.sort_unstable();
                found.extend((component.len() > 1).then_some(component));
            }
        }
    }
    found
}

fn enter(node: u32, reached: &mut HashMap<u32, Reached>, way: &mut Vec<(u32, usize)>, open: &mut Vec<u32>) {
    let order = reached.len();
    reached.insert(node, Reached { order, low: order, is_open: true });
    way.push((node, 0));
    open.push(node);
}

fn lower(reached: &mut HashMap<u32, Reached>, node: u32, low: usize) {
    reached.entry(node).and_modify(|node| node.low = node.low.min(low));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn of(edges: &[(u32, u32)]) -> Vec<Vec<u32>> {
        let mut all: HashMap<u32, Vec<u32>> = HashMap::new();
        edges.iter().for_each(|(from, to)| all.entry(*from).or_default().push(*to));
        components(&all)
    }

    #[test]
    fn a_long_row_has_none_and_a_long_circle_is_one() {
        let mut edges: Vec<(u32, u32)> = (0..50_000).map(|node| (node, node + 1)).collect();
        assert!(of(&edges).is_empty());
        edges.push((50_000, 0));
        assert_eq!(of(&edges), [(0..=50_000).collect::<Vec<_>>()]);
    }

    proptest! {
        #[test]
        fn nodes_are_together_that_can_reach_each_other(edges in prop::collection::vec((0_u32..8, 0_u32..8), 0..20)) {
            let mut reach: HashSet<(u32, u32)> = edges.iter().copied().collect();
            for middle in 0..8 {
                for from in 0..8 {
                    for to in 0..8 {
                        if reach.contains(&(from, middle)) && reach.contains(&(middle, to)) {
                            reach.insert((from, to));
                        }
                    }
                }
            }
            let found = of(&edges);
            for one in 0..8 {
                for other in 0..8 {
                    let are_together = found.iter().any(|component| component.contains(&one) && component.contains(&other));
                    let can = one != other && reach.contains(&(one, other)) && reach.contains(&(other, one));
                    prop_assert!(one == other || are_together == can, "{one} and {other} in {edges:?}: {found:?}");
                }
            }
        }
    }
}
