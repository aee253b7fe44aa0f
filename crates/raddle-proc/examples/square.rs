//! A process pool in plain Rust: numbers are squared by worker processes.
//!
//! ```text
//! cargo run --release -p raddle-proc --example square [NUMBERS [WORKERS]]
//! ```
//!
//! The program starts itself once more for each worker. It is all that a language above the lane has to bring: a ticket that
//! stands for a call, a client for the keeper, and a loop in the worker.

#[cfg(all(target_os = "linux", not(loom)))]
mod linux {
    use std::env;
    use std::error::Error;
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};
    use std::sync::Arc;
    use std::time::Instant;

    use raddle_core::life::{AtomicState, Event, Outcome};
    use raddle_core::park::{self, Parker, Unparker};
    use raddle_core::prim::Mutex;
    use raddle_proc::child::{Answer, Look, WorkerEnd};
    use raddle_proc::lane::{Client, Departure, Lane, LaneConfig, OnDeath, Outgoing, Place, Reply, Ticket, kind};
    use raddle_proc::{Spawn, spawn};
    use raddle_shm::heap::Heap;

    /// A call: its life, its place in the lane, its reply, and who waits for that.
    #[derive(Clone, Default)]
    struct Call(Arc<Inner>);

    #[derive(Default)]
    struct Inner {
        life: AtomicState,
        place: Place,
        end: Mutex<(Option<Reply>, Vec<Unparker>)>,
    }

    impl Ticket for Call {
        fn life(&self) -> &AtomicState {
            &self.0.life
        }

        fn place(&self) -> &Place {
            &self.0.place
        }

        fn deliver(&self, reply: Reply) -> bool {
            let outcome = match reply {
                Reply::Answer { .. } => Outcome::Returned,
                Reply::Lost(_) | Reply::Broken(_) => Outcome::Killed,
            };
            let mut end = self.0.end.lock();
            end.0 = Some(reply);
            let (_, next) = self.0.life.step(Event::Finish(outcome)).expect("the lane ends a call once");
            end.1.drain(..).for_each(|waiter| waiter.unpark());
            next.announce
        }
    }

    impl Call {
        /// Waits for the answer.
        fn square(&self, lane: &Lane<Call>) -> Result<u64, Box<dyn Error>> {
            // First where the answer will look, then the step, then the sleep: so neither is missed.
            self.0.end.lock().1.push(park::with_current(Parker::unparker));
            let (state, _) = self.0.life.step(Event::Wait).expect("a wait is never refused");
            if state.outcome().is_none() {
                lane.wait(self, None);
            }
            match &self.0.end.lock().0 {
                Some(Reply::Answer { payload, .. }) => Ok(u64::from_le_bytes(payload[..].try_into()?)),
                Some(Reply::Lost(loss)) => Err(loss.to_string().into()),
                Some(Reply::Broken(reason)) => Err(reason.to_string().into()),
                None => Err("the wait ended early".into()),
            }
        }
    }

    /// What the keeper does for us: it replaces workers that die while there is work.
    struct Crew(Arc<Lane<Call>>);

    impl Client<Call> for Crew {
        fn surround(&self, life: &mut (dyn FnMut() + Send)) {
            life();
        }

        fn announce(&self, _: Vec<Call>) {
            unreachable!("nobody watches a call here");
        }

        fn heard(&self) {}

        fn dispose(&self, tickets: Vec<Call>) {
            drop(tickets);
        }

        fn departed(&self, departure: Departure, has_work: bool) {
            if has_work && let Err(error) = start_worker(&self.0) {
                eprintln!("worker {} could not be replaced: {error}", departure.pid);
            }
        }

        fn broken(&self, reason: &str) {
            eprintln!("{reason}");
        }
    }

    fn start_worker(lane: &Lane<Call>) -> Result<(), Box<dyn Error>> {
        let post = lane.post()?;
        let seating = lane.seat()?;
        let process = spawn(&Spawn {
            // The child finds the descriptors under these numbers.
            argv: vec![
                env::current_exe()?.into(),
                "worker".into(),
                "{0}".into(),
                "{1}".into(),
                "{2}".into(),
                "{3}".into(),
                std::process::id().to_string().into(),
            ],
            env: vec![],
            fds: vec![seating.link.as_fd(), post.page(), post.bell(), lane.heap_fd()],
            own_group: false,
        });
        match process {
            Ok(process) => Ok(lane.occupy(seating.seat, process)?),
            Err(error) => {
                lane.vacate(seating.seat);
                Err(error.into())
            }
        }
    }

    /// The whole life of a worker.
    fn work(numbers: &[String]) -> Result<(), Box<dyn Error>> {
        let [link, page, bell, heap] = [0, 1, 2, 3].map(|index| {
            numbers[index].parse().map(|number: i32| {
                // SAFETY: the parent has passed these four to us, and nothing else in this process knows them.
                unsafe { OwnedFd::from_raw_fd(number) }
            })
        });
        let mut end = WorkerEnd::open(link?, page?, bell?, heap?, numbers[4].parse()?)?;
        end.say(kind::READY, &[]).expect("the first reply has room");
        loop {
            match end.look() {
                Look::Empty => {
                    end.sleep();
                }
                Look::Request { kind: kind::STOP, .. } => return Ok(()),
                Look::Corrupt => return Err("the shared memory is garbled".into()),
                Look::Request { .. } => {
                    if !end.claim() {
                        continue; // it was taken back
                    }
                    let begun = Instant::now();
                    let number = u64::from_le_bytes(end.payload().ok_or("a payload is missing")?.try_into()?);
                    end.done_reading();
                    let square = number.wrapping_mul(number).to_le_bytes();
                    let nanos = begun.elapsed().as_nanos() as u64;
                    let answer = Answer {
                        kind: kind::VALUE,
                        flags: 0,
                        nanos,
                        begun: None,
                        done: 1,
                        failed: None,
                        parts: &[&square],
                    };
                    while end.reply(&answer).is_err() {
                        end.sleep_for_room(square.len());
                    }
                }
            }
        }
    }

    fn square_all(numbers: u64, workers: usize) -> Result<(), Box<dyn Error>> {
        let lane = Arc::new(Lane::new(LaneConfig {
            on_death: OnDeath::Replace,
            heap: Heap::create("square-heap", 1 << 20, 0)?,
            most: None,
            least: workers,
            idle: None,
        })?);
        for _ in 0..workers {
            start_worker(&lane)?;
        }
        lane.start_keeper(Crew(lane.clone()))?;

        let begun = Instant::now();
        let mut calls = Vec::new();
        for number in 0..numbers {
            let call = Call::default();
            let out = Outgoing { kind: kind::APPLY, flags: 0, tag: 0, parts: &[&number.to_le_bytes()] };
            lane.submit(call.clone(), &out, false).map_err(|(refusal, _)| format!("{refusal:?}"))?;
            calls.push(call);
        }
        let mut sum = 0_u64;
        for (number, call) in (0..numbers).zip(&calls) {
            let square = call.square(&lane)?;
            assert_eq!(square, number.wrapping_mul(number));
            sum = sum.wrapping_add(square);
        }
        let took = begun.elapsed();

        lane.close(false);
        lane.join(None);
        report(numbers, workers, sum, took.as_secs_f64());
        Ok(())
    }

    fn report(numbers: u64, workers: usize, sum: u64, seconds: f64) {
        let each = seconds * 1e6 / numbers.max(1) as f64;
        #[expect(clippy::print_stdout, reason = "this is what the example is for")]
        {
            println!("{numbers} squares by {workers} processes: their sum is {sum}");
            println!("{seconds:.3} s, {each:.2} µs for each, from the first call to the last answer");
        }
    }

    pub(crate) fn main() -> Result<(), Box<dyn Error>> {
        let arguments: Vec<_> = env::args().skip(1).collect();
        match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["worker", _, _, _, _] => work(&arguments[1..]),
            [] => square_all(100_000, 2),
            [numbers] => square_all(numbers.parse()?, 2),
            [numbers, workers] => square_all(numbers.parse()?, workers.parse::<usize>()?.max(1)),
            _ => Err("usage: square [NUMBERS [WORKERS]]".into()),
        }
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::main()
}

#[cfg(any(not(target_os = "linux"), loom))]
fn main() {}
