//! A count that falls to zero once, and those who wait for that.
//!
//! # Rules
//!
//! 1. The count never rises. At zero it is open, for ever.
//! 2. The step to zero calls all who stand in line, and nobody joins after it: both are done under the mutex.

use crate::prim::{Arc, Mutex};

use crate::park::{Attempt, Called, Line, Waiter};

/// It was to be counted down below zero. Nothing was changed.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Latch, TooMany};
///
/// assert_eq!(Latch::new(1).count_down(2), Err(TooMany { left: 1 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// What the count is.
    pub left: usize,
}

/// The count.
///
/// # Examples
///
/// ```
/// use raddle_core::park::Attempt;
/// use raddle_core::sync::Latch;
///
/// let latch = Latch::new(2);
/// let Attempt::Wait(waiter) = latch.wait() else { panic!("it is not open") };
/// assert_eq!(latch.count_down(1), Ok(1));
/// assert!(!waiter.is_called());
/// assert_eq!(latch.count_down(1), Ok(0));
/// assert!(waiter.is_called() && latch.wait().done().is_some());
/// ```
#[derive(Debug)]
pub struct Latch {
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    count: usize,
    line: Line,
}

impl Latch {
    /// With so much to count down.
    pub fn new(count: usize) -> Self {
        Self { inside: Mutex::new(Inside { count, line: Line::default() }) }
    }

    /// What is left to count down.
    pub fn count(&self) -> usize {
        self.inside.lock().count
    }

    /// Counts down by so much. Returns what is left.
    ///
    /// # Errors
    ///
    /// [`TooMany`]: that is more than is left.
    pub fn count_down(&self, by: usize) -> Result<usize, TooMany> {
        let mut inside = self.inside.lock();
        let left = inside.count.checked_sub(by).ok_or(TooMany { left: inside.count })?;
        inside.count = left;
        let called = if left == 0 { inside.line.call_all() } else { Called::default() };
        drop(inside);
        called.wake();
        Ok(left)
    }

    /// Whether it is open; else joins the line.
    pub fn wait(&self) -> Attempt {
        let mut inside = self.inside.lock();
        if inside.count == 0 { Attempt::Done(()) } else { Attempt::Wait(inside.line.join(None)) }
    }

    /// Takes a waiter out of the line that does not want to wait any more. A call that came too late is nobody else's.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        _ = self.inside.lock().line.leave(waiter);
    }
}
