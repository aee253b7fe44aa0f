//! Laying exact spans over those that looks have guessed.

use std::collections::HashMap;

use crate::session::{Nanos, Span, State};

/// Lays `exact` over `spans`. Both are in order and neither overlaps itself; nor does the outcome. An exact span that says no place or no thing takes those of what
/// it lies on.
pub(super) fn lay(spans: &[Span], mut exact: Vec<Span>) -> Vec<Span> {
    let mut laid = Vec::with_capacity(spans.len() + 2 * exact.len());
    let mut next = 0;
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

/// What a guess is worth, where exact spans will be laid over some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It stays.
    Good,
    /// It stays unless the thread must have run at that time.
    Doubtful,
    /// It was a wait for something else, unless the thread must have run.
    Wrong,
    /// It was a wait for something else that was seen near by, or none: the thread ran.
    Ran,
}

/// So long is the time within which what exact spans take from a state is given back to it: some looks.
const WINDOW: Nanos = 200_000_000;

/// Corrects guesses before exact spans are laid over them.
///
/// Looks know how long a thread has run from one to the next, but not when: a guess has it run first and wait then, or the other way round. Where
/// exact waits lie over its running, the thread has run at another time, and that is taken from guesses of waits near by which are not
/// [`Good`](Worth::Good). What is left of a [`Wrong`](Worth::Wrong) one becomes what the thread was seen to wait for next to it in time; where there is nothing of
/// the kind it stays.
pub(super) fn correct(spans: &mut Vec<Span>, exact: &[Span], worth: impl Fn(&Span) -> Worth) {
    let runs = |span: &Span| matches!(span.state, State::Running | State::Native | State::Runnable);
    let is_wait = |span: &Span| !runs(span) && !matches!(span.state, State::Gil | State::Unknown);
    let pieces = pieces(spans, exact);
    // What was taken from running in each window, and what it looked like.
    let mut taken: HashMap<Nanos, (Nanos, Span)> = HashMap::new();
    for (span, _) in pieces.iter().filter(|(span, is_covered)| *is_covered && runs(span)) {
        let entry = taken.entry(span.from / WINDOW).or_insert((0, *span));
        entry.0 += span.until - span.from;
        entry.1 = *span;
    }
    let can_be: Vec<Span> =
        pieces.iter().map(|(span, _)| *span).filter(|span| is_wait(span) && worth(span) == Worth::Good).collect();
    let mut corrected = Vec::with_capacity(pieces.len());
    let mut next = 0;
    for (span, is_covered) in pieces {
        while can_be.get(next).is_some_and(|other| other.from < span.from) {
            next += 1;
        }
        let worth = if is_covered { Worth::Good } else { worth(&span) };
        let mut rest = span;
        if worth != Worth::Good
            && let Some((left, was)) = taken.get_mut(&(span.from / WINDOW)).filter(|(left, _)| *left > 0)
        {
            rest.from = span.until.min(span.from + *left);
            *left -= rest.from - span.from;
            corrected.push(Span { from: span.from, until: rest.from, ..*was });
        }
        match worth {
            Worth::Good | Worth::Doubtful => {}
            Worth::Wrong | Worth::Ran => {
                let before = next.checked_sub(1).map(|index| can_be[index]);
                let behind = can_be.get(next).copied();
                let nearest = match (before, behind) {
                    (Some(before), Some(behind)) => {
                        let back = rest.from.abs_diff(before.until);
                        Some(if back <= behind.from.abs_diff(rest.until) { before } else { behind })
                    }
                    (before, behind) => before.or(behind),
                };
                let is_near = |seen: &Span| rest.from < seen.until + WINDOW && seen.from < rest.until + WINDOW;
                match (worth, nearest) {
                    // How long it ran is known and told besides. But a little of that may come late.
                    (Worth::Ran, seen) if !seen.is_some_and(|seen| is_near(&seen)) => {
                        (rest.state, rest.holder) = (State::Running, None);
                    }
                    (_, Some(seen)) => rest = Span { from: rest.from, until: rest.until, ..seen },
                    (_, None) => {}
                }
            }
        }
        if rest.from < rest.until {
            corrected.push(rest);
        }
    }
    *spans = joined(corrected);
}

/// Spans cut where exact ones begin and end and where windows do, each with whether an exact one lies over it.
fn pieces(spans: &[Span], exact: &[Span]) -> Vec<(Span, bool)> {
    let mut pieces = Vec::with_capacity(spans.len() + 2 * exact.len());
    let mut next = 0;
    for span in spans {
        let mut from = span.from;
        while from < span.until {
            while exact.get(next).is_some_and(|over| over.until <= from) {
                next += 1;
            }
            let over = exact.get(next).filter(|over| over.from < span.until);
            let (until, is_covered) = match over {
                Some(over) if over.from <= from => (over.until, true),
                Some(over) => (over.from, false),
                None => (span.until, false),
            };
            let until = until.min(span.until).min((from / WINDOW + 1) * WINDOW);
            pieces.push((Span { from, until, ..*span }, is_covered));
            from = until;
        }
    }
    pieces
}

/// Makes one of spans that go on as they were.
fn joined(spans: Vec<Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if *last == (Span { from: last.from, until: span.from, ..span }) => last.until = span.until,
            _ => joined.push(span),
        }
    }
    joined
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
        let worth = |span: &Span| if span.state == State::Lock { Worth::Wrong } else { Worth::Good };
        let mut spans = vec![
            span(0, 4, State::Lock),
            span(4, 5, State::Running),
            span(5, 9, State::Sleep),
            span(10, 12, State::Lock),
            span(12, 20, State::Lock),
            span(21, 30, State::Io),
        ];
        correct(&mut spans, &[], worth);
        let states: Vec<_> = spans.iter().map(|span| (span.from, span.state)).collect();
        let expected = [
            (0, State::Sleep),
            (4, State::Running),
            (5, State::Sleep),
            (10, State::Sleep),
            (12, State::Io),
            (21, State::Io),
        ];
        assert_eq!(states, expected);
        let mut alone = vec![span(0, 4, State::Lock), span(4, 5, State::Running)];
        correct(&mut alone, &[], worth);
        assert_eq!(alone[0].state, State::Lock, "nothing better is known");
    }

    #[test]
    fn what_exact_waits_take_from_running_is_given_back() {
        let span = |from, until, state| Span { from, until, state, place: None, thing: None, holder: None };
        let worth = |span: &Span| match span.state {
            State::Lock => Worth::Wrong,
            State::Event => Worth::Doubtful,
            State::Gil => Worth::Ran,
            _ => Worth::Good,
        };
        let ends = |spans: &[Span]| spans.iter().map(|span| (span.from, span.state)).collect::<Vec<_>>();
        // Four of the ten that it ran lie under waits that are known.
        let exact = vec![span(2, 4, State::Lock), span(6, 8, State::Lock), span(12, 13, State::Lock)];
        let mut spans = vec![span(0, 10, State::Native), span(10, 20, State::Lock)];
        correct(&mut spans, &exact, worth);
        assert_eq!(
            ends(&lay(&spans, exact.clone()))[..],
            [
                (0, State::Native),
                (2, State::Lock),
                (4, State::Native),
                (6, State::Lock),
                (8, State::Native),
                (12, State::Lock),
                (13, State::Native),
                (15, State::Lock),
            ]
        );
        let mut doubtful = vec![span(0, 10, State::Running), span(10, 20, State::Event)];
        correct(&mut doubtful, &exact[..2], worth);
        assert_eq!(ends(&doubtful), [(0, State::Running), (14, State::Event)]);
        let mut alone = vec![span(0, 10, State::Event), span(10, 12, State::Gil)];
        correct(&mut alone, &[], worth);
        assert_eq!(ends(&alone), [(0, State::Event), (10, State::Running)]);
        let far = 10 * WINDOW;
        let mut near = vec![span(0, 10, State::Sleep), span(10, 12, State::Gil), span(far, far + 2, State::Gil)];
        correct(&mut near, &[], worth);
        assert_eq!(ends(&near), [(0, State::Sleep), (far, State::Running)]);
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
            let laid = lay(&spans, exact.clone());
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
