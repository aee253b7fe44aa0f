//! What a thread waits for, in words: from the system call that it is in, and the functions that have led there.
//!
//! A futex alone says little: every lock, event, queue and join of Python sleeps on one. The functions of the standard library around it say
//! the rest. A `Condition.wait` that was called by `Queue.get` waits for an item.

use crate::frame::{Chain, Frame};
use crate::kernel::Call;
use crate::lock::Lock;
use crate::memory::Memory;
use crate::model::State;
use crate::object::Heap;
use crate::own::OwnCall;
use crate::process;

/// What a thread waits for, before it is known who could end that.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: &'static str,
    /// What, without its name.
    pub(crate) what: String,
    /// What else there is to say, to stand behind the name.
    pub(crate) detail: Option<String>,
    pub(crate) object: Option<u64>,
    pub(crate) name: Option<String>,
    pub(crate) is_timed: bool,
    pub(crate) ender: Ender,
}

/// Who could end a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ender {
    /// Whoever holds this lock.
    Lock(Lock),
    /// The thread whose `threading.Thread` this is, by ending.
    Thread(u64),
    /// Anyone.
    Anyone,
}

impl Finding {
    pub(crate) fn new(kind: &'static str, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), detail: None, object: None, name: None, is_timed: false, ender: Ender::Anyone }
    }

    fn of(mut self, object: Option<u64>) -> Self {
        self.object = object;
        self
    }

    fn with(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    fn ended_by(mut self, ender: Ender) -> Self {
        self.ender = ender;
        self
    }
}

/// Files of the standard library whose functions wait for the user: the place that interests is the first outside.
const WAITING_FILES: [&str; 5] =
    ["threading.py", "queue.py", "concurrent/futures/_base.py", "concurrent/futures/thread.py", "subprocess.py"];

/// The innermost frame that is the user's own, or else the innermost.
pub(crate) fn place_of(frames: &[Frame]) -> Option<usize> {
    let outside = |frame: &Frame| !frame.is_of_import() && !WAITING_FILES.iter().any(|file| frame.is_of(file));
    frames.iter().position(outside).or((!frames.is_empty()).then_some(0))
}

impl<M: Memory> Heap<M> {
    /// What a thread that sleeps on a futex, which is not the GIL's, waits for.
    pub(crate) fn wait_on_futex(&self, chain: &Chain, address: u64, is_timed: bool) -> (State, Finding) {
        let (state, mut finding) = self.name_the_wait(chain, address);
        finding.is_timed = is_timed;
        if finding.name.is_none() {
            finding.name = finding.object.and_then(|object| self.name_of(object, &chain.frames));
        }
        (state, finding)
    }

    fn name_the_wait(&self, chain: &Chain, address: u64) -> (State, Finding) {
        let waiting = |finding| (State::Waiting, finding);
        let Some(inner) = chain.frames.first() else {
            return waiting(Finding::new("native", "a lock or an event of native code"));
        };
        if inner.is_in("threading.py", "Condition.wait") {
            return waiting(self.notified(chain));
        }
        if inner.is_in("threading.py", "Thread._wait_for_tstate_lock") || inner.is_in("threading.py", "Thread.join") {
            return waiting(self.joins(self.local(inner, "self")));
        }
        if let Some(lock) = self.wanted_lock(inner, address) {
            if inner.is_in("threading.py", "_shutdown") {
                return waiting(self.shutdown());
            }
            if let Some(finding) = self.imports(inner, lock) {
                return (State::Blocked, finding);
            }
            let finding = Finding::new(lock.kind(), lock.class()).of(Some(lock.at)).ended_by(Ender::Lock(lock));
            return (State::Blocked, finding);
        }
        if let Some(queue) = self.wanted_queue(inner, address) {
            let is_worker = inner.is_in("concurrent/futures/thread.py", "_worker");
            let what =
                if is_worker { "work: it is an idle worker of a ThreadPoolExecutor" } else { "an item of SimpleQueue" };
            return waiting(Finding::new(if is_worker { "idle-worker" } else { "queue-get" }, what).of(Some(queue)));
        }
        if inner.is_in("threading.py", "_shutdown") {
            return waiting(self.shutdown());
        }
        if let Some(call) = self.own_call(inner) {
            return self.waits_for_own(&call);
        }
        if inner.code.filename.ends_with("raddle/threading.py") && inner.code.qualname == "Thread.join" {
            return waiting(self.joins(self.local(inner, "self")));
        }
        if inner.code.filename.ends_with("raddle/_thread_pool.py") {
            return waiting(Finding::new("idle-worker", "work: it is an idle worker of a Pool"));
        }
        if inner.is_in("multiprocessing/synchronize.py", "SemLock.__enter__") {
            return (
                State::Blocked,
                Finding::new("process-lock", "a lock of multiprocessing").of(self.local(inner, "self")),
            );
        }
        waiting(Finding::new("native", "a lock or an event of native code"))
    }

    /// The lock of a module that another thread imports, if a thread waits for that. It says who imports; the plain lock in it, on which the thread sleeps, is
    /// nobody's, and only wakes it.
    fn imports(&self, inner: &Frame, wakes: Lock) -> Option<Finding> {
        if !(inner.is_of_import() && inner.code.qualname == "_ModuleLock.acquire") {
            return None;
        }
        let own = self.local(inner, "self")?;
        let name = self.text(self.attribute(own, "name")?).ok()?;
        let owner = self.attribute(own, "owner").and_then(|owner| self.int(owner).ok());
        let finding = Finding::new("lock", "the import lock of module").of(Some(wakes.at));
        Some(Finding { name: Some(name), ..finding }.ended_by(Ender::Lock(wakes.released_by(owner))))
    }

    /// The process whose end a thread that polls a pipe waits for: one that a fork server of `multiprocessing` has forked, and so no child of ours.
    pub(crate) fn child_of_server(&self, chain: &Chain) -> Option<u32> {
        let frame =
            chain.frames.iter().find(|frame| frame.is_in("multiprocessing/popen_forkserver.py", "Popen.poll"))?;
        let is_endless = self.type_of(self.local(frame, "timeout")?).ok()?.name == "NoneType";
        let pid = || self.int(self.attribute(self.local(frame, "self")?, "pid")?).ok();
        is_endless.then(pid).flatten().and_then(|pid| u32::try_from(pid).ok())
    }

    /// What a thread that has called a method of a thing of Raddle's waits for.
    fn waits_for_own(&self, call: &OwnCall) -> (State, Finding) {
        if let Some(lock) = self.own_lock(call.object) {
            let finding = Finding::new(lock.kind(), lock.class()).of(Some(lock.at)).ended_by(Ender::Lock(lock));
            return (State::Blocked, finding);
        }
        let (kind, what) = match (call.class, call.method.as_str()) {
            ("Queue" | "SimpleQueue", "put") => ("queue-put", "a free place in"),
            ("Queue", "join") => ("queue-join", "task_done() for"),
            ("Queue" | "SimpleQueue", _) => ("queue-get", "an item of"),
            ("Event", _) => ("event", "set() of"),
            ("Condition", _) => ("condition", "notify() of"),
            ("Semaphore", _) => ("semaphore", "a permit of"),
            ("Barrier", _) => ("barrier", "the others at"),
            _ => ("future", "the result of"),
        };
        (State::Waiting, Finding::new(kind, format!("{what} {}", call.class)).of(Some(call.object)))
    }

    fn shutdown(&self) -> Finding {
        Finding::new("shutdown", "the end of the threads that are no daemons: the program itself has ended")
    }

    fn joins(&self, thread: Option<u64>) -> Finding {
        let name = thread.and_then(|thread| self.text(self.attribute(thread, "_name")?).ok());
        let what = name.map_or("the end of a thread".into(), |name| format!("the end of \"{name}\""));
        Finding::new("thread", what).of(thread).ended_by(thread.map_or(Ender::Anyone, Ender::Thread))
    }

    /// What a thread in `Condition.wait` waits for: the function around it says what the condition is for.
    fn notified(&self, chain: &Chain) -> Finding {
        let mut outer = chain.frames.iter().skip(1).filter(|frame| !frame.is_in("threading.py", "Condition.wait_for"));
        outer.next().and_then(|frame| self.notified_in(chain, frame)).unwrap_or_else(|| {
            let condition = chain.frames.first().and_then(|frame| self.local(frame, "self"));
            Finding::new("condition", "notify() of Condition").of(condition)
        })
    }

    fn notified_in(&self, chain: &Chain, frame: &Frame) -> Option<Finding> {
        let own = self.local(frame, "self");
        let attribute = |name: &str| self.attribute(own?, name);
        let number = |name: &str| self.int(attribute(name)?).ok();
        let class = |otherwise: &str| self.class_of(own, otherwise);
        let files = ["queue.py", "threading.py", "concurrent/futures/_base.py"];
        let file = files.into_iter().find(|file| frame.is_of(file))?;
        let finding = match (file, frame.code.qualname.as_str()) {
            ("queue.py", "Queue.get") => Finding::new("queue-get", format!("an item of {}", class("Queue"))),
            ("queue.py", "Queue.put") => Finding::new("queue-put", format!("a free place in {}", class("Queue")))
                .with(number("maxsize").map(|size| format!("(maxsize={size})"))),
            ("queue.py", "Queue.join") => Finding::new("queue-join", format!("task_done() for {}", class("Queue")))
                .with(number("unfinished_tasks").map(|open| format!("({open} unfinished)"))),
            ("threading.py", "Event.wait") => self.event(chain),
            ("threading.py", "Semaphore.acquire") => {
                Finding::new("semaphore", format!("a permit of {}", class("Semaphore")))
            }
            ("threading.py", "Barrier._wait" | "Barrier._enter") => {
                let come = number("_count").zip(number("_parties"));
                Finding::new("barrier", "the others at Barrier")
                    .with(come.map(|(come, parties)| format!("({come} of {parties} have come)")))
            }
            ("concurrent/futures/_base.py", "Future.result" | "Future.exception") => {
                let state = attribute("_state").and_then(|state| self.text(state).ok());
                Finding::new("future", "the result of Future")
                    .with(state.map(|state| format!("({})", state.to_lowercase())))
            }
            _ => return None,
        };
        Some(finding.of(own))
    }

    /// An event is what many other things wait with.
    fn event(&self, chain: &Chain) -> Finding {
        let outer =
            chain.frames.iter().find(|frame| !frame.is_of("threading.py") || frame.code.qualname == "Thread.start");
        let is = |file: &str, function: &str| outer.is_some_and(|frame| frame.is_in(file, function));
        if is("threading.py", "Thread.start") {
            Finding::new("thread-start", "a thread that it starts to begin")
        } else if is("concurrent/futures/_base.py", "wait") || is("concurrent/futures/_base.py", "as_completed") {
            Finding::new("futures", "several futures")
        } else if is("multiprocessing/pool.py", "ApplyResult.wait") {
            Finding::new("pool-result", "a result of multiprocessing.Pool")
        } else {
            Finding::new("event", "set() of Event")
        }
    }

    fn class_of(&self, object: Option<u64>, otherwise: &str) -> String {
        let kind = object.and_then(|object| self.type_of(object).ok());
        kind.map_or(otherwise.into(), |kind| kind.name.rsplit('.').next().unwrap_or(otherwise).to_owned())
    }

    /// A name under which the object is known in the functions around: of a variable, of an attribute, of a global.
    pub(crate) fn name_of(&self, object: u64, chain: &[Frame]) -> Option<String> {
        // Those that only wait for the user name it `self` or `lock`.
        let frames = || chain.iter().filter(|frame| !WAITING_FILES.iter().any(|file| frame.is_of(file))).take(4);
        let global = || frames().find_map(|frame| self.item_with(frame.globals, object));
        let local = || frames().find_map(|frame| self.local_with(frame, object));
        let of_script = || self.script.get().and_then(|globals| self.item_with(*globals, object));
        global().or_else(local).or_else(of_script)
    }

    fn local_with(&self, frame: &Frame, object: u64) -> Option<String> {
        let slots = self.slots(frame);
        let locals = || self.local_names(&frame.code).iter().zip(&slots).filter(|(_, slot)| **slot != 0);
        let itself = locals().find(|(_, slot)| self.in_cell(**slot) == object).map(|(name, _)| name.clone());
        let own = || {
            let (_, own) = locals().find(|(name, _)| *name == "self")?;
            let own = self.in_cell(*own);
            let attribute = self.attribute_with(own, object)?;
            Some(format!("{}.{attribute}", self.class_of(Some(own), "self")))
        };
        own().or(itself)
    }
}

/// What a system call that is no futex says.
pub(crate) fn wait_in_kernel(pid: u32, call: &Call, chain: &Chain) -> (State, Option<Finding>) {
    let descriptor = |number: i32| {
        let what = process::descriptor(pid, number);
        what.map_or(format!("fd {number}"), |what| format!("{what} (fd {number})"))
    };
    let io = |kind, what: String| (State::Io, Some(Finding::new(kind, what)));
    let runs_loop = || chain.frames.iter().any(|frame| frame.is_of("asyncio/base_events.py"));
    match call {
        Call::Running | Call::Futex { .. } => (State::Running, None),
        Call::Read(number) => io("read", format!("data from {}", descriptor(*number))),
        Call::Write(number) => io("write", format!("room to write to {}", descriptor(*number))),
        Call::Accept(number) => io("accept", format!("a connection at {}", descriptor(*number))),
        Call::Connect(number) => io("connect", format!("the other side of {}", descriptor(*number))),
        Call::FileLock(number) => {
            let what = format!("a lock of the file {}", descriptor(*number));
            (State::Blocked, Some(Finding::new("file-lock", what)))
        }
        Call::File(name) => io("file", format!("a file ({name})")),
        Call::Poll(name) if runs_loop() => {
            io("event-loop", format!("events: its asyncio loop has nothing to do ({name})"))
        }
        Call::Poll(name) => io("poll", format!("one of several files or sockets ({name})")),
        Call::Sleep => (State::Sleeping, None),
        Call::Child(Some(child)) => {
            (State::Waiting, Some(Finding::new("process", format!("the end of process {child}"))))
        }
        Call::Child(None) => (State::Waiting, Some(Finding::new("process", "the end of any child process"))),
        Call::Signal => (State::Waiting, Some(Finding::new("signal", "a signal"))),
        Call::Other(number) => (State::Unknown, Some(Finding::new("system-call", format!("the system call {number}")))),
    }
}
