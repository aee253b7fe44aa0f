//! What looking again and again costs: `cargo run --release -p raddle-probe --example watch PID`.

use std::time::Instant;

use raddle_probe::Watch;

fn main() {
    let pid = std::env::args().nth(1).and_then(|word| word.parse().ok()).expect("the number of a process");
    let mut watch = Watch::new(pid);
    for _ in 0..20 {
        let began = Instant::now();
        let look = watch.look();
        let threads: usize = look.processes.iter().map(|process| process.threads.len()).sum();
        eprintln!("{} processes, {threads} threads: {:?}", look.processes.len(), began.elapsed());
    }
}
