//! A session and its report as JSON, to be read by programs and by later versions.
//!
//! ```text
//! {"version": 2, "session": {…}, "report": {…}}
//! ```
//!
//! # Rules
//!
//! 1. `version` is [`Session::VERSION`]. It grows when a field is renamed or changes its meaning, or a row gets longer, and only then.
//! 2. A reader reads every version up to its own. What it does not know it skips; what is missing has its default.
//! 3. Whatever is given to the reader, it answers with a session or with one sentence that says what is wrong.

use std::error::Error;
use std::fmt;
use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize, Serializer};

use crate::report::Report;
use crate::session::Session;
use crate::write::PIECE;

#[derive(Serialize)]
struct Written<'a, 'r> {
    version: u32,
    session: &'a Session,
    report: Asked<'a, 'r>,
}

/// Asked for when the session has been written.
struct Asked<'a, 'r>(&'a dyn Fn() -> &'r Report);

impl Serialize for Asked<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0)().serialize(serializer)
    }
}

#[derive(Deserialize)]
struct Read {
    session: Session,
    #[serde(default)]
    report: Report,
}

/// The one field that is looked at before all others: a version from the future may have changed the rest.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

/// A session and its report, on one line.
#[must_use]
pub fn json(session: &Session, report: &Report) -> String {
    let written = Written { version: Session::VERSION, session, report: Asked(&|| report) };
    serde_json::to_string(&written).expect("plain data with text keys is always JSON")
}

/// Writes the same piece by piece. The report is asked for when the session has been written: it can be made meanwhile.
///
/// # Errors
///
/// What is written to fails.
pub fn write_json<'r>(session: &Session, report: &dyn Fn() -> &'r Report, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE, out);
    serde_json::to_writer(&mut out, &Written { version: Session::VERSION, session, report: Asked(report) })?;
    out.flush()
}

/// Reads what [`json`] has written, also that of earlier versions.
///
/// # Errors
///
/// It was written by a later version, is cut off, or is something else.
pub fn read_json(text: &str) -> Result<(Session, Report), ReadError> {
    let version = serde_json::from_str::<Head>(text).map_err(|error| ReadError::of(&error, text))?.version;
    if version > u64::from(Session::VERSION) {
        return Err(ReadError::FromTheFuture { version });
    }
    if version == 0 {
        return Err(ReadError::NotATrace { why: "there is no version 0".into() });
    }
    let read: Read = serde_json::from_str(text).map_err(|error| ReadError::of(&error, text))?;
    Ok((read.session, read.report))
}

/// Why a trace could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// A later version of Raddle has written it.
    FromTheFuture {
        /// The version of its format.
        version: u64,
    },
    /// It ends in the middle.
    Truncated {
        /// The line that it ends in.
        line: usize,
    },
    /// It is something else, or damaged.
    NotATrace {
        /// What is wrong, and where.
        why: String,
    },
}

impl ReadError {
    fn of(error: &serde_json::Error, text: &str) -> Self {
        let last = text.rsplit('\n').next().map_or(0, str::len);
        // A number that is cut off behind its point is no number, says the parser; it is one that is cut off all the same.
        let is_at_end = error.line() == text.split('\n').count() && error.column() >= last;
        if error.is_eof() || (error.is_syntax() && is_at_end && text.starts_with('{')) {
            Self::Truncated { line: error.line() }
        } else {
            Self::NotATrace { why: error.to_string() }
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromTheFuture { version } => {
                let ours = Session::VERSION;
                write!(
                    out,
                    "a trace from the future: its format has version {version}, and this Raddle reads up to {ours}; hint: upgrade Raddle"
                )
            }
            Self::Truncated { line } => {
                write!(out, "the trace is cut off in line {line}: it was not written to its end")
            }
            Self::NotATrace { why } => write!(out, "not a trace of Raddle: {why}"),
        }
    }
}

impl Error for ReadError {}
