//! What is drawn, as a terminal shows it.

use std::collections::HashMap;

use raddle_probe::{Deadlock, Holder, Look, Place, State};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::draw;
use crate::history::History;
use crate::history::tests::{look, process, thread, waits};
use crate::keys::Key;
use crate::scene::{About, Scene};
use crate::verdict::Across;
use crate::view::View;

fn about() -> About {
    About { pid: 1, cores: 2, has_colour: true, pace: 0.5, is_slowed: false, has_ended: false, is_over: false }
}

/// Two threads that wait for each other, one that waits for them, one that runs, and a child.
fn bank() -> Look {
    let place = |line| {
        let mut place = Place::default();
        (place.function, place.file, place.line) = ("move".into(), "bank.py".into(), line);
        place
    };
    let held_by = |index| {
        let mut holder = Holder::default();
        (holder.thread, holder.place) = (Some(index), Some(place(14)));
        Some(holder)
    };
    let main = waits(thread(11, "MainThread", State::Waiting), "thread", "the end of \"alpha\"", 64);
    let mut alpha = waits(thread(12, "alpha", State::Blocked), "lock", "Lock 'ledger'", 32);
    let mut beta = waits(thread(13, "beta", State::Blocked), "lock", "Lock 'Account.lock'", 16);
    for (one, other, line) in [(&mut alpha, 2, 16), (&mut beta, 1, 23)] {
        let wait = one.wait.as_mut().expect("it waits");
        (wait.holder, wait.place) = (held_by(other), Some(place(line)));
        one.frames = vec![place(line), place(line + 20)];
    }
    let mut crunch = thread(14, "crunch", State::Running);
    (crunch.holds_gil, crunch.frames) = (true, vec![place(50)]);
    let mut one = process(1, vec![main, alpha, beta, crunch]);
    let mut circle = Deadlock::default();
    (circle.threads, circle.is_certain) = (vec![1, 2], true);
    one.deadlocks = vec![circle];
    one.age = Some(125.0);
    let mut child = process(2, vec![thread(2, "MainThread", State::Sleeping)]);
    child.age = Some(3.0);
    look(vec![one, child])
}

struct Shown {
    about: About,
    view: View,
    look: Look,
    history: History,
}

impl Shown {
    fn new(mut look: Look) -> Self {
        let mut history = History::default();
        for at in 0..12 {
            for thread in look.processes.iter_mut().flat_map(|process| &mut process.threads) {
                if thread.state == State::Running {
                    thread.cpu += 480_000_000;
                }
            }
            history.take(f64::from(at) / 2.0, &look);
        }
        Self { about: about(), view: View::default(), look, history }
    }

    fn scene(&self) -> Scene<'_> {
        let parents = HashMap::from([(2, 1)]);
        Scene::new(&self.about, &self.view, &self.look, &parents, &self.history, &Across::default())
    }

    fn press(&mut self, keys: &[Key]) -> &mut Self {
        for key in keys {
            let subjects = self.scene().subjects();
            self.view.press(*key, &subjects, 100);
        }
        self
    }

    fn buffer(&self, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it is made of memory");
        terminal.draw(|frame| draw(&self.scene(), frame.area(), frame.buffer_mut())).expect("it is made of memory");
        terminal.backend().buffer().clone()
    }

    fn lines(&self, width: u16, height: u16) -> Vec<String> {
        let buffer = self.buffer(width, height);
        let cells = buffer.content().chunks(usize::from(width));
        cells.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
    }
}

#[test]
fn all_of_it_in_the_usual_size() {
    let expected = "\
1  program1.py   CPython 3.12.1   up 2m                              every 0.5 s
CPU 0.96 of 2 cores ████████········   GIL of 1 held 100 %, waited for 0 %
2 processes, 5 threads: 1 running 2 blocked 1 waiting 1 sleeping
deadlock in 1: \"alpha\" waits for Lock 'ledger', \"beta\" waits for Lock 'Account.l
 Threads  Locks 3  Tasks
NAME             STATE    SINCE CPU  GIL  LAST LOOK WAITS FOR / PLACE
 1 program1.py               2m  96% 100%           4 threads, CPython 3.12.1, G
   MainThread    waiting   5.5s   0%   0% --------- the end of \"alpha\"
  !alpha         blocked   5.5s   0%   0% ░░░░░░░░░ Lock 'ledger', held by \"beta
  !beta          blocked   5.5s   0%   0% ░░░░░░░░░ Lock 'Account.lock', held by
   crunch        running   5.5s  96%   0% █████████ holds the GIL
   2 program2.py           3.0s   0%   0%           1 thread, CPython 3.12.1, GI
     MainThread  sleeping  5.5s   0%   0% .........
";
    let shown = Shown::new(bank()).lines(80, 24);
    assert_eq!(shown[..13].join("\n"), expected.trim_end());
    assert_eq!(shown[23], "q quit  Enter more  Tab locks  c s n w sort  t tree  / filter  space freeze  d d");
}

#[test]
fn what_is_selected_is_told_in_full_below() {
    let mut shown = Shown::new(bank());
    let lines = shown.press(&[Key::Down, Key::Down]).lines(80, 24);
    assert_eq!(lines[21], "alpha  blocked for 5.5s: Lock 'ledger', held by \"beta\"");
    assert_eq!(lines[22], "bank.py:16 move");
}

#[test]
fn a_wide_terminal_has_a_column_for_places() {
    let lines = Shown::new(bank()).lines(160, 24);
    let alpha = lines.iter().find(|line| line.contains("!alpha")).expect("it is shown");
    assert!(alpha.contains("Lock 'ledger', held by \"beta\"") && alpha.ends_with("bank.py:16 move"), "{alpha}");
}

#[test]
fn a_deadlock_stands_on_red_and_without_colours_it_stands_out_too() {
    let mut shown = Shown::new(bank());
    assert_eq!(shown.buffer(80, 24)[(0, 3)].bg, Color::Red);
    shown.about.has_colour = false;
    let buffer = shown.buffer(80, 24);
    assert!(buffer.content().iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
    assert!(buffer[(0, 3)].modifier.contains(ratatui::style::Modifier::REVERSED));
}

#[test]
fn enter_opens_the_stack_and_escape_closes_it() {
    let mut shown = Shown::new(bank());
    let lines = shown.press(&[Key::Down, Key::Down, Key::Enter]).lines(80, 24).join("\n");
    for said in ["\"alpha\"  12, of process 1", "held by \"beta\" (taken bank.py:14)", "bank.py:36  move"] {
        assert!(lines.contains(said), "{lines}");
    }
    assert!(!shown.press(&[Key::Escape]).lines(80, 24).join("\n").contains("bank.py:36"));
}

#[test]
fn tabs_for_locks_and_tasks() {
    let mut shown = Shown::new(bank());
    let lines = shown.press(&[Key::Tab]).lines(80, 24);
    assert!(lines.iter().any(|line| line.contains("Lock 'ledger'") && line.contains("\"beta\"")), "{lines:#?}");
    let lines = shown.press(&[Key::Tab]).lines(80, 24);
    assert!(lines.contains(&"no task of asyncio is seen".to_owned()), "{lines:#?}");
}

#[test]
fn the_filter_is_seen_while_it_is_typed_and_after() {
    let mut shown = Shown::new(bank());
    shown.press(&[Key::Char('/'), Key::Char('b'), Key::Char('e')]);
    let lines = shown.lines(80, 24);
    assert_eq!(lines[23], "/be▏");
    assert!(!lines.iter().any(|line| line.contains("crunch")));
    assert!(shown.press(&[Key::Enter]).lines(80, 24)[4].ends_with("/be"));
}

#[test]
fn the_end_is_said() {
    let mut shown = Shown::new(bank());
    shown.about.has_ended = true;
    assert!(shown.lines(80, 24).contains(&"process 1 has ended: what it has started goes on".to_owned()));
    shown.about.is_over = true;
    assert!(shown.lines(80, 24)[3].starts_with("process 1 has ended: this is what was seen last"));
}

#[test]
fn orders_to_a_terminal_are_shown_and_not_obeyed() {
    let mut evil = thread(5, "a\x1b[2Jb\r\n", State::Running);
    evil.frames = vec![Place::default()];
    evil.frames[0].function = "f\x1b]0;x\x07".into();
    let mut one = process(1, vec![evil]);
    one.command = vec!["python".into(), "\x1b[31m.py".into()];
    let mut shown = Shown::new(look(vec![one]));
    shown.press(&[Key::Down, Key::Enter]);
    let buffer = shown.buffer(100, 30);
    assert!(buffer.content().iter().all(|cell| !cell.symbol().contains(char::is_control)));
    assert!(shown.lines(100, 30).join("\n").contains("a\\u{1b}[2Jb"));
}

#[test]
fn every_size_is_drawn() {
    let mut shown = Shown::new(bank());
    for keys in [&[][..], &[Key::Char('?')], &[Key::Escape, Key::Tab], &[Key::Enter]] {
        shown.press(keys);
        for width in [1, 2, 5, 13, 34, 40, 62, 79, 119, 121, 300] {
            for height in [1, 2, 3, 9, 10, 16, 60] {
                shown.buffer(width, height);
            }
        }
    }
    Shown::new(Look::default()).buffer(80, 24);
}

#[test]
fn the_help_fits_the_usual_size() {
    let mut shown = Shown::new(bank());
    let lines = shown.press(&[Key::Char('?')]).lines(80, 24).join("\n");
    assert!(lines.contains("GIL: share of the looks") && !lines.contains("↓ more"), "{lines}");
}
