use proptest::prelude::*;
use raddle_core::prim::atomic::AtomicUsize;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::{Arc, Mutex, thread};
use raddle_core::sched::{Closed, Piece, Pop, Queue, Rank, Record, Waited};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Returns once `count` workers sleep at the queue.
fn wait_asleep<T>(queue: &Queue<T>, count: usize) {
    while queue.sleeping() < count {
        thread::yield_now();
    }
}

fn worker<T: Send + 'static>(queue: &Arc<Queue<T>>) -> thread::JoinHandle<Vec<T>> {
    let queue = Arc::clone(queue);
    thread::spawn(move || {
        let mut taken = Vec::new();
        loop {
            match queue.pop() {
                Pop::Item(item) => taken.push(item),
                Pop::Empty => _ = queue.wait(None),
                Pop::Closed => return taken,
            }
        }
    })
}

#[test]
fn items_come_out_in_the_order_they_went_in() {
    let queue = Queue::new();
    queue.push(1).unwrap();
    assert_eq!(queue.push_many([2, 3]).unwrap(), 2);
    assert_eq!(
        [queue.pop(), queue.pop(), queue.pop(), queue.pop()],
        [Pop::Item(1), Pop::Item(2), Pop::Item(3), Pop::Empty]
    );
}

#[test]
fn a_higher_rank_comes_out_first() {
    let queue = Queue::new();
    queue.push_many([3, 4]).unwrap();
    queue.push_ranked(7, 1).unwrap();
    queue.push_ranked(-1, 5).unwrap();
    queue.push_ranked(7, 2).unwrap();
    assert_eq!(queue.drain(), [1, 2, 3, 4, 5]);
}

#[test]
fn what_is_given_back_comes_out_first() {
    let queue = Queue::new();
    queue.push(2).unwrap();
    queue.push_front(1);
    assert_eq!(queue.drain(), [1, 2]);
}

#[test]
fn a_closed_queue_gives_the_items_back() {
    let queue = Queue::new();
    queue.close();
    assert_eq!(queue.push(1), Err(Closed(1)));
    assert_eq!(queue.push_many([2, 3]), Err(Closed(vec![2, 3])));
    assert!(queue.is_closed() && queue.is_empty());
}

#[test]
fn a_closed_queue_is_emptied_before_it_says_so() {
    let queue = Queue::new();
    queue.push(1).unwrap();
    queue.close();
    assert_eq!(queue.wait(None), Waited::Ready);
    assert_eq!(queue.pop(), Pop::Item(1));
    assert_eq!(queue.pop(), Pop::Closed);
    assert_eq!(queue.wait(None), Waited::Closed);
    queue.push_front(2);
    assert_eq!(queue.pop(), Pop::Item(2));
}

#[test]
fn a_wait_ends_at_its_deadline_and_leaves_nobody_asleep() {
    let queue = Queue::<()>::new();
    let deadline = Instant::now() + Duration::from_millis(5);
    assert_eq!(queue.wait(Some(deadline)), Waited::TimedOut);
    assert!(Instant::now() >= deadline);
    assert_eq!(queue.sleeping(), 0);
}

#[test]
fn an_old_token_does_not_end_a_wait() {
    let queue = Queue::<()>::new();
    raddle_core::park::with_current(|parker| parker.unparker().unpark());
    assert_eq!(queue.wait(Some(Instant::now() + Duration::from_millis(5))), Waited::TimedOut);
}

#[test]
fn a_push_wakes_a_sleeping_worker() {
    let queue = Arc::new(Queue::new());
    let sleeper = worker(&queue);
    for round in 0..if cfg!(miri) { 5 } else { 500 } {
        wait_asleep(&queue, 1);
        queue.push(round).unwrap();
    }
    wait_asleep(&queue, 1);
    queue.close();
    assert!(sleeper.join().unwrap().into_iter().eq(0..if cfg!(miri) { 5 } else { 500 }));
}

#[test]
fn many_items_wake_one_worker_after_another_until_each_has_one() {
    let queue = Arc::new(Queue::new());
    let meeting = Arc::new(std::sync::Barrier::new(4));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (queue, meeting) = (Arc::clone(&queue), Arc::clone(&meeting));
            thread::spawn(move || {
                assert_eq!(queue.wait(None), Waited::Ready);
                assert_eq!(queue.pop(), Pop::Item(()));
                meeting.wait(); // nobody goes on until all four have been woken
            })
        })
        .collect();
    wait_asleep(&queue, 4);
    queue.push_many([(); 4]).unwrap();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

#[test]
fn closing_wakes_everyone() {
    let queue = Arc::new(Queue::<()>::new());
    let workers: Vec<_> = (0..4).map(|_| worker(&queue)).collect();
    wait_asleep(&queue, 4);
    queue.close();
    workers.into_iter().for_each(|worker| assert!(worker.join().unwrap().is_empty()));
}

#[test]
fn every_item_is_taken_once_by_many_workers_from_many_producers() {
    let (producers, each) = (3, if cfg!(miri) { 20 } else { 5_000 });
    let queue = Arc::new(Queue::new());
    let workers: Vec<_> = (0..3).map(|_| worker(&queue)).collect();
    let producers: Vec<_> = (0..producers)
        .map(|producer| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (0..each).for_each(|item| queue.push((producer, item)).unwrap()))
        })
        .collect();
    let count = producers.len();
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    queue.close();

    let mut taken = Vec::new();
    for worker in workers {
        let mine = worker.join().unwrap();
        for producer in 0..count {
            let order = mine.iter().filter(|item| item.0 == producer).map(|item| item.1);
            assert!(order.is_sorted(), "one worker sees one producer's items in their order");
        }
        taken.extend(mine);
    }
    taken.sort_unstable();
    assert!(taken.into_iter().eq((0..count).flat_map(|producer| (0..each).map(move |item| (producer, item)))));
}

#[test]
fn workers_that_come_and_go_lose_nothing() {
    let items = if cfg!(miri) { 20 } else { 3_000 };
    let queue = Arc::new(Queue::new());
    let taken = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (queue, taken) = (Arc::clone(&queue), Arc::clone(&taken));
            thread::spawn(move || {
                loop {
                    match queue.pop() {
                        Pop::Item(()) => _ = taken.fetch_add(1, Relaxed),
                        Pop::Closed => return,
                        // So short that the deadline often comes together with the call.
                        Pop::Empty => _ = queue.wait(Some(Instant::now() + Duration::from_micros(20))),
                    }
                }
            })
        })
        .collect();
    for item in 0..items {
        queue.push(()).unwrap();
        if item % 8 == 0 {
            while !queue.is_empty() {
                thread::yield_now();
            }
        }
    }
    queue.close();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!(taken.load(Relaxed), items);
}

/// Asks the queue for its length when it is dropped, which would never end under the queue's lock.
struct Nosy(Arc<Queue<Nosy>>, Arc<Mutex<Vec<usize>>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        let len = self.0.len();
        self.1.lock().push(len);
    }
}

#[test]
fn no_item_is_dropped_under_the_lock() {
    let (queue, seen) = (Arc::new(Queue::new()), Arc::new(Mutex::new(Vec::new())));
    let item = || Nosy(Arc::clone(&queue), Arc::clone(&seen));
    assert!(queue.push_many([item(), item()]).is_ok());
    drop(queue.pop());
    drop(queue.drain());
    queue.close();
    drop(queue.push(item()));
    drop(queue.push_many([item()]));
    assert_eq!(*seen.lock(), [1, 0, 0, 0]);
}

#[test]
fn the_iterator_of_push_many_runs_outside_the_lock() {
    let queue = Queue::new();
    queue.push(0).unwrap();
    queue.push_many((0..2).map(|_| queue.len())).unwrap();
    assert_eq!(queue.drain(), [0, 1, 1]);
}

#[test]
fn a_queue_shows_what_it_holds() {
    let queue = Queue::new();
    queue.push(()).unwrap();
    assert_eq!(format!("{queue:?}"), "Queue { len: 1, sleeping: 0, closed: false }");
}

#[test]
fn the_parts_of_a_span_are_taken_one_by_one_in_its_turn() {
    let (queue, span) = (Queue::with_spans(), Arc::new("span"));
    queue.push("before").unwrap();
    queue.push_parts(0, &span, 0..3, &mut Vec::new()).unwrap();
    queue.push("after").unwrap();
    assert_eq!(queue.len(), 5);
    assert_eq!(queue.take_next_of(&span), None, "it is not its turn");
    assert_eq!(queue.take(), Pop::Item(Piece::Item("before")));
    assert_eq!(queue.take(), Pop::Item(Piece::Part(Arc::clone(&span), 0)));
    assert_eq!(queue.take_next_of(&Arc::new("span")), None, "this is another one");
    assert_eq!(queue.take_next_of(&span), Some(1));
    assert_eq!(queue.take(), Pop::Item(Piece::Part(Arc::clone(&span), 2)));
    assert_eq!(queue.take_next_of(&span), None);
    assert_eq!(queue.take(), Pop::Item(Piece::Item("after")));
    assert_eq!((queue.take(), queue.len()), (Pop::Empty, 0));
}

#[test]
fn parts_that_come_later_lie_behind_what_came_before_them() {
    let (queue, span, mut places) = (Queue::with_spans(), Arc::new(()), Vec::new());
    queue.push_parts(0, &span, 0..1, &mut places).unwrap();
    queue.push_parts(0, &span, 1..2, &mut places).unwrap();
    assert_eq!(places.len(), 1, "nothing came in between");
    queue.push("between").unwrap();
    queue.push_parts(0, &span, 2..3, &mut places).unwrap();
    assert_eq!(places.len(), 2);
    let taken: Vec<_> = std::iter::repeat_with(|| queue.take()).take(4).collect();
    let part = |number| Pop::Item(Piece::Part(Arc::clone(&span), number));
    assert_eq!(taken, [part(0), part(1), Pop::Item(Piece::Item("between")), part(2)]);
    queue.push_parts(0, &span, 3..4, &mut places).unwrap();
    assert_eq!(places.len(), 1, "the others are gone");
}

#[test]
fn what_is_left_of_a_span_can_be_taken_out() {
    let (queue, span, mut places) = (Queue::with_spans(), Arc::new(()), Vec::new());
    queue.push("before").unwrap();
    queue.push_parts(0, &span, 0..5, &mut places).unwrap();
    queue.push("after").unwrap();
    let _before = queue.take();
    assert_eq!(queue.take_next_of(&span), Some(0));
    assert_eq!(queue.take_parts(places[0], &Arc::new(())), None, "it is another one's");
    assert_eq!(queue.take_parts(places[0], &span), Some(1..5));
    assert_eq!(queue.take_parts(places[0], &span), None);
    assert_eq!((queue.len(), queue.take()), (1, Pop::Item(Piece::Item("after"))));
}

#[test]
fn a_span_is_dropped_with_its_last_part_and_outside_the_lock() {
    struct Nosy(Arc<Queue<(), Nosy>>, Arc<Mutex<Vec<usize>>>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.1.lock().push(self.0.len());
        }
    }
    let (queue, seen) = (Arc::new(Queue::with_spans()), Arc::new(Mutex::new(Vec::new())));
    let push = |parts| {
        let mut places = Vec::new();
        let span = Arc::new(Nosy(Arc::clone(&queue), Arc::clone(&seen)));
        let _ = queue.push_parts(0, &span, parts, &mut places);
        (Arc::downgrade(&span), places)
    };
    drop(push(0..1));
    drop(queue.take());
    let (span, places) = push(0..2);
    drop(queue.take());
    assert_eq!(*seen.lock(), [0]);
    queue.take_parts(places[0], &span.upgrade().unwrap()).unwrap();
    drop(push(0..2));
    drop(queue.take_all());
    queue.close();
    drop(push(0..1));
    assert_eq!(*seen.lock(), [0; 4]);
}

#[test]
fn every_part_of_a_span_calls_a_worker() {
    let (queue, span) = (Arc::new(Queue::<(), ()>::with_spans()), Arc::new(()));
    let taken = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (queue, taken) = (Arc::clone(&queue), Arc::clone(&taken));
            thread::spawn(move || {
                loop {
                    match queue.take() {
                        Pop::Item(Piece::Part(_, number)) => {
                            taken.fetch_add(1, Relaxed);
                            while taken.load(Relaxed) < 3 {
                                thread::yield_now(); // it takes no second one
                            }
                            break number;
                        }
                        Pop::Item(Piece::Item(())) | Pop::Closed => unreachable!("there is one span"),
                        Pop::Empty => _ = queue.wait(None),
                    }
                }
            })
        })
        .collect();
    while queue.sleeping() < 3 {
        thread::yield_now();
    }
    queue.push_parts(0, &span, 0..3, &mut Vec::new()).unwrap();
    let mut numbers: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
}

/// What can be done to a queue with two spans.
#[derive(Clone, Debug)]
enum Deed {
    Push(Rank),
    PushParts(usize, usize),
    Take,
    TakeNextOf(usize),
    TakeParts(usize),
    TakeAll,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (-1_i16..2).prop_map(Deed::Push),
        5 => (0_usize..2, 1_usize..4).prop_map(|(of, count)| Deed::PushParts(of, count)),
        6 => Just(Deed::Take),
        6 => (0_usize..2).prop_map(Deed::TakeNextOf),
        2 => (0_usize..2).prop_map(Deed::TakeParts),
        1 => Just(Deed::TakeAll),
    ]
}

proptest! {
    /// Held against a list of single items and parts that is sorted by rank, and stably.
    #[test]
    fn spans_behave_as_their_parts_would(deeds in prop::collection::vec(deed(), 0..80)) {
        let (queue, spans) = (Queue::with_spans(), [Arc::new(0), Arc::new(1)]);
        let (mut places, mut numbers): ([Vec<_>; 2], [usize; 2]) = Default::default();
        let mut list: Vec<(Rank, Option<(usize, usize)>)> = Vec::new();
        let put = |list: &mut Vec<_>, rank: Rank, what| {
            let at = list.iter().position(|(other, _)| *other < rank).unwrap_or(list.len());
            list.insert(at, (rank, what));
        };
        for deed in deeds {
            match deed {
                Deed::Push(rank) => {
                    queue.push_ranked(rank, ()).unwrap();
                    put(&mut list, rank, None);
                }
                Deed::PushParts(of, count) => {
                    let rank = [0, 1][of];
                    let parts = numbers[of]..numbers[of] + count;
                    numbers[of] += count;
                    queue.push_parts(rank, &spans[of], parts.clone(), &mut places[of]).unwrap();
                    parts.for_each(|number| put(&mut list, rank, Some((of, number))));
                }
                Deed::Take => {
                    let expected = match (!list.is_empty()).then(|| list.remove(0).1) {
                        Some(Some((of, number))) => Pop::Item(Piece::Part(Arc::clone(&spans[of]), number)),
                        Some(None) => Pop::Item(Piece::Item(())),
                        None => Pop::Empty,
                    };
                    prop_assert_eq!(queue.take(), expected);
                }
                Deed::TakeNextOf(of) => {
                    let is_next = matches!(list.first(), Some((_, Some((other, _)))) if *other == of);
                    let expected = is_next.then(|| list.remove(0).1.unwrap().1);
                    prop_assert_eq!(queue.take_next_of(&spans[of]), expected);
                }
                Deed::TakeParts(of) => {
                    let ranges = std::mem::take(&mut places[of]).into_iter();
                    let taken: Vec<_> = ranges.filter_map(|place| queue.take_parts(place, &spans[of])).flatten().collect();
                    let expected: Vec<_> =
                        list.iter().filter_map(|(_, what)| what.filter(|what| what.0 == of)).map(|what| what.1).collect();
                    prop_assert_eq!(taken, expected);
                    list.retain(|(_, what)| what.is_none_or(|what| what.0 != of));
                }
                Deed::TakeAll => {
                    let all: Vec<_> = queue.take_all().into_iter().flat_map(|record| match record {
                        Record::Item(()) => vec![None],
                        Record::Span(span, parts) => parts.map(|number| Some((*span, number))).collect(),
                    }).collect();
                    prop_assert_eq!(all, list.drain(..).map(|(_, what)| what).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(queue.len(), list.len());
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Push(u8),
    PushMany(Vec<u8>),
    PushFront(u8),
    Pop,
    Drain,
    Wait,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => any::<u8>().prop_map(Act::Push),
        3 => prop::collection::vec(any::<u8>(), 0..5).prop_map(Act::PushMany),
        2 => any::<u8>().prop_map(Act::PushFront),
        8 => Just(Act::Pop),
        1 => Just(Act::Drain),
        2 => Just(Act::Wait),
        1 => Just(Act::Close),
    ]
}

proptest! {
    #[test]
    fn a_queue_behaves_as_a_deque_that_can_be_closed(acts in prop::collection::vec(act(), 0..60)) {
        let queue = Queue::new();
        let (mut model, mut closed) = (VecDeque::new(), false);
        for act in acts {
            match act {
                Act::Push(item) => {
                    prop_assert_eq!(queue.push(item), if closed { Err(Closed(item)) } else { Ok(()) });
                    if !closed { model.push_back(item) }
                }
                Act::PushMany(items) => {
                    let answer = queue.push_many(items.clone());
                    prop_assert_eq!(answer, if closed { Err(Closed(items.clone())) } else { Ok(items.len()) });
                    if !closed { model.extend(items) }
                }
                Act::PushFront(item) => {
                    queue.push_front(item);
                    model.push_front(item);
                }
                Act::Pop => prop_assert_eq!(queue.pop(), match model.pop_front() {
                    Some(item) => Pop::Item(item),
                    None if closed => Pop::Closed,
                    None => Pop::Empty,
                }),
                Act::Drain => prop_assert_eq!(queue.drain(), Vec::from(std::mem::take(&mut model))),
                Act::Wait => prop_assert_eq!(queue.wait(Some(Instant::now())), match () {
                    () if !model.is_empty() => Waited::Ready,
                    () if closed => Waited::Closed,
                    () => Waited::TimedOut,
                }),
                Act::Close => {
                    queue.close();
                    closed = true;
                }
            }
            prop_assert_eq!((queue.len(), queue.is_closed(), queue.sleeping()), (model.len(), closed, 0));
        }
    }
}
