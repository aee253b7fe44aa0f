//! An event loop that is kept from its work: a callback or a coroutine that waits in the ordinary way, or computes for long.
//!
//! A thread has an event loop if it was seen to wait in one. Between two such waits everything that it does is a callback of the loop, unless it was seen
//! outside of it: then one loop had ended, and another began.

use std::collections::BTreeMap;

use crate::report::{Certainty, Finding, Level};
use crate::session::{Nanos, PlaceId, Span, State, UnitId};
use crate::words::duration;

use super::super::timeline::{Timeline, Unit};
use super::{Evidence, Fill, finding, told_units};

pub(super) const HELP: &[&str] = &[
    "await what does the same without blocking (asyncio.sleep, a stream, asyncio.Lock), or hand it to a thread: await asyncio.to_thread(...)",
];

/// As asyncio's own debug mode: what takes longer is worth a word.
const BLOCKED: Nanos = 100_000_000;

/// A loop that computes is busy, not blocked, until it takes so long in one place.
const BUSY: Nanos = 500_000_000;

/// More places are not told.
const MOST: usize = 3;

/// What happened at one place.
#[derive(Default)]
struct Block {
    times: usize,
    longest: Nanos,
    at: Nanos,
    state: Option<State>,
}

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let timeline = evidence.timeline;
    let told = told_units(timeline.session, "event-loop-blocked");
    let is_new = |unit: &&Unit<'_>| !told.contains(&UnitId { process: unit.id.0, thread: Some(unit.id.1) });
    timeline.units.iter().filter(is_new).filter_map(|unit| tell(timeline, unit)).collect()
}

fn tell(timeline: &Timeline<'_>, unit: &Unit<'_>) -> Option<Finding> {
    let mut blocks: BTreeMap<PlaceId, Block> = BTreeMap::new();
    for span in between_waits(timeline, unit) {
        let length = span.until - span.from;
        let Some(place) = span.place.filter(|_| length >= limit(timeline, span.state)) else { continue };
        let block = blocks.entry(place).or_default();
        block.times += 1;
        if length > block.longest {
            (block.longest, block.at, block.state) = (length, span.from, Some(span.state));
        }
    }
    let mut worst: Vec<(PlaceId, Block)> = blocks.into_iter().collect();
    worst.sort_by_key(|(_, block)| std::cmp::Reverse(block.longest));
    let first = worst.first()?;
    let title = format!("the event loop could do nothing else for {}", duration(first.1.longest));
    let is_wait = !matches!(first.1.state, Some(State::Running | State::Native));
    let told = finding("event-loop-blocked", Level::Warning, title).at(first.1.at);
    // A callback that computes may also be one that runs again and again, seen at the same place each time.
    let told = told.sure(if is_wait { Certainty::Certain } else { Certainty::Possible });
    let told = told.about([UnitId { process: unit.id.0, thread: Some(unit.id.1) }]);
    let told = worst.iter().take(MOST).fold(told, |told, (place, block)| {
        let how = block.state.map_or("busy", doing);
        let again = if block.times > 1 { format!(", {} times", block.times) } else { String::new() };
        told.label(Some(*place), format!("{how} for up to {}{again} here", duration(block.longest)))
    });
    Some(HELP.iter().fold(told, |told, help| told.help(*help)))
}

/// What the thread did between two waits of its loop, with neighbours in the same state and place put together.
fn between_waits(timeline: &Timeline<'_>, unit: &Unit<'_>) -> Vec<Span> {
    let is_loop = |span: &Span| timeline.thing(span.thing).is_some_and(|thing| thing.kind == "event-loop");
    let Some(first) = unit.spans.iter().position(is_loop) else { return Vec::new() };
    let last = unit.spans.iter().rposition(is_loop).unwrap_or(first);
    let mut joined: Vec<Span> = Vec::new();
    let (mut since, mut outside) = (0, unit.thread.outside.iter().peekable());
    for span in &unit.spans[first..=last] {
        if is_loop(span) {
            while outside.next_if(|moment| **moment < span.from).is_some() {
                joined.truncate(since);
            }
            since = joined.len();
            continue;
        }
        match joined.last_mut() {
            Some(before) if before.until == span.from && (before.state, before.place) == (span.state, span.place) => {
                before.until = span.until;
            }
            _ => joined.push(*span),
        }
    }
    joined
}

fn limit(timeline: &Timeline<'_>, state: State) -> Nanos {
    let period = timeline.session.period;
    match state {
        State::Sleep | State::Io | State::Lock | State::Queue | State::Event | State::Join => {
            BLOCKED.max(period.saturating_mul(2))
        }
        State::Running | State::Native => BUSY.max(period.saturating_mul(10)),
        State::Runnable | State::Gil | State::Stopped | State::Unknown => Nanos::MAX,
    }
}

fn doing(state: State) -> &'static str {
    match state {
        State::Sleep => "asleep",
        State::Io => "waiting for I/O",
        State::Lock => "waiting for a lock",
        State::Queue => "waiting for a queue",
        State::Event => "waiting for an event",
        State::Join => "waiting for an end",
        _ => "busy",
    }
}
