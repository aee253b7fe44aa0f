//! Values that only attached threads touch: the interpreter's lock, which these hold, guards them.
//!
//! A mutex costs two atomic exchanges, which is half of what it takes to put an item into a queue. Whoever calls a method of a Python
//! object holds the GIL, so a mutex around what is in there is always free. In an interpreter without a GIL it is a mutex all the same.
//!
//! # Rules
//!
//! 1. A structure with [`ByGil`] cells stands in an [`Attached`], and is reached by showing a `Python` token. The cells are not `Sync`, so
//!    a reference to it does not go to another thread, nor into a closure that runs detached.
//! 2. A change neither lets go of the interpreter nor calls into it: that is [`Guarding`]'s second rule. So it is over before another
//!    thread is attached, and does not meet itself. The cells are `RefCell`s: where the rule were broken, the second change would panic
//!    before it touches anything.
//! 3. The collector's visits are attached, although they show no token. They come while Python objects are made, which by rule 2 is
//!    not inside a change.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg(not(Py_GIL_DISABLED))]
pub(crate) use by_gil::ByGil;
#[cfg(Py_GIL_DISABLED)]
pub(crate) use raddle_core::prim::ByMutex as ByGil;

/// A structure that attached threads alone touch.
pub(crate) struct Attached<S>(S);

// SAFETY: rule 1. Threads that share this reach what is inside only while they are attached, by `of` and `visited`: with a GIL that is
// one at a time, and the GIL orders what they do. So they take turns, for which `S: Send` is enough. The module belongs to one
// interpreter, and so do its objects: PyO3 refuses to load it into a second one with another GIL.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<S: Send> Sync for Attached<S> {}

impl<S> Attached<S> {
    pub(crate) fn new(structure: S) -> Self {
        Self(structure)
    }

    /// The structure.
    #[inline]
    pub(crate) fn of<'py>(&'py self, _py: Python<'py>) -> &'py S {
        &self.0
    }

    /// The structure, for the collector: it alone has a `visit`, and only while it calls `__traverse__`.
    pub(crate) fn visited(&self, _visit: &PyVisit<'_>) -> &S {
        &self.0
    }
}

/// A number that attached threads alone change, and anyone reads. With a GIL they do so one after the other, and need no atomic exchange.
///
/// Ordering: Relaxed. It is a number, and no news of anything else.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(crate) fn add(&self, _py: Python<'_>, more: u64) {
        #[cfg(not(Py_GIL_DISABLED))]
        self.0.store(self.get().wrapping_add(more), Relaxed);
        #[cfg(Py_GIL_DISABLED)]
        self.0.fetch_add(more, Relaxed);
    }

    #[inline]
    pub(crate) fn sub(&self, py: Python<'_>, less: u64) {
        self.add(py, less.wrapping_neg());
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod by_gil {
    use raddle_core::prim::Guarding;
    use std::cell::RefCell;

    /// By the GIL, which whoever comes holds.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct ByGil;

    impl Guarding for ByGil {
        type Cell<T> = RefCell<T>;

        fn cell<T>(value: T) -> RefCell<T> {
            RefCell::new(value)
        }

        #[inline]
        fn with<T, R>(cell: &RefCell<T>, change: impl FnOnce(&mut T) -> R) -> R {
            change(&mut cell.borrow_mut())
        }

        #[inline]
        fn try_with<T, R>(cell: &RefCell<T>, change: impl FnOnce(&mut T) -> R) -> Option<R> {
            cell.try_borrow_mut().ok().map(|mut value| change(&mut value))
        }
    }
}
