//! Threads of which each is started when the one before it has ended: `start()` and `join()` in one loop.

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
    let groups = (0..timeline.session.processes.len())
        .flat_map(|process| (0..timeline.roles.len()).map(move |role| (process, role)));
    // Most pairs of a process and a role have no unit: the roles' sizes tell.
    let groups = groups.filter(|(_, role)| timeline.roles[*role].count >= FEWEST);
    groups.filter_map(|(process, role)| tell(timeline, process, role)).collect()
}

fn tell(timeline: &Timeline<'_>, process: usize, role: usize) -> Option<Finding> {
    let mut units: Vec<&Unit<'_>> = timeline.of_process(process).filter(|unit| unit.role == role).collect();
    units.sort_by_key(|unit| unit.thread.began);
    let is_in_a_row =
        units.windows(2).all(|pair| pair[0].thread.ended.is_some_and(|ended| ended <= pair[1].thread.began));
    let works: Vec<Nanos> = units.iter().map(|unit| unit.worked(0, timeline.until)).collect();
    let together: Nanos = works.iter().sum();
    let is_much = works.iter().all(|work| *work >= LEAST) && together as f64 >= OF_LENGTH * timeline.length() as f64;
    if units.len() < FEWEST || !is_in_a_row || !is_much {
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
