//! Who is stuck, in one line for each circle.
//!
//! Circles through several processes are not looked for at every look: one that was found stands until one of its threads has run.

use std::collections::HashSet;

use raddle_probe::{Look, Process, Thread, clean};

use crate::history::ThreadId;

/// A circle of waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    pub(crate) threads: Vec<ThreadId>,
    /// Whether a timeout will end it.
    pub(crate) is_timed: bool,
}

/// The circle through several processes that was found last: its threads, and how often each had run.
#[derive(Debug, Default)]
pub(crate) struct Across(Vec<(ThreadId, Option<u64>)>);

impl Across {
    pub(crate) fn take(&mut self, look: &Look) {
        if !look.stuck.is_empty() {
            let threads = look.stuck.iter().map(|(process, thread)| {
                let (process, thread) = (&look.processes[*process], &look.processes[*process].threads[*thread]);
                ((process.pid, thread.native_id), thread.runs)
            });
            self.0 = threads.collect();
        } else if !self.0.iter().all(|(id, runs)| find(look, *id).is_some_and(|(_, thread)| thread.runs == *runs)) {
            self.0.clear();
        }
    }
}

/// All who are stuck.
pub(crate) fn verdicts(look: &Look, across: &Across) -> Vec<Verdict> {
    let mut found = Vec::new();
    if !across.0.is_empty() {
        let threads: Vec<ThreadId> = across.0.iter().map(|(id, _)| *id).collect();
        let pids: HashSet<u32> = threads.iter().map(|(pid, _)| *pid).collect();
        let whom = threads
            .iter()
            .filter_map(|id| find(look, *id))
            .map(|(process, thread)| format!("{} \"{}\"{}", process.pid, clean(&thread.name), for_what(thread)));
        let whom = whom.collect::<Vec<_>>().join(", ");
        let text = format!("deadlock: {} processes wait for each other: {whom}", pids.len());
        found.push(Verdict { text, threads, is_timed: false });
    }
    for process in &look.processes {
        for circle in process.deadlocks.iter().filter(|circle| circle.is_certain) {
            let members: Vec<&Thread> = circle.threads.iter().map(|index| &process.threads[*index]).collect();
            let word = if circle.is_timed { "standstill" } else { "deadlock" };
            let whom = members.iter().map(|thread| format!("\"{}\"{}", clean(&thread.name), for_what(thread)));
            let whom = whom.collect::<Vec<_>>().join(", ");
            found.push(Verdict {
                text: format!("{word}{}: {whom}", in_process(look, process)),
                threads: members.iter().map(|thread| (process.pid, thread.native_id)).collect(),
                is_timed: circle.is_timed,
            });
        }
        for circle in &process.task_deadlocks {
            let names = circle.iter().map(|task| format!("\"{}\"", clean(&process.tasks[*task].name)));
            let text = format!(
                "deadlock{}: tasks await each other: {}",
                in_process(look, process),
                names.collect::<Vec<_>>().join(" → ")
            );
            found.push(Verdict { text, threads: vec![], is_timed: false });
        }
        for index in &process.orphans {
            let thread = &process.threads[*index];
            let name = clean(&thread.name);
            found.push(Verdict {
                text: format!(
                    "lost lock{}: \"{name}\"{}, whose owner is not there",
                    in_process(look, process),
                    for_what(thread)
                ),
                threads: vec![(process.pid, thread.native_id)],
                is_timed: thread.wait.as_ref().is_some_and(|wait| wait.is_timed),
            });
        }
    }
    found
}

fn for_what(thread: &Thread) -> String {
    thread.wait.as_ref().map_or(String::new(), |wait| format!(" waits for {}", clean(&wait.what)))
}

fn in_process(look: &Look, process: &Process) -> String {
    if look.processes.len() > 1 { format!(" in {}", process.pid) } else { String::new() }
}

/// The thread with this number, and its process.
pub(crate) fn find(look: &Look, (pid, native_id): ThreadId) -> Option<(&Process, &Thread)> {
    let process = look.processes.iter().find(|process| process.pid == pid)?;
    Some((process, process.threads.iter().find(|thread| thread.native_id == native_id)?))
}

#[cfg(test)]
mod tests {
    use raddle_probe::{Deadlock, State};

    use super::*;
    use crate::history::tests::{look, process, thread, waits};

    pub(crate) fn stuck() -> Look {
        let alpha = waits(thread(11, "alpha", State::Blocked), "lock", "Lock 'y'", 32);
        let beta = waits(thread(12, "beta", State::Blocked), "lock", "Lock 'x'", 16);
        let mut one = process(1, vec![alpha, beta]);
        let mut circle = Deadlock::default();
        (circle.threads, circle.is_certain) = (vec![0, 1], true);
        one.deadlocks = vec![circle];
        look(vec![one])
    }

    #[test]
    fn a_circle_is_told_if_it_is_certain() {
        let mut seen = stuck();
        let found = verdicts(&seen, &Across::default());
        assert_eq!(found[0].text, "deadlock: \"alpha\" waits for Lock 'y', \"beta\" waits for Lock 'x'");
        assert_eq!(found[0].threads, [(1, 11), (1, 12)]);
        seen.processes[0].deadlocks[0].is_certain = false;
        assert_eq!(verdicts(&seen, &Across::default()), []);
    }

    #[test]
    fn a_circle_through_processes_stands_until_one_of_its_threads_has_run() {
        let child = waits(thread(2, "MainThread", State::Io), "write", "room to write to a pipe", 0);
        let mut seen = look(vec![process(1, vec![thread(1, "MainThread", State::Waiting)]), process(2, vec![child])]);
        seen.stuck = vec![(0, 0), (1, 0)];
        let mut across = Across::default();
        across.take(&seen);
        seen.stuck.clear();
        across.take(&seen);
        assert!(verdicts(&seen, &across)[0].text.starts_with("deadlock: 2 processes wait for each other"));
        seen.processes[1].threads[0].runs = Some(2);
        across.take(&seen);
        assert_eq!(verdicts(&seen, &across), []);
    }
}
