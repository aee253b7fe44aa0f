use super::{OFTEN, on_threads, until_done, waiter};
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::{Arc, thread};
use raddle_core::sync::Event;

#[test]
fn it_stays_set_until_it_is_cleared() {
    let event = Event::new();
    assert!(!event.is_set());
    event.set();
    assert!(event.is_set() && event.wait(None).done().is_some());
    event.clear();
    assert!(!event.is_set());
}

#[test]
fn who_was_there_when_it_was_set_goes_on_although_it_is_cleared() {
    let event = Event::new();
    let waiters = [(); 2].map(|()| waiter(event.wait(None)));
    event.set();
    event.clear();
    for before in &waiters {
        assert!(event.wait(Some(before)).done().is_some());
    }
    let late = waiter(event.wait(None));
    assert!(!late.is_called());
    assert!(!event.leave(&late), "it was not set meanwhile");
    event.set();
    assert!(!late.is_called());
}

#[test]
fn everybody_is_woken_round_after_round_and_sees_what_was_done_before() {
    let rounds = OFTEN / 10;
    let shared = Arc::new((0..rounds).map(|_| (Event::new(), AtomicUsize::new(0))).collect::<Vec<_>>());
    let there = Arc::clone(&shared);
    let setter = thread::spawn(move || {
        for (event, word) in &*there {
            word.store(1, Relaxed);
            event.set();
        }
    });
    on_threads(3, move |_| {
        for (event, word) in &*shared {
            until_done(|before| event.wait(before));
            assert_eq!(word.load(Relaxed), 1);
        }
    });
    setter.join().unwrap();
}
