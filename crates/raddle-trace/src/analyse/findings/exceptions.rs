//! Exceptions that ended a thread and that nobody handled. The exit code does not tell of them: it can be 0 after ten of them.

use std::collections::{BTreeMap, HashSet};

use crate::report::{Finding, Level};
use crate::session::{Label, UnitId};
use crate::words::{clean, names, plural, unit};

use super::{Evidence, Fill, finding, told_units};

/// More labels are not told: where thousands of threads end alike, some of them say it.
const MOST: usize = 8;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let session = evidence.timeline.session;
    let mut groups: BTreeMap<String, Finding> = BTreeMap::new();
    let mut in_group: HashSet<(String, UnitId)> = HashSet::new();
    let mut add = |id: UnitId, exception: &str, at: Option<u64>, labels: &[Label]| {
        let blank = || finding("unhandled-exception", Level::Error, "");
        let group = groups.entry(exception.to_owned()).or_insert_with(blank);
        if in_group.insert((exception.to_owned(), id)) {
            group.units.push(id);
        }
        group.at = group.at.or(at);
        for label in labels {
            if group.labels.len() < MOST && !group.labels.contains(label) {
                group.labels.push(label.clone());
            }
        }
    };
    let told = told_units(session, "unhandled-exception");
    for fact in session.facts.iter().filter(|fact| fact.kind == "unhandled-exception") {
        for id in fact.units.iter().filter(|id| !speaks_for_itself(id)) {
            add(*id, &fact.detail, Some(fact.at), &fact.labels);
        }
    }
    for (at, process) in session.processes.iter().enumerate() {
        for (index, thread) in process.threads.iter().enumerate() {
            let id = UnitId { process: at, thread: Some(index) };
            let is_new = !told.contains(&id);
            if let Some(exception) = thread.exception.as_deref().filter(|_| is_new && !speaks_for_itself(&id)) {
                add(id, exception, thread.ended, &[]);
            }
        }
    }
    groups.into_iter().map(|(exception, group)| title(evidence, &exception, group)).collect()
}

/// What ends the main thread of the program ends the program, and its exit code says so.
fn speaks_for_itself(id: &UnitId) -> bool {
    (id.process, id.thread) == (0, Some(0))
}

fn title(evidence: &Evidence<'_, '_>, exception: &str, mut group: Finding) -> Finding {
    let session = evidence.timeline.session;
    let exception = clean(exception);
    let whose: Vec<String> = group.units.iter().map(|id| unit(session, *id)).collect();
    group.title = match whose.as_slice() {
        [one] => format!("\"{one}\" was ended by {exception}"),
        _ => format!("{} were ended by {exception}", plural(whose.len(), "thread")),
    };
    if whose.len() > 1 {
        group.notes.push(names(whose.iter().map(String::as_str), 4));
    }
    let first = session.processes.first().and_then(|process| process.ending);
    if matches!(first, Some(crate::session::Ending::Exit(0))) {
        group.notes.push("the exit code of the program is 0 all the same".into());
    }
    group.help("catch it in the thread, or start the thread with something whose result is asked for: a pool's future raises it where result() is called")
}
