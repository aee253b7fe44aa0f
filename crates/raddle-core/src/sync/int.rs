//! A whole number of 64 bits that changes in single steps, and does not wrap around.
//!
//! Every change is one compare-and-exchange that is repeated until nobody came in between, so that a result that does not fit can be refused before
//! it is there. All orderings are `SeqCst`: users of a number that many threads share reason as if there were one order of all steps.

use crate::prim::atomic::AtomicU64;
use crate::prim::atomic::Ordering::SeqCst;

/// The result does not fit in 64 bits with a sign. Nothing was changed.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::{Int, OutOfRange};
///
/// let int = Int::new(i64::MAX);
/// assert_eq!(int.change(|value| value.checked_add(1)), Err(OutOfRange(i64::MAX)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange(
    /// What it is.
    pub i64,
);

/// The number.
///
/// # Examples
///
/// ```
/// use raddle_core::sync::Int;
///
/// let int = Int::new(40);
/// assert_eq!(int.change(|value| value.checked_add(2)), Ok(40), "what it was");
/// assert!(int.compare_exchange(42, 7).is_ok());
/// assert_eq!(int.load(), 7);
/// ```
#[derive(Debug)]
pub struct Int(AtomicU64);

impl Int {
    /// This number.
    pub fn new(value: i64) -> Self {
        Self(AtomicU64::new(value.cast_unsigned()))
    }

    /// What it is.
    #[inline]
    pub fn load(&self) -> i64 {
        self.0.load(SeqCst).cast_signed()
    }

    /// Makes it another. Returns what it was.
    #[inline]
    pub fn exchange(&self, value: i64) -> i64 {
        self.0.swap(value.cast_unsigned(), SeqCst).cast_signed()
    }

    /// Makes it another if it is `expected`.
    ///
    /// # Errors
    ///
    /// What it is, which is not `expected`.
    #[inline]
    pub fn compare_exchange(&self, expected: i64, value: i64) -> Result<(), i64> {
        let done = self.0.compare_exchange(expected.cast_unsigned(), value.cast_unsigned(), SeqCst, SeqCst);
        done.map(drop).map_err(u64::cast_signed)
    }

    /// Makes it what `change` makes of it. Returns what it was.
    ///
    /// `change` may be called more than once: it should do nothing else.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`]: `change` says that the result does not fit.
    #[inline]
    pub fn change(&self, change: impl Fn(i64) -> Option<i64>) -> Result<i64, OutOfRange> {
        let mut value = self.load();
        loop {
            match self.compare_exchange(value, change(value).ok_or(OutOfRange(value))?) {
                Ok(()) => return Ok(value),
                Err(now) => value = now,
            }
        }
    }
}
