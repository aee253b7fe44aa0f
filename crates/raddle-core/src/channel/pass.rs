//! What senders and receivers of all channels have in common: how an attempt is made, and what it comes to.

use crate::park::Waiter;
use crate::prim::Arc;
use crate::prim::atomic::AtomicUsize;
use crate::prim::atomic::Ordering::{AcqRel, Acquire};

/// How whoever attempts something stands in line if it does not succeed.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Channel, Place, Received};
/// use raddle_core::park::Waiter;
///
/// let channel = Channel::<u32>::new(Some(1));
/// let waiter = Waiter::new();
/// assert!(matches!(channel.recv(Some(Place::new(&waiter))), Received::Empty));
/// let _ = channel.send(1, None);
/// assert!(waiter.is_called());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub(super) waiter: &'a Arc<Waiter>,
    pub(super) is_first: bool,
    pub(super) own: Option<&'a Arc<Claim>>,
}

impl<'a> Place<'a> {
    /// At the end.
    pub fn new(waiter: &'a Arc<Waiter>) -> Self {
        Self { waiter, is_first: false, own: None }
    }

    /// Who stands there.
    pub fn waiter(&self) -> &'a Arc<Waiter> {
        self.waiter
    }

    /// Whether at the front.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// At the front: for who was called from this line, and found that somebody else had been faster.
    #[must_use]
    pub fn again(self, is_again: bool) -> Self {
        Self { is_first: is_again, ..self }
    }

    /// As somebody who makes offers under a claim of their own, and does not accept these.
    #[must_use]
    pub fn with_claim(self, own: &'a Arc<Claim>) -> Self {
        Self { own: Some(own), ..self }
    }
}

/// What sending has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Channel, Sent};
///
/// let channel = Channel::new(Some(1));
/// assert!(matches!(channel.send(1, None), Sent::Done));
/// assert!(matches!(channel.send(2, None), Sent::Full(2)));
/// ```
#[derive(Debug)]
#[must_use = "an item that was not accepted is in here"]
pub enum Sent<T> {
    /// It is on its way.
    Done,
    /// There is no room. If a place was given, the caller stands in line.
    Full(T),
    /// Nobody will ever take it.
    Closed(T),
}

/// What receiving has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Channel, Received};
///
/// let channel = Channel::new(Some(1));
/// assert!(matches!(channel.recv(None), Received::Empty));
/// let _ = channel.send(1, None);
/// let _ = channel.drop_sender();
/// assert!(matches!(channel.recv(None), Received::Item(1)));
/// assert!(matches!(channel.recv(None), Received::Closed));
/// ```
#[derive(Debug)]
#[must_use = "the item is in here"]
pub enum Received<T> {
    /// An item.
    Item(T),
    /// There is none. If a place was given, the caller stands in line.
    Empty,
    /// There is none, and none will come.
    Closed,
    /// So many items were overwritten before this receiver had taken them.
    Lagged(u64),
}

/// What several offers of one sender have in common: at most one of them is accepted.
///
/// It is *open* until one is accepted, or the sender withdraws them all.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Channel, Claim, Received};
/// use raddle_core::park::Waiter;
///
/// let (left, right) = (Channel::new(Some(0)), Channel::new(Some(0)));
/// let (claim, waiter) = (Claim::new(), Waiter::new());
/// let _ = left.offer("a", &claim, 0, &waiter);
/// let _ = right.offer("b", &claim, 1, &waiter);
/// assert!(matches!(right.recv(None), Received::Item("b")));
/// assert!(matches!(left.recv(None), Received::Empty));
/// assert_eq!(claim.withdraw(), Some(1));
/// ```
#[derive(Debug)]
pub struct Claim(AtomicUsize);

impl Claim {
    const OPEN: usize = usize::MAX;
    const WITHDRAWN: usize = usize::MAX - 1;

    /// An open one.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(Self::OPEN)))
    }

    /// Accepts the offer of this number. `false`: another one was accepted, or all are withdrawn.
    pub(super) fn accept(&self, number: usize) -> bool {
        // Ordering: AcqRel. Pairs with the one in `withdraw`.
        self.0.compare_exchange(Self::OPEN, number, AcqRel, Acquire).is_ok()
    }

    /// Whether one could be accepted now.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Acquire) == Self::OPEN
    }

    /// Has none accepted any more. `Some`: the one of this number was. The offers are still to be taken out of their channels.
    pub fn withdraw(&self) -> Option<usize> {
        // Ordering: AcqRel. Pairs with the one in `accept`.
        match self.0.compare_exchange(Self::OPEN, Self::WITHDRAWN, AcqRel, Acquire) {
            Ok(_) | Err(Self::WITHDRAWN) => None,
            Err(number) => Some(number),
        }
    }
}
