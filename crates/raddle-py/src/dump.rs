//! `raddle._raddle.dump`: one look into another process, written down. `raddle._cli` prints it.

use pyo3::prelude::*;
use raddle_probe::{Process, Style, Trouble, json, look, look_at_tree, text, trouble_json};

use crate::gate;

/// Looks into a process, which goes on meanwhile.
///
/// Returns how it went ("seen", "deadlock", or the kind of the trouble) and the text or the JSON document.
#[pyfunction]
#[pyo3(signature = (pid, *, tree, as_json, colour))]
pub(crate) fn dump(
    py: Python<'_>,
    pid: u32,
    tree: bool,
    as_json: bool,
    colour: bool,
) -> PyResult<(&'static str, String)> {
    // Detached: files are read, and it may be this very process that is looked into.
    gate::detached(py, || match if tree { look_at_tree(pid) } else { look(pid) } {
        Ok(seen) => {
            let is_stuck = !seen.stuck.is_empty() || seen.processes.iter().any(has_deadlock);
            let said = if as_json { json(&seen) } else { text(&seen, Style { colour }) };
            (if is_stuck { "deadlock" } else { "seen" }, said)
        }
        Err(trouble) => (trouble.kind(), sentence(&trouble, as_json)),
    })
}

fn has_deadlock(process: &Process) -> bool {
    !process.task_deadlocks.is_empty() || process.deadlocks.iter().any(|found| found.is_certain && !found.is_timed)
}

fn sentence(trouble: &Trouble, as_json: bool) -> String {
    if as_json { trouble_json(trouble) } else { format!("{trouble}\nhint: {}", trouble.hint()) }
}
