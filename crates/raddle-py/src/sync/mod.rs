//! The primitives of `raddle.threading` and of `raddle.sync`. What they are stands in `raddle_core::sync`; here they wait through the gate, stand in the wait
//! graph, and those of `raddle.threading` speak as the standard library's do.

mod atomics;
mod barrier;
mod condition;
mod counter;
mod dict;
mod event;
mod guard;
mod holding;
mod latch;
mod lock;
mod once;
mod rlock;
mod rwlock;
mod semaphore;
mod timeout;
mod wait;

pub(crate) use atomics::{PyAtomicFlag, PyAtomicInt, PyAtomicRef};
pub(crate) use barrier::PyBarrier;
pub(crate) use condition::PyCondition;
pub(crate) use counter::PyCounter;
pub(crate) use dict::PyConcurrentDict;
pub(crate) use event::PyEvent;
pub(crate) use guard::{PyGuard, PyRGuard};
pub(crate) use holding::Holding;
pub(crate) use latch::PyLatch;
pub(crate) use lock::PyLock;
pub(crate) use once::PyOnce;
pub(crate) use rlock::PyRLock;
pub(crate) use rwlock::{PyRwLock, PyRwSide};
pub(crate) use semaphore::PySemaphore;
pub(crate) use wait::{until_called, until_done};

use pyo3::prelude::*;

/// What `statistics()` is made of: acquisitions, contended, given up, and the total wait, the longest wait and the longest hold in seconds.
pub(crate) type Numbers = (u64, u64, u64, f64, f64, f64);

pub(crate) fn numbers(usage: &raddle_core::sync::Usage) -> Numbers {
    let numbers = usage.numbers();
    #[expect(clippy::cast_precision_loss, reason = "52 bits of nanoseconds are 52 days")]
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    (
        numbers.acquisitions,
        numbers.contended,
        numbers.gave_up,
        seconds(numbers.waited),
        seconds(numbers.longest_wait),
        seconds(numbers.longest_hold),
    )
}

/// Opens the shortcuts of all of them.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    condition::open_shortcuts(py)?;
    event::open_shortcuts(py)?;
    lock::open_shortcuts(py)?;
    rlock::open_shortcuts(py)?;
    semaphore::open_shortcuts(py)
}
