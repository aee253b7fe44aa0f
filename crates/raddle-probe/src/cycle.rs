//! Circles among threads of which each waits for at most one other.

use crate::model::{Deadlock, Thread};

impl Deadlock {
    /// The circles among threads, by who is known to hold what each waits for.
    pub(crate) fn among(threads: &[Thread], has_not_run: impl Fn(&usize) -> bool) -> Vec<Self> {
        let edges: Vec<_> = threads.iter().map(|thread| thread.wait.as_ref()?.holder.as_ref()?.thread).collect();
        let is_timed = |index: &usize| threads[*index].wait.as_ref().is_some_and(|wait| wait.is_timed);
        let deadlock = |circle: Vec<usize>| Self {
            is_certain: circle.iter().all(&has_not_run),
            is_timed: circle.iter().any(is_timed),
            threads: circle,
        };
        circles(&edges).into_iter().map(deadlock).collect()
    }
}

/// The circles in a graph with at most one edge from each node, each once, beginning at its lowest node.
pub(crate) fn circles(edges: &[Option<usize>]) -> Vec<Vec<usize>> {
    let mut seen = vec![0; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        let (mut path, mut at) = (Vec::new(), start);
        while seen[at] == 0 {
            seen[at] = start + 1;
            path.push(at);
            match edges[at] {
                Some(next) if next < edges.len() => at = next,
                _ => break,
            }
        }
        // A circle was closed now, by this walk, if it has come back to a node of its own that was not the dead end.
        let closes = edges[*path.last().unwrap_or(&start)] == Some(at);
        if let Some(from) = path.iter().position(|node| *node == at).filter(|_| closes && seen[at] == start + 1) {
            let mut circle = path.split_off(from);
            let lowest = circle.iter().enumerate().min_by_key(|(_, node)| **node).map_or(0, |(index, _)| index);
            circle.rotate_left(lowest);
            found.push(circle);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn circles_are_found_once() {
        assert_eq!(circles(&[Some(1), Some(0), Some(0)]), [vec![0, 1]]);
        assert_eq!(circles(&[Some(2), Some(2), Some(3), Some(1)]), [vec![1, 2, 3]]);
        assert_eq!(circles(&[Some(0)]), [vec![0]], "a thread that waits for itself");
        assert_eq!(circles(&[Some(1), Some(2), None]), Vec::<Vec<usize>>::new());
        assert_eq!(circles(&[Some(7), None]), Vec::<Vec<usize>>::new(), "an edge to nobody");
    }

    proptest! {
        #[test]
        fn every_circle_is_one_and_every_node_is_in_one_at_most(
            edges in proptest::collection::vec(proptest::option::of(0usize..20), 0..20)
        ) {
            let found = circles(&edges);
            let mut nodes: Vec<usize> = found.concat();
            for circle in &found {
                for (index, node) in circle.iter().enumerate() {
                    prop_assert_eq!(edges[*node], Some(circle[(index + 1) % circle.len()]));
                }
            }
            // Whoever comes back to itself is in one.
            let comes_back = |start: usize| {
                let mut at = start;
                (0..edges.len()).any(|_| { at = edges.get(at).copied().flatten().unwrap_or(usize::MAX); at == start })
            };
            nodes.sort_unstable();
            let expected: Vec<usize> = (0..edges.len()).filter(|node| comes_back(*node)).collect();
            prop_assert_eq!(nodes, expected);
        }
    }
}
