//! Units that nobody outside of them could free: what was seen and shown to last becomes a finding.

use std::collections::HashSet;

use crate::report::{Certainty, Finding, Level};
use crate::session::{Place, PlaceId, Session, Stuck, StuckUnit, UnitId};
use crate::words::{clean, is_library, place, plural, quoted};

use super::{Evidence, Fill, finding};

/// More units than these are not labelled one by one.
const MOST: usize = 6;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let session = evidence.timeline.session;
    // The same units in the same wait, seen again, are told once.
    let mut seen = HashSet::new();
    let new = session.stuck.iter().filter(|stuck| seen.insert((stuck.kind.as_str(), ids(&stuck.units))));
    new.map(|stuck| tell(session, stuck)).collect()
}

/// What units are the same by.
fn ids(units: &[StuckUnit]) -> Vec<(usize, Option<usize>, &str, Option<PlaceId>)> {
    let mut ids: Vec<_> =
        units.iter().map(|unit| (unit.process, unit.thread, unit.name.as_str(), unit.wanted)).collect();
    ids.sort_unstable();
    ids
}

fn tell(session: &Session, stuck: &Stuck) -> Finding {
    let (title, help) = words(session, stuck);
    // A wait that ends by itself costs its time; one that does not costs the program.
    let level = if stuck.is_timed { Level::Warning } else { Level::Error };
    let title = if stuck.is_timed { format!("{title}, until a timeout ends it") } else { title };
    let certainty = if stuck.is_certain { Certainty::Certain } else { Certainty::Probable };
    let mut told = finding(&stuck.kind, level, title).sure(certainty).at(stuck.at);
    told = told.about(stuck.units.iter().map(|unit| UnitId { process: unit.process, thread: unit.thread }));
    let is_across = stuck.units.iter().any(|unit| unit.process != stuck.units[0].process);
    for unit in stuck.units.iter().take(MOST) {
        let name = name(session, unit, is_across);
        let waits = format!("{name} waits for {}", clean(&unit.waits_for));
        told = match wanted(session, unit) {
            Some(wanted) => told.label(Some(wanted), format!("{waits} here")),
            // It is in no function of the program's own, such as the thread that feeds a queue.
            None => told.note(format!("{waits}{}", somewhere(session, unit))),
        };
        if let Some(holds) = &unit.holds {
            told = match unit.taken {
                Some(taken) => told.label(Some(taken), format!("{name} holds {} since here", clean(holds))),
                None => told.note(format!("{name} holds {}", clean(holds))),
            };
        }
    }
    if stuck.units.len() > MOST {
        told = told.note(format!("and {} more in the same state", stuck.units.len() - MOST));
    }
    if !stuck.is_certain {
        told = told.note("they have run while they were looked at: it is likely, but was not shown to last");
    }
    told.help(help)
}

/// Where it waits: the innermost place of the program's own, if there is one.
fn wanted(session: &Session, unit: &StuckUnit) -> Option<PlaceId> {
    let is_own = |id: &PlaceId| place_of(session, *id).is_some_and(|place| !is_library(&place.file));
    unit.wanted.iter().chain(&unit.stack).copied().find(is_own)
}

/// ` (multiprocessing/connection.py:384)`: where it waits in a library.
fn somewhere(session: &Session, unit: &StuckUnit) -> String {
    let known = unit.wanted.iter().chain(&unit.stack).find_map(|id| place_of(session, *id));
    known.map_or(String::new(), |known| format!(" ({})", place(session, known)))
}

fn place_of(session: &Session, id: PlaceId) -> Option<&Place> {
    session.places.get(usize::try_from(id).ok()?)
}

fn name(session: &Session, unit: &StuckUnit, is_across: bool) -> String {
    let name = quoted(&unit.name);
    let pid = session.processes.get(unit.process).map(|process| process.pid).filter(|_| is_across);
    pid.map_or_else(|| name.clone(), |pid| format!("process {pid} {name}"))
}

/// The title, and what to do.
fn words(session: &Session, stuck: &Stuck) -> (String, &'static str) {
    let count = stuck.units.len();
    let first = stuck.units.first();
    let waits = |units: &str| if count == 1 { format!("a {units} waits") } else { format!("{count} {units}s wait") };
    let through_pipe =
        stuck.units.iter().any(|unit| unit.waits_for.contains("pipe") || unit.waits_for.contains("write"));
    let joins = stuck.units.iter().any(|unit| unit.waits_for.contains("the end of"));
    match stuck.kind.as_str() {
        "deadlock" if joins => (
            format!("{} for each other", waits("thread")),
            "a thread that is to be joined must not need what the joining one holds: release it before join()",
        ),
        "deadlock" => (format!("{} for each other", waits("thread")), "take the locks in the same order everywhere"),
        "self-deadlock" => (
            first.map_or_else(
                || "a thread waits for itself".into(),
                |unit| {
                    format!(
                        "{} waits for {}, which it holds itself",
                        name(session, unit, false),
                        clean(&unit.waits_for)
                    )
                },
            ),
            "use an RLock, or do not take the lock again in what is called while it is held",
        ),
        "task-deadlock" => (
            format!(
                "{} of asyncio {} for each other",
                plural(count, "task"),
                if count == 1 { "waits" } else { "wait" }
            ),
            "a task must not await one that awaits it: give them a future or a queue to pass results through",
        ),
        "process-deadlock" if through_pipe => (
            "processes wait for each other: one for the end, the other for somebody who reads".into(),
            "read what a child writes before you wait for its end: get() before join(), communicate() instead of wait()",
        ),
        "process-deadlock" => (
            format!("{} for each other", waits_of_processes(stuck)),
            "a process must not need what the one that waits for its end holds",
        ),
        "lost-lock" => (
            format!("{} for a lock whose owner is not there", waits("thread")),
            "the owner has ended without releasing it, or stayed in the process that this one was forked from: release in `with`, fork before threads",
        ),
        "pool-exhausted" => (
            "every worker of a pool waits for work that only this pool could do".into(),
            "do not wait in a task for another task of the same pool: use a second pool, more workers than nested waits, or return and combine outside",
        ),
        "nobody-can-wake" => (
            format!("{} and nobody is left who could wake {}", waits("thread"), if count == 1 { "it" } else { "them" }),
            "send an end mark for each consumer (or shut the queue down), set the event before the last setter ends, or give the wait a timeout",
        ),
        "lost-wakeup" => (
            format!(
                "{}, and nobody is left who could notify: a notification came before the wait began, or never",
                waits("thread")
            ),
            "wait in a loop for the condition itself: `while not ready: condition.wait()`, or `condition.wait_for(lambda: ready)`",
        ),
        _ => (format!("{} and cannot go on", waits("unit")), "see where they wait: `raddle dump` shows the stacks"),
    }
}

fn waits_of_processes(stuck: &Stuck) -> String {
    let mut processes: Vec<usize> = stuck.units.iter().map(|unit| unit.process).collect();
    processes.sort_unstable();
    processes.dedup();
    format!("{} wait", plural(processes.len(), "process"))
}
