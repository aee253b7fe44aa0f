//! A trace for Perfetto (<https://ui.perfetto.dev>): `TrackEvent`s in protobuf.
//!
//! ```text
//! findings
//! ├ error[deadlock]             an instant at its moment, or a slice over the whole session
//! └ note                        what could not be seen
//! crawler.py 4711               instants of its findings
//! ├ MainThread                  slices, one per span; findings about it; flows where something was passed on
//! ├ worker-0
//! ├ threads running             counter
//! └ threads waiting for the GIL counter
//! ```
//!
//! The numbers of the fields are those of `protos/perfetto/trace` in Perfetto's repository, which promises to keep them.
//!
//! # Rules
//!
//! 1. There is one sequence. Names, and what slices say, are interned in its first packet, and every event needs that packet. Names of which there may be
//!    many are interned right before the first event that has them.
//! 2. A track's events are in the order of their times; an end is before a beginning at the same time.
//! 3. Nothing that is said has control characters in it: the processor ends a text at a zero.
//! 4. A flow connects two instants at the moments of the pass, so that it needs no slice to begin or end there.

mod protobuf;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write};

use crate::quick::QuickMap;
use crate::report::{Finding, Report};
use crate::session::{Nanos, PlaceId, Process, Session, Span, State, ThingId};
use crate::words::{arguments, clean, place, plural, program, thread_name, unit};
use crate::write::PIECE;
use crate::write::words::{level_name, state_name};

use protobuf::{Message, varint_length};

/// Makes a trace.
#[must_use]
pub fn perfetto(session: &Session, report: &Report) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_perfetto(session, &|| report, &mut bytes).expect("a Vec takes everything");
    bytes
}

/// Writes a trace piece by piece. The report is asked for when the session has been written: it can be made meanwhile.
///
/// # Errors
///
/// What is written to fails.
pub fn write_perfetto<'r>(session: &Session, report: &dyn Fn() -> &'r Report, out: &mut dyn Write) -> io::Result<()> {
    let mut trace = Trace {
        session,
        out,
        outcome: Ok(()),
        packets: Message::new(),
        room: Message::new(),
        tracks: Tracks::new(session),
        next_flow: 1,
        names: HashMap::new(),
        strings: HashMap::new(),
    };
    trace.names();
    trace.clock();
    trace.parentage();
    trace.tracks();
    for (index, process) in session.processes.iter().enumerate() {
        trace.slices(index, process);
        trace.counters(index, process);
    }
    trace.passes();
    let report = report();
    for (index, finding) in report.findings.iter().enumerate() {
        trace.summary(index, finding);
        trace.finding(finding);
    }
    trace.notes(report.findings.len());
    trace.pass_on();
    trace.outcome
}

/// Fields of `Trace` and `TracePacket`.
mod packet {
    pub(super) const PACKET: u32 = 1;
    pub(super) const PROCESS_TREE: u32 = 2;
    pub(super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const SEQUENCE: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const INTERNED_DATA: u32 = 12;
    pub(super) const SEQUENCE_FLAGS: u32 = 13;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;
    pub(super) const STATE_CLEARED: u64 = 1;
    pub(super) const NEEDS_STATE: u64 = 2;
}

/// Fields of `ClockSnapshot`, and the clocks: that of the packets, and that of the wall.
mod clock {
    pub(super) const CLOCK: u32 = 1;
    pub(super) const ID: u32 = 1;
    pub(super) const TIMESTAMP: u32 = 2;
    pub(super) const BOOT: u64 = 6;
    pub(super) const REAL: u64 = 1;
}

/// Fields of `ProcessTree`.
mod tree {
    pub(super) const PROCESS: u32 = 1;
    pub(super) const PID: u32 = 1;
    pub(super) const PARENT_PID: u32 = 2;
    pub(super) const COMMAND: u32 = 3;
}

/// Fields of `TrackEvent`.
mod event {
    pub(super) const ANNOTATION: u32 = 4;
    pub(super) const TYPE: u32 = 9;
    pub(super) const NAME_ID: u32 = 10;
    pub(super) const TRACK: u32 = 11;
    pub(super) const CATEGORY_ID: u32 = 3;
    pub(super) const NAME: u32 = 23;
    pub(super) const COUNTER_VALUE: u32 = 30;
    pub(super) const FLOW: u32 = 47;
    pub(super) const FLOW_ENDS: u32 = 48;
    pub(super) const BEGIN: u64 = 1;
    pub(super) const END: u64 = 2;
    pub(super) const INSTANT: u64 = 3;
    pub(super) const COUNTER: u64 = 4;
}

/// Fields of `TrackDescriptor` and of the descriptors in it.
mod track {
    pub(super) const UUID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const PROCESS: u32 = 3;
    pub(super) const THREAD: u32 = 4;
    pub(super) const PARENT: u32 = 5;
    pub(super) const COUNTER: u32 = 8;
    pub(super) const CHILDREN: u32 = 11;
    pub(super) const RANK: u32 = 12;
    pub(super) const BY_RANK: u64 = 3;
    pub(super) const PROCESS_PID: u32 = 1;
    pub(super) const PROCESS_NAME: u32 = 6;
    pub(super) const THREAD_PID: u32 = 1;
    pub(super) const THREAD_TID: u32 = 2;
    pub(super) const THREAD_NAME: u32 = 5;
    pub(super) const COUNTER_UNIT_NAME: u32 = 6;
}

/// Fields of `InternedData`, of what is interned, and of `DebugAnnotation`.
mod interned {
    pub(super) const CATEGORIES: u32 = 1;
    pub(super) const EVENT_NAMES: u32 = 2;
    pub(super) const ANNOTATION_NAMES: u32 = 3;
    pub(super) const ANNOTATION_STRINGS: u32 = 29;
    pub(super) const ID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const ANNOTATION_NAME_ID: u32 = 1;
    pub(super) const ANNOTATION_STRING: u32 = 6;
    pub(super) const ANNOTATION_LIST: u32 = 12;
    pub(super) const ANNOTATION_STRING_ID: u32 = 17;
}

/// The keys of a slice's annotations, by their interned numbers from 1 on.
const KEYS: [&str; 9] = ["place", "function", "waits for", "held by", "made at", "help", "note", "to", "from"];
const PLACE: u64 = 1;
const FUNCTION: u64 = 2;
const WAITS_FOR: u64 = 3;
const HELD_BY: u64 = 4;
const MADE_AT: u64 = 5;
const HELP: u64 = 6;
const NOTE: u64 = 7;
const TO: u64 = 8;
const FROM: u64 = 9;

/// Categories of events, by their interned numbers from 1 on.
const CATEGORIES: [&str; 3] = ["state", "pass", "finding"];
const STATE: u64 = 1;
const PASS: u64 = 2;
const FINDING: u64 = 3;

/// Numbers of tracks. Everything has its own, whatever the kernel calls it: numbers of processes and threads are used again. They are small, since
/// every event has one.
struct Tracks {
    /// Of each process; its threads' are behind it.
    processes: Vec<u64>,
    /// Of the first finding; the others' are behind it, and then those of notes.
    remarks: u64,
}

const FINDINGS: u64 = 1;
const COUNTERS: u64 = 2;

impl Tracks {
    fn new(session: &Session) -> Self {
        let mut next = FINDINGS + 1;
        let processes = session.processes.iter().map(|process| {
            let this = next;
            next += 1 + COUNTERS + process.threads.len() as u64;
            this
        });
        Self { processes: processes.collect(), remarks: next }
    }

    fn remark(&self, index: usize) -> u64 {
        self.remarks + index as u64
    }

    fn process(&self, process: usize) -> u64 {
        self.processes[process]
    }

    fn counter(&self, process: usize, which: u64) -> u64 {
        self.processes[process] + 1 + which
    }

    fn thread(&self, process: usize, thread: usize) -> u64 {
        self.processes[process] + 1 + COUNTERS + thread as u64
    }
}

/// So many units of a finding are named: each of them has a track, which says so.
const MOST: usize = 20;

/// All that a slice of a thread says at its beginning.
type About = (State, Option<PlaceId>, Option<ThingId>, Option<u32>);

/// Who passed what on to whom, and whether that was its start.
type Passed = ((usize, usize), (usize, usize), Option<ThingId>, bool);

struct Trace<'a> {
    session: &'a Session,
    out: &'a mut dyn Write,
    /// The first failure of it, after which nothing more is written.
    outcome: io::Result<()>,
    /// What was not passed on yet.
    packets: Message,
    /// In which an event is put together that comes once.
    room: Message,
    tracks: Tracks,
    next_flow: u64,
    /// Names of events by their interned numbers, but for those of states.
    names: HashMap<String, u64>,
    /// Values of annotations, by their interned numbers: there may be a million slices with some hundred values.
    strings: HashMap<String, u64>,
}

impl Trace<'_> {
    fn packet(&mut self, packet: Message) {
        self.packets.add(packet::PACKET, &packet.uint(packet::SEQUENCE, 1));
    }

    fn pass_on(&mut self) {
        if self.outcome.is_ok() {
            self.outcome = self.out.write_all(self.packets.bytes());
        }
        self.packets.clear();
    }

    fn event(&mut self, at: Nanos, event: &Message) {
        self.event_of(at, &[event]);
    }

    /// A packet with an event of these parts.
    fn event_of(&mut self, at: Nanos, parts: &[&Message]) {
        let mut event = std::mem::replace(&mut self.room, Message::EMPTY);
        event.clear();
        prepare(&mut event, parts);
        self.prepared(at, &event);
        self.room = event;
    }

    /// A packet with an event that was prepared. There are a million of them: it is put together where it belongs.
    fn prepared(&mut self, at: Nanos, event: &Message) {
        self.packets.begin(packet::PACKET, 1 + varint_length(at) + event.len());
        self.packets.put_uint(packet::TIMESTAMP, at);
        self.packets.append(event);
        if self.packets.len() >= PIECE {
            self.pass_on();
        }
    }

    /// The interned number of an event's name.
    fn name(&mut self, name: String) -> u64 {
        let next = (State::ALL.len() + self.names.len()) as u64 + 1;
        match self.names.entry(name) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let data = Message::new().message(interned::EVENT_NAMES, &named(next, free.key()));
                free.insert(next);
                let packet = Message::new().message(packet::INTERNED_DATA, &data);
                self.packet(packet.uint(packet::SEQUENCE_FLAGS, packet::NEEDS_STATE));
                next
            }
        }
    }

    /// An annotation of which name and value are interned.
    fn annotation(&self, key: u64, value: &str) -> Message {
        let said = Message::new().uint(interned::ANNOTATION_NAME_ID, key);
        said.uint(interned::ANNOTATION_STRING_ID, self.strings[value])
    }

    /// The first packet: what is interned (rule 1).
    fn names(&mut self) {
        let mut data = Message::new();
        for (index, state) in State::ALL.into_iter().enumerate() {
            data = data.message(interned::EVENT_NAMES, &named(index as u64 + 1, state_name(state)));
        }
        for (index, key) in KEYS.iter().enumerate() {
            data = data.message(interned::ANNOTATION_NAMES, &named(index as u64 + 1, key));
        }
        for (index, category) in CATEGORIES.iter().enumerate() {
            data = data.message(interned::CATEGORIES, &named(index as u64 + 1, category));
        }
        for value in self.values() {
            let next = self.strings.len() as u64 + 1;
            if let Entry::Vacant(free) = self.strings.entry(value) {
                data = data.message(interned::ANNOTATION_STRINGS, &named(next, free.key()));
                free.insert(next);
            }
        }
        let packet = Message::new().message(packet::INTERNED_DATA, &data);
        self.packet(packet.uint(packet::SEQUENCE_FLAGS, packet::STATE_CLEARED));
    }

    /// What slices can say.
    fn values(&self) -> Vec<String> {
        let session = self.session;
        let places = session.places.iter().flat_map(|at| [place(session, at), clean(&at.function)]);
        let things = session.things.iter().map(|thing| clean(&thing.what));
        let threads = session.processes.iter().flat_map(|process| &process.threads).map(thread_name);
        places.chain(things).chain(threads).collect()
    }

    /// The session's clock begins at nought, and then it was so late on the wall.
    fn clock(&mut self) {
        let clock = |id: u64, at: Nanos| Message::new().uint(clock::ID, id).uint(clock::TIMESTAMP, at);
        let started = (self.session.started * 1e9) as Nanos;
        let clocks = Message::new()
            .message(clock::CLOCK, &clock(clock::BOOT, 0))
            .message(clock::CLOCK, &clock(clock::REAL, started));
        self.packet(Message::new().uint(packet::TIMESTAMP, 0).message(packet::CLOCK_SNAPSHOT, &clocks));
    }

    /// Who has started whom, with which arguments. The processor calls a process by the first word of its command line, and passes over one without.
    fn parentage(&mut self) {
        let processes = &self.session.processes;
        let mut tree = Message::new();
        for process in processes {
            let parent = process.parent.and_then(|index| processes.get(index)).map_or(0, |parent| parent.pid);
            let one = Message::new().int(tree::PID, process.pid.into()).int(tree::PARENT_PID, parent.into());
            let one = one.string(tree::COMMAND, &process_name(process));
            let one = arguments(&process.command).iter().fold(one, |one, word| one.string(tree::COMMAND, &clean(word)));
            tree = tree.message(tree::PROCESS, &one);
        }
        self.packet(Message::new().uint(packet::TIMESTAMP, 0).message(packet::PROCESS_TREE, &tree));
    }

    fn tracks(&mut self) {
        let findings = Message::new().uint(track::UUID, FINDINGS).string(track::NAME, "findings");
        self.descriptor(&findings.uint(track::CHILDREN, track::BY_RANK));
        for (index, process) in self.session.processes.iter().enumerate() {
            let pid = i64::from(process.pid);
            let inner = Message::new().int(track::PROCESS_PID, pid).string(track::PROCESS_NAME, &process_name(process));
            let uuid = self.tracks.process(index);
            self.descriptor(&Message::new().uint(track::UUID, uuid).message(track::PROCESS, &inner));
            for (number, thread) in process.threads.iter().enumerate() {
                let name = thread_name(thread);
                let inner = Message::new()
                    .int(track::THREAD_PID, pid)
                    .int(track::THREAD_TID, i64::from(thread.native_id))
                    .string(track::THREAD_NAME, &name);
                let outer =
                    Message::new().uint(track::UUID, self.tracks.thread(index, number)).uint(track::PARENT, uuid);
                self.descriptor(&outer.string(track::NAME, &name).message(track::THREAD, &inner));
            }
            for (which, (name, unit)) in
                (0..).zip([("threads running", "running"), ("threads waiting for the GIL", "waiting")])
            {
                let inner = Message::new().string(track::COUNTER_UNIT_NAME, unit);
                let outer =
                    Message::new().uint(track::UUID, self.tracks.counter(index, which)).uint(track::PARENT, uuid);
                self.descriptor(&outer.string(track::NAME, name).message(track::COUNTER, &inner));
            }
        }
    }

    fn descriptor(&mut self, descriptor: &Message) {
        self.packet(Message::new().message(packet::TRACK_DESCRIPTOR, descriptor));
    }

    fn slices(&mut self, index: usize, process: &Process) {
        for (number, thread) in process.threads.iter().enumerate() {
            let uuid = self.tracks.thread(index, number);
            let end = prepared(&[&Message::new().uint(event::TYPE, event::END).uint(event::TRACK, uuid)]);
            // Most slices say what one before has said.
            let mut said: QuickMap<About, Message> = QuickMap::default();
            for span in &thread.spans {
                let about = (span.state, span.place, span.thing, span.holder);
                let begin = said.entry(about).or_insert_with(|| prepared(&[&self.beginning(uuid, process, span)]));
                self.prepared(span.from, begin);
                self.prepared(span.until, &end);
            }
        }
    }

    fn beginning(&self, uuid: u64, process: &Process, span: &Span) -> Message {
        let session = self.session;
        let mut begin = Message::new()
            .uint(event::TYPE, event::BEGIN)
            .uint(event::TRACK, uuid)
            .uint(event::NAME_ID, span.state as u64 + 1)
            .uint(event::CATEGORY_ID, STATE);
        let place_at = |id: Option<PlaceId>| id.and_then(|id| session.places.get(id as usize));
        let mut say = |key: u64, value: &str| begin.add(event::ANNOTATION, &self.annotation(key, value));
        if let Some(at) = place_at(span.place) {
            say(PLACE, &place(session, at));
            say(FUNCTION, &clean(&at.function));
        }
        if let Some(thing) = span.thing.and_then(|id| session.things.get(id as usize)) {
            say(WAITS_FOR, &clean(&thing.what));
            if let Some(made) = place_at(thing.made) {
                say(MADE_AT, &place(session, made));
            }
        }
        if let Some(holder) = span.holder.and_then(|index| process.threads.get(index as usize)) {
            say(HELD_BY, &thread_name(holder));
        }
        begin
    }

    /// How many threads run, and how many wait for the GIL, whenever that changes.
    fn counters(&mut self, index: usize, process: &Process) {
        let of = |state: State| match state {
            State::Running | State::Native => Some(0),
            State::Gil => Some(1),
            _ => None,
        };
        let mut steps: Vec<(Nanos, usize, i64)> = Vec::new();
        for span in process.threads.iter().flat_map(|thread| &thread.spans) {
            if let Some(which) = of(span.state) {
                steps.extend([(span.from, which, 1), (span.until, which, -1)]);
            }
        }
        if !steps.is_empty() {
            // A viewer's time begins with the first value: let that be where the session begins.
            steps.push((0, 0, 0));
        }
        steps.sort_unstable_by_key(|step| step.0);
        let (mut counts, mut shown) = ([0, 0], [None, Some(0)]);
        let tracks = [0, 1].map(|which| {
            Message::new().uint(event::TYPE, event::COUNTER).uint(event::TRACK, self.tracks.counter(index, which))
        });
        for (position, &(at, which, step)) in steps.iter().enumerate() {
            counts[which] += step;
            // One value for a moment, and none where a thread has only gone from one span into the next.
            if steps.get(position + 1).is_some_and(|next| next.0 == at) {
                continue;
            }
            for which in [0, 1] {
                if Some(counts[which]) != shown[which] {
                    shown[which] = Some(counts[which]);
                    let value = Message::new().int(event::COUNTER_VALUE, counts[which]);
                    self.event_of(at, &[&tracks[which], &value]);
                }
            }
        }
    }

    fn passes(&mut self) {
        let session = self.session;
        let thread = |(process, thread): (usize, usize)| session.processes.get(process)?.threads.get(thread);
        let mut said: QuickMap<Passed, [Message; 2]> = QuickMap::default();
        for pass in &session.passes {
            let (Some(giver), Some(taker)) = (thread(pass.from), thread(pass.to)) else { continue };
            let is_start = pass.until == taker.began;
            let both = said.entry((pass.from, pass.to, pass.thing, is_start)).or_insert_with(|| {
                let (from, to) = (thread_name(giver), thread_name(taker));
                let [given, taken] = match pass.thing.and_then(|id| session.things.get(id as usize)) {
                    Some(thing) => [format!("passes on {}", thing.what), format!("gets {}", thing.what)],
                    None if is_start => [format!("starts {to}"), format!("is started by {from}")],
                    None => [format!("wakes {to}"), format!("is woken by {from}")],
                };
                [self.instant(&given, pass.from, (TO, &to)), self.instant(&taken, pass.to, (FROM, &from))]
            });
            let flow = self.next_flow;
            self.next_flow += 1;
            let ends = [(pass.at, event::FLOW), (pass.until.max(pass.at), event::FLOW_ENDS)];
            for (said, (at, field)) in both.iter().zip(ends) {
                self.event_of(at, &[said, &Message::new().fixed64(field, flow)]);
            }
        }
    }

    /// An end of a pass, but for its flow.
    fn instant(&mut self, name: &str, (process, thread): (usize, usize), (key, value): (u64, &str)) -> Message {
        let name = self.name(clean(name));
        Message::new()
            .uint(event::TYPE, event::INSTANT)
            .uint(event::TRACK, self.tracks.thread(process, thread))
            .uint(event::NAME_ID, name)
            .uint(event::CATEGORY_ID, PASS)
            .message(event::ANNOTATION, &self.annotation(key, value))
    }

    /// The track of a finding, where it is seen whatever it is about.
    fn summary(&mut self, index: usize, finding: &Finding) {
        let name = format!("{}[{}]", level_name(finding.level), finding.id);
        let said = self.said_of(finding);
        self.remark(index, &name, &finding.title, finding.at, &said);
    }

    /// What could not be seen, behind so many findings.
    fn notes(&mut self, findings: usize) {
        let dropped = self.session.dropped;
        let dropped = (dropped > 0).then(|| {
            let events = plural(usize::try_from(dropped).unwrap_or(usize::MAX), "event");
            format!("{events} were not recorded: there was no room for them")
        });
        for (index, note) in self.session.notes.iter().cloned().chain(dropped).enumerate() {
            self.remark(findings + index, "note", &note, None, &Message::new());
        }
    }

    /// A track with one event: an instant, or a slice over the whole session.
    fn remark(&mut self, index: usize, name: &str, text: &str, at: Option<Nanos>, said: &Message) {
        let uuid = self.tracks.remark(index);
        let outer = Message::new().uint(track::UUID, uuid).uint(track::PARENT, FINDINGS);
        self.descriptor(&outer.string(track::NAME, name).uint(track::RANK, index as u64));
        let mut begin = Message::new()
            .uint(event::TYPE, if at.is_some() { event::INSTANT } else { event::BEGIN })
            .uint(event::TRACK, uuid)
            .string(event::NAME, &clean(text))
            .uint(event::CATEGORY_ID, FINDING);
        begin.append(said);
        self.event(at.unwrap_or(0), &begin);
        if at.is_none() {
            let end = Message::new().uint(event::TYPE, event::END).uint(event::TRACK, uuid);
            self.event(self.session.length, &end);
        }
    }

    /// A finding on the tracks of whom it is about: at its moment, or where they begin.
    fn finding(&mut self, finding: &Finding) {
        let said = self.said_of(finding);
        for about in &finding.units {
            let Some(process) = self.session.processes.get(about.process) else { continue };
            let thread = about.thread.and_then(|number| Some((number, process.threads.get(number)?)));
            let (uuid, began) = match thread {
                Some((number, thread)) => (self.tracks.thread(about.process, number), thread.began),
                None => (self.tracks.process(about.process), process.began),
            };
            let mut instant = Message::new()
                .uint(event::TYPE, event::INSTANT)
                .uint(event::TRACK, uuid)
                .string(event::NAME, &clean(&format!("{}: {}", finding.id, finding.title)))
                .uint(event::CATEGORY_ID, FINDING);
            instant.append(&said);
            self.event(finding.at.unwrap_or(began), &instant);
        }
    }

    /// What is said of a finding on the track of each of its units.
    fn said_of(&self, finding: &Finding) -> Message {
        let places = finding.labels.iter().filter_map(|label| {
            let at = self.session.places.get(label.place as usize)?;
            Some(format!("{} {}", place(self.session, at), label.text))
        });
        let mut notes = Vec::new();
        if finding.units.len() > 1 {
            let named: Vec<String> = finding.units.iter().take(MOST).map(|one| unit(self.session, *one)).collect();
            let rest = match finding.units.len() - named.len() {
                0 => String::new(),
                rest => format!(" and {rest} more"),
            };
            notes.push(format!("about {}{rest}", named.join(", ")));
        }
        notes.extend(finding.notes.iter().cloned());
        let said = annotate(Message::new(), PLACE, &places.collect::<Vec<_>>());
        annotate(annotate(said, NOTE, &notes), HELP, &finding.help)
    }
}

/// Adds all that stands in the packet of an event behind its time.
fn prepare(packet: &mut Message, parts: &[&Message]) {
    packet.begin(packet::TRACK_EVENT, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| packet.append(part));
    packet.put_uint(packet::SEQUENCE, 1);
    packet.put_uint(packet::SEQUENCE_FLAGS, packet::NEEDS_STATE);
}

/// The same, to be used many times.
fn prepared(parts: &[&Message]) -> Message {
    let mut packet = Message::new();
    prepare(&mut packet, parts);
    packet
}

/// A text that is interned, under its number.
fn named(id: u64, name: &str) -> Message {
    Message::new().uint(interned::ID, id).string(interned::NAME, name)
}

fn process_name(process: &Process) -> String {
    if process.command.is_empty() { "process".into() } else { program(&process.command) }
}

/// Says something, or several things: of those with the same name a viewer shows the last one, so that they become a list.
fn annotate(event: Message, key: u64, values: &[String]) -> Message {
    let named = Message::new().uint(interned::ANNOTATION_NAME_ID, key);
    let annotation = match values {
        [] => return event,
        [value] => named.string(interned::ANNOTATION_STRING, &clean(value)),
        values => values.iter().fold(named, |list, value| {
            list.message(interned::ANNOTATION_LIST, &Message::new().string(interned::ANNOTATION_STRING, &clean(value)))
        }),
    };
    event.message(event::ANNOTATION, &annotation)
}
