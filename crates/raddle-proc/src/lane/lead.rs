//! Which of the waiting threads sleeps for all.
//!
//! Many threads may wait for results of one lane, but the place where workers ring has room for one sleeper. So one
//! waiting thread is the *leader*: it sleeps there, takes in whatever has arrived, and wakes the threads concerned. The
//! others are *followers*, parked. A leader that has what it came for resigns, and one follower is woken to take over.
//!
//! # Rules
//!
//! 1. At most one thread is the leader.
//! 2. A leader resigns before it leaves, however it leaves.
//! 3. A follower leaves the list before it goes, however it goes.
//! 4. Whenever nobody leads and the list is not empty, one of its threads has an unconsumed wake-up or is awake. Both
//!    `resign` and `leave` see to that: a follower that was woken to take over and goes away with its own result instead
//!    passes the wake-up on.
//! 5. Whoever becomes a follower disturbs the leader once: what the leader has asked to be woken for may not be enough
//!    for two.
//!
//! # What is modelled
//!
//! `tests/model` runs [`Lead::wait`] with the bell and the alarms of a lane under loom: threads that come, go with their
//! own result, give up at a deadline or at a signal, in every order. A thread that sleeps for ever is a deadlock there.

use std::time::Instant;

use raddle_core::park::{self, Unparker, Wake};
use raddle_core::prim::Mutex;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for has come.
    Done,
    /// The deadline has passed.
    TimedOut,
    /// A signal arrived; the caller looks what it means and may wait again.
    Interrupted,
}

/// The seat of the leader, and the threads that would take it.
#[derive(Debug, Default)]
pub struct Lead {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    taken: bool,
    followers: Vec<Unparker>,
}

/// What a thread that wants to wait has become.
enum Role {
    /// It sleeps for all, and must resign.
    Leader,
    /// It parks, looks again when woken, and must leave or join again.
    Follower,
}

impl Lead {
    /// Waits until `is_done`, as the leader or as a follower.
    ///
    /// Whoever makes it done unparks this thread's [parker](park::with_current). `lead` is called at most once: it sleeps,
    /// takes in results for everybody, and returns when the caller's wait is over. `disturb` ends the sleep inside
    /// another thread's `lead`, so that it looks again.
    ///
    /// # Stopping
    ///
    /// A deadline or a signal ends the wait; another thread leads then.
    pub fn wait(
        &self,
        is_done: &dyn Fn() -> bool,
        deadline: Option<Instant>,
        disturb: &dyn Fn(),
        lead: &mut dyn FnMut() -> Waited,
    ) -> Waited {
        /// Rule 2, also when `lead` panics.
        struct Resign<'a>(&'a Lead);
        impl Drop for Resign<'_> {
            fn drop(&mut self) {
                self.0.resign();
            }
        }
        park::with_current(|parker| {
            let me = parker.unparker();
            loop {
                if let Role::Leader = self.join(&me) {
                    let _resign = Resign(self);
                    return lead();
                }
                disturb(); // rule 5
                let ended = if is_done() {
                    Some(Waited::Done)
                } else {
                    match parker.park(deadline) {
                        Wake::Unparked => is_done().then_some(Waited::Done),
                        Wake::TimedOut => Some(Waited::TimedOut),
                        Wake::Interrupted => Some(Waited::Interrupted),
                    }
                };
                if let Some(waited) = ended {
                    self.leave(&me); // rule 3
                    return waited;
                }
            }
        })
    }

    /// Whether other threads wait too.
    pub fn has_followers(&self) -> bool {
        !self.inner.lock().followers.is_empty()
    }

    /// Takes the lead if it is free; otherwise puts the thread into the list, once.
    fn join(&self, me: &Unparker) -> Role {
        let mut inner = self.inner.lock();
        if inner.taken {
            if !inner.followers.iter().any(|other| other.same_as(me)) {
                inner.followers.push(me.clone());
            }
            Role::Follower
        } else {
            inner.taken = true;
            inner.followers.retain(|other| !other.same_as(me));
            Role::Leader
        }
    }

    /// Gives up the lead and wakes one follower to take it.
    fn resign(&self) {
        let mut inner = self.inner.lock();
        debug_assert!(inner.taken, "rule 1: only the leader resigns");
        inner.taken = false;
        inner.wake_one();
    }

    /// Leaves the list.
    fn leave(&self, me: &Unparker) {
        let mut inner = self.inner.lock();
        inner.followers.retain(|other| !other.same_as(me));
        if !inner.taken {
            inner.wake_one(); // rule 4: the wake-up may have been meant for the successor
        }
    }
}

impl Inner {
    fn wake_one(&self) {
        if let Some(follower) = self.followers.first() {
            follower.unpark();
        }
    }
}
