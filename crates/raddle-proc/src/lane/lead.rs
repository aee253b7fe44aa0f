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
//!    [`resign`](Lead::resign) and [`leave`](Lead::leave) see to that: a follower that was woken to take over and goes
//!    away with its own result instead passes the wake-up on.

use raddle_core::park::Unparker;
use raddle_core::prim::Mutex;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sleeps for all, and must [`resign`](Lead::resign).
    Leader,
    /// It parks, looks again when woken, and must [`leave`](Lead::leave) or join again.
    Follower,
}

impl Lead {
    /// Takes the lead if it is free; otherwise puts the thread into the list, once.
    #[must_use = "a leader must resign, a follower must leave"]
    pub fn join(&self, me: &Unparker) -> Role {
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
    pub fn resign(&self) {
        let mut inner = self.inner.lock();
        debug_assert!(inner.taken, "rule 1: only the leader resigns");
        inner.taken = false;
        inner.wake_one();
    }

    /// Leaves the list.
    pub fn leave(&self, me: &Unparker) {
        let mut inner = self.inner.lock();
        inner.followers.retain(|other| !other.same_as(me));
        if !inner.taken {
            inner.wake_one(); // rule 4: the wake-up may have been meant for the successor
        }
    }

    /// Whether other threads wait too.
    pub fn has_followers(&self) -> bool {
        !self.inner.lock().followers.is_empty()
    }

    /// Whether somebody leads.
    pub fn is_led(&self) -> bool {
        self.inner.lock().taken
    }
}

impl Inner {
    fn wake_one(&self) {
        if let Some(follower) = self.followers.first() {
            follower.unpark();
        }
    }
}
