//! Channels with two sides, and the choice among several.

use std::cell::Cell;

use crate::{check, later};
use raddle_core::channel::{
    Broadcast, Case, Channel, Claim, Joined, Place, Received, Sent, Tried, Turn, Watch, try_all,
};
use raddle_core::park::{Waiter, Wake};
use raddle_core::prim::{Arc, thread};

type Numbers = Channel<u32>;

/// To receive from a channel, or to send a number through one.
enum Thing<'a> {
    Recv(&'a Numbers),
    Send(&'a Numbers, Cell<Option<u32>>),
}

fn recv(channel: &Numbers) -> Thing<'_> {
    Thing::Recv(channel)
}

fn send(channel: &Numbers, item: u32) -> Thing<'_> {
    Thing::Send(channel, Cell::new(Some(item)))
}

/// Nobody will ever take it.
#[derive(Debug, PartialEq, Eq)]
struct Refused;

impl Case for Thing<'_> {
    type Value = Option<u32>;
    type Error = Refused;

    fn attempt(&self, place: Option<Place<'_>>) -> Result<Tried<Option<u32>>, Refused> {
        match self {
            Self::Recv(channel) => Ok(match channel.recv(place) {
                Received::Item(item) => Tried::Happened(Some(item)),
                Received::Closed => Tried::Never,
                _ => Tried::NotYet,
            }),
            Self::Send(channel, item) => {
                let Some(number) = item.take() else { return Ok(Tried::NotYet) };
                match channel.send(number, place) {
                    Sent::Done => Ok(Tried::Happened(None)),
                    Sent::Full(back) => {
                        item.set(Some(back));
                        Ok(Tried::NotYet)
                    }
                    Sent::Closed(_) => Err(Refused),
                }
            }
        }
    }

    fn is_offer(&self) -> bool {
        matches!(self, Self::Send(channel, _) if channel.is_rendezvous())
    }

    fn offer(&self, number: usize, claim: &Arc<Claim>, waiter: &Arc<Waiter>) {
        if let Self::Send(channel, item) = self
            && channel.is_rendezvous()
        {
            channel.offer(item.take().expect("it lies here between turns"), claim, number, waiter);
        }
    }

    fn take_back(&self, number: usize, claim: &Arc<Claim>) {
        if let Self::Send(channel, item) = self
            && let Some(back) = channel.take_back(claim, number)
        {
            item.set(Some(back));
        }
    }

    fn leave(&self, waiter: &Arc<Waiter>) {
        match self {
            Self::Recv(channel) => channel.leave_recv(waiter),
            Self::Send(channel, _) => channel.leave_send(waiter),
        }
    }
}

/// What has happened; `None`: nothing ever will. With `gives_up` it may leave at any moment, and then nothing has happened.
fn choose(cases: &[Thing<'_>], gives_up: bool) -> Result<Option<(usize, Option<u32>)>, Refused> {
    loop {
        match try_all(cases, 0)? {
            Tried::Happened(happened) => return Ok(Some(happened)),
            Tried::Never => return Ok(None),
            Tried::NotYet => {}
        }
        let turn = match Turn::join(cases, 0, Waiter::new(), false)? {
            Joined::Standing(turn) => turn,
            Joined::Happened(happened) => return Ok(Some(happened)),
            Joined::Never => return Ok(None),
        };
        let wake = turn.waiter().park(gives_up.then(later).flatten());
        if let Some(number) = turn.end() {
            return Ok(Some((number, None)));
        }
        if wake == Wake::TimedOut {
            return Ok(None);
        }
    }
}

fn start<R: 'static>(shared: &Arc<[Numbers; 2]>, act: impl Fn(&[Numbers; 2]) -> R + 'static) -> thread::JoinHandle<R> {
    let shared = Arc::clone(shared);
    thread::spawn(move || act(&shared))
}

fn two(capacity: usize) -> Arc<[Numbers; 2]> {
    Arc::new([Channel::new(Some(capacity)), Channel::new(Some(capacity))])
}

fn sent(channel: &Numbers, item: u32) -> bool {
    choose(&[send(channel, item)], false) == Ok(Some((0, None)))
}

fn received(channel: &Numbers) -> Option<u32> {
    choose(&[recv(channel)], false).unwrap().and_then(|(_, item)| item)
}

#[test]
fn choice_a_rendezvous_hands_over_in_order() {
    check(3, || {
        let shared = two(0);
        let sender = start(&shared, |[channel, _]| {
            assert!(sent(channel, 1) && sent(channel, 2));
            channel.drop_sender();
        });
        assert_eq!([received(&shared[0]), received(&shared[0]), received(&shared[0])], [Some(1), Some(2), None]);
        sender.join().unwrap();
    });
}

#[test]
fn choice_an_offer_is_withdrawn_or_accepted_never_both() {
    check(4, || {
        let shared = two(0);
        let sender = start(&shared, |[channel, _]| choose(&[send(channel, 1)], true).unwrap().is_some());
        let got = choose(&[recv(&shared[0])], true).unwrap();
        assert_eq!(sender.join().unwrap(), got.is_some());
    });
}

#[test]
fn choice_two_receivers_take_two_offers() {
    check(3, || {
        let shared = two(0);
        let receivers = [(); 2].map(|()| start(&shared, |[channel, _]| received(channel)));
        assert!(sent(&shared[0], 1) && sent(&shared[0], 2));
        let mut got = receivers.map(|receiver| receiver.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [Some(1), Some(2)]);
    });
}

#[test]
fn choice_of_two_offers_one_is_accepted() {
    check(3, || {
        let shared = two(0);
        let receivers =
            [0, 1].map(|which| start(&shared, move |channels| choose(&[recv(&channels[which])], true).unwrap()));
        let made = choose(&[send(&shared[0], 7), send(&shared[1], 8)], true).unwrap();
        let [left, right] = receivers.map(|receiver| receiver.join().unwrap().and_then(|(_, item)| item));
        match made {
            Some((0, None)) => assert_eq!((left, right), (Some(7), None)),
            Some((1, None)) => assert_eq!((left, right), (None, Some(8))),
            other => assert_eq!((other, left, right), (None, None, None)),
        }
    });
}

#[test]
fn choice_of_two_who_would_send_or_receive_meets_somewhere() {
    check(2, || {
        let shared = two(0);
        let other = start(&shared, |[left, right]| choose(&[send(right, 2), recv(left)], false).unwrap().unwrap());
        let [left, right] = &*shared;
        let mine = choose(&[send(left, 1), recv(right)], false).unwrap().unwrap();
        match (mine, other.join().unwrap()) {
            ((0, None), (1, Some(1))) | ((1, Some(2)), (0, None)) => {}
            other => panic!("they met nowhere: {other:?}"),
        }
    });
}

#[test]
fn choice_does_not_meet_itself() {
    check(3, || {
        let shared = two(0);
        let other = start(&shared, |[channel, _]| sent(channel, 2));
        let [channel, _] = &*shared;
        let mine = choose(&[recv(channel), send(channel, 1)], false).unwrap();
        assert_eq!(mine, Some((0, Some(2))));
        assert!(other.join().unwrap());
    });
}

#[test]
fn choice_of_two_receives_each_item_once() {
    check(3, || {
        let shared = two(1);
        let senders = [0, 1].map(|which| start(&shared, move |channels| sent(&channels[which], which as u32)));
        let [left, right] = &*shared;
        let mut got = [(); 2].map(|()| choose(&[recv(left), recv(right)], false).unwrap().unwrap());
        got.sort_unstable();
        assert_eq!(got, [(0, Some(0)), (1, Some(1))]);
        senders.into_iter().for_each(|sender| assert!(sender.join().unwrap()));
    });
}

#[test]
fn choice_passes_on_the_call_it_does_not_use() {
    check(3, || {
        let shared = two(1);
        // It waits at both, and takes one; whoever waits at the other one alone must not sleep for ever.
        let both = start(&shared, |[left, right]| choose(&[recv(left), recv(right)], false).unwrap().unwrap());
        let one = start(&shared, |[_, right]| received(right));
        assert!(sent(&shared[1], 5) && sent(&shared[0], 6));
        // If both has taken the five, the six is left for nobody, and another five is due.
        let both = both.join().unwrap();
        if both == (1, Some(5)) {
            assert!(sent(&shared[1], 5));
        } else {
            assert_eq!(both, (0, Some(6)));
        }
        assert_eq!(one.join().unwrap(), Some(5));
    });
}

#[test]
fn choice_who_leaves_a_full_channel_lets_the_next_sender_in() {
    check(3, || {
        let shared = two(1);
        assert!(sent(&shared[0], 0));
        let hasty = start(&shared, |[channel, _]| {
            let made = choose(&[send(channel, 1)], true).unwrap().is_some();
            made && received(channel).is_some()
        });
        let patient = start(&shared, |[channel, _]| sent(channel, 2));
        assert!(received(&shared[0]).is_some());
        assert!(patient.join().unwrap());
        hasty.join().unwrap();
    });
}

#[test]
fn choice_ends_with_the_last_sender() {
    check(4, || {
        let shared = two(1);
        assert!(shared[0].add_sender());
        let senders = [(); 2].map(|()| start(&shared, |[channel, _]| channel.drop_sender()));
        assert_eq!(received(&shared[0]), None);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn choice_ends_with_the_last_receiver_for_who_sends_and_who_offers() {
    for capacity in [0, 1] {
        check(4, move || {
            let shared = two(capacity);
            (0..capacity).for_each(|_| assert!(sent(&shared[0], 0)));
            let sender = start(&shared, |[channel, _]| choose(&[send(channel, 1)], false));
            assert_eq!(shared[0].drop_receiver().len(), capacity);
            assert_eq!(sender.join().unwrap(), Err(Refused));
        });
    }
}

#[test]
fn choice_one_item_comes_once_and_is_the_last() {
    check(4, || {
        let channel = Arc::new(Channel::once());
        let there = Arc::clone(&channel);
        let sender = thread::spawn(move || matches!(there.send(1, None), Sent::Done));
        let other = matches!(channel.send(2, None), Sent::Done);
        let first = sender.join().unwrap();
        assert!(first != other);
        assert_eq!(received(&channel), Some(if first { 1 } else { 2 }));
        assert_eq!(received(&channel), None);
    });
}

fn next(channel: &Broadcast<u32>, receiver: u64) -> Option<u32> {
    loop {
        let waiter = Waiter::new();
        match channel.recv(receiver, |item| *item, Some(Place::new(&waiter))).0 {
            Received::Item(item) => return Some(item),
            Received::Empty => assert_eq!(waiter.park(None), Wake::Unparked),
            Received::Closed => return None,
            Received::Lagged(_) => unreachable!("nothing is overwritten"),
        }
    }
}

#[test]
fn choice_a_broadcast_reaches_all_and_waits_for_the_slowest() {
    check(2, || {
        let channel = Arc::new(Broadcast::new(1, false));
        let receivers = [channel.add_receiver(), channel.add_receiver()];
        let threads = receivers.map(|receiver| {
            let there = Arc::clone(&channel);
            thread::spawn(move || [next(&there, receiver), next(&there, receiver), next(&there, receiver)])
        });
        for item in [1, 2] {
            loop {
                let waiter = Waiter::new();
                match channel.send(item, Some(Place::new(&waiter))) {
                    Sent::Done => break,
                    Sent::Full(_) => assert_eq!(waiter.park(None), Wake::Unparked),
                    Sent::Closed(_) => unreachable!(),
                }
            }
        }
        channel.drop_sender();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), [Some(1), Some(2), None]));
    });
}

#[test]
fn choice_a_watch_shows_the_latest() {
    check(4, || {
        let watch = Arc::new(Watch::new(0));
        let there = Arc::clone(&watch);
        let sender = thread::spawn(move || {
            there.send(1);
            there.send(2);
            there.drop_sender();
        });
        let (mut seen, mut last) = (0, 0);
        loop {
            let waiter = Waiter::new();
            match watch.recv(seen, |value| *value, Some(Place::new(&waiter))) {
                Received::Item((value, version)) => {
                    assert!(value > last && version > seen);
                    (last, seen) = (value, version);
                }
                Received::Empty => assert_eq!(waiter.park(None), Wake::Unparked),
                _ => break,
            }
        }
        assert_eq!(last, 2);
        sender.join().unwrap();
    });
}
