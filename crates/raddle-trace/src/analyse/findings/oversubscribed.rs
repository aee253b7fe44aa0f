//! Many more threads on processors than there are processors.

use crate::report::{Finding, Level};
use crate::session::{Nanos, State, UnitId};
use crate::words::{duration, plural};

use super::super::shares::shares;
use super::super::timeline::Unit;
use super::{Evidence, Fill, finding};

/// So many threads for each processor, and so many at all. Two or four for each do little harm.
const PER_CORE: usize = 4;
const FEWEST: usize = 8;

/// They wait for a processor so many times as long as they have one, and so long together.
const TIMES: f64 = 2.0;
const LEAST: Nanos = 1_000_000_000;

/// A thread counts if it wanted a processor for this share of its life.
const BUSY: f64 = 0.30;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    tell(evidence).into_iter().collect()
}

fn tell(evidence: &Evidence<'_, '_>) -> Option<Finding> {
    let timeline = evidence.timeline;
    let cores = usize::try_from(timeline.session.cores).ok().filter(|cores| *cores > 0)?;
    let (mut queued, mut ran) = (0_u64, 0_u64);
    let mut busy: Vec<&Unit<'_>> = Vec::new();
    for unit in &timeline.units {
        let own = shares(unit.thread, timeline.until);
        let on = own.nanos(State::Running).saturating_add(own.nanos(State::Native));
        let on = if unit.thread.cpu > 0 { unit.thread.cpu } else { on };
        let waits = unit.thread.queued.max(own.nanos(State::Runnable));
        let life = own.seen();
        if life > 0 && on.saturating_add(waits) as f64 >= BUSY * life as f64 {
            (queued, ran) = (queued.saturating_add(waits), ran.saturating_add(on));
            busy.push(unit);
        }
    }
    let is_too_many = busy.len() >= FEWEST && busy.len() >= PER_CORE * cores;
    if !is_too_many || queued < LEAST || (queued as f64) < TIMES * ran as f64 {
        return None;
    }
    let title = format!("{} want {} at the same time", plural(busy.len(), "thread"), plural(cores, "processor"));
    let told = finding("oversubscribed", Level::Warning, title)
        .about(busy.iter().map(|unit| UnitId { process: unit.id.0, thread: Some(unit.id.1) }))
        .note(format!("they waited {} for a processor and had one for {}", duration(queued), duration(ran)));
    let told = told.help(format!("use about as many workers as there are processors ({cores})"));
    Some(told.help(
        "where each worker starts threads of its own in native code, limit those: OMP_NUM_THREADS=1, threadpoolctl",
    ))
}
