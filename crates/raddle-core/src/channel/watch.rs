//! A value that is replaced now and then, and receivers that want to know the latest.
//!
//! # Rules
//!
//! 1. Each value has a version. A receiver knows the version that it has seen, and waits for a later one; what it has missed in between
//!    is gone.
//! 2. Values are copied under the mutex, by what copies without running anything, and dropped outside of it.

use super::pass::{Place, Received};
use crate::park::{Called, Line, Waiter};
use crate::prim::{Arc, Mutex};

/// The value, without its handles.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Received, Watch};
///
/// let watch = Watch::new("red");
/// watch.send("green");
/// watch.send("blue");
/// assert!(matches!(watch.recv(0, |value| *value, None), Received::Item(("blue", 2))));
/// assert!(matches!(watch.recv(2, |value| *value, None), Received::Empty));
/// ```
#[derive(Debug)]
pub struct Watch<T> {
    inside: Mutex<Inside<T>>,
}

#[derive(Debug)]
struct Inside<T> {
    value: Option<T>,
    version: u64,
    senders: usize,
    receivers: usize,
    getters: Line,
}

impl<T> Watch<T> {
    /// One with a sender, a receiver, and a first value of version 0.
    pub fn new(value: T) -> Self {
        let inside = Inside { value: Some(value), version: 0, senders: 1, receivers: 1, getters: Line::default() };
        Self { inside: Mutex::new(inside) }
    }

    /// Replaces the value and calls all who wait. Returns the one before, for the caller to drop.
    pub fn send(&self, value: T) -> Option<T> {
        let mut inside = self.inside.lock();
        let before = inside.value.replace(value);
        inside.version += 1;
        let called = inside.getters.call_all();
        drop(inside);
        called.wake();
        before
    }

    /// The value and its version. `None`: the collector has taken it.
    pub fn latest(&self, copy: impl FnOnce(&T) -> T) -> Option<(T, u64)> {
        let inside = self.inside.lock();
        inside.value.as_ref().map(|value| (copy(value), inside.version))
    }

    /// The value and its version if it is later than `seen`; else joins the line.
    pub fn recv(&self, seen: u64, copy: impl FnOnce(&T) -> T, place: Option<Place<'_>>) -> Received<(T, u64)> {
        let mut inside = self.inside.lock();
        match &inside.value {
            Some(value) if inside.version > seen => return Received::Item((copy(value), inside.version)),
            _ if inside.senders == 0 => return Received::Closed,
            _ => {}
        }
        if let Some(place) = place {
            inside.getters.join_as(place.waiter, false);
        }
        Received::Empty
    }

    /// Takes a waiter out of the line. All are called at once: there is nothing to pass on.
    pub fn leave_recv(&self, waiter: &Arc<Waiter>) {
        _ = self.inside.lock().getters.leave(waiter);
    }

    /// One more sender. `false`: it is closed for them.
    pub fn add_sender(&self) -> bool {
        let mut inside = self.inside.lock();
        inside.senders += usize::from(inside.senders > 0);
        inside.senders > 0
    }

    /// One more receiver.
    pub fn add_receiver(&self) {
        self.inside.lock().receivers += 1;
    }

    /// A sender has gone.
    pub fn drop_sender(&self) {
        let mut inside = self.inside.lock();
        inside.senders = inside.senders.saturating_sub(1);
        let called = if inside.senders == 0 { inside.getters.call_all() } else { Called::default() };
        drop(inside);
        called.wake();
    }

    /// A receiver has gone.
    pub fn drop_receiver(&self) {
        let mut inside = self.inside.lock();
        inside.receivers = inside.receivers.saturating_sub(1);
        let called = inside.getters.call_all();
        drop(inside);
        called.wake();
    }

    /// How many senders and receivers there are.
    pub fn ends(&self) -> (usize, usize) {
        let inside = self.inside.lock();
        (inside.senders, inside.receivers)
    }

    /// Takes the value out, for the collector.
    pub fn take(&self) -> Option<T> {
        self.inside.lock().value.take()
    }

    /// Shows the value, as [`Channel::peek`](super::Channel::peek).
    pub fn peek<E>(&self, show: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        match self.inside.try_lock() {
            Some(inside) => inside.value.iter().try_for_each(show),
            None => Ok(()),
        }
    }
}
