//! A number of permits.

use crate::prim::{Arc, Mutex};

use crate::park::{Attempt, Line, Waiter};

/// Permits that are taken one at a time, and given back by anyone.
///
/// # Examples
///
/// ```
/// use raddle_core::park::{Attempt};
/// use raddle_core::sync::{Semaphore};
///
/// let semaphore = Semaphore::new(1, None);
/// assert!(semaphore.try_acquire());
/// let Attempt::Wait(waiter) = semaphore.acquire(None) else { panic!("there is no other permit") };
/// semaphore.release(1)?;
/// assert!(waiter.is_called());
/// assert!(semaphore.acquire(Some(&waiter)).done().is_some());
/// # Ok::<(), raddle_core::sync::Overfull>(())
/// ```
#[derive(Debug)]
pub struct Semaphore {
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    permits: usize,
    /// The most that there may be.
    bound: usize,
    line: Line,
}

/// More permits were given back than there may be. Nothing was changed.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Overfull, Semaphore};
///
/// let semaphore = Semaphore::new(1, Some(1));
/// assert_eq!(semaphore.release(1), Err(Overfull));
/// assert_eq!(semaphore.permits(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overfull;

impl Semaphore {
    /// With so many permits, and never more than `bound`.
    pub fn new(permits: usize, bound: Option<usize>) -> Self {
        Self { inside: Mutex::new(Inside { permits, bound: bound.unwrap_or(usize::MAX), line: Line::default() }) }
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let mut inside = self.inside.lock();
        let there = inside.permits > 0;
        inside.permits -= usize::from(there);
        there
    }

    /// Takes a permit, or stands in line for one.
    #[inline]
    pub fn acquire(&self, before: Option<&Arc<Waiter>>) -> Attempt {
        let mut inside = self.inside.lock();
        if inside.permits > 0 {
            inside.permits -= 1;
            return Attempt::Done(());
        }
        Attempt::Wait(inside.line.join(before))
    }

    /// Gives `count` permits back.
    ///
    /// # Errors
    ///
    /// [`Overfull`] if there would be more than the bound.
    #[inline]
    pub fn release(&self, count: usize) -> Result<(), Overfull> {
        let mut inside = self.inside.lock();
        let permits = inside.permits.saturating_add(count);
        if permits > inside.bound {
            return Err(Overfull);
        }
        inside.permits = permits;
        let called = inside.line.call_many(count);
        drop(inside);
        called.wake();
        Ok(())
    }

    /// Takes a waiter out of the line that does not want to wait any more.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        let mut inside = self.inside.lock();
        let called =
            if !inside.line.leave(waiter) && inside.permits > 0 { inside.line.call() } else { Default::default() };
        drop(inside);
        called.wake();
    }

    /// How many permits there are.
    pub fn permits(&self) -> usize {
        self.inside.lock().permits
    }

    /// The most that there may be.
    pub fn bound(&self) -> Option<usize> {
        let bound = self.inside.lock().bound;
        (bound != usize::MAX).then_some(bound)
    }

    /// Begins anew with so many permits. Whoever waits looks again.
    pub fn restart(&self, permits: usize, bound: Option<usize>) {
        let mut inside = self.inside.lock();
        inside.permits = permits;
        inside.bound = bound.unwrap_or(usize::MAX);
        let called = inside.line.call_many(permits);
        drop(inside);
        called.wake();
    }
}
