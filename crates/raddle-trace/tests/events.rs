//! Files of events: what a file says arrives in a session, and no file makes the reader panic.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::prelude::*;
use raddle_trace::events::format::{
    BLOCK_SIZE, MAGIC, VERSION, block, blocks_at, child, end, flag, header, lock, record, wait,
};
use raddle_trace::events::{Events, merge};
use raddle_trace::{Process, Session, Span, State, Thread};

/// A file that is being made.
struct Writer {
    bytes: Vec<u8>,
    used: usize,
}

const LOCKS: usize = 4;

impl Writer {
    fn new(pid: u32) -> Self {
        let at = blocks_at(LOCKS);
        let mut writer = Self { bytes: vec![0; at + BLOCK_SIZE], used: at + block::HEAD };
        writer.bytes[..8].copy_from_slice(&MAGIC);
        for (at, value) in [
            (header::VERSION, VERSION),
            (header::PID, pid),
            (header::FLAGS, flag::LOCKS | flag::GIL),
            (header::BLOCK_SIZE, BLOCK_SIZE as u32),
            (header::BLOCK_COUNT, 1),
            (header::BLOCKS_USED, 1),
            (header::LOCK_COUNT, LOCKS as u32),
            (header::FIRST_ID, 1),
        ] {
            writer.half(at, value);
        }
        writer.word(header::BEGAN, 1000);
        writer
    }

    fn half(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn word(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    fn record(&mut self, kind: u8, flags: u8, a: u32, words: &[u64]) {
        let first = u64::from(kind) | u64::from(flags) << 8 | (words.len() as u64 + 1) << 16 | u64::from(a) << 32;
        for word in [first].iter().chain(words) {
            self.word(self.used, *word);
            self.used += 8;
        }
        let at = blocks_at(LOCKS);
        self.half(at + block::USED, (self.used - at) as u32);
    }

    fn text(&mut self, id: u32, text: &str) {
        let mut words = vec![text.len() as u64];
        for chunk in text.as_bytes().chunks(8) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            words.push(u64::from_ne_bytes(padded));
        }
        self.record(record::TEXT, 0, id, &words);
    }

    fn lock(&mut self, index: usize, object: u64, serial: u32, owner: u32) {
        let at = header::SIZE + index * lock::SIZE;
        self.word(at + lock::OBJECT, object);
        self.half(at + lock::SERIAL, serial);
        self.half(at + lock::OWNER, owner);
        self.word(at + lock::TAKEN, 7);
        self.half(at + lock::CONTENDED, 2);
        self.half(header::LOCKS_USED, index as u32 + 1);
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// A directory that is gone with its value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("raddle-events-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Thread 2 waited for lock 5, which thread 1 held, and then for the GIL; thread 1 waits still.
fn small() -> Writer {
    let mut writer = Writer::new(77);
    writer.text(1, "job.py");
    writer.text(2, "work");
    writer.record(record::PLACE, 0, 3, &[pair(1, 2), 12]);
    writer.record(record::STACK, 1, 4, &[3]);
    writer.record(record::THREAD, 0, 1, &[111, 1000, 77]);
    writer.record(record::THREAD, 0, 2, &[222, 1100, 78]);
    writer.record(record::WAIT, wait::GOT, 5, &[1200, 1500, pair(4, 1), pair(4, 1), 1400]);
    writer.record(record::GIL, 0, 1, &[1450, 1500, 1]);
    let at = blocks_at(LOCKS);
    writer.half(at + block::THREAD, 1);
    writer.half(at + block::WAIT, 6);
    writer.word(at + block::SINCE, 1600);
    writer.half(at + block::STACK, 4);
    writer.half(at + block::HOLDER, 2);
    writer.lock(0, 0x1000, 5, 0);
    writer.lock(1, 0x2000, 6, 2);
    writer
}

fn merged(writer: &Writer, mut session: Session, name: &str) -> Session {
    let directory = Directory::new(name);
    fs::write(directory.0.join("77-0.events"), &writer.bytes).unwrap();
    merge(&mut session, &directory.0, 1000);
    session
}

#[test]
fn a_file_becomes_a_session() {
    let session = merged(&small(), Session { length: 2000, ..Session::default() }, "alone");
    let process = &session.processes[0];
    assert!(process.is_recorded);
    assert_eq!(process.threads.iter().map(|thread| thread.native_id).collect::<Vec<_>>(), [77, 78]);
    let place = session.places.iter().position(|place| place.file == "job.py" && place.line == 12).unwrap() as u32;
    let state = |thread: usize| -> Vec<_> {
        process.threads[thread].spans.iter().map(|span| (span.from, span.until, span.state, span.holder)).collect()
    };
    assert_eq!(state(1), [(200, 450, State::Lock, Some(0)), (450, 500, State::Gil, Some(0))]);
    assert_eq!(state(0), [(600, 2000, State::Lock, Some(1))]);
    assert_eq!(process.threads[0].spans[0].place, Some(place));
    let thing = &session.things[process.threads[1].spans[0].thing.unwrap() as usize];
    assert_eq!((thing.object, thing.taken, thing.contended), (0x1000, 7, 2));
    let pass = session.passes[0];
    assert_eq!((pass.from, pass.at, pass.to, pass.until), ((0, 0), 400, (0, 1), 500));
}

/// Thread 2 has waited for lock 5 once and got it; while it waited for the GIL then, its wait for the lock was not yet over.
#[test]
fn a_wait_for_a_lock_that_ends_with_one_for_the_gil_is_one_wait() {
    let report = |contended, gil: &[[u64; 2]]| {
        let mut writer = small();
        for [from, until] in gil {
            writer.record(record::THREAD, 0, 2, &[222, 1100, 78]);
            writer.record(record::GIL, 0, 1, &[*from, *until, 1]);
        }
        writer.half(header::SIZE + lock::CONTENDED, contended);
        let session = merged(&writer, Session { length: 2000, ..Session::default() }, &format!("pieces-{contended}"));
        let thing = session.things.iter().position(|thing| thing.object == 0x1000).unwrap();
        let report = raddle_trace::analyse(&session);
        let cost = report.locks.into_iter().find(|cost| cost.thing as usize == thing).unwrap();
        (cost.waits, cost.waited, cost.longest)
    };
    // Its pieces are of 100, of 70 and of 39: what the last one lacks is a wait for the GIL.
    let cut = [[1300, 1340], [1410, 1411]];
    assert_eq!(report(1, &cut), (1, 209, 209));
    // As was counted, where it was.
    assert_eq!(report(0, &cut), (1, 209, 209));
    assert_eq!(report(3, &cut), (3, 209, 209));
}

#[test]
fn what_was_seen_from_outside_keeps_its_index() {
    let guessed = Span { from: 100, until: 900, state: State::Gil, place: Some(0), thing: None, holder: None };
    let thread = |native_id, spans| Thread { native_id, name: "seen".into(), began: 50, spans, ..Thread::default() };
    let session = Session {
        length: 2000,
        places: vec![raddle_trace::Place::default()],
        processes: vec![
            Process { pid: 1, ..Process::default() },
            Process { pid: 77, threads: vec![thread(79, vec![]), thread(78, vec![guessed])], ..Process::default() },
        ],
        ..Session::default()
    };
    let session = merged(&small(), session, "seen");
    assert_eq!(session.processes.len(), 2);
    let threads = &session.processes[1].threads;
    assert_eq!(threads.iter().map(|thread| thread.native_id).collect::<Vec<_>>(), [79, 78, 77]);
    let spans: Vec<_> = threads[1].spans.iter().map(|span| (span.from, span.until, span.state)).collect();
    // What was taken for a wait for the GIL, and was none, ran.
    let [lock, gil] = [(200, 450, State::Lock), (450, 500, State::Gil)];
    assert_eq!(spans, [(100, 200, State::Running), lock, gil, (500, 900, State::Running)]);
    // An exact span that has no place takes that of what it replaces.
    assert!(threads[1].spans[2].place.is_some());
}

#[test]
fn a_fork_that_was_not_seen_is_called_as_its_parent() {
    let mut writer = small();
    writer.half(header::PARENT_PID, 76);
    let parent = Process { pid: 76, command: vec!["job.py".into()], ..Process::default() };
    let session = Session { length: 2000, processes: vec![parent], ..Session::default() };
    let session = merged(&writer, session, "fork");
    let child = &session.processes[1];
    assert_eq!((child.pid, child.parent, child.command.as_slice()), (77, Some(0), &["job.py".to_owned()][..]));
}

#[test]
fn what_is_no_file_of_events_is_left_out_with_a_note() {
    let mut writer = small();
    writer.half(header::VERSION, VERSION + 1);
    let session = merged(&writer, Session::default(), "future");
    assert!(session.processes.is_empty());
    assert_eq!(session.notes.len(), 1);
}

/// Its process was killed, or looked at, between the making of the file and the end of its head.
#[test]
fn a_file_that_was_just_made_says_nothing() {
    for (name, bytes) in [("empty", Vec::new()), ("blank", vec![0; small().bytes.len()])] {
        let mut writer = small();
        writer.bytes = bytes;
        assert_eq!(merged(&writer, Session::default(), name), Session::default());
    }
    // Its writer says so when it could not go on.
    let mut failed = small();
    failed.bytes.truncate(1);
    assert_eq!(merged(&failed, Session::default(), "failed").notes.len(), 1);
}

/// One thread took lock 6 while it held lock 5, another one lock 5 while it held lock 6; and each lock is left held by a thread that has ended.
#[test]
fn what_is_passed_on_by_others_is_neither_leaked_nor_in_a_circle() {
    let kinds = |bits: [u8; 2], name| {
        let mut writer = small();
        writer.record(record::ORDER, 0, 5, &[pair(6, 1), 1550, pair(4, 4)]);
        writer.record(record::ORDER, 0, 6, &[pair(5, 2), 1560, pair(4, 4)]);
        writer.record(record::END, 0, 2, &[1600, 0]);
        for (index, bits) in bits.into_iter().enumerate() {
            writer.lock(index, 0x1000 * (index as u64 + 1), index as u32 + 5, 2);
            let at = header::SIZE + index * lock::SIZE;
            writer.half(at + lock::TAKEN_AT, 3);
            writer.bytes[at + lock::KIND] = lock::LOCK;
            writer.bytes[at + lock::FLAGS] = bits;
        }
        let session = merged(&writer, Session::default(), name);
        let mut kinds: Vec<String> = session.facts.into_iter().map(|fact| fact.kind).collect();
        kinds.sort();
        (kinds.join(" "), session.notes.len())
    };
    assert_eq!(kinds([0, 0], "own"), ("lock-leaked lock-leaked lock-order".into(), 0));
    assert_eq!(kinds([0, lock::IS_PASSED_ON], "passed"), ("lock-leaked".into(), 1));
}

const SECOND: u64 = 1_000_000_000;

/// How a thread of the program has ended, and who knows of it.
#[derive(Clone, Copy)]
struct Ending {
    /// Who calls `start`.
    caller: &'static str,
    /// The place of what runs, or 0.
    runs: u64,
    /// As START has it: a daemon, or none.
    daemon: u8,
    ended: u64,
    main_ended: u64,
    joins_seen: bool,
    /// By which function it was joined, if it was.
    joined: Option<&'static str>,
    /// By which handle it is known.
    handle: u64,
    has_met: bool,
    flags: u32,
}

const UNJOINED: Ending = Ending {
    caller: "job.py",
    runs: 6,
    daemon: 2,
    ended: 2 * SECOND,
    main_ended: 3 * SECOND,
    joins_seen: true,
    joined: None,
    handle: 0,
    has_met: false,
    flags: 0,
};

/// The kinds of facts that come of it.
fn told(ending: Ending) -> Vec<String> {
    static DIRECTORIES: AtomicU32 = AtomicU32::new(0);
    let mut writer = Writer::new(77);
    for (id, text) in [(1, ending.caller), (2, "<module>"), (3, "/lib/python3.11/threading.py"), (4, "Thread.start")] {
        writer.text(id, text);
    }
    writer.text(5, ending.joined.unwrap_or("Thread.join"));
    for (id, file, function) in [(6, 1, 2), (7, 3, 4), (8, 3, 5)] {
        writer.record(record::PLACE, 0, id, &[pair(file, function), 12]);
    }
    writer.record(record::STACK, 2, 9, &[pair(7, 6)]);
    writer.record(record::STACK, 1, 10, &[8]);
    writer.record(record::THREAD, 0, 1, &[111, 1000, 77]);
    writer.record(record::START, ending.daemon, 9, &[222, SECOND, SECOND + 9, ending.runs, ending.handle]);
    if ending.joined.is_some() {
        let number = if ending.handle == 0 { 2 } else { 0 };
        writer.record(record::JOINED, 0, number, &[ending.main_ended - 9, ending.handle, 10]);
    }
    if ending.has_met {
        writer.record(record::MET, 0, 2, &[SECOND + 9]);
    }
    writer.record(record::THREAD, 0, 2, &[222, SECOND + 5, 78]);
    let flags = if ending.joins_seen { end::JOINS_SEEN } else { 0 };
    writer.record(record::END, flags, 2, &[ending.ended, 1]);
    writer.word(header::MAIN_ENDED, ending.main_ended);
    writer.half(header::FLAGS, flag::LOCKS | ending.flags);
    let name = format!("ends-{}", DIRECTORIES.fetch_add(1, Relaxed));
    let session = merged(&writer, Session { length: 9 * SECOND, ..Session::default() }, &name);
    session.facts.into_iter().map(|fact| fact.kind).collect()
}

#[test]
fn a_thread_whose_end_nobody_waited_for_is_told() {
    assert_eq!(told(UNJOINED), ["never-joined"]);
    assert_eq!(told(Ending { joined: Some("_shutdown"), ..UNJOINED }), ["never-joined"], "the interpreter did");
    assert_eq!(told(Ending { joins_seen: false, handle: 5, ..UNJOINED }), ["never-joined"]);
    assert_eq!(told(Ending { runs: 0, ..UNJOINED }), ["never-joined"], "what runs may be written in C");
    assert_eq!(told(Ending { ended: 4 * SECOND, ..UNJOINED }), ["orphaned-thread"]);
    assert_eq!(told(Ending { ended: 4 * SECOND, has_met: true, ..UNJOINED }), ["orphaned-thread"]);
}

#[test]
fn a_thread_of_whose_end_somebody_knows_is_not_told() {
    let clean = [
        ("joined", Ending { joined: Some("Thread.join"), ..UNJOINED }),
        ("joined by its handle", Ending { joined: Some("Thread.join"), joins_seen: false, handle: 5, ..UNJOINED }),
        ("joined after the main thread", Ending { joined: Some("Thread.join"), ended: 4 * SECOND, ..UNJOINED }),
        ("it has met another one", Ending { has_met: true, ..UNJOINED }),
        ("a daemon", Ending { daemon: 1, ..UNJOINED }),
        ("no `Thread`", Ending { daemon: 0, ..UNJOINED }),
        ("a library's", Ending { caller: "/lib/python3.11/socketserver.py", ..UNJOINED }),
        ("it runs a function of a library", Ending { runs: 8, ..UNJOINED }),
        ("it ends as the program does", Ending { ended: 3 * SECOND + 1, ..UNJOINED }),
    ];
    let unknown = [
        ("joins are not seen", Ending { joins_seen: false, ..UNJOINED }),
        ("it may have said so", Ending { flags: flag::UNSEEN_MEANS, ..UNJOINED }),
        ("the program was killed", Ending { main_ended: 0, ..UNJOINED }),
    ];
    for (why, ending) in clean.into_iter().chain(unknown) {
        assert_eq!(told(ending), [""; 0], "{why}");
    }
}

fn read(bytes: &[u8]) -> Option<Events> {
    Events::from(bytes.len() as u64, |at, room| {
        let Some(part) = usize::try_from(at).ok().and_then(|at| bytes.get(at..at.checked_add(room.len())?)) else {
            return false;
        };
        room.copy_from_slice(part);
        true
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let mut bytes = bytes;
        if let Some(front) = bytes.get_mut(..8) {
            front.copy_from_slice(&MAGIC);
        }
        _ = read(&bytes);
    }

    #[test]
    fn no_damage_makes_the_reader_or_the_merge_panic(
        damage in prop::collection::vec((0_usize..blocks_at(LOCKS) + BLOCK_SIZE, any::<u8>()), 1..40),
        near in prop::collection::vec((0_usize..600, any::<u8>()), 0..40),
        length in 0_usize..BLOCK_SIZE,
    ) {
        let mut writer = small();
        for (at, byte) in damage {
            writer.bytes[at] = byte;
        }
        for (at, byte) in near {
            writer.bytes[blocks_at(LOCKS) + at] = byte;
        }
        let keep = writer.bytes.len() - length;
        writer.bytes.truncate(keep);
        let session = merged(&writer, Session::default(), "damaged");
        for thread in session.processes.iter().flat_map(|process| &process.threads) {
            for pair in thread.spans.windows(2) {
                prop_assert!(pair[0].until <= pair[1].from);
            }
        }
    }
}

#[test]
fn children_end_as_their_parents_were_told() {
    let seen = |pid, began| Process { pid, began, ..Process::default() };
    let session = Session {
        length: 9 * SECOND,
        // One number was given twice.
        processes: vec![seen(77, 0), seen(80, 1000), seen(81, 1000), seen(82, 1000), seen(80, 5 * SECOND)],
        ..Session::default()
    };
    let mut writer = small();
    writer.record(record::REAPED, child::BY_SIGNAL, 80, &[2 * SECOND, 11]);
    writer.record(record::REAPED, 0, 80, &[6 * SECOND, 3]);
    writer.record(record::SIGNALLED, 0, 81, &[SECOND, 9]);
    writer.record(record::SIGNALLED, 0, 82, &[SECOND, 15]);
    writer.record(record::REAPED, child::BY_SIGNAL, 81, &[2 * SECOND, 9]);
    writer.record(record::REAPED, child::BY_SIGNAL, 82, &[2 * SECOND, 9]);
    writer.record(record::REAPED, 0, 99, &[2 * SECOND, 1]); // nobody has seen it
    let session = merged(&writer, session, "children");
    let ends: Vec<_> = session.processes[1..].iter().map(|process| (process.ending, process.is_wanted)).collect();
    use raddle_trace::Ending::{Exit, Signal};
    assert_eq!(
        ends,
        [
            (Some(Signal(11)), false),
            (Some(Signal(9)), true),
            (Some(Signal(9)), false), // another one was sent
            (Some(Exit(3)), false),
        ]
    );
    assert_eq!((session.processes[1].ended, session.processes[0].ending), (Some(2 * SECOND - 1000), None));
}
