//! A thread that waits for a lock while others take it again and again.
//!
//! Judged by the longest wait, not by who gets how much: a thread that gets one turn in forty, and each of them soon, is served well.

use crate::report::{Finding, Level};
use crate::session::{Nanos, ThingId, UnitId};
use crate::words::{clean, duration, thread_name};

use super::super::locks::{Wait, Waits};
use super::{Evidence, Fill, finding};

pub(super) const HELP: &[&str] = &[
    "let go of the lock for longer than an instant between two turns, or use a fair one: raddle.sync.Lock(fair=True)",
];

/// A wait below this is no matter.
const LEAST: Nanos = 250_000_000;

/// So many turns of each other waiter went by: with a fair lock it would be one.
const TURNS: u64 = 10;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let mut all: Vec<(&ThingId, &Waits)> = evidence.waits.iter().collect();
    all.sort_by_key(|(thing, _)| **thing);
    all.into_iter().filter_map(|(thing, waits)| tell(evidence, *thing, waits)).collect()
}

fn tell(evidence: &Evidence<'_, '_>, thing: ThingId, waits: &Waits) -> Option<Finding> {
    let timeline = evidence.timeline;
    let wait = waits.longest()?;
    let length = wait.length;
    let turns = overtaken(waits, wait).max(taken_meanwhile(evidence, thing, length));
    let waiters = waits.waiters() as u64;
    if length < LEAST || turns < TURNS * waiters.max(2) {
        return None;
    }
    let starved = &timeline.units[wait.unit];
    let what = clean(&timeline.thing(Some(thing))?.what);
    let told = finding(
        "starvation",
        Level::Warning,
        format!(
            "\"{}\" waited {} for {what} while others took it {turns} times",
            thread_name(starved.thread),
            duration(length)
        ),
    );
    let told = told.at(wait.from).about([UnitId { process: starved.id.0, thread: Some(starved.id.1) }]);
    let told = told.label(wait.place, format!("{} of waiting in one piece here", duration(length)));
    Some(HELP.iter().fold(told, |told, help| told.help(*help)))
}

/// How many came later and were served before.
fn overtaken(waits: &Waits, wait: &Wait) -> u64 {
    let is_overtaker = |other: &&Wait| other.unit != wait.unit && other.from > wait.from && other.until < wait.until;
    waits.whole.iter().filter(is_overtaker).count() as u64
}

/// How often the lock changed hands in such a time, where that was counted: whoever takes it again at once never waits, and is not seen to.
fn taken_meanwhile(evidence: &Evidence<'_, '_>, thing: ThingId, length: Nanos) -> u64 {
    let timeline = evidence.timeline;
    let Some(thing) = timeline.thing(Some(thing)).filter(|thing| thing.held > 0 && thing.taken > 0) else { return 0 };
    let share = length as f64 / (timeline.length() as f64).max(1.0);
    let by_count = thing.taken as f64 * share;
    // A few that hold it for long are slow, not greedy.
    let by_length = length as f64 / (thing.held as f64 / thing.taken as f64).max(1.0);
    by_count.min(by_length) as u64
}
