//! What a look has found: plain data, ready to be written down.

/// What one look has found: a process, or several of one tree.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Look {
    /// The processes: the one that was asked for, then its descendants.
    pub processes: Vec<Process>,
    /// The threads of several processes that nobody outside of them can free: indices of the process and of the thread in it.
    pub stuck: Vec<(usize, usize)>,
}

/// A process that was looked into.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The words of its command line.
    pub command: Vec<String>,
    /// The version of CPython that it runs, such as `3.11.7`; `None` if it runs something else.
    pub version: Option<String>,
    /// Its working directory, where that is known.
    pub directory: Option<String>,
    /// For how many seconds it has been there.
    pub age: Option<f64>,
    /// The threads that run Python, the oldest first.
    pub threads: Vec<Thread>,
    /// The other threads: of the kernel's list those that Python does not know.
    pub native_threads: Vec<NativeThread>,
    /// The tasks of asyncio that have not ended.
    pub tasks: Vec<AsyncTask>,
    /// Tasks of [`tasks`](Self::tasks) of which each awaits the next one, and the last the first.
    pub task_deadlocks: Vec<Vec<usize>>,
    /// Threads of [`threads`](Self::threads) that wait for each other.
    pub deadlocks: Vec<Deadlock>,
    /// Locks whose owner is not there any more, by the threads that wait for them.
    pub orphans: Vec<usize>,
    /// The processes that it has started.
    pub children: Vec<Child>,
    /// What could not be seen, and what is odd, in sentences.
    pub notes: Vec<String>,
    /// How many seconds the look took.
    pub took: f64,
}

/// A thread that runs Python.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Thread {
    /// The name that `threading` has for it, or else the kernel's.
    pub name: String,
    /// `threading.get_ident()`.
    pub ident: u64,
    /// `threading.get_native_id()`.
    pub native_id: u32,
    /// The interpreter that it runs; the main one is 0.
    pub interpreter: u64,
    /// Whether it is a daemon; `None` if `threading` does not know it.
    pub is_daemon: Option<bool>,
    /// What it does.
    pub state: State,
    /// What it waits for.
    pub wait: Option<Wait>,
    /// Whether it holds its interpreter's GIL.
    pub holds_gil: bool,
    /// The locks that it is known to hold.
    pub holds: Vec<Held>,
    /// Its stack, the innermost function first.
    pub frames: Vec<Place>,
    /// Whether the stack is one that the thread really had: it has not run while it was looked at, or two looks were alike.
    pub is_certain: bool,
    /// Whether no frame is missing.
    pub is_whole: bool,
    /// For how many nanoseconds it had been on a processor when it was looked at.
    pub cpu: u64,
    /// For how many nanoseconds it had wanted to be, while others were.
    pub queued: u64,
    /// How often the kernel had put it on a processor when it was looked at; `None` where the kernel does not count. A thread that sleeps, and for which this
    /// has not changed since an earlier look, has not run in between.
    pub runs: Option<u64>,
}

/// A task of asyncio.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AsyncTask {
    /// Its name.
    pub name: String,
    /// `new`, `running` or `waiting`.
    pub state: &'static str,
    /// The index in [`Process::tasks`] of the task that it awaits, if it awaits one.
    pub awaits: Option<usize>,
    /// The functions that await each other, the innermost first.
    pub frames: Vec<Place>,
}

/// A thread that Python does not know: of a library, or one that has not yet called into Python.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NativeThread {
    /// The kernel's name of it.
    pub name: String,
    /// The kernel's number of it.
    pub native_id: u32,
    /// Whether it was on a processor or wanted to be.
    pub is_running: bool,
    /// For how many nanoseconds it had been on a processor.
    pub cpu: u64,
    /// For how many nanoseconds it had wanted to be, while others were.
    pub queued: u64,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// It is on a processor, or would be if one were free, and holds the GIL or is about to ask for it.
    Running,
    /// It runs without the GIL, in native code, while another thread has it.
    Native,
    /// It wants to run Python and waits for the GIL.
    Gil,
    /// It waits for a lock.
    Blocked,
    /// It waits for another thread, a process, an event, an item of a queue.
    Waiting,
    /// It sleeps for a time.
    Sleeping,
    /// It waits for a file, a pipe or a socket.
    Io,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// What it does is not known.
    #[default]
    Unknown,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Running,
        Self::Native,
        Self::Gil,
        Self::Blocked,
        Self::Waiting,
        Self::Sleeping,
        Self::Io,
        Self::Stopped,
        Self::Unknown,
    ];

    /// A word that does not change, for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Native => "native",
            Self::Gil => "gil",
            Self::Blocked => "blocked",
            Self::Waiting => "waiting",
            Self::Sleeping => "sleeping",
            Self::Io => "io",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// What a thread waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// A word that does not change, for programs: `lock`, `rlock`, `thread`, `queue-get` …
    pub kind: &'static str,
    /// What, in words: `Lock 'x'`, `the end of "worker"`.
    pub what: String,
    /// The address of the object that it waits for.
    pub object: Option<u64>,
    /// The name of a variable or attribute that the object is in.
    pub name: Option<String>,
    /// Whether the wait ends by itself after a time.
    pub is_timed: bool,
    /// Where it was asked for: the innermost place outside the modules that only wait.
    pub place: Option<Place>,
    /// Who could end the wait, where that is known.
    pub holder: Option<Holder>,
}

/// Who could end a wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its index in [`Process::threads`]; `None` if it is a thread that is not there (any more).
    pub thread: Option<usize>,
    /// Where it has taken what is waited for.
    pub place: Option<Place>,
}

/// A lock that a thread holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// `lock` or `rlock`.
    pub kind: &'static str,
    /// In words: `Lock 'x'`.
    pub what: String,
    /// Its address.
    pub object: u64,
    /// The name of a variable or attribute that it is in.
    pub name: Option<String>,
    /// Where it was taken.
    pub place: Option<Place>,
}

/// A place in a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The function's qualified name.
    pub function: String,
    /// The file, as the code object has it.
    pub file: String,
    /// The line.
    pub line: u32,
}

impl Place {
    /// A line of a function of a file.
    #[must_use]
    pub fn new(function: impl Into<String>, file: impl Into<String>, line: u32) -> Self {
        Self { function: function.into(), file: file.into(), line }
    }
}

/// Threads that wait for each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlock {
    /// Indices in [`Process::threads`]: each waits for the next one, and the last for the first.
    pub threads: Vec<usize>,
    /// Whether none of them has run while they were looked at. Otherwise it may have been seen where there is none.
    pub is_certain: bool,
    /// Whether one of the waits ends by itself after a time.
    pub is_timed: bool,
}

/// A process that the one looked into has started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Child {
    /// Its number.
    pub pid: u32,
    /// The words of its command line.
    pub command: Vec<String>,
}
