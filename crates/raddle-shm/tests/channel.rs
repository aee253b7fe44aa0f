//! Messages between processes that are killed at random moments, and memory that somebody scribbles over.
#![cfg(all(target_os = "linux", not(loom)))]

mod support;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};
use raddle_core::prim::thread;
use raddle_shm::Segment;
use raddle_shm::channel::{INLINE, Member, Message, Received, Refusal, Side};
use support::{FOR_EVER, Numbers, Peer, parents_segment};

fn made(capacity: usize, limit: Option<usize>) -> Arc<Member> {
    Arc::new(Member::create("raddle-test", capacity, limit, std::process::id(), 0).unwrap())
}

fn opened(segment: &Segment) -> Arc<Member> {
    let fd = segment.as_fd().try_clone_to_owned().unwrap();
    Arc::new(Member::open(fd, std::process::id(), 0).unwrap())
}

fn segment_of(member: &Member) -> Segment {
    Segment::from_fd(member.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

/// Waits at a gong until an attempt succeeds.
fn until<T>(member: &Member, side: Side, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let intention = member.gong(side).prepare();
        if let Some(value) = attempt() {
            member.gong(side).pass_on(|| member.is_ready(side));
            return Some(value);
        }
        if member.is_deserted(side.other()) {
            return attempt();
        }
        member.gong(side).sleep(&intention, Some(FOR_EVER));
        assert!(begun.elapsed() < FOR_EVER, "nobody has rung");
    }
}

fn send(member: &Arc<Member>, kind: u8, bytes: &[u8]) -> bool {
    if bytes.len() <= INLINE {
        return until(member, Side::Send, || member.send(kind, bytes).unwrap().then_some(())).is_some();
    }
    let begun = Instant::now();
    let mut draft = loop {
        let intention = member.space().prepare();
        match member.draft(bytes.len()) {
            Ok(draft) => break Some(draft),
            Err(Refusal::NoSpace) => member.space().sleep(&intention, Some(FOR_EVER)),
            Err(Refusal::TooLong) => panic!("{} bytes are not much", bytes.len()),
        };
        assert!(begun.elapsed() < FOR_EVER, "nobody has made room");
    };
    draft.as_mut().unwrap().write(0, bytes);
    let sent = until(member, Side::Send, || {
        draft = member.send_draft(kind, draft.take().unwrap()).unwrap();
        draft.is_none().then_some(())
    });
    sent.is_some()
}

fn receive(member: &Arc<Member>) -> Option<Received> {
    until(member, Side::Receive, || member.receive().unwrap())
}

/// The nth message of a sender: its number, and as many bytes more as the number says.
fn message(sender: u64, number: u64) -> Vec<u8> {
    let len = match number % 7 {
        0..4 => 16,
        4 => INLINE,
        5 => INLINE + 1,
        _ => 10_000,
    };
    let mut bytes = vec![(sender + number) as u8; len];
    bytes[..8].copy_from_slice(&sender.to_ne_bytes());
    bytes[8..16].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// Who has sent it, and which it is.
fn checked(received: &Received) -> (u64, u64) {
    let bytes = received.message.bytes();
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let (sender, number) = (word(0), word(8));
    assert_eq!(bytes, message(sender, number), "whole");
    (sender, number)
}

#[test]
fn threads_on_both_sides_get_everything_once_and_in_order() {
    const EACH: u64 = 3000;
    let member = made(5, None);
    for side in [Side::Send, Side::Receive] {
        (0..3).for_each(|_| _ = member.add(side));
    }
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let member = member.clone();
            thread::spawn(move || {
                let mut got: Vec<(u64, u64)> = Vec::new();
                while let Some(received) = receive(&member) {
                    got.push(checked(&received));
                }
                got
            })
        })
        .collect();
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            let member = member.clone();
            thread::spawn(move || {
                (0..EACH).for_each(|number| assert!(send(&member, 1, &message(sender, number))));
                member.remove(Side::Send);
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let mut all = Vec::new();
    for receiver in receivers {
        let got = receiver.join().unwrap();
        for sender in 0..3 {
            let numbers: Vec<_> = got.iter().filter(|(from, _)| *from == sender).map(|(_, number)| *number).collect();
            assert!(numbers.is_sorted_by(|one, other| one < other), "in order");
        }
        all.extend(got);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq((0..3).flat_map(|sender| (0..EACH).map(move |number| (sender, number)))));
    assert_eq!((member.len(), member.bytes()), (0, 0));
}

#[test]
fn a_full_channel_takes_nothing_more_and_bytes_are_bounded_too() {
    let member = made(2, Some(10_000));
    member.add(Side::Receive);
    member.add(Side::Send);
    assert!(member.send(1, b"a").unwrap() && member.send(1, b"b").unwrap() && !member.send(1, b"c").unwrap());
    assert_eq!(member.draft(10_001).unwrap_err(), Refusal::TooLong);
    let draft = member.draft(6000).unwrap();
    assert_eq!(member.draft(6000).unwrap_err(), Refusal::NoSpace);
    let draft = member.send_draft(1, draft).unwrap().expect("it is full");
    member.receive().unwrap().unwrap();
    assert!(member.send_draft(1, draft).unwrap().is_none());
    member.receive().unwrap().unwrap();
    assert_eq!(member.draft(6000).unwrap_err(), Refusal::NoSpace);
    let Received { message: kept @ Message::Long(_), .. } = member.receive().unwrap().unwrap() else { panic!("long") };
    drop(member.draft(6000).expect("what was received does not count"));
    drop(kept);
    assert_eq!(member.bytes(), 0);
}

#[test]
fn a_message_of_64_mebibytes_crosses_and_its_memory_is_used_again() {
    let member = made(1, None);
    member.add(Side::Send);
    for number in 0..3_u8 {
        let mut draft = member.draft(64 << 20).unwrap();
        draft.write((64 << 20) - 3, &[number; 3]);
        assert!(member.send_draft(2, draft).unwrap().is_none());
        let received = member.receive().unwrap().unwrap();
        assert_eq!((received.kind, &received.message.bytes()[(64 << 20) - 3..]), (2, &[number; 3][..]));
    }
}

/// A process that sends until it is killed, and begins where the last one of its number has ended.
#[test]
fn nothing_is_lost_or_doubled_when_senders_and_receivers_are_killed() {
    const NAME: &str = "nothing_is_lost_or_doubled_when_senders_and_receivers_are_killed";
    if let Some(segment) = parents_segment() {
        let member = opened(&segment);
        // Of the test's own ends there is a receiver only where peers may receive, too.
        let receives = member.count(Side::Receive) > 1 && std::process::id().is_multiple_of(2);
        if !receives {
            member.add(Side::Send);
            let sender = u64::from(std::process::id());
            for number in 0.. {
                send(&member, 1, &message(sender, number));
            }
        } else {
            member.add(Side::Receive);
            while let Some(received) = receive(&member) {
                checked(&received);
            }
        }
        return;
    }
    let mut numbers = Numbers::fresh();
    let member = made(3, None);
    let segment = segment_of(&member);
    member.add(Side::Receive);
    member.add(Side::Send);
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let rounds = if std::env::var_os("RADDLE_STRESS").is_some() { 400 } else { 40 };
    let (mut missing, mut with_receivers) = (0, 0);
    let look = |received: &Received, seen: &mut HashMap<u64, u64>, missing: &mut u64| {
        let (sender, number) = checked(received);
        let next = seen.entry(sender).or_insert(0);
        assert!(number >= *next, "message {number} of {sender} after {next}: twice, or out of order");
        *missing += number - *next;
        *next = number + 1;
    };
    for round in 0..rounds {
        // In every other round peers receive, too: what they have received is missing here.
        let before = missing;
        if round % 2 == 1 {
            member.add(Side::Receive);
        }
        let mut peers = [Peer::start(NAME, &segment), Peer::start(NAME, &segment), Peer::start(NAME, &segment)];
        // Some are killed while they start; most once they send, however long their start takes on this machine.
        let life = Duration::from_millis(5 + numbers.below(30));
        let mut send = numbers.below(4) == 0;
        let mut until_then = Instant::now() + if send { life } else { FOR_EVER };
        while Instant::now() < until_then {
            let intention = member.gong(Side::Receive).prepare();
            let received = member.receive().unwrap();
            // Where peers receive, too, none of it may come here.
            if !send && (received.is_some() || round % 2 == 1 && member.others().len() == peers.len()) {
                (send, until_then) = (true, Instant::now() + life);
            }
            match received {
                Some(received) => look(&received, &mut seen, &mut missing),
                None => _ = member.gong(Side::Receive).sleep(&intention, Some(Duration::from_millis(5))),
            }
        }
        peers.iter_mut().for_each(Peer::kill);
        peers.iter_mut().for_each(|peer| _ = peer.wait());
        member.others().iter().for_each(|(other, ..)| member.bury(*other));
        while let Some(received) = member.receive().unwrap() {
            look(&received, &mut seen, &mut missing);
        }
        if round % 2 == 1 {
            member.remove(Side::Receive);
            with_receivers += missing - before;
        } else {
            assert_eq!(missing, before, "what was sent has come");
        }
        assert_eq!((member.len(), member.bytes(), member.count(Side::Send)), (0, 0, 1), "all is cleared up");
        // Every slot and block is usable.
        assert!((0..3).all(|_| member.send(9, &message(1 << 40, 0)[..16]).unwrap()) && !member.send(9, &[]).unwrap());
        (0..3).for_each(|_| _ = member.receive().unwrap().unwrap());
        let drafts: Vec<_> = std::iter::from_fn(|| member.draft(200).ok()).collect();
        assert_eq!(drafts.len(), 3 + 64 + 1024, "no block is lost");
    }
    eprintln!("{} senders were killed; peers received {with_receivers} messages", seen.len());
    assert!(seen.len() > rounds / 4, "they were killed before they had sent anything");
}

/// Words that are nearly right, or anything.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..3_u64, 0..5_u64, 0..4_u64).prop_map(|(lap, state, owner)| lap << 28 | state << 25 | owner << 15),
        (0..2_u64, 0..4_u64).prop_map(|(lap, slot)| lap << 28 | slot),
        (0..3_u64, 0..3_u64, 0..4_u64)
            .prop_map(|(generation, usage, owner)| generation << 32 | usage << 28 | owner << 15),
        (0..4_u64, 0..200_u64).prop_map(|(kind, len)| kind << 55 | len),
        any::<u64>(),
    ]
}

/// Where the parts begin: see `Shape::places`.
const SLOTS: usize = 4096 + 1024 * 64 + 4096 * 8;

fn place() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..96_usize,
        (0..48_usize).prop_map(|at| SLOTS / 8 + at),
        (0..64_usize).prop_map(|at| SLOTS / 8 + 48 + at),
        512..700_usize
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default()
    })]

    #[test]
    fn all_sides_survive_whatever_is_written_into_the_books(
        steps in proptest::collection::vec((place(), word(), 0..9_u8), 1..60)
    ) {
        let member = made(3, Some(1 << 20));
        let other = opened(&segment_of(&member));
        let segment = segment_of(&member);
        let books = segment.map(0, (SLOTS + 3 * 128 + 1100 * 64).next_multiple_of(4096)).unwrap();
        let mut kept = Vec::new();
        for (at, word, act) in steps {
            books.get::<AtomicU64>(at * 8).store(word, Relaxed);
            match act {
                0 | 1 => _ = member.send(1, &[7; 20]),
                2 => {
                    if let Ok(mut draft) = member.draft(500) {
                        draft.write(0, &[3; 500]);
                        _ = member.send_draft(1, draft);
                    }
                }
                3 | 4 => {
                    if let Ok(Some(received)) = other.receive() {
                        let bytes = received.message.bytes();
                        assert!(bytes.len() <= 1 << 20);
                        std::hint::black_box(bytes.iter().fold(0_u64, |sum, &byte| sum + u64::from(byte)));
                        kept.push(received);
                    }
                }
                5 => member.others().iter().for_each(|(other, ..)| member.bury(*other)),
                6 => {
                    std::hint::black_box((member.is_deserted(Side::Send), member.len(), member.bytes(), member.may_keep()));
                    member.add(Side::Send);
                    other.remove(Side::Receive);
                }
                7 => kept.clear(),
                _ => _ = member.dispatch(Side::Send).map(|transit| other.arrived(transit)),
            }
        }
        // Not through the mapping that the test has: the shape was read once.
        prop_assert!(member.capacity() == 3 && member.longest() == 1 << 20);
    }
}

#[test]
fn a_segment_that_is_no_channel_is_refused() {
    let segment = Segment::create("raddle-test", 1 << 20).unwrap();
    let open = || Member::open(segment.as_fd().try_clone_to_owned().unwrap(), 1, 0);
    assert!(open().is_err(), "zeros");
    let channel = made(3, Some(4096));
    let shape = |of: &Segment| of.map(0, 4096).unwrap();
    let (from, to) = (shape(&segment_of(&channel)), shape(&segment));
    for at in (0..4096).step_by(8) {
        to.get::<AtomicU64>(at).store(from.get::<AtomicU64>(at).load(Relaxed), Relaxed);
    }
    assert!(open().is_err(), "too short for what it says");
}

/// Not only between two steps: another process writes all the time.
#[test]
fn a_process_that_scribbles_all_the_time_disturbs_nobody_but_the_messages() {
    const NAME: &str = "a_process_that_scribbles_all_the_time_disturbs_nobody_but_the_messages";
    let mut numbers = Numbers::fresh();
    if let Some(segment) = parents_segment() {
        let books = segment.map(0, (SLOTS + 3 * 128 + 64 * 64).next_multiple_of(4096)).unwrap();
        loop {
            let at = match numbers.below(3) {
                0 => 8 * numbers.below(96),
                1 => SLOTS as u64 + 8 * numbers.below(48),
                _ => SLOTS as u64 + 3 * 128 + 8 * numbers.below(300),
            };
            let word = match numbers.below(3) {
                0 => numbers.below(3) << 28 | numbers.below(5) << 25 | numbers.below(3) << 15,
                1 => numbers.below(4) << 55 | numbers.below(300),
                _ => numbers.below(u64::MAX),
            };
            books.get::<AtomicU64>(at as usize).store(word, Relaxed);
        }
    }
    if cfg!(raddle_tsan) {
        return; // the two sides are meant to race here
    }
    let member = made(3, Some(1 << 20));
    let segment = segment_of(&member);
    let mut peer = Peer::start(NAME, &segment);
    let (begun, mut garbled, mut received) = (Instant::now(), 0_u64, 0_u64);
    while begun.elapsed() < Duration::from_millis(500) || garbled == 0 {
        assert!(begun.elapsed() < FOR_EVER, "the other side has not begun");
        garbled += u64::from(member.send(1, &[1; 40]).is_err());
        if let Ok(draft) = member.draft(300) {
            garbled += u64::from(member.send_draft(1, draft).is_err());
        }
        match member.receive() {
            Ok(None) => {}
            Ok(Some(message)) => received += message.message.bytes().iter().map(|&byte| u64::from(byte)).sum::<u64>(),
            Err(_) => garbled += 1,
        }
        member.others().iter().for_each(|(other, ..)| member.bury(*other));
        std::hint::black_box(member.is_deserted(Side::Send));
    }
    std::hint::black_box(received);
    peer.kill();
    peer.wait();
}
