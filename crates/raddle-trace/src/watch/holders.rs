//! Who holds the locks for which it cannot be seen from outside: the recorder in the program is asked, if there is one.
//!
//! # Rules
//!
//! 1. It is asked about processes in which nobody is left who could wake anybody, once for each time that this is so. Elsewhere its answer would not do: who took a plain lock by a call
//!    holds it until *somebody* releases it, and that may be a thread that still runs.
//! 2. It is asked about circles before they are told: who is in a `with` block may have released the lock within it, and somebody else may have it.

use std::collections::HashMap;
use std::path::PathBuf;

use raddle_probe::{Process as Seen, Thread as SeenThread};

use crate::events::Holders;

/// What was asked.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Where recorders write.
    directory: Option<PathBuf>,
    /// What they have answered, by the numbers of the processes that stand.
    answers: HashMap<u32, Holders>,
}

impl Asking {
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, answers: HashMap::new() }
    }

    /// The process goes on, or has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        self.answers.remove(&pid);
    }

    /// A process that stands, with what can be learnt of who holds what.
    pub(super) fn learnt(&mut self, process: &Seen) -> Option<Seen> {
        let directory = self.directory.as_ref()?;
        process.waits_for_unknown().next()?;
        let holders = self.answers.entry(process.pid).or_insert_with(|| Holders::of(directory, process.pid));
        let mut process = process.clone();
        process.learn(|object| holders.get(object));
        Some(process)
    }
    /// Whether one of a circle waits for a lock that another thread has than the one behind it in the circle (rule 2).
    pub(super) fn denies(&self, pid: u32, circle: &[&SeenThread]) -> bool {
        let Some(directory) = self.directory.as_ref() else { return false };
        let holders = Holders::of(directory, pid);
        circle.iter().zip(circle.iter().cycle().skip(1)).any(|(waiter, holder)| {
            let wanted = waiter.wait.as_ref().filter(|wait| matches!(wait.kind, "lock" | "rlock"));
            let known = wanted.and_then(|wait| holders.get(wait.object?));
            // One that waits for what it has taken itself waits to be woken, as who waits for another thread's import.
            known.is_some_and(|(native_id, _)| native_id != holder.native_id && native_id != waiter.native_id)
        })
    }
}
