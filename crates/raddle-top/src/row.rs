//! What rows are about, and small words in them.

pub(crate) use raddle_probe::plural;
use raddle_probe::{Place, Process, State, Thread, Wait, clean, is_library, place_in};

use crate::history::ThreadId;

/// What a row is about: how it is found again in the next look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Process(u32),
    Thread(ThreadId),
    /// The threads of a process that Python does not know.
    Native(u32),
    /// What is waited for or held: its process and address.
    Thing(u32, u64),
    /// A task of asyncio: its process, its name, and which of those with this name.
    Task(u32, String, usize),
}

impl Subject {
    /// The process that it is, or is in.
    pub(crate) fn process(&self) -> u32 {
        match self {
            Self::Process(pid)
            | Self::Thread((pid, _))
            | Self::Native(pid)
            | Self::Thing(pid, _)
            | Self::Task(pid, ..) => *pid,
        }
    }
}

/// The state in a word that fits a narrow column.
pub(crate) fn word(state: State) -> &'static str {
    match state {
        State::Gil => "GIL",
        State::Io => "I/O",
        other => other.word(),
    }
}

/// The state in one character.
pub(crate) fn glyph(state: State) -> char {
    match state {
        State::Running => '█',
        State::Native => '▓',
        State::Gil => '▒',
        State::Blocked => '░',
        State::Waiting => '-',
        State::Sleeping => '.',
        State::Io => '~',
        State::Stopped => '!',
        State::Unknown => '?',
    }
}

/// How urgent it is that somebody looks at a thread in this state: the smaller, the more.
pub(crate) fn urgency(state: State) -> usize {
    let order = [State::Blocked, State::Gil, State::Running, State::Native, State::Waiting, State::Io, State::Sleeping];
    order.iter().position(|one| *one == state).unwrap_or(order.len())
}

/// The innermost place of the thread that is the program's own, or else the innermost.
pub(crate) fn own_place(thread: &Thread) -> Option<&Place> {
    let asked = thread.wait.as_ref().and_then(|wait| wait.place.as_ref()).filter(|place| !is_library(&place.file));
    asked.or_else(|| thread.frames.iter().find(|place| !is_library(&place.file))).or_else(|| thread.frames.first())
}

/// `bank.py:16 transfer`.
pub(crate) fn place_and_function(process: &Process, place: &Place) -> String {
    format!("{} {}", place_in(process, place), clean(&place.function))
}

/// Who could end the wait, in words, where that adds to what is waited for.
pub(crate) fn held_by(process: &Process, wait: &Wait) -> Option<String> {
    let holder = wait.holder.as_ref().filter(|_| wait.kind != "thread")?;
    Some(match holder.thread {
        Some(index) => format!("held by \"{}\"", clean(&process.threads.get(index)?.name)),
        None => "whose owner is not there".into(),
    })
}

/// The command line, short: the interpreter is not told.
pub(crate) fn command(process: &Process) -> String {
    let words = &process.command;
    let skipped = usize::from(process.version.is_some() && words.len() > 1);
    let first = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    let mut said: Vec<String> = words.iter().skip(skipped).cloned().collect();
    if let Some(word) = said.first_mut().filter(|word| !word.contains(char::is_whitespace)) {
        *word = first(word);
    }
    clean(&said.join(" "))
}

/// A span of time in at most five characters.
pub(crate) fn span(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 99.5 => format!("{s:.0}s"),
        s if s < 5970.0 => format!("{:.0}m", s / 60.0),
        s if s < 171_000.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// A share as a whole number of per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::process;

    #[test]
    fn a_span_fits_its_column() {
        let said: Vec<_> = [0.04, 9.94, 9.96, 99.4, 99.6, 5969.0, 170_000.0, 1e7].map(span).into();
        assert_eq!(said, ["0.0s", "9.9s", "10s", "99s", "2m", "99m", "47h", "116d"]);
        assert_eq!(span(-1.0), "0.0s");
    }

    #[test]
    fn a_command_is_what_is_run_by_the_interpreter() {
        let mut one = process(7, vec![]);
        one.command = vec!["/usr/bin/python3".into(), "/srv/app/crawler.py".into(), "--depth".into(), "3".into()];
        assert_eq!(command(&one), "crawler.py --depth 3");
        one.version = None;
        one.command = vec!["/bin/sleep".into(), "60".into()];
        assert_eq!(command(&one), "sleep 60");
        one.command = vec!["x\x1b[2J".into()];
        assert_eq!(command(&one), "x\\u{1b}[2J");
    }

    #[test]
    fn every_state_has_a_mark_of_its_own() {
        let marks: std::collections::HashSet<char> = State::ALL.iter().map(|state| glyph(*state)).collect();
        assert_eq!(marks.len(), State::ALL.len());
    }
}
