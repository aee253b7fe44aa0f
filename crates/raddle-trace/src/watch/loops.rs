//! Event loops whose callbacks wait: while one does, nothing else of the loop runs.
//!
//! Only what is certain is told: the thread is inside a callback, and has not run for [`BLOCKED`].

use raddle_probe::{State as Doing, Thread as Seen};

use super::{Watcher, own_place};
use crate::session::{Fact, Label, Nanos, UnitId};

const BLOCKED: Nanos = 100_000_000;

impl Watcher {
    /// An event loop whose callback sleeps, or waits for something.
    pub(super) fn see_loop(&mut self, at: Nanos, process: usize, index: usize, pid: u32, thread: &Seen) {
        let Some(live) = self.live.get_mut(&pid).and_then(|live| live.threads.get_mut(&thread.native_id)) else {
            return;
        };
        let is_in_loop = || thread.frames.iter().any(|frame| frame.file.ends_with("asyncio/base_events.py"));
        if thread.wait.as_ref().is_some_and(|wait| wait.kind == "event-loop") {
            live.is_after_loop = true;
        } else if live.is_after_loop && thread.is_certain && !thread.frames.is_empty() && !is_in_loop() {
            live.is_after_loop = false;
            self.session.processes[process].threads[index].outside.push(at);
        }
        let is_blocked = at.saturating_sub(live.parked) >= BLOCKED
            && (thread.wait.is_some() || thread.state == Doing::Sleeping)
            && thread.wait.as_ref().is_none_or(|wait| !matches!(wait.kind, "event-loop" | "poll"))
            && !matches!(thread.state, Doing::Gil | Doing::Stopped | Doing::Unknown)
            && thread
                .frames
                .iter()
                .any(|frame| frame.file.ends_with("asyncio/events.py") && frame.function == "Handle._run");
        let since = live.parked;
        if is_blocked && !live.is_blocked_loop {
            live.is_blocked_loop = true;
            let innermost =
                thread.wait.as_ref().and_then(|wait| wait.place.as_ref()).or_else(|| own_place(&thread.frames));
            let labels = innermost.map(|place| Label { place: self.place(place), text: doing(thread) });
            self.session.facts.push(Fact {
                kind: "event-loop-blocked".into(),
                at: since,
                units: vec![UnitId { process, thread: Some(index) }],
                labels: labels.into_iter().collect(),
                detail: String::new(),
                ..Fact::default()
            });
        } else if !is_blocked && live.is_blocked_loop {
            live.is_blocked_loop = false;
        }
        if is_blocked {
            let unit = UnitId { process, thread: Some(index) };
            if let Some(fact) = self
                .session
                .facts
                .iter_mut()
                .rev()
                .find(|fact| fact.kind == "event-loop-blocked" && fact.units == [unit])
            {
                fact.detail = format!("for at least {:.0} ms", (at - since) as f64 / 1e6);
            }
        }
    }
}

fn doing(thread: &Seen) -> String {
    match (&thread.wait, thread.state) {
        (Some(wait), _) => format!("\"{}\" waits here for {}", thread.name, wait.what),
        (None, Doing::Sleeping) => format!("\"{}\" sleeps here", thread.name),
        (None, _) => format!("\"{}\" is here", thread.name),
    }
}
