//! The pages about the findings: docs/findings has one for each id.

macro_rules! pages {
    ($($id:literal),* $(,)?) => {
        &[$(($id, include_str!(concat!("../../../../../docs/findings/", $id, ".md")))),*]
    };
}

/// The ids of all findings, each with its page.
pub(crate) const IDS: &[(&str, &str)] = pages![
    "child-died",
    "crashed",
    "daemon-killed",
    "deadlock",
    "event-loop-blocked",
    "fork-with-lock",
    "gil-bound",
    "hot-lock",
    "lock-leaked",
    "lock-order",
    "lost-lock",
    "lost-wakeup",
    "never-joined",
    "nobody-can-wake",
    "one-after-another",
    "orphaned-thread",
    "oversubscribed",
    "pool-exhausted",
    "process-deadlock",
    "self-deadlock",
    "starvation",
    "task-deadlock",
    "unhandled-exception",
];

/// The page about a finding, by its id; `None` if there is no such finding.
#[must_use]
pub fn explain(id: &str) -> Option<&'static str> {
    IDS.iter().find(|(known, _)| *known == id).map(|(_, page)| *page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_an_id_and_begins_with_it() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/findings");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.md")
            .collect();
        files.sort();
        let ids: Vec<String> = IDS.iter().map(|(id, _)| format!("{id}.md")).collect();
        assert_eq!(files, ids, "in the order of the alphabet");
        for (id, page) in IDS {
            assert!(page.starts_with(&format!("# {id}: ")), "{id}");
        }
    }
}
