//! The threads of all processes on one line of time, in an order that the other analyses can rely on.
//!
//! # Rules
//!
//! 1. A session may come from anywhere, also from a broken file: nothing here trusts an index or an order. What does not fit is left out.
//! 2. The spans of a [`Unit`] are in order, not empty, and do not overlap.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use crate::quick::QuickMap;
use crate::session::{Nanos, PlaceId, Process, Session, Span, State, Thing, ThingId, Thread};
use crate::words::program;

/// Later than anything: two years. Sums of what is clamped to it stay far from an overflow.
const HORIZON: Nanos = 1 << 56;

/// Looks miss a part of the time on processors, but hardly more than half.
const MOST_PACE: f64 = 2.0;

/// What a span means for the work that there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Python on a processor.
    Python,
    /// Native code on a processor.
    Native,
    /// It could go on if something that is used by one at a time were free: the GIL, a processor, a lock.
    Wants,
    /// It waits for the world: a file, a socket, a clock.
    World,
    /// It waits for other units, or is not known.
    Idle,
}

impl Class {
    pub(crate) fn of(state: State) -> Self {
        match state {
            State::Running => Self::Python,
            State::Native => Self::Native,
            State::Runnable | State::Gil | State::Lock => Self::Wants,
            State::Io | State::Sleep => Self::World,
            State::Queue | State::Event | State::Join | State::Stopped | State::Unknown => Self::Idle,
        }
    }
}

/// A thread, with what the analyses ask about it.
pub(crate) struct Unit<'s> {
    /// The indices of its process and of itself there.
    pub(crate) id: (usize, usize),
    pub(crate) thread: &'s Thread,
    pub(crate) spans: Cow<'s, [Span]>,
    /// Its role, an index in [`Timeline::roles`].
    pub(crate) role: usize,
    /// How long it was on a processor for each moment in which it seemed to be, as far as the kernel has counted it.
    pub(crate) pace: f64,
}

impl Unit<'_> {
    /// How long it worked between two moments, processor or world.
    pub(crate) fn worked(&self, from: Nanos, until: Nanos) -> Nanos {
        let first = self.spans.partition_point(|span| span.until <= from);
        let inside = self.spans[first..].iter().take_while(|span| span.from < until);
        let working =
            inside.filter(|span| matches!(Class::of(span.state), Class::Python | Class::Native | Class::World));
        working.map(|span| span.until.min(until) - span.from.max(from)).sum()
    }
}

/// Threads that do the same thing: one more of them could take a part of their work.
#[derive(Debug, Default)]
pub(crate) struct Role {
    /// How many there were.
    pub(crate) count: usize,
}

/// The threads of all processes.
pub(crate) struct Timeline<'s> {
    pub(crate) session: &'s Session,
    pub(crate) units: Vec<Unit<'s>>,
    pub(crate) roles: Vec<Role>,
    /// When the program began and when it ended, or was last seen.
    pub(crate) began: Nanos,
    pub(crate) until: Nanos,
    /// Where the units of each process begin; and where those of the last one end.
    starts: Vec<usize>,
}

impl<'s> Timeline<'s> {
    pub(crate) fn new(session: &'s Session) -> Self {
        let mut timeline = Self {
            session,
            units: Vec::new(),
            roles: Vec::new(),
            began: session.processes.first().map_or(0, |process| process.began.min(HORIZON)),
            until: 0,
            starts: vec![0],
        };
        let mut roles = HashMap::new();
        for (at, process) in session.processes.iter().enumerate() {
            for (index, thread) in process.threads.iter().enumerate() {
                let role = *roles.entry(role_of(session, at, index)).or_insert_with(|| {
                    timeline.roles.push(Role::default());
                    timeline.roles.len() - 1
                });
                timeline.roles[role].count += 1;
                let spans = in_order(&thread.spans);
                let pace = pace(thread, &spans);
                timeline.units.push(Unit { id: (at, index), thread, spans, role, pace });
            }
            timeline.starts.push(timeline.units.len());
        }
        let last = timeline.units.iter().filter_map(|unit| unit.spans.last()).map(|span| span.until).max();
        let ended = session.processes.first().and_then(|process| process.ended);
        let known = ended.or(Some(session.length).filter(|length| *length > 0)).or(last);
        timeline.until = known.unwrap_or(0).min(HORIZON).max(timeline.began);
        timeline
    }

    /// How long the program took.
    pub(crate) fn length(&self) -> Nanos {
        self.until - self.began
    }

    /// The index of a thread's unit.
    pub(crate) fn find(&self, id: (usize, usize)) -> Option<usize> {
        let range = self.range(id.0);
        range.start.checked_add(id.1).filter(|index| range.contains(index))
    }

    /// Where the units of a process are.
    pub(crate) fn range(&self, process: usize) -> Range<usize> {
        let start = self.starts.get(process).copied();
        start.zip(self.starts.get(process.wrapping_add(1)).copied()).map_or(0..0, |(start, end)| start..end)
    }

    pub(crate) fn process(&self, unit: &Unit<'_>) -> &'s Process {
        &self.session.processes[unit.id.0]
    }

    pub(crate) fn thing(&self, id: Option<ThingId>) -> Option<&'s Thing> {
        self.session.things.get(usize::try_from(id?).ok()?)
    }

    /// The units of a process.
    pub(crate) fn of_process(&self, process: usize) -> impl Iterator<Item = &Unit<'s>> {
        self.units[self.range(process)].iter()
    }

    /// Until when a process was there.
    pub(crate) fn end_of(&self, process: &Process) -> Nanos {
        process.ended.unwrap_or(self.until.max(self.session.length)).min(HORIZON)
    }

    /// How long a process was there.
    pub(crate) fn life_of(&self, process: &Process) -> Nanos {
        self.end_of(process).saturating_sub(process.began)
    }

    /// Whether there was enough to see to speak of shares: a tenth of a second, and at least this many looks where only looks were taken.
    pub(crate) fn is_enough(&self, looks: u64) -> bool {
        let is_recorded = self.session.processes.iter().any(|process| process.is_recorded);
        let period = self.session.period;
        self.length() >= 100_000_000 && (is_recorded || period == 0 || self.length() / period >= looks)
    }
}

/// Whether one thread at a time runs Python there.
pub(crate) fn has_gil(process: &Process) -> bool {
    let is_free = |version: &str| version.ends_with('t') || version.contains("free");
    process.python.as_deref().is_some_and(|version| !is_free(version))
}

/// The place where a thread was most of the time, of the spans that are asked for.
pub(crate) fn busiest_place<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Option<(PlaceId, Nanos)> {
    let mut sums: QuickMap<PlaceId, Nanos> = QuickMap::default();
    for span in spans {
        if let Some(place) = span.place {
            let sum = sums.entry(place).or_default();
            *sum = sum.saturating_add(span.until.saturating_sub(span.from));
        }
    }
    sums.into_iter().max_by_key(|(place, sum)| (*sum, std::cmp::Reverse(*place)))
}

/// Rule 2. What is in order already is not copied.
fn in_order(spans: &[Span]) -> Cow<'_, [Span]> {
    let mut end = 0;
    let is_fine = spans.iter().all(|span| {
        let fits = span.from >= end && span.until > span.from && span.until <= HORIZON;
        end = span.until;
        fits
    });
    if is_fine {
        return Cow::Borrowed(spans);
    }
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| span.from);
    let mut end = 0;
    sorted.retain_mut(|span| {
        span.from = span.from.max(end).min(HORIZON);
        span.until = span.until.min(HORIZON);
        let is_one = span.until > span.from;
        end = if is_one { span.until } else { end };
        is_one
    });
    Cow::Owned(sorted)
}

/// A look sees that a thread may run; the kernel counts how long it did, also where looks missed it. Where nothing was counted the look is believed.
fn pace(thread: &Thread, spans: &[Span]) -> f64 {
    let on_processor = |span: &&Span| matches!(Class::of(span.state), Class::Python | Class::Native);
    let seen: f64 = spans.iter().filter(on_processor).map(|span| (span.until - span.from) as f64).sum();
    if thread.cpu == 0 || seen == 0.0 { 1.0 } else { (thread.cpu as f64 / seen).min(MOST_PACE) }
}

/// What tells the roles of threads apart: the program they run in, and the function they were started with, or else their name without its number.
fn role_of(session: &Session, at: usize, index: usize) -> (String, String) {
    let process = &session.processes[at];
    let thread = &process.threads[index];
    let house = match at {
        0 => String::new(),
        _ => without_digits(&program(&process.command)),
    };
    if index == 0 {
        return (house, "the main thread".into());
    }
    let place = |id: PlaceId| session.places.get(usize::try_from(id).ok()?);
    let has_digits = thread.name.contains(|character: char| character.is_ascii_digit());
    let function = thread.function.and_then(place);
    let function = function.or_else(|| place(busiest_place(&thread.spans)?.0).filter(|_| !has_digits));
    let what =
        function.map_or_else(|| without_digits(&thread.name), |place| format!("{}:{}", place.file, place.function));
    (house, what)
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_digit()).collect()
}
