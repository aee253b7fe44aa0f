//! What a lane holds of the system for the sake of its workers: the watch over them, and the page's descriptor, which each is given.
//!
//! A lane may be kept long after its last worker has ended: a future of it is enough. These descriptors are not kept as long.
//!
//! # Rules
//!
//! 1. They are there until the keeper is over. It is over when the lane takes no more and has no seats left, and a seat that was made
//!    for a process which is being started is one: whoever has a seat to fill finds them.
//! 2. Whoever uses them holds the [`Post`] meanwhile: the number of a closed descriptor is soon somebody else's.
//! 3. After that there is no keeper, and waking it does nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use raddle_core::prim::Mutex;
use raddle_shm::Segment;

use crate::Watch;

/// The descriptors of a lane whose keeper is not over.
#[derive(Debug)]
pub struct Post {
    pub(super) watch: Watch,
    page: Segment,
}

impl Post {
    /// The descriptor of the lane's page, for a worker.
    pub fn page(&self) -> BorrowedFd<'_> {
        self.page.as_fd()
    }

    /// The descriptor through which a worker wakes the keeper.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.watch.bell()
    }
}

/// Where a lane has its [`Post`].
#[derive(Debug)]
pub(super) struct Posted(Mutex<Option<Arc<Post>>>);

impl Posted {
    pub(super) fn new(page: Segment) -> io::Result<Self> {
        Ok(Self(Mutex::new(Some(Arc::new(Post { watch: Watch::new()?, page })))))
    }

    /// The post, to be held while it is used (rule 2).
    pub(super) fn get(&self) -> Option<Arc<Post>> {
        self.0.lock().clone()
    }

    /// The keeper is over: the descriptors go with the last one who uses them.
    pub(super) fn give_up(&self) {
        let post = self.0.lock().take();
        drop(post);
    }

    /// Wakes the keeper.
    pub(super) fn wake(&self) {
        if let Some(post) = self.get() {
            post.watch.wake();
        }
    }

    /// Wakes the keeper after a time, as [`Watch::wake_in`].
    pub(super) fn wake_in(&self, time: Duration) {
        if let Some(post) = self.get() {
            post.watch.wake_in(time);
        }
    }

    /// Wakes the keeper after a time, as [`Watch::alarm_in`].
    pub(super) fn alarm_in(&self, time: Duration) {
        if let Some(post) = self.get() {
            post.watch.alarm_in(time);
        }
    }
}
