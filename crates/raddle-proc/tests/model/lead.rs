//! Leader and followers, over the bell and the alarms of a lane.
//!
//! The lane here has one seat per call, and a worker that answers it: it publishes, and then looks at the alarm. The leader
//! sets its alarms as a real one does: for its own call if it waits alone, else for every call.

use crate::check;
use raddle_core::park::{self, Parker, Unparker};
use raddle_core::prim::atomic::AtomicU64;
use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, Release};
use raddle_core::prim::cell::UnsafeCell;
use raddle_core::prim::{Arc, Mutex, thread};
use raddle_proc::lane::{Lead, Waited};
use raddle_shm::{Alarm, Bell};
use std::time::{Duration, Instant};

/// Under the model checker a sleep with a deadline ends at once; the park must only believe that there is time left.
fn later() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(3600))
}

#[derive(Default)]
struct Call {
    /// How many answers the worker has published: none or one.
    answers: AtomicU64,
    alarm: Alarm,
    /// Whether the answer was taken in, and who waits for that.
    end: Mutex<(bool, Vec<Unparker>)>,
}

struct Lane {
    lead: Lead,
    bell: Bell,
    calls: Vec<Call>,
    /// What belongs to the leader: two at once would be a race, which the model checker reports.
    chair: UnsafeCell<()>,
}

// SAFETY: the chair is touched by the leader only: the models check exactly this.
unsafe impl Sync for Lane {}
// SAFETY: as above.
unsafe impl Send for Lane {}

impl Lane {
    fn with(calls: usize) -> Arc<Self> {
        let calls = (0..calls).map(|_| Call::default()).collect();
        Arc::new(Self { lead: Lead::default(), bell: Bell::new(), calls, chair: UnsafeCell::new(()) })
    }

    /// The worker's part.
    fn answer(&self, call: usize) {
        let call = &self.calls[call];
        call.answers.store(1, Release);
        if call.alarm.due(1) {
            self.bell.ring();
        }
    }

    fn is_over(&self, call: usize) -> bool {
        self.calls[call].end.lock().0
    }

    /// Takes in what has arrived.
    fn drain(&self) {
        for call in &self.calls {
            if call.answers.load(Acquire) == 1 {
                let mut end = call.end.lock();
                end.0 = true;
                end.1.drain(..).for_each(|sleeper| sleeper.unpark());
            }
        }
    }

    fn wait(&self, call: usize, deadline: Option<Instant>) -> Waited {
        {
            let mut end = self.calls[call].end.lock();
            if end.0 {
                return Waited::Done;
            }
            end.1.push(park::with_current(Parker::unparker));
        }
        let is_done = || self.is_over(call);
        let mut lead = || self.lead_until(call, deadline);
        self.lead.wait(&is_done, deadline, &|| _ = self.bell.ring(), &mut lead)
    }

    fn lead_until(&self, call: usize, deadline: Option<Instant>) -> Waited {
        loop {
            // SAFETY: only the leader is here.
            self.chair.with_mut(|chair| unsafe { *chair = () });
            self.drain();
            if self.is_over(call) {
                return Waited::Done;
            }
            if deadline.is_some() {
                return Waited::TimedOut;
            }
            let ticket = self.bell.prepare();
            let alone = !self.lead.has_followers();
            for (number, other) in self.calls.iter().enumerate() {
                if alone && number != call { other.alarm.clear() } else { other.alarm.set(1) }
            }
            let missed = |other: &Call| other.answers.load(Acquire) == 1 && !other.end.lock().0;
            if self.calls.iter().any(missed) {
                self.bell.cancel(ticket);
            } else {
                self.bell.sleep(ticket, None);
            }
        }
    }
}

fn spawn(lane: &Arc<Lane>, work: impl FnOnce(&Lane) + Send + 'static) -> thread::JoinHandle<()> {
    let lane = Arc::clone(lane);
    thread::spawn(move || work(&lane))
}

#[test]
fn a_thread_that_waits_alone_is_woken_by_its_own_answer() {
    check(4, || {
        let lane = Lane::with(1);
        let worker = spawn(&lane, |lane| lane.answer(0));
        assert_eq!(lane.wait(0, None), Waited::Done);
        worker.join().unwrap();
    });
}

#[test]
fn two_threads_wait_for_two_calls_that_end_in_this_order() {
    check(2, || {
        let lane = Lane::with(2);
        let other = spawn(&lane, |lane| assert_eq!(lane.wait(1, None), Waited::Done));
        let worker = spawn(&lane, |lane| {
            lane.answer(0);
            lane.answer(1);
        });
        assert_eq!(lane.wait(0, None), Waited::Done);
        other.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn two_threads_wait_for_one_call() {
    check(3, || {
        let lane = Lane::with(1);
        let other = spawn(&lane, |lane| assert_eq!(lane.wait(0, None), Waited::Done));
        let worker = spawn(&lane, |lane| lane.answer(0));
        assert_eq!(lane.wait(0, None), Waited::Done);
        other.join().unwrap();
        worker.join().unwrap();
    });
}

/// Someone who does not wait takes answers in, as a thread that submits does: the follower leaves with its own result, and
/// the leader may resign in the same moment.
#[test]
fn a_result_taken_in_by_a_third_thread_wakes_whoever_waits_for_it() {
    check(2, || {
        let lane = Lane::with(2);
        lane.calls[1].answers.store(1, Relaxed);
        let other = spawn(&lane, |lane| assert_eq!(lane.wait(1, None), Waited::Done));
        let third = spawn(&lane, |lane| {
            lane.drain();
            lane.answer(0);
        });
        assert_eq!(lane.wait(0, None), Waited::Done);
        other.join().unwrap();
        third.join().unwrap();
    });
}

#[test]
fn a_follower_that_gives_up_passes_the_lead_on() {
    check(2, || {
        let lane = Lane::with(2);
        let hasty = spawn(&lane, |lane| _ = lane.wait(1, later()));
        let patient = spawn(&lane, |lane| assert_eq!(lane.wait(1, None), Waited::Done));
        lane.answer(0);
        assert_eq!(lane.wait(0, None), Waited::Done);
        lane.answer(1);
        hasty.join().unwrap();
        patient.join().unwrap();
    });
}

#[test]
fn a_leader_that_gives_up_leaves_the_lead_to_a_follower() {
    check(3, || {
        let lane = Lane::with(2);
        let patient = spawn(&lane, |lane| assert_eq!(lane.wait(1, None), Waited::Done));
        assert_eq!(lane.wait(0, later()), Waited::TimedOut);
        lane.answer(1);
        patient.join().unwrap();
    });
}

#[test]
fn a_signal_takes_a_follower_away_and_the_lead_is_passed_on() {
    check(2, || {
        let lane = Lane::with(2);
        let patient = spawn(&lane, |lane| assert_eq!(lane.wait(1, None), Waited::Done));
        let me = park::with_current(Parker::unparker);
        let sender = spawn(&lane, move |lane| {
            me.signal();
            lane.answer(0);
            lane.answer(1);
        });
        // Led or followed: it comes back with its result, or because of the signal.
        assert!(matches!(lane.wait(0, None), Waited::Done | Waited::Interrupted));
        patient.join().unwrap();
        sender.join().unwrap();
    });
}
