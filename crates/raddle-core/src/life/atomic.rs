//! A life in one atomic word.
//!
//! # Rules
//!
//! 1. Every step that is taken is one read-modify-write, also when it changes nothing, as long as the unit
//!    is not done for everyone. So all steps of one life have one order, and each step sees all that
//!    happened before the steps before it.
//! 2. A step that is refused, or that finds the unit done for everyone, is a read: nothing comes after it.
//!
//! # Why nothing is lost
//!
//! A thread that waits puts its [`Unparker`](crate::park::Unparker) where the finisher will look, steps
//! [`Wait`](Event::Wait) and looks at the answer. Its step and the finisher's are in one order (rule 1).
//! Either `Wait` comes first: then the finisher's step sees the flag, owes a wake, and sees the unparker,
//! because it acquires what the waiter released. Or `Finish` comes first: then the waiter's answer is a
//! unit that is over, and it acquires the outcome. `Watch` is the same with an announcement for a wake.
//! What may not be left out is the look at the answer.

use super::{Event, Listener, Next, NoListener, Outcome, Phase, Refused, State, UnitId};
use crate::prim::atomic::AtomicU32;
use crate::prim::atomic::Ordering::{AcqRel, Acquire};
use std::fmt;

/// The life of one unit, stepped by any number of threads.
///
/// # Examples
///
/// ```
/// use raddle_core::life::{AtomicState, Event, Outcome};
///
/// let life = AtomicState::new();
/// _ = life.step(Event::Start)?;
/// let (after, next) = life.step(Event::Finish(Outcome::Raised))?;
/// assert_eq!(next.deliver, Some(Outcome::Raised));
/// assert_eq!(after, life.load());
/// // A second finisher comes too late.
/// assert!(life.step(Event::Finish(Outcome::Killed)).is_err());
/// # Ok::<(), raddle_core::life::Refused>(())
/// ```
pub struct AtomicState {
    /// The packed [`State`]:
    ///
    /// ```text
    ///  31 ──── 9     8       7       6         5         4 3       2 1 0
    ///  always 0    told   waited  watched  stop_asked   outcome    phase
    ///
    ///  phase    0 New  1 Ready  2 Running  3 Parked  4 Done     5 to 7 never occur
    ///  outcome  0 Returned  1 Raised  2 Stopped  3 Killed       0 unless the phase is Done
    /// ```
    word: AtomicU32,
}

impl AtomicState {
    /// A unit that is new.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(pack(State::NEW)) }
    }

    /// A unit that is new.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(pack(State::NEW)) }
    }

    /// The state at this moment.
    #[inline]
    pub fn load(&self) -> State {
        // Ordering: Acquire. Pairs with the Release half of `step`: whoever sees a unit that is over also
        // sees what its finisher wrote before.
        unpack(self.word.load(Acquire))
    }

    /// Takes one step, and returns the state after it and what the caller owes now.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the event is not allowed in the state the unit is in.
    #[inline]
    pub fn step(&self, event: Event) -> Result<(State, Next), Refused> {
        self.step_heard(event, UnitId(0), &NoListener)
    }

    /// Takes one step, and lets `listener` hear of it as the life of `unit`.
    ///
    /// The listener hears of a step after it was taken. Two steps by two threads may be heard in either
    /// order.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the event is not allowed in the state the unit is in; nothing is heard then.
    #[inline]
    pub fn step_heard<L: Listener + ?Sized>(
        &self,
        event: Event,
        unit: UnitId,
        listener: &L,
    ) -> Result<(State, Next), Refused> {
        // Ordering: Acquire, for the two answers that end with this read (rule 2).
        let mut seen = self.word.load(Acquire);
        loop {
            let before = unpack(seen);
            let (after, next) = before.step(event)?;
            if before.is_done() {
                return Ok((after, next));
            }
            // Ordering: AcqRel. Release pairs with the Acquire of every later step and of `load`: they see
            // what this thread wrote before (an outcome, a waiter's entry). Acquire: the same, seen from
            // here. On failure Acquire, because the loop may end with the value it read.
            match self.word.compare_exchange_weak(seen, pack(after), AcqRel, Acquire) {
                Ok(_) => {
                    listener.hear(unit, event, after);
                    return Ok((after, next));
                }
                Err(now) => seen = now,
            }
        }
    }
}

impl Default for AtomicState {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AtomicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtomicState").field(&self.load()).finish()
    }
}

const STOP_ASKED: u32 = 1 << 5;
const WATCHED: u32 = 1 << 6;
const WAITED: u32 = 1 << 7;
const TOLD: u32 = 1 << 8;

const fn pack(state: State) -> u32 {
    let (phase, outcome) = match state.phase {
        Phase::New => (0, 0),
        Phase::Ready => (1, 0),
        Phase::Running => (2, 0),
        Phase::Parked => (3, 0),
        Phase::Done(Outcome::Returned) => (4, 0),
        Phase::Done(Outcome::Raised) => (4, 1),
        Phase::Done(Outcome::Stopped) => (4, 2),
        Phase::Done(Outcome::Killed) => (4, 3),
    };
    phase
        | outcome << 3
        | (state.stop_asked as u32 * STOP_ASKED)
        | (state.watched as u32 * WATCHED)
        | (state.waited as u32 * WAITED)
        | (state.told as u32 * TOLD)
}

const fn unpack(word: u32) -> State {
    let phase = match (word & 0b111, word >> 3 & 0b11) {
        (0, _) => Phase::New,
        (1, _) => Phase::Ready,
        (2, _) => Phase::Running,
        (3, _) => Phase::Parked,
        (_, 0) => Phase::Done(Outcome::Returned),
        (_, 1) => Phase::Done(Outcome::Raised),
        (_, 2) => Phase::Done(Outcome::Stopped),
        (_, _) => Phase::Done(Outcome::Killed),
    };
    State {
        phase,
        stop_asked: word & STOP_ASKED != 0,
        watched: word & WATCHED != 0,
        waited: word & WAITED != 0,
        told: word & TOLD != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::every_answer;
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_reachable_state_has_a_word_of_its_own() {
        let mut words = HashMap::new();
        for (state, ..) in every_answer() {
            let word = pack(state);
            assert_eq!(unpack(word), state);
            assert_eq!(*words.entry(word).or_insert(state), state, "two states share {word:#b}");
            assert_eq!(word >> 9, 0, "{state:?} uses a bit that is always 0");
        }
    }

    #[test]
    #[cfg(not(loom))]
    fn the_atomic_machine_answers_as_the_pure_one() {
        for (from, event, expected) in every_answer() {
            let life = AtomicState { word: AtomicU32::new(pack(from)) };
            assert_eq!(life.step(event), expected);
            assert_eq!(life.load(), expected.map_or(from, |(to, _)| to));
        }
    }
}
