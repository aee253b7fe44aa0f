//! Whether others had the processors that the program wanted: then everything took longer than it would have by itself.

use crate::session::{Nanos, Session, State};

use super::shares::shares;

/// The program waited for processors for this share of the time in which it could run, and of the time of its threads.
const OF_RUNNABLE: f64 = 0.25;
const OF_TIME: f64 = 0.10;

/// If all of it together used more than this share of the processors, it kept itself waiting.
const OWN: f64 = 0.60;

/// How much the program was kept waiting by others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crowding {
    /// The share of the time in which a thread could run that it had no processor.
    pub(crate) share: f64,
    /// For how long, all threads together, in nanoseconds.
    pub(crate) waited: f64,
}

/// How much the program was kept waiting by others; `None` if it had what it wanted, or kept itself waiting.
pub(crate) fn crowding(session: &Session) -> Option<Crowding> {
    let (mut waited, mut ran, mut time) = (0.0, 0.0, 0.0);
    for thread in session.processes.iter().flat_map(|process| &process.threads) {
        let own = shares(thread, Nanos::MAX);
        waited += thread.queued.max(own.nanos(State::Runnable)) as f64;
        let seen = own.nanos(State::Running).saturating_add(own.nanos(State::Native));
        ran += if thread.cpu > 0 { thread.cpu } else { seen } as f64;
        time += own.seen() as f64;
    }
    let could = f64::from(session.cores) * session.length as f64;
    let share = waited / (waited + ran).max(1.0);
    let is_crowded = share >= OF_RUNNABLE && waited >= OF_TIME * time && waited > 0.0 && ran < OWN * could;
    is_crowded.then_some(Crowding { share, waited })
}
