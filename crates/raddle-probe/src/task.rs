//! The threads of a process as the kernel sees them.
//!
//! `schedstat` counts how often a thread was put on a processor. A thread that sleeps and whose count is the same before and after a look
//! has not run in between: whatever was read of it belongs together, although nobody has stopped it.

use std::fs;

use crate::kernel::{self, Call};
use crate::process::read_record;

/// A thread at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) native_id: u32,
    /// The kernel's letter: R runs, S sleeps, D sleeps in a device, T is stopped, Z has ended.
    pub(crate) letter: char,
    /// The kernel's name of the thread.
    pub(crate) name: String,
    /// What it is in; `None` when we may not know.
    pub(crate) call: Option<Call>,
    /// How often it was put on a processor; `None` where the kernel does not count.
    pub(crate) runs: Option<u64>,
    /// For how many nanoseconds it was on a processor, and for how many it waited for one.
    pub(crate) spent: (u64, u64),
}

/// What `schedstat` says about a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Nanoseconds on a processor.
    pub(crate) cpu: u64,
    /// Nanoseconds of waiting for one.
    pub(crate) queued: u64,
    /// How often it was put on a processor.
    pub(crate) runs: u64,
}

/// The numbers of all threads, in the order in which they were started.
pub(crate) fn list(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    let mut found: Vec<u32> =
        entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    found
}

impl Task {
    pub(crate) fn of(pid: u32, native_id: u32) -> Option<Self> {
        let directory = format!("/proc/{pid}/task/{native_id}");
        let schedule = schedule(pid, native_id);
        let call = read_record(&format!("{directory}/syscall")).ok().and_then(|line| kernel::parse(&line));
        let stat = read_record(&format!("{directory}/stat")).ok()?;
        let (name, letter) = name_and_letter(&stat)?;
        let spent = schedule.map_or((0, 0), |schedule| (schedule.cpu, schedule.queued));
        Some(Self { native_id, letter, name, call, runs: schedule.map(|schedule| schedule.runs), spent })
    }

    /// Whether it is sure that the thread has not run since this look.
    pub(crate) fn has_not_run(&self, pid: u32) -> bool {
        self.letter != 'R' && self.runs.is_some() && self.runs == runs(pid, self.native_id)
    }
}

/// How often a thread was put on a processor.
pub(crate) fn runs(pid: u32, native_id: u32) -> Option<u64> {
    schedule(pid, native_id).map(|schedule| schedule.runs)
}

/// What the scheduler has counted for a thread; `None` where it does not count.
pub(crate) fn schedule(pid: u32, native_id: u32) -> Option<Schedule> {
    let line = read_record(&format!("/proc/{pid}/task/{native_id}/schedstat")).ok()?;
    let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    Some(Schedule { cpu: next()?, queued: next()?, runs: next()? })
}

/// `1234 (name) S …`: the name may hold anything, parentheses too.
fn name_and_letter(stat: &str) -> Option<(String, char)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    Some((name.to_owned(), rest.trim_start().chars().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(name_and_letter("12 (a) b (c) S 1 2"), Some(("a) b (c".into(), 'S')));
        assert_eq!(name_and_letter("nonsense"), None);
    }

    #[test]
    fn our_own_threads_are_there() {
        let me = std::process::id();
        let task = Task::of(me, me).expect("the main thread");
        assert!(list(me).contains(&me));
        assert!(task.runs.is_none_or(|runs| runs > 0));
    }
}
