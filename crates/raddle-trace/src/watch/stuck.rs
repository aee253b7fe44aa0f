//! Who is stuck: circles of waits, and processes in which nobody is left who could wake anybody.
//!
//! # Rules
//!
//! 1. A circle is believed when it is there for [`LASTS`] and none of its threads has run in between.
//! 2. Nobody can wake a process if all its threads wait without a timeout for something that only another of them could bring, it has no threads that
//!    Python does not know, handles no signal, and this was so for [`STANDS`]. Where the recorder knows of a circle in it, that is told instead.
//! 3. Each is told once.

use std::collections::HashMap;

use raddle_probe::{Look, Process as Seen, Thread as SeenThread};

use super::Watcher;
use crate::session::{Nanos, Stuck, StuckUnit};

const LASTS: Nanos = 100_000_000;
pub(super) const STANDS: Nanos = 500_000_000;

/// Who is stuck, and how: indices of processes and native numbers of threads.
type Circle = (&'static str, Vec<(usize, u32)>);

/// What is seen of those who are stuck, or seem to be.
#[derive(Debug, Default)]
pub(super) struct Circles {
    seen: HashMap<Circle, Seeing>,
}

/// Since when somebody is seen stuck.
#[derive(Debug)]
struct Seeing {
    since: Nanos,
    runs: Vec<Option<u64>>,
    look: u64,
    is_told: bool,
}

impl Watcher {
    pub(super) fn see_circles(&mut self, at: Nanos, look: &Look) {
        for process in &look.processes {
            self.see_deadlocks(at, process);
            for orphan in &process.orphans {
                let thread = &process.threads[*orphan];
                if thread.is_certain && thread.wait.as_ref().is_some_and(|wait| matches!(wait.kind, "lock" | "rlock")) {
                    let is_timed = thread.wait.as_ref().is_some_and(|wait| wait.is_timed);
                    self.see_circle(at, "lost-lock", vec![(process, *orphan)], false, is_timed);
                }
            }
            self.see_tasks(at, process);
            self.see_standing(at, process);
        }
        if !look.stuck.is_empty() {
            let members = look.stuck.iter().map(|(process, thread)| (&look.processes[*process], *thread)).collect();
            self.see_circle(at, "process-deadlock", members, false, false);
        }
        let looks = self.looks;
        self.circles.seen.retain(|_, seeing| seeing.is_told || seeing.look == looks || at - seeing.since < LASTS);
    }

    /// Returns whether there are any.
    fn see_deadlocks(&mut self, at: Nanos, process: &Seen) -> bool {
        for found in process.deadlocks.iter().filter(|found| found.is_certain) {
            let kind = if found.threads.len() == 1 { "self-deadlock" } else { "deadlock" };
            let members = found.threads.iter().map(|thread| (process, *thread));
            self.see_circle(at, kind, members.collect(), true, found.is_timed);
        }
        process.deadlocks.iter().any(|found| found.is_certain)
    }

    /// Rule 1. `is_ring`: each waits for the next one.
    fn see_circle(
        &mut self,
        at: Nanos,
        kind: &'static str,
        members: Vec<(&Seen, usize)>,
        is_ring: bool,
        is_timed: bool,
    ) {
        let mut who: Vec<(usize, u32)> = Vec::new();
        for (process, thread) in &members {
            let Some(live) = self.live.get(&process.pid) else { return };
            who.push((live.index, process.threads[*thread].native_id));
        }
        who.sort_unstable();
        let runs: Vec<Option<u64>> = members.iter().map(|(process, thread)| process.threads[*thread].runs).collect();
        let look = self.looks;
        let seeing = self.circles.seen.entry((kind, who)).or_insert_with(|| Seeing {
            since: at,
            runs: runs.clone(),
            look,
            is_told: false,
        });
        seeing.look = look;
        if seeing.runs != runs {
            (seeing.runs, seeing.since) = (runs, at);
        }
        // What looks at the processes of a tree one after the other is not done with each look.
        if seeing.is_told || kind != "process-deadlock" && at - seeing.since < LASTS {
            return;
        }
        seeing.is_told = true;
        let since = seeing.since;
        let count = members.len();
        let units = (0..count).map(|position| {
            let (process, thread) = members[position];
            let before = is_ring.then(|| members[(position + count - 1) % count].1);
            self.stuck_unit(process, thread, before.map(|before| &process.threads[before]))
        });
        let units = units.collect();
        self.session.stuck.push(Stuck { kind: kind.into(), at: since, is_certain: true, is_timed, units });
    }

    /// `waiter`: the one in the circle that waits for what this one holds.
    fn stuck_unit(&mut self, process: &Seen, index: usize, waiter: Option<&SeenThread>) -> StuckUnit {
        let thread = &process.threads[index];
        let live = self.live.get(&process.pid);
        let (at, kept) = (live.map_or(0, |live| live.index), live.and_then(|live| live.threads.get(&thread.native_id)));
        let kept = kept.map(|kept| kept.index);
        let wanted =
            waiter.and_then(|waiter| waiter.wait.as_ref()).filter(|wait| matches!(wait.kind, "lock" | "rlock"));
        let held = wanted.and_then(|wait| thread.holds.iter().find(|held| Some(held.object) == wait.object));
        let taken = held.and_then(|held| held.place.as_ref()).or_else(|| wanted?.holder.as_ref()?.place.as_ref());
        StuckUnit {
            process: at,
            thread: kept,
            name: thread.name.clone(),
            waits_for: thread.wait.as_ref().map(|wait| wait.what.clone()).unwrap_or_default(),
            wanted: thread.wait.as_ref().and_then(|wait| wait.place.as_ref()).map(|place| self.place(place)),
            holds: held.map(|held| held.what.clone()).or_else(|| wanted.map(|wait| wait.what.clone())),
            taken: taken.map(|place| self.place(place)),
            stack: thread.frames.iter().take(32).map(|place| self.place(place)).collect(),
        }
    }

    fn see_tasks(&mut self, at: Nanos, process: &Seen) {
        let Some(index) = self.live.get(&process.pid).map(|live| live.index) else { return };
        for circle in &process.task_deadlocks {
            let who = circle.iter().map(|task| (index, *task as u32)).collect();
            let look = self.looks;
            let key = ("task-deadlock", who);
            let seeing = self.circles.seen.entry(key).or_insert_with(|| Seeing {
                since: at,
                runs: vec![],
                look,
                is_told: false,
            });
            seeing.look = look;
            if seeing.is_told || at - seeing.since < LASTS {
                continue;
            }
            seeing.is_told = true;
            let since = seeing.since;
            let units = circle.iter().map(|task| {
                let task = &process.tasks[*task];
                let awaited = task.awaits.and_then(|awaited| process.tasks.get(awaited));
                StuckUnit {
                    process: index,
                    name: task.name.clone(),
                    waits_for: awaited.map(|awaited| format!("task {}", awaited.name)).unwrap_or_default(),
                    wanted: task.frames.first().map(|place| self.place(place)),
                    stack: task.frames.iter().map(|place| self.place(place)).collect(),
                    ..StuckUnit::default()
                }
            });
            let units = units.collect();
            self.session.stuck.push(Stuck {
                kind: "task-deadlock".into(),
                at: since,
                is_certain: true,
                is_timed: false,
                units,
            });
        }
    }

    /// Rule 2.
    fn see_standing(&mut self, at: Nanos, process: &Seen) {
        let Some(live) = self.live.get(&process.pid) else { return };
        let is_hopeless = |thread: &SeenThread| {
            let parked = live.threads.get(&thread.native_id).map_or(at, |thread| thread.parked);
            thread.is_certain
                && at - parked >= STANDS
                && thread.wait.as_ref().is_some_and(|wait| !wait.is_timed && is_inner(wait.kind))
        };
        let all = process.version.is_some()
            && !process.threads.is_empty()
            && process.native_threads.is_empty()
            && process.threads.iter().all(is_hopeless)
            // A circle is told as such.
            && process.deadlocks.is_empty()
            && process.orphans.is_empty()
            && raddle_probe::handles_signals(process.pid) == Some(false);
        if !all {
            self.asking.forget(process.pid);
            return;
        }
        if let Some(learnt) = self.asking.learnt(process)
            && self.see_deadlocks(at, &learnt)
        {
            return;
        }
        let mut members: Vec<(&Seen, usize)> = (0..process.threads.len()).map(|thread| (process, thread)).collect();
        // Those who only wait for the others' end come last.
        let is_join = |thread: &SeenThread| {
            thread.wait.as_ref().is_some_and(|wait| matches!(wait.kind, "thread" | "shutdown" | "idle-worker"))
        };
        members.sort_by_key(|(process, thread)| is_join(&process.threads[*thread]));
        self.see_circle(at, kind_of(process), members, false, false);
    }
}

/// Waits that only somebody of the same process could end.
fn is_inner(kind: &str) -> bool {
    matches!(
        kind,
        "lock"
            | "rlock"
            | "thread"
            | "shutdown"
            | "thread-start"
            | "idle-worker"
            | "queue-get"
            | "queue-put"
            | "queue-join"
            | "condition"
            | "event"
            | "semaphore"
            | "barrier"
            | "future"
            | "futures"
    )
}

fn kind_of(process: &Seen) -> &'static str {
    let waits = |kinds: &[&str]| {
        process.threads.iter().any(|thread| thread.wait.as_ref().is_some_and(|wait| kinds.contains(&wait.kind)))
    };
    let is_worker = |thread: &SeenThread| {
        let waits = thread.wait.as_ref().is_some_and(|wait| matches!(wait.kind, "future" | "futures"));
        waits
            && thread
                .frames
                .iter()
                .any(|frame| frame.file.ends_with("concurrent/futures/thread.py") && frame.function == "_worker")
    };
    if process.threads.iter().any(is_worker) {
        "pool-exhausted"
    } else if process.threads.len() == 1 && waits(&["lock", "rlock"]) {
        "lost-lock"
    } else if waits(&["condition"]) {
        "lost-wakeup"
    } else {
        "nobody-can-wake"
    }
}
