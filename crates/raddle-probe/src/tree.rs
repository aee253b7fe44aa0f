//! Several processes that look at each other: circles that go through the end of a child and through pipes.
//!
//! A parent waits for its child to end; the child wants to write, and the pipe is full; nobody but the parent could read it. No lock is
//! involved, and every process by itself looks well.
//!
//! # When threads of several processes are stuck
//!
//! A thread can be freed by its *enders*: whoever holds its lock, the thread it joins, all threads of the child it waits for, whoever has
//! the other end of its pipe open. The stuck threads are the greatest set of threads of which each waits without a timeout and has no ender outside the set.
//! Told are those of them for which another one waits: the rest, as a helper that reads from a pipe until all others have ended, merely waits with them.
//!
//! # Rules
//!
//! 1. What cannot be judged is not in the set: a wait for anything else, a running thread, a process that could not be looked into.
//! 2. A process that holds the other end of a pipe could use it with any of its threads, also with native ones.
//! 3. A child has ended only when all its threads that are no daemons have: one of them in the set is enough.

use std::collections::{HashMap, HashSet};
use std::fs;

use crate::model::Process;
use crate::process::read;

/// A thread of one of several processes: the index of the process, and of the thread in it.
pub(crate) type Member = (usize, usize);

/// Which ends of pipes a process has open: the pipe's number, and whether it is the end for writing.
pub(crate) type Ends = HashSet<(u64, bool)>;

/// The ends of pipes that a process has open.
pub(crate) fn ends(pid: u32) -> Ends {
    let mut found = Ends::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let Some(pipe) = pipe_in(&link.to_string_lossy()) else { continue };
        let number = entry.file_name().to_string_lossy().into_owned();
        let info = read(&format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        // In octal; the lowest two bits are O_RDONLY, O_WRONLY or O_RDWR.
        let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        match flags.map(|flags| flags & 3) {
            Some(0) => found.extend([(pipe, false)]),
            Some(1) => found.extend([(pipe, true)]),
            _ => found.extend([(pipe, false), (pipe, true)]),
        }
    }
    found
}

/// `… pipe:[1234] …`
fn pipe_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("pipe:[")?;
    rest.split_once(']')?.0.parse().ok()
}

/// Who could free a thread.
#[derive(Debug, PartialEq, Eq)]
enum Enders {
    /// Each of these could.
    AnyOf(Vec<Member>),
    /// It goes on when all of these have.
    AllOf(Vec<Member>),
    /// Somebody of whom nothing is known.
    Others,
}

impl Enders {
    fn all(&self) -> &[Member] {
        match self {
            Self::AnyOf(members) | Self::AllOf(members) => members,
            Self::Others => &[],
        }
    }
}

/// The threads of several processes that nobody outside of them can free, if they are of more than one process.
///
/// `ends` has, for every process of the machine that may be read and has a pipe open, which.
pub(crate) fn stuck(processes: &[Process], ends: &HashMap<u32, Ends>) -> Vec<Member> {
    let mut enders: HashMap<Member, Enders> = HashMap::new();
    for (at, process) in processes.iter().enumerate() {
        for index in 0..process.threads.len() {
            enders.insert((at, index), enders_of(processes, ends, (at, index)));
        }
    }
    let mut set: HashSet<Member> = enders.keys().copied().collect();
    loop {
        let leaves = |member: &Member| match &enders[member] {
            Enders::Others => true,
            Enders::AnyOf(others) => others.iter().any(|other| !set.contains(other)),
            Enders::AllOf(others) => others.iter().all(|other| !set.contains(other)),
        };
        let leaving: Vec<Member> = set.iter().copied().filter(leaves).collect();
        if leaving.is_empty() {
            break;
        }
        for member in leaving {
            set.remove(&member);
        }
    }
    loop {
        let wanted: HashSet<Member> = set.iter().flat_map(|member| enders[member].all()).copied().collect();
        let before = set.len();
        set.retain(|member| wanted.contains(member));
        if set.len() == before {
            break;
        }
    }
    let mut found: Vec<Member> = set.into_iter().collect();
    found.sort_unstable();
    let is_through_several = found.iter().any(|(process, _)| *process != found[0].0);
    if is_through_several { found } else { Vec::new() }
}

fn enders_of(processes: &[Process], ends: &HashMap<u32, Ends>, (at, index): Member) -> Enders {
    let thread = &processes[at].threads[index];
    let Some(wait) = &thread.wait else { return Enders::Others };
    if wait.is_timed || !thread.is_certain {
        return Enders::Others;
    }
    match wait.kind {
        "lock" | "rlock" | "thread" => match wait.holder.as_ref().and_then(|holder| holder.thread) {
            Some(holder) => Enders::AnyOf(vec![(at, holder)]),
            None => Enders::Others,
        },
        "process" => {
            let child = wait.what.rsplit(' ').next().and_then(|word| word.parse::<u32>().ok());
            let Some(child) = processes.iter().position(|process| Some(process.pid) == child) else {
                return Enders::Others;
            };
            let threads = processes[child].threads.iter().enumerate();
            Enders::AllOf(
                threads.filter(|(_, thread)| thread.is_daemon != Some(true)).map(|(index, _)| (child, index)).collect(),
            )
        }
        "read" | "write" => {
            let Some(pipe) = pipe_in(&wait.what) else { return Enders::Others };
            let wanted = (pipe, wait.kind == "read");
            let mut members = Vec::new();
            for (pid, _) in ends.iter().filter(|(_, ends)| ends.contains(&wanted)) {
                let Some(holder) = processes.iter().position(|process| process.pid == *pid) else {
                    return Enders::Others;
                };
                if !processes[holder].native_threads.is_empty() {
                    return Enders::Others;
                }
                let others = (0..processes[holder].threads.len()).map(|index| (holder, index));
                members.extend(others.filter(|other| *other != (at, index)));
            }
            // Without a reader a write fails at once, and without a writer a read ends: somebody has the other end open.
            Enders::AnyOf(members)
        }
        _ => Enders::Others,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Holder, State, Thread, Wait};

    fn thread(kind: &'static str, what: &str, holder: Option<usize>) -> Thread {
        Thread {
            name: String::new(),
            ident: 0,
            native_id: 0,
            interpreter: 0,
            is_daemon: None,
            state: State::Waiting,
            wait: (!kind.is_empty()).then(|| Wait {
                kind,
                what: what.into(),
                object: None,
                name: None,
                is_timed: false,
                place: None,
                holder: holder.map(|thread| Holder { thread: Some(thread), place: None }),
            }),
            holds_gil: false,
            holds: vec![],
            frames: vec![],
            is_certain: true,
            is_whole: true,
            cpu: 0,
            queued: 0,
            runs: None,
        }
    }

    fn process(pid: u32, threads: Vec<Thread>) -> Process {
        Process {
            pid,
            command: vec![],
            version: None,
            directory: None,
            age: None,
            threads,
            native_threads: vec![],
            tasks: vec![],
            task_deadlocks: vec![],
            deadlocks: vec![],
            orphans: vec![],
            children: vec![],
            notes: vec![],
            took: 0.0,
        }
    }

    /// A parent that waits for the end of a child whose feeder cannot write, and who has which end of pipe 7.
    fn join_before_drain() -> (Vec<Process>, HashMap<u32, Ends>) {
        let parent = process(1, vec![thread("process", "the end of process 2", None)]);
        let feeder = thread("write", "room to write to pipe:[7] (fd 4)", None);
        let child = process(2, vec![thread("thread", "the end of \"feeder\"", Some(1)), feeder]);
        let ends = HashMap::from([(1, Ends::from([(7, false)])), (2, Ends::from([(7, false), (7, true)]))]);
        (vec![parent, child], ends)
    }

    #[test]
    fn a_parent_that_joins_before_it_reads_is_stuck_with_its_child() {
        let (processes, ends) = join_before_drain();
        assert_eq!(stuck(&processes, &ends), [(0, 0), (1, 0), (1, 1)]);
    }

    #[test]
    fn a_helper_that_waits_with_them_is_not_told() {
        let (mut processes, mut ends) = join_before_drain();
        processes.push(process(3, vec![thread("read", "data from pipe:[8] (fd 5)", None)]));
        for pid in [1, 2] {
            ends.entry(pid).or_default().insert((8, true));
        }
        ends.insert(3, Ends::from([(8, false)]));
        assert_eq!(stuck(&processes, &ends), [(0, 0), (1, 0), (1, 1)]);
    }

    #[test]
    fn nobody_is_stuck_while_somebody_could_read() {
        let (mut processes, ends) = join_before_drain();
        processes[0].threads.push(thread("", "", None));
        assert_eq!(stuck(&processes, &ends), [], "another thread of the parent runs");

        let (processes, mut ends) = join_before_drain();
        ends.insert(3, Ends::from([(7, false)]));
        assert_eq!(stuck(&processes, &ends), [], "a process that was not looked into has the end for reading");

        let (mut processes, ends) = join_before_drain();
        processes[0].threads[0].is_certain = false;
        assert_eq!(stuck(&processes, &ends), [], "the parent has run meanwhile");

        let (mut processes, ends) = join_before_drain();
        processes[1].threads[0] = thread("event", "set() of Event", None);
        assert_eq!(stuck(&processes, &ends), [], "the child's own thread could read");
    }
}
