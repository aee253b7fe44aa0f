//! Watching a program from outside: looks at its processes become a session.
//!
//! One file for each thing that looks are turned into: `spans` for what threads did, `stuck` for who cannot go on, `loops` for event loops that are held up;
//! `holders` adds to a look what the recorder in the program knows better.

mod holders;
mod loops;
mod spans;
mod stuck;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use raddle_probe::{Process as Seen, State as Doing, Thread as SeenThread, Watch};

use self::holders::Asking;
use self::spans::{Room, What, divide};
use self::stuck::{Circles, STANDS};
use crate::session::{Ending, Nanos, Place, PlaceId, Process, Session, State, Stuck, Thing, ThingId, Thread};

/// Watches a program from outside.
#[derive(Debug)]
pub struct Watcher {
    watch: Watch,
    origin: Instant,
    session: Session,
    looks: u64,
    room: Room,
    /// The processes that are there, by their numbers.
    live: HashMap<u32, LiveProcess>,
    places: HashMap<Place, PlaceId>,
    things: HashMap<(usize, String), ThingId>,
    circles: Circles,
    asking: Asking,
}

#[derive(Debug)]
struct LiveProcess {
    index: usize,
    threads: HashMap<u32, LiveThread>,
}

#[derive(Debug)]
struct LiveThread {
    index: usize,
    at: Nanos,
    clock: Clock,
    /// What it did when it was looked at last.
    what: Option<What>,
    /// What it waited for last.
    waited: Option<What>,
    /// Since when it has not run.
    parked: Nanos,
    is_blocked_loop: bool,
    /// It was seen in an event loop, and not outside of one since.
    is_after_loop: bool,
}

/// What the kernel has counted for a thread.
#[derive(Clone, Copy, Debug)]
struct Clock {
    cpu: Nanos,
    queued: Nanos,
    runs: Option<u64>,
}

impl Clock {
    fn of(thread: &SeenThread) -> Self {
        Self { cpu: thread.cpu, queued: thread.queued, runs: thread.runs }
    }
}

impl Watcher {
    /// Watches the process with this number and all that it starts. `recorded`: where recorders in them write, if there are any.
    #[must_use]
    pub fn new(
        pid: u32,
        command: Vec<String>,
        directory: String,
        cores: u32,
        started: f64,
        recorded: Option<PathBuf>,
    ) -> Self {
        Self {
            watch: Watch::new(pid),
            origin: Instant::now(),
            session: Session { command, directory, cores, started, ..Session::default() },
            looks: 0,
            room: Room::default(),
            live: HashMap::new(),
            places: HashMap::new(),
            things: HashMap::new(),
            circles: Circles::default(),
            asking: Asking::new(recorded),
        }
    }

    /// Looks once. Returns who was found stuck just now.
    pub fn look(&mut self) -> &[Stuck] {
        let at = self.now();
        let look = self.watch.look();
        let parents: HashMap<u32, u32> = self.watch.members().map(|member| (member.pid, member.parent)).collect();
        self.looks += 1;
        let known = self.session.stuck.len();
        for seen in &look.processes {
            let parent = parents.get(&seen.pid).copied();
            self.see_process(at, seen, parent);
        }
        let there: HashSet<u32> = look.processes.iter().map(|seen| seen.pid).collect();
        let gone: Vec<u32> = self.live.keys().copied().filter(|pid| !there.contains(pid)).collect();
        for pid in gone {
            self.end_process(at, pid);
        }
        self.see_circles(at, &look);
        &self.session.stuck[known..]
    }

    /// The numbers of the processes that are there.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.live.keys().copied()
    }

    /// Whether nothing has run for some time: there is no hurry to look again.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let at = self.now();
        let is_parked = |thread: &LiveThread| at.saturating_sub(thread.parked) > STANDS;
        self.live.values().all(|process| process.threads.values().all(is_parked))
    }

    /// The program is about to be ended by who watches it.
    pub fn abort(&mut self) {
        self.session.is_aborted = true;
    }

    /// Somebody has interrupted the program, or sent it a signal: what goes on from now on may do so for that.
    pub fn interrupt(&mut self) {
        self.circles.is_interrupted = true;
    }

    /// Ends the watch.
    #[must_use]
    pub fn end(mut self, ending: Ending) -> Session {
        let at = self.now();
        for pid in self.live.keys().copied().collect::<Vec<_>>() {
            self.end_process(at, pid);
        }
        self.take_back(at, ending);
        self.session.ending = Some(ending);
        if let Some(first) = self.session.processes.first_mut() {
            first.ending = Some(ending);
        }
        self.session.dropped = self.room.dropped;
        self.session.length = at;
        self.session.period = at.checked_div(self.looks).unwrap_or(0);
        for process in &mut self.session.processes {
            process.cpu = process.threads.iter().map(|thread| thread.cpu).sum();
        }
        self.session
    }

    fn now(&self) -> Nanos {
        self.origin.elapsed().as_nanos() as Nanos
    }

    fn see_process(&mut self, at: Nanos, seen: &Seen, parent: Option<u32>) {
        let index = match self.live.get(&seen.pid) {
            Some(live) => live.index,
            None => {
                let parent = parent.and_then(|pid| {
                    let live = self.live.get(&pid).map(|live| live.index);
                    live.or_else(|| self.session.processes.iter().rposition(|other| other.pid == pid))
                });
                self.session.processes.push(Process { pid: seen.pid, parent, began: at, ..Process::default() });
                let index = self.session.processes.len() - 1;
                self.live.insert(seen.pid, LiveProcess { index, threads: HashMap::new() });
                index
            }
        };
        let process = &mut self.session.processes[index];
        if !seen.command.is_empty() && process.command != seen.command {
            process.command.clone_from(&seen.command);
        }
        if seen.version.is_some() {
            process.python.clone_from(&seen.version);
        } else {
            let known = &mut self.session.notes;
            let new = seen.notes.iter().filter(|note| !known.contains(note)).cloned().collect::<Vec<_>>();
            known.extend(new);
        }
        // Indices of the look's threads in the session, for holders.
        let mut indices = Vec::with_capacity(seen.threads.len());
        let at_python: HashSet<u32> =
            seen.threads.iter().filter(|other| !other.frames.is_empty()).map(|other| other.native_id).collect();
        for thread in &seen.threads {
            // The interpreter makes the state of a thread before the thread, and up to 3.11 gives it the number of the one that starts it.
            let is_one = exists(thread) && !(thread.frames.is_empty() && at_python.contains(&thread.native_id));
            indices.push(is_one.then(|| self.index_of(at, seen.pid, index, thread.native_id, Clock::of(thread))));
        }
        for (thread, at_index) in seen.threads.iter().zip(&indices) {
            let Some(at_index) = at_index else { continue };
            let mut what = self.what_of(index, thread, &indices, seen.version.is_some());
            if seen.version.is_none() && self.is_known_as_foreign(seen.pid, thread.native_id) {
                // The interpreter cannot be looked into any more, as at the end of a process; it does not know the thread all the same.
                what.is_foreign = true;
                if what.state == State::Running {
                    what.state = State::Native;
                }
            }
            let kept = &mut self.session.processes[index].threads[*at_index];
            kept.ident = thread.ident;
            // At the end of the interpreter `threading` knows nobody any more.
            let is_known = thread.is_daemon.is_some() || kept.is_daemon.is_none();
            if kept.name != thread.name && is_known {
                kept.name.clone_from(&thread.name);
            }
            kept.is_daemon = thread.is_daemon.or(kept.is_daemon);
            kept.is_python = seen.version.is_some();
            kept.is_foreign &= what.is_foreign;
            self.step(at, seen.pid, thread.native_id, what, Clock::of(thread));
            self.see_loop(at, index, *at_index, seen.pid, thread);
        }
        for thread in &seen.native_threads {
            let clock = Clock { cpu: thread.cpu, queued: thread.queued, runs: None };
            let at_index = self.index_of(at, seen.pid, index, thread.native_id, clock);
            let state = if thread.is_running { State::Native } else { State::Event };
            let kept = &mut self.session.processes[index].threads[at_index];
            if !kept.is_python {
                kept.name.clone_from(&thread.name);
            }
            let what = What { state, place: None, thing: None, holder: None, is_foreign: true };
            self.step(at, seen.pid, thread.native_id, what, clock);
        }
        let Some(live) = self.live.get_mut(&seen.pid) else { return };
        let there = seen.threads.iter().map(|thread| thread.native_id);
        let there: HashSet<u32> = there.chain(seen.native_threads.iter().map(|thread| thread.native_id)).collect();
        let gone: Vec<u32> = live.threads.keys().copied().filter(|id| !there.contains(id)).collect();
        for id in gone {
            if let Some(ended) = live.threads.remove(&id) {
                self.session.processes[index].threads[ended.index].ended = Some(at);
            }
        }
    }

    /// Whether a thread that is still there was a library's own when it was looked at last.
    fn is_known_as_foreign(&self, pid: u32, native_id: u32) -> bool {
        let live = self.live.get(&pid).and_then(|process| process.threads.get(&native_id));
        live.and_then(|thread| thread.what).is_some_and(|what| what.is_foreign)
    }

    /// The index in the session of a thread of a process.
    fn index_of(&mut self, at: Nanos, pid: u32, process: usize, native_id: u32, clock: Clock) -> usize {
        let threads = &mut self.session.processes[process].threads;
        let Some(live) = self.live.get_mut(&pid) else { return 0 };
        let new = || {
            // Until something else is seen.
            threads.push(Thread { native_id, began: at, is_foreign: native_id != pid, ..Thread::default() });
            let index = threads.len() - 1;
            LiveThread {
                index,
                at,
                clock,
                what: None,
                waited: None,
                parked: at,
                is_blocked_loop: false,
                is_after_loop: false,
            }
        };
        live.threads.entry(native_id).or_insert_with(new).index
    }

    fn what_of(&mut self, process: usize, thread: &SeenThread, indices: &[Option<usize>], is_python: bool) -> What {
        let kind = thread.wait.as_ref().map_or("", |wait| wait.kind);
        let state = match thread.state {
            Doing::Running if is_python && !thread.holds_gil => State::Native,
            Doing::Running => State::Running,
            Doing::Native => State::Native,
            Doing::Gil => State::Gil,
            Doing::Blocked => State::Lock,
            Doing::Waiting => match kind {
                "queue-get" | "queue-put" | "queue-join" | "idle-worker" => State::Queue,
                "thread" | "process" | "shutdown" | "thread-start" => State::Join,
                _ => State::Event,
            },
            Doing::Sleeping => State::Sleep,
            Doing::Io => State::Io,
            Doing::Stopped => State::Stopped,
            Doing::Unknown => State::Unknown,
        };
        let state = through_multiprocessing(kind, &thread.frames).unwrap_or(state);
        // A library's own thread, which may have called into Python before: what it waits for is no work of the program's, however it waits.
        let is_foreign = is_python && thread.frames.is_empty() && thread.is_whole;
        let state = match state {
            State::Io | State::Sleep if is_foreign => State::Event,
            State::Unknown if is_foreign && thread.wait.is_some() => State::Event,
            state => state,
        };
        let place = match thread.wait.as_ref().and_then(|wait| wait.place.as_ref()) {
            Some(place) => Some(self.place(place)),
            None => own_place(&thread.frames).map(|place| self.place(place)),
        };
        let thing = thread.wait.as_ref().map(|wait| self.thing(process, wait));
        let holder = thread.wait.as_ref().and_then(|wait| wait.holder.as_ref()?.thread);
        let holder = holder.and_then(|holder| *indices.get(holder)?).map(|index| index as u32);
        What { state, place, thing, holder, is_foreign }
    }

    fn place(&mut self, place: &raddle_probe::Place) -> PlaceId {
        let place = Place { function: place.function.clone(), file: place.file.clone(), line: place.line };
        let places = &mut self.session.places;
        *self.places.entry(place).or_insert_with_key(|place| {
            places.push(place.clone());
            (places.len() - 1) as PlaceId
        })
    }

    fn thing(&mut self, process: usize, wait: &raddle_probe::Wait) -> ThingId {
        let key = match wait.object {
            Some(object) => format!("{} {object:x}", wait.kind),
            None => format!("{} {}", wait.kind, wait.what),
        };
        let things = &mut self.session.things;
        let id = *self.things.entry((process, key)).or_insert_with(|| {
            let kind = wait.kind.to_owned();
            things.push(Thing {
                kind,
                what: wait.what.clone(),
                process,
                object: wait.object.unwrap_or(0),
                ..Thing::default()
            });
            (things.len() - 1) as ThingId
        });
        let thing = &mut things[id as usize];
        if wait.name.is_some() && thing.what.len() < wait.what.len() {
            thing.what.clone_from(&wait.what); // a name was found since
        }
        id
    }

    /// The time since the last look at a thread becomes spans.
    fn step(&mut self, at: Nanos, pid: u32, native_id: u32, what: What, clock: Clock) {
        let Some(live) = self.live.get_mut(&pid) else { return };
        let Some(thread) = live.threads.get_mut(&native_id) else { return };
        let kept = &mut self.session.processes[live.index].threads[thread.index];
        let length = at.saturating_sub(thread.at);
        let ran = clock.cpu.saturating_sub(thread.clock.cpu).min(length);
        let stood = clock.queued.saturating_sub(thread.clock.queued).min(length - ran);
        kept.cpu += ran;
        kept.queued += stood;
        if let Some(before) = thread.what {
            let mut start = thread.at;
            for (what, long) in divide(before, what, thread.waited, [ran, stood, length - ran - stood]) {
                self.room.push(&mut kept.spans, start, start + long, what);
                start += long;
            }
        }
        if !what.is_active() {
            thread.waited = Some(what);
        }
        if clock.runs.is_none() || clock.runs != thread.clock.runs || what.is_active() {
            thread.parked = at;
        }
        (thread.at, thread.clock, thread.what) = (at, clock, Some(what));
    }

    fn end_process(&mut self, at: Nanos, pid: u32) {
        self.asking.forget(pid);
        let Some(live) = self.live.remove(&pid) else { return };
        let process = &mut self.session.processes[live.index];
        process.ended = Some(at);
        for thread in live.threads.values() {
            if let Some(what) = thread.what {
                self.room.push(&mut process.threads[thread.index].spans, thread.at, at, what);
            }
        }
    }
}

/// What a thread waits for that reads a pipe, or wants a lock, inside of a queue or a connection of `multiprocessing`: others of the program, and not files.
fn through_multiprocessing(kind: &str, frames: &[raddle_probe::Place]) -> Option<State> {
    if !matches!(kind, "read" | "write" | "poll" | "process-lock") {
        return None;
    }
    let is_of = |frame: &raddle_probe::Place, module: &str| {
        let name = frame.file.strip_suffix(".py").and_then(|file| file.strip_suffix(module));
        is_installed(&frame.file) && name.is_some_and(|rest| rest.ends_with("/multiprocessing/"))
    };
    if frames.iter().any(|frame| is_of(frame, "queues")) {
        return Some(State::Queue);
    }
    (kind != "process-lock" && frames.iter().any(|frame| is_of(frame, "connection"))).then_some(State::Event)
}

/// Whether the kernel has it. The interpreter knows a thread for a moment before it has begun and after it has ended, and nothing is to be said of it then.
fn exists(thread: &SeenThread) -> bool {
    thread.native_id != 0 && (thread.state != Doing::Unknown || thread.runs.is_some() || thread.cpu > 0)
}

/// The innermost place of the program's own: outside of the standard library and of installed packages. Else the innermost.
fn own_place(frames: &[raddle_probe::Place]) -> Option<&raddle_probe::Place> {
    let is_own = |place: &&raddle_probe::Place| !is_installed(&place.file);
    frames.iter().find(is_own).or_else(|| frames.first())
}

pub(crate) fn is_installed(file: &str) -> bool {
    file.starts_with('<') && file != "<string>" && file != "<stdin>"
        || file.contains("/lib/python3.")
        || file.contains("/site-packages/")
}
