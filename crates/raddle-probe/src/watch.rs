//! Looking again and again into a process and all that it starts, cheaply.
//!
//! A single look finds the interpreter, reads names and code anew, and asks `/proc` for the whole list of processes. Whoever looks fifty times a second
//! keeps what does not change.
//!
//! # Rules
//!
//! 1. What was read once of types, code and names is believed for [`BELIEVED`]: memory is used again for other objects.
//! 2. A thread that sleeps and has not run since the last look is not looked at again.
//! 3. The list of processes is asked for every [`CENSUS`], or when a process that is watched has ended. A process stays watched until it ends, also when
//!    the one that started it has ended before. One that was there and did not belong to it never will: a number is not given again between two censuses.
//! 4. Circles through several processes need all that have a pipe open: they are looked for every [`CIRCLES`] only.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Trouble;
use crate::look::{Memo, look_from_outside, look_once, stuck_in};
use crate::model::{Look, Process};
use crate::process;
use crate::runtime::Target;

const BELIEVED: Duration = Duration::from_secs(2);
const CENSUS: Duration = Duration::from_millis(200);
const CIRCLES: Duration = Duration::from_millis(400);
/// Hundredths of a second by which a process is older than the newest one, so that all who began before it are on the list too.
const SETTLED: u64 = 100;

/// A process and its descendants, looked at again and again.
pub struct Watch {
    root: u32,
    members: Vec<Member>,
    /// Processes that have nothing to do with it.
    others: HashSet<u32>,
    counted: Option<Instant>,
    circled: Option<Instant>,
}

struct Member {
    pid: u32,
    parent: u32,
    /// Which of all that have had this number.
    started: u64,
    eye: Eye,
}

enum Eye {
    Python {
        target: Box<Target>,
        memo: Box<Memo>,
        since: Instant,
    },
    /// It runs something else, or is not ready yet. When to try again.
    Closed {
        until: Instant,
        tries: u32,
        /// The version of the interpreter, if that is one that is not known.
        unknown: Option<String>,
    },
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("root", &self.root).field("members", &self.members.len()).finish_non_exhaustive()
    }
}

/// One of the processes that are watched, for those who need only the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watched {
    /// Its number.
    pub pid: u32,
    /// The number of the one that has started it.
    pub parent: u32,
}

impl Watch {
    /// Watches a process and all that it starts.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { root: pid, members: Vec::new(), others: HashSet::new(), counted: None, circled: None }
    }

    /// The processes that are watched, each behind the one that has started it.
    pub fn members(&self) -> impl Iterator<Item = Watched> + '_ {
        self.members.iter().map(|member| Watched { pid: member.pid, parent: member.parent })
    }

    /// Looks once more. Processes that cannot be looked into are there without their stacks; those that have ended are not there.
    pub fn look(&mut self) -> Look {
        self.count();
        let mut processes = Vec::new();
        let mut ended = false;
        for member in &mut self.members {
            match member.look() {
                Some(process) => processes.push(process),
                None => ended |= !process::is_alive(member.pid),
            }
        }
        if ended {
            self.counted = None; // rule 3
        }
        let mut look = Look { processes, stuck: Vec::new() };
        if self.circled.is_none_or(|circled| circled.elapsed() > CIRCLES) {
            look.stuck = stuck_in(&look.processes);
            self.circled = Some(Instant::now());
            // Whoever has not run since it was seen is still there now, and so all of them are at one moment.
            let is_still_there = |(process, thread): &(usize, usize)| look.processes[*process].has_not_run(*thread);
            if !look.stuck.iter().all(is_still_there) {
                look.stuck.clear();
            }
        }
        look
    }

    /// Brings the list of members up to date (rule 3).
    fn count(&mut self) {
        if self.counted.is_some_and(|counted| counted.elapsed() < CENSUS) {
            return;
        }
        self.counted = Some(Instant::now());
        let there = process::all();
        let mut others = std::mem::take(&mut self.others);
        let stats: HashMap<u32, process::Stat> = there
            .iter()
            .filter(|pid| !others.contains(pid))
            .filter_map(|pid| Some((*pid, process::stat(*pid)?)))
            .collect();
        let is_there = |member: &Member| {
            stats.get(&member.pid).is_some_and(|stat| !stat.has_ended() && stat.started == member.started)
        };
        self.members.retain(is_there);
        let mut known: HashSet<u32> = self.members.iter().map(|member| member.pid).collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (pid, stat) in &stats {
            if !stat.has_ended() {
                children.entry(stat.parent).or_default().push(*pid);
            }
        }
        let mut queue: Vec<u32> = known.iter().copied().chain([self.root]).collect();
        while let Some(pid) = queue.pop() {
            if let Some(stat) = stats.get(&pid).filter(|stat| !stat.has_ended())
                && known.insert(pid)
            {
                let eye = Eye::Closed { until: Instant::now(), tries: 0, unknown: None };
                self.members.push(Member { pid, parent: stat.parent, started: stat.started, eye });
            }
            queue.extend(children.get(&pid).into_iter().flatten().filter(|child| !known.contains(child)));
        }
        others.retain(|pid| there.binary_search(pid).is_ok());
        // One that has just begun may belong to one that began while the list was made.
        let newest = stats.values().map(|stat| stat.started).max().unwrap_or(0);
        let is_settled = |stat: &process::Stat| stat.started.saturating_add(SETTLED) < newest;
        others.extend(stats.iter().filter(|(pid, stat)| !known.contains(pid) && is_settled(stat)).map(|(pid, _)| *pid));
        self.others = others;
    }
}

impl Member {
    fn look(&mut self) -> Option<Process> {
        let began = Instant::now();
        if let Eye::Closed { until, tries, .. } = self.eye
            && began >= until
        {
            self.open(began, tries);
        }
        match &mut self.eye {
            Eye::Python { target, memo, since } => {
                if since.elapsed() > BELIEVED {
                    target.heap.forget();
                    *since = began;
                }
                match look_once(target, memo) {
                    Ok(mut process) => {
                        process.took = began.elapsed().as_secs_f64();
                        Some(process)
                    }
                    // It has ended, executes another program, or ends its interpreter.
                    Err(_) => {
                        self.eye = Eye::Closed { until: began, tries: 0, unknown: None };
                        look_from_outside(self.pid)
                    }
                }
            }
            Eye::Closed { unknown, .. } => {
                let note = |version| format!("{version} is not known: what runs it is watched from outside only");
                let notes = unknown.iter().map(note).collect();
                look_from_outside(self.pid).map(|process| Process { notes, ..process })
            }
        }
    }

    /// Tries to look into it. A process that has just been started, or forked, may become something else soon; one that is something else for long
    /// will stay so.
    fn open(&mut self, now: Instant, tries: u32) {
        self.eye = match Target::open(self.pid) {
            Ok(target) => Eye::Python { target: Box::new(target), memo: Box::default(), since: now },
            Err(Trouble::NotReady { .. } | Trouble::Ended { .. }) => Eye::Closed { until: now, tries, unknown: None },
            Err(trouble) => {
                let unknown = match trouble {
                    Trouble::UnknownVersion { version, .. } if tries > 0 => Some(version),
                    _ => None,
                };
                Eye::Closed { until: now + Duration::from_millis(20 << tries.min(6)), tries: tries + 1, unknown }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::model::State;

    const PROGRAM: &str = "
import subprocess, sys, threading
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
other = subprocess.Popen(['sleep', '60'])
lock = threading.Lock()
lock.acquire()
thread = threading.Thread(target=lock.acquire, daemon=True)
thread.start()
print('ready', flush=True)
input()
lock.release()
thread.join()
child.kill(); child.wait()
other.kill(); other.wait()
print('over', flush=True)
input()
";

    #[test]
    fn what_a_process_starts_is_seen_and_what_has_ended_is_not() {
        let piped = Stdio::piped;
        let child = Command::new("python3").args(["-c", PROGRAM]).stdin(piped()).stdout(piped()).spawn();
        let Ok(mut child) = child else { return };
        let mut output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut next = || output.next().expect("it says something").expect("it is text");
        assert_eq!(next(), "ready");
        let mut watch = Watch::new(child.id());
        let looks = |watch: &mut Watch, wanted: &dyn Fn(&Look) -> bool| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(20) {
                let look = watch.look();
                if wanted(&look) {
                    return look;
                }
                std::thread::yield_now();
            }
            panic!("not seen: {:?}", watch.look());
        };
        let both_wait = |look: &Look| {
            let python: Vec<_> = look.processes.iter().filter(|process| process.version.is_some()).collect();
            look.processes.len() == 3
                && python.len() == 2
                && python[0].threads.iter().any(|thread| thread.state == State::Blocked)
                && python[1].threads.iter().any(|thread| thread.state == State::Sleeping)
        };
        let first = looks(&mut watch, &both_wait);
        assert_eq!(watch.members().filter(|member| member.parent == child.id()).count(), 2);
        // Nobody has run, so all is as it was.
        let second = looks(&mut watch, &both_wait);
        let runs = |look: &Look| look.processes[0].threads.iter().map(|thread| thread.runs).collect::<Vec<_>>();
        assert_eq!(runs(&first), runs(&second));
        let mut input = child.stdin.take().expect("it is piped");
        std::io::Write::write_all(&mut input, b"\n").expect("it reads");
        assert_eq!(next(), "over");
        let last = looks(&mut watch, &|look| look.processes.len() == 1);
        assert_eq!(last.processes[0].threads.len(), 1, "the thread has ended");
        std::io::Write::write_all(&mut input, b"\n").expect("it reads");
        child.wait().expect("it is ours");
        looks(&mut watch, &|look| look.processes.is_empty());
    }

    #[test]
    fn what_is_started_later_is_seen_although_others_are_not_asked_again() {
        let piped = Stdio::piped;
        let child = Command::new("sh").args(["-c", "read go; sleep 60 & wait"]).stdin(piped()).stdout(piped()).spawn();
        let Ok(mut child) = child else { return };
        let mut watch = Watch::new(child.id());
        let begin = Instant::now();
        while begin.elapsed() < 3 * CENSUS {
            assert!(watch.look().processes.iter().all(|process| process.pid == child.id()));
        }
        assert!(!watch.others.contains(&child.id()));
        let mut input = child.stdin.take().expect("it is piped");
        std::io::Write::write_all(&mut input, b"\n").expect("it reads");
        let is_there = |watch: &mut Watch| watch.look().processes.iter().any(|process| process.pid != child.id());
        while begin.elapsed() < Duration::from_secs(20) && !is_there(&mut watch) {
            std::thread::yield_now();
        }
        let later = watch.members().find(|member| member.parent == child.id()).expect("it was started and is there");
        assert!(!watch.others.contains(&later.pid));
        for pid in [later.pid, child.id()] {
            Command::new("kill").args(["-9", &pid.to_string()]).status().expect("it is ours");
        }
        child.wait().expect("it is ours");
    }
}
