//! The numbers of the format that `format.md` describes.

/// The first eight bytes of a file.
pub const MAGIC: [u8; 8] = *b"raddleEV";
/// The version of the format. A reader refuses others.
pub const VERSION: u32 = 3;
/// What the names of event files end with: `PID-N.events`.
pub const SUFFIX: &str = ".events";

/// Where the fields of the header lie.
pub mod header {
    /// [`super::VERSION`], 4 bytes.
    pub const VERSION: usize = 8;
    /// The process' number, 4 bytes.
    pub const PID: usize = 12;
    /// Which file of this process it is, 4 bytes.
    pub const TURN: usize = 16;
    /// What is recorded, and how it ended: bits, 4 bytes.
    pub const FLAGS: usize = 20;
    /// When the recording began.
    pub const BEGAN: usize = 24;
    /// When the interpreter ended, or 0.
    pub const ENDED: usize = 32;
    /// The size of a block, 4 bytes.
    pub const BLOCK_SIZE: usize = 40;
    /// How many blocks there is room for, 4 bytes.
    pub const BLOCK_COUNT: usize = 44;
    /// How many locks there is room for, 4 bytes.
    pub const LOCK_COUNT: usize = 48;
    /// How many blocks have been given away, 4 bytes. May be more than there are.
    pub const BLOCKS_USED: usize = 52;
    /// How many places for locks have been in use, 4 bytes.
    pub const LOCKS_USED: usize = 56;
    /// The smallest number that this file gives; smaller ones are the parent's, 4 bytes.
    pub const FIRST_ID: usize = 60;
    /// The process that this one was forked from, 4 bytes, or 0.
    pub const PARENT_PID: usize = 64;
    /// Which file of that process, 4 bytes.
    pub const PARENT_TURN: usize = 68;
    /// How many events there was no room for.
    pub const DROPPED: usize = 72;
    /// How long the GIL was held.
    pub const GIL_HELD: usize = 80;
    /// How long threads waited for the GIL.
    pub const GIL_WAITED: usize = 88;
    /// How often a thread had to wait for the GIL.
    pub const GIL_SWITCHES: usize = 96;
    /// Since when the GIL is held, or 0.
    pub const GIL_SINCE: usize = 104;
    /// How many locks there was no place for.
    pub const LOCKS_UNSEEN: usize = 112;
    /// How many bytes the note has, 4 bytes.
    pub const NOTE_LENGTH: usize = 120;
    /// What could not be seen, in words.
    pub const NOTE: usize = 128;
    /// When the main thread had nothing left to do but to wait for others, or 0.
    pub const MAIN_ENDED: usize = NOTE + NOTE_ROOM;
    /// How many orders of locks were not told because there were too many.
    pub const ORDERS_UNSEEN: usize = MAIN_ENDED + 8;
    /// How long the header is.
    pub const SIZE: usize = 4096;
    /// How long a note can be.
    pub const NOTE_ROOM: usize = 1024;
}

/// Bits of [`header::FLAGS`].
pub mod flag {
    /// Locks are recorded.
    pub const LOCKS: u32 = 1;
    /// The GIL is recorded.
    pub const GIL: u32 = 2;
    /// The starts of threads are recorded.
    pub const THREADS: u32 = 4;
    /// The interpreter came to its end.
    pub const ENDED: u32 = 8;
    /// Threads may tell each other things by what is not seen here: Raddle's own locks and channels.
    pub const UNSEEN_MEANS: u32 = 16;
}

/// Where the fields of a lock's place lie.
pub mod lock {
    /// The object's address; 0 if the place is free.
    pub const OBJECT: usize = 0;
    /// Its number, 4 bytes.
    pub const SERIAL: usize = 8;
    /// [`LOCK`] or [`RLOCK`], 1 byte.
    pub const KIND: usize = 12;
    /// Bits, 1 byte.
    pub const FLAGS: usize = 13;
    /// The thread that holds it, 4 bytes, or 0.
    pub const OWNER: usize = 16;
    /// How many threads wait for it, 4 bytes.
    pub const WAITERS: usize = 20;
    /// Since when it is held.
    pub const SINCE: usize = 24;
    /// The place where it was taken, 4 bytes.
    pub const TAKEN_AT: usize = 32;
    /// The thread that took it last, 4 bytes.
    pub const TAKER: usize = 36;
    /// How often it was taken.
    pub const TAKEN: usize = 40;
    /// How long it was held.
    pub const HELD: usize = 48;
    /// How long it was waited for. In front of it is a word of the writer's own.
    pub const WAITED: usize = 64;
    /// The stack by which it was made, 4 bytes.
    pub const MADE: usize = 72;
    /// How often it had to be waited for, 4 bytes.
    pub const CONTENDED: usize = 76;
    /// How much room one has. What lies behind is the writer's own.
    pub const SIZE: usize = 128;

    /// A `threading.Lock`.
    pub const LOCK: u8 = 1;
    /// A `threading.RLock`.
    pub const RLOCK: u8 = 2;

    /// Made by `Condition.wait`, for one wait.
    pub const IS_WAITER: u8 = 1;
    /// Some event names it.
    pub const IS_NAMED: u8 = 2;
    /// It is held by a thread for as long as that lives: whoever gets it knows of the end.
    pub const IS_LIFE: u8 = 4;
    /// Threads of the program can meet there: it made it, or it is a part of an event, a condition, a queue. No library made it for itself.
    pub const IS_MEETING: u8 = 8;
    /// It is that of an event, which can be looked at without it.
    pub const IS_EVENT: u8 = 16;
    /// Another thread than the one that had taken it has released it: who takes it does not hold it by itself.
    pub const IS_PASSED_ON: u8 = 32;
    /// It is that of a semaphore with permits. If it is [`IS_PASSED_ON`], they are: who gives them back has not taken them.
    pub const IS_PERMITS: u8 = 64;
}

/// Where the fields of a block's head lie.
pub mod block {
    /// How many bytes are used, with the head, 4 bytes. Written last.
    pub const USED: usize = 0;
    /// The thread that writes, 4 bytes.
    pub const THREAD: usize = 4;
    /// The lock that it waits for just now, 4 bytes, or 0.
    pub const WAIT: usize = 8;
    /// The thread that holds that, 4 bytes.
    pub const HOLDER: usize = 12;
    /// Since when it waits.
    pub const SINCE: usize = 16;
    /// The stack by which it waits, 4 bytes.
    pub const STACK: usize = 24;
    /// The stack by which the holder took it, 4 bytes.
    pub const TAKEN: usize = 28;
    /// How long the head is.
    pub const HEAD: usize = 64;
}

/// How many bytes a block has.
pub const BLOCK_SIZE: usize = 8192;
/// How many locks a file has room for.
pub const LOCK_COUNT: usize = 32768;
/// How many bytes all blocks together have, unless the environment says otherwise.
pub const BUFFER: usize = 64 << 20;

/// Kinds of records.
pub mod record {
    /// What follows in the block is this thread's.
    pub const THREAD: u8 = 1;
    /// A thread has ended.
    pub const END: u8 = 2;
    /// A text.
    pub const TEXT: u8 = 3;
    /// A place in the program.
    pub const PLACE: u8 = 4;
    /// Places, the innermost first.
    pub const STACK: u8 = 5;
    /// A wait for a lock that is over.
    pub const WAIT: u8 = 6;
    /// A wait for the GIL that is over.
    pub const GIL: u8 = 7;
    /// A lock that is gone.
    pub const LOCK: u8 = 8;
    /// A lock was taken while another one was held, for the first time.
    pub const ORDER: u8 = 9;
    /// A thread was started.
    pub const START: u8 = 10;
    /// An exception ended a thread.
    pub const EXCEPTION: u8 = 11;
    /// The interpreter ended while a lock was held.
    pub const LEAKED: u8 = 12;
    /// Somebody knows of the end of a thread: it was joined, or asked for.
    pub const JOINED: u8 = 13;
    /// A thread shares a lock, an event or a queue of the program with another one.
    pub const MET: u8 = 14;
    /// A child has ended, and its parent has been told how.
    pub const REAPED: u8 = 15;
    /// A signal was sent to a process.
    pub const SIGNALLED: u8 = 16;
}

/// Bits of the end of a child.
pub mod child {
    /// A signal has ended it.
    pub const BY_SIGNAL: u8 = 1;
}

/// Bits of the end of a thread.
pub mod end {
    /// The interpreter was ending.
    pub const CUT_OFF: u8 = 1;
    /// Whoever had joined it would have been seen.
    pub const JOINS_SEEN: u8 = 2;
}

/// Bits of a wait.
pub mod wait {
    /// It ended with the lock.
    pub const GOT: u8 = 1;
    /// It could not last for ever.
    pub const TIMED: u8 = 2;
}

/// How many places a stack has at most.
pub const STACK_DEPTH: usize = 16;
/// How many bytes a text has at most.
pub const TEXT_LENGTH: usize = 1024;

/// Where the blocks of a file begin.
#[must_use]
pub const fn blocks_at(lock_count: usize) -> usize {
    header::SIZE + lock_count * lock::SIZE
}
