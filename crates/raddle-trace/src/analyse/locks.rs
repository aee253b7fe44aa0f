//! What locks cost: who waited how long, and how much of the critical path led through those who held them.
//!
//! Who gets a lock may still have to wait for the GIL before it can go on, and that is told as a wait for the GIL: it lies within the wait for the lock, as it was recorded,
//! and cuts it into pieces. Times are those of the pieces; what is counted, and compared with others, are waits.

use crate::quick::QuickMap;
use crate::report::LockCost;
use crate::session::{Nanos, PlaceId, Span, State, ThingId};

use super::critical_path::CriticalPath;
use super::timeline::{Timeline, busiest_place};

/// More than these are not told.
const MOST: usize = 20;

/// The waits for one lock.
#[derive(Default)]
pub(crate) struct Waits {
    /// Pieces of waits, each with the unit that waited.
    pub(crate) spans: Vec<(usize, Span)>,
    /// The waits, each of one piece or more.
    pub(crate) whole: Vec<Wait>,
}

/// A wait for a lock, from its first piece to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) unit: usize,
    pub(crate) from: Nanos,
    pub(crate) until: Nanos,
    /// How long its pieces are.
    pub(crate) length: Nanos,
    pub(crate) place: Option<PlaceId>,
}

impl Waits {
    pub(crate) fn total(&self) -> Nanos {
        self.spans.iter().map(|(_, span)| span.until - span.from).sum()
    }

    pub(crate) fn longest(&self) -> Option<&Wait> {
        self.whole.iter().max_by_key(|wait| wait.length)
    }

    /// Adds a piece; it may go on with the wait that was added last.
    fn add(&mut self, unit: usize, span: &Span, goes_on: bool) {
        let Span { from, until, place, .. } = *span;
        self.spans.push((unit, *span));
        match self.whole.last_mut().filter(|_| goes_on) {
            Some(wait) => {
                wait.until = until;
                wait.length += until - from;
            }
            None => self.whole.push(Wait { unit, from, until, length: until - from, place }),
        }
    }

    /// How many units waited for it.
    pub(crate) fn waiters(&self) -> usize {
        let mut units: Vec<usize> = self.spans.iter().map(|(unit, _)| *unit).collect();
        units.sort_unstable();
        units.dedup();
        units.len()
    }
}

/// The waits for each lock.
pub(crate) fn waits(timeline: &Timeline<'_>) -> QuickMap<ThingId, Waits> {
    let mut all: QuickMap<ThingId, Waits> = QuickMap::default();
    for (index, unit) in timeline.units.iter().enumerate() {
        // The last piece, and until when nothing has come behind it but waits for the GIL.
        let mut before: Option<(Span, Nanos)> = None;
        for span in unit.spans.iter() {
            match (span.state, &mut before) {
                (State::Gil, Some((_, end))) if *end == span.from => *end = span.until,
                (State::Lock, _) => {
                    if let Some(thing) = span.thing.filter(|thing| timeline.thing(Some(*thing)).is_some()) {
                        let last = before.filter(|(last, end)| *end == span.from && is_piece(last, span));
                        all.entry(thing).or_default().add(index, span, last.is_some());
                        before = Some((*span, span.until));
                    }
                }
                _ => {}
            }
        }
    }
    all
}

/// Whether two spans, with waits for the GIL between them, were one: all that is said of them is the same.
fn is_piece(last: &Span, span: &Span) -> bool {
    last.until < span.from && *last == Span { from: last.from, until: last.until, ..*span }
}

/// Locks by their share of the critical path, the costliest first.
pub(crate) fn costs(timeline: &Timeline<'_>, waits: &QuickMap<ThingId, Waits>, path: &CriticalPath) -> Vec<LockCost> {
    let cost = |(thing, waits): (&ThingId, &Waits)| LockCost {
        thing: *thing,
        share: path.share_of(*thing),
        waited: waits.total(),
        waits: times(timeline, *thing, waits),
        longest: waits.longest().map_or(0, |wait| wait.length),
        place: busiest_place(waits.spans.iter().map(|(_, span)| span)).map(|(place, _)| place),
    };
    let mut costs: Vec<LockCost> = waits.iter().map(cost).collect();
    costs.sort_by(|one, other| {
        other.share.total_cmp(&one.share).then(other.waited.cmp(&one.waited)).then(one.thing.cmp(&other.thing))
    });
    costs.truncate(MOST);
    costs
}

/// How often a lock was waited for: as was counted, or else as was seen.
fn times(timeline: &Timeline<'_>, thing: ThingId, waits: &Waits) -> u64 {
    let counted = timeline.thing(Some(thing)).map_or(0, |thing| thing.contended);
    if counted > 0 { counted } else { waits.whole.len() as u64 }
}

/// How long a lock was held, as far as it can be known: what was recorded, or else how long some holder worked while somebody waited, which is a
/// lower bound and close to the truth for a lock that is fought over.
pub(crate) fn held(timeline: &Timeline<'_>, thing: ThingId, waits: &Waits) -> Nanos {
    let recorded = timeline.thing(Some(thing)).map_or(0, |thing| thing.held);
    if recorded > 0 {
        return recorded.min(timeline.length());
    }
    let mut spans: Vec<&(usize, Span)> = waits.spans.iter().collect();
    spans.sort_by_key(|(_, span)| span.from);
    let (mut sum, mut end) = (0, 0);
    for (unit, span) in spans {
        let from = span.from.max(end);
        if span.until > from {
            sum += worked_by_holder(timeline, *unit, span, from);
            end = span.until;
        }
    }
    sum.min(timeline.length())
}

/// While the holder itself waits, for the GIL say, a lock is held in vain: that would not be so with other workers.
fn worked_by_holder(timeline: &Timeline<'_>, unit: usize, span: &Span, from: Nanos) -> Nanos {
    let process = timeline.units[unit].id.0;
    let holder = span.holder.and_then(|holder| timeline.find((process, usize::try_from(holder).ok()?)));
    let known = holder.filter(|holder| *holder != unit).map(|holder| &timeline.units[holder]);
    // A lock changes hands while one waits for it: the holder that was seen is the last one only. If that one was not busy all the time, others were.
    match known.map(|holder| (holder.worked(from, span.until), holder)) {
        Some((worked, holder)) if waited_itself(holder, from, span.until) => worked,
        _ => span.until - from,
    }
}

/// Whether all that a holder did in between was to work or to wait for the GIL or a processor, so that it can have held the lock all the time.
fn waited_itself(holder: &super::timeline::Unit<'_>, from: Nanos, until: Nanos) -> bool {
    let first = holder.spans.partition_point(|span| span.until <= from);
    let inside = holder.spans[first..].iter().take_while(|span| span.from < until);
    inside.into_iter().all(|span| {
        matches!(span.state, State::Running | State::Native | State::Gil | State::Runnable | State::Io | State::Sleep)
    })
}
