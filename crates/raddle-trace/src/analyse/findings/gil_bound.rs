//! Threads that run Python code and take turns.

use crate::report::{Finding, Level};
use crate::session::{Nanos, Process, Span, State, UnitId};
use crate::words::{duration, percent, plural, range};

use super::super::shares::{Shares, shares};
use super::super::timeline::{Unit, busiest_place, has_gil};
use super::{Evidence, Fill, finding};

/// Threads that want to run Python spend at least this share of that time waiting for the GIL. Two that always want to wait for half of it.
const WAITED: f64 = 0.30;

/// And some of them do so for at least this share of the life of their process, and this long together: below it there is little to gain. Thousands that
/// are woken at once wait for long together, and for a moment by the clock.
const OF_LIFE: f64 = 0.25;
const LEAST: Nanos = 100_000_000;

/// At least this share of what they do or want to do is Python: native code that lets go of the GIL is not held up.
const PYTHON: f64 = 0.70;

/// So many looks are needed.
const LOOKS: u64 = 20;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    if !evidence.timeline.is_enough(LOOKS) {
        return Vec::new();
    }
    let processes = evidence.timeline.session.processes.iter().enumerate();
    processes.filter_map(|(index, process)| tell(evidence, index, process)).collect()
}

/// What is known of how the threads of a process share its GIL.
pub(crate) struct Turns {
    pub(crate) threads: usize,
    /// The share of the time in which they wanted to run that they waited for the GIL.
    pub(crate) waited_share: f64,
    pub(crate) waited: Nanos,
    pub(crate) python_share: f64,
}

/// How the threads of a process share its GIL; `None` if they do not get in each other's way.
pub(crate) fn turns(evidence: &Evidence<'_, '_>, index: usize, process: &Process) -> Option<Turns> {
    let timeline = evidence.timeline;
    let mut all = Shares::default();
    let mut threads = 0;
    for unit in timeline.of_process(index) {
        let own = shares(unit.thread, timeline.until.max(timeline.session.length));
        // One that rarely wants to run neither waits nor makes others wait.
        let wants = own.nanos(State::Running).saturating_add(own.nanos(State::Gil));
        threads += usize::from(wants as f64 > 0.05 * timeline.life_of(process) as f64);
        all.add(&own);
    }
    let of = |state| all.nanos(state) as f64;
    let on_processor = of(State::Running) + of(State::Native);
    // A processor that somebody else has is no matter of the GIL.
    let wanted = on_processor + of(State::Gil);
    let waited = all.nanos(State::Gil);
    let turns = Turns {
        threads,
        waited_share: of(State::Gil) / wanted.max(1.0),
        waited,
        python_share: (of(State::Running) + of(State::Gil)) / wanted.max(1.0),
    };
    let is_bound = has_gil(process)
        && threads >= 2
        && turns.waited_share >= WAITED
        && turns.python_share >= PYTHON
        && waited >= LEAST
        && by_the_clock(timeline.of_process(index)) as f64 >= OF_LIFE * timeline.life_of(process) as f64;
    is_bound.then_some(turns)
}

/// How long some thread waited for the GIL.
fn by_the_clock<'a, 's: 'a>(units: impl Iterator<Item = &'a Unit<'s>>) -> Nanos {
    let mut waits: Vec<(Nanos, Nanos)> = units
        .flat_map(|unit| unit.spans.iter())
        .filter(|span| span.state == State::Gil)
        .map(|span| (span.from, span.until))
        .collect();
    waits.sort_unstable();
    let (mut sum, mut end) = (0, 0);
    for (from, until) in waits {
        sum += until.saturating_sub(from.max(end));
        end = end.max(until);
    }
    sum
}

fn tell(evidence: &Evidence<'_, '_>, index: usize, process: &Process) -> Option<Finding> {
    let turns = turns(evidence, index, process)?;
    let timeline = evidence.timeline;
    let waits = |unit: &Unit<'_>| unit.spans.iter().any(|span| span.state == State::Gil);
    let units: Vec<&Unit<'_>> = timeline.of_process(index).filter(|unit| waits(unit)).collect();
    let mut told = finding(
        "gil-bound",
        Level::Warning,
        format!("{} run Python code and take turns", plural(turns.threads, "thread")),
    );
    told = told.about(units.iter().map(|unit| UnitId { process: index, thread: Some(unit.id.1) }));
    let spans: Vec<&Span> = units.iter().flat_map(|unit| unit.spans.iter()).collect();
    let waiting = spans.iter().copied().filter(|span| span.state == State::Gil);
    if let Some((place, waited)) = busiest_place(waiting) {
        told = told.label(Some(place), format!("{} of waiting for the GIL happened here", duration(waited)));
    } else if let Some((place, ran)) = busiest_place(spans.iter().copied().filter(|span| span.state == State::Running))
    {
        told = told.label(Some(place), format!("{} of running Python happened here", duration(ran)));
    }
    told = told.note(format!(
        "they waited for the GIL {} of the time in which they wanted to run, {} together",
        percent(turns.waited_share),
        duration(turns.waited)
    ));
    Some(told.help(help(evidence)))
}

fn help(evidence: &Evidence<'_, '_>) -> String {
    let cores = evidence.timeline.session.cores.max(2);
    let predictions = evidence.speed_up.map_or(&[][..], |speed_up| &speed_up.predictions);
    let processes = predictions.iter().filter(|one| one.model == "processes");
    let fits = processes.filter(|one| one.workers.is_some_and(|workers| workers <= cores));
    let now = duration(evidence.timeline.length());
    match fits.max_by_key(|one| one.workers) {
        Some(best) => format!(
            "the same work in {} processes is predicted to take {} instead of {now}: raddle.Pool(\"process\")",
            best.workers.unwrap_or(cores),
            range(best.seconds)
        ),
        None => "let processes do the work (raddle.Pool(\"process\")), or a Python without a GIL".into(),
    }
}
