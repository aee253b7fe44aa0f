//! Laying exact spans over those that looks have guessed.

use crate::session::Span;

/// Lays `exact` over `spans`. Both are in order and neither overlaps itself; nor does the outcome. An exact span that says no place or no thing takes those of what
/// it lies on.
pub(super) fn lay(spans: &[Span], exact: &[Span]) -> Vec<Span> {
    let mut laid = Vec::with_capacity(spans.len() + exact.len());
    let mut next = 0;
    let mut exact = exact.to_vec();
    let mut under = spans.iter().copied();
    let mut current = under.next();
    while let Some(span) = current {
        // Exact spans that end before this one begins.
        while next < exact.len() && exact[next].until <= span.from {
            laid.push(exact[next]);
            next += 1;
        }
        let Some(over) = exact.get_mut(next).filter(|over| over.from < span.until) else {
            laid.push(span);
            current = under.next();
            continue;
        };
        over.place = over.place.or(span.place);
        if over.thing.is_none() && over.state == span.state {
            over.thing = span.thing;
        }
        if span.from < over.from {
            laid.push(Span { until: over.from, ..span });
        }
        if span.until > over.until {
            current = Some(Span { from: over.until, ..span });
            laid.push(*over);
            next += 1;
        } else {
            current = under.next();
        }
    }
    laid.extend_from_slice(&exact[next.min(exact.len())..]);
    laid.retain(|span| span.from < span.until);
    laid
}

/// Puts spans in order and cuts what overlaps: the one that began first stays whole.
pub(super) fn in_order(spans: &mut Vec<Span>) {
    spans.sort_by_key(|span| (span.from, span.until));
    let mut end = 0;
    for span in spans.iter_mut() {
        span.from = span.from.max(end);
        end = end.max(span.until);
    }
    spans.retain(|span| span.from < span.until);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::State;
    use proptest::prelude::*;

    fn row() -> impl Strategy<Value = Vec<Span>> {
        prop::collection::vec((0_u64..20, 1_u64..20), 0..12).prop_map(|pairs| {
            let mut at = 0;
            let span = |(gap, length): (u64, u64)| {
                let from = at + gap;
                at = from + length;
                Span { from, until: at, state: State::Running, place: None, thing: None, holder: None }
            };
            pairs.into_iter().map(span).collect()
        })
    }

    /// What a row says of a moment.
    fn at(row: &[Span], moment: u64) -> Option<State> {
        row.iter().find(|span| span.from <= moment && moment < span.until).map(|span| span.state)
    }

    proptest! {
        #[test]
        fn every_moment_is_the_exact_one_or_else_the_guessed_one(spans in row(), exact in row()) {
            let exact: Vec<Span> = exact.into_iter().map(|span| Span { state: State::Gil, ..span }).collect();
            let laid = lay(&spans, &exact);
            for pair in laid.windows(2) {
                prop_assert!(pair[0].until <= pair[1].from);
            }
            for moment in 0..500 {
                prop_assert_eq!(at(&laid, moment), at(&exact, moment).or(at(&spans, moment)));
            }
        }

        #[test]
        fn what_is_put_in_order_does_not_overlap(pairs in prop::collection::vec((0_u64..50, 0_u64..50), 0..12)) {
            let span = |(from, length)| Span { from, until: from + length, state: State::Lock, place: None, thing: None, holder: None };
            let mut spans: Vec<Span> = pairs.iter().copied().map(span).collect();
            let before = spans.clone();
            in_order(&mut spans);
            for pair in spans.windows(2) {
                prop_assert!(pair[0].until <= pair[1].from);
            }
            for moment in 0..100 {
                prop_assert_eq!(at(&spans, moment), at(&before, moment));
            }
        }
    }
}
