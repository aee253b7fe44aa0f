//! What one worker has done, counted where its answers are taken in.

use std::time::{Duration, Instant};

use super::kind;
use super::ticket::Reply;

/// Numbers of one worker, dead ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Its process number.
    pub pid: u32,
    /// How far it has come.
    pub state: WorkerState,
    /// Calls that have returned or failed here.
    pub calls: u64,
    /// Those of them that raised, or were lost with the worker.
    pub failed: u64,
    /// Nanoseconds inside calls, the one that runs included.
    pub busy: u64,
    /// How long the worker has existed, or did.
    pub age: Duration,
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It is being set up.
    Starting,
    /// It waits for a call.
    Idle,
    /// It runs a call.
    Busy,
    /// It has been told to end, or has said that it will.
    Leaving,
    /// It has ended because it was to.
    Ended,
    /// It has died.
    Died,
}

/// The count of a worker that exists.
#[derive(Debug)]
pub(crate) struct Tally {
    since: Instant,
    calls: u64,
    failed: u64,
    /// Nanoseconds inside calls that were answered.
    pub(crate) busy: u64,
    /// The most that was ever said of `busy`: it does not go back while an answer is on its way.
    shown: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), calls: 0, failed: 0, busy: 0, shown: 0 }
    }

    /// The worker has answered a call, or a batch of so many items.
    pub(crate) fn answered(&mut self, items: u64, reply: &Reply) {
        let Reply::Answer { kind, nanos, done, failed, .. } = reply else { return };
        let (calls, failed) = match *kind {
            kind::VALUE => {
                let done = u64::from(*done).clamp(1, items.max(1));
                (done, u64::from(*failed).min(done))
            }
            _ => (items, items),
        };
        self.calls += calls;
        self.failed += failed;
        self.busy = self.busy.saturating_add(*nanos);
    }

    /// As it is now, with a call that has been running for so long.
    pub(crate) fn read(&mut self, pid: u32, state: WorkerState, running: u64) -> WorkerCounts {
        let age = self.since.elapsed();
        // What the worker says of its time is believed as far as it can be true.
        let most = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.shown = self.busy.saturating_add(running).min(most).max(self.shown);
        WorkerCounts { pid, state, calls: self.calls, failed: self.failed, busy: self.shown, age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Payload;

    fn answer(kind: u8, failed: u32, nanos: u64, done: u32) -> Reply {
        Reply::Answer { kind, flags: 0, nanos, done, failed, payload: Payload::from(&[][..]) }
    }

    fn read(tally: &mut Tally, running: u64) -> WorkerCounts {
        tally.read(7, WorkerState::Idle, running)
    }

    #[test]
    fn calls_and_batches_count_what_was_done() {
        let mut tally = Tally::new();
        tally.answered(1, &answer(kind::VALUE, 0, 0, 1));
        tally.answered(1, &answer(kind::ERROR, 0, 0, 1));
        tally.answered(10, &answer(kind::VALUE, 0, 0, 4)); // stopped: the others run elsewhere
        tally.answered(10, &answer(kind::VALUE, 1, 0, 6));
        tally.answered(10, &answer(kind::VALUE, 3, 0, 10)); // it went on
        tally.answered(10, &answer(kind::UNREADABLE, 0, 0, 1));
        let found = read(&mut tally, 0);
        assert_eq!((found.calls, found.failed), (1 + 1 + 4 + 6 + 10 + 10, 1 + 1 + 3 + 10));
    }

    #[test]
    fn a_worker_that_lies_about_its_batch_has_done_no_more_than_it_was_sent() {
        let mut tally = Tally::new();
        tally.answered(10, &answer(kind::VALUE, 0, 0, u32::MAX));
        tally.answered(1, &answer(kind::VALUE, 0, 0, 0));
        tally.answered(10, &answer(kind::VALUE, u32::MAX, 0, 5));
        let found = read(&mut tally, 0);
        assert_eq!((found.calls, found.failed), (16, 5));
    }

    #[test]
    fn time_is_believed_as_far_as_it_can_be_true() {
        let mut tally = Tally::new();
        tally.answered(1, &answer(kind::VALUE, 0, u64::MAX, 1));
        tally.answered(1, &answer(kind::VALUE, 0, u64::MAX, 1));
        let found = read(&mut tally, u64::MAX);
        assert!(u128::from(found.busy) <= found.age.as_nanos());
    }

    #[test]
    fn time_does_not_go_back_while_an_answer_is_on_its_way() {
        let mut tally = Tally { since: Instant::now() - Duration::from_secs(1), ..Tally::new() };
        assert_eq!(read(&mut tally, 40).busy, 40);
        assert_eq!(read(&mut tally, 0).busy, 40);
        tally.answered(1, &answer(kind::VALUE, 0, 45, 1));
        assert_eq!(read(&mut tally, 0).busy, 45);
    }
}
