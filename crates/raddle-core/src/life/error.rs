//! What a step can answer instead of a state.

use std::error::Error;
use std::fmt;

/// The event is not allowed in this state; nothing has changed.
///
/// This is an ordinary answer: someone else came first. A worker that is refused a
/// [`Start`](super::Event::Start) drops the unit, a second finisher drops its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this event is not allowed in the unit's present state")
    }
}

impl Error for Refused {}
