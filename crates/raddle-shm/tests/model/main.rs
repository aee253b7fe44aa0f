//! The protocols of this crate under the model checker, one file each.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p raddle-shm --test model
//! ```
//!
//! loom runs each model once for every order in which its threads can take their steps, and for every value that a load may
//! see. A thread that sleeps for ever is a deadlock, which loom reports.
#![cfg(all(loom, target_os = "linux"))]

mod alarm;
mod bell;
mod channel;
mod ear;
mod gong;
mod ring;
mod stint;

/// Runs a model with at most so many preemptions: switches away from a thread that could go on. Few suffice to find almost
/// every error. For the models that call this, all of them would take too long; the others run without a limit.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
