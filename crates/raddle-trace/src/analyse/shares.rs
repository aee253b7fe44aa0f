//! What a thread did with its time.

use crate::session::{Nanos, State, Thread};

/// How long something was in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    nanos: [Nanos; State::ALL.len()],
}

impl Shares {
    /// How long it was in this state.
    #[must_use]
    pub fn nanos(&self, state: State) -> Nanos {
        self.nanos[state as usize]
    }

    /// How long it was seen at all. What was not seen is in no state.
    #[must_use]
    pub fn seen(&self) -> Nanos {
        self.nanos.iter().fold(0, |sum, nanos| sum.saturating_add(*nanos))
    }

    /// The share of what was seen that it was in this state, from 0 to 1.
    #[must_use]
    pub fn fraction(&self, state: State) -> f64 {
        self.fraction_of(&[state])
    }

    /// The share of what was seen that it was in one of these states, from 0 to 1.
    #[must_use]
    pub fn fraction_of(&self, states: &[State]) -> f64 {
        let sum: f64 = states.iter().map(|state| self.nanos(*state) as f64).sum();
        sum / (self.seen() as f64).max(1.0)
    }

    /// The states that it was in, the longest first.
    #[must_use]
    pub fn longest_first(&self) -> Vec<(State, f64)> {
        let mut all: Vec<State> = State::ALL.into_iter().filter(|state| self.nanos(*state) > 0).collect();
        all.sort_by_key(|state| std::cmp::Reverse(self.nanos(*state)));
        all.into_iter().map(|state| (state, self.fraction(state))).collect()
    }

    /// Adds another thread's time.
    pub fn add(&mut self, other: &Self) {
        for (sum, nanos) in self.nanos.iter_mut().zip(other.nanos) {
            *sum = sum.saturating_add(nanos);
        }
    }
}

/// What a thread did with its time, as far as it was seen and until then.
#[must_use]
pub fn shares(thread: &Thread, until: Nanos) -> Shares {
    let mut shares = Shares::default();
    for span in &thread.spans {
        let length = span.until.min(until).saturating_sub(span.from);
        let sum = &mut shares.nanos[span.state as usize];
        *sum = sum.saturating_add(length);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Span;

    #[test]
    fn every_state_is_where_its_name_says() {
        for (index, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index);
        }
    }

    #[test]
    fn shares_are_of_what_was_seen() {
        let span = |from, until, state| Span { from, until, state, place: None, thing: None, holder: None };
        let spans = vec![span(0, 30, State::Running), span(50, 110, State::Gil), span(200, 300, State::Io)];
        let shares = shares(&Thread { spans, ..Thread::default() }, 210);
        assert_eq!(shares.seen(), 100);
        assert_eq!(shares.longest_first(), [(State::Gil, 0.6), (State::Running, 0.3), (State::Io, 0.1)]);
    }
}
