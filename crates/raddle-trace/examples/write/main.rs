//! Writes what a run of a program looks like, in every format, into a directory.
//!
//! ```console
//! $ cargo run -p raddle-trace --example write -- DIRECTORY [crawler | clean | hostile | large | SESSION.json]
//! ```
//!
//! `crawler` is a program of several processes whose threads take turns at the GIL, share a lock, and at last wait for each other; `clean` has nothing to
//! complain about; in `hostile` every name is an attempt to become a part of the page; `large` has 200 threads and a million spans.
//! A session of one's own is read from a file.

mod story;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use raddle_trace::{Style, analyse, html, json, perfetto, sarif, text};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let directory = PathBuf::from(words.next().ok_or("usage: write DIRECTORY [STORY | SESSION.json]")?);
    let session = match words.next().as_deref() {
        None | Some("crawler") => story::crawler(&directory.join("source"))?,
        Some("clean") => story::clean(),
        Some("hostile") => story::hostile(),
        Some("large") => story::large(),
        Some(path) if path.ends_with(".json") => serde_json::from_str(&fs::read_to_string(path)?)?,
        Some(other) => return Err(format!("there is no story {other:?}").into()),
    };
    fs::create_dir_all(&directory)?;
    let report = analyse(&session);
    fs::write(directory.join("report.json"), json(&session, &report))?;
    fs::write(directory.join("report.html"), html(&session, &report))?;
    fs::write(directory.join("trace.perfetto"), perfetto(&session, &report))?;
    fs::write(directory.join("report.sarif"), sarif(&session, &report))?;
    fs::write(directory.join("report.txt"), text(&session, &report, Style::default()))?;
    Ok(())
}
