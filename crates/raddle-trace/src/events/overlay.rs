//! Laying exact spans over those that looks have guessed.

use crate::session::{Nanos, Span, State};

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

/// Makes two spans of the one that goes on over a moment.
pub(super) fn split(spans: &mut Vec<Span>, at: Nanos) {
    let first = spans.partition_point(|span| span.until <= at);
    if let Some(span) = spans.get_mut(first).filter(|span| span.from < at) {
        let rest = Span { from: at, ..*span };
        span.until = at;
        spans.insert(first + 1, rest);
    }
}

/// Puts in the place of guesses that are known to be wrong what the thread was seen to wait for next to them in time. Where there is nothing of the kind
/// they stay.
///
/// Looks guess that a thread which has run in between has waited for the same thing all the time. Where each wait for that thing is known, what is left of the guess
/// was something else.
pub(super) fn correct(spans: &mut [Span], is_wrong: impl Fn(&Span) -> bool) {
    let is_wait = |span: &Span| {
        !matches!(span.state, State::Running | State::Native | State::Runnable | State::Gil | State::Unknown)
    };
    let can_be: Vec<usize> = (0..spans.len()).filter(|at| is_wait(&spans[*at]) && !is_wrong(&spans[*at])).collect();
    let mut next = 0;
    for at in 0..spans.len() {
        while can_be.get(next).is_some_and(|other| *other < at) {
            next += 1;
        }
        if !is_wrong(&spans[at]) {
            continue;
        }
        let before = next.checked_sub(1).map(|index| spans[can_be[index]]);
        let behind = can_be.get(next).map(|other| spans[*other]);
        let nearest = match (before, behind) {
            (Some(before), Some(behind)) => {
                let (back, forth) = (spans[at].from.abs_diff(before.until), behind.from.abs_diff(spans[at].until));
                Some(if back <= forth { before } else { behind })
            }
            (before, behind) => before.or(behind),
        };
        if let Some(seen) = nearest {
            spans[at] = Span { from: spans[at].from, until: spans[at].until, ..seen };
        }
    }
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

    #[test]
    fn a_wrong_guess_becomes_what_is_seen_nearest() {
        let span = |from, until, state| Span { from, until, state, place: None, thing: None, holder: None };
        let is_lock = |span: &Span| span.state == State::Lock;
        let mut spans = vec![
            span(0, 4, State::Lock),
            span(4, 5, State::Running),
            span(5, 9, State::Sleep),
            span(10, 12, State::Lock),
            span(12, 20, State::Lock),
            span(21, 30, State::Io),
        ];
        correct(&mut spans, is_lock);
        let states: Vec<_> = spans.iter().map(|span| span.state).collect();
        let expected = [State::Sleep, State::Running, State::Sleep, State::Sleep, State::Io, State::Io];
        assert_eq!(states, expected);
        assert_eq!((spans[4].from, spans[4].until), (12, 20));
        let mut alone = vec![span(0, 4, State::Lock), span(4, 5, State::Running)];
        correct(&mut alone, is_lock);
        assert_eq!(alone[0].state, State::Lock, "nothing better is known");
    }

    #[test]
    fn a_span_is_split_where_it_goes_on() {
        let span = |from, until| Span { from, until, state: State::Event, place: None, thing: None, holder: None };
        let ends = |at| {
            let mut spans = vec![span(0, 5), span(7, 9)];
            split(&mut spans, at);
            spans.iter().map(|span| (span.from, span.until)).collect::<Vec<_>>()
        };
        assert_eq!(ends(3), [(0, 3), (3, 5), (7, 9)]);
        for at in [0, 5, 6, 7, 9, 20] {
            assert_eq!(ends(at), [(0, 5), (7, 9)], "at {at}");
        }
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
