//! Locks that the program's length hangs on.

use std::collections::HashSet;

use crate::report::{Finding, Level, LockCost};
use crate::session::{Ending, Nanos, UnitId};
use crate::words::{clean, duration, percent, plural};

use super::super::locks::Waits;
use super::super::timeline::{Timeline, Unit};
use super::{Evidence, Fill, finding, stuck_units};

/// At least this share of the critical path leads through holders of the lock.
const SHARE: f64 = 0.10;

/// It was waited for so long, together, and by so many threads.
const LEAST: Nanos = 100_000_000;
const WAITERS: usize = 2;

/// More are not told: the list of locks has them.
const MOST: usize = 3;

const LOOKS: u64 = 20;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    if !evidence.timeline.is_enough(LOOKS) {
        return Vec::new();
    }
    let stuck = stuck_units(evidence.timeline.session);
    let hot = evidence.locks.iter().filter(|cost| cost.share >= SHARE && cost.waited >= LEAST);
    hot.filter_map(|cost| tell(evidence, &stuck, cost)).take(MOST).collect()
}

/// Whether somebody who waits for the lock never got it: then the program hangs, and is not slow. One that ended with an exit code did not hang,
/// wherever its threads were seen last.
fn hangs(timeline: &Timeline<'_>, stuck: &HashSet<UnitId>, waits: &Waits) -> bool {
    let is_stuck = |unit: &Unit<'_>| stuck.contains(&UnitId { process: unit.id.0, thread: Some(unit.id.1) });
    waits.spans.iter().any(|(index, span)| {
        let unit = &timeline.units[*index];
        let was_left = unit.thread.ended.is_none() && unit.spans.last().is_some_and(|last| last == span);
        is_stuck(unit) || was_left && !matches!(timeline.process(unit).ending, Some(Ending::Exit(_)))
    })
}

fn tell(evidence: &Evidence<'_, '_>, stuck: &HashSet<UnitId>, cost: &LockCost) -> Option<Finding> {
    let timeline = evidence.timeline;
    let thing = timeline.thing(Some(cost.thing))?;
    let waits = evidence.waits.get(&cost.thing)?;
    if waits.waiters() < WAITERS || hangs(timeline, stuck, waits) {
        return None;
    }
    let title = format!("{} of the critical path leads through {}", percent(cost.share), clean(&thing.what));
    let mut told = finding("hot-lock", Level::Warning, title);
    let mut units: Vec<usize> = waits.spans.iter().map(|(unit, _)| *unit).collect();
    units.sort_unstable();
    units.dedup();
    told = told.about(
        units.iter().map(|unit| timeline.units[*unit].id).map(|id| UnitId { process: id.0, thread: Some(id.1) }),
    );
    told = told.label(cost.place, format!("{} of waiting for it, most of it here", duration(cost.waited)));
    told = told.label(thing.made, "it was made here");
    if let Some(longest) = waits.longest() {
        told = told.at(longest.from).note(format!(
            "{} waited for it, the longest time {} (\"{}\")",
            plural(waits.waiters(), "thread"),
            duration(cost.longest),
            crate::words::thread_name(timeline.units[longest.unit].thread)
        ));
    }
    Some(told.help("do less while it is held, or use one lock for each part of what it guards"))
}
