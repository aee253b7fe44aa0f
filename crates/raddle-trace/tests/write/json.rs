//! A trace is read back as it was written, and whatever else is given to the reader, it says what is wrong.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use raddle_trace::{
    Ending, Pass, Place, Process, ReadError, Report, Session, Span, State, Stuck, StuckUnit, Thing, Thread, analyse,
    json, read_json,
};

fn state() -> impl Strategy<Value = State> {
    (0..State::ALL.len()).prop_map(|index| State::ALL[index])
}

fn ending() -> impl Strategy<Value = Option<Ending>> {
    option::of(prop_oneof![
        any::<i32>().prop_map(Ending::Exit),
        any::<i32>().prop_map(Ending::Signal),
        Just(Ending::Unknown)
    ])
}

prop_compose! {
    fn span()(from in any::<u64>(), until in any::<u64>(), state in state(), place in any::<Option<u32>>(), thing in any::<Option<u32>>(),
              holder in any::<Option<u32>>()) -> Span {
        Span { from, until, state, place, thing, holder }
    }
}

prop_compose! {
    fn thread()(name in ".*", native_id in any::<u32>(), ident in any::<u64>(), is_daemon in any::<Option<bool>>(), spans in vec(span(), 0..6),
                exception in option::of(".*"), ended in any::<Option<u64>>()) -> Thread {
        Thread { native_id, ident, name, is_daemon, spans, exception, ended, ..Thread::default() }
    }
}

prop_compose! {
    fn process()(pid in any::<u32>(), parent in any::<Option<usize>>(), command in vec(".*", 0..3), ending in ending(),
                 threads in vec(thread(), 0..4), cpu in any::<u64>()) -> Process {
        Process { pid, parent, command, ending, threads, cpu, ..Process::default() }
    }
}

prop_compose! {
    fn session()(command in vec(".*", 0..3), started in -1e12..1e12, ending in ending(), length in any::<u64>(),
                 processes in vec(process(), 0..3), places in vec((".*", ".*", any::<u32>()), 0..4), things in vec((".*", ".*"), 0..4),
                 passes in vec(any::<[u8; 4]>(), 0..4), stuck in vec((".*", any::<u64>(), ".*"), 0..3), notes in vec(".*", 0..3)) -> Session {
        let places = places.into_iter().map(|(function, file, line)| Place { function, file, line }).collect();
        let things = things.into_iter().map(|(kind, what)| Thing { kind, what, ..Thing::default() }).collect();
        let pass = |[a, b, c, d]: [u8; 4]| Pass {
            from: (a.into(), b.into()), at: a.into(), to: (c.into(), d.into()), until: b.into(), thing: Some(c.into()),
        };
        let circle = |(kind, at, name): (String, u64, String)| Stuck {
            kind, at, is_certain: true, is_timed: false, units: vec![StuckUnit { name, ..StuckUnit::default() }],
        };
        Session {
            command, started, ending, length, processes, places, things, notes,
            passes: passes.into_iter().map(pass).collect(),
            stuck: stuck.into_iter().map(circle).collect(),
            ..Session::default()
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(session in session()) {
        let report = Report { verdict: session.command.concat(), ..Report::default() };
        prop_assert_eq!(read_json(&json(&session, &report)), Ok((session, report)));
    }

    #[test]
    fn whatever_is_read_there_is_an_answer(text in ".*") {
        prop_assert!(read_json(&text).is_err());
    }

    #[test]
    fn a_damaged_trace_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), session in session()) {
        let mut bytes = json(&session, &Report::default()).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            drop(read_json(&text));
        }
    }

    /// Whatever a session holds, every writer writes it.
    #[test]
    fn every_writer_takes_every_session(session in session()) {
        let report = Report::default();
        drop((raddle_trace::html(&session, &report), raddle_trace::perfetto(&session, &report), raddle_trace::sarif(&session, &report)));
    }
}

#[test]
fn the_story_and_its_report_are_read_back() {
    let (session, report) = super::crawler();
    assert_eq!(read_json(&json(&session, &report)), Ok((session, report)));
}

#[test]
fn rows_and_what_was_written_before_there_were_rows_are_read_alike() {
    let trace = |version, span, pass| {
        let thread = format!(r#"{{"name": "worker", "spans": [{span}]}}"#);
        let session = format!(r#"{{"processes": [{{"pid": 7, "threads": [{thread}]}}], "passes": [{pass}]}}"#);
        read_json(&format!(r#"{{"version": {version}, "session": {session}, "report": {{}}}}"#)).unwrap().0
    };
    let before = trace(
        1,
        r#"{"from": 1, "until": 5, "state": "lock", "place": null, "thing": 3, "holder": 2}"#,
        r#"{"from": [0, 1], "at": 4, "to": [0, 2], "until": 5, "thing": null}"#,
    );
    let now = trace(2, r#"[1, 5, "lock", null, 3, 2]"#, "[[0, 1], 4, [0, 2], 5, null]");
    assert_eq!(before, now);
    assert_eq!(now.processes[0].threads[0].spans[0].holder, Some(2));
    assert!(json(&now, &Report::default()).contains(r#""spans":[[1,5,"lock",null,3,2]]"#));
}

#[test]
fn a_trace_that_is_cut_off_says_so() {
    let session = super::story::clean();
    let whole = json(&session, &analyse(&session));
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        assert_eq!(read_json(&whole[..end]), Err(ReadError::Truncated { line: 1 }), "cut at {end}");
    }
}

#[test]
fn a_trace_from_the_future_says_so() {
    let error = read_json(r#"{"version": 7, "session": {"spans": "elsewhere now"}}"#).unwrap_err();
    assert_eq!(error, ReadError::FromTheFuture { version: 7 });
    assert_eq!(
        error.to_string(),
        "a trace from the future: its format has version 7, and this Raddle reads up to 2; hint: upgrade Raddle"
    );
}

#[test]
fn something_else_is_no_trace() {
    for text in
        ["[]", "null", "{}", "pickle", r#"{"version": "1"}"#, r#"{"version": -1}"#, r#"{"version": 0, "session": {}}"#]
    {
        assert!(matches!(read_json(text), Err(ReadError::NotATrace { .. })), "{text}");
    }
    // So deep that a reader which goes down with it would not come back.
    assert!(read_json(&"[".repeat(100_000)).is_err());
}

/// What a version with more fields has written under the same number, and one with fewer.
#[test]
fn fields_that_are_not_known_are_skipped_and_missing_ones_have_their_defaults() {
    let text = r#"{"version": 1, "later": [1], "session": {"cores": 4, "later": {}, "processes": [{"pid": 7, "later": null}]}}"#;
    let (session, report) = read_json(text).unwrap();
    assert_eq!((session.cores, session.processes[0].pid, report), (4, 7, Report::default()));
}
