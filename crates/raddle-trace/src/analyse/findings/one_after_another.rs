//! Threads of which each is started when the one before it has ended: `start()` and `join()` in one loop.

use std::collections::BTreeMap;

use crate::report::{Finding, Level};
use crate::session::{Nanos, UnitId};
use crate::words::{duration, plural};

use super::super::timeline::{Timeline, Unit};
use super::{Evidence, Fill, finding};

/// So many in a row are no accident.
const FEWEST: usize = 4;

/// Each works for so long, and together for this share of the program: otherwise there is nothing to gain.
const LEAST: Nanos = 20_000_000;
const OF_LENGTH: f64 = 0.50;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let timeline = evidence.timeline;
    let mut groups: BTreeMap<(usize, usize), Vec<&Unit<'_>>> = BTreeMap::new();
    for unit in &timeline.units {
        groups.entry((unit.id.0, unit.role)).or_default().push(unit);
    }
    let groups = groups.into_iter().filter(|(_, units)| units.len() >= FEWEST);
    groups.filter_map(|((process, _), units)| tell(timeline, process, units)).collect()
}

fn tell(timeline: &Timeline<'_>, process: usize, mut units: Vec<&Unit<'_>>) -> Option<Finding> {
    units.sort_by_key(|unit| unit.thread.began);
    let is_in_a_row =
        units.windows(2).all(|pair| pair[0].thread.ended.is_some_and(|ended| ended <= pair[1].thread.began));
    let works: Vec<Nanos> = units.iter().map(|unit| unit.worked(0, timeline.until)).collect();
    let together: Nanos = works.iter().sum();
    let is_much = works.iter().all(|work| *work >= LEAST) && together as f64 >= OF_LENGTH * timeline.length() as f64;
    if !is_in_a_row || !is_much {
        return None;
    }
    let title = format!("{} ran one after another, never two at a time", plural(units.len(), "thread"));
    let told = finding("one-after-another", Level::Warning, title)
        .at(units[0].thread.began)
        .about(units.iter().map(|unit| UnitId { process, thread: Some(unit.id.1) }))
        .label(units[0].thread.function, "they run this")
        .note(format!("they worked for {} together", duration(together)));
    Some(told.help("start all of them first and join them afterwards, or use a pool"))
}
