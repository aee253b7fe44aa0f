//! Prints what the recorders of a session's processes have written, as a session in JSON.
//!
//!     cargo run -p raddle-trace --example events -- DIRECTORY

use std::io::{self, Write};
use std::path::Path;

use raddle_trace::{Session, events};

fn main() -> io::Result<()> {
    let directory = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: events DIRECTORY"))?;
    let mut session = Session::default();
    events::merge(&mut session, Path::new(&directory), 0);
    writeln!(io::stdout(), "{}", serde_json::to_string(&session)?)
}
