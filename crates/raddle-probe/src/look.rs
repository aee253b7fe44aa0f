//! One look into a process, which goes on meanwhile.
//!
//! # How a look holds together although nothing is stopped
//!
//! 1. For each thread: ask the kernel what it does and how often it was put on a processor; follow its frames; ask again. If it sleeps
//!    and the count is the same, it has not run in between, and what was read is what was there. Otherwise the frames are
//!    followed once more; if both looks saw the same calls, they are believed. After a few tries they are shown, and marked.
//! 2. Locks are read after that: who holds what, who waits for what.
//! 3. A circle of waits is certain if none of its threads has run since step 1 began for the first of them: then there was a moment at which all of
//!    them were as seen. If one has, the whole look is repeated. A circle of asyncio's tasks must be there a second time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::coroutine;
use crate::cycle::circles;
use crate::error::Trouble;
use crate::frame::{Chain, Frame};
use crate::kernel::Call;
use crate::lock::Taken;
use crate::memory::Memory;
use crate::model::{AsyncTask, Child, Deadlock, Held, Holder, Look, NativeThread, Place, Process, State, Thread, Wait};
use crate::process;
use crate::runtime::{Gil, Interpreter, Target, ThreadState};
use crate::task::{self, Task};
use crate::tree;
use crate::wait::{self, Ender, Finding};

/// How often a stack that changes under our eyes is read.
const TRIES: usize = 4;

/// Looks into a process.
///
/// # Errors
///
/// When it cannot be looked into: it is not there, it does not run a known version of CPython, or the kernel does not permit it.
pub fn look(pid: u32) -> Result<Look, Trouble> {
    Ok(Look { processes: vec![look_at(pid)?], stuck: Vec::new() })
}

/// Looks into a process and into all that it has started, and they.
///
/// Of those that run no Python only what the kernel says about them is seen.
///
/// # Errors
///
/// As [`look`], for the first process. Others that cannot be looked into are notes of the first.
pub fn look_at_tree(pid: u32) -> Result<Look, Trouble> {
    let mut found = look_at_all(pid)?;
    for _ in 0..TRIES {
        found.stuck = stuck_in(&found.processes);
        // Each process was looked at for itself: one may have gone on before the next was seen. Whoever has not run since it was seen is still there
        // now, and so all of them are at one moment.
        let is_still_there = |(process, thread): &(usize, usize)| {
            let (process, thread) = (&found.processes[*process], &found.processes[*process].threads[*thread]);
            thread.runs.is_some() && thread.runs == task::runs(process.pid, thread.native_id)
        };
        if found.stuck.iter().all(is_still_there) {
            return Ok(found);
        }
        found = look_at_all(pid)?;
    }
    Ok(found)
}

fn look_at_all(pid: u32) -> Result<Look, Trouble> {
    let mut processes = vec![look_at(pid)?];
    let mut queue: Vec<u32> = process::children(pid);
    queue.reverse();
    while let Some(next) = queue.pop() {
        match look_at(next) {
            Ok(process) => processes.push(process),
            Err(Trouble::NotPython { .. }) => {
                let seen = look_from_outside(next);
                processes.extend(seen.map(|process| Process { children: children_of(next), ..process }));
            }
            Err(Trouble::Ended { .. } | Trouble::NoSuchProcess { .. }) => {}
            Err(trouble) => processes[0].notes.push(trouble.to_string()),
        }
        queue.extend(process::children(next).into_iter().rev());
    }
    Ok(Look { processes, stuck: Vec::new() })
}

pub(crate) fn stuck_in(processes: &[Process]) -> Vec<(usize, usize)> {
    let waits = processes.iter().flat_map(|process| &process.threads).filter_map(|thread| thread.wait.as_ref());
    let waits_for_pipes = waits.filter(|wait| matches!(wait.kind, "read" | "write")).count() > 0;
    let ends = if waits_for_pipes {
        process::all().into_iter().map(|pid| (pid, tree::ends(pid))).collect()
    } else {
        HashMap::new()
    };
    tree::stuck(processes, &ends)
}

fn look_at(pid: u32) -> Result<Process, Trouble> {
    let began = Instant::now();
    let target = Target::open(pid)?;
    let mut process = look_once(&target, &mut Memo::default())?;
    for _ in 1..TRIES {
        if process.deadlocks.iter().all(|deadlock| deadlock.is_certain) {
            break;
        }
        process = look_once(&Target::open(pid)?, &mut Memo::default())?;
    }
    process.children = children_of(pid);
    process.took = began.elapsed().as_secs_f64();
    Ok(process)
}

/// What the kernel says about a process that runs no Python. Its children are for the caller to find: that takes a walk through all processes.
pub(crate) fn look_from_outside(pid: u32) -> Option<Process> {
    let began = Instant::now();
    let stat = process::stat(pid)?;
    let thread = |native_id: u32| {
        let task = Task::of(pid, native_id)?;
        let none = Chain { frames: Vec::new(), is_whole: true };
        let (state, finding) = match task.call.as_ref() {
            _ if task.letter == 'R' => (State::Running, None),
            Some(Call::Futex { is_timed, .. }) => {
                let finding =
                    Finding { is_timed: *is_timed, ..Finding::new("native", "a lock or an event of native code") };
                (State::Waiting, Some(finding))
            }
            Some(call) => wait::wait_in_kernel(pid, call, &none),
            None => (State::Unknown, None),
        };
        Some(Thread {
            is_certain: task.has_not_run(pid),
            cpu: task.spent.0,
            queued: task.spent.1,
            runs: task.runs,
            name: task.name,
            ident: 0,
            native_id,
            interpreter: 0,
            is_daemon: None,
            state,
            wait: finding.map(|finding| wait_of(finding, &none)),
            holds_gil: false,
            holds: Vec::new(),
            frames: Vec::new(),
            is_whole: true,
        })
    };
    Some(Process {
        pid,
        command: process::command(pid),
        version: None,
        directory: process::directory(pid),
        age: process::age(stat),
        threads: task::list(pid).into_iter().filter_map(thread).collect(),
        native_threads: Vec::new(),
        tasks: Vec::new(),
        task_deadlocks: Vec::new(),
        deadlocks: Vec::new(),
        orphans: Vec::new(),
        children: Vec::new(),
        notes: Vec::new(),
        took: began.elapsed().as_secs_f64(),
    })
}

fn children_of(pid: u32) -> Vec<Child> {
    process::children(pid).into_iter().map(|pid| Child { pid, command: process::command(pid) }).collect()
}

/// A thread while it is being looked at.
#[derive(Clone)]
struct Sight {
    state: ThreadState,
    interpreter: u64,
    gil: Option<Gil>,
    task: Option<Task>,
    chain: Chain,
    is_certain: bool,
    taken: Vec<Taken>,
}

/// What `threading` says about a thread.
#[derive(Clone)]
struct Person {
    object: u64,
    name: Option<String>,
    is_daemon: Option<bool>,
}

/// What the look before this one has seen, for those who look again and again.
///
/// A thread that sleeps and has not run since is where it was: it is not looked at again.
#[derive(Default)]
pub(crate) struct Memo {
    sights: HashMap<u64, Sight>,
    people: HashMap<u64, Person>,
    /// When the people were asked for their names, and how many threads there were.
    asked: Option<(Instant, usize)>,
    /// What the kernel says of the process, and when it was asked.
    about: Option<(Instant, About)>,
}

/// What the kernel says of a process, and what rarely changes.
#[derive(Clone)]
struct About {
    command: Vec<String>,
    directory: Option<String>,
    age: Option<f64>,
}

impl About {
    fn of(pid: u32) -> Self {
        let age = process::stat(pid).and_then(process::age);
        Self { command: process::command(pid), directory: process::directory(pid), age }
    }
}

/// Names of threads change rarely, and so do the words of a process.
const NAMES_LAST: Duration = Duration::from_millis(500);

pub(crate) fn look_once<M: Memory>(target: &Target<M>, memo: &mut Memo) -> Result<Process, Trouble> {
    let pid = target.pid;
    let interpreters = target.interpreters()?;
    let mut sights = Vec::new();
    for interpreter in &interpreters {
        for state in &interpreter.threads {
            match memo.sights.remove(&state.at).filter(|before| before.is_still_so(pid, state)) {
                Some(before) => sights.push(Sight { gil: interpreter.gil, ..before }),
                None => {
                    let sight = see(target, *state, interpreter.id, interpreter.gil);
                    // Who has the GIL changes quickly: it is asked for at the same time as what the thread does.
                    let gil = sight.gil.map(|gil| target.gil(gil.at).unwrap_or(gil));
                    sights.push(Sight { gil, ..sight });
                }
            }
        }
    }
    leave_one_holder(&mut sights);
    let is_fresh = |(asked, threads): (Instant, usize)| asked.elapsed() < NAMES_LAST && threads == sights.len();
    if !memo.asked.is_some_and(is_fresh) {
        memo.people = interpreters.iter().flat_map(|one| people_of(target, one.modules)).collect();
        memo.asked = Some((Instant::now(), sights.len()));
    }
    if memo.about.as_ref().is_none_or(|(asked, _)| asked.elapsed() > NAMES_LAST) {
        memo.about = Some((Instant::now(), About::of(pid)));
    }
    let about = memo
        .about
        .as_ref()
        .map(|(asked, about)| About { age: about.age.map(|age| age + asked.elapsed().as_secs_f64()), ..about.clone() });
    let seen = describe_all(target, &interpreters, &sights, &memo.people, about);
    memo.sights = sights.into_iter().map(|sight| (sight.state.at, sight)).collect();
    seen
}

/// Threads are looked at one after the other, and meanwhile the GIL may go from one that had it to one that is looked at later: of several
/// that had it, the last one has it.
fn leave_one_holder(sights: &mut [Sight]) {
    let mut held = HashSet::new();
    for sight in sights.iter_mut().rev() {
        if let Some(gil) = &mut sight.gil
            && gil.holder == Some(sight.state.at)
            && !held.insert(gil.at)
        {
            gil.holder = None;
        }
    }
}

fn describe_all<M: Memory>(
    target: &Target<M>,
    interpreters: &[Interpreter],
    sights: &[Sight],
    people: &HashMap<u64, Person>,
    about: Option<About>,
) -> Result<Process, Trouble> {
    let pid = target.pid;
    let mut threads: Vec<Thread> = Vec::new();
    let mut enders = Vec::new();
    for sight in sights {
        let (thread, ender) = describe(target, sight, people.get(&sight.state.ident));
        threads.push(thread);
        enders.push(ender);
    }
    let mut orphans = Vec::new();
    for (index, ender) in enders.iter().enumerate() {
        let holder = match ender {
            Ender::Anyone => None,
            Ender::Thread(object) => {
                let ident = people.iter().find(|(_, person)| person.object == *object).map(|(ident, _)| *ident);
                let thread = ident.and_then(|ident| sights.iter().position(|sight| sight.state.ident == ident));
                thread.map(|thread| Holder { thread: Some(thread), place: None })
            }
            Ender::Lock(lock) => {
                let taken_by = sights.iter().enumerate().find_map(|(owner, sight)| {
                    let taken = sight.taken.iter().find(|taken| taken.lock.at == lock.at)?;
                    Some(Holder { thread: Some(owner), place: taken_at(&sight.chain, taken) })
                });
                taken_by.or_else(|| {
                    let thread = sights.iter().position(|sight| sight.state.ident == lock.owner.unwrap_or(0));
                    lock.owner.map(|_| Holder { thread, place: None })
                })
            }
        };
        if let Some(holder) = holder {
            if holder.thread.is_none() {
                orphans.push(index);
            }
            if let Some(wait) = &mut threads[index].wait {
                wait.holder = Some(holder);
            }
        }
    }
    let has_not_run = |index: &usize| sights[*index].task.as_ref().is_some_and(|task| task.has_not_run(pid));
    let deadlocks = Deadlock::among(&threads, has_not_run);
    let tasks = tasks_of(target, interpreters);
    let mut task_deadlocks = circles(&tasks.iter().map(|task| task.awaits).collect::<Vec<_>>());
    if !task_deadlocks.is_empty() {
        // Rule 3 for tasks: those of a loop that runs come and go, and two of them may have been read at different moments.
        let again = tasks_of(target, interpreters);
        task_deadlocks.retain(|circle| circle.iter().all(|index| again.get(*index) == Some(&tasks[*index])));
    }
    let stat = process::stat(pid).ok_or(Trouble::Ended { pid })?;
    if stat.has_ended() {
        return Err(Trouble::Ended { pid });
    }
    let known: Vec<u32> = threads.iter().map(|thread| thread.native_id).collect();
    let native =
        task::list(pid).into_iter().filter(|task| !known.contains(task)).filter_map(|task| Task::of(pid, task));
    let About { command, directory, age } = about.unwrap_or_else(|| About::of(pid));
    Ok(Process {
        pid,
        command,
        version: Some(target.version.clone()),
        directory,
        age,
        notes: notes(sights, &threads),
        threads,
        native_threads: native
            .map(|task| NativeThread {
                name: task.name,
                native_id: task.native_id,
                is_running: task.letter == 'R',
                cpu: task.spent.0,
                queued: task.spent.1,
            })
            .collect(),
        task_deadlocks,
        tasks,
        deadlocks,
        orphans,
        children: Vec::new(),
        took: 0.0,
    })
}

/// Step 1 of the module's head.
fn see<M: Memory>(target: &Target<M>, state: ThreadState, interpreter: u64, gil: Option<Gil>) -> Sight {
    let mut sight =
        Sight { state, interpreter, gil, task: None, chain: Chain::default(), is_certain: false, taken: Vec::new() };
    for _ in 0..TRIES {
        sight.task = Task::of(target.pid, state.native_id);
        sight.chain = target.heap.chain(state.at);
        let has_slept = sight.task.as_ref().is_some_and(|task| task.has_not_run(target.pid));
        if sight.chain.is_whole && (has_slept || sight.chain.is_like(&target.heap.chain(state.at))) {
            sight.is_certain = true;
            break;
        }
        if sight.task.is_none() {
            break;
        }
    }
    sight.taken = target.heap.taken_locks(&sight.chain, sight.state.ident);
    sight
}

impl Sight {
    /// Whether the thread has not run since it was seen.
    fn is_still_so(&self, pid: u32, state: &ThreadState) -> bool {
        self.is_certain && self.state == *state && self.task.as_ref().is_some_and(|task| task.has_not_run(pid))
    }
}

/// The globals of a module.
fn globals_of<M: Memory>(target: &Target<M>, modules: u64, name: &str) -> Option<u64> {
    // A module has its dictionary right behind its head.
    let module = target.heap.item(modules, name).ok()??;
    target.heap.memory.u64(module.wrapping_add(16)).ok()
}

fn tasks_of<M: Memory>(target: &Target<M>, interpreters: &[Interpreter]) -> Vec<AsyncTask> {
    let tasks_of_one = |one: &Interpreter| {
        let globals = globals_of(target, one.modules, "asyncio.tasks")?;
        Some(target.heap.tasks(globals, &target.task_lists(one)))
    };
    let tasks: Vec<_> = interpreters.iter().filter_map(tasks_of_one).flatten().collect();
    let task = |task: &coroutine::Task| AsyncTask {
        name: task.name.clone(),
        state: task.state,
        awaits: task.awaits.and_then(|awaited| tasks.iter().position(|other| other.at == awaited)),
        frames: task.frames.iter().map(place).collect(),
    };
    tasks.iter().map(task).collect()
}

fn people_of<M: Memory>(target: &Target<M>, modules: u64) -> HashMap<u64, Person> {
    let heap = &target.heap;
    let names_of = |name| globals_of(target, modules, name);
    if let Some(globals) = names_of("__main__") {
        heap.script.get_or_init(|| globals);
    }
    let find = || heap.entries(heap.item(names_of("threading")?, "_active").ok()??).ok();
    let person = |(ident, object): (u64, u64)| {
        let name = heap.attribute(object, "_name").and_then(|name| heap.text(name).ok());
        let is_daemon = heap.attribute(object, "_daemonic").and_then(|value| heap.truth(value));
        Some((heap.int(ident).ok()?, Person { object, name, is_daemon }))
    };
    find().unwrap_or_default().into_iter().filter_map(person).collect()
}

fn describe<M: Memory>(target: &Target<M>, sight: &Sight, person: Option<&Person>) -> (Thread, Ender) {
    let heap = &target.heap;
    let chain = &sight.chain;
    let holds_gil = sight.gil.is_some_and(|gil| gil.holder == Some(sight.state.at));
    let gil_is_held = sight.gil.is_some_and(|gil| gil.holder.is_some());
    let task = sight.task.as_ref();
    let call = task.and_then(|task| task.call.as_ref());
    let (state, finding) = match (task.map(|task| task.letter), call) {
        (None, _) => (State::Unknown, None),
        (Some('T' | 't'), _) => (State::Stopped, None),
        (_, Some(Call::Futex { address, .. })) if sight.gil.is_some_and(|gil| target.is_of_gil(gil, *address)) => {
            (State::Gil, None)
        }
        (_, Some(Call::Futex { address, is_timed })) => {
            let (state, finding) = heap.wait_on_futex(chain, *address, *is_timed);
            (state, Some(finding))
        }
        (Some('R'), _) | (_, Some(Call::Running)) => {
            (if gil_is_held && !holds_gil { State::Native } else { State::Running }, None)
        }
        (_, Some(call)) => {
            let child = matches!(call, Call::Poll(_)).then(|| heap.child_of_server(chain)).flatten();
            let call = child.map_or_else(|| call.clone(), |child| Call::Child(Some(child)));
            wait::wait_in_kernel(target.pid, &call, chain)
        }
        (_, None) => (State::Unknown, None),
    };
    let ender = finding.as_ref().map_or(Ender::Anyone, |finding| finding.ender);
    let frames = || chain.frames.iter().map(place).collect::<Vec<_>>();
    let name = || {
        // Without the module `threading` nobody has a name; the first thread gets this one when it is imported.
        if sight.state.native_id == target.pid {
            return "MainThread".into();
        }
        task.map(|task| task.name.clone()).unwrap_or_default()
    };
    let thread = Thread {
        name: person.and_then(|person| person.name.clone()).unwrap_or_else(name),
        ident: sight.state.ident,
        native_id: sight.state.native_id,
        interpreter: sight.interpreter,
        is_daemon: person.and_then(|person| person.is_daemon),
        state,
        wait: finding.map(|finding| wait_of(finding, chain)),
        holds_gil,
        holds: sight.taken.iter().map(|taken| held(target, chain, taken)).collect(),
        frames: frames(),
        is_certain: sight.is_certain,
        cpu: task.map_or(0, |task| task.spent.0),
        queued: task.map_or(0, |task| task.spent.1),
        runs: task.and_then(|task| task.runs),
        is_whole: chain.is_whole,
    };
    (thread, ender)
}

fn wait_of(finding: Finding, chain: &Chain) -> Wait {
    Wait {
        kind: finding.kind,
        what: said(&finding),
        object: finding.object,
        name: finding.name,
        is_timed: finding.is_timed,
        place: wait::place_of(&chain.frames).map(|index| place(&chain.frames[index])),
        holder: None,
    }
}

fn held<M: Memory>(target: &Target<M>, chain: &Chain, taken: &Taken) -> Held {
    let name = target.heap.name_of(taken.lock.at, &chain.frames[taken.frame..]);
    Held {
        kind: taken.lock.kind(),
        what: with_name(taken.lock.class().into(), name.as_deref()),
        object: taken.lock.at,
        name,
        place: taken_at(chain, taken),
    }
}

/// The line of the `with`, or, if that is inside the standard library's waiting, of the user's call.
fn taken_at(chain: &Chain, taken: &Taken) -> Option<Place> {
    let frames = &chain.frames[taken.frame..];
    match wait::place_of(frames)? {
        0 => Some(Place { line: taken.line, ..place(&frames[0]) }),
        index => Some(place(&frames[index])),
    }
}

fn said(finding: &Finding) -> String {
    // A thread has a name of its own.
    let name = finding.name.as_deref().filter(|_| finding.kind != "thread");
    let named = with_name(finding.what.clone(), name);
    finding.detail.as_ref().map_or(named.clone(), |detail| format!("{named} {detail}"))
}

fn with_name(what: String, name: Option<&str>) -> String {
    name.map_or(what.clone(), |name| format!("{what} '{name}'"))
}

fn place(frame: &Frame) -> Place {
    Place { function: frame.code.qualname.clone(), file: frame.code.filename.clone(), line: frame.line() }
}

fn notes(sights: &[Sight], threads: &[Thread]) -> Vec<String> {
    let mut notes = Vec::new();
    if sights.iter().any(|sight| sight.task.as_ref().is_some_and(|task| task.call.is_none())) {
        notes.push(
            "the kernel does not say what the threads do (/proc/PID/task/TID/syscall): states are unknown".into(),
        );
    }
    let want_gil = threads.iter().filter(|thread| thread.state == State::Gil).count();
    for thread in threads.iter().filter(|thread| thread.holds_gil && want_gil > 0) {
        if !matches!(thread.state, State::Running | State::Gil) {
            notes.push(format!(
                "\"{}\" holds the GIL and does not run: {want_gil} other threads wait for it meanwhile",
                thread.name
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::memory::{Fault, Read};
    use crate::object::Heap;
    use crate::text::{Style, text};

    /// The memory of a process in which now and then a word is another, or cannot be read.
    struct Flawed {
        file: File,
        state: Cell<u64>,
        /// One read in so many is wrong.
        rarity: u64,
    }

    impl Flawed {
        fn random(&self) -> u64 {
            let mut x = self.state.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            self.state.set(x);
            x
        }
    }

    impl Memory for Flawed {
        fn fill(&self, address: u64, into: &mut [u8]) -> Read<()> {
            self.file.fill(address, into)?;
            let dice = self.random();
            if !dice.is_multiple_of(self.rarity) || into.is_empty() {
                return Ok(());
            }
            let at = self.random() as usize % into.len();
            match dice / self.rarity % 4 {
                0 => return Err(Fault),
                1 => into[at] = self.random() as u8,
                2 => into[at / 8 * 8..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                // A pointer to somewhere else in the same memory: circles.
                _ => {
                    into[at / 8 * 8..].iter_mut().zip((address & !7).to_ne_bytes()).for_each(|(byte, new)| *byte = new)
                }
            }
            Ok(())
        }
    }

    const PROGRAM: &str = "
import threading, queue
class Account:
    def __init__(self):
        self.lock, self.items = threading.RLock(), queue.Queue()
    def hold(self, n):
        if n:
            return self.hold(n - 1)
        with self.lock:
            self.items.get()
a = Account()
lock = threading.Lock()
lock.acquire()
threads = [threading.Thread(target=a.hold, args=(5,), daemon=True) for _ in range(3)]
threads.append(threading.Thread(target=lambda: lock.acquire(), daemon=True))
for thread in threads:
    thread.start()
print('ready', flush=True)
threads[0].join()
";

    #[test]
    fn memory_that_lies_makes_no_panic_and_no_endless_walk() {
        let child = Command::new("python3").args(["-c", PROGRAM]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else { return };
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        output.read_line(&mut line).expect("the program says that it is ready");
        if let Ok(honest) = Target::open(child.id()) {
            let mut seen = 0;
            for seed in 1..200u64 {
                let target = Target {
                    pid: honest.pid,
                    version: honest.version.clone(),
                    heap: Heap::new(
                        Flawed {
                            file: crate::memory::of_process(child.id()).expect("it was opened before"),
                            state: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                            rarity: 3 + seed % 300,
                        },
                        honest.heap.layout.clone(),
                    ),
                    runtime: honest.runtime,
                };
                if let Ok(process) = look_once(&target, &mut Memo::default()) {
                    seen += 1;
                    assert!(!text(&Look { processes: vec![process], stuck: vec![] }, Style::default()).is_empty());
                }
            }
            assert!(seen > 20, "a few flaws leave something to be seen: {seen}");
        }
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
}
