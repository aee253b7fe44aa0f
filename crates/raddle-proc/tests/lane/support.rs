//! A lane with its crew of workers, and a call that somebody waits for: what a language above the lane is made of.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raddle_core::life::{AtomicState, Event, Outcome, Phase};
use raddle_core::park::{self, Parker, Unparker, Wake};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::Ordering::{Relaxed, SeqCst};
use raddle_core::prim::atomic::{AtomicU64, AtomicUsize};
use raddle_core::prim::thread;
use raddle_proc::lane::{
    Client, Departure, Lane, LaneConfig, OnDeath, Outgoing, Place, Refusal, Reply, Submit, Ticket, Waited, kind,
};
use raddle_proc::{Process, Spawn, spawn};
use raddle_shm::heap::Heap;
use rustix::process::Signal;

use crate::worker::{MODE, op};

/// Ends the test binary if a test takes longer than any reason would have it: a wake-up was lost.
pub(crate) struct Cap {
    over: Unparker,
}

impl Cap {
    pub(crate) fn seconds(seconds: u64) -> Self {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let (parker, until) = (Parker::new(), Instant::now() + Duration::from_secs(seconds));
        let over = parker.unparker();
        #[expect(clippy::disallowed_methods, reason = "nothing else ends a test that hangs")]
        thread::spawn(move || {
            if parker.park(Some(until)) == Wake::TimedOut {
                // Not `eprintln`: the harness would keep it for a report that never comes.
                let _ = writeln!(std::io::stderr(), "{name} has hung for {seconds} s");
                std::process::abort();
            }
        });
        Self { over }
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        self.over.unpark();
    }
}

/// Looks again and again, for tests of things that tell nobody.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "it did not come to this: {what}");
        crate::worker::sleep(Duration::from_millis(1));
    }
}

/// A call in the lane.
#[derive(Clone)]
pub(crate) struct Call(Arc<Inner>);

#[derive(Default)]
struct Inner {
    limit: Option<Duration>,
    timed: bool,
    /// Of a timed call: who has begun it, and when.
    begun: Mutex<Vec<(u32, u64)>>,
    life: AtomicState,
    place: Place,
    end: Mutex<End>,
    announced: AtomicUsize,
}

#[derive(Default)]
struct End {
    replies: Vec<Reply>,
    sleepers: Vec<Unparker>,
}

impl Ticket for Call {
    fn life(&self) -> &AtomicState {
        &self.0.life
    }

    fn place(&self) -> &Place {
        &self.0.place
    }

    fn limit(&self) -> Option<Duration> {
        self.0.limit
    }

    fn is_timed(&self) -> bool {
        self.0.timed
    }

    fn begun(&self, pid: u32, at: Option<u64>) {
        assert!(self.0.end.lock().replies.is_empty(), "it is said before the answer");
        self.0.begun.lock().extend(at.map(|at| (pid, at)));
    }

    fn deliver(&self, reply: Reply) -> bool {
        let outcome = match &reply {
            Reply::Answer { kind: kind::VALUE, .. } => Outcome::Returned,
            Reply::Answer { .. } => Outcome::Raised,
            Reply::Lost(_) | Reply::Broken(_) => Outcome::Killed,
        };
        let mut end = self.0.end.lock();
        end.replies.push(reply);
        let (_, next) = self.0.life.step(Event::Finish(outcome)).expect("a call ends once");
        end.sleepers.drain(..).for_each(|sleeper| sleeper.unpark());
        next.announce
    }
}

impl Call {
    fn new(limit: Option<Duration>) -> Self {
        Self(Arc::new(Inner { limit, ..Inner::default() }))
    }

    /// What was said of its beginnings.
    pub(crate) fn beginnings(&self) -> Vec<(u32, u64)> {
        self.0.begun.lock().clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.life().load().outcome().is_some()
    }

    pub(crate) fn announcements(&self) -> usize {
        self.0.announced.load(SeqCst)
    }

    /// How it ended. It ended, and once.
    pub(crate) fn reply(&self) -> Reply {
        let end = self.0.end.lock();
        assert_eq!(end.replies.len(), 1, "a call is answered once");
        end.replies[0].clone()
    }

    /// The value that it returned.
    pub(crate) fn value(&self) -> Vec<u8> {
        match self.reply() {
            Reply::Answer { kind: kind::VALUE, payload, .. } => payload.to_vec(),
            other => panic!("not a value: {other:?}"),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        u64::from_le_bytes(self.value().try_into().expect("eight bytes"))
    }

    /// Whether its worker died under it.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.reply(), Reply::Lost(_))
    }

    /// Takes the step that a future takes when somebody takes it back.
    pub(crate) fn cancel(&self) {
        let (_, next) = self.life().step(Event::Cancel).expect("it was not started");
        assert_eq!(next.deliver, Some(Outcome::Stopped));
        self.0.end.lock().sleepers.drain(..).for_each(|sleeper| sleeper.unpark());
    }
}

/// What the keeper has told.
#[derive(Default)]
pub(crate) struct Crew {
    /// Workers to keep, as long as there is work for them.
    most: usize,
    mode: String,
    pub(crate) departures: Mutex<Vec<Departure>>,
    pub(crate) broken: Mutex<Vec<String>>,
    pub(crate) announced: AtomicU64,
}

/// A lane with its crew. Everything is ended when it is dropped.
pub(crate) struct Pool {
    pub(crate) lane: Arc<Lane<Call>>,
    pub(crate) crew: Arc<Crew>,
}

struct Keeping {
    lane: Arc<Lane<Call>>,
    crew: Arc<Crew>,
}

impl Client<Call> for Keeping {
    fn surround(&self, life: &mut (dyn FnMut() + Send)) {
        life();
    }

    fn announce(&self, tickets: Vec<Call>) {
        for call in tickets {
            call.0.announced.fetch_add(1, SeqCst);
            _ = call.life().step(Event::Told).expect("it ended and nobody was told");
            self.crew.announced.fetch_add(1, SeqCst);
        }
    }

    fn heard(&self) {}

    fn dispose(&self, tickets: Vec<Call>) {
        drop(tickets);
    }

    fn departed(&self, departure: Departure, has_work: bool) {
        self.crew.departures.lock().push(departure);
        if has_work && !matches!(self.lane.refusal(), Some(Refusal::Broken(_))) {
            start(&self.lane, &self.crew.mode);
        }
    }

    fn broken(&self, reason: &str) {
        self.crew.broken.lock().push(reason.to_owned());
    }
}

/// Starts one more worker.
pub(crate) fn start(lane: &Lane<Call>, mode: &str) -> u32 {
    let seating = lane.seat().unwrap();
    let process = start_process(lane, seating.link.as_fd(), mode);
    let pid = process.pid();
    lane.occupy(seating.seat, process).unwrap();
    pid
}

/// Starts this binary again, with the test `worker` alone, and without what the test harness prints.
fn start_process(lane: &Lane<Call>, link: std::os::fd::BorrowedFd<'_>, mode: &str) -> Process {
    let script = format!(
        "exec \"$0\" worker --exact --nocapture --test-threads=1 raddle={{0}},{{1}},{{2}},{{3}},{} >/dev/null",
        std::process::id()
    );
    let itself = std::env::current_exe().unwrap().into_os_string();
    let post = lane.post().unwrap();
    spawn(&Spawn {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into(), itself],
        env: vec![(MODE.into(), mode.into())],
        fds: vec![link, post.page(), post.bell(), lane.heap_fd()],
        own_group: true,
    })
    .unwrap()
}

impl Pool {
    /// A lane whose workers are replaced, and that is kept.
    pub(crate) fn of(workers: usize) -> Self {
        Self::with(workers, OnDeath::Replace, "")
    }

    pub(crate) fn with(workers: usize, on_death: OnDeath, mode: &str) -> Self {
        let pool = Self::empty(workers, on_death, mode);
        for _ in 0..workers {
            pool.start();
        }
        pool.keep();
        pool
    }

    /// As [`of`](Self::of), when every worker is ready and its account has been taken in.
    pub(crate) fn ready(workers: usize) -> Self {
        let pool = Self::of(workers);
        let calls: Vec<_> = (0..workers).map(|_| pool.submit(op::SLEEP, &30_u64.to_le_bytes())).collect();
        calls.iter().for_each(|call| assert_eq!(pool.wait(call), Waited::Done));
        pool.lane.look();
        pool
    }

    /// A lane without workers and without a keeper.
    pub(crate) fn empty(most: usize, on_death: OnDeath, mode: &str) -> Self {
        let heap = Heap::create("raddle-test-heap", 1 << 30, 1 << 20).unwrap();
        let lane = Arc::new(Lane::new(LaneConfig { on_death, heap, most: None, least: most, idle: None }).unwrap());
        Self { lane, crew: Arc::new(Crew { most, mode: mode.into(), ..Crew::default() }) }
    }

    pub(crate) fn start(&self) -> u32 {
        start(&self.lane, &self.crew.mode)
    }

    pub(crate) fn keep(&self) {
        self.lane.start_keeper(Keeping { lane: self.lane.clone(), crew: self.crew.clone() }).unwrap();
    }

    /// Hands in a call, and starts a worker if the lane wants one.
    pub(crate) fn submit(&self, what: u8, argument: &[u8]) -> Call {
        self.try_submit(what, argument).expect("the lane takes calls")
    }

    pub(crate) fn try_submit(&self, what: u8, argument: &[u8]) -> Result<Call, Refusal> {
        self.send(&Outgoing { kind: kind::APPLY, flags: 0, tag: 0, parts: &[&[what], argument] })
    }

    /// A call that may run for so long.
    pub(crate) fn submit_for(&self, limit: Duration, what: u8, argument: &[u8]) -> Call {
        let out = Outgoing { kind: kind::APPLY, flags: 0, tag: 0, parts: &[&[what], argument] };
        self.hand_in(Call::new(Some(limit)), &out).expect("the lane takes calls")
    }

    /// A call of which it is said when it was begun.
    pub(crate) fn submit_timed(&self, what: u8, argument: &[u8]) -> Call {
        let out = Outgoing { kind: kind::APPLY, flags: 0, tag: 0, parts: &[&[what], argument] };
        let call = Call(Arc::new(Inner { timed: true, ..Inner::default() }));
        self.hand_in(call, &out).expect("the lane takes calls")
    }

    pub(crate) fn send(&self, out: &Outgoing<'_>) -> Result<Call, Refusal> {
        self.hand_in(Call::new(None), out)
    }

    fn hand_in(&self, call: Call, out: &Outgoing<'_>) -> Result<Call, Refusal> {
        match self.lane.submit(call.clone(), out, false) {
            Ok(Submit { wants_worker, .. }) => {
                if wants_worker && self.lane.seats() < self.crew.most {
                    self.start();
                }
                Ok(call)
            }
            Err((refusal, _)) => Err(refusal),
        }
    }

    pub(crate) fn sleeper(&self, millis: u64) -> Call {
        self.submit(op::SLEEP, &millis.to_le_bytes())
    }

    /// A call that runs until the test lets go of it.
    pub(crate) fn held(&self) -> (Call, Hold) {
        let hold = Hold::new();
        let call = self.submit(op::AWAIT_FILE, hold.0.as_bytes());
        (call, hold)
    }

    pub(crate) fn wait(&self, call: &Call) -> Waited {
        self.wait_until(call, None)
    }

    pub(crate) fn wait_until(&self, call: &Call, deadline: Option<Instant>) -> Waited {
        let me = park::with_current(Parker::unparker);
        call.0.end.lock().sleepers.push(me.clone());
        let (state, _) = call.life().step(Event::Wait).expect("a wait is never refused");
        if state.outcome().is_some() {
            return Waited::Done;
        }
        let waited = self.lane.wait(call, deadline);
        if waited != Waited::Done {
            call.0.end.lock().sleepers.retain(|other| !other.same_as(&me));
        }
        waited
    }

    /// Waits for a call and says what number it returned.
    pub(crate) fn number(&self, call: &Call) -> u64 {
        assert_eq!(self.wait(call), Waited::Done);
        call.number()
    }

    /// Wants to be told about a call. False: it has ended already.
    pub(crate) fn watch(&self, call: &Call) -> bool {
        let (state, _) = call.life().step(Event::Watch).expect("a watch is never refused");
        if matches!(state.phase, Phase::Done(_)) && state.told {
            return false;
        }
        self.lane.watch(call);
        true
    }

    pub(crate) fn announced(&self) -> u64 {
        self.crew.announced.load(SeqCst)
    }

    /// Sends a signal to a worker.
    pub(crate) fn kill(&self, pid: u32, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.lane.processes().into_iter().map(|(_, pid)| pid).collect()
    }

    /// Waits until so many workers have departed, and says how the last one did.
    pub(crate) fn departed(&self, count: usize) -> Departure {
        eventually("a worker departs", || self.crew.departures.lock().len() >= count);
        self.crew.departures.lock()[count - 1]
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lane.destroy("the test is over", Signal::KILL);
        self.lane.join(None);
    }
}

/// What a held call waits for: a file that is there when this is dropped.
pub(crate) struct Hold(String);

impl Hold {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let directory = std::env::temp_dir();
        Self(format!("{}/raddle-hold-{}-{number}", directory.display(), std::process::id()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn release(&self) {
        std::fs::write(&self.0, b"").unwrap();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A small generator of numbers that look random.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// A fresh seed each time, printed so that a failure can be repeated with `RADDLE_SEED`.
    pub(crate) fn fresh() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = std::env::var("RADDLE_SEED").map_or(now.as_nanos() as u64, |seed| seed.parse().unwrap());
        eprintln!("RADDLE_SEED={seed}");
        Self::from(seed)
    }

    pub(crate) fn from(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // Xorshift (Marsaglia 2003), and a multiplication that spreads the high bits.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}
