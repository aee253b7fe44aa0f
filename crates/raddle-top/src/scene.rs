//! All that is on the screen at one moment, before it is drawn.

use std::collections::HashMap;

use raddle_probe::{Look, State};

use crate::history::History;
use crate::locks::{Thing, things};
use crate::pages::{Page, help, page};
use crate::row::{Subject, command, plural, span, word};
use crate::tasks::{Row, tasks};
use crate::units::{Unit, units};
use crate::verdict::{Across, Verdict, verdicts};
use crate::view::{Open, Tab, View};

/// What is looked at, and how.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) pid: u32,
    /// Processors that there are to use.
    pub(crate) cores: u32,
    pub(crate) has_colour: bool,
    /// Seconds from one look to the next, as it is now.
    pub(crate) pace: f64,
    /// Whether looks are so far apart because they cost much.
    pub(crate) is_slowed: bool,
    /// Whether the process has ended.
    pub(crate) has_ended: bool,
    /// Whether nothing of what it has started is left.
    pub(crate) is_over: bool,
}

/// What is on the screen.
#[derive(Debug)]
pub(crate) struct Scene<'now> {
    pub(crate) about: &'now About,
    pub(crate) view: &'now View,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) units: Vec<Unit>,
    pub(crate) things: Vec<Thing>,
    pub(crate) tasks: Vec<Row>,
    /// The open page.
    pub(crate) page: Option<Page>,
    /// The process, and for how long it has been there.
    pub(crate) title: String,
    /// Processors in use.
    pub(crate) cpu: f64,
    /// How many processes and threads, and the GIL.
    pub(crate) counts: String,
    pub(crate) gil: Option<String>,
    /// How many threads are in each state.
    pub(crate) states: Vec<(State, usize)>,
}

impl<'now> Scene<'now> {
    pub(crate) fn new(
        about: &'now About,
        view: &'now View,
        look: &Look,
        parents: &HashMap<u32, u32>,
        history: &History,
        across: &Across,
    ) -> Self {
        let filter = &view.choice.filter;
        let threads = || look.processes.iter().flat_map(|process| &process.threads);
        let count = |state| threads().filter(|thread| thread.state == state).count();
        let states = State::ALL.map(|state| (state, count(state))).into_iter().filter(|(_, count)| *count > 0);
        let native: usize = look.processes.iter().map(|process| process.native_threads.len()).sum();
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        Self {
            about,
            view,
            verdicts: verdicts(look, across),
            units: units(look, parents, history, &view.choice),
            things: things(look, history, filter),
            tasks: tasks(look, filter),
            page: view.open.as_ref().map(|open| match open {
                Open::Help => help(),
                Open::About(subject) => page(subject, look, history).unwrap_or_else(gone),
            }),
            title: title(look, about.pid),
            cpu: history.cpu(),
            counts: format!(
                "{}, {}",
                plural(look.processes.len(), "process"),
                plural(threads().count() + native, "thread")
            ),
            gil: history.gil().map(|(pid, gil)| {
                let whose = if look.processes.len() > 1 { format!(" of {pid}") } else { String::new() };
                format!("GIL{whose} held {}, waited for {}", percent(gil.held), percent(gil.wanted))
            }),
            states: states.collect(),
        }
    }

    /// What the rows of the table are about.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        match self.view.tab {
            Tab::Units => self.units.iter().map(|unit| unit.subject.clone()).collect(),
            Tab::Locks => self.things.iter().map(|thing| thing.subject.clone()).collect(),
            Tab::Tasks => self.tasks.iter().map(|task| task.subject.clone()).collect(),
        }
    }

    /// All about the selected row, in two lines.
    pub(crate) fn selected(&self) -> [String; 2] {
        let at = self.view.selected(&self.subjects());
        let lines = at.and_then(|at| match self.view.tab {
            Tab::Units => self.units.get(at).map(|unit| {
                let since = unit.since.map_or(String::new(), |since| format!(" for {}", span(since)));
                let verb = if unit.state.is_some_and(|_| !unit.wait.is_empty()) { ": " } else { "  " };
                let doing = unit.state.map_or("up", word);
                [format!("{}  {doing}{since}{verb}{}", unit.name, unit.wait), unit.place.clone()]
            }),
            Tab::Locks => self.things.get(at).map(|thing| {
                let holder = if thing.holder.is_empty() { "not known" } else { &thing.holder };
                let taken = if thing.taken.is_empty() { String::new() } else { format!(", taken {}", thing.taken) };
                [thing.what.clone(), format!("holder {holder}{taken}")]
            }),
            Tab::Tasks => self.tasks.get(at).map(|task| {
                let awaits = if task.awaits.is_empty() { String::new() } else { format!(" for {}", task.awaits) };
                [format!("{}  {}{awaits}", task.name, task.state), task.place.clone()]
            }),
        });
        lines.unwrap_or_default()
    }
}

fn title(look: &Look, pid: u32) -> String {
    let Some(process) = look.processes.iter().find(|process| process.pid == pid).or(look.processes.first()) else {
        return format!("process {pid}");
    };
    let runs = process.version.as_ref().map_or(String::new(), |version| format!("   CPython {version}"));
    let age = process.age.map_or(String::new(), |age| format!("   up {}", span(age)));
    format!("{}  {}{runs}{age}", process.pid, command(process))
}

fn gone() -> Page {
    Page { title: "gone".into(), lines: vec![(crate::pages::Tone::Dim, "it is not there any more".into())] }
}
