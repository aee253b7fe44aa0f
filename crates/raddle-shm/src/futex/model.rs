//! The futex as the model checker sees it.
//!
//! Stricter than the kernel's in one way: it never wakes anyone without reason, so that a protocol that lives on spurious
//! wake-ups deadlocks here. Like the kernel's it compares the word under the lock that a waker takes. Time does not pass.

use std::collections::HashMap;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::Relaxed;

use super::Wait;

/// Who sleeps on a word, and how many of them have been woken and do not know it yet.
#[derive(Default)]
struct Sleepers {
    asleep: usize,
    woken: usize,
}

struct Bed {
    words: Mutex<HashMap<usize, Sleepers>>,
    changed: Condvar,
}

loom::lazy_static! {
    static ref BED: Bed = Bed { words: Mutex::new(HashMap::new()), changed: Condvar::new() };
}

/// Sleeps while the word is `expected`, until somebody wakes it. A timeout is not modelled.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wait {
    assert!(timeout.is_none(), "time does not pass in a model");
    let key = std::ptr::from_ref(word).addr();
    let mut words = BED.words.lock().expect("no model thread panics under this lock");
    if word.load(Relaxed) != expected {
        return Wait::Changed;
    }
    words.entry(key).or_default().asleep += 1;
    loop {
        words = BED.changed.wait(words).expect("no model thread panics under this lock");
        let sleepers = words.entry(key).or_default();
        if sleepers.woken > 0 {
            sleepers.woken -= 1;
            return Wait::Woken;
        }
    }
}

/// Wakes up to `count` threads that sleep on the word, and says how many.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    let mut words = BED.words.lock().expect("no model thread panics under this lock");
    let sleepers = words.entry(std::ptr::from_ref(word).addr()).or_default();
    let woken = sleepers.asleep.min(count as usize);
    sleepers.asleep -= woken;
    sleepers.woken += woken;
    BED.changed.notify_all();
    woken
}
