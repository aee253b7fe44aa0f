//! All that is known about one row: the stack of a thread, those who wait for a lock.

use raddle_probe::{Look, Place, Process, Thread, clean, is_library, place_in, without_start};

use crate::history::{History, ThreadId};
use crate::locks::things;
use crate::row::{Subject, held_by, plural, span, word};
use crate::verdict::find;

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Dim,
}

/// A line of a page.
pub(crate) type Line = (Tone, String);

/// A title, and what there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
}

/// What is known about it, if it is still there.
pub(crate) fn page(subject: &Subject, look: &Look, history: &History) -> Option<Page> {
    let of = |pid: &u32| look.processes.iter().find(|process| process.pid == *pid);
    match subject {
        Subject::Process(pid) => Some(of_process(of(pid)?)),
        Subject::Thread(id) => find(look, *id).map(|(process, thread)| of_thread(process, thread, history)),
        Subject::Native(pid) => Some(of_native(of(pid)?)),
        Subject::Thing(..) => of_thing(subject, look, history),
        Subject::Task(pid, name, which) => of_task(of(pid)?, name, *which),
    }
}

fn of_process(process: &Process) -> Page {
    let mut lines = vec![(Tone::Plain, clean(&process.command.join(" ")))];
    let runs =
        process.version.as_ref().map_or("no Python that can be seen".into(), |version| format!("CPython {version}"));
    lines.push((Tone::Plain, runs));
    if let Some(directory) = &process.directory {
        lines.push((Tone::Plain, format!("in {}", clean(directory))));
    }
    lines.push((Tone::Plain, plural(process.threads.len(), "thread")));
    if !process.tasks.is_empty() {
        lines.push((Tone::Plain, format!("{} of asyncio", plural(process.tasks.len(), "task"))));
    }
    lines.extend(process.notes.iter().map(|note| (Tone::Strong, format!("note: {}", clean(note)))));
    Page { title: format!("process {}", process.pid), lines }
}

fn of_native(process: &Process) -> Page {
    let lines = process.native_threads.iter().map(|thread| {
        let doing = if thread.is_running { "running" } else { "at rest" };
        (Tone::Plain, format!("{}  {}  {doing}", thread.native_id, clean(&thread.name)))
    });
    Page { title: format!("threads of {} that Python does not know", process.pid), lines: lines.collect() }
}

fn of_thread(process: &Process, thread: &Thread, history: &History) -> Page {
    let since = history.of((process.pid, thread.native_id)).map(|past| history.at() - past.since);
    let since = since.map_or(String::new(), |since| format!(" for {}", span(since)));
    let mut lines = vec![(Tone::Strong, format!("{}{since}", word(thread.state)))];
    if let Some(wait) = &thread.wait {
        let timed = if wait.is_timed { ", with a timeout" } else { "" };
        lines.push((Tone::Strong, format!("waits for {}{timed}", clean(&wait.what))));
        if let Some(holder) = held_by(process, wait) {
            let place = wait.holder.as_ref().and_then(|holder| holder.place.as_ref());
            let taken = place.map_or(String::new(), |place| format!(" (taken {})", place_in(process, place)));
            lines.push((Tone::Strong, format!("  {holder}{taken}")));
        }
    }
    for held in &thread.holds {
        let taken = held.place.as_ref().map_or(String::new(), |place| format!(" (taken {})", place_in(process, place)));
        lines.push((Tone::Strong, format!("holds {}{taken}", clean(&held.what))));
    }
    if thread.holds_gil {
        lines.push((Tone::Strong, "holds the GIL".into()));
    }
    if !thread.is_certain && thread.is_whole {
        lines.push((Tone::Dim, "it ran while it was looked at: the stack may be mixed from several moments".into()));
    }
    lines.extend(stack(process, without_start(&thread.frames)));
    if !thread.is_whole {
        lines.push((Tone::Dim, "… and what could not be read".into()));
    }
    let daemon = if thread.is_daemon == Some(true) { ", a daemon" } else { "" };
    let title = format!("\"{}\"  {}{daemon}, of process {}", clean(&thread.name), thread.native_id, process.pid);
    Page { title, lines }
}

fn of_task(process: &Process, name: &str, which: usize) -> Option<Page> {
    let task = process.tasks.iter().filter(|task| task.name == name).nth(which)?;
    let awaits = task.awaits.and_then(|at| process.tasks.get(at));
    let awaits = awaits.map_or(String::new(), |awaits| format!(" for task \"{}\"", clean(&awaits.name)));
    let mut lines = vec![(Tone::Strong, format!("{}{awaits}", task.state))];
    lines.extend(stack(process, &task.frames));
    Some(Page { title: format!("task \"{}\" of process {}", clean(name), process.pid), lines })
}

fn of_thing(subject: &Subject, look: &Look, history: &History) -> Option<Page> {
    let thing = things(look, history, "").into_iter().find(|thing| thing.subject == *subject)?;
    let mut lines = Vec::new();
    if thing.holder.is_empty() {
        lines.push((Tone::Plain, "who could end this is not known".into()));
    } else {
        let taken = if thing.taken.is_empty() { String::new() } else { format!(" (taken {})", thing.taken) };
        lines.push((Tone::Strong, format!("held by {}{taken}", thing.holder)));
    }
    for id in &thing.waiters {
        lines.extend(find(look, *id).map(|(process, thread)| (Tone::Plain, waiter(process, thread, *id, history))));
    }
    Some(Page { title: format!("{} of process {}", thing.what, subject.process()), lines })
}

fn waiter(process: &Process, thread: &Thread, id: ThreadId, history: &History) -> String {
    let since = history.of(id).map_or(String::new(), |past| format!(" for {}", span(history.at() - past.since)));
    let place = thread.wait.as_ref().and_then(|wait| wait.place.as_ref());
    let wanted = place.map_or(String::new(), |place| format!(" (wanted {})", place_in(process, place)));
    format!("\"{}\" waits{since}{wanted}", clean(&thread.name))
}

/// The innermost function first; one that calls itself again and again at one line stands once.
fn stack(process: &Process, frames: &[Place]) -> Vec<Line> {
    let mut rows: Vec<(&Place, usize)> = Vec::new();
    for frame in frames {
        match rows.last_mut() {
            Some((last, times)) if *last == frame => *times += 1,
            _ => rows.push((frame, 1)),
        }
    }
    let places: Vec<String> = rows.iter().map(|(place, _)| place_in(process, place)).collect();
    let width = places.iter().map(|place| place.chars().count()).max().unwrap_or(0).min(50);
    let lines = rows.iter().zip(&places).map(|((place, times), at)| {
        let again = if *times > 1 { format!("   {times} times") } else { String::new() };
        let tone = if is_library(&place.file) { Tone::Dim } else { Tone::Plain };
        (tone, format!("{at:width$}  {}{again}", clean(&place.function)))
    });
    lines.collect()
}

/// What keys do.
pub(crate) fn help() -> Page {
    let keys = [
        ("↑ ↓  PgUp PgDn  Home End", "select a row; in a page: scroll"),
        ("Enter", "all about the selected row: stack, locks, who waits"),
        ("Tab", "threads, locks, tasks of asyncio"),
        ("c s n w", "sort by CPU, state, name, wait; again: as they have begun"),
        ("t", "processes with their threads, or all threads in one list"),
        ("/", "show only what contains a text; Esc ends it"),
        ("space", "freeze, and go on"),
        ("d", "write a dump to a file"),
        ("q  Esc", "quit"),
    ];
    let mut lines: Vec<Line> = keys.iter().map(|(key, does)| (Tone::Plain, format!("{key:26}{does}"))).collect();
    lines.push((Tone::Plain, String::new()));
    let mark = |state| format!("{} {}", crate::row::glyph(state), word(state));
    for states in raddle_probe::State::ALL.chunks(5) {
        lines.push((Tone::Plain, states.iter().map(|state| mark(*state)).collect::<Vec<_>>().join("   ")));
    }
    lines.push((Tone::Dim, "GIL: share of the looks of the last 10 s at which the thread waited for it".into()));
    Page { title: "help".into(), lines }
}

#[cfg(test)]
mod tests {
    use raddle_probe::{Holder, State};

    use super::*;
    use crate::history::tests::{look, process, thread, waits};

    #[test]
    fn the_page_of_a_thread_has_its_wait_its_locks_and_its_stack() {
        let mut one = waits(thread(5, "worker", State::Blocked), "lock", "Lock 'x'", 16);
        let place = |function: &str, line| {
            let mut place = Place::default();
            (place.function, place.file, place.line) = (function.into(), "bank.py".into(), line);
            place
        };
        one.frames = vec![place("deep", 3), place("deep", 3), place("run", 9)];
        let mut holder = Holder::default();
        (holder.thread, holder.place) = (Some(0), Some(place("take", 4)));
        one.wait.as_mut().expect("it waits").holder = Some(holder);
        let seen = look(vec![process(1, vec![one])]);
        let found = page(&Subject::Thread((1, 5)), &seen, &History::default()).expect("it is there");
        let said: Vec<_> = found.lines.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            said,
            [
                "blocked",
                "waits for Lock 'x'",
                "  held by \"worker\" (taken bank.py:4)",
                "bank.py:3  deep   2 times",
                "bank.py:9  run"
            ]
        );
        let found = page(&Subject::Thing(1, 16), &seen, &History::default()).expect("it is waited for");
        assert_eq!(found.lines[0].1, "held by \"worker\" (taken bank.py:4)");
        assert_eq!(page(&Subject::Thread((1, 6)), &seen, &History::default()), None);
    }
}
