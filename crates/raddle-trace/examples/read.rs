//! Reads sessions as JSON and writes what follows from them: `cargo run -p raddle-trace --example read -- session.json`.

use std::io::Write;

use raddle_trace::{Session, Style, analyse, text};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let session: Session = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        write!(std::io::stdout(), "{}", text(&session, &analyse(&session), Style::default()))?;
    }
    Ok(())
}
