//! The findings: what there is to say about a run.
//!
//! # Rules
//!
//! 1. Each kind has an id that does not change, and a page in docs/findings. [`IDS`](pages::IDS) lists them.
//! 2. A clean program has none. Each rule says next to it from when on something is worth a word, and has a clean twin among the tests.
//! 3. An error went wrong; a warning costs time or may go wrong; a note is good to know.

mod children;
mod event_loop;
mod exceptions;
mod facts;
mod gil_bound;
mod hot_lock;
mod one_after_another;
mod oversubscribed;
mod pages;
mod starvation;
mod stuck;

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::quick::QuickMap;
use crate::report::{Certainty, Finding, Level, LockCost, SpeedUp};
use crate::session::{Label, Nanos, Session, ThingId, UnitId};

use super::locks::Waits;
use super::phases::Phases;
use super::timeline::Timeline;

pub(crate) use gil_bound::turns;
#[cfg(test)]
pub(crate) use pages::IDS;
pub use pages::explain;

/// What the rules look at.
pub(crate) struct Evidence<'a, 's> {
    pub(crate) timeline: &'a Timeline<'s>,
    pub(crate) phases: &'a Phases,
    pub(crate) waits: &'a QuickMap<ThingId, Waits>,
    pub(crate) locks: &'a [LockCost],
    pub(crate) speed_up: Option<&'a SpeedUp>,
}

/// All findings, the gravest first.
pub(crate) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let mut all = stuck::findings(evidence);
    all.extend(children::findings(evidence));
    all.extend(exceptions::findings(evidence));
    all.extend(facts::findings(evidence));
    all.extend(event_loop::findings(evidence));
    all.extend(gil_bound::findings(evidence));
    all.extend(hot_lock::findings(evidence));
    all.extend(starvation::findings(evidence));
    all.extend(one_after_another::findings(evidence));
    all.extend(oversubscribed::findings(evidence));
    all.sort_by_key(|finding| (Reverse(finding.level), Reverse(finding.certainty)));
    all
}

/// The units of which facts of a kind tell.
fn told_units(session: &Session, kind: &str) -> HashSet<UnitId> {
    let facts = session.facts.iter().filter(|fact| fact.kind == kind);
    facts.flat_map(|fact| fact.units.iter().copied()).collect()
}

/// The units that were seen stuck.
fn stuck_units(session: &Session) -> HashSet<UnitId> {
    let units = session.stuck.iter().flat_map(|stuck| &stuck.units);
    units.map(|unit| UnitId { process: unit.process, thread: unit.thread }).collect()
}

/// A finding, filled in step by step.
pub(crate) fn finding(id: &str, level: Level, title: impl Into<String>) -> Finding {
    Finding {
        id: id.into(),
        level,
        certainty: Certainty::Certain,
        title: title.into(),
        at: None,
        units: Vec::new(),
        labels: Vec::new(),
        notes: Vec::new(),
        help: Vec::new(),
    }
}

/// How a finding is filled in.
pub(crate) trait Fill: Sized {
    fn sure(self, certainty: Certainty) -> Self;
    fn at(self, at: Nanos) -> Self;
    fn about(self, units: impl IntoIterator<Item = UnitId>) -> Self;
    fn label(self, place: Option<u32>, text: impl Into<String>) -> Self;
    fn note(self, text: impl Into<String>) -> Self;
    fn help(self, text: impl Into<String>) -> Self;
}

impl Fill for Finding {
    fn sure(mut self, certainty: Certainty) -> Self {
        self.certainty = certainty;
        self
    }

    fn at(mut self, at: Nanos) -> Self {
        self.at = Some(at);
        self
    }

    fn about(mut self, units: impl IntoIterator<Item = UnitId>) -> Self {
        self.units.extend(units);
        self
    }

    fn label(mut self, place: Option<u32>, text: impl Into<String>) -> Self {
        let text = text.into();
        self.labels.extend(place.map(|place| Label { place, text }));
        self
    }

    fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }
}
