//! The injector of a pool: items in, workers out of bed.

use super::Closed;
use super::idle::{Idle, Left};
use super::ranked::{Position, Rank, Ranked};
use crate::park::{self, Parker, Unparker, Wake};
use crate::prim::{Arc, Mutex};
use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::time::Instant;

/// A queue that feeds a pool of workers: the highest rank first, first in first out within a rank, many producers, many workers.
///
/// Without a limit: whoever needs one counts what is outstanding. One mutex guards it all; a push or a pop with
/// nobody asleep is one short critical section and no system call. No item is dropped, and no code of the
/// caller runs, while the mutex is held.
///
/// A worker's loop:
///
/// ```
/// use raddle_core::prim::{Arc, thread};
/// use raddle_core::sched::{Pop, Queue, Waited};
///
/// let queue = Arc::new(Queue::new());
/// let worker = thread::spawn({
///     let queue = Arc::clone(&queue);
///     move || {
///         let mut sum = 0;
///         loop {
///             match queue.pop() {
///                 Pop::Item(item) => sum += item,
///                 Pop::Empty => _ = queue.wait(None),
///                 Pop::Closed => return sum,
///             }
///         }
///     }
/// });
/// assert_eq!(queue.push_many([1, 2, 3]).unwrap(), 3);
/// queue.close();
/// assert_eq!(worker.join().unwrap(), 6);
/// ```
///
/// # Spans
///
/// A *span* `S` is many items that lie here as one record: as the numbers of those that nobody has taken, its *parts*. Each part is
/// an item as any other: it is taken on its own, by any worker, in its turn; it counts in [`len`](Self::len) and calls a
/// worker. The record lies where its first part does, and goes with its last one. What the number stands for is the
/// caller's business. A queue with spans is made by [`with_spans`](Self::with_spans) and asked by [`take`](Self::take).
///
#[doc = include_str!("sleep.md")]
pub struct Queue<T, S = Infallible> {
    inner: Mutex<Inner<T, S>>,
}

struct Inner<T, S> {
    records: Ranked<Record<T, S>>,
    /// Parts of spans beyond the first one of each: so many more items there are than records.
    spare: usize,
    idle: Idle,
    closed: bool,
}

/// What lies in a [`Queue`].
#[cfg_attr(not(loom), derive(Debug, PartialEq, Eq))]
#[cfg_attr(loom, expect(missing_debug_implementations, reason = "the model checker's `Arc` has none of these"))]
pub enum Record<T, S> {
    /// An item.
    Item(T),
    /// A span, and the numbers of those of its parts that were not taken; never none.
    Span(Arc<S>, Range<usize>),
}

/// What is taken from a [`Queue`].
#[cfg_attr(not(loom), derive(Debug, PartialEq, Eq))]
#[cfg_attr(loom, expect(missing_debug_implementations, reason = "the model checker's `Arc` has none of these"))]
pub enum Piece<T, S> {
    /// An item.
    Item(T),
    /// A span, and the number of one of its parts.
    Part(Arc<S>, usize),
}

/// What [`Queue::pop`] found.
#[must_use = "an item that is popped and ignored is lost"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pop<T> {
    /// The next item.
    Item(T),
    /// Nothing, for now.
    Empty,
    /// Nothing, and the queue is closed.
    Closed,
}

/// Why [`Queue::wait`] came back.
#[must_use = "`Ready` obliges to pop"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waited {
    /// There was an item. Pop now: a producer counts on it. Another worker may still be faster.
    Ready,
    /// The queue is closed and there was no item.
    Closed,
    /// The deadline has passed and there was no item.
    TimedOut,
    /// A signal handler has run on this thread. There may or may not be an item: come back, or leave.
    Interrupted,
}

impl<T> Queue<T> {
    /// An empty, open queue of items.
    pub fn new() -> Self {
        Self::with_spans()
    }

    /// Takes the next item, without waiting.
    pub fn pop(&self) -> Pop<T> {
        match self.take() {
            Pop::Item(Piece::Item(item)) => Pop::Item(item),
            Pop::Item(Piece::Part(span, _)) => match *span {},
            Pop::Empty => Pop::Empty,
            Pop::Closed => Pop::Closed,
        }
    }

    /// Takes all items at once, in the order in which they would have been popped.
    pub fn drain(&self) -> Vec<T> {
        let item = |record| match record {
            Record::Item(item) => item,
            Record::Span(span, _) => match *span {},
        };
        self.take_all().into_iter().map(item).collect()
    }
}

impl<T, S> Queue<T, S> {
    /// An empty, open queue of items and spans.
    pub fn with_spans() -> Self {
        let inner = Inner { records: Ranked::new(), spare: 0, idle: Idle::default(), closed: false };
        Self { inner: Mutex::new(inner) }
    }

    /// Appends an item of rank 0, and calls a sleeping worker unless one is on its way already.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item when the queue is closed.
    pub fn push(&self, item: T) -> Result<(), Closed<T>> {
        self.push_ranked(0, item)
    }

    /// The same for an item of any rank: it comes before those of lower ranks.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_ranked(&self, rank: Rank, item: T) -> Result<(), Closed<T>> {
        let called = {
            let mut inner = self.inner.lock();
            if inner.closed {
                drop(inner);
                return Err(Closed(item));
            }
            inner.records.push_back(rank, Record::Item(item));
            inner.idle.call_one()
        };
        wake(called);
        Ok(())
    }

    /// Appends parts of a span, at least one.
    ///
    /// `places`: where parts of it lie, for [`take_parts`](Self::take_parts); at first nowhere. If the last of them lie at
    /// the end of the queue still, and end where these begin, these join them; otherwise they make a record of their own. So whatever was
    /// pushed in between comes in between.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the numbers when the queue is closed.
    pub fn push_parts(
        &self,
        rank: Rank,
        span: &Arc<S>,
        parts: Range<usize>,
        places: &mut Vec<Position>,
    ) -> Result<(), Closed<Range<usize>>> {
        debug_assert!(!parts.is_empty(), "a record has parts");
        let called = {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Err(Closed(parts));
            }
            inner.append(rank, span, parts, places);
            inner.idle.call_one()
        };
        wake(called);
        Ok(())
    }

    /// Takes all parts that lie in one place out, which nobody has taken. None: there are none there any more.
    pub fn take_parts(&self, position: Position, span: &Arc<S>) -> Option<Range<usize>> {
        let taken = {
            let mut inner = self.inner.lock();
            if !matches!(inner.records.get(position), Some(Record::Span(there, _)) if Arc::ptr_eq(there, span)) {
                return None;
            }
            let taken = inner.records.take(position);
            if let Some(Record::Span(_, parts)) = &taken {
                inner.spare -= parts.len() - 1;
            }
            taken
        };
        match taken {
            Some(Record::Span(_, parts)) => Some(parts),
            _ => None,
        }
    }

    /// Appends all items next to each other, and returns how many they were.
    ///
    /// The iterator runs to its end before the first item is visible. One sleeping worker is called; it calls
    /// the next.
    ///
    /// # Errors
    ///
    /// [`Closed`] with all the items when the queue is closed.
    pub fn push_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, Closed<Vec<T>>> {
        let items: Vec<T> = items.into_iter().collect();
        let count = items.len();
        let called = {
            let mut inner = self.inner.lock();
            if inner.closed {
                drop(inner);
                return Err(Closed(items));
            }
            items.into_iter().for_each(|item| _ = inner.records.push_back(0, Record::Item(item)));
            if count > 0 { inner.idle.call_one() } else { None }
        };
        wake(called);
        Ok(count)
    }

    /// Gives back what was taken: it is the next to be popped, after higher ranks than 0.
    ///
    /// Allowed after [`close`](Self::close) too, where the workers may be gone already: who gives back then
    /// pops or drains afterwards.
    pub fn push_front(&self, item: T) {
        let called = {
            let mut inner = self.inner.lock();
            inner.records.push_front(0, Record::Item(item));
            inner.idle.call_one()
        };
        wake(called);
    }

    /// Takes the next item or part, without waiting.
    pub fn take(&self) -> Pop<Piece<T, S>> {
        let mut inner = self.inner.lock();
        if let Some(Record::Span(span, parts)) = inner.records.front_mut()
            && parts.len() > 1
        {
            let piece = Piece::Part(Arc::clone(span), parts.start);
            parts.start += 1;
            inner.spare -= 1;
            return Pop::Item(piece);
        }
        match inner.records.pop_front() {
            Some(Record::Item(item)) => Pop::Item(Piece::Item(item)),
            Some(Record::Span(span, parts)) => Pop::Item(Piece::Part(span, parts.start)),
            None if inner.closed => Pop::Closed,
            None => Pop::Empty,
        }
    }

    /// Takes the next part of this span, if that is what [`take`](Self::take) would take now.
    #[inline]
    pub fn take_next_of(&self, span: &Arc<S>) -> Option<usize> {
        let mut inner = self.inner.lock();
        let Some(Record::Span(there, parts)) = inner.records.front_mut() else { return None };
        if !Arc::ptr_eq(there, span) {
            return None;
        }
        let number = parts.start;
        if parts.len() > 1 {
            parts.start += 1;
            inner.spare -= 1;
            return Some(number);
        }
        let spent = inner.records.pop_front();
        drop(inner);
        drop(spent);
        Some(number)
    }

    /// Sleeps until there may be an item, the queue is closed, the deadline has passed, or a signal has
    /// arrived. Returns at once when there is an item.
    ///
    /// On the calling thread's [parker](park::with_current).
    ///
    /// # Stopping
    ///
    /// The queue stops its workers by [`close`](Self::close). No item is held while waiting, so nothing can be
    /// lost.
    pub fn wait(&self, deadline: Option<Instant>) -> Waited {
        park::with_current(|parker| self.wait_on(parker, deadline))
    }

    fn wait_on(&self, parker: &Parker, deadline: Option<Instant>) -> Waited {
        let me = parker.unparker();
        if let Err(answer) = self.inner.lock().fall_asleep(&me) {
            return answer;
        }
        loop {
            let reason = parker.park(deadline);
            let (answer, called) = self.inner.lock().stir(&me, reason);
            wake(called);
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Refuses further pushes and wakes every sleeping worker. What is in the queue can still be popped.
    pub fn close(&self) {
        let called = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            inner.idle.call_all()
        };
        wake(called);
    }

    /// Takes all records at once, in the order in which they would have been taken.
    pub fn take_all(&self) -> Vec<Record<T, S>> {
        let mut inner = self.inner.lock();
        inner.spare = 0;
        inner.records.take_all()
    }

    /// How many items there are; each part of a span is one.
    pub fn len(&self) -> usize {
        self.inner.lock().len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many workers sleep here and have not been called yet.
    pub fn sleeping(&self) -> usize {
        self.inner.lock().idle.sleeping()
    }

    /// Whether the queue has been closed.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }
}

impl<T, S> Inner<T, S> {
    fn len(&self) -> usize {
        self.records.len() + self.spare
    }

    fn append(&mut self, rank: Rank, span: &Arc<S>, parts: Range<usize>, places: &mut Vec<Position>) {
        if let Some(&last) = places.last() {
            let next = self.records.next_position(rank);
            match self.records.get_mut(last) {
                Some(Record::Span(there, left)) if Arc::ptr_eq(there, span) => {
                    if last.rank == rank && last.number + 1 == next.number && left.end == parts.start {
                        left.end = parts.end;
                        self.spare += parts.len();
                        return;
                    }
                }
                _ => places.clear(), // those before it are gone, too
            }
        }
        self.spare += parts.len() - 1;
        places.push(self.records.push_back(rank, Record::Span(Arc::clone(span), parts)));
    }

    /// The worker's steps 1 and 2. An error is an answer that needs no sleep.
    fn fall_asleep(&mut self, me: &Unparker) -> Result<(), Waited> {
        if !self.records.is_empty() {
            Err(Waited::Ready)
        } else if self.closed {
            Err(Waited::Closed)
        } else {
            self.idle.enter(me.clone());
            Ok(())
        }
    }

    /// The worker's steps 4 to 9: the answer, or `None` to park again; and a worker to be unparked.
    fn stir(&mut self, me: &Unparker, reason: Wake) -> (Option<Waited>, Option<Unparker>) {
        if reason == Wake::Unparked && self.idle.holds(me) {
            return (None, None);
        }
        let left = self.idle.leave(me);
        let answer = match reason {
            Wake::Interrupted => Waited::Interrupted,
            _ if !self.records.is_empty() => Waited::Ready,
            _ if self.closed => Waited::Closed,
            Wake::TimedOut => Waited::TimedOut,
            Wake::Unparked => {
                debug_assert_eq!(left, Left::Called, "an open queue wakes whom it called");
                self.idle.enter(me.clone());
                return (None, None);
            }
        };
        // Whoever answers `Ready` takes one item itself.
        let mine = usize::from(answer == Waited::Ready);
        let called = if self.len() > mine { self.idle.call_one() } else { None };
        (Some(answer), called)
    }
}

/// The producer's step 4: after the lock has been let go.
#[inline]
fn wake(called: impl IntoIterator<Item = Unparker>) {
    called.into_iter().for_each(|worker| worker.unpark());
}

impl<T, S> Default for Queue<T, S> {
    fn default() -> Self {
        Self::with_spans()
    }
}

impl<T, S> fmt::Debug for Queue<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Queue");
        match self.inner.try_lock() {
            Some(inner) => fields
                .field("len", &inner.len())
                .field("sleeping", &inner.idle.sleeping())
                .field("closed", &inner.closed)
                .finish(),
            None => fields.finish_non_exhaustive(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Everything that can be the case when a worker comes back from its park.
    #[derive(Clone, Copy, Debug)]
    struct Case {
        reason: Wake,
        /// This worker has been called.
        called: bool,
        /// Another worker has been called and is on its way.
        other_searching: bool,
        /// Another worker sleeps.
        other_asleep: bool,
        items: usize,
        closed: bool,
    }

    fn every_case() -> impl Iterator<Item = Case> {
        let reasons = [Wake::Unparked, Wake::TimedOut, Wake::Interrupted];
        (0..3 * 3 * 16).map(move |n| Case {
            reason: reasons[n % 3],
            items: n / 3 % 3,
            called: (n / 9) & 1 != 0,
            other_searching: (n / 9) & 2 != 0,
            other_asleep: (n / 9) & 4 != 0,
            closed: (n / 9) & 8 != 0,
        })
    }

    fn every_kind() -> impl Iterator<Item = (Case, bool)> {
        every_case().flat_map(|case| [(case, false), (case, true)])
    }

    impl Case {
        /// With the items on their own, or as the parts of a span.
        fn inner(self, as_span: bool, me: &Unparker, other: &Unparker) -> Inner<(), ()> {
            let mut idle = Idle::default();
            if self.other_searching {
                idle.enter(Parker::new().unparker());
            }
            if self.called {
                idle.enter(me.clone());
            }
            let _called = idle.call_all();
            if !self.called {
                idle.enter(me.clone());
            }
            if self.other_asleep {
                idle.enter(other.clone());
            }
            let mut inner = Inner { records: Ranked::new(), spare: 0, idle, closed: self.closed };
            if as_span && self.items > 0 {
                inner.append(0, &Arc::new(()), 0..self.items, &mut Vec::new());
            } else {
                (0..self.items).for_each(|_| _ = inner.records.push_back(0, Record::Item(())));
            }
            assert_eq!(inner.len(), self.items);
            inner
        }

        /// Sleeping on without having been called, or being called to a queue where nothing is to be found.
        fn sleeps_on(self) -> bool {
            self.reason == Wake::Unparked && (!self.called || (self.items == 0 && !self.closed))
        }

        fn answer(self) -> Waited {
            match self.reason {
                Wake::Interrupted => Waited::Interrupted,
                _ if self.items > 0 => Waited::Ready,
                _ if self.closed => Waited::Closed,
                _ => Waited::TimedOut,
            }
        }
    }

    #[test]
    fn a_worker_that_stirs_answers_truly_or_sleeps_on() {
        let (me, other) = (Parker::new().unparker(), Parker::new().unparker());
        for (case, as_span) in every_kind() {
            let mut inner = case.inner(as_span, &me, &other);
            let (answer, _) = inner.stir(&me, case.reason);
            assert_eq!(answer, (!case.sleeps_on()).then(|| case.answer()), "{case:?}");
            assert_eq!(inner.idle.holds(&me), answer.is_none(), "{case:?}");
        }
    }

    #[test]
    fn no_item_is_left_beside_a_sleeping_worker() {
        let (me, other) = (Parker::new().unparker(), Parker::new().unparker());
        for (case, as_span) in every_kind() {
            let searching = case.called || case.other_searching;
            if case.items > 0 && !searching {
                continue; // then it was left lying before: see the claim in sleep.md
            }
            let mut inner = case.inner(as_span, &me, &other);
            let (answer, called) = inner.stir(&me, case.reason);
            let committed = usize::from(answer == Some(Waited::Ready));
            let searching = called.is_some() || case.other_searching;
            assert!(inner.idle.sleeping() == 0 || searching || inner.len() <= committed, "{case:?}");
            assert!(!(called.is_some() && case.other_searching), "one at a time: {case:?}");
            assert!(called.is_none_or(|called| called.same_as(&other)), "{case:?}");
        }
    }

    #[test]
    fn nobody_is_called_for_an_item_that_its_finder_takes() {
        let (me, other) = (Parker::new().unparker(), Parker::new().unparker());
        for (case, as_span) in every_kind().filter(|(case, _)| case.items == 1 && case.answer() == Waited::Ready) {
            let (_, called) = case.inner(as_span, &me, &other).stir(&me, case.reason);
            assert!(called.is_none(), "{case:?}");
        }
    }
}
