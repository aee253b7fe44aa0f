//! What a thread did from one look to the next.
//!
//! A look says what each thread did at one moment, and how long it had been on a processor and had waited for one. So for the time between two looks it is known
//! exactly how much of it the thread ran; and if that is nothing, that it waited all the time for what it waited for at both. What cannot be known is what
//! it waited for in between, if it was running at both looks: then it is taken to be what it waited for last. Nor is it known when one wait ended and
//! another began: each gets half of the time.
//!
//! # Rules
//!
//! 1. The time between two looks is divided into at most four spans: on a processor, waiting for one, and before and after that waiting for something else.
//! 2. A span that goes on is made longer instead of adding another.
//! 3. No more than [`MOST_SPANS`] are kept; what did not find room is counted.

use crate::session::{Nanos, PlaceId, Span, State, ThingId};

const MOST_SPANS: usize = 2_000_000;

/// What a thread does, as spans have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct What {
    pub(super) state: State,
    pub(super) place: Option<PlaceId>,
    pub(super) thing: Option<ThingId>,
    pub(super) holder: Option<u32>,
    /// No Python is to be seen in it: when it runs, it is native code that does.
    pub(super) is_foreign: bool,
}

impl What {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, State::Running | State::Native)
    }
}

/// Divides the time between two looks (rule 1). `lengths`: on a processor, waiting for one, and the rest. `waited`: what the thread waited for last.
pub(super) fn divide(before: What, now: What, waited: Option<What>, lengths: [Nanos; 3]) -> [(What, Nanos); 4] {
    let [ran, stood, rest] = lengths;
    let active = match (before.is_active(), now.is_active()) {
        (true, _) => before,
        (false, true) => now,
        (false, false) => {
            let state = if before.is_foreign { State::Native } else { State::Running };
            What { state, thing: None, holder: None, ..before }
        }
    };
    let runnable = What { state: State::Runnable, ..active };
    if !before.is_active() {
        let is_another = !now.is_active() && now.state != State::Unknown && now != before;
        let after = if is_another { rest / 2 } else { 0 };
        return [(before, rest - after), (runnable, stood), (active, ran), (now, after)];
    }
    match if now.is_active() { waited } else { Some(now) } {
        Some(wait) => [(active, ran), (runnable, stood), (wait, rest), (wait, 0)],
        // It has never been seen to wait: the kernel counts what has ended, and lags behind a little.
        None => [(active, ran + rest), (runnable, stood), (active, 0), (active, 0)],
    }
}

/// How much room there is for spans.
#[derive(Debug, Default)]
pub(super) struct Room {
    kept: usize,
    pub(super) dropped: u64,
}

impl Room {
    /// Appends a span, or makes the last one longer (rules 2 and 3). Where nothing is known there is none.
    pub(super) fn push(&mut self, spans: &mut Vec<Span>, from: Nanos, until: Nanos, what: What) {
        let What { state, place, thing, holder, is_foreign: _ } = what;
        if until <= from || (state, place, thing) == (State::Unknown, None, None) {
            return;
        }
        if let Some(last) = spans.last_mut()
            && last.until == from
            && (last.state, last.place, last.thing, last.holder) == (state, place, thing, holder)
        {
            last.until = until;
        } else if self.kept < MOST_SPANS {
            self.kept += 1;
            spans.push(Span { from, until, state, place, thing, holder });
        } else {
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn what(state: State) -> What {
        What { state, place: None, thing: None, holder: None, is_foreign: false }
    }

    fn states(pieces: [(What, Nanos); 4]) -> Vec<(State, Nanos)> {
        pieces.into_iter().filter(|(_, long)| *long > 0).map(|(what, long)| (what.state, long)).collect()
    }

    #[test]
    fn one_that_has_not_run_has_waited_all_the_time() {
        let sleeps = what(State::Sleep);
        assert_eq!(states(divide(sleeps, sleeps, Some(sleeps), [0, 0, 50])), [(State::Sleep, 50)]);
    }

    #[test]
    fn one_that_runs_at_both_looks_has_waited_for_what_it_waits_for_usually() {
        let (runs, gil) = (what(State::Running), what(State::Gil));
        let expected = [(State::Running, 20), (State::Runnable, 5), (State::Gil, 25)];
        assert_eq!(states(divide(runs, runs, Some(gil), [20, 5, 25])), expected);
        assert_eq!(states(divide(runs, runs, None, [49, 0, 1])), [(State::Running, 50)]);
    }

    #[test]
    fn one_that_begins_to_wait_has_run_before_and_one_that_runs_has_waited_before() {
        let (runs, waits) = (what(State::Native), what(State::Io));
        assert_eq!(states(divide(runs, waits, None, [10, 0, 40])), [(State::Native, 10), (State::Io, 40)]);
        assert_eq!(states(divide(waits, runs, Some(waits), [10, 0, 40])), [(State::Io, 40), (State::Native, 10)]);
    }

    #[test]
    fn of_two_waits_each_has_half_of_the_time() {
        let (reads, sleeps) = (what(State::Io), what(State::Sleep));
        let expected = [(State::Io, 21), (State::Running, 9), (State::Sleep, 20)];
        assert_eq!(states(divide(reads, sleeps, Some(reads), [9, 0, 41])), expected);
    }

    #[test]
    fn one_without_python_that_has_run_unseen_has_not_run_python() {
        let rests = What { is_foreign: true, ..what(State::Event) };
        let expected = [(State::Event, 45), (State::Native, 5)];
        assert_eq!(states(divide(rests, rests, Some(rests), [5, 0, 45])), expected);
        let waits = what(State::Event);
        let expected = [(State::Event, 45), (State::Running, 5)];
        assert_eq!(states(divide(waits, waits, Some(waits), [5, 0, 45])), expected);
    }

    proptest! {
        #[test]
        fn no_time_is_lost_or_added(before in 0..State::ALL.len(), now in 0..State::ALL.len(), waited in any::<bool>(), lengths in any::<[u32; 3]>()) {
            let lengths = lengths.map(u64::from);
            let waited = waited.then(|| what(State::Lock));
            let pieces = divide(what(State::ALL[before]), what(State::ALL[now]), waited, lengths);
            prop_assert_eq!(pieces.iter().map(|(_, long)| long).sum::<u64>(), lengths.iter().sum::<u64>());
        }

        #[test]
        fn spans_are_in_order_and_do_not_overlap(steps in proptest::collection::vec((0u64..3, 0..State::ALL.len()), 0..50)) {
            let (mut room, mut spans, mut at) = (Room::default(), Vec::new(), 0);
            for (long, state) in steps {
                room.push(&mut spans, at, at + long, what(State::ALL[state]));
                at += long;
            }
            prop_assert!(spans.iter().all(|span| span.from < span.until));
            prop_assert!(spans.windows(2).all(|pair| pair[0].until <= pair[1].from));
            prop_assert!(spans.windows(2).all(|pair| pair[0].until < pair[1].from || pair[0].state != pair[1].state));
        }
    }
}
