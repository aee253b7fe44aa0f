//! The trace is decoded with the field numbers of Perfetto's own `.proto` files.

use std::collections::{BTreeMap, HashMap};

use raddle_trace::{Session, State, perfetto};

/// A decoded message: its fields' values by number, in the order in which they came.
#[derive(Debug, Default)]
struct Decoded(BTreeMap<u32, Vec<Value>>);

#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Decoded {
    fn of(mut bytes: &[u8]) -> Self {
        let mut fields: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)),
                1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Value::Bytes(take(&mut bytes, length).to_vec())
                }
                wire => panic!("wire type {wire}"),
            };
            fields.entry((key >> 3) as u32).or_default().push(value);
        }
        Self(fields)
    }

    fn all(&self, field: u32) -> impl Iterator<Item = &Value> {
        self.0.get(&field).into_iter().flatten()
    }

    fn number(&self, field: u32) -> Option<u64> {
        self.all(field).next().map(|value| match value {
            Value::Number(number) => *number,
            Value::Bytes(_) => panic!("field {field} is no number"),
        })
    }

    fn messages(&self, field: u32) -> Vec<Self> {
        self.all(field).map(|value| Self::of(bytes(value))).collect()
    }

    fn message(&self, field: u32) -> Option<Self> {
        self.messages(field).into_iter().next()
    }

    fn text(&self, field: u32) -> Option<String> {
        self.all(field).next().map(|value| String::from_utf8(bytes(value).to_vec()).unwrap())
    }
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Bytes(bytes) => bytes,
        Value::Number(_) => panic!("no bytes"),
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number without an end");
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

/// What a viewer makes of the trace.
#[derive(Debug, Default)]
struct Seen {
    /// Name and parent by the track's number.
    tracks: HashMap<u64, (String, Option<u64>)>,
    threads: HashMap<u64, (u64, u64)>,
    processes: HashMap<u64, u64>,
    counters: Vec<u64>,
    ranks: HashMap<u64, u64>,
    /// Track, from, until, name.
    slices: Vec<(u64, u64, u64, String)>,
    /// What each slice says, in their order.
    said: Vec<Vec<String>>,
    instants: Vec<(u64, u64, String)>,
    values: HashMap<u64, Vec<(u64, u64)>>,
    flows: HashMap<u64, Vec<(u64, u64)>>,
    ended_flows: usize,
}

fn see(trace: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let (mut names, mut strings) = (HashMap::new(), HashMap::new());
    let mut open: HashMap<u64, (u64, String)> = HashMap::new();
    let mut last: HashMap<u64, u64> = HashMap::new();
    for (index, packet) in Decoded::of(trace).messages(1).into_iter().enumerate() {
        assert_eq!(packet.number(10), Some(1), "one sequence");
        if let Some(data) = packet.message(12) {
            let flags = if index == 0 { 1 } else { 2 };
            assert_eq!(
                packet.number(13),
                Some(flags),
                "the first names clear what was before, the others come to them"
            );
            for (known, field) in [(&mut strings, 29), (&mut names, 2)] {
                for one in data.messages(field) {
                    let before = known.insert(one.number(1).unwrap(), one.text(2).unwrap());
                    assert_eq!(before, None, "a number is given once");
                }
            }
        }
        if let Some(track) = packet.message(60) {
            let uuid = track.number(1).unwrap();
            let thread = track.message(4);
            let process = track.message(3);
            let name = track.text(2).or_else(|| process.as_ref()?.text(6));
            assert!(seen.tracks.insert(uuid, (name.unwrap(), track.number(5))).is_none(), "track {uuid} twice");
            seen.ranks.extend(track.number(12).map(|rank| (uuid, rank)));
            if let Some(thread) = thread {
                seen.threads.insert(uuid, (thread.number(1).unwrap(), thread.number(2).unwrap()));
            }
            if let Some(process) = process {
                seen.processes.insert(uuid, process.number(1).unwrap());
            }
            if let Some(counter) = track.message(8) {
                assert!(["running", "waiting"].map(Some).contains(&counter.text(6).as_deref()), "what it counts");
                seen.counters.push(uuid);
            }
        }
        let Some(event) = packet.message(11) else { continue };
        assert_eq!(packet.number(13), Some(2), "it needs the names");
        let (at, track) = (packet.number(8).unwrap(), event.number(11).unwrap());
        assert!(seen.tracks.contains_key(&track), "track {track} was not described");
        let name = event.text(23).or_else(|| names.get(&event.number(10)?).cloned());
        let said: Vec<String> = event
            .messages(4)
            .into_iter()
            .flat_map(|said| if said.messages(12).is_empty() { vec![said] } else { said.messages(12) })
            .map(|said| said.text(6).unwrap_or_else(|| strings[&said.number(17).unwrap()].clone()))
            .collect();
        match event.number(9).unwrap() {
            1 => {
                assert!(last.insert(track, at).is_none_or(|before| before <= at), "slices of a track are in order");
                seen.said.push(said);
                assert!(open.insert(track, (at, name.unwrap())).is_none(), "slices of a track do not overlap");
            }
            2 => {
                let (from, name) = open.remove(&track).unwrap();
                last.insert(track, at);
                seen.slices.push((track, from, at, name));
            }
            3 => seen.instants.push((track, at, name.unwrap())),
            4 => seen.values.entry(track).or_default().push((at, event.number(30).unwrap())),
            other => panic!("event of type {other}"),
        }
        for value in event.all(47).chain(event.all(48)) {
            let Value::Number(flow) = value else { panic!("a flow is a number") };
            seen.flows.entry(*flow).or_default().push((track, at));
        }
        seen.ended_flows += event.all(48).count();
    }
    assert!(open.is_empty(), "every slice ends");
    seen
}

fn running(session: &Session, process: usize, at: u64) -> u64 {
    let spans = session.processes[process].threads.iter().flat_map(|thread| &thread.spans);
    let runs = |state| matches!(state, State::Running | State::Native);
    spans.filter(|span| span.from <= at && at < span.until && runs(span.state)).count() as u64
}

#[test]
fn a_viewer_sees_what_is_in_the_session() {
    let (session, report) = super::crawler();
    let seen = see(&perfetto(&session, &report));
    let threads: Vec<_> = session
        .processes
        .iter()
        .flat_map(|process| process.threads.iter().map(move |thread| (process, thread)))
        .collect();

    assert_eq!(seen.processes.len(), session.processes.len());
    assert_eq!(seen.threads.len(), threads.len());
    assert_eq!(seen.counters.len(), 2 * session.processes.len());
    for (process, thread) in &threads {
        let (uuid, _) =
            seen.threads.iter().find(|(_, ids)| **ids == (process.pid.into(), thread.native_id.into())).unwrap();
        let (name, parent) = &seen.tracks[uuid];
        assert_eq!((name, seen.processes[&parent.unwrap()]), (&thread.name, u64::from(process.pid)));
        let slices: Vec<_> = seen.slices.iter().filter(|slice| slice.0 == *uuid).collect();
        assert_eq!(slices.len(), thread.spans.len());
        for (span, (_, from, until, name)) in thread.spans.iter().zip(slices) {
            assert_eq!((span.from, span.until), (*from, *until));
            assert_eq!(name == "blocked on a lock", span.state == State::Lock);
        }
    }

    assert_eq!((seen.flows.len(), seen.ended_flows), (session.passes.len(), session.passes.len()));
    for ends in seen.flows.values() {
        assert!(ends.len() == 2 && ends[0].0 != ends[1].0 && ends[0].1 <= ends[1].1, "{ends:?}");
    }
    assert!(
        seen.said
            .iter()
            .any(|said| said[..] == ["crawler.py:16", "settle", "Lock 'index'", "crawler.py:4", "worker-1"])
    );
    let said: usize =
        report.findings.iter().map(|finding| finding.units.len() + usize::from(finding.at.is_some())).sum();
    assert_eq!(seen.instants.len(), said + 2 * session.passes.len());
    let deadlock = report.findings.iter().find(|finding| finding.id == "deadlock").unwrap();
    assert!(seen.instants.iter().any(|(_, at, name)| name.starts_with("deadlock: ") && Some(*at) == deadlock.at));
    // Each has a track of its own besides, the gravest first.
    for (rank, finding) in report.findings.iter().enumerate() {
        let ranked = seen.ranks.iter().find(|(track, at)| **at == rank as u64 && seen.tracks[*track].1 == Some(1));
        let track = *ranked.unwrap().0;
        assert!(seen.tracks[&track].0.ends_with(&format!("[{}]", finding.id)), "{:?}", seen.tracks[&track]);
        match finding.at {
            Some(at) => assert!(seen.instants.contains(&(track, at, finding.title.clone()))),
            None => assert!(seen.slices.contains(&(track, 0, session.length, finding.title.clone()))),
        }
    }
}

#[test]
fn counters_have_the_value_of_every_moment() {
    let (session, report) = super::crawler();
    let seen = see(&perfetto(&session, &report));
    for (index, process) in session.processes.iter().enumerate() {
        let of = |uuid: &&u64| {
            let (name, parent) = &seen.tracks[*uuid];
            name == "threads running" && seen.processes[&parent.unwrap()] == u64::from(process.pid)
        };
        let values = &seen.values[seen.counters.iter().find(of).unwrap()];
        for pair in values.windows(2) {
            assert!(pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1, "{pair:?}");
            assert_eq!(running(&session, index, pair[0].0), pair[0].1);
            assert_eq!(running(&session, index, pair[1].0 - 1), pair[0].1);
        }
        assert_eq!(values[0].0, 0, "they begin with the session");
        assert_eq!(values.last().unwrap().1, 0, "nobody runs at the end");
    }
}

#[test]
fn who_started_whom_and_the_time_on_the_wall_are_told() {
    let (session, report) = super::crawler();
    let trace = Decoded::of(&perfetto(&session, &report));
    let packets = trace.messages(1);
    let told: Vec<_> =
        packets.iter().filter_map(|packet| packet.message(2)).flat_map(|tree| tree.messages(1)).collect();
    assert_eq!(told.len(), session.processes.len());
    for (told, process) in told.iter().zip(&session.processes) {
        assert_eq!(told.number(1), Some(process.pid.into()));
        assert_eq!(told.number(2), process.parent.map_or(Some(0), |parent| Some(session.processes[parent].pid.into())));
        let words: Vec<_> = told.all(3).map(|word| String::from_utf8(bytes(word).to_vec()).unwrap()).collect();
        assert_eq!(words, process.command[1..], "without the interpreter, by which a viewer would call it");
    }
    let clocks = packets.iter().find_map(|packet| packet.message(6)).unwrap().messages(1);
    let clocks: Vec<_> = clocks.iter().map(|clock| (clock.number(1).unwrap(), clock.number(2).unwrap())).collect();
    assert_eq!(clocks, [(6, 0), (1, 1_764_000_000_000_000_000)]);
}

#[test]
fn no_text_has_a_zero_in_it() {
    let session = super::story::hostile();
    let trace = perfetto(&session, &raddle_trace::analyse(&session));
    let seen = see(&trace);
    let said = seen.said.iter().flatten().chain(seen.tracks.values().map(|(name, _)| name));
    let said = said.chain(seen.slices.iter().map(|slice| &slice.3)).chain(seen.instants.iter().map(|one| &one.2));
    let said: Vec<_> = said.filter(|text| text.contains("script")).collect();
    assert!(said.len() > 10 && said.iter().all(|text| text.contains("\\u{0}")), "{said:?}");
}
