//! A report: what follows from a session.

use serde::{Deserialize, Serialize};

use crate::session::{Label, Nanos, PlaceId, ThingId, UnitId};

/// What follows from a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// One line: how it ended, how long it took, and what matters most.
    pub verdict: String,
    /// What there is to say, the gravest first.
    pub findings: Vec<Finding>,
    /// Locks by their share of the critical path, the costliest first.
    pub locks: Vec<LockCost>,
    /// What more workers would bring; `None` if nothing can be said about it.
    pub speed_up: Option<SpeedUp>,
    /// What to use instead, with the evidence for it.
    pub advice: Vec<Advice>,
}

/// One thing that there is to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// A word that does not change: `deadlock`, `gil-bound`. There is a page about it.
    pub id: String,
    /// How grave it is.
    pub level: Level,
    /// How sure it is.
    pub certainty: Certainty,
    /// What is the matter, in one line.
    pub title: String,
    /// The moment to look at.
    pub at: Option<Nanos>,
    /// The units that it is about.
    pub units: Vec<UnitId>,
    /// The places, the most important first.
    pub labels: Vec<Label>,
    /// Facts.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Note,
    /// Costs time, or may go wrong.
    Warning,
    /// Went wrong.
    Error,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Could be.
    Possible,
    /// Is most likely so.
    Probable,
    /// Is so.
    Certain,
}

/// What a lock costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LockCost {
    /// Which.
    pub thing: ThingId,
    /// Its share of the critical path, from 0 to 1.
    pub share: f64,
    /// How long threads waited for it, together.
    pub waited: Nanos,
    /// How often.
    pub waits: u64,
    /// The longest wait.
    pub longest: Nanos,
    /// Where it was waited for, most of the time.
    pub place: Option<PlaceId>,
}

/// What more workers would bring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpeedUp {
    /// The share of the work that could not be done at the same time as any other, from 0 to 1 (Amdahl).
    pub serial_fraction: f64,
    /// All work, in one row.
    pub work: Nanos,
    /// The longest chain of work that depends on each other.
    pub span: Nanos,
    /// What is to be expected.
    pub predictions: Vec<Prediction>,
}

/// What so many workers are expected to need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// `threads`, `processes`, `free-threaded` …
    pub model: String,
    /// How many; `None` for as many as one likes.
    pub workers: Option<u32>,
    /// At best, and at worst.
    pub seconds: (f64, f64),
}

/// What to use instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// `threads`, `processes`, `interpreters`, `async`, `batching`, `fewer-threads` …
    pub choice: String,
    /// What to do, in one sentence.
    pub text: String,
    /// The measured facts for it.
    pub evidence: Vec<String>,
}
