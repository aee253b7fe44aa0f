//! What the page shows, as JSON: the session and the report, but for the spans and the passes, of which there is only how many there are.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::report::Report;
use crate::session::{Gil, Label, Nanos, PlaceId, Process, Session, State, Thread};
use crate::source;
use crate::words::{ending, file, program, thread_name};
use crate::write::words::state_name;

/// All but what there may be a million of.
#[derive(Serialize)]
struct Data<'a> {
    version: u32,
    states: [Value; State::ALL.len()],
    program: String,
    command: &'a [String],
    directory: &'a str,
    cores: u32,
    started: f64,
    length: Nanos,
    ending: String,
    period: Nanos,
    dropped: u64,
    notes: &'a [String],
    places: Value,
    things: Value,
    processes: Vec<ProcessData<'a>>,
    passes: usize,
    report: &'a Report,
}

#[derive(Serialize)]
struct ProcessData<'a> {
    pid: u32,
    parent: Option<usize>,
    program: String,
    command: &'a [String],
    python: Option<&'a str>,
    began: Nanos,
    ended: Option<Nanos>,
    ending: Option<String>,
    cpu: Nanos,
    gil: Option<Gil>,
    recorded: bool,
    threads: Vec<ThreadData<'a>>,
}

#[derive(Serialize)]
struct ThreadData<'a> {
    name: String,
    tid: u32,
    daemon: Option<bool>,
    function: Option<PlaceId>,
    began: Nanos,
    ended: Option<Nanos>,
    cpu: Nanos,
    queued: Nanos,
    exception: Option<&'a str>,
    spans: usize,
}

pub(super) fn data(session: &Session, report: &Report) -> String {
    let data = Data {
        version: Session::VERSION,
        states: State::ALL.map(|state| json!({"id": state, "name": state_name(state)})),
        program: program(&session.command),
        command: &session.command,
        directory: &session.directory,
        cores: session.cores,
        started: session.started,
        length: length(session),
        ending: ending(session.ending),
        period: session.period,
        dropped: session.dropped,
        notes: &session.notes,
        places: places(session, report),
        things: things(session),
        processes: session.processes.iter().map(process).collect(),
        passes: session.passes.len(),
        report,
    };
    serde_json::to_string(&data).expect("plain data with text keys is always JSON")
}

/// Until when there is something to show.
fn length(session: &Session) -> u64 {
    let spans = session.processes.iter().flat_map(|process| &process.threads).filter_map(|thread| thread.spans.last());
    spans.map(|span| span.until).fold(session.length, u64::max)
}

fn places(session: &Session, report: &Report) -> Value {
    let source = excerpts(session, report);
    let places = session.places.iter().enumerate().map(|(id, place)| {
        let mut shown = json!([place.function, file(session, &place.file), place.line]);
        if let (Some(lines), Some(row)) = (source.get(&id), shown.as_array_mut()) {
            row.push(json!(lines));
        }
        shown
    });
    places.collect()
}

/// The source lines around what a finding names, by the index of the place: the page is read where the program is not.
fn excerpts(session: &Session, report: &Report) -> BTreeMap<usize, Vec<(u32, String)>> {
    let named = report.findings.iter().flat_map(|finding| &finding.labels);
    let named: BTreeSet<usize> = named.map(|Label { place, .. }| *place as usize).collect();
    let mut wanted: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let around = |line: u32| line.saturating_sub(1).max(1)..=line.saturating_add(1);
    for place in named.iter().filter_map(|id| session.places.get(*id)) {
        wanted.entry(&place.file).or_default().extend(around(place.line));
    }
    let read =
        |(file, lines): (&'_ str, BTreeSet<u32>)| (file.to_owned(), source::lines(session, file, lines.into_iter()));
    let read: BTreeMap<String, BTreeMap<u32, String>> = wanted.into_iter().map(read).collect();
    let mut found = BTreeMap::new();
    for id in named {
        let Some(place) = session.places.get(id) else { continue };
        let Some(lines) = read.get(&place.file).filter(|lines| lines.contains_key(&place.line)) else { continue };
        let shown = around(place.line).filter_map(|line| Some((line, lines.get(&line)?.clone())));
        found.insert(id, shown.collect());
    }
    found
}

fn things(session: &Session) -> Value {
    let shown = session.things.iter().map(|thing| {
        json!({
            "kind": thing.kind, "what": thing.what, "process": thing.process, "made": thing.made,
            "taken": thing.taken, "contended": thing.contended, "held": thing.held,
        })
    });
    shown.collect()
}

fn process(process: &Process) -> ProcessData<'_> {
    ProcessData {
        pid: process.pid,
        parent: process.parent,
        program: program(&process.command),
        command: &process.command,
        python: process.python.as_deref(),
        began: process.began,
        ended: process.ended,
        ending: process.ending.map(|_| ending(process.ending)),
        cpu: process.cpu,
        gil: process.gil,
        recorded: process.is_recorded,
        threads: process.threads.iter().map(thread).collect(),
    }
}

fn thread(thread: &Thread) -> ThreadData<'_> {
    ThreadData {
        name: thread_name(thread),
        tid: thread.native_id,
        daemon: thread.is_daemon,
        function: thread.function,
        began: thread.began,
        ended: thread.ended,
        cpu: thread.cpu,
        queued: thread.queued,
        exception: thread.exception.as_deref(),
        spans: thread.spans.len(),
    }
}
