//! `raddle._raddle.top`: a process, live in this terminal. `raddle._top` says what to do about signals.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use raddle_top::{Ending, Failure, Settings};

use crate::gate;

/// Shows a process in the terminal of standard input and output.
///
/// Returns how it ended: "quit", "interrupted", "ended" or "hung-up"; or the kind of a trouble, and what to say. `told` is the readable end of the pipe into
/// which Python writes when a signal has come; an exception of its handler ends the display.
#[pyfunction]
#[pyo3(signature = (pid, *, interval, cores, colour, until_end, told))]
pub(crate) fn top(
    py: Python<'_>,
    pid: u32,
    interval: f64,
    cores: u32,
    colour: bool,
    until_end: bool,
    told: i32,
) -> PyResult<(&'static str, String)> {
    let interval = Duration::try_from_secs_f64(interval).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let settings = Settings { interval, cores, has_colour: colour, until_end };
    // By its name: a descriptor of which only the number is known may be closed by somebody else.
    let told = File::open(format!("/proc/self/fd/{told}"))?;
    let (input, output) = (io::stdin(), io::stdout());
    let heed = || gate::attached(|py| Ok(py.check_signals())).unwrap_or(Ok(()));
    let files = [input.as_fd(), output.as_fd(), told.as_fd()];
    match gate::detached(py, || raddle_top::top(pid, settings, files, heed))? {
        Ok(ending) => Ok((word(ending), String::new())),
        Err(Failure::Trouble(trouble)) => Ok((trouble.kind(), format!("{trouble}\nhint: {}", trouble.hint()))),
        Err(Failure::Terminal(error)) => Err(PyOSError::new_err(error.to_string())),
        Err(Failure::Told(error)) => Err(error),
        Err(_) => Ok(("unreadable", "it could not be shown".into())),
    }
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Interrupted => "interrupted",
        Ending::Ended => "ended",
        Ending::HungUp => "hung-up",
        _ => "quit",
    }
}
