//! Who holds the locks for which it cannot be seen from outside: the recorder in the program is asked, if there is one.
//!
//! # Rules
//!
//! 1. It is asked about processes in which nobody is left who could wake anybody, once for each time that this is so. Elsewhere its answer would not do: who took a plain lock by a call
//!    holds it until *somebody* releases it, and that may be a thread that still runs.

use std::collections::HashMap;
use std::path::PathBuf;

use raddle_probe::Process as Seen;

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
}
