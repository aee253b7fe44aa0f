use super::{until_done, waiter};
use raddle_core::park::with_current;
use raddle_core::prim::{Arc, thread};
use raddle_core::sync::Lock;
use std::cell::RefCell;
use std::sync::mpsc;

/// Takes a held lock when its thread ends.
struct Taker {
    lock: Arc<Lock>,
    stands_in_line: mpsc::Sender<()>,
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut is_first = true;
        until_done(|before| {
            let attempt = self.lock.acquire(before);
            if std::mem::take(&mut is_first) {
                self.stands_in_line.send(()).unwrap();
            }
            attempt
        });
        assert!(self.lock.release());
    }
}

std::thread_local! {
    static TAKER: RefCell<Option<Taker>> = const { RefCell::new(None) };
}

/// Local values are dropped in an order that depends on their first use: one of the two drops the parker first.
fn a_wait_at_the_end_of_a_thread_ends(parker_is_first: bool) {
    let lock = Arc::new(Lock::new());
    assert!(lock.try_acquire());
    let (stands_in_line, is_there) = mpsc::channel();
    let taker = Taker { lock: Arc::clone(&lock), stands_in_line };
    let thread = thread::spawn(move || {
        if parker_is_first {
            with_current(|_| ());
        }
        TAKER.set(Some(taker));
        with_current(|_| ());
    });
    is_there.recv().unwrap();
    assert!(lock.release());
    thread.join().unwrap();
    assert!(lock.try_acquire(), "taken and released again");
    drop(waiter(lock.acquire(None)));
}

#[test]
fn a_wait_in_a_local_value_that_is_dropped_before_the_parker_ends() {
    a_wait_at_the_end_of_a_thread_ends(true);
}

#[test]
fn a_wait_in_a_local_value_that_is_dropped_after_the_parker_ends() {
    a_wait_at_the_end_of_a_thread_ends(false);
}
