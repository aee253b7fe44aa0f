//! What the states are called where there is room for it.

use crate::report::Level;
use crate::session::State;

/// A state in words, as `docs/guide/run.md` has them.
pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Native => "native",
        State::Runnable => "waiting for a CPU",
        State::Gil => "waiting for the GIL",
        State::Lock => "blocked on a lock",
        State::Queue => "waiting on a queue",
        State::Event => "waiting",
        State::Join => "joining",
        State::Io => "in I/O",
        State::Sleep => "sleeping",
        State::Stopped => "stopped",
        State::Unknown => "unknown",
    }
}

/// How grave a finding is, in a word.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Note => "note",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}
