//! What more workers would bring.
//!
//! The time of a program is taken apart into what must happen one after the other and what could be spread (see [`super::phases`]). For each model
//! of concurrency some of the work uses something that there is once: the GIL, a lock. From this follow two bounds for `N` workers with a processor
//! each, and [`super::replay`] tells how far between them it is:
//!
//! ```text
//! at best    alone + max(shared / N, one at a time)                 no worker ever waits for another without need
//! at worst   alone + one at a time + (shared - one at a time) / N   the bound of greedy scheduling (Graham, Brent)
//! ```
//!
//! # Rules
//!
//! 1. Nothing is said where there is nothing to say it from: one thread, a short run, few looks, a program that hangs,
//!    a machine that was busy with something else.
//! 2. A prediction is a range. It is never narrower than what the measurement itself is good for.

use crate::quick::QuickMap;
use crate::report::{Prediction, SpeedUp};
use crate::session::{Nanos, ThingId};

use super::crowding::crowding;
use super::locks::{Waits, held};
use super::phases::Phases;
use super::replay::{Load, replay};
use super::timeline::{Timeline, has_gil};

/// A program is judged by at least so many looks.
const LOOKS: u64 = 20;

/// A program that works for less than this share of its time waits for something that more workers do not bring.
const OF_LENGTH: f64 = 0.10;

/// All threads but the busiest do at least this share of the work. Otherwise there is one worker, and nothing to say.
const OTHERS: f64 = 0.05;

/// A program that others kept waiting for this share of its work says nothing about what it would take by itself.
const BLURRED: f64 = 0.30;

/// What a measurement is good for, at best and at worst: looks and processor frequencies are not exact.
const DOUBT: (f64, f64) = (0.97, 1.05);

/// Python code without a GIL takes this much longer at worst: the figure that the documentation of Python 3.14 gives for x86-64.
const FREE_THREADED: f64 = 1.08;

/// Another process costs this many seconds at worst until it does the first piece of work.
const PROCESS: f64 = 0.08;

/// The numbers of workers that are told; `None` for as many as one likes.
const WORKERS: [Option<u32>; 4] = [Some(2), Some(4), Some(8), None];

/// What decides how far the work can be spread.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) phases: Phases,
    /// The longest time that one lock was held, and how often it was taken.
    pub(crate) lock: f64,
    pub(crate) taken: u64,
    /// The most Python that was run under one GIL.
    pub(crate) gil: f64,
}

impl Limits {
    pub(crate) fn new(timeline: &Timeline<'_>, phases: &Phases, waits: &QuickMap<ThingId, Waits>) -> Self {
        let locks = waits.iter().map(|(thing, waits)| (held(timeline, *thing, waits), *thing, waits));
        let longest = locks.max_by_key(|(held, thing, _)| (*held, *thing));
        let (lock, taken) = longest.map_or((0, 0), |(held, thing, waits)| {
            let taken = timeline.thing(Some(thing)).map_or(0, |thing| thing.taken);
            (held, taken.max(waits.whole.len() as u64))
        });
        let processes = timeline.session.processes.iter();
        let gils = processes.zip(&phases.python_of).filter(|(process, _)| has_gil(process)).map(|(_, python)| *python);
        Self {
            lock: (lock as f64).min(phases.parallel).min(phases.shared()),
            taken,
            gil: gils.fold(0.0, f64::max),
            phases: phases.clone(),
        }
    }

    /// Of the work of several threads, what could not be done at the same time as any other.
    fn one_at_a_time(&self) -> f64 {
        self.lock.max(self.gil)
    }
}

pub(crate) fn speed_up(timeline: &Timeline<'_>, limits: &Limits) -> Option<SpeedUp> {
    let phases = &limits.phases;
    let is_stuck = !timeline.session.stuck.is_empty();
    let is_work = phases.work() >= OF_LENGTH * timeline.length() as f64 && phases.shared() >= OTHERS * phases.work();
    // The work would take as long as it did only if the machine were as busy again.
    let is_blurred = crowding(timeline.session).is_some_and(|crowding| crowding.waited >= BLURRED * phases.work());
    if is_blurred || is_stuck || !is_work || !has_workers(timeline) || !timeline.is_enough(LOOKS) {
        return None;
    }
    let is_one_gil = limits.gil > 0.0 && limits.gil >= 0.9 * phases.python;
    let mut models = Vec::new();
    if is_one_gil {
        models.push(Model { name: "threads", has_gil: true, slower: 1.0, start: 0.0 });
    } else if limits.gil == 0.0 {
        models.push(Model { name: "threads", has_gil: false, slower: 1.0, start: 0.0 });
    }
    models.push(Model { name: "processes", has_gil: false, slower: 1.0, start: PROCESS });
    if is_one_gil {
        models.push(Model { name: "free-threaded", has_gil: false, slower: FREE_THREADED, start: 0.0 });
    }
    let predictions = models.iter().flat_map(|model| WORKERS.map(|workers| model.predict(limits, workers))).collect();
    Some(SpeedUp {
        serial_fraction: ((phases.alone + limits.one_at_a_time()) / phases.work().max(1.0)).clamp(0.0, 1.0),
        work: phases.work() as Nanos,
        span: (phases.alone + limits.one_at_a_time().max(phases.longest_role)) as Nanos,
        predictions,
    })
}

/// Whether more than one thread works.
fn has_workers(timeline: &Timeline<'_>) -> bool {
    let work = timeline.units.iter().map(|unit| unit.worked(0, timeline.until) as f64);
    let (all, most) = work.fold((0.0, 0.0), |(all, most): (f64, f64), work| (all + work, most.max(work)));
    all - most >= OTHERS * all && all > 0.0
}

/// A kind of workers.
struct Model {
    name: &'static str,
    has_gil: bool,
    /// So much longer Python code takes at worst.
    slower: f64,
    /// So many seconds a worker costs at worst before it does anything.
    start: f64,
}

impl Model {
    fn predict(&self, limits: &Limits, workers: Option<u32>) -> Prediction {
        let phases = &limits.phases;
        let load = Load {
            python: phases.python,
            other: phases.native + phases.world,
            under_lock: limits.lock,
            pieces: limits.taken,
            has_gil: self.has_gil,
        };
        let gil = if self.has_gil { limits.gil } else { 0.0 };
        let bound = limits.lock.max(gil).max(phases.longest_role);
        let shared = phases.shared();
        let (best, worst) = match workers {
            Some(count) => {
                let count = f64::from(count);
                let best = bound.max(shared / count);
                let worst = (bound + (shared - bound).max(0.0) / count).max(best);
                (best, worst.min(replay(&load, count as usize).max(best)))
            }
            None => (bound, bound),
        };
        let fixed = phases.alone + phases.idle;
        let python = if shared > 0.0 { phases.python / shared } else { 0.0 };
        let slower = 1.0 + (self.slower - 1.0) * python;
        let start = workers.map_or(self.start, |count| self.start * f64::from(count).sqrt());
        let seconds = |nanos: f64| nanos / 1e9;
        Prediction {
            model: self.name.into(),
            workers,
            seconds: (seconds(fixed + best) * DOUBT.0, seconds(fixed * slower + worst * slower) * DOUBT.1 + start),
        }
    }
}
