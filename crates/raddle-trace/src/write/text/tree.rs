//! Processes and their threads, and what each did with its time.

use std::collections::BTreeMap;

use crate::analyse::{Shares, shares};
use crate::session::{Ending, Nanos, Process, Session, State, Thread};
use crate::words::{arguments, clean, duration, percent, plural, program, shorten, signal, thread_name};

use super::bar::{bar, in_words, legend};
use super::{BOLD, DIM, Page, pad};

/// So many threads of a process have a line, and so many processes.
const THREADS: usize = 12;
const PROCESSES: usize = 4;

/// So many lines of threads at all.
const LINES: usize = 20;

pub(super) fn lines(page: &Page<'_>) -> Vec<String> {
    let session = page.session;
    let mut order: Vec<(usize, &Process)> = session.processes.iter().enumerate().collect();
    // The first process first, then those that did most.
    order.sort_by_key(|(index, process)| (*index > 0, std::cmp::Reverse(weight(session, process)), *index));
    let shown = order.len().min(PROCESSES);
    let mut out = Vec::new();
    let mut all = Shares::default();
    let mut room = LINES;
    for (index, process) in order.iter().take(shown) {
        out.push(head(page, *index, process));
        let most = room.saturating_sub(shown).clamp(1, THREADS);
        let threads = threads(page, process, most, &mut all);
        room = room.saturating_sub(threads.len());
        out.extend(threads);
    }
    if order.len() > shown {
        out.push(others(page, &order[shown..]));
    }
    let legend = legend(page, &all);
    out.extend((!legend.is_empty()).then_some(legend));
    out
}

/// `process 4711  crawler.py   2 cores, 51 % busy · GIL held 98 %`
fn head(page: &Page<'_>, index: usize, process: &Process) -> String {
    let session = page.session;
    let life = life(session, process);
    let mut facts = Vec::new();
    if index == 0 && session.cores > 0 {
        let busy = busy(session) / (life as f64).max(1.0) / f64::from(session.cores);
        facts.push(format!("{}, {} busy", plural(session.cores as usize, "processor"), percent(busy.min(1.0))));
    } else if index > 0 {
        facts.push(match process.cpu {
            0 => format!("there for {}", duration(life)),
            cpu => format!("{} of processor time in {}", duration(cpu), duration(life)),
        });
        facts.extend(odd_ending(process));
    }
    if let Some(held) = gil_held(session, process) {
        facts.push(format!("GIL held {}", percent(held)));
    }
    if let Some(version) = process.python.as_deref().filter(|_| index == 0) {
        facts.push(format!("CPython {}", clean(version)));
    }
    let title = page.paint(BOLD, &format!("process {}", process.pid));
    let name = shorten(&command(process), 40);
    page.cut(&format!("{title}  {name}   {}", facts.join(" · ")), page.width())
}

/// `crawler.py --depth 3`: what it runs, without the interpreter and the directory.
fn command(process: &Process) -> String {
    let rest = arguments(&process.command).iter().map(|word| clean(word));
    [program(&process.command)].into_iter().chain(rest).collect::<Vec<_>>().join(" ")
}

fn odd_ending(process: &Process) -> Option<String> {
    match process.ending? {
        Ending::Exit(0) | Ending::Unknown => None,
        Ending::Exit(code) => Some(format!("exit code {code}")),
        Ending::Signal(number) => Some(signal(number)),
    }
}

fn life(session: &Session, process: &Process) -> Nanos {
    process.ended.unwrap_or(session.length).saturating_sub(process.began)
}

/// Nanoseconds on processors, of all processes.
fn busy(session: &Session) -> f64 {
    session.processes.iter().map(|process| weight(session, process) as f64).sum()
}

/// Nanoseconds on processors: as counted, or else, where nothing was, as seen.
fn weight(session: &Session, process: &Process) -> Nanos {
    let is_counted = session.processes.iter().any(|process| process.cpu > 0);

    let seen = |thread: &Thread| {
        let own = shares(thread, session.length);
        own.nanos(State::Running).saturating_add(own.nanos(State::Native))
    };
    if is_counted { process.cpu } else { process.threads.iter().map(seen).fold(0, Nanos::saturating_add) }
}

/// Of the life of the process, as measured, or else as much as some thread was seen to run Python.
fn gil_held(session: &Session, process: &Process) -> Option<f64> {
    let is_free = process.python.as_deref()?.ends_with('t');
    let gil = process.gil.filter(|_| !is_free)?;
    Some((gil.held as f64 / (life(session, process) as f64).max(1.0)).min(1.0))
}

fn threads(page: &Page<'_>, process: &Process, most: usize, all: &mut Shares) -> Vec<String> {
    let session = page.session;
    let until = process.ended.unwrap_or(Nanos::MAX);
    let mut rows: Vec<(usize, &Thread, Shares)> =
        process.threads.iter().enumerate().map(|(index, thread)| (index, thread, shares(thread, until))).collect();
    rows.iter().for_each(|(_, _, own)| all.add(own));
    // The main thread, then those with most time in states that say something.
    let says = |own: &Shares| own.seen().saturating_sub(own.nanos(State::Unknown));
    // One of a library's that only rests is not worth a line.
    let is_told = |thread: &Thread, own: &Shares| {
        own.seen() > 0 && !(thread.is_foreign && own.fraction_of(&[State::Event, State::Unknown]) >= 1.0)
    };
    let mut shown = rows.iter().filter(|(_, thread, own)| is_told(thread, own)).count();
    if rows.len() > most || shown < rows.len() {
        rows.sort_by_key(|(index, thread, own)| {
            (!is_told(thread, own), *index > 0, std::cmp::Reverse(says(own)), *index)
        });
        let room = if shown.max(1) < rows.len() { most.saturating_sub(1) } else { most };
        shown = shown.min(room).max(1).min(rows.len());
    }
    let label = |thread: &Thread| {
        let function = thread.function.and_then(|place| session.places.get(place as usize));
        let function = function.map_or("", |place| place.function.as_str());
        let name = thread_name(thread);
        // Names that `threading` makes up hold the function already.
        if function.is_empty() || name.contains(function) || !thread.is_python {
            name
        } else {
            format!("{name} {}", clean(function))
        }
    };
    let labels: Vec<String> = rows.iter().take(shown).map(|(_, thread, _)| shorten(&label(thread), 28)).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let bars = (page.width() / 4).saturating_sub(width / 4).clamp(10, 40);
    let mut out = Vec::new();
    for (at, ((_, _, own), label)) in rows.iter().zip(&labels).enumerate() {
        let branch = if at + 1 == rows.len() { "└" } else { "├" };
        let line = format!("{branch} {} {}  {}", pad(label, width), bar(page, own, bars), in_words(own, 4));
        out.push(page.cut(&line, page.width()));
    }
    if rows.len() > shown {
        out.push(page.cut(&format!("└ {}", rest(page, &rows[shown..])), page.width()));
    }
    out
}

/// `and 188 more like worker-0: running 2 %, queue 97 %`
fn rest(page: &Page<'_>, rows: &[(usize, &Thread, Shares)]) -> String {
    let mut sum = Shares::default();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (_, thread, own) in rows {
        sum.add(own);
        let kind: String = thread_name(thread).chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        *names.entry(kind).or_default() += 1;
    }
    let likest = names.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| count * 2 > rows.len());
    let like = likest.map_or(String::new(), |(kind, _)| {
        let mut name = kind;
        while name.contains("##") {
            name = name.replace("##", "#");
        }
        format!(" such as {}", name.replace('#', "N"))
    });
    let words = match in_words(&sum, 4) {
        words if words.is_empty() => ", gone before they were seen to do anything".into(),
        words => format!(": {words}"),
    };
    page.paint(DIM, &format!("and {} more{like}{words}", rows.len()))
}

fn others(page: &Page<'_>, rest: &[(usize, &Process)]) -> String {
    let session = page.session;
    let cpu: Nanos = rest.iter().map(|(_, process)| weight(session, process)).fold(0, Nanos::saturating_add);
    let threads: usize = rest.iter().map(|(_, process)| process.threads.len()).sum();
    let text = format!(
        "and {} with {}, {} of processor time",
        plural(rest.len(), "more process"),
        plural(threads, "thread"),
        duration(cpu)
    );
    page.paint(DIM, &text)
}
