//! Messages arrive in order, whole, once, whoever dies; no block is lost; a side is deserted when it is (channel.md).

use raddle_core::prim::Arc;
use raddle_core::prim::thread;
use raddle_shm::channel::Side;
use raddle_shm::channel::model::{Channel, Me};

fn made(slots: usize, blocks: usize) -> Arc<Channel> {
    Arc::new(Channel::new(slots, blocks, 3))
}

fn spawn<T: 'static>(channel: &Arc<Channel>, work: impl FnOnce(&Channel) -> T + 'static) -> thread::JoinHandle<T> {
    let channel = channel.clone();
    thread::spawn(move || work(&channel))
}

/// Sends, sleeping while there is no room.
fn send(channel: &Channel, me: Me, number: u64) {
    let gong = channel.gong(Side::Send);
    loop {
        let intention = gong.prepare();
        if channel.send(me, number) {
            return gong.pass_on(|| true);
        }
        gong.sleep(&intention, None);
    }
}

/// Takes, sleeping while there is nothing.
fn take(channel: &Channel, me: Me) -> u64 {
    let gong = channel.gong(Side::Receive);
    loop {
        let intention = gong.prepare();
        if let Some(taken) = channel.take(me) {
            gong.pass_on(|| true);
            return taken.unwrap();
        }
        gong.sleep(&intention, None);
    }
}

#[test]
fn messages_arrive_in_order_through_one_slot() {
    super::check(3, || {
        let channel = made(1, 1);
        let me = channel.join();
        let sender = spawn(&channel, move |channel| (1..=2).for_each(|number| send(channel, me, number)));
        assert_eq!([take(&channel, me), take(&channel, me)], [1, 2]);
        assert!(channel.take(me).is_none());
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_and_a_receiver_wrap_round_two_slots() {
    super::check(2, || {
        let channel = made(2, 1);
        let me = channel.join();
        let one = spawn(&channel, move |channel| (1..=2).for_each(|number| send(channel, me, number)));
        let other = spawn(&channel, move |channel| send(channel, me, 10));
        let mut taken = [take(&channel, me), take(&channel, me), take(&channel, me)];
        let ordered: Vec<_> = taken.into_iter().filter(|number| *number < 10).collect();
        assert_eq!(ordered, [1, 2]);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 10]);
        one.join().unwrap();
        other.join().unwrap();
    });
}

fn two_receivers_of_a_channel_with(slots: usize) {
    super::check(2, move || {
        let channel = made(slots, 1);
        let me = channel.join();
        let receivers = [0, 1].map(|_| spawn(&channel, move |channel| take(channel, me)));
        send(&channel, me, 1);
        send(&channel, me, 2);
        let mut taken = receivers.map(|receiver| receiver.join().unwrap());
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn two_receivers_take_each_message_once() {
    two_receivers_of_a_channel_with(2);
}

/// The second comes round to the slot while the first is not through with it.
#[test]
fn two_receivers_take_turns_at_one_slot() {
    two_receivers_of_a_channel_with(1);
}

#[test]
fn what_a_dead_sender_was_writing_is_skipped() {
    super::check(2, || {
        let channel = made(2, 1);
        let (dead, me) = (channel.join(), channel.join());
        channel.die_sending(dead);
        let undertakers = [0, 1].map(|_| spawn(&channel, move |channel| channel.bury(dead)));
        send(&channel, me, 7);
        assert_eq!(take(&channel, me), 7);
        undertakers.into_iter().for_each(|undertaker| undertaker.join().unwrap());
    });
}

#[test]
fn what_a_dead_receiver_was_taking_is_lost_and_nothing_else() {
    super::check(2, || {
        let channel = made(1, 1);
        let (dead, me) = (channel.join(), channel.join());
        assert!(channel.send(me, 6));
        channel.die_taking(dead);
        let undertakers = [0, 1].map(|_| spawn(&channel, move |channel| channel.bury(dead)));
        send(&channel, me, 7);
        assert_eq!(take(&channel, me), 7);
        undertakers.into_iter().for_each(|undertaker| undertaker.join().unwrap());
        assert!(channel.take(me).is_none());
    });
}

#[test]
fn a_block_that_a_dead_sender_has_sent_arrives_and_is_freed_once() {
    super::check(3, || {
        let channel = made(1, 1);
        let (dead, me) = (channel.join(), channel.join());
        let piece = channel.claim(dead).unwrap();
        assert!(channel.send_piece(dead, &piece));
        let undertaker = spawn(&channel, move |channel| channel.bury(dead));
        let piece = channel.take(me).unwrap().unwrap_err();
        assert!(channel.claim(me).is_none(), "it is in use");
        channel.give_back(me, &piece);
        undertaker.join().unwrap();
        assert!(channel.claim(me).is_some() && channel.claim(me).is_none());
    });
}

#[test]
fn a_block_that_a_dead_sender_has_not_sent_is_freed() {
    super::check(3, || {
        let channel = made(1, 1);
        let dead = channel.join();
        channel.claim(dead).unwrap();
        let undertakers = [0, 1].map(|_| spawn(&channel, move |channel| channel.bury(dead)));
        undertakers.into_iter().for_each(|undertaker| undertaker.join().unwrap());
        let me = channel.join();
        assert!(channel.claim(me).is_some() && channel.claim(me).is_none());
    });
}

#[test]
fn a_block_whose_sender_and_taker_have_died_is_freed() {
    super::check(2, || {
        let channel = made(1, 1);
        let (sender, taker) = (channel.join(), channel.join());
        let piece = channel.claim(sender).unwrap();
        assert!(channel.send_piece(sender, &piece));
        channel.die_taking(taker);
        let one = spawn(&channel, move |channel| channel.bury(sender));
        let other = spawn(&channel, move |channel| channel.bury(taker));
        one.join().unwrap();
        other.join().unwrap();
        let me = channel.join();
        assert!(channel.claim(me).is_some());
        assert!(channel.send(me, 1), "and its slot is free");
    });
}

#[test]
fn an_end_that_moves_is_always_counted_somewhere() {
    super::check(3, || {
        let channel = made(1, 1);
        let (from, to) = (channel.join(), channel.join());
        channel.add(from, Side::Send);
        let mover = spawn(&channel, move |channel| {
            let transit = channel.dispatch(from, Side::Send);
            channel.remove(from, Side::Send);
            channel.add(to, Side::Send);
            assert!(channel.arrived(transit) && !channel.arrived(transit));
        });
        assert!(!channel.is_deserted(Side::Send));
        mover.join().unwrap();
        channel.bury(to);
        assert!(channel.is_deserted(Side::Send));
    });
}

#[test]
fn a_receiver_that_sleeps_learns_that_the_last_sender_has_died() {
    super::check(3, || {
        let channel = made(1, 1);
        let (sender, me) = (channel.join(), channel.join());
        channel.add(sender, Side::Send);
        let undertaker = spawn(&channel, move |channel| channel.bury(sender));
        let gong = channel.gong(Side::Receive);
        loop {
            let intention = gong.prepare();
            assert!(channel.take(me).is_none());
            if channel.is_deserted(Side::Send) {
                break;
            }
            gong.sleep(&intention, None);
        }
        undertaker.join().unwrap();
    });
}

#[test]
fn two_receivers_that_sleep_learn_that_the_last_sender_is_closed() {
    super::check(2, || {
        let channel = made(2, 1);
        let me = channel.join();
        channel.add(me, Side::Send);
        let receive = move |channel: &Channel| {
            let gong = channel.gong(Side::Receive);
            let mut taken = 0;
            loop {
                let intention = gong.prepare();
                if channel.take(me).is_some() {
                    taken += 1;
                    continue;
                }
                if channel.is_deserted(Side::Send) {
                    taken += u32::from(channel.take(me).is_some());
                    gong.pass_on(|| false);
                    return taken;
                }
                gong.sleep(&intention, None);
            }
        };
        let receivers = [0, 1].map(|_| spawn(&channel, receive));
        assert!(channel.send(me, 1));
        channel.remove(me, Side::Send);
        assert_eq!(receivers.map(|receiver| receiver.join().unwrap()).iter().sum::<u32>(), 1);
    });
}
