//! The life of one unit of work, as a pure machine.
//!
//! A unit is anything Raddle runs: a thread, a task, a call in a pool, a child process, a sub-interpreter.
//! All of them live the same life:
//!
//! ```text
//!             start             finish
//!    New ──────────▶ Running ──────────▶ Done ── told ──▶ done for everyone
//!     │               ▲    │              ▲
//!     │         start │    │ park         │
//!     │               │    ▼              │
//!     │           Ready ◀── Parked        │
//!     │             unpark, stop          │
//!     └──────── stop, cancel ─────────────┘    (cancel from Ready too; finish from everywhere)
//! ```
//!
//! Beside the phase there are four flags. `stop_asked`: someone wants it to end. `watched`: someone must be
//! *told* of the end (a callback, a condition). `waited`: some thread sleeps for the end. `told`: the unit
//! is over and whoever had to be told has been.
//!
//! # Rules
//!
//! 1. `Done` is final: phase and outcome never change again.
//! 2. Exactly one step enters `Done`, so exactly one caller delivers the outcome.
//! 3. Every step into `Ready` owes an enqueue: forgetting it loses a wake-up. No other step owes one.
//! 4. Stopping is a request. It is never taken back, and a unit that has been asked to stop is not allowed
//!    to fall asleep.
//! 5. `Cancel` takes back what no worker holds: it is allowed in `New` and in `Ready`, nowhere else, and
//!    the outcome is `Stopped`. Who cancels a `Ready` unit drops what it has begun.
//! 6. `Finish` is allowed in every phase but `Done`: a process can be killed, or a queued call be refused,
//!    before it ran.
//! 7. The step that enters `Done` owes an announcement if and only if the unit is watched. Until that is
//!    made and reported by `Told`, the unit is not done for the outside world; `Told` is allowed there and
//!    nowhere else. A unit that is not watched is told at once.
//! 8. Whoever waits is woken: the step that enters `Done` and the step `Told` owe a wake if and only if
//!    `waited` is set before. `Watch` and `Wait` are never refused, and their flags are never taken back.
//!
//! # What never occurs
//!
//! `Parked` with `stop_asked` (rule 4); `told` in a phase other than `Done`; `Done`, not `told` and not
//! `watched` (rule 7).
//!
//! # Leftovers
//!
//! `Finish` and `Cancel` can end a unit whose entry is still in some queue. The entry is left where it is;
//! the worker that meets it is refused its `Start` and drops it.

use super::Refused;

/// Where a unit is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Queued, never started: it has no stack to unwind.
    New,
    /// Queued again after a sleep.
    Ready,
    /// Held by exactly one worker.
    Running,
    /// Asleep; exactly one waiter entry can wake it.
    Parked,
    /// Over.
    Done(Outcome),
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It gave back a value.
    Returned,
    /// It gave back an error of its own.
    Raised,
    /// It was cancelled before it ran, or it obeyed a request to stop.
    Stopped,
    /// What ran it died under it.
    Killed,
}

/// Something that happens to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A worker takes it up.
    Start,
    /// It falls asleep.
    Park,
    /// What it slept for has come.
    Unpark,
    /// It is over, and how.
    Finish(Outcome),
    /// Someone asks it to end.
    Stop,
    /// Someone takes it back before a worker has it.
    Cancel,
    /// Someone must be told of its end.
    Watch,
    /// A thread is about to sleep for its end.
    Wait,
    /// Everyone who had to be told has been.
    Told,
}

/// A phase, and what is known beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Where the unit is in its life.
    pub phase: Phase,
    /// Someone has asked it to end.
    pub stop_asked: bool,
    /// Someone must be told of its end.
    pub watched: bool,
    /// Some thread sleeps for its end.
    pub waited: bool,
    /// It is over, and whoever had to be told has been.
    pub told: bool,
}

/// What the caller owes after a step.
#[must_use = "what a step owes and nobody pays is a lost wake-up or a lost outcome"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Next {
    /// Put the unit into its queue.
    pub enqueue: bool,
    /// Deliver this outcome: the unit ended with this step.
    pub deliver: Option<Outcome>,
    /// Wake the threads that sleep for the end.
    pub wake: bool,
    /// Tell the watchers, then step [`Event::Told`].
    pub announce: bool,
}

impl Next {
    /// Nothing is owed.
    pub const NOTHING: Next = Next { enqueue: false, deliver: None, wake: false, announce: false };

    const ENQUEUE: Next = Next { enqueue: true, ..Next::NOTHING };
}

impl State {
    /// The first state of every unit.
    pub const NEW: State = State { phase: Phase::New, stop_asked: false, watched: false, waited: false, told: false };

    /// Takes one step.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the event is not allowed in this state.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle_core::life::{Event, Outcome, Phase, State};
    ///
    /// let (running, _) = State::NEW.step(Event::Start).unwrap();
    /// let (waited, _) = running.step(Event::Wait).unwrap();
    /// let (done, next) = waited.step(Event::Finish(Outcome::Returned)).unwrap();
    /// assert!(next.wake, "a thread sleeps for the end");
    /// assert!(done.is_done());
    /// assert!(done.step(Event::Start).is_err(), "done is final");
    /// ```
    pub const fn step(self, event: Event) -> Result<(State, Next), Refused> {
        use Event::*;
        use Phase::*;
        Ok(match (self.phase, event) {
            (New | Ready, Start) => (self.at(Running), Next::NOTHING),
            // Rule 4: whoever waits inside the unit raises instead of sleeping.
            (Running, Park) if !self.stop_asked => (self.at(Parked), Next::NOTHING),
            (Parked, Unpark) => (self.at(Ready), Next::ENQUEUE),

            (New, Stop) => State { stop_asked: true, ..self }.end(Outcome::Stopped),
            (Parked, Stop) => (State { stop_asked: true, ..self }.at(Ready), Next::ENQUEUE),
            (Ready | Running, Stop) => (State { stop_asked: true, ..self }, Next::NOTHING),

            (New | Ready, Cancel) => self.end(Outcome::Stopped),
            (New | Ready | Running | Parked, Finish(how)) => self.end(how),

            // Rule 8: after the last step of a life there is nobody left who could wake or tell.
            (Done(_), Watch | Wait) if self.told => (self, Next::NOTHING),
            (_, Watch) => (State { watched: true, ..self }, Next::NOTHING),
            (_, Wait) => (State { waited: true, ..self }, Next::NOTHING),
            (Done(_), Told) if !self.told => {
                (State { told: true, ..self }, Next { wake: self.waited, ..Next::NOTHING })
            }

            _ => return Err(Refused),
        })
    }

    /// Whether the unit is over for the outside world: it has ended, and whoever had to be told has been.
    pub const fn is_done(self) -> bool {
        matches!(self.phase, Phase::Done(_)) && self.told
    }

    /// How the unit ended, also while the announcement is still owed. `None`: it has not.
    pub const fn outcome(self) -> Option<Outcome> {
        match self.phase {
            Phase::Done(how) => Some(how),
            _ => None,
        }
    }

    const fn at(self, phase: Phase) -> State {
        State { phase, ..self }
    }

    /// Rules 2, 7 and 8: the one step into `Done`.
    const fn end(self, how: Outcome) -> (State, Next) {
        let next = Next { enqueue: false, deliver: Some(how), wake: self.waited, announce: self.watched };
        (State { phase: Phase::Done(how), told: !self.watched, ..self }, next)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashSet;
    use {Event::*, Outcome::*, Phase::*};

    const EVENTS: [Event; 12] = [
        Start,
        Park,
        Unpark,
        Finish(Returned),
        Finish(Raised),
        Finish(Stopped),
        Finish(Killed),
        Stop,
        Cancel,
        Watch,
        Wait,
        Told,
    ];

    pub(in crate::life) type Answer = Result<(State, Next), Refused>;

    /// Every state a unit can reach, with every answer it gives there.
    pub(in crate::life) fn every_answer() -> Vec<(State, Event, Answer)> {
        let (mut seen, mut queue, mut answers) = (HashSet::new(), vec![State::NEW], vec![]);
        while let Some(from) = queue.pop() {
            if !seen.insert(from) {
                continue;
            }
            for event in EVENTS {
                let answer = from.step(event);
                answers.push((from, event, answer));
                if let Ok((to, _)) = answer {
                    queue.push(to);
                }
            }
        }
        answers
    }

    fn every_step() -> impl Iterator<Item = (State, Event, State, Next)> {
        every_answer()
            .into_iter()
            .filter_map(|(from, event, answer)| answer.ok().map(|(to, next)| (from, event, to, next)))
    }

    const fn over(state: State) -> bool {
        matches!(state.phase, Done(_))
    }

    #[test]
    fn the_rules_hold_in_every_reachable_state() {
        for (from, event, to, next) in every_step() {
            let at = format!("{from:?} {event:?} -> {to:?} {next:?}");

            assert!(!over(from) || from.phase == to.phase, "rule 1: {at}");

            let ended = (!over(from)).then(|| to.outcome()).flatten();
            assert_eq!(ended, next.deliver, "rule 2: {at}");

            let woke = to.phase == Ready && from.phase != Ready;
            assert_eq!(woke, next.enqueue, "rule 3: {at}");

            assert!(to.stop_asked || !from.stop_asked, "rule 4: a stop was taken back: {at}");
            assert!(!(from.stop_asked && to.phase == Parked), "rule 4: slept after a stop: {at}");

            assert_eq!(ended.is_some() && from.watched, next.announce, "rule 7: {at}");
            assert_eq!(
                over(to) && !to.told,
                next.announce || (over(from) && !from.told && event != Told),
                "rule 7: {at}"
            );

            let last = ended.is_some() || event == Told;
            assert_eq!(last && from.waited, next.wake, "rule 8: {at}");
            assert!(to.watched || !from.watched, "rule 8: a watch was taken back: {at}");
            assert!(to.waited || !from.waited, "rule 8: a wait was taken back: {at}");
            if event == Watch && !from.is_done() {
                assert!(to.watched, "rule 8: a watch was not noted: {at}");
            }
            if event == Wait && !from.is_done() {
                assert!(to.waited, "rule 8: a wait was not noted: {at}");
            }
        }
    }

    #[test]
    fn every_answer_is_a_step_or_a_refusal_for_a_reason() {
        for (from, event, answer) in every_answer() {
            let allowed = match event {
                Start => matches!(from.phase, New | Ready),
                Park => from.phase == Running && !from.stop_asked,
                Unpark => from.phase == Parked,
                Finish(_) | Stop => !over(from),
                Cancel => matches!(from.phase, New | Ready),
                Watch | Wait => true,
                Told => over(from) && !from.told,
            };
            assert_eq!(answer.is_ok(), allowed, "{from:?} {event:?}");
        }
    }

    #[test]
    fn every_step_leads_to_the_phase_it_is_named_after() {
        for (from, event, to, _) in every_step() {
            let expected = match event {
                Start => Running,
                Park => Parked,
                Unpark => Ready,
                Finish(how) => Done(how),
                Cancel => Done(Stopped),
                Stop if from.phase == New => Done(Stopped),
                Stop if from.phase == Parked => Ready,
                Stop | Watch | Wait | Told => from.phase,
            };
            assert_eq!(to.phase, expected, "{from:?} {event:?}");
            assert!(event != Stop || to.stop_asked, "{from:?}: a stop was not noted");
            assert!(event == Stop || to.stop_asked == from.stop_asked, "{from:?} {event:?}");
        }
    }

    #[test]
    fn what_never_occurs_does_not() {
        for (state, ..) in every_answer() {
            assert!(!(state.phase == Parked && state.stop_asked), "{state:?}");
            assert!(!state.told || over(state), "{state:?}");
            assert!(!over(state) || state.told || state.watched, "{state:?}");
        }
    }

    #[test]
    fn everything_that_begins_can_end() {
        for (from, ..) in every_answer() {
            let over = match from.step(Finish(Killed)) {
                Ok((to, _)) => to,
                Err(Refused) => from,
            };
            let told = over.step(Told).map_or(over, |(to, _)| to);
            assert!(told.is_done(), "{from:?}");
        }
    }
}
