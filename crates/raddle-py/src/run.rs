//! `raddle._raddle.Watcher`: a program that is watched from outside. `raddle._run` starts it, asks for looks, and shows what follows.

use std::fs::File;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::Builder;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use raddle_trace::{
    Ending, Report, Session, Stuck, Style, Watcher, analyse, events, explain, sarif, text, write_html, write_json,
    write_perfetto,
};

use crate::gate;

/// Watches a process and all that it starts.
///
/// Belongs to the thread that made it.
#[pyclass(name = "Watcher", module = "raddle._raddle", unsendable)]
pub(crate) struct PyWatcher {
    watcher: Option<Watcher>,
    recorded: Option<PathBuf>,
    /// When the watch began, in nanoseconds of the clock that recorders use.
    origin: u64,
    /// What was seen, and what follows from it, once the watch is over and somebody has asked.
    outcome: Option<(Session, OnceLock<Report>)>,
}

#[pymethods]
impl PyWatcher {
    /// `recorded`: the directory to which recorders write.
    #[new]
    fn new(
        pid: u32,
        command: Vec<String>,
        directory: String,
        cores: u32,
        started: f64,
        recorded: Option<PathBuf>,
    ) -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let origin = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        let watcher = Watcher::new(pid, command, directory, cores, started, recorded.clone());
        Self { watcher: Some(watcher), recorded, origin, outcome: None }
    }

    /// Looks once. Returns in a line each who was found stuck just now: its kind, and who.
    fn look(&mut self) -> PyResult<Vec<(String, String)>> {
        let watcher = self.watcher.as_mut().ok_or_else(over)?;
        Ok(watcher.look().iter().map(|stuck| (stuck.kind.clone(), in_a_line(stuck))).collect())
    }

    /// Whether nothing has run for some time.
    fn is_quiet(&self) -> PyResult<bool> {
        self.watcher.as_ref().map(Watcher::is_quiet).ok_or_else(over)
    }

    /// Somebody has interrupted the program, or sent it a signal.
    fn interrupt(&mut self) -> PyResult<()> {
        self.watcher.as_mut().map(Watcher::interrupt).ok_or_else(over)
    }

    /// The numbers of the processes that are there, which are about to be ended.
    fn abort(&mut self) -> PyResult<Vec<u32>> {
        let watcher = self.watcher.as_mut().ok_or_else(over)?;
        watcher.abort();
        Ok(watcher.pids().collect())
    }

    /// Ends the watch: the process has ended, with an exit code or by a signal, or neither is known.
    #[pyo3(signature = (*, code=None, signal=None))]
    fn end(&mut self, code: Option<i32>, signal: Option<i32>) -> PyResult<()> {
        let ending = match (code, signal) {
            (Some(code), _) => Ending::Exit(code),
            (None, Some(signal)) => Ending::Signal(signal),
            (None, None) => Ending::Unknown,
        };
        let mut session = self.watcher.take().ok_or_else(over)?.end(ending);
        if let Some(directory) = &self.recorded {
            events::merge(&mut session, directory, self.origin);
        }
        self.outcome = Some((session, OnceLock::new()));
        Ok(())
    }

    /// The report as text for a terminal of this width, and the ids of its findings.
    fn text(&self, colour: bool, in_ascii: bool, width: usize) -> PyResult<(String, Vec<String>)> {
        let (session, report) = self.outcome()?;
        let report = report();
        let ids = report.findings.iter().map(|finding| finding.id.clone()).collect();
        Ok((text(session, report, Style { colour, ascii: in_ascii, width, ..Style::default() }), ids))
    }

    /// What was seen, and what follows from it, written down as `json`, `html`, `perfetto`, `sarif`.
    fn written<'py>(&self, py: Python<'py>, form: &str) -> PyResult<Bound<'py, PyBytes>> {
        let (session, report) = self.outcome()?;
        let mut bytes = Vec::new();
        (writer(form)?)(session, &report, &mut bytes)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes the same into files, each a form and a path, side by side. Returns in a line each what could not be written.
    fn write(&self, py: Python<'_>, files: Vec<(String, PathBuf)>) -> PyResult<Vec<String>> {
        let (session, report) = self.outcome()?;
        let files = files
            .into_iter()
            .map(|(form, path)| Ok((writer(&form)?, path)))
            .collect::<PyResult<Vec<(Writer, PathBuf)>>>()?;
        // The program's user waits for this: a long trace takes as long as all the rest of the report, which is made meanwhile.
        let write_one = |(writer, path): &(Writer, PathBuf)| {
            let failure = File::create(path).and_then(|mut file| writer(session, &report, &mut file)).err()?;
            Some(format!("{} cannot be written: {}", path.display(), in_words(&failure)))
        };
        gate::detached(py, || {
            std::thread::scope(|scope| {
                let write_one = &write_one;
                let begun = files.iter().map(|file| {
                    // Where no more threads may be started it is done by this one.
                    Builder::new().spawn_scoped(scope, move || write_one(file)).map_err(|_| write_one(file))
                });
                let begun: Vec<_> = begun.collect();
                report();
                let ended = begun.into_iter().map(|one| match one {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    Err(failure) => failure,
                });
                ended.flatten().collect()
            })
        })
    }
}

impl PyWatcher {
    /// What was seen, and how to ask what follows from it: whoever asks first finds it out, and others wait.
    fn outcome<'a>(&'a self) -> PyResult<(&'a Session, impl Fn() -> &'a Report + Sync)> {
        let (session, report) = self.outcome.as_ref().ok_or_else(goes_on)?;
        Ok((session, || report.get_or_init(|| analyse(session))))
    }
}

type Writer = for<'r> fn(&Session, &dyn Fn() -> &'r Report, &mut dyn Write) -> io::Result<()>;

fn writer(form: &str) -> PyResult<Writer> {
    Ok(match form {
        "json" => write_json,
        "perfetto" => write_perfetto,
        "html" => write_html,
        "sarif" => |session, report, out| out.write_all(sarif(session, report()).as_bytes()),
        _ => return Err(PyValueError::new_err(format!("nothing is written as {form:?}"))),
    })
}

/// What the system says, without the number.
fn in_words(error: &io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The page about a finding; None if there is no such finding.
#[pyfunction]
pub(crate) fn explain_finding(finding: &str) -> Option<&'static str> {
    explain(finding)
}

fn goes_on() -> PyErr {
    PyRuntimeError::new_err("the watch goes on")
}

fn over() -> PyErr {
    PyRuntimeError::new_err("the watch is over")
}

fn in_a_line(stuck: &Stuck) -> String {
    let units = stuck.units.iter().map(|unit| format!("\"{}\" waits for {}", unit.name, unit.waits_for));
    units.collect::<Vec<_>>().join(", ")
}
