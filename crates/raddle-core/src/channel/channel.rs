//! A channel: senders on one side, receivers on the other, any number of both. It ends when one side is gone.
//!
//! With room for items it is a queue. With room for none it is a *rendezvous*: a sender offers an item, and is done when a receiver has
//! accepted it.
//!
//! # Rules
//!
//! 1. Each item is received once, and the items of one sender in the order in which it has sent them.
//! 2. An attempt succeeds or joins the line, in one step under the one mutex, or under what its users hold anyway ([`Guarding`]). Whoever
//!    joined and does not want to wait any more leaves; if it was called meanwhile, the call goes on to the next for whom there is something.
//! 3. Items are dropped by the caller only, never under the mutex: what drops them may run anything.
//! 4. Receivers act, offers are passive: a receiver accepts an offer by its claim, under the mutex. Whoever waits for the first of
//!    several things makes offers last, after having joined all its lines, and withdraws them first, before it acts itself. So of
//!    several things never two happen.
//! 5. When the last sender is gone, receivers get what is left, and then learn that nothing will come. When the last receiver is gone,
//!    what is left is given to whoever closes it, and senders get their items back.
//!
//! The rendezvous and the choice among several are those of C. A. R. Hoare, "Communicating sequential processes" (1978).

use std::collections::VecDeque;
use std::fmt;

use super::pass::{Claim, Place, Received, Sent};
use crate::park::{Called, Line, Waiter};
use crate::prim::{Arc, ByMutex, Guarding};

/// The channel, without its handles: whoever makes handles says when one comes and when one goes.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Channel, Place, Received, Sent};
/// use raddle_core::park::Waiter;
/// use raddle_core::prim::{Arc, thread};
///
/// let channel = Arc::new(Channel::new(Some(8)));
/// let there = Arc::clone(&channel);
/// let sender = thread::spawn(move || {
///     (1..=3).for_each(|item| assert!(matches!(there.send(item, None), Sent::Done)));
///     there.drop_sender();
/// });
/// let mut sum = 0;
/// loop {
///     let waiter = Waiter::new();
///     match channel.recv(Some(Place::new(&waiter))) {
///         Received::Item(item) => sum += item,
///         Received::Closed => break,
///         _ => _ = waiter.park(None),
///     }
/// }
/// assert_eq!(sum, 6);
/// # sender.join().unwrap();
/// ```
pub struct Channel<T, G: Guarding = ByMutex> {
    /// `usize::MAX`: any number.
    capacity: usize,
    /// Whether it ends with its first item.
    is_once: bool,
    inside: G::Cell<Inside<T>>,
}

#[derive(Debug)]
struct Inside<T> {
    items: VecDeque<T>,
    offers: VecDeque<Offer<T>>,
    senders: usize,
    receivers: usize,
    getters: Line,
    putters: Line,
}

#[derive(Debug)]
struct Offer<T> {
    item: T,
    claim: Arc<Claim>,
    number: usize,
    waiter: Arc<Waiter>,
}

impl<T> Channel<T> {
    /// One with a sender and a receiver, behind a mutex. Without a `capacity` it is never full; with none of it, it is a rendezvous.
    pub fn new(capacity: Option<usize>) -> Self {
        Self::guarded(capacity)
    }

    /// One for a single item, behind a mutex: with that it is closed for senders.
    pub fn once() -> Self {
        Self::guarded_once()
    }
}

impl<T, G: Guarding> Channel<T, G> {
    /// As [`new`](Channel::new), guarded otherwise.
    pub fn guarded(capacity: Option<usize>) -> Self {
        Self::with(capacity.unwrap_or(usize::MAX), false)
    }

    /// As [`once`](Channel::once), guarded otherwise.
    pub fn guarded_once() -> Self {
        Self::with(1, true)
    }

    fn with(capacity: usize, is_once: bool) -> Self {
        let inside = Inside {
            items: VecDeque::new(),
            offers: VecDeque::new(),
            senders: 1,
            receivers: 1,
            getters: Line::default(),
            putters: Line::default(),
        };
        Self { capacity, is_once, inside: G::cell(inside) }
    }

    /// How many items there is room for. `None`: any number.
    pub fn capacity(&self) -> Option<usize> {
        (self.capacity != usize::MAX).then_some(self.capacity)
    }

    /// Whether items are handed from one to the other, and never lie here.
    pub fn is_rendezvous(&self) -> bool {
        self.capacity == 0
    }

    /// Sends, or joins the line of senders. A rendezvous is always full: see [`offer`](Self::offer).
    #[inline]
    pub fn send(&self, item: T, place: Option<Place<'_>>) -> Sent<T> {
        let (sent, called) = G::with(&self.inside, |inside| {
            if inside.receivers == 0 || inside.senders == 0 {
                return (Sent::Closed(item), Called::default());
            }
            if inside.items.len() >= self.capacity {
                if let Some(place) = place {
                    inside.putters.join_as(place.waiter, place.is_first);
                }
                return (Sent::Full(item), Called::default());
            }
            inside.items.push_back(item);
            if self.is_once {
                inside.senders = 0;
                (Sent::Done, inside.getters.call_all())
            } else {
                (Sent::Done, inside.getters.call())
            }
        });
        called.wake();
        sent
    }

    /// Offers an item under a claim, as the offer of this number. Wait to be called, then [withdraw](Claim::withdraw) the claim, and
    /// [take the offer back](Self::take_back). Where it is closed, the caller is called at once.
    pub fn offer(&self, item: T, claim: &Arc<Claim>, number: usize, waiter: &Arc<Waiter>) {
        let offer = Offer { item, claim: claim.clone(), number, waiter: waiter.clone() };
        let called = G::with(&self.inside, |inside| {
            let is_closed = inside.receivers == 0 || inside.senders == 0;
            inside.offers.push_back(offer);
            // Not oneself, who may stand there as well: one does not accept one's own offers.
            if is_closed { Called::of([waiter.clone()]) } else { inside.getters.call_other(waiter) }
        });
        called.wake();
    }

    /// Takes an offer out whose claim was withdrawn. `None`: it was accepted, or there is none of this number.
    pub fn take_back(&self, claim: &Arc<Claim>, number: usize) -> Option<T> {
        let offer = G::with(&self.inside, |inside| {
            let at =
                inside.offers.iter().position(|offer| offer.number == number && Arc::ptr_eq(&offer.claim, claim))?;
            inside.offers.remove(at)
        });
        offer.map(|offer| offer.item)
    }

    /// Receives, or joins the line of receivers.
    #[inline]
    pub fn recv(&self, place: Option<Place<'_>>) -> Received<T> {
        let (received, called) = G::with(&self.inside, |inside| {
            if let Some(item) = inside.items.pop_front() {
                return (Received::Item(item), inside.putters.call());
            }
            if let Some(offer) = inside.accept(place.and_then(|place| place.own)) {
                return (Received::Item(offer.item), Called::of([offer.waiter]));
            }
            if inside.senders == 0 {
                return (Received::Closed, Called::default());
            }
            if let Some(place) = place {
                inside.getters.join_as(place.waiter, place.is_first);
            }
            (Received::Empty, Called::default())
        });
        called.wake();
        received
    }

    /// Takes a waiter out of the line of senders, and passes its call on if it was called.
    pub fn leave_send(&self, waiter: &Arc<Waiter>) {
        let called = G::with(&self.inside, |inside| {
            let is_due = !inside.putters.leave(waiter) && inside.items.len() < self.capacity;
            if is_due { inside.putters.call() } else { Called::default() }
        });
        called.wake();
    }

    /// Takes a waiter out of the line of receivers, and passes its call on if it was called.
    pub fn leave_recv(&self, waiter: &Arc<Waiter>) {
        let called = G::with(&self.inside, |inside| {
            let is_due = !inside.getters.leave(waiter) && inside.has_something();
            if is_due { inside.getters.call() } else { Called::default() }
        });
        called.wake();
    }

    /// One more sender. `false`: it is closed for them.
    pub fn add_sender(&self) -> bool {
        G::with(&self.inside, |inside| {
            inside.senders += usize::from(inside.senders > 0);
            inside.senders > 0
        })
    }

    /// One more receiver. `false`: it is closed for them.
    pub fn add_receiver(&self) -> bool {
        G::with(&self.inside, |inside| {
            inside.receivers += usize::from(inside.receivers > 0);
            inside.receivers > 0
        })
    }

    /// A sender has gone. Senders who wait look again, if it was the last: their handle is gone, too.
    pub fn drop_sender(&self) {
        let called = G::with(&self.inside, |inside| {
            inside.senders = inside.senders.saturating_sub(1);
            if inside.senders == 0 { inside.call_everybody() } else { Default::default() }
        });
        called.into_iter().for_each(Called::wake);
    }

    /// A receiver has gone. If it was the last, what was not received is returned, for the caller to drop.
    pub fn drop_receiver(&self) -> Vec<T> {
        let (items, called) = G::with(&self.inside, |inside| {
            inside.receivers = inside.receivers.saturating_sub(1);
            if inside.receivers > 0 {
                return Default::default();
            }
            (std::mem::take(&mut inside.items), inside.call_everybody())
        });
        called.into_iter().for_each(Called::wake);
        items.into()
    }

    /// Has all senders look again who wait, in line and with offers: the handle of some was closed.
    pub fn call_senders(&self) {
        let called = G::with(&self.inside, Inside::call_all_senders);
        called.into_iter().for_each(Called::wake);
    }

    /// Has all receivers look again who wait: the handle of some was closed.
    pub fn call_receivers(&self) {
        let called = G::with(&self.inside, |inside| inside.getters.call_all());
        called.wake();
    }

    /// Takes all items out, as if they had been received. Offers stay.
    pub fn take_all(&self) -> Vec<T> {
        let (items, called) =
            G::with(&self.inside, |inside| (std::mem::take(&mut inside.items), inside.putters.call_all()));
        called.wake();
        items.into()
    }

    /// How many items lie in it.
    pub fn len(&self) -> usize {
        G::with(&self.inside, |inside| inside.items.len())
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many senders and receivers there are.
    pub fn ends(&self) -> (usize, usize) {
        G::with(&self.inside, |inside| (inside.senders, inside.receivers))
    }

    /// Shows every item, for the garbage collector, which does not run code of users. Shows nothing if another thread is in here.
    pub fn peek<E>(&self, show: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        let shown = G::try_with(&self.inside, |inside| {
            inside.items.iter().chain(inside.offers.iter().map(|offer| &offer.item)).try_for_each(show)
        });
        shown.unwrap_or(Ok(()))
    }
}

impl<T, G: Guarding> fmt::Debug for Channel<T, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl<T> Inside<T> {
    /// Accepts the first offer that can be, and is not one's own.
    fn accept(&mut self, own: Option<&Arc<Claim>>) -> Option<Offer<T>> {
        if self.offers.is_empty() || self.receivers == 0 {
            return None;
        }
        let is_strange = |offer: &Offer<T>| own.is_none_or(|own| !Arc::ptr_eq(own, &offer.claim));
        let at = self.offers.iter().position(|offer| is_strange(offer) && offer.claim.accept(offer.number))?;
        self.offers.remove(at)
    }

    /// Whether a receiver would find something.
    fn has_something(&self) -> bool {
        !self.items.is_empty() || self.offers.iter().any(|offer| offer.claim.is_open())
    }

    /// Calls all who wait, in lines and with offers.
    fn call_everybody(&mut self) -> Vec<Called> {
        let mut called = self.call_all_senders();
        called.push(self.getters.call_all());
        called
    }

    /// Calls all who would send.
    fn call_all_senders(&mut self) -> Vec<Called> {
        let offers = Called::of(self.offers.iter().map(|offer| offer.waiter.clone()));
        vec![self.putters.call_all(), offers]
    }
}
