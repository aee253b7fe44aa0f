//! What follows from a session.
//!
//! ```text
//!  session ─▶ timeline ─▶ phases ────────┐
//!                 │   └─▶ waits ─▶ critical path, locks, limits ─▶ speed-up ─▶ findings ─▶ verdict
//!                 │                                                    └─────▶ advice
//!                 └─▶ shares
//! ```
//!
//! A session may come from looks alone, or have been recorded from within. The same rules judge both; where looks are all there is, a rule asks for
//! enough of them ([`Session::period`]) and the kernel's count of processor time corrects what only seemed to run.

mod advice;
#[cfg(test)]
mod any;
mod critical_path;
mod crowding;
mod findings;
mod locks;
mod phases;
mod replay;
mod shares;
mod speed_up;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
mod timeline;
mod verdict;

use crate::report::Report;
use crate::session::Session;

use findings::Evidence;
use speed_up::Limits;
use timeline::Timeline;

pub(crate) use crowding::crowding;
#[cfg(test)]
pub(crate) use findings::IDS;
pub use findings::explain;
pub use shares::{Shares, shares};

/// What follows from a session. It never fails: what makes no sense in it is left out.
#[must_use]
pub fn analyse(session: &Session) -> Report {
    let timeline = Timeline::new(session);
    let phases = phases::phases(&timeline);
    let waits = locks::waits(&timeline);
    let path = critical_path::critical_path(&timeline);
    let locks = locks::costs(&timeline, &waits, &path);
    let speed_up = speed_up::speed_up(&timeline, &Limits::new(&timeline, &phases, &waits));
    let evidence =
        Evidence { timeline: &timeline, phases: &phases, waits: &waits, locks: &locks, speed_up: speed_up.as_ref() };
    let findings = findings::findings(&evidence);
    let verdict = verdict::verdict(&evidence, &findings);
    let advice = advice::advice(&evidence);
    Report { verdict, findings, locks, speed_up, advice }
}
