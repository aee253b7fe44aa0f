//! What belongs to one process: a forked child begins with a fresh one.
//!
//! A fork copies the thread that forks, and none of the others. A lock that one of them held at that moment is never given back in the
//! child, and what it guards may be half changed. So the child does not touch what the parent had: it makes its own.
//!
//! # Rules
//!
//! 1. [`renew`](OfProcess::renew) is called in the forked child, which has one thread then, before other code of the house runs there.
//! 2. What was made is never freed, so that references to it are good for ever; the parent's stays in the child's memory, unused.

use raddle_core::prim::atomic::{AtomicPtr, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

/// A value that is made when it is first asked for, once in each process.
pub(crate) struct OfProcess<T: 'static> {
    there: AtomicPtr<T>,
    make: fn() -> T,
}

impl<T: Send + Sync> OfProcess<T> {
    pub(crate) const fn new(make: fn() -> T) -> Self {
        Self { there: AtomicPtr::new(std::ptr::null_mut()), make }
    }

    /// This process's.
    #[inline]
    pub(crate) fn get(&self) -> &'static T {
        let mut there = self.there.load(Acquire);
        if there.is_null() {
            there = self.made();
        }
        // SAFETY: not null, made by `Box::into_raw` and never freed (rule 2); only shared references to it are made.
        unsafe { &*there }
    }

    #[cold]
    fn made(&self) -> *mut T {
        let fresh = Box::into_raw(Box::new((self.make)()));
        // Ordering: AcqRel. Pairs with itself and the Acquire above: who sees the pointer sees what was made.
        match self.there.compare_exchange(std::ptr::null_mut(), fresh, AcqRel, Acquire) {
            Ok(_) => fresh,
            Err(other) => {
                // SAFETY: made above, and nobody has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                other
            }
        }
    }

    /// To be called in a forked child (rule 1).
    pub(crate) fn renew(&self) {
        self.there.store(std::ptr::null_mut(), Release);
    }
}
