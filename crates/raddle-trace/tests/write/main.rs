//! What is written of sessions: each format is read back by something that did not write it.

mod html;
mod json;
mod perfetto;
mod sarif;
#[expect(dead_code, reason = "the large one is for the example alone")]
#[path = "../../examples/write/story.rs"]
mod story;

use std::path::PathBuf;

use raddle_trace::{Report, Session, analyse};

/// The story of the crawler with its report, in a directory of its own that is gone at the end.
fn crawler() -> (Session, Report) {
    let directory = Temporary::new();
    let session = story::crawler(&directory.0).unwrap();
    let report = analyse(&session);
    assert!(!report.findings.is_empty());
    (session, report)
}

struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let name = format!("raddle-trace-{}-{:?}", std::process::id(), std::thread::current().id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
