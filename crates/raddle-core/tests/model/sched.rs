use crate::{check, later};
use raddle_core::park::{Crowd, Parker, with_current};
use raddle_core::prim::{Arc, thread};
use raddle_core::sched::{Piece, Pop, Queue, Quota, Waited};

/// Takes one item, however long it takes.
fn take<T>(queue: &Queue<T>) -> T {
    loop {
        match queue.pop() {
            Pop::Item(item) => return item,
            Pop::Empty => _ = queue.wait(None),
            Pop::Closed => panic!("the queue is closed"),
        }
    }
}

fn worker(queue: &Arc<Queue<u32>>) -> thread::JoinHandle<u32> {
    let queue = Arc::clone(queue);
    thread::spawn(move || take(&queue))
}

#[test]
fn two_producers_and_one_worker_lose_no_wake_up() {
    check(3, || {
        let queue = Arc::new(Queue::new());
        let producers = [1, 2].map(|item| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push(item).unwrap())
        });
        assert_eq!(take(&queue) + take(&queue), 3);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        assert_eq!((queue.len(), queue.sleeping()), (0, 0));
    });
}

#[test]
fn one_producer_wakes_two_workers_one_after_the_other() {
    check(3, || {
        let queue = Arc::new(Queue::new());
        let workers = [worker(&queue), worker(&queue)];
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        let sum: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(sum, 3);
    });
}

#[test]
fn two_items_at_once_wake_two_workers() {
    check(3, || {
        let queue = Arc::new(Queue::new());
        let workers = [worker(&queue), worker(&queue)];
        queue.push_many([1, 2]).unwrap();
        let sum: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(sum, 3);
    });
}

#[test]
fn closing_wakes_every_worker() {
    check(3, || {
        let queue = Arc::new(Queue::<u32>::new());
        let workers = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.wait(None))
        });
        queue.close();
        workers.into_iter().for_each(|worker| assert_eq!(worker.join().unwrap(), Waited::Closed));
        assert_eq!(queue.sleeping(), 0);
    });
}

/// Takes one part, however long it takes.
fn part_taker(queue: &Arc<Queue<(), ()>>) -> thread::JoinHandle<usize> {
    let queue = Arc::clone(queue);
    thread::spawn(move || {
        loop {
            match queue.take() {
                Pop::Item(Piece::Part(_, number)) => return number,
                Pop::Item(Piece::Item(())) | Pop::Closed => panic!("there is a span and nothing else"),
                Pop::Empty => _ = queue.wait(None),
            }
        }
    })
}

#[test]
fn a_span_of_two_parts_wakes_two_workers() {
    check(3, || {
        let queue = Arc::new(Queue::with_spans());
        let workers = [part_taker(&queue), part_taker(&queue)];
        queue.push_parts(0, &Arc::new(()), 0..2, &mut Vec::new()).unwrap();
        let sum: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(sum, 1);
    });
}

#[test]
fn a_part_that_joins_others_wakes_a_worker() {
    check(3, || {
        let queue = Arc::new(Queue::with_spans());
        let (span, mut places) = (Arc::new(()), Vec::new());
        let workers = [part_taker(&queue), part_taker(&queue)];
        queue.push_parts(0, &span, 0..1, &mut places).unwrap();
        queue.push_parts(0, &span, 1..2, &mut places).unwrap();
        let sum: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(sum, 1);
    });
}

#[test]
fn each_part_is_taken_or_taken_back() {
    check(3, || {
        let queue = Arc::new(Queue::<(), ()>::with_spans());
        let (span, mut places) = (Arc::new(()), Vec::new());
        queue.push_parts(0, &span, 0..2, &mut places).unwrap();
        let (there, same) = (Arc::clone(&queue), Arc::clone(&span));
        let worker = thread::spawn(move || {
            let first = matches!(there.take(), Pop::Item(Piece::Part(..)));
            usize::from(first) + usize::from(there.take_next_of(&same).is_some())
        });
        let back = queue.take_parts(places[0], &span).map_or(0, |parts| parts.len());
        assert_eq!(worker.join().unwrap() + back, 2);
        assert_eq!(queue.len(), 0);
    });
}

#[test]
fn a_push_and_a_close_are_both_noticed() {
    check(3, || {
        let queue = Arc::new(Queue::new());
        let there = Arc::clone(&queue);
        let worker = thread::spawn(move || {
            let mut sum = 0;
            loop {
                match there.pop() {
                    Pop::Item(item) => sum += item,
                    Pop::Empty => _ = there.wait(None),
                    Pop::Closed => return sum,
                }
            }
        });
        let there = Arc::clone(&queue);
        let producer = thread::spawn(move || u32::from(there.push(1).is_ok()));
        queue.close();
        assert_eq!(worker.join().unwrap(), producer.join().unwrap(), "what was taken in comes out");
    });
}

#[test]
fn a_worker_whose_deadline_passes_while_it_is_called_says_that_there_is_an_item() {
    check(3, || {
        let queue = Arc::new(Queue::new());
        let other = worker(&queue);
        let there = Arc::clone(&queue);
        let hasty = thread::spawn(move || match there.wait(later()) {
            Waited::Ready => match there.pop() {
                Pop::Item(item) => there.push_front(item),
                Pop::Empty => {}
                Pop::Closed => unreachable!("nobody closes it"),
            },
            Waited::TimedOut => {}
            answer => unreachable!("{answer:?}"),
        });
        queue.push(1).unwrap();
        assert_eq!(other.join().unwrap(), 1);
        hasty.join().unwrap();
        assert_eq!((queue.len(), queue.sleeping()), (0, 0));
    });
}

#[test]
fn a_worker_that_is_interrupted_while_it_is_called_hands_the_call_on() {
    check(3, || {
        let queue = Arc::new(Queue::new());
        let other = worker(&queue);
        let there = Arc::clone(&queue);
        let interrupted = thread::spawn(move || {
            let me = with_current(Parker::unparker);
            let sender = thread::spawn(move || me.signal());
            match there.wait(None) {
                Waited::Ready => match there.pop() {
                    Pop::Item(item) => there.push_front(item),
                    Pop::Empty => {}
                    Pop::Closed => unreachable!("nobody closes it"),
                },
                Waited::Interrupted => {} // it never comes back
                answer => unreachable!("{answer:?}"),
            }
            sender.join().unwrap();
        });
        queue.push(1).unwrap();
        assert_eq!(other.join().unwrap(), 1);
        interrupted.join().unwrap();
        assert_eq!((queue.len(), queue.sleeping()), (0, 0));
    });
}

/// Enters a full quota, and waits for that in a crowd.
fn enter(quota: &Quota, crowd: &Crowd) {
    while !quota.enter(1) {
        with_current(|parker| {
            let _in_crowd = crowd.enter(parker.unparker());
            while !quota.has_room() {
                let _ = parker.park(None);
            }
        });
    }
}

#[test]
fn whoever_leaves_a_full_quota_lets_a_waiter_in() {
    check(3, || {
        let shared = Arc::new((Quota::new(Some(1)), Crowd::default()));
        let others = [1, 2].map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (quota, crowd) = &*shared;
                enter(quota, crowd);
                assert_eq!(quota.taken(), 1, "one at a time");
                quota.leave(1);
                crowd.wake();
            })
        });
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.0.taken(), 0);
    });
}

#[test]
fn a_quota_that_is_closed_holds_nobody_back() {
    check(3, || {
        let shared = Arc::new((Quota::new(Some(1)), Crowd::default()));
        assert!(shared.0.enter(1));
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                with_current(|parker| {
                    let _in_crowd = shared.1.enter(parker.unparker());
                    while !shared.0.has_room() {
                        let _ = parker.park(None);
                    }
                });
            })
        };
        shared.0.close();
        shared.1.wake();
        waiter.join().unwrap();
    });
}
