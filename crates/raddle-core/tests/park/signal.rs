//! A signal handler that runs on a sleeping thread.

use raddle_core::park::{Wake, with_current};
use raddle_core::prim::atomic::AtomicBool;
use raddle_core::prim::atomic::Ordering::{Acquire, Release};
use raddle_core::prim::{Arc, thread};
use raddle_core::sched::{Pop, Queue, Waited};
use std::ffi::{c_int, c_ulong};
use std::time::{Duration, Instant};

const SIGUSR1: c_int = 10;

unsafe extern "C" {
    fn signal(signum: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn siginterrupt(signum: c_int, flag: c_int) -> c_int;
    fn pthread_self() -> c_ulong;
    fn pthread_kill(thread: c_ulong, signum: c_int) -> c_int;
}

extern "C" fn do_nothing(_: c_int) {}

/// Runs `sleep` on a thread of its own and sends that thread signals until it returns.
fn while_signalled<R: Send + 'static>(sleep: impl FnOnce() -> R + Send + 'static) -> R {
    // SAFETY: the handler does nothing, and no other test of this program uses the signal for anything else.
    unsafe { signal(SIGUSR1, do_nothing) };
    // SAFETY: no pointer is passed; the call is only deprecated.
    assert_eq!(unsafe { siginterrupt(SIGUSR1, 1) }, 0, "without SA_RESTART");

    let (woken, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (tell, sleeper) = std::sync::mpsc::channel();
    let thread = thread::spawn({
        let (woken, over) = (Arc::clone(&woken), Arc::clone(&over));
        move || {
            // SAFETY: takes nothing, and always succeeds.
            tell.send(unsafe { pthread_self() }).unwrap();
            let answer = sleep();
            woken.store(true, Release);
            // The thread lives until nobody sends it signals any more.
            while !over.load(Acquire) {
                thread::yield_now();
            }
            answer
        }
    });
    let id = sleeper.recv().unwrap();
    let pause = raddle_core::park::Parker::new();
    while !woken.load(Acquire) {
        // A signal that comes before the thread sleeps has no effect, so there is another one.
        // SAFETY: the thread lives until `over` is set below.
        assert_eq!(unsafe { pthread_kill(id, SIGUSR1) }, 0);
        _ = pause.park(Some(Instant::now() + Duration::from_millis(1)));
    }
    over.store(true, Release);
    thread.join().unwrap()
}

#[test]
fn a_signal_interrupts_a_park() {
    assert_eq!(while_signalled(|| with_current(|parker| parker.park(None))), Wake::Interrupted);
}

#[test]
fn a_signal_interrupts_a_park_with_a_deadline() {
    let deadline = Instant::now() + Duration::from_secs(60);
    assert_eq!(while_signalled(move || with_current(|parker| parker.park(Some(deadline)))), Wake::Interrupted);
}

#[test]
fn a_token_beats_the_signal_that_comes_with_it() {
    let answer = while_signalled(|| {
        with_current(|parker| {
            _ = parker.park(None);
            parker.unparker().unpark();
            parker.park(None)
        })
    });
    assert_eq!(answer, Wake::Unparked);
}

#[test]
fn an_interrupted_worker_is_not_counted_as_asleep_and_can_come_back() {
    let queue = Arc::new(Queue::new());
    let there = Arc::clone(&queue);
    let (sleeping, item) = while_signalled(move || {
        assert_eq!(there.wait(None), Waited::Interrupted);
        let sleeping = there.sleeping();
        there.push(1).unwrap();
        while there.wait(None) == Waited::Interrupted {}
        (sleeping, there.pop())
    });
    assert_eq!((sleeping, item), (0, Pop::Item(1)));
    assert_eq!(queue.sleeping(), 0);
}

#[test]
fn an_interrupted_worker_leaves_the_others_to_be_called() {
    let queue = Arc::new(Queue::new());
    let other = thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            assert_eq!(queue.wait(None), Waited::Ready);
            queue.pop()
        }
    });
    let there = Arc::clone(&queue);
    while_signalled(move || assert_eq!(there.wait(None), Waited::Interrupted));
    queue.push(1).unwrap();
    assert_eq!(other.join().unwrap(), Pop::Item(1));
}
