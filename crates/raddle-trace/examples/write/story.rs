//! Sessions as runs of real programs leave them.

use std::fs;
use std::io;
use std::path::Path;

use raddle_trace::{
    Ending, Fact, Gil, Label, Nanos, Pass, Place, PlaceId, Process, Session, Span, State, Stuck, StuckUnit, Thing,
    ThingId, Thread, UnitId,
};

const MS: Nanos = 1_000_000;

/// The program that [`crawler`] tells of.
const CRAWLER: &str = "import threading
import queue

pages, ledger, index = queue.Queue(8), threading.Lock(), threading.Lock()


def parse():
    while page := pages.get():
        tree = build(page)
        with index:
            merge(tree)


def settle():
    with ledger:
        with index:
            write(ledger)


def audit():
    with index:
        with ledger:
            compare(ledger)
";

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, from: Nanos, until: Nanos) -> Nanos {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        from + self.0 % (until - from)
    }
}

/// A session that is being told.
struct Teller {
    session: Session,
}

impl Teller {
    fn new(program: &str, directory: &Path, cores: u32) -> Self {
        let session = Session {
            command: vec!["python".into(), program.into(), "--depth".into(), "3".into()],
            directory: directory.display().to_string(),
            cores,
            started: 1_764_000_000.0,
            period: 10 * MS,
            ending: Some(Ending::Exit(0)),
            ..Session::default()
        };
        Self { session }
    }

    fn process(&mut self, pid: u32, parent: Option<usize>, command: &[&str], began: Nanos) -> usize {
        self.session.processes.push(Process {
            pid,
            parent,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            python: Some("3.12.1".into()),
            began,
            ending: Some(Ending::Exit(0)),
            is_recorded: true,
            ..Process::default()
        });
        self.session.processes.len() - 1
    }

    fn thread(&mut self, process: usize, name: &str, function: Option<PlaceId>, began: Nanos) -> usize {
        let pid = self.session.processes[process].pid;
        let threads = &mut self.session.processes[process].threads;
        threads.push(Thread {
            native_id: pid + threads.len() as u32,
            name: name.into(),
            is_python: true,
            is_daemon: Some(false),
            function,
            began,
            ..Thread::default()
        });
        threads.len() - 1
    }

    fn place(&mut self, file: &str, line: u32, function: &str) -> PlaceId {
        let file = format!("{}/{file}", self.session.directory);
        self.session.places.push(Place { function: function.into(), file, line });
        (self.session.places.len() - 1) as PlaceId
    }

    fn thing(&mut self, kind: &str, what: &str, made: Option<PlaceId>) -> ThingId {
        self.session.things.push(Thing { kind: kind.into(), what: what.into(), made, ..Thing::default() });
        (self.session.things.len() - 1) as ThingId
    }

    fn now(&self, process: usize, thread: usize) -> Nanos {
        let thread = &self.session.processes[process].threads[thread];
        thread.spans.last().map_or(thread.began, |span| span.until)
    }

    fn does(
        &mut self,
        (process, thread): (usize, usize),
        state: State,
        length: Nanos,
        place: Option<PlaceId>,
    ) -> &mut Span {
        let from = self.now(process, thread);
        let spans = &mut self.session.processes[process].threads[thread].spans;
        spans.push(Span { from, until: from + length.max(1), state, place, thing: None, holder: None });
        spans.last_mut().expect("it was just put there")
    }

    fn waits_until(
        &mut self,
        unit: (usize, usize),
        state: State,
        until: Nanos,
        place: Option<PlaceId>,
        thing: Option<ThingId>,
    ) {
        let now = self.now(unit.0, unit.1);
        if until > now {
            self.does(unit, state, until - now, place).thing = thing;
        }
    }

    fn told(mut self, length: Nanos) -> Session {
        self.session.length = length;
        for process in &mut self.session.processes {
            let last = process.threads.iter().filter_map(|thread| thread.spans.last()).map(|span| span.until).max();
            process.ended = process.ending.and(last);
            for thread in &mut process.threads {
                let on = |span: &&Span| matches!(span.state, State::Running | State::Native);
                thread.cpu = thread.spans.iter().filter(on).map(|span| span.until - span.from).sum();
                thread.ended = thread.spans.last().map(|span| span.until).filter(|until| *until < length);
            }
            process.cpu = process.threads.iter().map(|thread| thread.cpu).sum();
        }
        self.session
    }
}

/// Threads of one process that take turns at the GIL, with lock and queue between them; two helper processes; a deadlock at the end.
pub(crate) fn crawler(directory: &Path) -> io::Result<Session> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("crawler.py"), CRAWLER)?;
    let directory = directory.canonicalize()?;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut tell = Teller::new("crawler.py", &directory, 4);
    let parse = tell.place("crawler.py", 9, "parse");
    let wanted = tell.place("crawler.py", 10, "parse");
    let get = tell.place("crawler.py", 8, "parse");
    let made = tell.place("crawler.py", 4, "<module>");
    let settle_taken = tell.place("crawler.py", 15, "settle");
    let settle_wants = tell.place("crawler.py", 16, "settle");
    let audit_taken = tell.place("crawler.py", 21, "audit");
    let audit_wants = tell.place("crawler.py", 22, "audit");
    let fetch = tell.place("fetch.py", 31, "Fetcher.page");
    let index = tell.thing("lock", "Lock 'index'", Some(made));
    let ledger = tell.thing("lock", "Lock 'ledger'", Some(made));
    let pages = tell.thing("queue-get", "Queue 'pages'", Some(made));
    let socket = tell.thing("socket", "socket 10.0.0.7:443", None);
    let hang = 9_400 * MS;
    let end = 12_400 * MS;

    let main_process = tell.process(4711, None, &["python", "crawler.py", "--depth", "3"], 0);
    let main = (main_process, tell.thread(main_process, "MainThread", None, 0));
    tell.does(main, State::Running, 180 * MS, Some(made));
    let crew: Vec<(usize, usize)> = (0..5)
        .map(|number| {
            (main_process, tell.thread(main_process, &format!("worker-{number}"), Some(parse), (180 + number * 4) * MS))
        })
        .collect();
    tell.waits_until(main, State::Join, end, Some(made), None);

    // They take turns at the GIL, five milliseconds each, and at the lock.
    let mut turn = 200 * MS;
    let mut last = (0, 0);
    for &worker in crew.iter().cycle() {
        if turn > 8_600 * MS {
            break;
        }
        let now = tell.now(worker.0, worker.1);
        if now < turn {
            tell.waits_until(worker, State::Gil, turn, Some(parse), None);
        }
        let length = dice.roll(4 * MS, 7 * MS);
        tell.does(worker, State::Running, length, Some(parse));
        if last != (0, 0) && last != worker && dice.roll(0, 3) == 0 {
            tell.session.passes.push(Pass {
                from: last,
                at: turn - MS / 10,
                to: worker,
                until: turn,
                thing: Some(index),
            });
            let span = tell.does(worker, State::Lock, dice.roll(MS, 9 * MS), Some(wanted));
            (span.thing, span.holder) = (Some(index), Some(last.1 as u32));
        }
        if dice.roll(0, 9) == 0 {
            tell.does(worker, State::Queue, dice.roll(2 * MS, 40 * MS), Some(get)).thing = Some(pages);
        }
        last = worker;
        turn += length;
    }
    for &worker in &crew[2..] {
        let until = tell.now(worker.0, worker.1).max(8_700 * MS);
        tell.waits_until(worker, State::Queue, until + dice.roll(0, 400 * MS), Some(get), Some(pages));
    }

    // The first two wait for each other until the end.
    for (unit, held, wants, at, other) in
        [(crew[0], ledger, index, settle_wants, crew[1]), (crew[1], index, ledger, audit_wants, crew[0])]
    {
        tell.waits_until(unit, State::Io, hang - 20 * MS, Some(fetch), Some(socket));
        tell.waits_until(unit, State::Running, hang, Some(at), None);
        let span = tell.does(unit, State::Lock, end - hang, Some(at));
        (span.thing, span.holder) = (Some(wants), Some(other.1 as u32));
        tell.session.things[held as usize].taken += 3_000;
        tell.session.things[wants as usize].contended += 211;
    }
    tell.session.stuck.push(Stuck {
        kind: "deadlock".into(),
        at: hang,
        is_certain: true,
        is_timed: false,
        units: vec![
            stuck_unit(crew[0], "worker-0", "Lock 'index'", settle_wants, "Lock 'ledger'", settle_taken),
            stuck_unit(crew[1], "worker-1", "Lock 'ledger'", audit_wants, "Lock 'index'", audit_taken),
        ],
    });
    tell.session.processes[0].gil = Some(Gil { held: 8_300 * MS, waited: 31_000 * MS, switches: 1_512 });
    tell.session.processes[0].ending = Some(Ending::Signal(2));
    tell.session.ending = Some(Ending::Signal(2));

    // Two processes that fetch: one is busy with its net, one ended by an exception of a thread.
    for (number, pid) in [(0_u64, 4720), (1, 4721)] {
        let began = (300 + number * 40) * MS;
        let process = tell.process(pid, Some(0), &["python", "fetch.py", "--serve"], began);
        let thread = (process, tell.thread(process, "MainThread", None, began));
        let pool: Vec<(usize, usize)> = (0..3)
            .map(|at| (process, tell.thread(process, &format!("fetch_{at}"), Some(fetch), began + 60 * MS)))
            .collect();
        tell.does(thread, State::Runnable, 20 * MS, None);
        tell.does(thread, State::Running, 60 * MS, Some(fetch));
        tell.waits_until(thread, State::Event, 8_900 * MS, Some(fetch), None);
        for &unit in &pool {
            while tell.now(unit.0, unit.1) < (8_000 + number * 500) * MS {
                tell.does(unit, State::Io, dice.roll(30 * MS, 220 * MS), Some(fetch)).thing = Some(socket);
                tell.does(unit, State::Native, dice.roll(4 * MS, 60 * MS), Some(fetch));
                tell.does(unit, State::Running, dice.roll(2 * MS, 25 * MS), Some(fetch));
                if dice.roll(0, 4) == 0 {
                    tell.does(unit, State::Sleep, dice.roll(20 * MS, 90 * MS), Some(fetch));
                }
            }
        }
        let failed = pool[2];
        tell.session.processes[process].threads[failed.1].exception =
            Some("ConnectionResetError: [Errno 104] Connection reset by peer".into());
        tell.session.facts.push(Fact {
            kind: "unhandled-exception".into(),
            at: tell.now(failed.0, failed.1),
            units: vec![UnitId { process, thread: Some(failed.1) }],
            labels: vec![Label { place: fetch, text: "raised here".into() }],
            detail: "ConnectionResetError: [Errno 104] Connection reset by peer".into(),
            ..Fact::default()
        });
    }
    Ok(tell.told(end))
}

fn stuck_unit(
    unit: (usize, usize),
    name: &str,
    waits_for: &str,
    wanted: PlaceId,
    holds: &str,
    taken: PlaceId,
) -> StuckUnit {
    StuckUnit {
        process: unit.0,
        thread: Some(unit.1),
        name: name.into(),
        waits_for: waits_for.into(),
        wanted: Some(wanted),
        holds: Some(holds.into()),
        taken: Some(taken),
        stack: vec![wanted],
    }
}

/// One thread that works, and nothing to complain about.
pub(crate) fn clean() -> Session {
    let mut tell = Teller::new("clean.py", Path::new("/srv/app"), 2);
    let process = tell.process(100, None, &["python", "clean.py"], 0);
    let main = (process, tell.thread(process, "MainThread", None, 0));
    let at = tell.place("clean.py", 3, "<module>");
    tell.does(main, State::Running, 700 * MS, Some(at));
    tell.does(main, State::Io, 100 * MS, Some(at));
    tell.told(800 * MS)
}

/// What a name can hold, it will hold.
pub(crate) fn hostile() -> Session {
    let attack = "</script><img src=x onerror=\"document.title='broken'\"><!--<script>{{data}}&lt;\u{2028}\u{202e}\0";
    let mut session = clean();
    session.command = vec![attack.into(), attack.into()];
    session.notes = vec![attack.into()];
    session.places[0] = Place { function: attack.into(), file: attack.into(), line: 1 };
    let process = &mut session.processes[0];
    process.command = vec![attack.into()];
    process.python = Some(attack.into());
    process.threads[0].name = attack.into();
    process.threads[0].exception = Some(attack.into());
    // What ends the main thread is told by Python itself, and is no finding: another one has ended so.
    let mut thread = process.threads[0].clone();
    thread.native_id += 1;
    process.threads.push(thread);
    let other = process.threads.len() - 1;
    session.things.push(Thing { kind: attack.into(), what: attack.into(), ..Thing::default() });
    process.threads[0].spans[1].thing = Some(0);
    session.facts.push(Fact {
        kind: "unhandled-exception".into(),
        at: MS,
        units: vec![UnitId { process: 0, thread: Some(other) }],
        labels: vec![Label { place: 0, text: attack.into() }],
        detail: attack.into(),
        ..Fact::default()
    });
    session
}

/// 200 threads in four processes, and a million spans.
pub(crate) fn large() -> Session {
    let mut dice = Dice(42);
    let mut tell = Teller::new("service.py", Path::new("/srv/app"), 16);
    let places: Vec<PlaceId> =
        (0..60).map(|line| tell.place("service.py", 10 + line, &format!("handle_{line}"))).collect();
    let things: Vec<ThingId> =
        (0..12).map(|number| tell.thing("lock", &format!("Lock 'shard-{number}'"), Some(places[0]))).collect();
    let length = 60_000 * MS;
    for number in 0..4 {
        let process = tell.process(9000 + 100 * number, (number > 0).then_some(0), &["python", "service.py"], 0);
        for index in 0..50 {
            let unit = (process, tell.thread(process, &format!("handler-{index}"), Some(places[index % 60]), 0));
            for turn in 0..5_000 {
                let state = State::ALL[[0, 3, 0, 8, 1, 4, 0, 5, 2, 9][turn % 10]];
                let place = places[dice.roll(0, 60) as usize];
                let span = tell.does(unit, state, dice.roll(length / 10_000, length / 3_400), Some(place));
                if state == State::Lock {
                    (span.thing, span.holder) = (Some(things[turn % 12]), Some(((index + 1) % 50) as u32));
                    let (at, thing) = (span.until, span.thing);
                    tell.session.passes.push(Pass {
                        from: (process, (index + 1) % 50),
                        at,
                        to: unit,
                        until: at,
                        thing,
                    });
                }
            }
        }
    }
    let length = tell
        .session
        .processes
        .iter()
        .flat_map(|one| &one.threads)
        .filter_map(|one| one.spans.last())
        .map(|one| one.until)
        .max();
    tell.told(length.unwrap_or(0))
}
