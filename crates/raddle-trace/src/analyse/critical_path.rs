//! The critical path: the chain of what had to happen one after the other, from the end of the program back to its beginning.
//!
//! Only what lies on it can make the program faster when it is made faster. A lock for which many threads wait for long, while the end waits for
//! something else, costs nothing.
//!
//! The walk begins with the last moment of the main thread. Where a thread works, the path goes back through that work. Where it waited, the path
//! goes over to whoever ended the wait, at the moment when it did.
//!
//! # Rules
//!
//! 1. Every step goes back in time, or over to another unit at the same time, where the path has not been at that time.
//!    So the walk ends, whatever the session says.
//! 2. Since it goes back in time only, so does each search for what was before a moment: it goes on where the last one ended ([`Back`]).
//! 3. While the path goes through the holder of a lock that the path has waited for, its time belongs to that lock, back to when the wait began.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;

use crate::quick::QuickMap;
use crate::session::{Nanos, Pass, Span, State, ThingId};

use super::timeline::{Class, Timeline};

/// The critical path, summed up.
#[derive(Debug, Default)]
pub(crate) struct CriticalPath {
    /// How long it is: as long as the program.
    pub(crate) length: Nanos,
    by_lock: QuickMap<ThingId, Nanos>,
}

impl CriticalPath {
    /// The share of the path that leads through holders of this lock.
    pub(crate) fn share_of(&self, thing: ThingId) -> f64 {
        let nanos = self.by_lock.get(&thing).copied().unwrap_or(0);
        (nanos as f64 / (self.length as f64).max(1.0)).min(1.0)
    }
}

pub(crate) fn critical_path(timeline: &Timeline<'_>) -> CriticalPath {
    let Some(start) = timeline.find((0, 0)) else { return CriticalPath::default() };
    let mut walk = Walk {
        timeline,
        passes: passes_by_receiver(timeline.session.passes.as_slice()),
        ends: timeline.session.processes.iter().map(|_| OnceCell::new()).collect(),
        children: ends_of_children(timeline),
        at_work: timeline.session.processes.iter().map(|_| OnceCell::new()).collect(),
        spans: timeline.units.iter().map(|_| Back::new()).collect(),
        been: vec![Nanos::MAX; timeline.units.len()],
        path: CriticalPath { length: timeline.length(), ..CriticalPath::default() },
        under: Vec::new(),
    };
    walk.back_from(start);
    walk.path
}

/// When something ended, in the order of time, and which unit it was.
type Ends = Vec<(Nanos, usize)>;

/// From each of these moments on, not itself included, so many units are at work; and their indices, added up: those of one alone are its index.
type AtWork = Vec<(Nanos, usize, usize)>;

/// Goes back through what is in the order of time (rule 2).
#[derive(Debug)]
struct Back {
    /// So many may still be before the moment.
    left: Cell<usize>,
}

impl Back {
    fn new() -> Self {
        Self { left: Cell::new(usize::MAX) }
    }

    /// The last of these for which that is so: it is so of all before it, and of none that was passed over before.
    fn last<'a, T>(&self, of: &'a [T], is_before: impl Fn(&T) -> bool) -> Option<&'a T> {
        let mut left = self.left.get().min(of.len());
        while left > 0 && !is_before(&of[left - 1]) {
            left -= 1;
        }
        self.left.set(left);
        of[..left].last()
    }
}

struct Walk<'t, 's> {
    timeline: &'t Timeline<'s>,
    /// What each unit got, in the order of when it got it.
    passes: QuickMap<(usize, usize), (Vec<Pass>, Back)>,
    /// When the threads of each process ended, in the order of time, each with its unit; and the processes that it has started, with their main threads.
    ends: Vec<OnceCell<Ends>>,
    children: HashMap<usize, Ends>,
    /// Who is at work in each process.
    at_work: Vec<OnceCell<(AtWork, Back)>>,
    /// Where each unit's spans are gone through.
    spans: Vec<Back>,
    /// Rule 1: the last moment at which the path has been with each unit.
    been: Vec<Nanos>,
    path: CriticalPath,
    /// Rule 3: locks, and when the wait of the path for them began; the latest last.
    under: Vec<(ThingId, Nanos)>,
}

impl Walk<'_, '_> {
    fn back_from(&mut self, start: usize) {
        let (mut unit, mut now) = (start, self.timeline.until);
        while now > self.timeline.began {
            self.been[unit] = now;
            let spans = &self.timeline.units[unit].spans;
            let Some(span) = self.spans[unit].last(spans, |span| span.from < now).copied() else {
                // It had not begun yet: whoever started it goes on the path.
                match self.starter(unit).filter(|starter| self.been[*starter] != now) {
                    Some(starter) => unit = starter,
                    None => return,
                }
                continue;
            };
            if span.until < now {
                // Where nothing was seen the path stays with the thread.
                now = self.step(span.until, now);
                continue;
            }
            let waker = self.waker(unit, &span, now).filter(|(other, at)| *at < now || self.been[*other] != now);
            let lock = span.thing.filter(|_| span.state == State::Lock);
            match waker {
                Some((other, at)) => {
                    let at = at.min(now);
                    self.step(at, now);
                    self.under.extend(lock.map(|thing| (thing, span.from)));
                    (unit, now) = (other, at);
                }
                None => {
                    self.under.extend(lock.map(|thing| (thing, span.from)));
                    now = self.step(span.from, now);
                }
            }
        }
    }

    /// Puts a piece of time on the path; returns where it begins.
    fn step(&mut self, from: Nanos, until: Nanos) -> Nanos {
        let from = from.max(self.timeline.began).min(until);
        let mut until = until;
        while let Some((thing, since)) = self.under.last().copied() {
            let begin = since.max(from).min(until);
            *self.path.by_lock.entry(thing).or_default() += until - begin;
            until = begin;
            if since < from {
                break;
            }
            self.under.pop();
        }
        from
    }

    /// Who ended a wait, and when.
    fn waker(&self, unit: usize, span: &Span, now: Nanos) -> Option<(usize, Nanos)> {
        let is_wait = matches!(span.state, State::Lock | State::Queue | State::Event | State::Join | State::Io);
        if !is_wait {
            return None;
        }
        let not_itself = |(other, at): (usize, Nanos)| (other != unit).then_some((other, at));
        self.passed(unit, span, now)
            .and_then(not_itself)
            .or_else(|| self.holder(unit, span, now).and_then(not_itself))
            .or_else(|| self.ended(unit, span, now).and_then(not_itself))
            .or_else(|| self.only_one_at_work(unit, span, now))
    }

    /// What was recorded: the last that it got in this wait.
    fn passed(&self, unit: usize, span: &Span, now: Nanos) -> Option<(usize, Nanos)> {
        let (passes, back) = self.passes.get(&self.timeline.units[unit].id)?;
        // A wait is over a little before or after its pass was written down.
        let pass = back.last(passes, |pass| pass.until <= span.until.saturating_add(SLACK))?;
        let is_of_this_wait = pass.until.saturating_add(SLACK) >= span.from && pass.at > span.from;
        let from = self.timeline.find(pass.from).filter(|_| is_of_this_wait)?;
        Some((from, pass.at.min(now)))
    }

    fn holder(&self, unit: usize, span: &Span, now: Nanos) -> Option<(usize, Nanos)> {
        let process = self.timeline.units[unit].id.0;
        Some((self.timeline.find((process, usize::try_from(span.holder?).ok()?))?, now))
    }

    /// For the end of a thread or of a process: the last that ended during the wait.
    fn ended(&self, unit: usize, span: &Span, now: Nanos) -> Option<(usize, Nanos)> {
        if span.state != State::Join {
            return None;
        }
        let process = self.timeline.units[unit].id.0;
        let is_process = self.timeline.thing(span.thing).is_some_and(|thing| thing.kind == "process");
        let ends = if is_process { self.children.get(&process)? } else { self.ends_of(process)? };
        let last = span.until.saturating_add(self.slack());
        let (at, other) = *ends[..ends.partition_point(|(at, _)| *at <= last)].last()?;
        (at > span.from).then_some((other, at.min(now)))
    }

    fn ends_of(&self, process: usize) -> Option<&Ends> {
        let units = self.timeline.range(process);
        let ends = units.filter_map(|index| Some((self.timeline.units[index].thread.ended?, index)));
        Some(self.ends.get(process)?.get_or_init(|| sorted(ends.collect())))
    }

    /// Nobody wrote down who put the item or set the event: if just one thread of the process was at work at that moment, it was that one.
    fn only_one_at_work(&self, unit: usize, span: &Span, now: Nanos) -> Option<(usize, Nanos)> {
        if !matches!(span.state, State::Queue | State::Event | State::Lock) {
            return None;
        }
        let process = self.timeline.units[unit].id.0;
        let (steps, back) = self.at_work.get(process)?.get_or_init(|| (at_work(self.timeline, process), Back::new()));
        let (_, count, only) = *back.last(steps, |(at, ..)| *at < now)?;
        (count == 1 && only != unit).then_some((only, now))
    }

    fn starter(&self, unit: usize) -> Option<usize> {
        let of = &self.timeline.units[unit];
        let in_process = of.thread.starter.or((of.id.1 > 0).then_some(0));
        let process = self.timeline.process(of);
        let id = in_process.map(|index| (of.id.0, index)).or_else(|| Some((process.parent?, 0)));
        self.timeline.find(id?).filter(|other| *other != unit)
    }

    /// Looks see an end up to a period late.
    fn slack(&self) -> Nanos {
        self.timeline.session.period.max(SLACK)
    }
}

/// Two clocks' worth of difference between a wait and the pass that ended it.
const SLACK: Nanos = 1_000_000;

fn sorted(mut ends: Ends) -> Ends {
    ends.sort_unstable();
    ends
}

fn ends_of_children(timeline: &Timeline<'_>) -> HashMap<usize, Ends> {
    let mut all: HashMap<usize, Ends> = HashMap::new();
    for (at, child) in timeline.session.processes.iter().enumerate() {
        if let (Some(parent), Some(ended), Some(main)) = (child.parent, child.ended, timeline.find((at, 0))) {
            all.entry(parent).or_default().push((ended, main));
        }
    }
    all.values_mut().for_each(|ends| ends.sort_unstable());
    all
}

fn at_work(timeline: &Timeline<'_>, process: usize) -> AtWork {
    let mut changes: Vec<(Nanos, usize, bool)> = Vec::new();
    for index in timeline.range(process) {
        let works = |span: &&Span| matches!(Class::of(span.state), Class::Python | Class::Native);
        changes.extend(
            timeline.units[index]
                .spans
                .iter()
                .filter(works)
                .flat_map(|span| [(span.from, index, true), (span.until, index, false)]),
        );
    }
    changes.sort_unstable();
    let (mut count, mut sum) = (0_usize, 0_usize);
    let mut steps = AtWork::with_capacity(changes.len());
    for (at, index, is_begin) in changes {
        // Within a moment the order is any: only what is so after all of it counts.
        (count, sum) = if is_begin {
            (count.wrapping_add(1), sum.wrapping_add(index))
        } else {
            (count.wrapping_sub(1), sum.wrapping_sub(index))
        };
        match steps.last_mut() {
            Some(last) if last.0 == at => *last = (at, count, sum),
            _ => steps.push((at, count, sum)),
        }
    }
    steps
}

fn passes_by_receiver(passes: &[Pass]) -> QuickMap<(usize, usize), (Vec<Pass>, Back)> {
    let mut all: QuickMap<(usize, usize), Vec<Pass>> = QuickMap::default();
    for pass in passes {
        all.entry(pass.to).or_default().push(*pass);
    }
    let in_order = all.into_iter().map(|(to, mut passes)| {
        passes.sort_by_key(|pass| pass.until);
        (to, (passes, Back::new()))
    });
    in_order.collect()
}
