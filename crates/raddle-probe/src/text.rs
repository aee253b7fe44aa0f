//! A look as text for people: the verdict first, then the threads.
//!
//! What comes from the other process (names, files, command lines) may hold anything, also orders to a terminal: control characters are
//! written as escapes.

use std::collections::HashSet;
use std::fmt::Write;

use crate::model::{Deadlock, Look, Place, Process, State, Thread, Wait};

/// How the text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With colours, for a terminal.
    pub colour: bool,
}

/// Writes looks as text.
#[must_use]
pub fn text(look: &Look, style: Style) -> String {
    let processes = &look.processes;
    let mut out = String::new();
    if !look.stuck.is_empty() {
        stuck(&mut out, look, style);
        out.push('\n');
    }
    for (index, process) in processes.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        Writer { out: &mut out, process, style }.process(index == 0 && processes.len() == 1);
    }
    out
}

const RED: &str = "1;31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const DIM: &str = "2";

/// So many threads with one stack are told once.
const FEW: usize = 3;

/// Threads of several processes that wait for each other.
fn stuck(out: &mut String, look: &Look, style: Style) {
    let count = look.stuck.iter().map(|(process, _)| *process).collect::<HashSet<_>>().len();
    let mut line = |process: usize, text: &str| Writer { out, process: &look.processes[process], style }.line(text);
    let head = if style.colour { format!("\x1b[{RED}mdeadlock\x1b[0m") } else { "deadlock".into() };
    line(0, &format!("{head}: {count} processes wait for each other"));
    let mut through_pipe = false;
    for (at, index) in &look.stuck {
        let process = &look.processes[*at];
        let thread = &process.threads[*index];
        let Some(wait) = &thread.wait else { continue };
        through_pipe |= matches!(wait.kind, "read" | "write");
        let place =
            wait.place.as_ref().map_or(String::new(), |place| format!(" (wanted {})", place_in(process, place)));
        let name = clean(&thread.name);
        line(*at, &format!("  process {} \"{name}\" waits for {}{place}", process.pid, clean(&wait.what)));
    }
    let help = if through_pipe {
        "read what a child writes before you wait for its end: get() before join(), communicate() instead of wait()"
    } else {
        "a process must not need what the one that waits for its end holds"
    };
    line(0, &format!("  help: {help}"));
}

struct Writer<'look> {
    out: &'look mut String,
    process: &'look Process,
    style: Style,
}

impl Writer<'_> {
    fn process(&mut self, is_alone: bool) {
        let process = self.process;
        let count = process.threads.len();
        let title = format!("process {}", process.pid);
        let age = process.age.map_or(String::new(), |age| format!("   up {}", duration(age)));
        let native = match process.native_threads.len() {
            0 => String::new(),
            native => format!(" and {native} native"),
        };
        let command = shorten(&clean(&process.command.join(" ")), 100);
        let runs = process.version.as_ref().map_or("no Python".into(), |version| format!("CPython {version}"));
        self.line(&format!(
            "{}  {command}   {runs}{age}   {}{native}",
            self.paint(BOLD, &title),
            plural(count, "thread"),
        ));
        for deadlock in &process.deadlocks {
            self.deadlock(deadlock);
        }
        for circle in &process.task_deadlocks {
            self.task_deadlock(circle);
        }
        for index in &process.orphans {
            self.orphan(*index);
        }
        self.summary();
        for note in &process.notes {
            self.line(&format!("note: {}", clean(note)));
        }
        for group in groups(process) {
            self.out.push('\n');
            self.thread(&group);
        }
        self.tasks();
        if is_alone && !process.children.is_empty() {
            self.out.push('\n');
            self.line(&format!(
                "it has started {} (--tree looks into them too)",
                plural(process.children.len(), "process")
            ));
            for child in &process.children {
                self.line(&format!("    {}  {}", child.pid, shorten(&clean(&child.command.join(" ")), 100)));
            }
        }
    }

    fn deadlock(&mut self, deadlock: &Deadlock) {
        let members: Vec<&Thread> = deadlock.threads.iter().map(|index| &self.process.threads[*index]).collect();
        let (word, who) = match (deadlock.is_timed, members.len()) {
            (false, 1) => ("deadlock", "a thread waits for itself".into()),
            (false, count) => ("deadlock", format!("{count} threads wait for each other")),
            (true, 1) => ("standstill", "a thread waits for itself, until a timeout ends it".into()),
            (true, count) => ("standstill", format!("{count} threads wait for each other, until a timeout ends it")),
        };
        let sure = if deadlock.is_certain { "" } else { " (not certain: they have run while they were looked at)" };
        self.line(&format!("{}: {who}{sure}", self.paint(RED, word)));
        let width = members.iter().map(|thread| clean(&thread.name).chars().count()).max().unwrap_or(0) + 2;
        for (index, thread) in members.iter().enumerate() {
            let Some(wait) = &thread.wait else { continue };
            let before = members[(index + members.len() - 1) % members.len()];
            // What the one before it in the circle wants of this one.
            let wanted = before.wait.as_ref().filter(|wait| wait.kind != "thread");
            let holds = wanted.map_or(String::new(), |wanted| {
                let taken = wanted.holder.as_ref().and_then(|holder| holder.place.as_ref());
                let taken = taken.map_or(String::new(), |place| format!(" (taken {})", self.place(place)));
                format!("holds {}{taken} and ", self.what(wanted))
            });
            let wanted_at =
                wait.place.as_ref().map_or(String::new(), |place| format!(" (wanted {})", self.place(place)));
            let name = format!("\"{}\"", clean(&thread.name));
            self.line(&format!("  {name:width$} {holds}waits for {}{wanted_at}", self.what(wait)));
        }
        let help = if deadlock.is_timed {
            "a shorter timeout hides it; take the locks in the same order everywhere"
        } else if members.iter().any(|thread| thread.wait.as_ref().is_some_and(|wait| wait.kind == "thread")) {
            "a thread that is to be joined must not need what the joining one holds: release it before join()"
        } else if members.len() == 1 {
            "use an RLock, or do not take the lock again in what is called while it is held"
        } else {
            "take the locks in the same order everywhere"
        };
        self.line(&format!("  help: {help}"));
    }

    fn task_deadlock(&mut self, circle: &[usize]) {
        let process = self.process;
        let who = plural(circle.len(), "task");
        self.line(&format!("{}: {who} of asyncio wait for each other", self.paint(RED, "deadlock")));
        for (index, task) in circle.iter().enumerate() {
            let (task, next) = (&process.tasks[*task], &process.tasks[circle[(index + 1) % circle.len()]]);
            let place = task.frames.first().map_or(String::new(), |place| format!(" (wanted {})", self.place(place)));
            self.line(&format!("  \"{}\" waits for the end of \"{}\"{place}", clean(&task.name), clean(&next.name)));
        }
        self.line(
            "  help: a task must not await one that awaits it: give them a future or a queue to pass results through",
        );
    }

    fn orphan(&mut self, index: usize) {
        let thread = &self.process.threads[index];
        let Some(wait) = &thread.wait else { return };
        self.line(&format!(
            "{}: \"{}\" waits for {}, whose owner is not there",
            self.paint(RED, "lost lock"),
            clean(&thread.name),
            self.what(wait)
        ));
        self.line(
            "  help: it has ended without releasing it, or it has stayed in the process that this one was forked from",
        );
    }

    fn summary(&mut self) {
        let process = self.process;
        let counts =
            State::ALL.map(|state| (state, process.threads.iter().filter(|thread| thread.state == state).count()));
        let words: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| format!("{count} {}", self.paint(colour_of(*state), title_of(*state))))
            .collect();
        let holders: Vec<String> = process
            .threads
            .iter()
            .filter(|thread| thread.holds_gil)
            .map(|thread| format!("\"{}\"", clean(&thread.name)))
            .collect();
        let gil = match (&process.version, holders.is_empty()) {
            (None, _) => String::new(),
            (_, true) => "   GIL: nobody".into(),
            (_, false) => format!("   GIL: {}", holders.join(", ")),
        };
        let verdict =
            if process.deadlocks.is_empty() && process.orphans.is_empty() { "no deadlock seen   " } else { "" };
        self.line(&format!("{verdict}{}{gil}", words.join(", ")));
    }

    fn thread(&mut self, group: &[&Thread]) {
        let Some(thread) = group.first().copied() else { return };
        let names: Vec<String> = group.iter().map(|thread| format!("\"{}\"", clean(&thread.name))).collect();
        let who = match group {
            [_] => format!("{}  {}", self.paint(BOLD, &names[0]), thread.native_id),
            _ => {
                let shown = shorten(&names.join(", "), 90);
                format!("{}  {} alike", self.paint(BOLD, &shown), plural(group.len(), "thread"))
            }
        };
        let daemon = if thread.is_daemon == Some(true) { "  daemon" } else { "" };
        let interpreter = match thread.interpreter {
            0 => String::new(),
            other => format!("  interpreter {other}"),
        };
        let gil = if thread.holds_gil { "  holds the GIL" } else { "" };
        self.line(&format!("{who}{daemon}{interpreter}  {}{gil}", self.doing(thread)));
        for held in &thread.holds {
            let place = held.place.as_ref().map_or(String::new(), |place| format!(" (taken {})", self.place(place)));
            self.line(&format!("  holds {}{place}", clean(&held.what)));
        }
        // One of which something could not be read is not sure for that alone.
        if !thread.is_certain && thread.is_whole {
            self.line(&self.paint(DIM, "  it ran while it was looked at: the stack may be mixed from several moments"));
        }
        self.rows(&thread.frames);
        if thread.frames.is_empty() && thread.is_whole && self.process.version.is_some() {
            self.line("    no Python function");
        }
        if !thread.is_whole {
            self.line("    … and what could not be read");
        }
    }

    fn tasks(&mut self) {
        let process = self.process;
        if process.tasks.is_empty() {
            return;
        }
        self.out.push('\n');
        self.line(&format!("asyncio: {} not done", plural(process.tasks.len(), "task")));
        for task in &process.tasks {
            let awaits = task
                .awaits
                .as_ref()
                .map_or(String::new(), |awaits| format!(" for task \"{}\"", clean(&process.tasks[*awaits].name)));
            let name = self.paint(BOLD, &format!("\"{}\"", clean(&task.name)));
            self.line(&format!("{name}  {}{awaits}", task.state));
            self.rows(&task.frames);
        }
    }

    fn doing(&self, thread: &Thread) -> String {
        let state = self.paint(colour_of(thread.state), title_of(thread.state));
        let Some(wait) = &thread.wait else { return state };
        let held_by = match &wait.holder {
            Some(holder) if wait.kind != "thread" => match holder.thread {
                Some(index) => {
                    let name = clean(&self.process.threads[index].name);
                    let taken =
                        holder.place.as_ref().map_or(String::new(), |place| format!(" (taken {})", self.place(place)));
                    format!(", held by \"{name}\"{taken}")
                }
                None => ", whose owner is not there".into(),
            },
            None if wait.kind == "lock" => ", holder not known (nobody is seen inside of a `with` for it)".into(),
            _ => String::new(),
        };
        let timed = if wait.is_timed { ", with a timeout" } else { "" };
        let verb = match thread.state {
            State::Blocked | State::Waiting | State::Io => "",
            _ => ": ",
        };
        let head = if verb.is_empty() { self.paint(colour_of(thread.state), "waits for") } else { state };
        format!("{head}{}{}{held_by}{timed}", if verb.is_empty() { " " } else { verb }, self.what(wait))
    }

    /// What is waited for, with its address where it has no name.
    fn what(&self, wait: &Wait) -> String {
        match (&wait.name, wait.object) {
            (None, Some(at)) if !matches!(wait.kind, "thread" | "idle-worker") => {
                format!("{} at {at:#x}", clean(&wait.what))
            }
            _ => clean(&wait.what),
        }
    }

    fn rows(&mut self, frames: &[Place]) {
        let rows = collapse(without_start(frames));
        let places: Vec<String> = rows.iter().map(|(place, _)| self.place(place)).collect();
        let width = places.iter().map(|place| place.chars().count()).max().unwrap_or(0).min(60);
        for ((place, times), at) in rows.iter().zip(&places) {
            let again = if *times > 1 { format!("   {times} times") } else { String::new() };
            let row = format!("    {at:width$}   {}{again}", clean(&place.function));
            let row = if is_library(&place.file) { self.paint(DIM, &row) } else { row };
            self.line(&row);
        }
    }

    fn place(&self, place: &Place) -> String {
        place_in(self.process, place)
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.style.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&mut self, text: &str) {
        writeln!(self.out, "{text}").expect("a String takes everything");
    }
}

/// `file:line`, short: the file as seen from the process' directory, or from its library.
#[must_use]
pub fn place_in(process: &Process, place: &Place) -> String {
    let file = place.file.as_str();
    let directory = process.directory.as_deref();
    let own = directory.and_then(|directory| file.strip_prefix(directory)?.strip_prefix('/'));
    let short = own.or_else(|| in_library(file)).unwrap_or(file);
    format!("{}:{}", clean(short), place.line)
}

fn title_of(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Native => "running native code",
        State::Gil => "waiting for the GIL",
        State::Blocked => "blocked",
        State::Waiting => "waiting",
        State::Sleeping => "sleeping",
        State::Io => "in I/O",
        State::Stopped => "stopped by a signal",
        State::Unknown => "unknown",
    }
}

fn colour_of(state: State) -> &'static str {
    match state {
        State::Running | State::Native => GREEN,
        State::Gil => YELLOW,
        State::Blocked | State::Stopped => RED,
        _ => BOLD,
    }
}

/// Threads that do the same and hold nothing are told together, where the first of them stands.
fn groups(process: &Process) -> Vec<Vec<&Thread>> {
    let is_alone = |thread: &Thread| !thread.holds.is_empty() || thread.holds_gil || !thread.is_certain;
    let mut groups: Vec<Vec<&Thread>> = Vec::new();
    for thread in &process.threads {
        let alike =
            groups.iter_mut().find(|group| !is_alone(thread) && !is_alone(group[0]) && are_alike(group[0], thread));
        match alike {
            Some(group) => group.push(thread),
            None => groups.push(vec![thread]),
        }
    }
    groups
        .into_iter()
        .flat_map(
            |group| if group.len() < FEW { group.into_iter().map(|one| vec![one]).collect() } else { vec![group] },
        )
        .collect()
}

fn are_alike(one: &Thread, other: &Thread) -> bool {
    let wait = |thread: &Thread| {
        thread.wait.as_ref().map(|wait| (wait.kind, wait.what.clone(), wait.object, wait.holder.clone()))
    };
    one.state == other.state
        && one.is_daemon == other.is_daemon
        && one.interpreter == other.interpreter
        && one.frames == other.frames
        && wait(one) == wait(other)
}

/// Without the functions with which every thread starts.
#[must_use]
pub fn without_start(frames: &[Place]) -> &[Place] {
    let is_start = |place: &Place| {
        let name = place.function.as_str();
        (in_library(&place.file) == Some("threading.py") || place.file.ends_with("raddle/threading.py"))
            && matches!(name, "Thread.run" | "Thread._bootstrap_inner" | "Thread._bootstrap")
    };
    let kept = frames.iter().rposition(|place| !is_start(place)).map_or(frames.len(), |last| last + 1);
    &frames[..kept]
}

/// A function that calls itself again and again at one line stands once, with how many times.
fn collapse(frames: &[Place]) -> Vec<(&Place, usize)> {
    let mut rows: Vec<(&Place, usize)> = Vec::new();
    for frame in frames {
        match rows.last_mut() {
            Some((last, times)) if *last == frame => *times += 1,
            _ => rows.push((frame, 1)),
        }
    }
    rows
}

fn in_library(file: &str) -> Option<&str> {
    let (_, rest) = file.split_once("/lib/python3.")?;
    let (_, rest) = rest.split_once('/')?;
    let packages = rest.strip_prefix("site-packages/").or_else(|| rest.strip_prefix("dist-packages/"));
    Some(packages.unwrap_or(rest))
}

/// Whether a file is one of Python's own, or no file.
#[must_use]
pub fn is_library(file: &str) -> bool {
    file.contains("/lib/python3.") || file.starts_with('<')
}

/// Control characters as escapes.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // Also what turns the direction of writing, and so the words behind it.
        if character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let kept: String = text.chars().take(longest - 1).collect();
    format!("{kept}…")
}

/// So many of something that a regular English noun names: `1 thread`, `8 threads`, `2 processes`.
#[must_use]
pub fn plural(count: usize, one: &str) -> String {
    match one.strip_suffix("ss") {
        Some(_) if count != 1 => format!("{count} {one}es"),
        _ if count != 1 => format!("{count} {one}s"),
        _ => format!("1 {one}"),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_a_terminal_are_shown_and_not_obeyed() {
        assert_eq!(clean("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn a_file_of_the_library_is_named_as_it_is_imported() {
        assert_eq!(in_library("/usr/lib/python3.11/threading.py"), Some("threading.py"));
        assert_eq!(in_library("/x/lib/python3.12/site-packages/a/b.py"), Some("a/b.py"));
        assert_eq!(in_library("/srv/app/main.py"), None);
    }

    #[test]
    fn recursion_is_told_in_one_row() {
        let place = |line| Place { function: "f".into(), file: "a.py".into(), line };
        let frames = [place(3), place(2), place(2), place(2), place(9)];
        let rows: Vec<_> = collapse(&frames).into_iter().map(|(place, times)| (place.line, times)).collect();
        assert_eq!(rows, [(3, 1), (2, 3), (9, 1)]);
    }
}
