//! Threads that wait for a condition of which nobody keeps a list.

use super::Unparker;
use crate::prim::Mutex;
use crate::prim::atomic::Ordering::SeqCst;
use crate::prim::atomic::{AtomicBool, in_sequence};

/// The threads that wait for the same kind of condition: whoever may have made it true wakes them all, and each looks for itself.
///
/// For what is rarely waited for: while nobody waits, [`wake`](Self::wake) is one load.
///
/// # The protocol
///
/// A waiter (1) enters, which sets the flag, (2) looks at its condition, (3) parks, (4) leaves. Whoever makes the condition true
/// (a) changes what it rests on, (b) looks at the flag, (c) unparks those who have entered. Steps 1, 2, a and b are sequentially
/// consistent, so that a waiter which does not see the change in step 2 has been seen in step b.
///
/// # Examples
///
/// ```
/// use raddle_core::park::{Crowd, Wake, with_current};
/// use raddle_core::prim::atomic::{AtomicBool, Ordering::SeqCst};
///
/// let (crowd, open) = (Crowd::default(), AtomicBool::new(false));
/// open.store(true, SeqCst);
/// crowd.wake();
/// with_current(|parker| {
///     let _in_crowd = crowd.enter(parker.unparker());
///     while !open.load(SeqCst) {
///         let _ = parker.park(None);
///     }
/// });
/// ```
#[derive(Debug, Default)]
pub struct Crowd {
    threads: Mutex<Vec<Unparker>>,
    is_there: AtomicBool,
}

/// While it lives, a thread is in a crowd.
#[must_use = "a thread that has left is not woken"]
#[derive(Debug)]
pub struct InCrowd<'a> {
    crowd: &'a Crowd,
    me: Unparker,
}

impl Crowd {
    /// Step 1. To be followed by a sequentially consistent look at the condition.
    pub fn enter(&self, me: Unparker) -> InCrowd<'_> {
        self.threads.lock().push(me.clone());
        // Ordering: SeqCst. Pairs with the load in `wake`, see the protocol.
        self.is_there.store(true, SeqCst);
        in_sequence();
        InCrowd { crowd: self, me }
    }

    /// Steps b and c. After a sequentially consistent change.
    pub fn wake(&self) {
        in_sequence();
        // Ordering: SeqCst. Pairs with the store in `enter`, see the protocol.
        if self.is_there.load(SeqCst) {
            let threads = self.threads.lock().clone(); // they need the lock to leave
            threads.iter().for_each(Unparker::unpark);
        }
    }
}

impl Drop for InCrowd<'_> {
    fn drop(&mut self) {
        let mut threads = self.crowd.threads.lock();
        if let Some(mine) = threads.iter().position(|other| other.same_as(&self.me)) {
            threads.swap_remove(mine);
        }
        self.crowd.is_there.store(!threads.is_empty(), SeqCst);
    }
}
