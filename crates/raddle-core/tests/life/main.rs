//! The life of a unit, through its public names.

#![cfg(not(loom))]

use raddle_core::life::{AtomicState, Event, Listener, Next, Outcome, Phase, Refused, State, UnitId};
use raddle_core::prim::{Arc, Mutex, thread};

/// A unit that has taken these steps; the last answer is what counts.
fn after(events: &[Event]) -> (AtomicState, Result<(State, Next), Refused>) {
    let life = AtomicState::new();
    let mut answer = Ok((State::NEW, Next::NOTHING));
    for &event in events {
        answer = life.step(event);
    }
    (life, answer)
}

#[test]
fn a_call_nobody_waits_for_ends_without_any_debt_but_its_outcome() {
    let (life, answer) = after(&[Event::Start, Event::Finish(Outcome::Returned)]);
    let (state, next) = answer.unwrap();
    assert_eq!(next, Next { deliver: Some(Outcome::Returned), ..Next::NOTHING });
    assert!(state.is_done() && life.load().is_done());
    assert_eq!(state.outcome(), Some(Outcome::Returned));
}

#[test]
fn a_watched_call_is_not_done_until_everyone_has_been_told() {
    let (life, answer) = after(&[Event::Watch, Event::Start, Event::Finish(Outcome::Raised)]);
    let (state, next) = answer.unwrap();
    assert!(next.announce && !next.wake);
    assert!(!state.is_done());
    assert_eq!(state.outcome(), Some(Outcome::Raised));
    let (state, next) = life.step(Event::Told).unwrap();
    assert!(state.is_done());
    assert_eq!(next, Next::NOTHING);
    assert_eq!(life.step(Event::Told), Err(Refused), "told once is told");
}

#[test]
fn who_begins_to_wait_during_the_announcement_is_woken_when_it_is_made() {
    let (life, _) = after(&[Event::Watch, Event::Finish(Outcome::Killed)]);
    let (state, _) = life.step(Event::Wait).unwrap();
    assert!(state.waited && !state.is_done());
    let (_, next) = life.step(Event::Told).unwrap();
    assert!(next.wake);
}

#[test]
fn who_comes_to_wait_or_watch_after_the_end_changes_nothing() {
    let (life, _) = after(&[Event::Start, Event::Finish(Outcome::Returned)]);
    let end = life.load();
    assert_eq!(life.step(Event::Wait), Ok((end, Next::NOTHING)));
    assert_eq!(life.step(Event::Watch), Ok((end, Next::NOTHING)));
    assert_eq!(life.load(), end);
}

#[test]
fn a_started_call_cannot_be_cancelled_and_a_cancelled_one_cannot_start() {
    let (life, answer) = after(&[Event::Start, Event::Cancel]);
    assert_eq!(answer, Err(Refused));
    assert_eq!(life.load().phase, Phase::Running);

    let (life, answer) = after(&[Event::Cancel]);
    assert_eq!(answer.unwrap().1.deliver, Some(Outcome::Stopped));
    assert_eq!(life.step(Event::Start), Err(Refused));
}

#[test]
fn a_queued_call_whose_worker_died_is_finished_without_having_started() {
    let (_, answer) = after(&[Event::Wait, Event::Finish(Outcome::Killed)]);
    let (state, next) = answer.unwrap();
    assert_eq!(state.phase, Phase::Done(Outcome::Killed));
    assert!(next.wake);
}

#[test]
fn a_stop_wakes_a_sleeping_unit_and_keeps_it_awake() {
    let (life, answer) = after(&[Event::Start, Event::Park, Event::Stop]);
    let (state, next) = answer.unwrap();
    assert_eq!(state.phase, Phase::Ready);
    assert!(next.enqueue);
    _ = life.step(Event::Start).unwrap();
    assert_eq!(life.step(Event::Park), Err(Refused));
}

#[test]
fn of_many_finishers_one_delivers() {
    for _ in 0..if cfg!(miri) { 5 } else { 200 } {
        let life = Arc::new(AtomicState::new());
        let finishers: Vec<_> = [Outcome::Returned, Outcome::Raised, Outcome::Stopped, Outcome::Killed]
            .map(|how| {
                let life = Arc::clone(&life);
                thread::spawn(move || life.step(Event::Finish(how)).map(|(_, next)| next.deliver))
            })
            .into_iter()
            .filter_map(|finisher| finisher.join().unwrap().ok())
            .collect();
        assert_eq!(finishers, [life.load().outcome()]);
    }
}

#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn note(&self, unit: UnitId, what: &str) {
        self.0.lock().push(format!("{} {what}", unit.0));
    }
}

impl Listener for Diary {
    fn started(&self, unit: UnitId) {
        self.note(unit, "started");
    }
    fn parked(&self, unit: UnitId) {
        self.note(unit, "parked");
    }
    fn unparked(&self, unit: UnitId) {
        self.note(unit, "unparked");
    }
    fn finished(&self, unit: UnitId, outcome: Outcome) {
        self.note(unit, &format!("finished {outcome:?}"));
    }
    fn stop_asked(&self, unit: UnitId) {
        self.note(unit, "stop asked");
    }
    fn cancelled(&self, unit: UnitId) {
        self.note(unit, "cancelled");
    }
    fn watched(&self, unit: UnitId) {
        self.note(unit, "watched");
    }
    fn waited(&self, unit: UnitId) {
        self.note(unit, "waited");
    }
    fn told(&self, unit: UnitId) {
        self.note(unit, "told");
    }
}

#[track_caller]
fn heard(events: &[Event], expected: &[&str]) {
    let (life, diary) = (AtomicState::new(), Diary::default());
    for &event in events {
        _ = life.step_heard(event, UnitId(3), &diary);
    }
    assert_eq!(*diary.0.lock(), expected);
}

#[test]
fn a_listener_hears_every_step_that_was_taken() {
    let end = Event::Finish(Outcome::Raised);
    heard(
        &[Event::Start, Event::Park, Event::Watch, Event::Unpark, Event::Wait, Event::Start, end, Event::Told],
        &["3 started", "3 parked", "3 watched", "3 unparked", "3 waited", "3 started", "3 finished Raised", "3 told"],
    );
}

#[test]
fn a_listener_hears_how_a_unit_that_never_ran_ended() {
    heard(&[Event::Cancel], &["3 cancelled", "3 finished Stopped"]);
    heard(&[Event::Stop], &["3 stop asked", "3 finished Stopped"]);
    heard(&[Event::Start, Event::Stop], &["3 started", "3 stop asked"]);
}

#[test]
fn a_listener_hears_nothing_of_a_refused_step() {
    heard(&[Event::Unpark, Event::Told], &[]);
}
