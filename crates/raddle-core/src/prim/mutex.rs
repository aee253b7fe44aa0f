//! A mutual exclusion lock that never poisons.

use super::MutexGuard;

#[cfg(loom)]
use loom::sync::Mutex as Inner;
#[cfg(not(loom))]
use std::sync::Mutex as Inner;

use std::sync::{PoisonError, TryLockError};

/// Mutual exclusion for a few instructions on plain data.
///
/// A panic while it is held leaves the value as it is at that moment and unlocks: there is no poison. What
/// is held under such a lock is therefore changed only by steps that cannot panic half way, or that leave
/// a valid value wherever they end.
///
/// # Examples
///
/// ```
/// use raddle_core::prim::Mutex;
///
/// let count = Mutex::new(1);
/// *count.lock() += 1;
/// assert_eq!(count.into_inner(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Mutex<T>(Inner<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex that guards `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// An unlocked mutex that guards `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Locks, after the thread that holds it has let go.
    ///
    /// # Panics
    ///
    /// May panic, or never return, when this thread holds it already.
    #[inline]
    #[cfg(not(raddle_tsan))]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks, after the thread that holds it has let go.
    ///
    /// The thread sanitizer sees only code that was compiled for it. A lock that has to wait is taken inside the
    /// standard library, which may not have been, and what it orders would look like a race; a lock that is free is
    /// taken by code inlined here. So in that build the lock is tried until it is free.
    #[cfg(raddle_tsan)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        loop {
            match self.try_lock() {
                Some(guard) => return guard,
                None => super::thread::yield_now(),
            }
        }
    }

    /// Locks if no one holds it. `None`: someone does.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The value, without locking: `&mut` proves that no one else knows it.
    #[inline]
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, and the end of the lock.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Mutex;
    use crate::prim::{Arc, thread};

    #[test]
    fn a_panic_while_it_is_held_leaves_the_value_and_unlocks() {
        let value = Arc::new(Mutex::new(1));
        let inside = Arc::clone(&value);
        let panicked = thread::spawn(move || {
            let mut held = inside.lock();
            *held = 2;
            panic!("this panic is part of the test");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*value.lock(), 2);
        assert_eq!(value.try_lock().as_deref(), Some(&2));
    }

    #[test]
    fn try_lock_does_not_wait() {
        let value = Mutex::new(1);
        let held = value.lock();
        assert!(value.try_lock().is_none());
        drop(held);
        assert!(value.try_lock().is_some());
    }
}
