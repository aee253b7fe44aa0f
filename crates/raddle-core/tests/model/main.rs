//! Every interleaving of small programs, one file per room.
//!
//! ```console
//! $ RUSTFLAGS="--cfg loom" cargo test --release -p raddle-core --test model
//! ```
//!
//! A thread that sleeps for ever is a deadlock, which the model checker reports: so a lost wake-up needs no assertion.
//!
//! A weakness of the checker to know when writing a model: it remembers only the last access to a word. When one thread
//! loads a word, and another first loads and then writes it, the second thread's own load hides the first one's, and
//! the order *write before load* is not tried. So where a plain load matters, the writer is the thread that runs first
//! (the one that starts the others), and the reader is started by it.

#![cfg(loom)]

mod channel;
mod choice;
mod life;
mod park;
mod sched;
mod sync;
mod sync_native;

use std::time::{Duration, Instant};

/// Runs `program` in every interleaving with at most `preemptions` forced switches between threads.
///
/// Nearly all faults show with two; three is the habit where it is cheap. A switch at a sleep is not forced.
fn check(preemptions: usize, program: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(program);
}

/// A deadline to leave a wait by: under the model checker a sleep with a deadline ends at once; the park must only believe that
/// there is time left.
fn later() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(3600))
}
