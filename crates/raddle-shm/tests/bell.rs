//! Bells, alarms and the futex under them, with real threads, real signals and a second process.
#![cfg(all(target_os = "linux", not(loom)))]

mod support;

use std::os::unix::thread::JoinHandleExt;
use std::time::{Duration, Instant};

use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, Release};
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};
use raddle_core::prim::thread;
use raddle_shm::futex::{self, Wait};
use raddle_shm::{Alarm, Bell, Segment, Shared};
use support::{FOR_EVER, Peer, parents_segment};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn a_futex_does_not_sleep_on_a_word_that_has_changed() {
    assert_eq!(futex::wait(&AtomicU32::new(1), 0, None), Wait::Changed);
}

#[test]
fn a_futex_sleeps_as_long_as_it_was_told() {
    let start = Instant::now();
    assert_eq!(futex::wait(&AtomicU32::new(0), 0, Some(SHORT)), Wait::TimedOut);
    assert!(start.elapsed() >= SHORT);
    assert_eq!(futex::wait(&AtomicU32::new(0), 0, Some(Duration::ZERO)), Wait::TimedOut);
}

#[test]
fn a_futex_wakes_as_many_as_it_was_told() {
    let (word, back) = (AtomicU32::new(0), AtomicU32::new(0));
    assert_eq!(futex::wake(&word, u32::MAX), 0, "nobody sleeps here");
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                // The longest time there is must not come out as a short one, or as an invalid one.
                let ended = futex::wait(&word, 0, Some(Duration::MAX));
                assert!(matches!(ended, Wait::Woken | Wait::Changed), "{ended:?}");
                back.fetch_add(1, Relaxed);
            });
        }
        let mut woken = 0;
        while woken < 2 {
            let now = futex::wake(&word, 1);
            assert!(now <= 1);
            woken += now;
            thread::yield_now();
        }
        word.store(1, Release);
        while back.load(Relaxed) < 3 {
            futex::wake(&word, u32::MAX);
            thread::yield_now();
        }
    });
}

#[test]
fn a_ring_at_which_nobody_sleeps_makes_no_system_call() {
    let bell = Bell::new();
    assert!(!bell.ring());
    let ticket = bell.prepare();
    bell.cancel(ticket);
    assert!(!bell.ring(), "it did not sleep after all");
    let ticket = bell.prepare();
    assert_eq!(bell.sleep(ticket, Some(SHORT)), Wait::TimedOut);
    assert!(!bell.ring(), "it sleeps no more");
}

#[test]
fn a_ring_after_prepare_is_not_slept_over() {
    let bell = Bell::new();
    let ticket = bell.prepare();
    assert!(bell.ring());
    assert!(!bell.ring(), "once for each time it prepares");
    assert_eq!(bell.sleep(ticket, Some(FOR_EVER)), Wait::Changed);
    let ticket = bell.prepare();
    bell.ring_always();
    assert_eq!(bell.sleep(ticket, Some(FOR_EVER)), Wait::Changed);
}

#[test]
fn a_bell_of_any_content_works() {
    for content in [[0_u32, 0], [u32::MAX, u32::MAX], [7, 0], [0, 9]] {
        let mapping = Segment::create("raddle-test", 4096).unwrap().map(0, 4096).unwrap();
        mapping.get::<AtomicU32>(0).store(content[0], Relaxed);
        mapping.get::<AtomicU32>(4).store(content[1], Relaxed);
        let bell = mapping.get::<Bell>(0);
        let ticket = bell.prepare();
        assert!(bell.ring());
        assert_eq!(bell.sleep(ticket, Some(FOR_EVER)), Wait::Changed);
        assert!(!bell.ring());
    }
}

#[test]
fn a_ring_wakes_the_sleeper() {
    let (bell, work) = (Bell::new(), AtomicU32::new(0));
    std::thread::scope(|s| {
        let sleeper = s.spawn(|| wait_for(&bell, &work, 1));
        // It has prepared when a ring finds it; it may not sleep yet, and must not from then on.
        work.store(1, Release);
        while !bell.ring() && !sleeper.is_finished() {
            thread::yield_now();
        }
    });
}

/// Sleeps until the work has reached a number.
fn wait_for(bell: &Bell, work: &AtomicU32, number: u32) {
    loop {
        let ticket = bell.prepare();
        if work.load(Acquire) >= number {
            return bell.cancel(ticket);
        }
        assert_ne!(bell.sleep(ticket, Some(FOR_EVER)), Wait::TimedOut, "a wake-up was lost");
    }
}

#[test]
fn many_ringers_never_leave_the_sleeper_asleep() {
    const RINGERS: u32 = 4;
    const EACH: u32 = 2_000;
    let (bell, work) = (Bell::new(), AtomicU32::new(0));
    let rings = std::thread::scope(|s| {
        let ringer = || {
            let mut rings = 0;
            for _ in 0..EACH {
                work.fetch_add(1, Release);
                rings += u32::from(bell.ring());
            }
            rings
        };
        let ringers: Vec<_> = (0..RINGERS).map(|_| s.spawn(ringer)).collect();
        for number in 1..=RINGERS * EACH {
            wait_for(&bell, &work, number);
        }
        ringers.into_iter().map(|ringer| ringer.join().unwrap()).sum::<u32>()
    });
    assert!(rings <= RINGERS * EACH);
}

#[test]
fn two_threads_wake_each_other_in_turn() {
    const ROUNDS: u32 = 3_000;
    let (bells, turn) = ([Bell::new(), Bell::new()], AtomicU32::new(0));
    let side = |mine: u32| {
        for round in 0..ROUNDS {
            wait_for(&bells[mine as usize], &turn, 2 * round + mine);
            turn.store(2 * round + mine + 1, Release);
            bells[1 - mine as usize].ring();
        }
    };
    std::thread::scope(|s| {
        s.spawn(|| side(1));
        side(0);
    });
    assert_eq!(turn.load(Acquire), 2 * ROUNDS);
}

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn siginterrupt(number: i32, interrupt: i32) -> i32;
    fn pthread_kill(thread: std::os::unix::thread::RawPthread, number: i32) -> i32;
}

extern "C" fn do_nothing(_number: i32) {}

#[test]
fn a_signal_ends_a_sleep() {
    let number = rustix::process::Signal::USR1.as_raw();
    // SAFETY: the handler does nothing, so it may run anywhere.
    unsafe { signal(number, do_nothing as *const () as usize) };
    // SAFETY: changes how system calls end under this signal, which no other test uses.
    assert_eq!(unsafe { siginterrupt(number, 1) }, 0);
    for timeout in [None, Some(FOR_EVER)] {
        let sleeper = thread::spawn(move || {
            let bell = Bell::new();
            let ticket = bell.prepare();
            bell.sleep(ticket, timeout)
        });
        // A signal that comes before it sleeps ends nothing, so there is one after the other.
        while !sleeper.is_finished() {
            // SAFETY: the thread has not been joined, so its name is valid.
            unsafe { pthread_kill(sleeper.as_pthread_t(), number) };
            thread::yield_now();
        }
        assert_eq!(sleeper.join().unwrap(), Wait::Interrupted);
    }
}

#[test]
fn an_alarm_is_due_once_and_not_before_its_count() {
    let alarm = Alarm::new();
    assert!(!alarm.due(0) && !alarm.due(u64::MAX), "it was never set");
    alarm.set(10);
    assert!(!alarm.due(9));
    assert!(alarm.due(10) && !alarm.due(10));
    alarm.set(10);
    assert!(alarm.due(1000), "also when the count has run past it");
    alarm.set(5);
    alarm.set(7);
    assert!(!alarm.due(6), "the later one counts");
    alarm.clear();
    assert!(!alarm.due(u64::MAX));
}

#[test]
fn zeroed_memory_is_an_alarm_that_is_due_until_it_is_made_one_that_is_not() {
    let mapping = Segment::create("raddle-test", 4096).unwrap().map(0, 4096).unwrap();
    assert!(mapping.get::<Alarm>(64).due(0));
    mapping.get::<Alarm>(128).init();
    assert!(!mapping.get::<Alarm>(128).due(u64::MAX));
}

#[test]
fn an_alarm_wakes_for_the_count_and_not_for_each_step() {
    const LAST: u64 = 20_000;
    const STEP: u64 = 1_000;
    let (bell, alarm, count) = (Bell::new(), Alarm::new(), AtomicU64::new(0));
    let rings = std::thread::scope(|s| {
        let counter = s.spawn(|| {
            let mut rings = 0;
            for n in 1..=LAST {
                count.store(n, Release);
                if alarm.due(n) {
                    bell.ring();
                    rings += 1;
                }
            }
            rings
        });
        for at in (STEP..=LAST).step_by(STEP as usize) {
            alarm.set(at);
            loop {
                let ticket = bell.prepare();
                if count.load(Acquire) >= at {
                    bell.cancel(ticket);
                    break;
                }
                assert_ne!(bell.sleep(ticket, Some(FOR_EVER)), Wait::TimedOut, "a wake-up was lost");
            }
        }
        counter.join().unwrap()
    });
    assert!(rings <= LAST / STEP, "{rings} rings");
}

/// What two processes that wake each other share.
#[repr(C)]
struct Page {
    bells: [Bell; 2],
    turn: AtomicU32,
    rung: AtomicU32,
}

// SAFETY: types that keep the rules, in a fixed order.
unsafe impl Shared for Page {}

#[test]
fn two_processes_wake_each_other_in_turn() {
    const ROUNDS: u32 = 2_000;
    let peer = parents_segment();
    let segment = peer.unwrap_or_else(|| Segment::create("raddle-test", 4096).unwrap());
    let mapping = segment.map(0, 4096).unwrap();
    let page = mapping.get::<Page>(0);
    let side = |mine: u32| {
        for round in 0..ROUNDS {
            wait_for(&page.bells[mine as usize], &page.turn, 2 * round + mine);
            page.turn.store(2 * round + mine + 1, Release);
            page.bells[1 - mine as usize].ring();
        }
    };
    if parents_segment().is_some() {
        return side(1);
    }
    let mut peer = Peer::start("two_processes_wake_each_other_in_turn", &segment);
    side(0);
    assert!(peer.wait().success());
    assert_eq!(page.turn.load(Acquire), 2 * ROUNDS);
}

#[test]
fn a_sleeper_whose_ringer_was_killed_is_woken_by_the_supervisor() {
    if let Some(segment) = parents_segment() {
        let mapping = segment.map(0, 4096).unwrap();
        let page = mapping.get::<Page>(0);
        // It takes every intention to sleep for itself and never wakes anyone: killed in the middle of each ring.
        page.rung.store(1, Release);
        loop {
            mapping.get::<AtomicU32>(4).swap(0, Relaxed);
        }
    }
    for _ in 0..10 {
        let segment = Segment::create("raddle-test", 4096).unwrap();
        let (mapping, supervised) = (segment.map(0, 4096).unwrap(), segment.map(0, 4096).unwrap());
        let page = mapping.get::<Page>(0);
        let mut peer = Peer::start("a_sleeper_whose_ringer_was_killed_is_woken_by_the_supervisor", &segment);
        while page.rung.load(Acquire) == 0 {
            thread::yield_now();
        }
        let supervisor = thread::spawn(move || {
            let page = supervised.get::<Page>(0);
            peer.kill();
            assert!(!peer.wait().success());
            page.turn.store(1, Release);
            page.bells[0].ring_always();
        });
        wait_for(&page.bells[0], &page.turn, 1);
        supervisor.join().unwrap();
    }
}
