//! A channel whose every receiver gets every item that is sent while it is there.
//!
//! # Rules
//!
//! 1. Items are numbered. Each receiver has a place: the number of the item that it gets next. It begins behind what was sent before.
//! 2. An item is kept until all receivers are past it. When as many are kept as there is room for, the sender waits for the slowest
//!    receiver; or, if the channel *overwrites*, the oldest goes, and who has not got it is told how many it has missed.
//! 3. Without receivers what is sent is dropped, by the sender.
//! 4. Items are copied to receivers under the mutex, by what copies without running anything, and dropped outside of it.

use std::collections::{HashMap, VecDeque};

use super::pass::{Place, Received, Sent};
use crate::park::{Called, Line, Waiter};
use crate::prim::{Arc, Mutex};

/// The channel, without its handles.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Broadcast, Received};
///
/// let channel = Broadcast::new(2, false);
/// let (first, second) = (channel.add_receiver(), channel.add_receiver());
/// let _ = channel.send("news", None);
/// assert!(matches!(channel.recv(first, |item| *item, None).0, Received::Item("news")));
/// assert!(matches!(channel.recv(second, |item| *item, None).0, Received::Item("news")));
/// ```
#[derive(Debug)]
pub struct Broadcast<T> {
    capacity: usize,
    overwrites: bool,
    inside: Mutex<Inside<T>>,
}

#[derive(Debug)]
struct Inside<T> {
    items: VecDeque<T>,
    /// The number of the first that is kept.
    first: u64,
    senders: usize,
    /// The places of the receivers.
    places: HashMap<u64, u64>,
    next_receiver: u64,
    getters: Line,
    putters: Line,
}

impl<T> Broadcast<T> {
    /// One with a sender and no receivers, which keeps `capacity` items, at least one.
    pub fn new(capacity: usize, overwrites: bool) -> Self {
        let inside = Inside {
            items: VecDeque::new(),
            first: 0,
            senders: 1,
            places: HashMap::new(),
            next_receiver: 0,
            getters: Line::default(),
            putters: Line::default(),
        };
        Self { capacity: capacity.max(1), overwrites, inside: Mutex::new(inside) }
    }

    /// How many items it keeps.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sends to all receivers, or joins the line of senders. Never closed: receivers may come.
    pub fn send(&self, item: T, place: Option<Place<'_>>) -> Sent<T> {
        let mut inside = self.inside.lock();
        if inside.places.is_empty() {
            drop(inside);
            drop(item);
            return Sent::Done;
        }
        let mut oldest = None;
        if inside.items.len() >= self.capacity {
            if !self.overwrites {
                if let Some(place) = place {
                    inside.putters.join_as(place.waiter, place.is_first);
                }
                return Sent::Full(item);
            }
            oldest = inside.items.pop_front();
            inside.first += 1;
        }
        inside.items.push_back(item);
        let called = inside.getters.call_all();
        drop(inside);
        called.wake();
        drop(oldest);
        Sent::Done
    }

    /// Receives the next item of a receiver, or joins the line. With it comes what all have received by now, to be dropped.
    pub fn recv(&self, receiver: u64, copy: impl FnOnce(&T) -> T, place: Option<Place<'_>>) -> (Received<T>, Vec<T>) {
        let mut inside = self.inside.lock();
        let Some(&at) = inside.places.get(&receiver) else { return (Received::Closed, Vec::new()) };
        if at < inside.first {
            let first = inside.first;
            inside.places.insert(receiver, first);
            return (Received::Lagged(first - at), Vec::new());
        }
        let Some(item) = usize::try_from(at - inside.first).ok().and_then(|index| inside.items.get(index)) else {
            if inside.senders == 0 {
                return (Received::Closed, Vec::new());
            }
            if let Some(place) = place {
                inside.getters.join_as(place.waiter, false);
            }
            return (Received::Empty, Vec::new());
        };
        let item = copy(item);
        inside.places.insert(receiver, at + 1);
        let (gone, called) = if at == inside.first { inside.forget() } else { Default::default() };
        drop(inside);
        called.wake();
        (Received::Item(item), gone)
    }

    /// Takes a waiter out of the line of senders, and passes its call on if it was called.
    pub fn leave_send(&self, waiter: &Arc<Waiter>) {
        let mut inside = self.inside.lock();
        let is_due = !inside.putters.leave(waiter) && inside.items.len() < self.capacity;
        let called = if is_due { inside.putters.call() } else { Called::default() };
        drop(inside);
        called.wake();
    }

    /// Takes a waiter out of the line of receivers. All of them are called at once: there is nothing to pass on.
    pub fn leave_recv(&self, waiter: &Arc<Waiter>) {
        _ = self.inside.lock().getters.leave(waiter);
    }

    /// One more sender. `false`: it is closed for them.
    pub fn add_sender(&self) -> bool {
        let mut inside = self.inside.lock();
        inside.senders += usize::from(inside.senders > 0);
        inside.senders > 0
    }

    /// One more receiver, which gets what is sent from now on. Returns its number.
    pub fn add_receiver(&self) -> u64 {
        let mut inside = self.inside.lock();
        let (number, next) = (inside.next_receiver, inside.next());
        inside.next_receiver += 1;
        inside.places.insert(number, next);
        number
    }

    /// One more receiver, at the place of another one. `None`: that one is gone.
    pub fn copy_receiver(&self, receiver: u64) -> Option<u64> {
        let mut inside = self.inside.lock();
        let at = *inside.places.get(&receiver)?;
        let number = inside.next_receiver;
        inside.next_receiver += 1;
        inside.places.insert(number, at);
        Some(number)
    }

    /// A sender has gone.
    pub fn drop_sender(&self) {
        let mut inside = self.inside.lock();
        inside.senders = inside.senders.saturating_sub(1);
        let called = if inside.senders == 0 { inside.getters.call_all() } else { Called::default() };
        drop(inside);
        called.wake();
    }

    /// Has all senders who wait look again: the handle of some was closed.
    pub fn call_senders(&self) {
        let called = self.inside.lock().putters.call_all();
        called.wake();
    }

    /// A receiver has gone. Returns what it alone had not received, to be dropped.
    pub fn drop_receiver(&self, receiver: u64) -> Vec<T> {
        let mut inside = self.inside.lock();
        inside.places.remove(&receiver);
        let (gone, called) = inside.forget();
        let getters = inside.getters.call_all();
        drop(inside);
        called.wake();
        getters.wake();
        gone
    }

    /// How many items a receiver has not received.
    pub fn len_for(&self, receiver: u64) -> usize {
        let inside = self.inside.lock();
        inside.places.get(&receiver).map_or(0, |at| (inside.next() - (*at).max(inside.first)) as usize)
    }

    /// How many items are kept.
    pub fn len(&self) -> usize {
        self.inside.lock().items.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many senders and receivers there are.
    pub fn ends(&self) -> (usize, usize) {
        let inside = self.inside.lock();
        (inside.senders, inside.places.len())
    }

    /// Takes all items out; receivers find that they have missed them.
    pub fn take_all(&self) -> Vec<T> {
        let mut inside = self.inside.lock();
        inside.first = inside.next();
        std::mem::take(&mut inside.items).into()
    }

    /// Shows every item, as [`Channel::peek`](super::Channel::peek).
    pub fn peek<E>(&self, show: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        match self.inside.try_lock() {
            Some(inside) => inside.items.iter().try_for_each(show),
            None => Ok(()),
        }
    }
}

impl<T> Inside<T> {
    /// The number of the item that is sent next.
    fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Takes out what all receivers are past, and calls as many senders as there is room for.
    fn forget(&mut self) -> (Vec<T>, Called) {
        let least = self.places.values().copied().min().unwrap_or_else(|| self.next());
        let count = (least.max(self.first) - self.first) as usize;
        self.first += count as u64;
        let gone: Vec<T> = self.items.drain(..count).collect();
        let called = self.putters.call_many(gone.len());
        (gone, called)
    }
}
