//! A session: what was seen of one run of a program.
//!
//! # Rules
//!
//! 1. Times are nanoseconds since the session's start, on one clock for all processes.
//! 2. The spans of a thread are in the order of their times and do not overlap. Where nothing is known there is no span.
//! 3. Places and things are kept once and named by their index: [`PlaceId`], [`ThingId`].
//! 4. What is written can be read by later versions: fields are added, none is renamed or changes its meaning without another
//!    [`Session::VERSION`].
//! 5. Of what there may be a million each is written as a row of its fields, without their names; and a row gets longer with another version only.
//!    With their names they are read as well.

use serde::{Deserialize, Serialize, Serializer};

/// Nanoseconds: a length, or a moment since the session's start.
pub type Nanos = u64;

/// An index into [`Session::places`].
pub type PlaceId = u32;

/// An index into [`Session::things`].
pub type ThingId = u32;

/// What was seen of one run of a program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// The words of the command line: the program and its arguments.
    pub command: Vec<String>,
    /// The directory that it was started in.
    pub directory: String,
    /// How many processors it could use.
    pub cores: u32,
    /// When it was started, in seconds since 1970.
    pub started: f64,
    /// How long it was watched.
    pub length: Nanos,
    /// How the first process ended; `None` if it goes on.
    pub ending: Option<Ending>,
    /// Whether it was ended by who watched it.
    pub is_aborted: bool,
    /// How long it was from one look to the next, on average: what is shorter may have been missed where nothing was recorded from within.
    pub period: Nanos,
    /// The processes, each behind the one that started it.
    pub processes: Vec<Process>,
    /// Places in the program.
    pub places: Vec<Place>,
    /// What was waited for.
    pub things: Vec<Thing>,
    /// Who passed what on to whom.
    pub passes: Vec<Pass>,
    /// Units that nobody could free.
    pub stuck: Vec<Stuck>,
    /// What happened at some moment, and is worth a word.
    pub facts: Vec<Fact>,
    /// How many events were not recorded because there was no room for them.
    pub dropped: u64,
    /// What could not be seen, and what is odd, in sentences.
    pub notes: Vec<String>,
}

impl Session {
    /// The number of the format (rule 4). Before 2 there were no rows.
    pub const VERSION: u32 = 2;
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With an exit code.
    Exit(i32),
    /// By a signal, by its number.
    Signal(i32),
    /// It has ended; how, is not known.
    Unknown,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The index in [`Session::processes`] of the one that started it.
    pub parent: Option<usize>,
    /// The words of its command line.
    pub command: Vec<String>,
    /// The version of CPython that it runs; `None` if it runs something else.
    pub python: Option<String>,
    /// When it was first seen.
    pub began: Nanos,
    /// When it had ended.
    pub ended: Option<Nanos>,
    /// How it ended, where that is known.
    pub ending: Option<Ending>,
    /// Whether another process of the program had sent it the signal by which it ended.
    pub is_wanted: bool,
    /// How long its threads were on a processor, together.
    pub cpu: Nanos,
    /// Its GIL, where that is known.
    pub gil: Option<Gil>,
    /// Its threads, the oldest first.
    pub threads: Vec<Thread>,
    /// Whether something was recorded from within it.
    pub is_recorded: bool,
}

/// What is known about a GIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gil {
    /// How long some thread held it.
    pub held: Nanos,
    /// How long threads waited for it, together.
    pub waited: Nanos,
    /// How often one thread had to hand it to another that waited.
    pub switches: u64,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// The kernel's number of it.
    pub native_id: u32,
    /// `threading.get_ident()`, or 0.
    pub ident: u64,
    /// The name that `threading` has for it, or else the kernel's.
    pub name: String,
    /// Whether it is a daemon; `None` if `threading` does not know it.
    pub is_daemon: Option<bool>,
    /// Whether it is known to Python.
    pub is_python: bool,
    /// Whether it is a library's own: nobody has started it from Python, and no Python was seen in it.
    pub is_foreign: bool,
    /// The function that it was started with, where that is known.
    pub function: Option<PlaceId>,
    /// The thread of the same process that started it, where that is known: an index in [`Process::threads`].
    pub starter: Option<usize>,
    /// When it was first seen.
    pub began: Nanos,
    /// When it had ended; `None` if it was there at the end of the session or of its process.
    pub ended: Option<Nanos>,
    /// How long it was on a processor.
    pub cpu: Nanos,
    /// How long it was runnable while another one was on the processor.
    pub queued: Nanos,
    /// What it did (rule 2).
    pub spans: Vec<Span>,
    /// The exception that ended it, in one line, if it was not handled.
    pub exception: Option<String>,
    /// Moments at which it was seen outside of any event loop, one for each time between two loops.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<Nanos>,
}

/// What a thread did for some time (rule 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Span {
    /// From when.
    pub from: Nanos,
    /// Until when.
    pub until: Nanos,
    /// What.
    pub state: State,
    /// The innermost place of the program's own, outside of modules that only wait.
    pub place: Option<PlaceId>,
    /// What it waited for.
    pub thing: Option<ThingId>,
    /// Who could have ended the wait: an index in [`Process::threads`] of the same process.
    pub holder: Option<u32>,
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self { from, until, state, place, thing, holder } = self;
        (from, until, state, place, thing, holder).serialize(serializer)
    }
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is on a processor and runs Python.
    Running,
    /// It is on a processor without the GIL, in native code.
    Native,
    /// It wants to run and no processor is free.
    Runnable,
    /// It wants to run Python and waits for the GIL.
    Gil,
    /// It waits for a lock.
    Lock,
    /// It waits for an item of a queue or a channel, or for room in one.
    Queue,
    /// It waits for an event, a condition, a barrier, a semaphore, a future.
    Event,
    /// It waits for the end of a thread or a process.
    Join,
    /// It waits for a file, a pipe, a socket.
    Io,
    /// It sleeps for a time.
    Sleep,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// What it does is not known.
    Unknown,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 12] = [
        Self::Running,
        Self::Native,
        Self::Runnable,
        Self::Gil,
        Self::Lock,
        Self::Queue,
        Self::Event,
        Self::Join,
        Self::Io,
        Self::Sleep,
        Self::Stopped,
        Self::Unknown,
    ];
}

/// A place in a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The function's qualified name.
    pub function: String,
    /// The file, as the code object has it.
    pub file: String,
    /// The line, from 1 on.
    pub line: u32,
}

/// Something that is waited for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thing {
    /// A word that does not change: `lock`, `rlock`, `semaphore`, `condition`, `event`, `queue-get`, `queue-put`, `thread`, `process`, `future`,
    /// `barrier`, `pipe`, `socket` … as [`raddle_probe::Wait::kind`] has them.
    pub kind: String,
    /// In words: `Lock 'Account.lock'`.
    pub what: String,
    /// The index in [`Session::processes`] of the process that it is in.
    pub process: usize,
    /// Its address there, or 0.
    pub object: u64,
    /// Where it was made, where that is known.
    pub made: Option<PlaceId>,
    /// How often it was taken, where that was counted.
    pub taken: u64,
    /// How often it had to be waited for.
    pub contended: u64,
    /// How long it was held, where that was measured.
    pub held: Nanos,
}

/// Somebody passed something on to somebody: a lock was released and taken, an item was put and got, a thread was started, a thread ended and was joined (rule 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Pass {
    /// Who passed it on: indices of the process and of the thread in it.
    pub from: (usize, usize),
    /// When.
    pub at: Nanos,
    /// Who got it.
    pub to: (usize, usize),
    /// When.
    pub until: Nanos,
    /// What.
    pub thing: Option<ThingId>,
}

impl Serialize for Pass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self { from, at, to, until, thing } = self;
        (from, at, to, until, thing).serialize(serializer)
    }
}

/// Units of which nobody outside of them could free one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stuck {
    /// Why: `deadlock`, `self-deadlock`, `task-deadlock`, `process-deadlock`, `lost-lock`, `pool-exhausted`, `nobody-can-wake`.
    pub kind: String,
    /// When it was first seen.
    pub at: Nanos,
    /// Whether it was shown to last, and not only seen.
    pub is_certain: bool,
    /// Whether one of the waits ends by itself after a time.
    pub is_timed: bool,
    /// The units; in a circle each waits for the next one, and the last for the first.
    pub units: Vec<StuckUnit>,
}

/// One of the units of a [`Stuck`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StuckUnit {
    /// The index of its process.
    pub process: usize,
    /// The index of its thread there; `None` for a task of asyncio.
    pub thread: Option<usize>,
    /// Its name.
    pub name: String,
    /// What it waits for, in words.
    pub waits_for: String,
    /// Where.
    pub wanted: Option<PlaceId>,
    /// What of the thing that the one before it in the circle waits for it holds, in words.
    pub holds: Option<String>,
    /// Where it has taken that.
    pub taken: Option<PlaceId>,
    /// Its stack, the innermost first.
    pub stack: Vec<PlaceId>,
}

/// Something that happened at some moment, recorded from within the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fact {
    /// What: `unhandled-exception`, `lock-order`, `lock-leaked`, `fork-with-lock`, `daemon-killed`, `never-joined`, `orphaned-thread` …
    pub kind: String,
    /// When.
    pub at: Nanos,
    /// The units that it is about.
    pub units: Vec<UnitId>,
    /// The things that it is about.
    pub things: Vec<ThingId>,
    /// The places, the most important first.
    pub labels: Vec<Label>,
    /// More, in words: the exception in one line.
    pub detail: String,
}

/// A unit: indices of the process and, in it, of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnitId {
    /// The index of the process.
    pub process: usize,
    /// The index of the thread in it; `None` for the process as a whole.
    pub thread: Option<usize>,
}

/// A place, and what happened there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Where.
    pub place: PlaceId,
    /// What, in a few words: `"alpha" holds Lock 'a' since here`.
    pub text: String,
}
