//! The parker that every thread has.

use std::mem::ManuallyDrop;

use super::Parker;
use crate::prim::thread;

thread::local! {
    static CURRENT: Parker = Parker::new();
    /// Of a thread that still waits while its local values are being destroyed. This one never is: it is leaked.
    static LATE: ManuallyDrop<Parker> = ManuallyDrop::new(Parker::new());
}

/// Calls `f` with this thread's parker.
///
/// It is the same parker at every call, so a token may be left over from an earlier wait: look at what you
/// wait for after each [`Wake::Unparked`](super::Wake::Unparked). Calls may be nested. While the thread's
/// local values are being destroyed, it may be another parker than before, but it is the same from then on: a
/// wait that begins then, ends.
///
/// # Examples
///
/// ```
/// use raddle_core::park::with_current;
///
/// let first = with_current(|parker| parker.unparker());
/// let again = with_current(|parker| parker.unparker());
/// assert!(first.same_as(&again));
/// ```
pub fn with_current<R>(f: impl FnOnce(&Parker) -> R) -> R {
    let mut f = Some(f);
    let mut call = |parker: &Parker| f.take().map(|f| f(parker));
    let answer = CURRENT.try_with(&mut call).ok().flatten();
    let answer = answer.or_else(|| LATE.try_with(|parker| call(parker)).ok().flatten());
    // Where the system keeps local values by itself, even what needs no destruction is gone at the very end.
    answer.or_else(|| call(&Parker::new())).expect("the closure is called exactly once, by one of the three")
}
