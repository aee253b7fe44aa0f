//! Either side writes garbage into the memory that they share: the other one neither panics, nor reads where it may not, nor hangs.
//!
//! `RADDLE_SEED` names the first seed, and `RADDLE_ROUNDS` how many there are.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::SeqCst;
use raddle_proc::child::{Answer, Look, WorkerEnd};
use raddle_proc::lane::{Reply, Waited, flag, kind};
use raddle_shm::Segment;
use raddle_shm::heap::Heap;

use crate::support::{Cap, Numbers, Pool, eventually};
use crate::worker::{REQUEST_LINES, REQUEST_RING, RING, Vandal, op};

fn seeds(most: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let first = number("RADDLE_SEED", 1);
    (first..first + number("RADDLE_ROUNDS", most)).inspect(|seed| eprintln!("RADDLE_SEED={seed}"))
}

#[test]
fn a_worker_that_writes_garbage_costs_its_own_calls_and_no_others() {
    for seed in seeds(60) {
        let _cap = Cap::seconds(60);
        let pool = Pool::of(1);
        let mut numbers = Numbers::from(seed);
        // Some memory of the parent's that an answer can name.
        let heap = pool.lane.heap().clone();
        let lent: Vec<_> = (0..4).map(|_| heap.lease(100_000).unwrap()).collect();
        let (running, hold) = pool.held();
        let vandal = pool.submit(op::GARBAGE, &seed.to_le_bytes());
        // With a limit: it may have been changed into something that lasts for ever.
        let limit = Duration::from_secs(5);
        let behind: Vec<_> = (0..numbers.below(20)).map(|_| pool.submit_for(limit, op::ECHO, b"behind")).collect();
        let watched = behind.iter().filter(|call| numbers.below(2) == 0 && pool.watch(call)).count();
        hold.release();
        for call in behind.iter().chain([&running, &vandal]) {
            assert_eq!(pool.wait(call), Waited::Done, "seed {seed}");
        }
        // The lane is whole, with the next worker. If it was told that workers cannot be set up, it believes that.
        match pool.try_submit(op::ECHO, b"after") {
            Ok(after) => {
                assert_eq!(pool.wait(&after), Waited::Done, "seed {seed}");
                match after.reply() {
                    Reply::Answer { payload, .. } => assert!(&*payload == b"after" || payload.len() < 1 << 30),
                    Reply::Lost(_) | Reply::Broken(_) => {} // it went to the same worker
                }
            }
            Err(_) => eventually("the crew hears why", || !pool.crew.broken.lock().is_empty()),
        }
        pool.lane.close(false);
        assert_eq!(pool.lane.join(None), Waited::Done, "seed {seed}");
        assert_eq!(pool.announced(), watched as u64, "seed {seed}");
        drop((vandal, running, behind, lent));
    }
}

/// The fixed part of a link, and a little memory for long payloads.
const HEAD: usize = 4096;
const WORDS: usize = 128 << 10;
const DRAFT: usize = 256 << 10;
const SPILL: usize = 1 << 20;

#[test]
fn a_worker_survives_a_parent_that_writes_garbage() {
    let magic = [u32::from_le_bytes(*b"radl"), 3];
    let begin = |segment: &Segment| {
        let head = segment.map(0, HEAD).unwrap();
        (0..2).for_each(|word| head.get::<AtomicU32>(4 * word).store(magic[word], SeqCst));
    };
    let kinds =
        [kind::DEFINE, kind::CALL, kind::APPLY, kind::PIECE, kind::BATCH, kind::RELEASE, kind::FORGET, kind::STOP];
    let (mut requests, mut answers) = (0, 0);
    for seed in seeds(400) {
        let _cap = Cap::seconds(60);
        let link = Segment::create("raddle-test-link", HEAD + 2 * RING + WORDS + DRAFT + 4 * SPILL).unwrap();
        let page = Segment::create("raddle-test-page", HEAD).unwrap();
        let heap = Heap::create("raddle-test-heap", 1 << 20, 1 << 20).unwrap();
        begin(&link);
        begin(&page);
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let copy = |fd: std::os::fd::BorrowedFd<'_>| -> OwnedFd { fd.try_clone_to_owned().unwrap() };
        let parent = rustix::process::getppid().unwrap().as_raw_pid() as u32;
        let mut end =
            WorkerEnd::open(copy(link.as_fd()), copy(page.as_fd()), eventfd, copy(heap.fd().unwrap()), parent).unwrap();
        // SAFETY: it is what is tested here.
        let mut vandal = unsafe { Vandal::new(seed, &link, REQUEST_LINES, REQUEST_RING, kinds) };
        let mut numbers = Numbers::from(seed ^ 3);
        let mut leases = Vec::new();
        for _ in 0..numbers.below(150) {
            vandal.act();
            let Look::Request { kind, flags, .. } = end.look() else { continue };
            requests += 1;
            if !end.claim() {
                continue;
            }
            let parent_heap = end.parent_heap().clone();
            let named = end.payload().and_then(|payload| {
                let ends = payload.first().zip(payload.last()).map(|(a, b)| u64::from(*a) + u64::from(*b));
                std::hint::black_box(ends);
                (flags & flag::BUFFERS != 0).then(|| WorkerEnd::borrow(&parent_heap, payload))?
            });
            for lease in named.into_iter().flatten().flatten() {
                assert!(lease.len() <= 1 << 20);
                leases.push(lease);
            }
            end.done_reading();
            if matches!(kind, kind::DEFINE | kind::FORGET) {
                end.finish();
                continue;
            }
            let long = [7; 40_000];
            let parts: &[&[u8]] = if numbers.below(3) == 0 { &[&long] } else { &[b"answer"] };
            let kept = end.heap().lease(500);
            let answer = Answer { kind: kind::VALUE, flags: 0, nanos: 5, begun: None, done: 1, failed: None, parts };
            answers += usize::from(end.reply(&answer).is_ok());
            if numbers.below(2) == 0 {
                leases.truncate(leases.len() / 2);
                drop(kept);
            }
            end.give_back();
        }
    }
    assert!(requests > 500 && answers > 100, "{requests} requests, {answers} answers");
}
