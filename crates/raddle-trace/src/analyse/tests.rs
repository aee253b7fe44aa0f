//! Sessions with a known truth, and their clean twins.

use crate::report::{Level, Report};
use crate::session::{Session, Span, State, StuckUnit};

use super::analyse;
use super::testkit::{Story, looked_at, ms, sharing_a_gil, sharing_a_lock};

fn ids(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.id.as_str()).collect()
}

/// In both ways in which a session can come.
fn both(session: Session) -> [Session; 2] {
    [session.clone(), looked_at(session, 20.0)]
}

fn assert_serial(session: &Session, fraction: f64) -> Report {
    let report = analyse(session);
    let found = report.speed_up.as_ref().unwrap().serial_fraction;
    assert!((found - fraction).abs() <= 0.05, "{found} is not {fraction} ({})", session.processes[0].is_recorded);
    report
}

/// The middle of what is predicted, in seconds.
fn predicted(report: &Report, model: &str, workers: Option<u32>) -> f64 {
    let predictions = &report.speed_up.as_ref().unwrap().predictions;
    let (low, high) = predictions.iter().find(|one| one.model == model && one.workers == workers).unwrap().seconds;
    assert!(low <= high, "{low} {high}");
    f64::midpoint(low, high)
}

fn near(value: f64, truth: f64) {
    assert!((value / truth - 1.0).abs() <= 0.10, "{value} is not {truth}");
}

#[test]
fn a_lock_around_two_fifths_of_the_work_is_the_serial_fraction() {
    for state in [State::Native, State::Sleep] {
        let mut story = Story::of("table.py");
        let lock = sharing_a_lock(&mut story, 8, 100, 6.0, 4.0, state);
        for session in both(story.joined()) {
            let report = assert_serial(&session, 0.40);
            assert_eq!(report.locks[0].thing, lock);
            assert!(report.locks[0].share > 0.8, "the path leads through its holders: {}", report.locks[0].share);
            assert!(ids(&report).contains(&"hot-lock"), "{:?}", ids(&report));
            // Eight seconds of work, of which 3.2 one at a time.
            near(predicted(&report, "threads", None), 3.2);
            near(predicted(&report, "threads", Some(8)), 3.3);
            near(predicted(&report, "threads", Some(2)), 4.3);
        }
    }
}

#[test]
fn only_what_a_wait_for_the_gil_has_cut_is_one_wait() {
    let waits = |between: &[(State, f64)], holder: Option<u32>| {
        let mut story = Story::of("table.py");
        let lock = sharing_a_lock(&mut story, 2, 1, 6.0, 4.0, State::Sleep);
        let mut at = ms(1_000.0);
        let mut spans = Vec::new();
        for (state, length) in [&[(State::Lock, 3.0)], between, &[(State::Lock, 2.0)]].concat() {
            let is_lock = state == State::Lock;
            let until = at + ms(length);
            spans.push(Span { from: at, until, state, place: None, thing: is_lock.then_some(lock), holder: None });
            at = until;
        }
        spans.last_mut().unwrap().holder = holder;
        story.session.things[lock as usize].contended = 0;
        story.session.processes[0].threads.iter_mut().for_each(|thread| thread.spans.clear());
        story.session.processes[0].threads[1].spans = spans;
        let cost = analyse(&story.session).locks[0].clone();
        assert_eq!(cost.waited, ms(5.0));
        (cost.waits, cost.longest)
    };
    assert_eq!(waits(&[(State::Gil, 1.0)], None), (1, ms(5.0)));
    assert_eq!(waits(&[(State::Gil, 1.0)], Some(2)), (2, ms(3.0)), "another one has it");
    assert_eq!(waits(&[(State::Gil, 1.0), (State::Running, 1.0)], None), (2, ms(3.0)), "it had it meanwhile");
    assert_eq!(waits(&[], None), (2, ms(3.0)));
}

#[test]
fn threads_under_a_gil_are_all_serial() {
    let mut story = Story::of("crawler.py");
    sharing_a_gil(&mut story, 4, 2_000.0);
    for session in both(story.joined()) {
        let report = assert_serial(&session, 1.0);
        assert_eq!(ids(&report), ["gil-bound"]);
        assert_eq!(report.advice[0].choice, "processes");
        near(predicted(&report, "threads", Some(8)), 8.0);
        near(predicted(&report, "processes", Some(4)), 2.0);
        near(predicted(&report, "free-threaded", Some(2)), 4.0);
        assert!(report.verdict.contains("of their time for the GIL"), "{}", report.verdict);
    }
}

#[test]
fn native_work_in_threads_is_parallel() {
    let mut story = Story::of("hash.py");
    story.session.cores = 8;
    for index in 0..4 {
        let worker = story.thread(&format!("worker-{index}"));
        story.does(worker, State::Native, 2_000.0);
    }
    for session in both(story.joined()) {
        let report = assert_serial(&session, 0.0);
        assert_eq!(ids(&report), [""; 0]);
        assert_eq!(report.advice[0].choice, "threads");
        near(predicted(&report, "threads", Some(8)), 1.0);
    }
}

#[test]
fn a_part_that_one_thread_does_alone_is_serial() {
    let mut story = Story::of("mix.py");
    story.does(0, State::Running, 1_000.0);
    for index in 0..4 {
        let worker = story.thread_of(0, &format!("worker-{index}"), 1_000.0);
        story.does(worker, State::Native, 1_000.0);
    }
    for session in both(story.joined()) {
        let report = assert_serial(&session, 0.2);
        near(predicted(&report, "threads", None), 1.0);
        near(predicted(&report, "threads", Some(2)), 3.0);
    }
}

#[test]
fn nothing_is_said_of_one_thread_a_short_run_or_few_looks() {
    let mut story = Story::of("one.py");
    story.does(0, State::Running, 5_000.0);
    assert_eq!(analyse(&story.told()).speed_up, None);

    let mut story = Story::of("short.py");
    sharing_a_gil(&mut story, 2, 20.0);
    assert_eq!(analyse(&story.joined()).speed_up, None);

    let mut story = Story::of("few.py");
    sharing_a_gil(&mut story, 2, 1_000.0);
    let report = analyse(&looked_at(story.joined(), 500.0));
    assert_eq!((report.speed_up.clone(), ids(&report).len()), (None, 0));
}

#[test]
fn a_lock_beside_the_critical_path_costs_nothing() {
    let mut story = Story::of("beside.py");
    // Two threads fight for a lock all the time; the end waits for a third one, which works longer.
    let lock = sharing_a_lock(&mut story, 2, 50, 1.0, 9.0, State::Native);
    let long = story.thread("long");
    story.does(long, State::Native, 3_000.0);
    let session = story.joined();
    let report = analyse(&session);
    let cost = report.locks.iter().find(|cost| cost.thing == lock).unwrap();
    assert!(cost.waited > 300_000_000 && cost.share < 0.01, "{cost:?}");
    assert_eq!(ids(&report), [""; 0]);
}

fn circle(story: &mut Story) -> Vec<StuckUnit> {
    let (alpha, beta) = (story.thread("alpha"), story.thread("beta"));
    let places: Vec<_> = [(4, "alpha"), (6, "alpha"), (8, "beta"), (10, "beta")]
        .iter()
        .map(|(line, function)| story.place("hung.py", *line, function))
        .collect();
    for thread in [alpha, beta] {
        story.does(thread, State::Running, 10.0);
        story.does(thread, State::Lock, 5_000.0);
    }
    let unit = |thread, name: &str, waits: &str, holds: &str, wanted, taken| StuckUnit {
        process: 0,
        thread: Some(thread),
        name: name.into(),
        waits_for: waits.into(),
        wanted: Some(wanted),
        holds: Some(holds.into()),
        taken: Some(taken),
        stack: vec![wanted],
    };
    vec![
        unit(alpha, "alpha", "Lock 'b'", "Lock 'a'", places[1], places[0]),
        unit(beta, "beta", "Lock 'a'", "Lock 'b'", places[3], places[2]),
    ]
}

#[test]
fn a_deadlock_is_an_error_with_four_places() {
    let mut story = Story::of("hung.py");
    let units = circle(&mut story);
    story.stuck("deadlock", units.clone());
    story.stuck("deadlock", units);
    let report = analyse(&story.joined());
    assert_eq!(ids(&report), ["deadlock"]);
    let finding = &report.findings[0];
    assert_eq!((finding.level, finding.labels.len()), (Level::Error, 4));
    assert_eq!(finding.title, "2 threads wait for each other");
    assert_eq!(finding.labels[0].text, "\"alpha\" waits for Lock 'b' here");
    assert_eq!(finding.labels[1].text, "\"alpha\" holds Lock 'a' since here");
    assert!(report.verdict.ends_with("2 threads wait for each other"), "{}", report.verdict);
}

#[test]
fn a_circle_that_a_timeout_ends_is_a_warning() {
    let mut story = Story::of("hung.py");
    let units = circle(&mut story);
    story.stuck("deadlock", units).is_timed = true;
    let report = analyse(&story.joined());
    assert_eq!((ids(&report), report.findings[0].level), (vec!["deadlock"], Level::Warning));
}

#[test]
fn what_was_recorded_has_a_title_a_help_and_its_places() {
    let kinds = [
        "lock-order",
        "lock-leaked",
        "fork-with-lock",
        "daemon-killed",
        "never-joined",
        "orphaned-thread",
        "lost-wakeup",
    ];
    for kind in kinds {
        let mut story = Story::of("facts.py");
        let worker = story.thread("worker");
        story.does(worker, State::Running, 10.0);
        let (lock, other) = (story.thing("lock", "Lock 'a'"), story.thing("lock", "Lock 'b'"));
        let (here, there) = (story.place("facts.py", 3, "one"), story.place("facts.py", 9, "two"));
        story.fact(kind, &[worker], &[lock, other], &[(here, "Lock 'a' is taken"), (there, "then Lock 'b'")], "");
        story.fact(kind, &[worker], &[lock, other], &[(here, "Lock 'a' is taken"), (there, "then Lock 'b'")], "");
        let report = analyse(&story.joined());
        assert_eq!(ids(&report), [kind], "one finding of two facts that are alike");
        let finding = &report.findings[0];
        assert_eq!(finding.labels.len(), 2, "{kind}");
        assert!(!finding.title.is_empty() && !finding.help.is_empty(), "{kind}");
    }
}

#[test]
fn a_daemon_that_waits_at_the_end_is_what_daemons_are_for() {
    let mut story = Story::of("daemon.py");
    let daemon = story.thread("daemon");
    story.does(daemon, State::Running, 10.0);
    story.does(daemon, State::Event, 90.0);
    story.fact("daemon-killed", &[daemon], &[], &[], "");
    assert_eq!(ids(&analyse(&story.joined())), [""; 0]);
}

#[test]
fn exceptions_that_are_alike_are_one_finding() {
    let mut story = Story::of("raise.py");
    let at = story.place("raise.py", 7, "work");
    for index in 0..10 {
        let worker = story.thread(&format!("worker-{index}"));
        story.does(worker, State::Running, 10.0);
        story.ends(worker);
        let exception = "ValueError: no such page";
        story.session.processes[0].threads[worker].exception = Some(exception.into());
        if index % 2 == 0 {
            story.fact("unhandled-exception", &[worker], &[], &[(at, "raised here")], exception);
        }
    }
    let report = analyse(&story.joined());
    assert_eq!(ids(&report), ["unhandled-exception"]);
    let finding = &report.findings[0];
    assert_eq!(finding.title, "10 threads were ended by ValueError: no such page");
    assert_eq!((finding.units.len(), finding.labels.len()), (10, 1));
    assert!(finding.notes.iter().any(|note| note.contains("exit code of the program is 0")));
}

#[test]
fn children_are_told_of_when_nobody_wanted_their_end() {
    use crate::session::Ending;
    let told = |ending: Ending, program: Ending| {
        let mut story = Story::of("family.py");
        story.does(0, State::Join, 500.0);
        let child = story.process(10.0);
        story.does_in(child, 0, State::Running, 400.0);
        story.session.processes[child].ending = Some(ending);
        story.session.processes[0].ending = Some(program);
        let report = analyse(&story.told());
        report.findings.iter().map(|finding| (finding.id.clone(), finding.level)).collect::<Vec<_>>()
    };
    let ok = Ending::Exit(0);
    assert_eq!(told(Ending::Signal(11), ok), [("child-died".to_owned(), Level::Error)]);
    assert_eq!(told(Ending::Signal(9), ok), [("child-died".to_owned(), Level::Warning)]);
    assert_eq!(told(Ending::Exit(1), ok), [("child-died".to_owned(), Level::Warning)]);
    assert_eq!(told(ok, Ending::Signal(11)), [("crashed".to_owned(), Level::Error)]);
    for (child, program) in [
        (ok, ok),
        (Ending::Signal(15), ok),
        (Ending::Exit(1), Ending::Exit(1)),
        (Ending::Unknown, ok),
        (ok, Ending::Signal(2)),
    ] {
        assert_eq!(told(child, program), [], "{child:?} {program:?}");
    }
}

/// A loop that waits, handles, waits.
fn event_loop(state: State, length: f64) -> Session {
    let mut story = Story::of("server.py");
    let poll = story.thing("event-loop", "something to do");
    let at = story.place("server.py", 30, "handle");
    for _ in 0..20 {
        story.does(0, State::Io, 50.0).thing = Some(poll);
        story.does(0, State::Running, 1.0).place = Some(at);
    }
    story.does(0, state, length).place = Some(at);
    story.does(0, State::Io, 50.0).thing = Some(poll);
    story.told()
}

#[test]
fn an_event_loop_that_waits_in_a_callback_is_blocked() {
    let report = analyse(&event_loop(State::Sleep, 500.0));
    assert_eq!(ids(&report), ["event-loop-blocked"]);
    assert_eq!(report.findings[0].title, "the event loop could do nothing else for 500 ms");
    assert_eq!(ids(&analyse(&event_loop(State::Running, 3_000.0))), ["event-loop-blocked"]);
    for clean in [event_loop(State::Sleep, 20.0), event_loop(State::Running, 300.0), event_loop(State::Io, 50.0)] {
        assert_eq!(ids(&analyse(&clean)), [""; 0]);
    }
}

#[test]
fn what_an_event_loop_does_before_and_after_is_not_its_matter() {
    let mut story = Story::of("server.py");
    let poll = story.thing("event-loop", "something to do");
    let at = story.place("server.py", 1, "<module>");
    story.does(0, State::Sleep, 900.0).place = Some(at);
    story.does(0, State::Io, 50.0).thing = Some(poll);
    story.does(0, State::Sleep, 900.0).place = Some(at);
    assert_eq!(ids(&analyse(&story.told())), [""; 0]);
}

#[test]
fn what_is_done_between_two_event_loops_holds_up_neither() {
    let two_loops = |outside: &[f64]| {
        let mut story = Story::of("server.py");
        let poll = story.thing("event-loop", "something to do");
        let at = story.place("server.py", 1, "<module>");
        for _ in 0..2 {
            story.does(0, State::Io, 50.0).thing = Some(poll);
            story.does(0, State::Sleep, 900.0).place = Some(at);
        }
        story.does(0, State::Io, 50.0).thing = Some(poll);
        story.session.processes[0].threads[0].outside = outside.iter().map(|moment| ms(*moment)).collect();
        ids(&analyse(&story.told())).len()
    };
    assert_eq!(two_loops(&[]), 1);
    assert_eq!(two_loops(&[500.0]), 1, "the second time it is within one");
    assert_eq!(two_loops(&[20.0, 500.0, 1_500.0]), 0);
}

#[test]
fn many_that_are_woken_at_once_do_not_take_turns() {
    let herd = |resting: f64| {
        let mut story = Story::of("herd.py");
        for index in 0..200 {
            let worker = story.thread(&format!("worker-{index}"));
            story.does(worker, State::Event, resting);
            story.does(worker, State::Gil, f64::from(index));
            story.does(worker, State::Running, 1.0);
        }
        ids(&analyse(&story.joined())).len()
    };
    assert_eq!(herd(1_000.0), 0);
    assert_eq!(herd(10.0), 1, "they do little else");
}

/// One that takes its lock again at once, and three that want it too.
fn greedy(hold: f64, times: u64) -> Session {
    let mut story = Story::of("starve.py");
    let lock = story.thing("lock", "Lock 'lock'");
    let crew: Vec<usize> = ["greedy", "one", "two", "three"].iter().map(|name| story.thread(name)).collect();
    story.does(crew[0], State::Sleep, hold * times as f64);
    for waiter in &crew[1..] {
        story.does(*waiter, State::Running, 1.0);
        let span = story.does(*waiter, State::Lock, hold * times as f64 - 1.0);
        (span.thing, span.holder) = (Some(lock), Some(crew[0] as u32));
        story.does(*waiter, State::Running, 1.0);
    }
    let thing = &mut story.session.things[lock as usize];
    (thing.taken, thing.contended) = (times + 3, 3);
    thing.held = (hold * times as f64 * 1e6) as u64;
    story.joined()
}

#[test]
fn a_thread_that_waits_while_another_takes_turn_after_turn_starves() {
    let report = analyse(&greedy(2.0, 1_500));
    assert!(ids(&report).contains(&"starvation"), "{:?}", ids(&report));
    let title = &report.findings.iter().find(|finding| finding.id == "starvation").unwrap().title;
    assert!(title.contains("waited 3.00 s for Lock 'lock' while others took it 15"), "{title}");
    // One that holds it for a second each time is slow, and not greedy.
    assert!(!ids(&analyse(&greedy(1_000.0, 3))).contains(&"starvation"));
}

#[test]
fn many_that_wait_in_line_do_not_starve() {
    let mut story = Story::of("fair.py");
    sharing_a_lock(&mut story, 100, 10, 1.0, 10.0, State::Sleep);
    for session in both(story.joined()) {
        let longest = analyse(&session).locks[0].longest;
        assert!(longest > 500_000_000, "they wait for long: {longest}");
        assert!(!ids(&analyse(&session)).contains(&"starvation"));
    }
}

#[test]
fn threads_that_are_joined_before_the_next_is_started_are_told_of() {
    let in_a_row = |gap: f64| {
        let mut story = Story::of("row.py");
        for index in 0..5 {
            let worker = story.thread_of(0, &format!("Thread-{index} (fetch)"), f64::from(index) * gap);
            story.does(worker, State::Sleep, 200.0);
            story.ends(worker);
        }
        story.joined()
    };
    assert_eq!(ids(&analyse(&in_a_row(201.0))), ["one-after-another"]);
    assert_eq!(ids(&analyse(&in_a_row(50.0))), [""; 0]);
}

#[test]
fn many_more_threads_than_processors_are_too_many() {
    let crowd = |threads: usize, waits: f64| {
        let mut story = Story::of("crowd.py");
        for index in 0..threads {
            let worker = story.thread(&format!("worker-{index}"));
            for _ in 0..50 {
                story.does(worker, State::Runnable, waits);
                story.does(worker, State::Native, 10.0);
            }
        }
        story.joined()
    };
    assert_eq!(ids(&analyse(&crowd(16, 70.0))), ["oversubscribed"]);
    // Twice as many as there are processors do little harm, and what others take is no matter of this program.
    for clean in [crowd(4, 10.0), crowd(2, 70.0)] {
        assert_eq!(ids(&analyse(&clean)), [""; 0]);
    }
}

#[test]
fn a_mixed_zoo_is_clean() {
    let mut story = Story::of("zoo.py");
    let (queue, lock, barrier) =
        (story.thing("queue-get", "an item of Queue"), story.thing("lock", "Lock"), story.thing("barrier", "Barrier"));
    story.does(0, State::Running, 300.0);
    for index in 0..4 {
        let worker = story.thread(&format!("worker-{index}"));
        for round in 0..40 {
            story.does(worker, State::Queue, 8.0).thing = Some(queue);
            story.does(worker, State::Running, 2.0);
            story.does(worker, State::Gil, if round % 4 == index { 0.5 } else { 0.0 });
            story.does(worker, State::Lock, 0.2).thing = Some(lock);
            story.does(worker, State::Event, 3.0).thing = Some(barrier);
        }
        story.ends(worker);
    }
    let daemon = story.thread("daemon");
    story.does(daemon, State::Event, 500.0);
    let child = story.process(20.0);
    story.does_in(child, 0, State::Running, 300.0);
    for session in both(story.joined()) {
        assert_eq!(ids(&analyse(&session)), [""; 0]);
    }
}

#[test]
fn advice_fits_what_was_measured() {
    let choices =
        |session: &Session| analyse(session).advice.into_iter().map(|advice| advice.choice).collect::<Vec<_>>();
    let mut story = Story::of("fetch.py");
    for index in 0..80 {
        let worker = story.thread(&format!("worker-{index}"));
        story.does(worker, State::Running, 5.0);
        story.does(worker, State::Io, 2_000.0);
    }
    assert_eq!(choices(&story.joined()), ["async"]);

    let mut story = Story::of("one.py");
    story.does(0, State::Running, 2_000.0);
    assert_eq!(choices(&story.told()), ["processes"]);

    let mut story = Story::of("idle.py");
    for index in 0..8 {
        let worker = story.thread(&format!("worker-{index}"));
        story.does(worker, State::Queue, 1_900.0);
        story.does(worker, State::Io, 100.0);
    }
    let mut session = story.joined();
    assert!(choices(&session).contains(&"fewer-threads".to_owned()));
    for span in session.processes[0].threads[1..].iter_mut().flat_map(|thread| &mut thread.spans) {
        span.state = if span.state == State::Queue { State::Event } else { span.state };
    }
    assert!(!choices(&session).contains(&"fewer-threads".to_owned()), "they wait for a moment");
    for span in session.processes[0].threads[1..].iter_mut().flat_map(|thread| &mut thread.spans) {
        span.state = if span.state == State::Event { State::Queue } else { span.state };
    }
    for thread in &mut session.processes[0].threads[1..] {
        thread.is_foreign = true;
    }
    assert!(!choices(&session).contains(&"fewer-threads".to_owned()), "a library has them");
}

#[test]
fn nothing_is_predicted_from_a_machine_that_is_busy_with_something_else() {
    let on = |waits: f64| {
        let mut story = Story::of("busy.py");
        for index in 0..2 {
            let worker = story.thread(&format!("worker-{index}"));
            for _ in 0..50 {
                story.does(worker, State::Native, 10.0);
                story.does(worker, State::Runnable, waits);
            }
        }
        story.joined()
    };
    assert!(analyse(&on(2.0)).speed_up.is_some());
    let report = analyse(&on(40.0));
    assert_eq!((ids(&report).len(), report.speed_up.is_some()), (0, false));
    assert!(
        crate::text(&on(40.0), &analyse(&on(40.0)), crate::Style::default()).contains("busy with something else: 80 %")
    );
}

#[test]
fn what_ends_the_main_thread_speaks_for_itself() {
    use crate::session::Ending;
    let mut story = Story::of("raise.py");
    story.does(0, State::Running, 10.0);
    story.fact("unhandled-exception", &[0], &[], &[], "ValueError: no such page");
    story.session.processes[0].ending = Some(Ending::Exit(1));
    story.session.processes[0].threads[0].exception = Some("ValueError: no such page".into());
    assert_eq!(ids(&analyse(&story.told())), [""; 0]);
}

#[test]
fn one_that_whoever_watched_it_has_ended_did_not_crash() {
    use crate::session::Ending;
    let mut story = Story::of("hung.py");
    let units = circle(&mut story);
    story.stuck("deadlock", units);
    story.session.is_aborted = true;
    story.session.processes[0].ending = Some(Ending::Signal(9));
    let report = analyse(&story.joined());
    assert_eq!(ids(&report), ["deadlock"]);
    assert_eq!(report.verdict, "hung.py was ended by its watcher after 5.01 s · 2 threads wait for each other");
}
