//! Every interleaving of small programs: who leads, who follows, and that nobody is left asleep.
//!
//! ```console
//! $ RUSTFLAGS="--cfg loom" cargo test --release -p raddle-proc --test model
//! ```
//!
//! A thread that sleeps for ever is a deadlock, which the model checker reports: so a lost wake-up needs no assertion.

#![cfg(loom)]

mod lead;

/// Runs `program` in every interleaving with at most `preemptions` forced switches between threads.
fn check(preemptions: usize, program: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(program);
}
