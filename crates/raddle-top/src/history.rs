//! What follows from several looks: since when a thread does what it does, how often it waited for the GIL, how much CPU it had.
//!
//! # Rules
//!
//! 1. A wait goes on as long as it is for the same thing and the thread has not run in between. One that runs at each look is taken to run all the time.
//! 2. Shares are of the looks in the last [`RECENT`] seconds; CPU is what the kernel has counted between the last two looks.
//! 3. What is not there any more is forgotten with the look that does not have it.

use std::collections::{HashMap, HashSet, VecDeque};

use raddle_probe::{Look, Process, State, Thread};

/// So many looks are kept of each thread.
pub(crate) const KEPT: usize = 60;

/// Seconds.
const RECENT: f64 = 10.0;

/// A process and the kernel's number of one of its threads.
pub(crate) type ThreadId = (u32, u32);

/// What is remembered of earlier looks.
#[derive(Debug, Default)]
pub(crate) struct History {
    threads: HashMap<ThreadId, Past>,
    processes: HashMap<u32, Whole>,
    /// When the last look was, in seconds since the first.
    at: f64,
}

/// What is remembered of one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// What it did at the last looks, the newest at the end, and when they were.
    pub(crate) states: VecDeque<(f64, State)>,
    /// Since when it does what it does.
    pub(crate) since: f64,
    /// How much of a processor it had of late.
    pub(crate) cpu: f64,
    spent: u64,
    runs: Option<u64>,
    wait: Option<(&'static str, Option<u64>)>,
}

/// What is remembered of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole {
    /// How many processors it had of late.
    pub(crate) cpu: f64,
    spent: HashMap<u32, u64>,
    /// Whether somebody had a GIL, and whether somebody waited for one.
    gil: VecDeque<(f64, bool, bool)>,
}

/// In which share of looks somebody had the GIL, and in which somebody waited for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gil {
    pub(crate) held: f64,
    pub(crate) wanted: f64,
}

impl History {
    /// Takes in a look.
    pub(crate) fn take(&mut self, at: f64, look: &Look) {
        let passed = at - self.at;
        self.at = at;
        let mut there = HashSet::new();
        for process in &look.processes {
            self.processes.entry(process.pid).or_default().take(at, passed, process);
            for thread in &process.threads {
                let id = (process.pid, thread.native_id);
                there.insert(id);
                self.threads.entry(id).or_default().take(at, passed, thread);
            }
        }
        self.threads.retain(|id, _| there.contains(id));
        self.processes.retain(|pid, _| look.processes.iter().any(|process| process.pid == *pid));
    }

    /// When the last look was.
    pub(crate) fn at(&self) -> f64 {
        self.at
    }

    pub(crate) fn of(&self, id: ThreadId) -> Option<&Past> {
        self.threads.get(&id)
    }

    pub(crate) fn of_process(&self, pid: u32) -> Option<&Whole> {
        self.processes.get(&pid)
    }

    /// How many processors all of them had of late.
    pub(crate) fn cpu(&self) -> f64 {
        self.processes.values().map(|whole| whole.cpu).sum()
    }

    /// The GIL that is wanted most, or else held most, and whose it is.
    pub(crate) fn gil(&self) -> Option<(u32, Gil)> {
        let all = self.processes.iter().filter_map(|(pid, whole)| Some((*pid, whole.gil()?)));
        let rank = |(pid, gil): &(u32, Gil)| (gil.wanted, gil.held, std::cmp::Reverse(*pid));
        all.max_by(|one, other| rank(one).partial_cmp(&rank(other)).unwrap_or(std::cmp::Ordering::Equal))
    }
}

impl Past {
    fn take(&mut self, at: f64, passed: f64, thread: &Thread) {
        let wait = thread.wait.as_ref().map(|wait| (wait.kind, wait.object));
        let before = self.states.back().map(|(_, state)| *state);
        let has_run = self.runs.is_none() || self.runs != thread.runs;
        let is_same = before == Some(thread.state) && self.wait == wait;
        if !is_same || has_run && is_at_rest(thread.state) {
            self.since = at;
        }
        self.cpu = match before {
            Some(_) if passed > 0.0 => rate(thread.cpu.saturating_sub(self.spent), passed),
            _ => 0.0,
        };
        (self.spent, self.runs, self.wait) = (thread.cpu, thread.runs, wait);
        if self.states.len() == KEPT {
            self.states.pop_front();
        }
        self.states.push_back((at, thread.state));
    }

    /// In which share of the last looks it waited for the GIL.
    pub(crate) fn gil(&self) -> f64 {
        let Some((newest, _)) = self.states.back() else { return 0.0 };
        let recent = || self.states.iter().filter(|(at, _)| newest - at <= RECENT);
        recent().filter(|(_, state)| *state == State::Gil).count() as f64 / recent().count() as f64
    }
}

impl Whole {
    fn take(&mut self, at: f64, passed: f64, process: &Process) {
        let threads = process.threads.iter().map(|thread| (thread.native_id, thread.cpu));
        let native = process.native_threads.iter().map(|thread| (thread.native_id, thread.cpu));
        let spent: HashMap<u32, u64> = threads.chain(native).collect();
        let since = |(id, cpu): (&u32, &u64)| self.spent.get(id).map_or(0, |before| cpu.saturating_sub(*before));
        self.cpu = if passed > 0.0 { rate(spent.iter().map(since).sum(), passed) } else { 0.0 };
        self.spent = spent;
        if process.version.is_some() {
            let holds = process.threads.iter().any(|thread| thread.holds_gil);
            let wants = process.threads.iter().any(|thread| thread.state == State::Gil);
            if self.gil.len() == KEPT {
                self.gil.pop_front();
            }
            self.gil.push_back((at, holds, wants));
        }
    }

    /// The GIL of the process, if it has one.
    pub(crate) fn gil(&self) -> Option<Gil> {
        let (newest, ..) = self.gil.back()?;
        let recent = || self.gil.iter().filter(|(at, ..)| newest - at <= RECENT);
        let share = |count: usize| count as f64 / recent().count() as f64;
        Some(Gil {
            held: share(recent().filter(|(_, held, _)| *held).count()),
            wanted: share(recent().filter(|(.., wanted)| *wanted).count()),
        })
    }
}

fn rate(nanoseconds: u64, seconds: f64) -> f64 {
    nanoseconds as f64 / 1e9 / seconds
}

/// Whether a thread in this state does not run, unless it begins to do something else.
fn is_at_rest(state: State) -> bool {
    matches!(state, State::Blocked | State::Waiting | State::Sleeping | State::Io)
}

#[cfg(test)]
pub(crate) mod tests {
    use raddle_probe::Wait;

    use super::*;

    pub(crate) fn thread(native_id: u32, name: &str, state: State) -> Thread {
        let mut thread = Thread::default();
        (thread.native_id, thread.name, thread.state, thread.runs) = (native_id, name.into(), state, Some(1));
        (thread.is_certain, thread.is_whole) = (true, true);
        thread
    }

    pub(crate) fn process(pid: u32, threads: Vec<Thread>) -> Process {
        let mut process = Process::default();
        (process.pid, process.threads, process.version) = (pid, threads, Some("3.12.1".into()));
        process.command = vec!["python".into(), format!("program{pid}.py")];
        process
    }

    pub(crate) fn look(processes: Vec<Process>) -> Look {
        let mut look = Look::default();
        look.processes = processes;
        look
    }

    pub(crate) fn waits(mut thread: Thread, kind: &'static str, what: &str, object: u64) -> Thread {
        let mut wait = Wait::default();
        (wait.kind, wait.what, wait.object) = (kind, what.into(), Some(object));
        thread.wait = Some(wait);
        thread
    }

    fn history(looks: &[(f64, Look)]) -> History {
        let mut history = History::default();
        for (at, look) in looks {
            history.take(*at, look);
        }
        history
    }

    fn one(thread: &Thread) -> Look {
        look(vec![process(1, vec![thread.clone()])])
    }

    #[test]
    fn a_wait_begins_anew_when_its_thread_has_run_or_it_is_for_another_thing() {
        let waiting = waits(thread(7, "a", State::Blocked), "lock", "Lock 'x'", 16);
        let seen = history(&[(0.0, one(&waiting)), (1.0, one(&waiting)), (2.0, one(&waiting))]);
        assert_eq!(seen.of((1, 7)).map(|past| past.since), Some(0.0));
        let mut has_run = waiting.clone();
        has_run.runs = Some(2);
        let seen = history(&[(0.0, one(&waiting)), (1.0, one(&has_run))]);
        assert_eq!(seen.of((1, 7)).map(|past| past.since), Some(1.0));
        let other = waits(waiting.clone(), "lock", "Lock 'y'", 32);
        let seen = history(&[(0.0, one(&waiting)), (1.0, one(&other))]);
        assert_eq!(seen.of((1, 7)).map(|past| past.since), Some(1.0));
    }

    #[test]
    fn one_that_runs_at_each_look_runs_since_the_first() {
        let mut running = thread(7, "a", State::Running);
        let first = one(&running);
        running.runs = Some(9);
        assert_eq!(history(&[(0.0, first), (1.0, one(&running))]).of((1, 7)).map(|past| past.since), Some(0.0));
    }

    #[test]
    fn cpu_is_what_the_kernel_has_counted_since_the_look_before() {
        let (mut a, mut b) = (thread(7, "a", State::Running), thread(8, "b", State::Running));
        let first = look(vec![process(1, vec![a.clone(), b.clone()])]);
        (a.cpu, b.cpu) = (1_000_000_000, 500_000_000);
        let seen = history(&[(0.0, first), (2.0, look(vec![process(1, vec![a, b])]))]);
        assert_eq!(seen.of((1, 7)).map(|past| past.cpu), Some(0.5));
        assert_eq!((seen.cpu(), seen.of_process(1).map(|whole| whole.cpu)), (0.75, Some(0.75)));
    }

    #[test]
    fn shares_of_the_gil_are_of_the_looks_of_the_last_seconds() {
        let (mut holder, waiter) = (thread(7, "a", State::Running), thread(8, "b", State::Gil));
        holder.holds_gil = true;
        let idle = look(vec![process(1, vec![thread(7, "a", State::Sleeping), thread(8, "b", State::Sleeping)])]);
        let busy = look(vec![process(1, vec![holder, waiter])]);
        let seen =
            history(&[(0.0, busy.clone()), (100.0, idle.clone()), (101.0, busy.clone()), (102.0, busy), (103.0, idle)]);
        assert_eq!(seen.gil(), Some((1, Gil { held: 0.5, wanted: 0.5 })));
        assert_eq!(seen.of((1, 8)).map(Past::gil), Some(0.5));
        assert_eq!(seen.of((1, 7)).map(Past::gil), Some(0.0));
    }

    #[test]
    fn what_is_gone_is_forgotten_and_no_more_than_enough_is_kept() {
        let mut seen = History::default();
        for at in 0..200 {
            seen.take(f64::from(at), &one(&thread(7, "a", State::Running)));
        }
        assert_eq!(seen.of((1, 7)).map(|past| past.states.len()), Some(KEPT));
        seen.take(200.0, &look(vec![process(2, vec![])]));
        assert!(seen.of((1, 7)).is_none() && seen.of_process(1).is_none() && seen.of_process(2).is_some());
    }
}
