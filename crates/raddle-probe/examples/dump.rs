//! `cargo run --release -p raddle-probe --example dump PID`: the threads of a Python process.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use raddle_probe::{Style, look, text};

fn main() {
    let Some(pid) = std::env::args().nth(1).and_then(|word| word.parse().ok()) else {
        println!("usage: dump PID");
        return;
    };
    match look(pid) {
        Ok(seen) => print!("{}", text(&seen, Style::default())),
        Err(trouble) => println!("{trouble}\nhint: {}", trouble.hint()),
    }
}
