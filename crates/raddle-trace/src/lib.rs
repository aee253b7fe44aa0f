#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod analyse;
pub mod events;
mod quick;
mod report;
mod session;
mod source;
mod watch;
mod words;
mod write;

pub use analyse::{Shares, analyse, explain, shares};
pub use report::{Advice, Certainty, Finding, Level, LockCost, Prediction, Report, SpeedUp};
pub use session::{
    Ending, Fact, Gil, Label, Nanos, Pass, Place, PlaceId, Process, Session, Span, State, Stuck, StuckUnit, Thing,
    ThingId, Thread, UnitId,
};
pub use watch::Watcher;
pub use write::{
    ReadError, Style, html, json, perfetto, read_json, sarif, text, write_html, write_json, write_perfetto,
};
