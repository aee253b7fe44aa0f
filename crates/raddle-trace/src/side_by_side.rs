//! Work that is done by several threads at once, for whoever waits for it.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

/// More than so many threads would wait for memory, not for processors.
const MOST: usize = 4;

/// Does something with each of these, side by side. Where no thread may be started this one does it all.
pub(crate) fn side_by_side<T: Send>(parts: Vec<T>, each: impl Fn(T) + Sync) {
    let helpers = thread::available_parallelism().map_or(1, NonZero::get).min(MOST).min(parts.len()).saturating_sub(1);
    let parts = Mutex::new(parts.into_iter());
    // In a statement of its own: the lock is not held while something is done.
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(part) = next() {
            each(part);
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            if Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::side_by_side;

    #[test]
    fn each_part_is_done_once() {
        for count in [0, 1, 2, 100] {
            let done = Mutex::new(vec![0; count]);
            side_by_side((0..count).collect(), |part| done.lock().unwrap()[part] += 1);
            assert_eq!(done.into_inner().unwrap(), vec![1; count]);
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_reaches_who_waits() {
        // Two that are done by two threads or, where there is one processor, by this one.
        side_by_side(vec![1, 2], |_| panic!("a scoped thread panicked"));
    }
}
