//! A queue with a bound, for any number of threads on both sides, that counts what was taken and not reported as done.
//!
//! It is the standard library's `queue.Queue`, and waits as [`sync`](crate::sync) does: `put` and `get` either succeed or join
//! their line, in one step under the one mutex; or under what its user holds anyway ([`Guarding`]).
//!
//! # Rules
//!
//! 1. An item that is not accepted goes back to the caller, inside the answer.
//! 2. Items are dropped only by the caller, never under the mutex: what drops them may run anything.
//! 3. Each put calls one of those who wait to get, each get one of those who wait to put. Whoever was called and leaves passes the
//!    call on if there is something to get, or room to put.
//! 4. Once it is shut, nothing enters, and what is in it can still be got. Once it has moved, nothing enters and nothing is left:
//!    whoever comes is told to look elsewhere.

use std::collections::VecDeque;
use std::fmt;

use crate::park::{Called, Line, Waiter};
use crate::prim::{Arc, ByMutex, Guarding};

/// Which item is got next.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Get, Order, Queue};
///
/// let queue = Queue::new(Order::Lifo, None);
/// let _ = queue.put(1, false, None);
/// let _ = queue.put(2, false, None);
/// assert!(matches!(queue.get(false, None), Get::Item(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that was put first.
    Fifo,
    /// The one that was put last.
    Lifo,
}

/// What putting has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Order, Put, Queue};
///
/// let queue = Queue::new(Order::Fifo, Some(1));
/// assert!(matches!(queue.put(1, false, None), Put::Done));
/// assert!(matches!(queue.put(2, false, None), Put::Full(2)));
/// queue.shut(false);
/// assert!(matches!(queue.put(2, false, None), Put::Shut(2)));
/// ```
#[derive(Debug)]
#[must_use = "an item that was not accepted is in here"]
pub enum Put<T> {
    /// It is in.
    Done,
    /// No room, and the caller does not want to wait.
    Full(T),
    /// No room; the caller stands in line.
    Wait(Arc<Waiter>, T),
    /// The queue takes nothing any more.
    Shut(T),
    /// What was in the queue is elsewhere.
    Moved(T),
}

/// What getting has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Get, Order, Put, Queue};
///
/// let queue = Queue::new(Order::Fifo, None);
/// let Get::Wait(waiter) = queue.get(true, None) else { panic!("there is nothing") };
/// assert!(matches!(queue.put(1, false, None), Put::Done));
/// assert!(waiter.is_called());
/// assert!(matches!(queue.get(true, Some(&waiter)), Get::Item(1)));
/// ```
#[derive(Debug)]
#[must_use = "the item is in here"]
pub enum Get<T> {
    /// An item.
    Item(T),
    /// There is none, and the caller does not want to wait.
    Empty,
    /// There is none; the caller stands in line.
    Wait(Arc<Waiter>),
    /// There is none, and none will come.
    Shut,
    /// What was in the queue is elsewhere.
    Moved,
}

/// What waiting for the end of all work has come to.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Join, Order, Queue};
///
/// let queue = Queue::new(Order::Fifo, None);
/// let _ = queue.put(1, false, None);
/// let Join::Wait(waiter) = queue.join() else { panic!("it is not done") };
/// drop(queue.get(false, None));
/// queue.task_done();
/// assert!(waiter.is_called() && matches!(queue.join(), Join::Done));
/// ```
#[derive(Debug)]
#[must_use = "the caller may stand in line"]
pub enum Join {
    /// All is done.
    Done,
    /// Something is not; the caller stands in line.
    Wait(Arc<Waiter>),
    /// What was in the queue is elsewhere.
    Moved,
}

/// The queue.
///
/// # Examples
///
/// ```
/// use raddle_core::channel::{Get, Order, Put, Queue};
/// use raddle_core::prim::{Arc, thread};
///
/// let queue = Arc::new(Queue::new(Order::Fifo, None));
/// let there = Arc::clone(&queue);
/// let consumer = thread::spawn(move || {
///     let (mut sum, mut before) = (0, None);
///     loop {
///         match there.get(true, before.as_ref()) {
///             Get::Item(item) => (sum, before) = (sum + item, None),
///             Get::Wait(waiter) => {
///                 let _ = waiter.park(None);
///                 before = Some(waiter);
///             }
///             _ => return sum,
///         }
///     }
/// });
/// (1..=3).for_each(|item| assert!(matches!(queue.put(item, false, None), Put::Done)));
/// queue.shut(false);
/// assert_eq!(consumer.join().unwrap(), 6);
/// ```
pub struct Queue<T, G: Guarding = ByMutex> {
    order: Order,
    inside: G::Cell<Inside<T>>,
}

#[derive(Debug)]
struct Inside<T> {
    items: VecDeque<T>,
    /// How many it may hold; `usize::MAX` for any number.
    capacity: usize,
    /// Put and not reported as done.
    unfinished: usize,
    is_shut: bool,
    has_moved: bool,
    getters: Line,
    putters: Line,
    joiners: Line,
}

impl<T> Inside<T> {
    /// Rule 3, for a put.
    #[inline]
    fn push(&mut self, item: T) -> Called {
        self.items.push_back(item);
        self.unfinished += 1;
        self.getters.call()
    }

    /// Rule 3, for a get.
    #[inline]
    fn pop(&mut self, order: Order) -> Option<(T, Called)> {
        let item = match order {
            Order::Fifo => self.items.pop_front(),
            Order::Lifo => self.items.pop_back(),
        };
        Some((item?, self.putters.call()))
    }
}

impl<T> Queue<T> {
    /// An empty queue behind a mutex; without a `capacity` it is never full.
    pub fn new(order: Order, capacity: Option<usize>) -> Self {
        Self::guarded(order, capacity)
    }
}

impl<T, G: Guarding> Queue<T, G> {
    /// The same, guarded otherwise.
    pub fn guarded(order: Order, capacity: Option<usize>) -> Self {
        Self {
            order,
            inside: G::cell(Inside {
                items: VecDeque::new(),
                capacity: capacity.unwrap_or(usize::MAX),
                unfinished: 0,
                is_shut: false,
                has_moved: false,
                getters: Line::default(),
                putters: Line::default(),
                joiners: Line::default(),
            }),
        }
    }

    /// Puts an item, or joins the line if it may `wait`. `before`: the waiter of the attempt before, which was called.
    pub fn put(&self, item: T, wait: bool, before: Option<&Arc<Waiter>>) -> Put<T> {
        let (put, called) = G::with(&self.inside, |inside| {
            if inside.is_shut || inside.has_moved {
                return (if inside.has_moved { Put::Moved(item) } else { Put::Shut(item) }, Called::default());
            }
            if inside.items.len() >= inside.capacity {
                let full = if wait { Put::Wait(inside.putters.join(before), item) } else { Put::Full(item) };
                return (full, Called::default());
            }
            (Put::Done, inside.push(item))
        });
        called.wake();
        put
    }

    /// Gets an item, or joins the line if it may `wait`. `before`: the waiter of the attempt before, which was called.
    pub fn get(&self, wait: bool, before: Option<&Arc<Waiter>>) -> Get<T> {
        let (get, called) = G::with(&self.inside, |inside| {
            let none = match (inside.pop(self.order), inside.has_moved, inside.is_shut, wait) {
                (Some((item, called)), ..) => return (Get::Item(item), called),
                (None, true, ..) => Get::Moved,
                (None, _, true, _) => Get::Shut,
                (None, .., true) => Get::Wait(inside.getters.join(before)),
                (None, .., false) => Get::Empty,
            };
            (none, Called::default())
        });
        called.wake();
        get
    }

    /// Puts an item if nothing is in the way, be it for now or for good; [`put`](Self::put) says what it was. The short way, which most
    /// items take.
    ///
    /// # Errors
    ///
    /// The item, if something was.
    #[inline]
    pub fn try_put(&self, item: T) -> Result<(), T> {
        let called = G::with(&self.inside, |inside| {
            if inside.is_shut || inside.has_moved || inside.items.len() >= inside.capacity {
                return Err(item);
            }
            Ok(inside.push(item))
        })?;
        called.wake();
        Ok(())
    }

    /// Gets an item if there is one; [`get`](Self::get) says why there is none.
    #[inline]
    pub fn try_get(&self) -> Option<T> {
        let (item, called) = G::with(&self.inside, |inside| inside.pop(self.order))?;
        called.wake();
        Some(item)
    }

    /// Takes one who wanted to put out of the line.
    pub fn leave_put(&self, waiter: &Arc<Waiter>) {
        let called = G::with(&self.inside, |inside| {
            let too_late = !inside.putters.leave(waiter);
            if too_late && inside.items.len() < inside.capacity { inside.putters.call() } else { Called::default() }
        });
        called.wake();
    }

    /// Takes one who wanted to get out of the line.
    pub fn leave_get(&self, waiter: &Arc<Waiter>) {
        let called = G::with(&self.inside, |inside| {
            let too_late = !inside.getters.leave(waiter);
            if too_late && !inside.items.is_empty() { inside.getters.call() } else { Called::default() }
        });
        called.wake();
    }

    /// Reports one item that was got as done. `None`: more than were put. `Some(false)`: the queue has moved.
    pub fn task_done(&self) -> Option<bool> {
        let (done, called) = G::with(&self.inside, |inside| {
            if inside.has_moved {
                return (Some(false), Called::default());
            }
            let Some(unfinished) = inside.unfinished.checked_sub(1) else { return (None, Called::default()) };
            inside.unfinished = unfinished;
            (Some(true), if unfinished == 0 { inside.joiners.call_all() } else { Called::default() })
        });
        called.wake();
        done
    }

    /// Whether all that was put is done; else joins the line.
    pub fn join(&self) -> Join {
        G::with(&self.inside, |inside| {
            if inside.has_moved {
                Join::Moved
            } else if inside.unfinished == 0 {
                Join::Done
            } else {
                Join::Wait(inside.joiners.join(None))
            }
        })
    }

    /// Takes one who waited for the end of all work out of the line.
    pub fn leave_join(&self, waiter: &Arc<Waiter>) {
        _ = G::with(&self.inside, |inside| inside.joiners.leave(waiter));
    }

    /// Shuts it. Everybody who waits to put or get looks again. With `at_once` nothing is left to get: what was in it is returned, for
    /// the caller to drop, and counts as done. `None`: the queue has moved.
    pub fn shut(&self, at_once: bool) -> Option<Vec<T>> {
        let (items, lines) = G::with(&self.inside, |inside| {
            if inside.has_moved {
                return None;
            }
            inside.is_shut = true;
            let mut items = VecDeque::new();
            let mut joiners = Called::default();
            if at_once {
                items = std::mem::take(&mut inside.items);
                inside.unfinished = inside.unfinished.saturating_sub(items.len());
                joiners = inside.joiners.call_all();
            }
            Some((items, [joiners, inside.getters.call_all(), inside.putters.call_all()]))
        })?;
        lines.into_iter().for_each(Called::wake);
        Some(items.into())
    }

    /// Takes all out, for a queue of another kind that goes on in its place: the items, first to be got first or last according to
    /// the order in which they were put, and the number of unfinished ones. Everybody who waits looks again. `None`: it has moved.
    pub fn move_out(&self) -> Option<(Vec<T>, usize)> {
        let (items, unfinished, lines) = G::with(&self.inside, |inside| {
            if std::mem::replace(&mut inside.has_moved, true) {
                return None;
            }
            let items = std::mem::take(&mut inside.items);
            let unfinished = std::mem::take(&mut inside.unfinished);
            let lines = [inside.getters.call_all(), inside.putters.call_all(), inside.joiners.call_all()];
            Some((items, unfinished, lines))
        })?;
        lines.into_iter().for_each(Called::wake);
        Some((items.into(), unfinished))
    }

    /// Takes all items out, as if they had been got.
    pub fn take_all(&self) -> Vec<T> {
        let (items, called) =
            G::with(&self.inside, |inside| (std::mem::take(&mut inside.items), inside.putters.call_all()));
        called.wake();
        items.into()
    }

    /// How many items are in it.
    pub fn len(&self) -> usize {
        G::with(&self.inside, |inside| inside.items.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it may hold. `None`: any number.
    pub fn capacity(&self) -> Option<usize> {
        let capacity = G::with(&self.inside, |inside| inside.capacity);
        (capacity != usize::MAX).then_some(capacity)
    }

    /// Changes how many it may hold. Those for whom there is room now look again.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        let called = G::with(&self.inside, |inside| {
            inside.capacity = capacity.unwrap_or(usize::MAX);
            inside.putters.call_all()
        });
        called.wake();
    }

    /// How many items were put and not reported as done.
    pub fn unfinished(&self) -> usize {
        G::with(&self.inside, |inside| inside.unfinished)
    }

    /// Whether it was shut.
    pub fn is_shut(&self) -> bool {
        G::with(&self.inside, |inside| inside.is_shut)
    }

    /// Whether its contents are elsewhere.
    pub fn has_moved(&self) -> bool {
        G::with(&self.inside, |inside| inside.has_moved)
    }

    /// Shows every item, first in first, while nothing moves: for the garbage collector, which does not run code of users.
    ///
    /// Returns at once, without showing anything, if another thread uses the queue right now.
    pub fn peek<E>(&self, show: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        G::try_with(&self.inside, |inside| inside.items.iter().try_for_each(show)).unwrap_or(Ok(()))
    }
}

impl<T, G: Guarding> fmt::Debug for Queue<T, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("order", &self.order).finish_non_exhaustive()
    }
}
