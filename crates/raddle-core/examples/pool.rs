//! A small pool made of the parts of the core: a queue, a life per call, a park per waiting thread.
//!
//! ```console
//! $ cargo run --release -p raddle-core --example pool
//! ```
//!
//! Two workers count primes below some numbers; one call is cancelled before a worker gets to it.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use raddle_core::life::{AtomicState, Event, Outcome};
use raddle_core::park::{Unparker, with_current};
use raddle_core::prim::{Arc, Mutex, thread};
use raddle_core::sched::{Pop, Queue};
use std::time::Instant;

/// A call, and where its caller finds the result.
struct Call {
    below: u32,
    life: AtomicState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    result: Option<usize>,
    waiters: Vec<Unparker>,
}

impl Call {
    fn new(below: u32) -> Arc<Self> {
        Arc::new(Self { below, life: AtomicState::new(), inner: Mutex::default() })
    }

    /// The worker's side.
    fn run(&self) {
        if self.life.step(Event::Start).is_err() {
            return; // it was cancelled
        }
        self.inner.lock().result = Some(primes(self.below));
        let Ok((_, next)) = self.life.step(Event::Finish(Outcome::Returned)) else { return };
        if next.wake {
            // Taken out first: nobody is woken while the lock is held.
            let waiters = std::mem::take(&mut self.inner.lock().waiters);
            waiters.iter().for_each(Unparker::unpark);
        }
    }

    /// The caller's side. `None`: it was cancelled.
    fn wait(&self) -> Option<usize> {
        with_current(|parker| {
            self.inner.lock().waiters.push(parker.unparker());
            let mut state = self.life.step(Event::Wait).map_or_else(|_| self.life.load(), |(state, _)| state);
            while !state.is_done() {
                _ = parker.park(None);
                state = self.life.load();
            }
        });
        self.inner.lock().result
    }
}

fn primes(below: u32) -> usize {
    let prime = |n: &u32| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..below).filter(prime).count()
}

fn main() {
    let queue = Arc::new(Queue::<Arc<Call>>::new());
    let calls: Vec<_> = (1..=8).map(|n| Call::new(n * 50_000)).collect();

    // The last call is taken back before there is a worker that could start it.
    let cancelled = calls[7].life.step(Event::Cancel).is_ok();
    println!("the last call was cancelled: {cancelled}");

    let begun = Instant::now();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                loop {
                    match queue.pop() {
                        Pop::Item(call) => call.run(),
                        Pop::Empty => _ = queue.wait(None),
                        Pop::Closed => return,
                    }
                }
            })
        })
        .collect();
    queue.push_many(calls.iter().cloned()).expect("the queue is open");

    for call in &calls {
        match call.wait() {
            Some(count) => println!("{count:6} primes below {}", call.below),
            None => println!("     - primes below {}", call.below),
        }
    }
    queue.close();
    workers.into_iter().for_each(|worker| worker.join().expect("no worker panics"));
    println!("2 workers, {:.0?}", begun.elapsed());
}
