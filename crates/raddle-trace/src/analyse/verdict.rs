//! The one line above everything: how it ended, how long it took, and what matters most.

use crate::report::{Finding, Level};
use crate::session::State;
use crate::words::{duration, ending, percent, plural, program};

use super::findings::Evidence;
use super::shares::{Shares, shares};
use super::timeline::Timeline;

/// So many looks are needed to speak of what it did.
const LOOKS: u64 = 10;

/// From this share of one processor on it is said how much it used.
const BUSY: f64 = 0.30;

pub(crate) fn verdict(evidence: &Evidence<'_, '_>, findings: &[Finding]) -> String {
    let timeline = evidence.timeline;
    let session = timeline.session;
    let how = session.processes.first().and_then(|process| process.ending).or(session.ending);
    let how = if session.is_aborted { "was ended by its watcher".into() } else { ending(how) };
    let how = format!("{how} after {}", duration(timeline.length()));
    let command = session.processes.first().map_or(&session.command, |process| &process.command);
    let command = if session.command.is_empty() { command } else { &session.command };
    let head = format!("{} {how}", program(command));
    match matters(evidence, findings) {
        Some(what) => format!("{head} · {what}"),
        None => head,
    }
}

/// What matters most: what went wrong; or what cost most of the time; or what the time went to.
fn matters(evidence: &Evidence<'_, '_>, findings: &[Finding]) -> Option<String> {
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    if let Some(first) = findings.iter().find(|finding| finding.level == Level::Error) {
        let more = if errors > 1 { format!(" (and {})", plural(errors - 1, "more error")) } else { String::new() };
        return Some(format!("{}{more}", first.title));
    }
    let has = |id: &str| findings.iter().find(|finding| finding.id == id);
    if has("gil-bound").is_some() {
        return Some(format!(
            "its threads waited {} of their time for the GIL",
            percent(waited_for_gil(evidence, findings))
        ));
    }
    if let Some(first) = findings.iter().find(|finding| finding.level == Level::Warning) {
        return Some(first.title.clone());
    }
    what_it_did(evidence.timeline)
}

/// Of the time of those threads that wait for it, and not of the one that only joins them.
fn waited_for_gil(evidence: &Evidence<'_, '_>, findings: &[Finding]) -> f64 {
    let timeline = evidence.timeline;
    let mut all = Shares::default();
    let units = findings.iter().filter(|finding| finding.id == "gil-bound").flat_map(|finding| &finding.units);
    for id in units {
        let unit = id.thread.and_then(|thread| timeline.find((id.process, thread)));
        if let Some(unit) = unit {
            let own = shares(timeline.units[unit].thread, timeline.until);
            // A word that was once waited for does not make a worker.
            if own.fraction(State::Gil) >= 0.1 {
                all.add(&own);
            }
        }
    }
    all.fraction(State::Gil)
}

/// For a program of which there is nothing to complain: what its time went to.
fn what_it_did(timeline: &Timeline<'_>) -> Option<String> {
    let session = timeline.session;
    if timeline.length() == 0 || !timeline.is_enough(LOOKS) {
        return None;
    }
    let cpu = cpu(timeline) / timeline.length() as f64;
    if cpu >= BUSY {
        let of = match session.cores {
            0 => String::new(),
            cores => format!(" of {}", plural(cores as usize, "processor")),
        };
        return Some(format!("it kept {cpu:.1}{of} busy"));
    }
    let mut all = Shares::default();
    timeline.units.iter().for_each(|unit| all.add(&shares(unit.thread, timeline.until)));
    let worth = [State::Io, State::Sleep, State::Lock, State::Runnable];
    let sum: f64 = worth.iter().map(|state| all.nanos(*state) as f64).sum();
    let most = worth.into_iter().max_by_key(|state| all.nanos(*state))?;
    let what = match most {
        State::Io => "it mostly waited for I/O",
        State::Sleep => "it mostly slept",
        State::Lock => "its threads mostly waited for locks",
        _ => "it mostly waited for a processor that others had",
    };
    (all.nanos(most) as f64 > 0.5 * sum && sum >= 0.5 * timeline.length() as f64).then(|| what.into())
}

/// Nanoseconds on processors, of all processes: as counted by the kernel, or else as seen.
pub(crate) fn cpu(timeline: &Timeline<'_>) -> f64 {
    let counted: f64 = timeline.session.processes.iter().map(|process| process.cpu as f64).sum();
    if counted > 0.0 {
        return counted;
    }
    let seen = timeline.units.iter().map(|unit| shares(unit.thread, timeline.until));
    seen.map(|own| own.nanos(State::Running) as f64 + own.nanos(State::Native) as f64).sum()
}
