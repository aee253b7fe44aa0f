use crate::{check, later};
use raddle_core::channel::{Get, Join, Order, Put, Queue};
use raddle_core::park::Wake;
use raddle_core::prim::{Arc, thread};

fn queue(capacity: Option<usize>, items: &[u32]) -> Arc<Queue<u32>> {
    let queue = Queue::new(Order::Fifo, capacity);
    items.iter().for_each(|&item| assert!(matches!(queue.put(item, false, None), Put::Done)));
    Arc::new(queue)
}

/// Puts an item, however long it takes. The item itself: it was not accepted.
fn put<T>(queue: &Queue<T>, mut item: T) -> Result<(), T> {
    let mut before = None;
    loop {
        match queue.put(item, true, before.as_ref()) {
            Put::Done => return Ok(()),
            Put::Shut(item) | Put::Moved(item) => return Err(item),
            Put::Full(_) => unreachable!("it may wait"),
            Put::Wait(waiter, back) => {
                assert_eq!(waiter.park(None), Wake::Unparked);
                (item, before) = (back, Some(waiter));
            }
        }
    }
}

/// Puts an item, or leaves at any moment.
fn put_in_time<T>(queue: &Queue<T>, mut item: T) -> Result<(), T> {
    let mut before = None;
    loop {
        match queue.put(item, true, before.as_ref()) {
            Put::Done => return Ok(()),
            Put::Wait(waiter, back) if waiter.park(later()) == Wake::TimedOut => {
                queue.leave_put(&waiter);
                return Err(back);
            }
            Put::Wait(waiter, back) => (item, before) = (back, Some(waiter)),
            Put::Full(_) | Put::Shut(_) | Put::Moved(_) => unreachable!("it may wait, and the queue is open"),
        }
    }
}

/// Gets an item, however long it takes. `None`: there will be none.
fn get<T>(queue: &Queue<T>) -> Option<T> {
    let mut before = None;
    loop {
        match queue.get(true, before.as_ref()) {
            Get::Item(item) => return Some(item),
            Get::Shut | Get::Moved => return None,
            Get::Empty => unreachable!("it may wait"),
            Get::Wait(waiter) => {
                assert_eq!(waiter.park(None), Wake::Unparked);
                before = Some(waiter);
            }
        }
    }
}

/// Gets an item, or leaves at any moment.
fn get_in_time<T>(queue: &Queue<T>) -> Option<T> {
    let mut before = None;
    loop {
        match queue.get(true, before.as_ref()) {
            Get::Item(item) => return Some(item),
            Get::Wait(waiter) if waiter.park(later()) == Wake::TimedOut => {
                queue.leave_get(&waiter);
                return None;
            }
            Get::Wait(waiter) => before = Some(waiter),
            Get::Empty | Get::Shut | Get::Moved => unreachable!("it may wait, and the queue is open"),
        }
    }
}

/// Waits for the end of all work. `false`: it is elsewhere.
fn join<T>(queue: &Queue<T>) -> bool {
    loop {
        match queue.join() {
            Join::Done => return true,
            Join::Moved => return false,
            Join::Wait(waiter) => assert_eq!(waiter.park(None), Wake::Unparked),
        }
    }
}

fn start<R: 'static>(queue: &Arc<Queue<u32>>, act: impl Fn(&Queue<u32>) -> R + 'static) -> thread::JoinHandle<R> {
    let queue = Arc::clone(queue);
    thread::spawn(move || act(&queue))
}

#[test]
fn channel_items_of_two_producers_come_out_once_each() {
    check(4, || {
        let queue = queue(None, &[]);
        let producers = [1, 2].map(|item| start(&queue, move |queue| put(queue, item)));
        let mut got = [get(&queue), get(&queue)];
        got.sort_unstable();
        assert_eq!(got, [Some(1), Some(2)]);
        producers.into_iter().for_each(|producer| producer.join().unwrap().unwrap());
        assert!(queue.is_empty());
    });
}

#[test]
fn channel_items_of_one_producer_go_to_two_consumers_once_each() {
    check(4, || {
        let queue = queue(None, &[]);
        let consumers = [(); 2].map(|()| start(&queue, get));
        put(&queue, 1).unwrap();
        put(&queue, 2).unwrap();
        let mut got = consumers.map(|consumer| consumer.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [Some(1), Some(2)]);
    });
}

#[test]
fn channel_items_pass_a_bound_of_one_in_their_order() {
    check(4, || {
        let queue = queue(Some(1), &[]);
        let producer = start(&queue, |queue| [1, 2, 3].map(|item| put(queue, item)));
        assert_eq!([get(&queue), get(&queue), get(&queue)], [Some(1), Some(2), Some(3)]);
        assert_eq!(producer.join().unwrap(), [Ok(()); 3]);
        assert!(queue.is_empty());
    });
}

#[test]
fn channel_two_producers_pass_a_bound_of_one() {
    check(3, || {
        let queue = queue(Some(1), &[0]);
        let producers = [1, 2].map(|item| start(&queue, move |queue| put(queue, item)));
        assert_eq!(get(&queue), Some(0));
        let mut got = [get(&queue), get(&queue)];
        got.sort_unstable();
        assert_eq!(got, [Some(1), Some(2)]);
        producers.into_iter().for_each(|producer| producer.join().unwrap().unwrap());
    });
}

#[test]
fn channel_a_putter_that_leaves_lets_the_next_one_in() {
    check(4, || {
        let queue = queue(Some(1), &[0]);
        // Whoever takes what the hasty one has put takes care that there is room again.
        let hasty = start(&queue, |queue| put_in_time(queue, 1).is_ok() && get(queue).is_some());
        let patient = start(&queue, |queue| put(queue, 2));
        assert_eq!(get(&queue), Some(0));
        patient.join().unwrap().unwrap();
        hasty.join().unwrap();
        assert!(queue.len() <= 1);
    });
}

#[test]
fn channel_a_getter_that_leaves_lets_the_next_one_have_it() {
    check(4, || {
        let queue = queue(None, &[]);
        let hasty = start(&queue, |queue| get_in_time(queue).map(|item| put(queue, item)));
        let patient = start(&queue, get);
        put(&queue, 1).unwrap();
        assert_eq!(patient.join().unwrap(), Some(1));
        hasty.join().unwrap();
        assert!(queue.is_empty());
    });
}

#[test]
fn channel_leavers_on_both_sides_lose_nothing() {
    check(4, || {
        let queue = queue(Some(1), &[0]);
        let producer = start(&queue, |queue| put_in_time(queue, 1).is_ok());
        let consumer = start(&queue, get_in_time);
        let mut got: Vec<u32> = get_in_time(&queue).into_iter().collect();
        let accepted = producer.join().unwrap();
        got.extend(consumer.join().unwrap());
        got.extend(queue.take_all());
        got.sort_unstable();
        assert_eq!(got, if accepted { vec![0, 1] } else { vec![0] });
    });
}

#[test]
fn channel_a_bound_that_is_raised_lets_all_in() {
    check(4, || {
        let queue = queue(Some(1), &[0]);
        let producers = [1, 2].map(|item| start(&queue, move |queue| put(queue, item)));
        queue.set_capacity(Some(3));
        producers.into_iter().for_each(|producer| producer.join().unwrap().unwrap());
        assert_eq!(queue.len(), 3);
    });
}

#[test]
fn channel_that_is_emptied_at_once_lets_all_in() {
    check(4, || {
        let queue = queue(Some(2), &[1, 2]);
        let producers = [3, 4].map(|item| start(&queue, move |queue| put(queue, item)));
        let taken = queue.take_all();
        assert_eq!(taken[..2], [1, 2]);
        producers.into_iter().for_each(|producer| producer.join().unwrap().unwrap());
        assert_eq!(queue.len() + taken.len(), 4);
    });
}

#[test]
fn channel_that_is_shut_wakes_all_who_wait_to_get() {
    check(4, || {
        let queue = queue(None, &[]);
        let consumers = [(); 2].map(|()| start(&queue, get));
        assert_eq!(queue.shut(false), Some(vec![]));
        consumers.into_iter().for_each(|consumer| assert_eq!(consumer.join().unwrap(), None));
    });
}

#[test]
fn channel_that_is_shut_wakes_all_who_wait_to_put() {
    check(4, || {
        let queue = queue(Some(1), &[0]);
        let producers = [1, 2].map(|item| start(&queue, move |queue| put(queue, item)));
        assert_eq!(queue.shut(false), Some(vec![]));
        let back = producers.map(|producer| producer.join().unwrap());
        assert_eq!(back, [Err(1), Err(2)]);
        assert_eq!([get(&queue), get(&queue)], [Some(0), None]);
    });
}

#[test]
fn channel_that_is_shut_at_once_wakes_who_waits_for_the_end_of_all_work() {
    check(4, || {
        let queue = queue(Some(1), &[1]);
        let joiner = start(&queue, join);
        let producer = start(&queue, |queue| put(queue, 2));
        assert_eq!(queue.shut(true), Some(vec![1]));
        assert!(joiner.join().unwrap());
        assert_eq!(producer.join().unwrap(), Err(2));
        assert_eq!(queue.unfinished(), 0);
    });
}

#[test]
fn channel_what_is_put_before_it_is_shut_comes_out() {
    check(4, || {
        let queue = queue(None, &[]);
        let producer = start(&queue, |queue| put(queue, 1));
        let consumer = start(&queue, get);
        queue.shut(false);
        let got = consumer.join().unwrap().or_else(|| get(&queue));
        assert_eq!(got.is_some(), producer.join().unwrap().is_ok());
    });
}

#[test]
fn channel_that_moves_out_wakes_all_who_wait_to_get() {
    check(4, || {
        let queue = queue(None, &[]);
        let consumers = [(); 2].map(|()| start(&queue, get));
        assert_eq!(queue.move_out(), Some((vec![], 0)));
        consumers.into_iter().for_each(|consumer| assert_eq!(consumer.join().unwrap(), None));
    });
}

#[test]
fn channel_that_moves_out_wakes_who_waits_to_put_and_who_waits_for_the_end() {
    check(4, || {
        let queue = queue(Some(1), &[1]);
        let joiner = start(&queue, join);
        let producer = start(&queue, |queue| put(queue, 2));
        assert_eq!(queue.move_out(), Some((vec![1], 1)));
        assert!(!joiner.join().unwrap());
        assert_eq!(producer.join().unwrap(), Err(2));
        assert!(queue.move_out().is_none() && queue.is_empty());
    });
}

#[test]
fn channel_the_last_report_ends_the_wait_for_all_work() {
    check(4, || {
        let queue = queue(None, &[1, 2]);
        let workers = [(); 2].map(|()| start(&queue, |queue| get(queue).and_then(|_| queue.task_done())));
        assert!(join(&queue));
        assert!(queue.is_empty());
        workers.into_iter().for_each(|worker| assert_eq!(worker.join().unwrap(), Some(true)));
        assert_eq!(queue.task_done(), None, "more than were put");
    });
}

#[test]
fn channel_items_pass_a_bound_of_two_in_their_order() {
    check(4, || {
        let queue = queue(Some(2), &[]);
        let producer = start(&queue, |queue| [1, 2, 3].map(|item| put(queue, item)));
        assert_eq!([get(&queue), get(&queue), get(&queue)], [Some(1), Some(2), Some(3)]);
        assert_eq!(producer.join().unwrap(), [Ok(()); 3]);
        assert!(queue.is_empty());
    });
}

#[test]
fn channel_the_short_way_wakes_both_sides() {
    check(4, || {
        let queue = queue(Some(1), &[]);
        let producer = start(&queue, |queue| put(queue, 1).and_then(|()| put(queue, 2)));
        let consumer = start(&queue, get);
        // Whoever has come first: what it takes, it gives back; what it gives, the others have room for.
        if let Some(item) = queue.try_get() {
            put(&queue, item).unwrap();
        }
        producer.join().unwrap().unwrap();
        let mut got = [consumer.join().unwrap(), queue.try_get()];
        got.sort_unstable();
        assert_eq!(got, [Some(1), Some(2)]);
        assert_eq!(queue.try_put(3), Ok(()));
    });
}

#[test]
fn channel_a_short_put_wakes_one_who_waits_to_get() {
    check(4, || {
        let queue = queue(None, &[]);
        let consumers = [(); 2].map(|()| start(&queue, get));
        queue.try_put(1).unwrap();
        queue.try_put(2).unwrap();
        let mut got = consumers.map(|consumer| consumer.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [Some(1), Some(2)]);
    });
}
