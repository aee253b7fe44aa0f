//! Who is stuck: circles of waits, and processes in which nobody is left who could wake anybody.
//!
//! # Rules
//!
//! 1. A circle is believed when it is there for [`LASTS`] and none of its threads has run in between.
//! 2. Nobody can wake a process if all its threads wait without a timeout for something that only another of them could bring, it has no threads that
//!    Python does not know, handles no signal, and this was so for [`STANDS`]. Where the recorder knows of a circle in it, that is told instead.
//! 3. Each is told once. A circle of which the recorder knows better is not told.
//! 4. Who was said to wait for ever and goes on by itself was not stuck: that is taken back. Only the main thread can be interrupted in such a wait, and after that, or
//!    after a signal that was sent through the one who watches, what was said remains.

use std::collections::HashMap;

use raddle_probe::{Look, Process as Seen, Thread as SeenThread};

use super::Watcher;
use crate::session::{Ending, Nanos, Stuck, StuckUnit};
use crate::words::{duration, names};

const LASTS: Nanos = 100_000_000;
pub(super) const STANDS: Nanos = 500_000_000;

/// Who is stuck, and how: indices of processes and native numbers of threads.
type Circle = (&'static str, Vec<(usize, u32)>);

/// What is seen of those who are stuck, or seem to be.
#[derive(Debug, Default)]
pub(super) struct Circles {
    seen: HashMap<Circle, Seeing>,
    told: Vec<Told>,
    /// Somebody has interrupted the program (rule 4).
    pub(super) is_interrupted: bool,
}

/// Threads that were said to wait for ever, as an index in [`Session::stuck`](crate::session::Session::stuck).
#[derive(Debug)]
struct Told {
    index: usize,
    members: Vec<Member>,
    has_gone_on: bool,
    /// It was wrong (rule 4).
    is_wrong: bool,
}

/// One of them: what it waited for, and how often it had run.
#[derive(Debug)]
struct Member {
    pid: u32,
    native_id: u32,
    runs: Option<u64>,
    is_daemon: bool,
    kind: &'static str,
    object: Option<u64>,
}

impl Member {
    fn of(process: &Seen, thread: &SeenThread) -> Self {
        let wait = thread.wait.as_ref();
        Self {
            pid: process.pid,
            native_id: thread.native_id,
            runs: thread.runs,
            is_daemon: thread.is_daemon != Some(false),
            kind: wait.map_or("", |wait| wait.kind),
            object: wait.and_then(|wait| wait.object),
        }
    }

    /// Whether it is seen to do something else than to wait as it did, or has ended while its process goes on.
    fn has_gone_on(&self, look: &Look) -> bool {
        let Some(process) = look.processes.iter().find(|process| process.pid == self.pid) else { return false };
        let is_at_work = |thread: &&SeenThread| thread.native_id == self.pid && !thread.frames.is_empty();
        if process.version.is_none() || !process.threads.iter().any(|thread| is_at_work(&thread)) {
            return false;
        }
        let Some(thread) = process.threads.iter().find(|thread| thread.native_id == self.native_id) else {
            return true;
        };
        let waits = thread.wait.as_ref().map(|wait| (wait.kind, wait.object));
        thread.is_certain
            && !thread.frames.is_empty()
            && thread.runs != self.runs
            && waits != Some((self.kind, self.object))
    }
}

/// Since when somebody is seen stuck.
#[derive(Debug)]
struct Seeing {
    since: Nanos,
    runs: Vec<Option<u64>>,
    look: u64,
    is_told: bool,
    /// The recorder knows better.
    is_denied: bool,
}

impl Watcher {
    pub(super) fn see_circles(&mut self, at: Nanos, look: &Look) {
        self.see_who_goes_on(at, look);
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

    /// Rule 4.
    fn see_who_goes_on(&mut self, at: Nanos, look: &Look) {
        self.go_on(at, |told| told.members.iter().any(|member| member.has_gone_on(look)));
    }

    /// Takes back what has turned out to be wrong (rule 4). An interpreter ends when all threads have ended that are no daemons.
    pub(super) fn take_back(&mut self, at: Nanos, ending: Ending) {
        if let Some(first) = self.session.processes.first().map(|process| process.pid)
            && ending == Ending::Exit(0)
        {
            self.go_on(at, |told| told.members.iter().any(|member| member.pid == first && !member.is_daemon));
        }
        let wrong = self.circles.told.iter().filter(|told| told.is_wrong).map(|told| told.index);
        let mut wrong: Vec<usize> = wrong.collect();
        wrong.sort_unstable();
        for index in wrong.into_iter().rev() {
            self.session.stuck.remove(index);
        }
    }

    /// Notes of whom it is true that they go on, unless somebody has interrupted them.
    fn go_on(&mut self, at: Nanos, have_gone_on: impl Fn(&Told) -> bool) {
        let Circles { told, is_interrupted, .. } = &mut self.circles;
        for told in told.iter_mut().filter(|told| !*is_interrupted && !told.has_gone_on && have_gone_on(told)) {
            told.has_gone_on = true;
            told.is_wrong = told.members.iter().all(|member| member.native_id != member.pid);
            let Some(stuck) = self.session.stuck.get(told.index) else { continue };
            let who = names(stuck.units.iter().map(|unit| unit.name.as_str()), 4);
            let after = duration(at.saturating_sub(stuck.at));
            self.session.notes.push(if told.is_wrong {
                format!("{who} seemed to wait for ever, and went on after {after}: it was no {}", stuck.kind)
            } else {
                format!("{who} went on after {after}: the main thread was interrupted, or could be woken after all")
            });
        }
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
            is_denied: false,
        });
        seeing.look = look;
        if seeing.runs != runs {
            (seeing.runs, seeing.since, seeing.is_denied) = (runs, at, false);
        }
        // What looks at the processes of a tree one after the other is not done with each look.
        if seeing.is_told || seeing.is_denied || kind != "process-deadlock" && at - seeing.since < LASTS {
            return;
        }
        if is_ring {
            let circle: Vec<&SeenThread> = members.iter().map(|(process, thread)| &process.threads[*thread]).collect();
            seeing.is_denied = self.asking.denies(members[0].0.pid, &circle);
            if seeing.is_denied {
                return;
            }
        }
        seeing.is_told = true;
        let since = seeing.since;
        if !is_timed {
            let who = members.iter().map(|(process, thread)| Member::of(process, &process.threads[*thread]));
            let (index, members) = (self.session.stuck.len(), who.collect());
            self.circles.told.push(Told { index, members, has_gone_on: false, is_wrong: false });
        }
        let count = members.len();
        let units = (0..count).map(|position| {
            let (process, thread) = members[position];
            let waits_for_it = |(_, other): &&(&Seen, usize)| {
                let wait = process.threads[*other].wait.as_ref();
                wait.and_then(|wait| wait.holder.as_ref()?.thread) == Some(thread)
            };
            let before = if is_ring {
                Some(members[(position + count - 1) % count].1)
            } else {
                let of_process = members.iter().filter(|(other, _)| other.pid == process.pid);
                of_process.filter(|(_, other)| *other != thread).find(waits_for_it).map(|(_, other)| *other)
            };
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
                is_denied: false,
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

/// Whether somebody waits for a notification without having looked whether it is needed, and nobody who could send it waits for something else: it has been
/// sent before.
fn is_notification_lost(process: &Seen) -> bool {
    let looks = |thread: &SeenThread| thread.frames.iter().any(|frame| frame.function == "Condition.wait_for");
    let kind = |thread: &SeenThread| thread.wait.as_ref().map_or("", |wait| wait.kind);
    process.threads.iter().any(|thread| kind(thread) == "condition" && !looks(thread))
        && process
            .threads
            .iter()
            .all(|thread| matches!(kind(thread), "condition" | "thread" | "shutdown" | "idle-worker"))
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
    } else if is_notification_lost(process) {
        "lost-wakeup"
    } else {
        "nobody-can-wake"
    }
}
