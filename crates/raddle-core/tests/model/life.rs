use crate::check;
use raddle_core::life::{AtomicState, Event, Outcome, Phase, State};
use raddle_core::park::{Unparker, with_current};
use raddle_core::prim::cell::UnsafeCell;
use raddle_core::prim::{Arc, Mutex, thread};

/// A call with a result, as a future has it.
struct Call {
    life: AtomicState,
    result: UnsafeCell<u32>,
    waiter: Mutex<Option<Unparker>>,
    callbacks: Mutex<u32>,
}

// SAFETY: the result is written by the one thread that finishes, before it does, and read by those who have seen the
// end: the models check exactly this.
unsafe impl Sync for Call {}

impl Call {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            life: AtomicState::new(),
            result: UnsafeCell::new(0),
            waiter: Mutex::new(None),
            callbacks: Mutex::new(0),
        })
    }

    /// Ends the call with `value`. Returns how many callbacks were told.
    fn finish(&self, value: u32) -> u32 {
        // SAFETY: one thread finishes, and nobody reads before the end.
        self.result.with_mut(|place| unsafe { *place = value });
        let (_, next) = self.life.step(Event::Finish(Outcome::Returned)).unwrap();
        if next.wake {
            self.wake();
        }
        if !next.announce {
            return 0;
        }
        let mut callbacks = self.callbacks.lock();
        let (_, next) = self.life.step(Event::Told).unwrap();
        if next.wake {
            self.wake();
        }
        std::mem::take(&mut *callbacks)
    }

    fn wake(&self) {
        self.waiter.lock().as_ref().expect("a waiter leaves its unparker before it says that it waits").unpark();
    }

    /// Waits until the call is over for everyone, and returns its result.
    fn wait(&self) -> u32 {
        with_current(|parker| {
            *self.waiter.lock() = Some(parker.unparker());
            let (mut state, _) = self.life.step(Event::Wait).unwrap();
            while !state.is_done() {
                _ = parker.park(None);
                state = self.life.load();
            }
        });
        // SAFETY: the end has been seen, and nobody writes after it.
        self.result.with(|place| unsafe { *place })
    }

    /// Adds a callback. Returns how many were told by this thread itself.
    fn watch(&self) -> u32 {
        let mut callbacks = self.callbacks.lock();
        let (state, _) = self.life.step(Event::Watch).unwrap();
        if state.is_done() {
            return 1;
        }
        *callbacks += 1;
        0
    }
}

#[test]
fn of_two_finishers_one_delivers_and_it_is_the_one_that_is_seen() {
    check(4, || {
        let life = Arc::new(AtomicState::new());
        let there = Arc::clone(&life);
        let other = thread::spawn(move || there.step(Event::Finish(Outcome::Killed)));
        let mine = life.step(Event::Finish(Outcome::Returned));
        let delivered: Vec<_> =
            [mine, other.join().unwrap()].into_iter().filter_map(|answer| answer.ok()?.1.deliver).collect();
        assert_eq!(delivered, [life.load().outcome().unwrap()]);
    });
}

#[test]
fn a_waiter_is_woken_and_sees_the_result() {
    check(4, || {
        let call = Call::new();
        let there = Arc::clone(&call);
        let finisher = thread::spawn(move || there.finish(7));
        assert_eq!(call.wait(), 7);
        assert_eq!(finisher.join().unwrap(), 0);
    });
}

#[test]
fn a_waiter_of_a_watched_call_is_woken_at_the_end_or_when_everyone_has_been_told() {
    check(4, || {
        let call = Call::new();
        assert_eq!(call.watch(), 0);
        let there = Arc::clone(&call);
        let finisher = thread::spawn(move || there.finish(7));
        assert_eq!(call.wait(), 7);
        assert_eq!(finisher.join().unwrap(), 1);
    });
}

#[test]
fn whoever_sees_the_outcome_sees_the_result() {
    check(4, || {
        let call = Call::new();
        let there = Arc::clone(&call);
        // The reader is the thread that is started second: see the head of main.rs.
        let reader = thread::spawn(move || {
            if there.life.load().outcome().is_some() {
                // SAFETY: the end has been seen, and nobody writes after it.
                assert_eq!(there.result.with(|place| unsafe { *place }), 7);
            }
        });
        call.finish(7);
        reader.join().unwrap();
    });
}

#[test]
fn a_callback_is_told_exactly_once() {
    check(4, || {
        let call = Call::new();
        let there = Arc::clone(&call);
        let finisher = thread::spawn(move || there.finish(7));
        let by_me = call.watch();
        assert_eq!(by_me + finisher.join().unwrap(), 1);
        assert!(call.life.load().is_done());
    });
}

#[test]
fn two_callbacks_are_told_exactly_once_each() {
    check(3, || {
        let call = Call::new();
        let watchers = [(); 2].map(|()| {
            let there = Arc::clone(&call);
            thread::spawn(move || there.watch())
        });
        let told = call.finish(7);
        let by_them: u32 = watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum();
        assert_eq!(told + by_them, 2);
    });
}

#[test]
fn a_waiter_and_a_watcher_do_not_hinder_each_other() {
    check(3, || {
        let call = Call::new();
        let there = Arc::clone(&call);
        let watcher = thread::spawn(move || there.watch());
        let there = Arc::clone(&call);
        let finisher = thread::spawn(move || there.finish(7));
        assert_eq!(call.wait(), 7);
        assert_eq!(watcher.join().unwrap() + finisher.join().unwrap(), 1);
    });
}

#[test]
fn a_call_is_started_or_cancelled_and_never_both() {
    check(4, || {
        let life = Arc::new(AtomicState::new());
        let there = Arc::clone(&life);
        let worker = thread::spawn(move || there.step(Event::Start).is_ok());
        let cancelled = life.step(Event::Cancel).is_ok();
        assert_ne!(worker.join().unwrap(), cancelled);
    });
}

#[test]
fn a_stopped_unit_is_put_back_into_its_queue_once_or_does_not_sleep() {
    check(4, || {
        let life = Arc::new(AtomicState::new());
        _ = life.step(Event::Start).unwrap();
        let there = Arc::clone(&life);
        let stopper = thread::spawn(move || there.step(Event::Stop).unwrap().1.enqueue);
        let slept = life.step(Event::Park).is_ok();
        let unparked = life.step(Event::Unpark).is_ok_and(|(_, next)| next.enqueue);
        let enqueued = u32::from(unparked) + u32::from(stopper.join().unwrap());
        assert_eq!(enqueued, u32::from(slept));
        let State { phase, stop_asked, .. } = life.load();
        assert_eq!((phase, stop_asked), (if slept { Phase::Ready } else { Phase::Running }, true));
    });
}
