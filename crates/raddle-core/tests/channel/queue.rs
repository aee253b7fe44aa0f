use proptest::prelude::*;
use raddle_core::channel::{Get, Join, Order, Put, Queue};
use raddle_core::park::Waiter;
use raddle_core::park::Wake;
use raddle_core::prim::{Arc, Mutex, thread};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

fn fifo<T>(capacity: Option<usize>) -> Queue<T> {
    Queue::new(Order::Fifo, capacity)
}

fn filled<T>(capacity: Option<usize>, items: impl IntoIterator<Item = T>) -> Queue<T> {
    let queue = fifo(capacity);
    items.into_iter().for_each(|item| assert!(matches!(queue.put(item, false, None), Put::Done)));
    queue
}

/// The waiter of one who has to wait to put.
fn waits_to_put<T>(queue: &Queue<T>, item: T) -> Arc<Waiter> {
    match queue.put(item, true, None) {
        Put::Wait(waiter, _) => waiter,
        _ => panic!("it need not wait"),
    }
}

/// The waiter of one who has to wait to get.
fn waits_to_get<T>(queue: &Queue<T>) -> Arc<Waiter> {
    match queue.get(true, None) {
        Get::Wait(waiter) => waiter,
        _ => panic!("it need not wait"),
    }
}

/// Puts an item, however often it takes; each wait ends after `patience`, if there is one, and begins anew. The item itself: it was
/// not accepted.
fn put<T>(queue: &Queue<T>, mut item: T, patience: Option<Duration>) -> Result<(), T> {
    let mut before = None;
    loop {
        match queue.put(item, true, before.as_ref()) {
            Put::Done => return Ok(()),
            Put::Shut(item) | Put::Moved(item) => return Err(item),
            Put::Full(_) => unreachable!("it may wait"),
            Put::Wait(waiter, back) => {
                item = back;
                before = match waiter.park(patience.map(|patience| Instant::now() + patience)) {
                    Wake::Unparked => Some(waiter),
                    Wake::TimedOut | Wake::Interrupted => {
                        queue.leave_put(&waiter);
                        None
                    }
                };
            }
        }
    }
}

/// Gets an item, as `put` puts one. `None`: there will be none.
fn get<T>(queue: &Queue<T>, patience: Option<Duration>) -> Option<T> {
    let mut before = None;
    loop {
        match queue.get(true, before.as_ref()) {
            Get::Item(item) => return Some(item),
            Get::Shut | Get::Moved => return None,
            Get::Empty => unreachable!("it may wait"),
            Get::Wait(waiter) => {
                before = match waiter.park(patience.map(|patience| Instant::now() + patience)) {
                    Wake::Unparked => Some(waiter),
                    Wake::TimedOut | Wake::Interrupted => {
                        queue.leave_get(&waiter);
                        None
                    }
                };
            }
        }
    }
}

#[test]
fn an_item_that_is_not_accepted_comes_back() {
    let queue = filled(Some(1), [1]);
    assert!(matches!(queue.put(2, false, None), Put::Full(2)));
    assert!(matches!(queue.put(2, true, None), Put::Wait(_, 2)));
    assert_eq!(queue.shut(false), Some(vec![]));
    assert!(matches!(queue.put(3, true, None), Put::Shut(3)));
    assert_eq!(queue.move_out(), Some((vec![1], 1)));
    assert!(matches!(queue.put(4, true, None), Put::Moved(4)));
}

#[test]
fn who_was_called_in_vain_keeps_its_place() {
    let queue = fifo(None);
    let (first, second) = (waits_to_get(&queue), waits_to_get(&queue));
    assert!(matches!(queue.put(1, false, None), Put::Done));
    assert!(first.is_called() && matches!(queue.get(false, None), Get::Item(1)));
    let Get::Wait(again) = queue.get(true, Some(&first)) else { panic!("another was faster") };
    assert!(matches!(queue.put(2, false, None), Put::Done));
    assert!(again.is_called() && !second.is_called());
}

#[test]
fn who_leaves_passes_its_call_on_if_there_is_reason() {
    let queue = fifo(None);
    let getters = [(); 3].map(|()| waits_to_get(&queue));
    assert!(matches!(queue.put(1, false, None), Put::Done));
    queue.leave_get(&getters[0]);
    assert!(getters[1].is_called(), "the item is there");
    assert!(matches!(queue.get(false, None), Get::Item(1)));
    queue.leave_get(&getters[1]);
    assert!(!getters[2].is_called(), "it is gone");

    let queue = filled(Some(1), [1]);
    let putters = [2, 3, 4].map(|item| waits_to_put(&queue, item));
    assert!(matches!(queue.get(false, None), Get::Item(1)));
    queue.leave_put(&putters[0]);
    assert!(putters[1].is_called(), "there is room");
    assert!(matches!(queue.put(5, false, None), Put::Done));
    queue.leave_put(&putters[1]);
    assert!(!putters[2].is_called(), "there is none");
}

#[test]
fn a_larger_bound_calls_those_who_wait_to_put() {
    let queue = filled(Some(1), [1]);
    let putters = [2, 3].map(|item| waits_to_put(&queue, item));
    queue.set_capacity(None);
    assert!(putters.iter().all(|putter| putter.is_called()));
    assert_eq!(queue.capacity(), None);
}

#[test]
fn shutting_and_moving_call_everybody() {
    let full = || filled(Some(1), [1]);
    let empty = fifo::<u8>(None);
    let getter = waits_to_get(&empty);
    empty.shut(false);
    assert!(getter.is_called() && matches!(empty.get(true, None), Get::Shut));

    for at_once in [false, true] {
        let queue = full();
        let putter = waits_to_put(&queue, 2);
        let Join::Wait(joiner) = queue.join() else { panic!("something is not done") };
        assert_eq!(queue.shut(at_once), Some(if at_once { vec![1] } else { vec![] }));
        assert_eq!((putter.is_called(), joiner.is_called()), (true, at_once));
    }

    let queue = full();
    let putter = waits_to_put(&queue, 2);
    let Join::Wait(joiner) = queue.join() else { panic!("something is not done") };
    assert_eq!(queue.move_out(), Some((vec![1], 1)));
    assert!(putter.is_called() && joiner.is_called());
    assert!(matches!((queue.get(true, None), queue.join()), (Get::Moved, Join::Moved)));
    assert_eq!((queue.task_done(), queue.shut(false), queue.move_out()), (Some(false), None, None));
}

#[test]
fn who_does_not_wait_for_the_end_any_more_is_not_called() {
    let queue = filled(None, [1]);
    let Join::Wait(joiner) = queue.join() else { panic!("something is not done") };
    queue.leave_join(&joiner);
    assert_eq!(queue.task_done(), Some(true));
    assert!(!joiner.is_called());
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
    let (queue, seen) = (Arc::new(fifo(Some(2))), Arc::new(Mutex::new(Vec::new())));
    let put = |count| {
        for _ in 0..count {
            drop(queue.put(Nosy(Arc::clone(&queue), Arc::clone(&seen)), false, None));
        }
    };
    put(3); // one of them has no room
    drop(queue.get(false, None));
    drop(queue.take_all());
    put(1);
    drop(queue.shut(true));
    put(1);
    drop(queue.move_out());
    put(1);
    assert_eq!(*seen.lock(), [2, 1, 0, 0, 0, 0]);
}

#[test]
fn looking_at_the_items_ends_with_the_first_error() {
    let queue = filled(None, [1, 2, 3]);
    let mut seen = Vec::new();
    let answer = queue.peek(|&item| {
        seen.push(item);
        if item == 2 { Err(item) } else { Ok(()) }
    });
    assert_eq!((answer, seen), (Err(2), vec![1, 2]));
}

/// What each consumer got, in its order, of items that say who put them and when.
fn pass(
    producers: usize,
    consumers: usize,
    each: usize,
    capacity: Option<usize>,
    patience: Option<Duration>,
) -> Vec<Vec<(usize, usize)>> {
    let queue = Arc::new(fifo(capacity));
    let consumers: Vec<_> = (0..consumers)
        .map(|_| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                std::iter::from_fn(|| get(&queue, patience).inspect(|_| _ = queue.task_done().unwrap()))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let producers: Vec<_> = (0..producers)
        .map(|producer| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (0..each).for_each(|item| put(&queue, (producer, item), patience).unwrap()))
        })
        .collect();
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    while let Join::Wait(waiter) = queue.join() {
        assert_eq!(waiter.park(None), Wake::Unparked);
    }
    assert!(queue.is_empty() && queue.unfinished() == 0);
    queue.shut(false);
    consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
}

/// Each item once; and each consumer got what one producer has put in the order in which it was put, as it must in any order of all
/// puts and gets that agrees with the order of each thread's own.
fn assert_once_and_in_order(got: Vec<Vec<(usize, usize)>>, producers: usize, each: usize) {
    for mine in &got {
        for producer in 0..producers {
            let order = mine.iter().filter(|item| item.0 == producer).map(|item| item.1);
            assert!(order.is_sorted_by(|before, after| before < after));
        }
    }
    let mut all: Vec<_> = got.into_iter().flatten().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq((0..producers).flat_map(|producer| (0..each).map(move |item| (producer, item)))));
}

#[test]
fn every_item_of_many_producers_is_got_once_and_in_order_by_many_consumers() {
    let each = if cfg!(miri) { 20 } else { 3_000 };
    for capacity in [None, Some(1), Some(3)] {
        assert_once_and_in_order(pass(3, 3, each, capacity, None), 3, each);
    }
}

#[test]
fn producers_and_consumers_that_come_and_go_lose_nothing() {
    let each = if cfg!(miri) { 20 } else { 1_000 };
    // So short that the deadline often comes together with the call.
    let patience = Some(Duration::from_micros(20));
    for capacity in [None, Some(1), Some(3)] {
        assert_once_and_in_order(pass(3, 3, each, capacity, patience), 3, each);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8, bool),
    Get(bool),
    LeavePut(prop::sample::Index),
    LeaveGet(prop::sample::Index),
    TaskDone,
    Join,
    TakeAll,
    SetCapacity(Option<usize>),
    Shut(bool),
    MoveOut,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (any::<u8>(), any::<bool>()).prop_map(|(item, wait)| Act::Put(item, wait)),
        12 => any::<bool>().prop_map(Act::Get),
        2 => any::<prop::sample::Index>().prop_map(Act::LeavePut),
        2 => any::<prop::sample::Index>().prop_map(Act::LeaveGet),
        4 => Just(Act::TaskDone),
        3 => Just(Act::Join),
        1 => Just(Act::TakeAll),
        1 => prop::option::of(0_usize..5).prop_map(Act::SetCapacity),
        1 => any::<bool>().prop_map(Act::Shut),
        1 => Just(Act::MoveOut),
    ]
}

/// The queue as one would write it for one thread, without the lines.
#[derive(Debug, Default)]
struct Simple {
    items: VecDeque<u8>,
    capacity: Option<usize>,
    unfinished: usize,
    is_shut: bool,
    has_moved: bool,
}

impl Simple {
    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|most| self.items.len() < most)
    }
}

proptest! {
    #[test]
    fn a_queue_behaves_as_a_simple_one_and_whoever_could_go_on_is_called(
        is_fifo in any::<bool>(),
        capacity in prop::option::of(1_usize..4),
        acts in prop::collection::vec(act(), 0..80),
    ) {
        let queue = Queue::new(if is_fifo { Order::Fifo } else { Order::Lifo }, capacity);
        let mut model = Simple { capacity, ..Simple::default() };
        let (mut putters, mut getters, mut joiners) = (Vec::new(), Vec::new(), Vec::new());
        for act in acts {
            match act {
                Act::Put(item, wait) => match queue.put(item, wait, None) {
                    Put::Done => {
                        prop_assert!(!model.is_shut && !model.has_moved && model.has_room());
                        model.items.push_back(item);
                        model.unfinished += 1;
                    }
                    Put::Moved(back) => prop_assert!(model.has_moved && back == item),
                    Put::Shut(back) => prop_assert!(model.is_shut && !model.has_moved && back == item),
                    Put::Full(back) => prop_assert!(!wait && !model.has_room() && back == item),
                    Put::Wait(waiter, back) => {
                        prop_assert!(wait && !model.has_room() && back == item);
                        putters.push(waiter);
                    }
                },
                Act::Get(wait) => {
                    let expected = if is_fifo { model.items.pop_front() } else { model.items.pop_back() };
                    match queue.get(wait, None) {
                        Get::Item(item) => prop_assert_eq!(Some(item), expected),
                        Get::Moved => prop_assert!(expected.is_none() && model.has_moved),
                        Get::Shut => prop_assert!(expected.is_none() && model.is_shut && !model.has_moved),
                        Get::Empty => prop_assert!(expected.is_none() && !wait),
                        Get::Wait(waiter) => {
                            prop_assert!(expected.is_none() && wait);
                            getters.push(waiter);
                        }
                    }
                }
                Act::LeavePut(_) if putters.is_empty() => {}
                Act::LeavePut(which) => queue.leave_put(&putters.swap_remove(which.index(putters.len()))),
                Act::LeaveGet(_) if getters.is_empty() => {}
                Act::LeaveGet(which) => queue.leave_get(&getters.swap_remove(which.index(getters.len()))),
                Act::TaskDone => {
                    let expected = if model.has_moved { Some(false) } else { (model.unfinished > 0).then_some(true) };
                    prop_assert_eq!(queue.task_done(), expected);
                    model.unfinished = model.unfinished.saturating_sub(1);
                }
                Act::Join => match queue.join() {
                    Join::Done => prop_assert!(model.unfinished == 0 && !model.has_moved),
                    Join::Moved => prop_assert!(model.has_moved),
                    Join::Wait(waiter) => {
                        prop_assert!(model.unfinished > 0);
                        joiners.push(waiter);
                    }
                },
                Act::TakeAll => prop_assert_eq!(queue.take_all(), Vec::from(std::mem::take(&mut model.items))),
                Act::SetCapacity(capacity) => {
                    queue.set_capacity(capacity);
                    model.capacity = capacity;
                }
                Act::Shut(at_once) => {
                    let left = if at_once && !model.has_moved { Vec::from(std::mem::take(&mut model.items)) } else { vec![] };
                    model.unfinished = model.unfinished.saturating_sub(left.len());
                    prop_assert_eq!(queue.shut(at_once), (!model.has_moved).then_some(left));
                    model.is_shut |= !model.has_moved;
                }
                Act::MoveOut => {
                    let all = (Vec::from(std::mem::take(&mut model.items)), std::mem::take(&mut model.unfinished));
                    prop_assert_eq!(queue.move_out(), (!model.has_moved).then_some(all));
                    model.has_moved = true;
                }
            }
            prop_assert_eq!(
                (queue.len(), queue.capacity(), queue.unfinished(), queue.is_shut(), queue.has_moved()),
                (model.items.len(), model.capacity, model.unfinished, model.is_shut, model.has_moved)
            );
            // Nobody sleeps who could go on, as long as nobody is called who has not come yet.
            let is_over = model.is_shut || model.has_moved;
            let all_called = |waiters: &[Arc<Waiter>]| waiters.iter().all(|waiter| waiter.is_called());
            let none_called = |waiters: &[Arc<Waiter>]| !waiters.iter().any(|waiter| waiter.is_called());
            prop_assert!(!is_over || all_called(&putters) && all_called(&getters));
            prop_assert!(putters.is_empty() || !none_called(&putters) || !model.has_room());
            prop_assert!(getters.is_empty() || !none_called(&getters) || model.items.is_empty());
            prop_assert!(all_called(&joiners) || model.unfinished > 0);
        }
    }
}

#[test]
fn the_short_way_puts_and_gets_and_calls_who_waits() {
    let queue = fifo(Some(1));
    let getter = waits_to_get(&queue);
    assert_eq!(queue.try_put(1), Ok(()));
    assert!(getter.is_called());
    assert_eq!(queue.unfinished(), 1);
    let putter = waits_to_put(&queue, 2);
    assert_eq!(queue.try_put(3), Err(3), "it is full");
    assert_eq!(queue.try_get(), Some(1));
    assert!(putter.is_called());
    assert_eq!(queue.try_get(), None);
    queue.shut(false);
    assert_eq!(queue.try_put(4), Err(4), "it is shut");
    let moved = filled(None, [5]);
    moved.move_out();
    assert_eq!((moved.try_put(6), moved.try_get()), (Err(6), None), "it has moved");
}

#[test]
fn the_short_way_knows_the_order() {
    let queue = Queue::new(Order::Lifo, None);
    (1..=3).for_each(|item| queue.try_put(item).unwrap());
    assert_eq!([queue.try_get(), queue.try_get(), queue.try_get()], [Some(3), Some(2), Some(1)]);
}
