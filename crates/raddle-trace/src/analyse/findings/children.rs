//! Processes that did not end as they should have.
//!
//! A child that `terminate()` or `kill()` or Ctrl-C has ended is what somebody wanted, and many programs say something ordinary by an exit code. So only
//! what nobody wants is told: a crash, a SIGKILL that no other process of the program has sent, and a Python worker that failed while the program as a
//! whole claims success.

use crate::report::{Certainty, Finding, Level};
use crate::session::{Ending, Process, UnitId};
use crate::words::{program, signal};

use super::{Evidence, Fill, finding};

/// Signals by which the kernel or the C library ends a program that is broken.
const CRASHES: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

const KILL: i32 = 9;

/// What a worker says whose function has raised something. Other exit codes are said on purpose.
const FAILED: i32 = 1;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let processes = &evidence.timeline.session.processes;
    processes.iter().enumerate().filter_map(|(index, process)| tell(evidence, index, process)).collect()
}

fn tell(evidence: &Evidence<'_, '_>, index: usize, process: &Process) -> Option<Finding> {
    if process.is_wanted {
        return None;
    }
    let name = program(&process.command);
    let told = match process.ending? {
        Ending::Signal(number) if CRASHES.contains(&number) => {
            let who = if index == 0 { "the program".to_owned() } else { format!("process {} ({name})", process.pid) };
            let id = if index == 0 { "crashed" } else { "child-died" };
            let told = finding(id, Level::Error, format!("{who} crashed: {}", signal(number)));
            told.help("it was native code: run it with `python -X faulthandler` to see in which call")
        }
        // One that hangs is ended by whoever watches it.
        Ending::Signal(KILL) if !evidence.timeline.session.is_aborted && evidence.timeline.session.stuck.is_empty() => {
            let who = if index == 0 { "the program".to_owned() } else { format!("process {} ({name})", process.pid) };
            let id = if index == 0 { "crashed" } else { "child-died" };
            let told = finding(id, Level::Warning, format!("{who} was killed (SIGKILL)"));
            told.note("the system does that when memory runs out; so does kill()")
                .help("look at its memory, and at the kernel's log for \"Out of memory\"")
                .sure(Certainty::Possible)
        }
        Ending::Exit(code)
            if index > 0 && code == FAILED && is_worker(evidence, process) && claims_success(evidence) =>
        {
            let told = finding(
                "child-died",
                Level::Warning,
                format!(
                    "process {} ({name}) ended with exit code {code}, and the program with 0 all the same",
                    process.pid
                ),
            );
            told.help("look at `exitcode` after join(), or use a pool: the future of its call raises what went wrong")
        }
        _ => return None,
    };
    let told = told.about([UnitId { process: index, thread: None }]);
    Some(process.ended.map_or(told.clone(), |ended| told.at(ended)))
}

/// Whether it is a worker of `multiprocessing`: a fork of its parent, or started by `spawn`.
fn is_worker(evidence: &Evidence<'_, '_>, process: &Process) -> bool {
    let parent = process.parent.and_then(|parent| evidence.timeline.session.processes.get(parent));
    let is_fork = parent.is_some_and(|parent| parent.command == process.command);
    process.python.is_some() && (is_fork || process.command.iter().any(|word| word.contains("multiprocessing")))
}

fn claims_success(evidence: &Evidence<'_, '_>) -> bool {
    let session = evidence.timeline.session;
    let ending = session.processes.first().and_then(|process| process.ending).or(session.ending);
    ending == Some(Ending::Exit(0))
}
