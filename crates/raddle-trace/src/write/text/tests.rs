//! Reports as they look. The expected texts stand in tests/text; with `RADDLE_BLESS=1` in the environment they are written anew, to be read before
//! they are kept.

use std::path::Path;

use crate::analyse::analyse;
use crate::analyse::testkit::{Story, sharing_a_gil, sharing_a_lock};
use crate::session::{Ending, Gil, Session, State, StuckUnit};

use super::{Style, text};

fn assert_looks(name: &str, session: &Session, style: Style) {
    let found = text(session, &analyse(session), style);
    assert!(found.lines().count() <= style.lines, "{} lines:\n{found}", found.lines().count());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text").join(format!("{name}.txt"));
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} looks different now:\n{found}");
}

/// A story of a program whose source is there.
fn with_source(program: &str) -> Story {
    let mut story = Story::of(program);
    story.session.directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sources").into();
    story
}

fn crawler() -> Session {
    let mut story = with_source("crawler.py");
    let function = story.place("bank.py", 12, "parse");
    let crew = sharing_a_gil(&mut story, 2, 6_000.0);
    let gil = Gil { held: 11_800_000_000, waited: 12_000_000_000, switches: 2_000 };
    story.session.processes[0].gil = Some(gil);
    for worker in crew {
        let thread = &mut story.session.processes[0].threads[worker];
        thread.function = Some(function);
        thread.spans.iter_mut().for_each(|span| span.place = Some(function));
        story.does(worker, State::Io, 240.0);
        story.ends(worker);
    }
    story.joined()
}

fn bank() -> Session {
    let mut story = with_source("bank.py");
    let (alpha, beta) = (story.thread("alpha"), story.thread("beta"));
    let (taken, wanted) = (story.place("bank.py", 5, "transfer"), story.place("bank.py", 7, "transfer"));
    for thread in [alpha, beta] {
        story.does(thread, State::Running, 10.0);
        story.does(thread, State::Lock, 9_000.0).place = Some(wanted);
    }
    let unit = |thread: usize, name: &str, holds: &str, waits: &str| StuckUnit {
        process: 0,
        thread: Some(thread),
        name: name.into(),
        waits_for: waits.into(),
        wanted: Some(wanted),
        holds: Some(holds.into()),
        taken: Some(taken),
        stack: vec![wanted],
    };
    let units =
        vec![unit(alpha, "alpha", "Lock 'rent'", "Lock 'food'"), unit(beta, "beta", "Lock 'food'", "Lock 'rent'")];
    story.stuck("deadlock", units);
    story.session.ending = Some(Ending::Signal(2));
    story.session.processes[0].ending = Some(Ending::Signal(2));
    story.joined()
}

fn crowd() -> Session {
    let mut story = Story::of("table.py");
    sharing_a_lock(&mut story, 200, 10, 60.0, 4.0, State::Native);
    story.joined()
}

fn family() -> Session {
    let mut story = Story::of("render.py");
    story.session.cores = 4;
    story.session.processes[0].command = ["python", "render.py", "--frames", "600"].map(String::from).to_vec();
    story.does(0, State::Running, 400.0);
    story.does(0, State::Queue, 5_600.0);
    for index in 0..8 {
        let child = story.process(400.0);
        story.does_in(child, 0, State::Io, 40.0);
        story.does_in(child, 0, State::Running, 5_000.0 + 50.0 * f64::from(index));
        if index == 5 {
            story.session.processes[child].ending = Some(Ending::Signal(11));
        }
    }
    story.session.dropped = 12;
    story.told()
}

fn fetcher() -> Session {
    let mut story = with_source("fetch.py");
    let at = story.place("bank.py", 13, "parse");
    for index in 0..3 {
        let worker = story.thread(&format!("fetch-{index}"));
        story.does(worker, State::Running, 40.0);
        story.does(worker, State::Io, 900.0 + 100.0 * f64::from(index));
        story.ends(worker);
        let exception = "KeyError: 'title'";
        story.session.processes[0].threads[worker].exception = Some(exception.into());
        story.fact("unhandled-exception", &[worker], &[], &[(at, "raised here")], exception);
    }
    story.joined()
}

#[test]
fn threads_that_take_turns() {
    assert_looks("crawler", &crawler(), Style::default());
}

#[test]
fn a_deadlock() {
    assert_looks("bank", &bank(), Style::default());
}

#[test]
fn a_deadlock_in_ascii_on_a_narrow_terminal() {
    assert_looks("bank-ascii", &bank(), Style { ascii: true, width: 70, ..Style::default() });
}

#[test]
fn two_hundred_threads() {
    assert_looks("crowd", &crowd(), Style::default());
}

#[test]
fn a_family_of_processes() {
    assert_looks("family", &family(), Style::default());
}

#[test]
fn exceptions_that_nobody_has_seen() {
    assert_looks("fetcher", &fetcher(), Style::default());
}

#[test]
fn colours_change_nothing_but_colours() {
    for session in [crawler(), bank(), crowd(), family(), fetcher()] {
        let report = analyse(&session);
        let plain = text(&session, &report, Style::default());
        let coloured = text(&session, &report, Style { colour: true, ..Style::default() });
        let mut stripped = String::new();
        let mut is_order = false;
        for character in coloured.chars() {
            is_order |= character == '\x1b';
            stripped.extend((!is_order).then_some(character));
            is_order &= character != 'm';
        }
        // Blanks at the ends of lines may be inside of a colour.
        let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&stripped), lines(&plain));
    }
}
