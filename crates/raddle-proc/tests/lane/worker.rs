//! The worker's side: what the test binary does when it was started as a worker.
//!
//! A call's payload is one byte that says what to do, and its argument.

use std::collections::HashMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use raddle_core::park::{Parker, Wake};
use raddle_core::prim::atomic::Ordering::SeqCst;
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};
use raddle_proc::child::{Answer, Crowded, Look, WorkerEnd};
use raddle_proc::lane::{flag, kind};
use raddle_shm::ring::{Header, Lines, Producer};
use raddle_shm::{Bell, Mapping, Segment};

use crate::support::Numbers;

/// The first byte of a payload.
pub(crate) mod op {
    /// Answers with the argument.
    pub(crate) const ECHO: u8 = 0;
    /// Sleeps for so many milliseconds and answers with the argument.
    pub(crate) const SLEEP: u8 = 1;
    /// Ends with this exit code.
    pub(crate) const EXIT: u8 = 2;
    /// Kills itself with this signal.
    pub(crate) const SIGNAL: u8 = 3;
    /// Answers with so many bytes, see `pattern`.
    pub(crate) const LARGE: u8 = 4;
    /// Answers with the length of the argument, if it is what `pattern` makes.
    pub(crate) const MEASURE: u8 = 5;
    /// Answers with the process number.
    pub(crate) const PID: u8 = 6;
    /// Answers with the error `argument`.
    pub(crate) const FAIL: u8 = 7;
    /// Answers with how many calls this worker has begun.
    pub(crate) const COUNT: u8 = 8;
    /// Undertakes to wake the leader, once it sleeps, and dies before it does.
    pub(crate) const TAKE_BELL: u8 = 9;
    /// Breaks the rules of the reply ring in the way of this number, and waits for its end.
    pub(crate) const SCRIBBLE: u8 = 10;
    /// Answers with the argument, says that it ends, and does.
    pub(crate) const RETIRE: u8 = 11;
    /// Waits until the file of this name exists.
    pub(crate) const AWAIT_FILE: u8 = 12;
    /// Writes garbage into everything that is its own and its parent's, chosen by this number, and ends in one way or another.
    pub(crate) const GARBAGE: u8 = 13;
}

/// How a worker is to behave before its first call, by the variable `RADDLE_TEST_WORKER`.
pub(crate) const MODE: &str = "RADDLE_TEST_WORKER";

/// Bytes that are not all alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    // By copies, which are quick under a sanitizer, too; byte for byte some hundred megabytes take a minute there.
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(len / 251 + 1);
    bytes.truncate(len);
    bytes
}

// Where things lie in the shared memory, as drawn at the head of `lane/link.rs`.
pub(crate) const REQUEST_LINES: usize = 0x080;
pub(crate) const REPLY_LINES: usize = 0x180;
pub(crate) const STARTED_AT: usize = 0x3c0;
const WORD_LINES: usize = 0x400;
pub(crate) const RING: usize = 256 << 10;
pub(crate) const REQUEST_RING: usize = 4096;
pub(crate) const REPLY_RING: usize = 4096 + RING;
const WORD_RING: usize = 4096 + 2 * RING;
const PAGE_BELL: usize = 0x080;
const BELL_ASLEEP: usize = PAGE_BELL + 4;

pub(crate) fn work_if_asked() {
    let Some(list) = std::env::args().find_map(|argument| argument.strip_prefix("raddle=").map(str::to_owned)) else {
        return;
    };
    let numbers: Vec<i32> = list.split(',').map(|number| number.parse().unwrap()).collect();
    let [link, page, bell, heap, parent] = numbers[..] else { panic!("four numbers are expected: {list}") };
    Worker::open([link, page, bell, heap], parent as u32).run();
}

struct Worker {
    end: WorkerEnd,
    /// The same descriptors once more, for breaking the rules.
    raw: [OwnedFd; 4],
    begun: u64,
    functions: HashMap<usize, Vec<u8>>,
}

impl Worker {
    fn open([link, page, bell, heap]: [RawFd; 4], parent: u32) -> Self {
        let mode = std::env::var(MODE).unwrap_or_default();
        if mode == "stillborn" {
            exit(3);
        }
        let owned = [link, page, bell, heap].map(|number| {
            // SAFETY: the parent has passed these four, and nobody else in this process uses them.
            unsafe { OwnedFd::from_raw_fd(number) }
        });
        let raw = owned.each_ref().map(|fd| fd.try_clone().unwrap());
        let [link, page, bell, heap] = owned;
        let mut end = WorkerEnd::open(link, page, bell, heap, parent).unwrap();
        if mode == "unfit" {
            end.say(kind::UNFIT, &[b"there are no tools"]).unwrap();
            exit(0);
        }
        if let Some(file) = mode.strip_prefix("late:") {
            await_file(file);
        }
        end.say(kind::READY, &[]).unwrap();
        Self { end, raw, begun: 0, functions: HashMap::new() }
    }

    fn run(mut self) {
        loop {
            match self.end.look() {
                Look::Corrupt => exit(9),
                Look::Empty => drop(self.end.sleep()),
                Look::Request { kind: kind::STOP, .. } => exit(0),
                Look::Request { kind, flags, tag } => {
                    assert_eq!(flags & flag::SPILLED, 0, "how a payload was sent is not the worker's business");
                    if self.end.claim() {
                        self.request(kind, flags, tag as usize);
                    }
                }
            }
        }
    }

    fn request(&mut self, kind: u8, flags: u8, tag: usize) {
        let payload = self.end.payload().expect("the parent writes no nonsense").to_vec();
        self.end.done_reading();
        if kind == kind::DEFINE {
            let known = self.functions.insert(tag, payload);
            assert!(known.is_none(), "a function is sent once");
            self.end.finish();
            return;
        }
        self.begun += 1;
        if kind == kind::CALL {
            let whole = [&self.functions[&tag][..], &payload].concat();
            self.call(&whole, flags);
        } else {
            self.call(&payload, flags);
        }
    }

    fn call(&mut self, payload: &[u8], flags: u8) {
        let (&what, argument) = payload.split_first().expect("a call says what to do");
        let number = || u64::from_le_bytes(argument.try_into().unwrap());
        let entered = self.end.enter_call();
        let begun = (flags & flag::TIMED != 0).then(|| entered.moment());
        let mut kind = kind::VALUE;
        let answer = match what {
            op::ECHO | op::RETIRE => argument.to_vec(),
            op::SLEEP => {
                sleep(Duration::from_millis(number()));
                argument.to_vec()
            }
            op::EXIT => exit(number() as i32),
            op::SIGNAL => die(number() as i32),
            op::LARGE => pattern(number() as usize),
            op::MEASURE => {
                assert!(argument == pattern(argument.len()), "the bytes changed on their way");
                (argument.len() as u64).to_le_bytes().to_vec()
            }
            op::PID => u64::from(std::process::id()).to_le_bytes().to_vec(),
            op::FAIL => {
                kind = kind::ERROR;
                argument.to_vec()
            }
            op::COUNT => self.begun.to_le_bytes().to_vec(),
            op::TAKE_BELL => self.take_bell(),
            op::SCRIBBLE => self.scribble(number()),
            op::GARBAGE => self.garbage(number()),
            op::AWAIT_FILE => {
                await_file(std::str::from_utf8(argument).unwrap());
                Vec::new()
            }
            _ => panic!("not a call: {what}"),
        };
        let nanos = self.end.leave_call(entered);
        while self.end.reply(&Answer { kind, flags: 0, nanos, begun, done: 1, failed: None, parts: &[&answer] })
            == Err(Crowded)
        {
            self.end.sleep_for_room(answer.len());
        }
        if what == op::RETIRE {
            while self.end.retire() == Err(Crowded) {
                self.end.sleep_for_room(0);
            }
            exit(0);
        }
    }

    fn garbage(&mut self, seed: u64) -> Vec<u8> {
        let link = Segment::from_fd(self.raw[0].try_clone().unwrap()).unwrap();
        let page = Segment::from_fd(self.raw[1].try_clone().unwrap()).unwrap().map(0, 4096).unwrap();
        let kinds = [
            kind::READY,
            kind::VALUE,
            kind::VALUE,
            kind::ERROR,
            kind::UNREADABLE,
            kind::RELEASED,
            kind::RETIRED,
            kind::UNFIT,
        ];
        // SAFETY: the parent survives it; this process need not.
        let mut vandal = unsafe { Vandal::new(seed, &link, REPLY_LINES, REPLY_RING, kinds) };
        let mut numbers = Numbers::from(seed ^ 7);
        for _ in 0..numbers.below(60) {
            vandal.act();
            page.get::<Bell>(PAGE_BELL).ring();
            rustix::io::write(self.raw[2].as_fd(), &1_u64.to_ne_bytes()).unwrap();
            if numbers.below(8) == 0 {
                sleep(Duration::from_micros(numbers.below(2000)));
            }
        }
        match numbers.below(3) {
            0 => die(libc_signal::KILL),
            1 => exit(numbers.below(4) as i32),
            _ => {
                // It goes on as if nothing had happened, for a while: what it has spoiled may have it sleep for ever.
                std::thread::spawn(|| {
                    sleep(Duration::from_millis(200));
                    exit(5);
                });
                b"garbage".to_vec()
            }
        }
    }

    fn take_bell(&self) -> ! {
        let page = Segment::from_fd(self.raw[1].try_clone().unwrap()).unwrap().map(0, 4096).unwrap();
        let asleep = page.get::<AtomicU32>(BELL_ASLEEP);
        while asleep.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        sleep(Duration::from_millis(20)); // it has prepared; now it sleeps
        assert_eq!(asleep.swap(0, SeqCst), 1);
        die(libc_signal::KILL)
    }

    fn scribble(&self, way: u64) -> ! {
        let link = Segment::from_fd(self.raw[0].try_clone().unwrap()).unwrap();
        let head = link.map(0, 4096).unwrap();
        let ring = link.map_mirrored(REPLY_RING, RING).unwrap();
        // SAFETY: the memory is the reply ring's and outlives the producer; that there are two producers breaks the
        // rules on purpose, and `WorkerEnd` is not used any more.
        let mut raw = unsafe { Producer::new(head.get::<Lines>(REPLY_LINES), ring.as_ptr(), RING) };
        let mut push = |header: Header, payload: &[u8]| _ = raw.push(header, &[payload]);
        match way {
            0 => head.get::<AtomicU64>(REPLY_LINES).store(u64::MAX / 3, SeqCst),
            1 => push(Header { kind: 99, ..Header::default() }, &[]),
            // An answer to the call before ours, which was answered.
            2 => push(Header { kind: kind::VALUE, id: 0, ..Header::default() }, &[]),
            3 => push(Header { kind: kind::VALUE, id: u64::MAX, ..Header::default() }, &[]),
            4 => {
                let outside = [u64::MAX.to_ne_bytes(), 100_u64.to_ne_bytes()].concat();
                push(Header { kind: kind::VALUE, flags: flag::SPILLED, id: 1, ..Header::default() }, &outside);
            }
            // An answer to a call that was not begun: the one after ours.
            5 => push(Header { kind: kind::VALUE, id: 2, ..Header::default() }, &[]),
            // Our own answer, with a time that cannot be, and then once more.
            6 => {
                push(Header { kind: kind::VALUE, id: 1, extra: u64::MAX, ..Header::default() }, b"a lie");
                push(Header { kind: kind::VALUE, id: 1, extra: u64::MAX, ..Header::default() }, b"a lie");
            }
            // It is ready, again and again.
            7 => (0..3).for_each(|_| push(Header { kind: kind::READY, ..Header::default() }, &[])),
            // An answer that is said to be long, and is not there.
            8 => {
                let nothing = [0_u64.to_ne_bytes(), (8_u64 << 30).to_ne_bytes()].concat();
                push(Header { kind: kind::VALUE, flags: flag::SPILLED, id: 1, ..Header::default() }, &nothing);
            }
            // Other numbers of functions, and other kinds, for all calls that wait here; and then it crashes.
            9 | 10 => {
                let requests = link.map(REQUEST_RING, RING).unwrap();
                for unit in (0..RING).step_by(32) {
                    let word = requests.get::<AtomicU64>(unit + 8);
                    let changed =
                        if way == 9 { u64::from(kind::CALL) | 0xffff_0000 << 32 } else { u64::from(kind::RELEASE) };
                    if word.load(SeqCst) & 0xff == u64::from(kind::APPLY) {
                        word.store(changed, SeqCst);
                    }
                }
                die(libc_signal::KILL);
            }
            // It says that it has begun just now, for ever.
            11 => {
                head.get::<AtomicU64>(STARTED_AT).store(u64::MAX, SeqCst);
                loop {
                    sleep(Duration::from_secs(60));
                }
            }
            _ => panic!("no such way"),
        }
        let page = Segment::from_fd(self.raw[1].try_clone().unwrap()).unwrap().map(0, 4096).unwrap();
        page.get::<Bell>(PAGE_BELL).ring();
        rustix::io::write(self.raw[2].as_fd(), &1_u64.to_ne_bytes()).unwrap();
        loop {
            sleep(Duration::from_secs(60));
        }
    }
}

/// Writes garbage, in small pieces and at random moments, into a link, and says something that looks like an answer now and then.
pub(crate) struct Vandal {
    numbers: Numbers,
    all: Mapping,
    says: Producer,
    _memory: [Mapping; 2],
    /// Ordinals near which it answers.
    near: u64,
    /// Kinds that it says.
    kinds: [u8; 8],
}

impl Vandal {
    /// # Safety
    ///
    /// The ring's rules are broken on purpose: whoever is at its other end survives it.
    pub(crate) unsafe fn new(seed: u64, link: &Segment, lines: usize, ring: usize, kinds: [u8; 8]) -> Self {
        let (head, bytes) = (link.map(0, 4096).unwrap(), link.map_mirrored(ring, RING).unwrap());
        // SAFETY: the memory fits together, and is kept below as long as the producer; the rest is the caller's promise.
        let says = unsafe { Producer::new(head.get::<Lines>(lines), bytes.as_ptr(), RING) };
        let all = link.map(0, 4096 + 2 * RING + (1 << 20)).unwrap();
        Self { numbers: Numbers::from(seed), all, says, _memory: [head, bytes], near: 0, kinds }
    }

    /// A number of eight bytes that means something to somebody, perhaps.
    fn word(&mut self) -> u64 {
        match self.numbers.below(8) {
            0 => 32 * self.numbers.below(20_000),
            1 => self.numbers.below(5),
            2 => 0_u64.wrapping_sub(32 * self.numbers.below(100)),
            3 => (1 + self.numbers.below(3)) | (self.numbers.below(600) << 32),
            4 => 64 * self.numbers.below(1 << 16),
            5 => {
                u64::from(self.kinds[self.numbers.below(8) as usize])
                    | self.numbers.below(256) << 8
                    | self.numbers.below(9) << 32
            }
            6 => self.numbers.below(16) << 30,
            _ => self.numbers.below(u64::MAX >> 1) << 1 | self.numbers.below(2),
        }
    }

    /// Something that looks like a message: a list of buffers, the place of a long payload, or bytes.
    fn payload(&mut self) -> Vec<u8> {
        match self.numbers.below(4) {
            0 => [self.word(), self.word()].map(u64::to_ne_bytes).concat(),
            1 => {
                let count = self.numbers.below(4);
                let mut list = (count + self.numbers.below(2)).to_ne_bytes().to_vec();
                for _ in 0..count {
                    list.extend(self.numbers.below(5).to_ne_bytes());
                    (0..3).for_each(|_| list.extend(self.word().to_ne_bytes()));
                }
                list
            }
            2 => Vec::new(),
            _ => (0..self.numbers.below(200)).map(|_| self.numbers.below(256) as u8).collect(),
        }
    }

    /// One piece of garbage.
    pub(crate) fn act(&mut self) {
        let rings = 4096 + 2 * RING;
        let at = match self.numbers.below(18) {
            0 => REQUEST_LINES + 128 * self.numbers.below(2) as usize,
            1 => REPLY_LINES + 128 * self.numbers.below(2) as usize,
            2 => 8 * self.numbers.below(4096 / 8) as usize,
            // What was written lately lies at the beginning of the rings.
            3 => REQUEST_RING + 8 * self.numbers.below(1024) as usize,
            4 => REPLY_RING + 8 * self.numbers.below(1024) as usize,
            5 => 8 * self.numbers.below(rings as u64 / 8) as usize,
            6 => rings + 8 * self.numbers.below(1 << 17) as usize,
            7 => WORD_LINES + 128 * self.numbers.below(2) as usize,
            8 => WORD_RING + 8 * self.numbers.below(1024) as usize,
            _ => return self.speak(),
        };
        let word = self.word();
        self.all.get::<AtomicU64>(at).store(word, SeqCst);
    }

    fn speak(&mut self) {
        let (payload, some) = (self.payload(), self.numbers.below(4));
        let kind = if some == 0 { self.numbers.below(256) as u8 } else { self.kinds[self.numbers.below(8) as usize] };
        let id = if self.numbers.below(3) == 0 { self.word() } else { self.near.wrapping_add(self.numbers.below(4)) };
        let header = Header {
            kind,
            flags: if self.numbers.below(2) == 0 { 0 } else { self.numbers.below(256) as u8 },
            tag: self.numbers.below(5) as u32,
            id,
            extra: self.word(),
        };
        let _ = self.says.push(header, &[&payload]);
        self.near = self.near.wrapping_add(self.numbers.below(2));
    }
}

pub(crate) mod libc_signal {
    pub(crate) const ABRT: i32 = 6;
    pub(crate) const KILL: i32 = 9;
    pub(crate) const USR1: i32 = 10;
}

pub(crate) fn sleep(time: Duration) {
    let parker = Parker::new();
    let until = Instant::now() + time;
    while parker.park(Some(until)) != Wake::TimedOut {}
}

fn await_file(name: &str) {
    while !std::path::Path::new(name).exists() {
        sleep(Duration::from_millis(1));
    }
}

#[expect(clippy::disallowed_methods, reason = "a worker of the tests ends itself")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn die(signal: i32) -> ! {
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    loop {
        rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
    }
}
