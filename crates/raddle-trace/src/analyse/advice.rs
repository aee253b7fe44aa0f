//! Which kind of concurrency fits the program, with the measured facts for it.
//!
//! Each rule stands on its own and names its thresholds; several may speak. An advice is no finding: a program that does well with what it has gets
//! one too, so that its author knows.

use crate::report::{Advice, Prediction, SpeedUp};
use crate::session::State;
use crate::words::{duration, percent, plural, range};

use super::findings::{Evidence, turns};
use super::shares::{Shares, shares};
use super::timeline::{Unit, has_gil};
use super::verdict::cpu;

/// So many looks are needed.
const LOOKS: u64 = 20;

/// Of what threads do while they do not wait for each other, this share is waiting for the world: it is bound by that.
const WORLD: f64 = 0.70;

/// From so many threads that wait for the world on, coroutines are cheaper.
const MANY: usize = 50;

/// Of the work on processors, this share is native code: threads are right.
const NATIVE: f64 = 0.60;

/// A program that has a processor for this share of its time and only one thread could use another.
const BUSY: f64 = 0.80;

/// Workers that wait for this share of their time for something to do are too many.
const IDLE: f64 = 0.80;

/// Pieces of work shorter than this cost more to hand over than to do, in nanoseconds; and there must be so many of them.
const PIECE: f64 = 200_000.0;
const PIECES: u64 = 10_000;

/// Threads that live shorter than this, in nanoseconds, and so many of them.
const BRIEF: u64 = 10_000_000;
const BRIEF_MANY: usize = 200;

pub(crate) fn advice(evidence: &Evidence<'_, '_>) -> Vec<Advice> {
    if !evidence.timeline.is_enough(LOOKS) {
        return Vec::new();
    }
    let rules = [take_turns, wait_for_the_world, native, alone, short_pieces, idle_workers, brief_threads];
    let mut all: Vec<Advice> = rules.iter().filter_map(|rule| rule(evidence)).collect();
    let mut seen = std::collections::HashSet::new();
    all.retain(|advice| seen.insert(advice.choice.clone()));
    all
}

fn said(choice: &str, text: impl Into<String>, evidence: Vec<String>) -> Option<Advice> {
    Some(Advice { choice: choice.into(), text: text.into(), evidence })
}

/// Threads that run Python and take turns: processes.
fn take_turns(evidence: &Evidence<'_, '_>) -> Option<Advice> {
    let processes = evidence.timeline.session.processes.iter().enumerate();
    let (process, turns) =
        processes.filter_map(|(index, process)| Some((process, turns(evidence, index, process)?))).next()?;
    let mut facts = vec![
        format!("{} wanted to run Python at the same time", plural(turns.threads, "thread")),
        format!(
            "they waited for the GIL {} of that time, {} together",
            percent(turns.waited_share),
            duration(turns.waited)
        ),
        format!("{} of what they did or wanted to do was Python code", percent(turns.python_share)),
    ];
    if let Some(best) =
        evidence.speed_up.and_then(|speed_up| prediction(speed_up, "processes", evidence.timeline.session.cores))
    {
        let workers = best.workers.unwrap_or(0);
        facts.push(format!(
            "{workers} processes are predicted to take {}, not {}",
            range(best.seconds),
            duration(evidence.timeline.length())
        ));
    }
    let minor = process.python.as_deref().and_then(|version| version.split('.').nth(1)?.parse::<u32>().ok());
    let more = if minor.is_some_and(|minor| minor >= 14) {
        ", interpreters, or the free-threaded build"
    } else {
        ", or a free-threaded Python (3.14t)"
    };
    said("processes", format!("use processes for what these threads do (raddle.Pool(\"process\")){more}"), facts)
}

/// Threads that wait for the world: many of them are better coroutines, few are right as they are.
fn wait_for_the_world(evidence: &Evidence<'_, '_>) -> Option<Advice> {
    let timeline = evidence.timeline;
    let (mut all, mut waiters) = (Shares::default(), 0);
    for unit in &timeline.units {
        let own = shares(unit.thread, timeline.until);
        let is_of_many = timeline.roles[unit.role].count > 1;
        if is_of_many && at_work(&own) > 0.0 {
            waiters += usize::from(own.fraction_of(&[State::Io]) >= 0.5);
            all.add(&own);
        }
    }
    let world = all.nanos(State::Io) as f64 / at_work(&all).max(1.0);
    let facts = vec![
        format!("{} waited for files or sockets most of their time", plural(waiters, "thread")),
        format!("{} of what the workers did was waiting for I/O", percent(world)),
    ];
    match waiters {
        _ if world < WORLD => None,
        MANY.. => said(
            "async",
            "so many threads that mostly wait for I/O can be coroutines of one thread (asyncio): each costs less",
            facts,
        ),
        2.. => said("threads", "threads are right for this: they wait for I/O at the same time", facts),
        _ => None,
    }
}

/// What a thread does while it neither waits for others nor is unknown.
fn at_work(shares: &Shares) -> f64 {
    [State::Running, State::Native, State::Io, State::Gil, State::Runnable, State::Sleep]
        .iter()
        .map(|state| shares.nanos(*state) as f64)
        .sum()
}

/// Native code in several threads: threads are right.
fn native(evidence: &Evidence<'_, '_>) -> Option<Advice> {
    let timeline = evidence.timeline;
    let phases = evidence.phases;
    let on_processor = phases.native + phases.python;
    let share = phases.native / on_processor.max(1.0);
    let is_much = on_processor >= 0.2 * timeline.length() as f64 && phases.parallel >= 0.2 * timeline.length() as f64;
    if share < NATIVE || !is_much || evidence.waits.values().any(|waits| waits.total() > timeline.length() / 2) {
        return None;
    }
    said(
        "threads",
        "threads are right for this: the work is native code that lets go of the GIL",
        vec![format!("{} of the work on processors was native code", percent(share))],
    )
}

/// One thread that computes while other processors have nothing to do.
fn alone(evidence: &Evidence<'_, '_>) -> Option<Advice> {
    let timeline = evidence.timeline;
    let session = timeline.session;
    let busy = cpu(timeline) / timeline.length() as f64;
    let main = shares(timeline.units.get(timeline.find((0, 0))?)?.thread, timeline.until);
    let is_alone = evidence.phases.shared() < 0.05 * evidence.phases.work() && session.processes.len() == 1;
    if !is_alone {
        return None;
    }
    let of_main = |states: &[State]| main.fraction_of(states);
    if of_main(&[State::Io]) >= WORLD {
        return said(
            "threads",
            "if it waits for several things that do not depend on each other, wait for them at the same time: threads, or async for many",
            vec![format!("one thread waited for I/O {} of the time", percent(of_main(&[State::Io])))],
        );
    }
    if busy < BUSY || session.cores < 2 {
        return None;
    }
    let python = of_main(&[State::Running]) / of_main(&[State::Running, State::Native]).max(f64::MIN_POSITIVE);
    let facts = vec![
        format!("one thread kept {busy:.1} of {} busy", plural(session.cores as usize, "processor")),
        format!("{} of that was Python code", percent(python)),
    ];
    let has_gil = session.processes.first().is_some_and(has_gil);
    if has_gil && python > 1.0 - NATIVE {
        said(
            "processes",
            "if the work falls into parts that do not depend on each other, processes could share it: raddle.Pool(\"process\").map(...)",
            facts,
        )
    } else {
        said(
            "threads",
            "if the work falls into parts that do not depend on each other, threads could share it: raddle.Pool(\"thread\").map(...)",
            facts,
        )
    }
}

/// Very many very short pieces of work through a queue.
fn short_pieces(evidence: &Evidence<'_, '_>) -> Option<Advice> {
    let timeline = evidence.timeline;
    let things = timeline.session.things.iter().filter(|thing| thing.kind.starts_with("queue"));
    let busiest = things.max_by_key(|thing| thing.taken).filter(|thing| thing.taken >= PIECES)?;
    let each = cpu(timeline) / busiest.taken as f64;
    if each >= PIECE {
        return None;
    }
    said(
        "batching",
        "hand over many items at a time: it costs more to pass one on than to work on it",
        vec![
            format!("{} items went through {}", busiest.taken, busiest.what),
            format!("{} of work for each", duration(each as u64)),
        ],
    )
}

/// Workers that have nothing to do.
fn idle_workers(evidence: &Evidence<'_, '_>) -> Option<Advice> {
    let timeline = evidence.timeline;
    let (mut idle, mut workers) = (Shares::default(), 0_u32);
    // Those of libraries are none: how many there are is not the program's to choose.
    let is_worker = |unit: &&Unit<'_>| !unit.thread.is_foreign && timeline.roles[unit.role].count >= 4;
    for unit in timeline.units.iter().filter(is_worker) {
        let own = shares(unit.thread, timeline.until);
        // An event may be what all of them wait for once, to begin at the same moment.
        let waits = own.fraction_of(&[State::Queue]);
        if waits > 0.0 && own.seen() as f64 >= 0.5 * timeline.length() as f64 {
            workers += 1;
            idle.add(&own);
        }
    }
    let share = idle.fraction_of(&[State::Queue]);
    if workers < 4 || share < IDLE {
        return None;
    }
    let enough = (((1.0 - share) * f64::from(workers)).ceil() as usize + 1).min(workers as usize - 1);
    said(
        "fewer-threads",
        format!("{} would have done", plural(enough, "worker")),
        vec![format!("{workers} workers waited for something to do {} of their time", percent(share))],
    )
}

/// Threads that are started for next to nothing.
fn brief_threads(evidence: &Evidence<'_, '_>) -> Option<Advice> {
    let is_brief =
        |thread: &crate::session::Thread| thread.ended.is_some_and(|ended| ended.saturating_sub(thread.began) < BRIEF);
    let brief = evidence.timeline.units.iter().filter(|unit| is_brief(unit.thread)).count();
    if brief < BRIEF_MANY {
        return None;
    }
    said(
        "pool",
        "keep the threads and give them one task after the other: a pool",
        vec![format!("{brief} threads lived for less than {} each", duration(BRIEF))],
    )
}

/// What is predicted for as many workers as there are processors, or the next fewer.
fn prediction<'a>(speed_up: &'a SpeedUp, model: &str, cores: u32) -> Option<&'a Prediction> {
    let fits = |one: &&Prediction| one.model == model && one.workers.is_some_and(|workers| workers <= cores.max(2));
    speed_up.predictions.iter().filter(fits).max_by_key(|one| one.workers)
}
