//! Heaps and views, in one process that plays both sides.
#![cfg(all(target_os = "linux", not(loom)))]

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use raddle_shm::Segment;
use raddle_shm::heap::{Heap, Lease, Piece, View};

const SIZE: usize = 1 << 20;

fn both(keep: usize) -> (Arc<Heap>, Arc<View>) {
    let segment = Segment::create("test", SIZE).unwrap();
    (Heap::new(segment.map(0, SIZE).unwrap(), keep), View::new(segment.map(0, SIZE).unwrap()))
}

fn fill(lease: &Lease, with: u8) {
    // SAFETY: the lease is for these bytes, and the test alone uses them.
    unsafe { lease.as_ptr().write_bytes(with, lease.len()) };
}

fn bytes(lease: &Lease) -> &[u8] {
    // SAFETY: as above; nobody writes while the slice lives.
    unsafe { std::slice::from_raw_parts(lease.as_ptr(), lease.len()) }
}

#[test]
fn a_block_is_free_when_its_last_lease_ends() {
    let (heap, _) = both(SIZE);
    let first = heap.lease(1000).unwrap();
    let second = heap.find(first.as_ptr().wrapping_add(10), 20).unwrap();
    assert_eq!((second.piece().block, second.piece().start - first.piece().start, second.len()), (0, 10, 20));
    drop(first);
    assert_eq!(heap.blocks(), 1);
    drop(second);
    assert_eq!((heap.blocks(), heap.used()), (0, 0));
}

#[test]
fn what_is_not_inside_one_block_is_not_found() {
    let (heap, view) = both(SIZE);
    let lease = heap.lease(100).unwrap();
    let _next = heap.lease(100).unwrap();
    assert!(heap.find(lease.as_ptr(), 129).is_none(), "it would reach into the next block");
    assert!(heap.find(std::ptr::from_ref(&heap).cast(), 1).is_none(), "not in the heap");
    assert!(heap.receive(Piece { block: 64, start: 64, len: 1 }).is_none(), "no block begins there");
    assert!(view.find(lease.as_ptr(), 1).is_none(), "an address of the other mapping");
    let inside = SIZE as u64;
    for piece in [
        Piece { block: 0, start: inside, len: 1 },
        Piece { block: 0, start: 1, len: inside },
        Piece { block: 5, start: 4, len: 1 },
        Piece { block: 0, start: u64::MAX, len: 2 },
    ] {
        assert!(view.receive(piece).is_none(), "{piece:?}");
    }
}

#[test]
fn a_borrowed_block_is_named_once_for_each_lease_that_ends() {
    let (heap, view) = both(SIZE);
    let lease = heap.lease(5000).unwrap();
    fill(&lease, 7);
    let (one, two) = (view.receive_shared(lease.piece()).unwrap(), view.receive(lease.piece()).unwrap());
    assert!(bytes(&one).iter().all(|&byte| byte == 7));
    assert_eq!(view.find(one.as_ptr().wrapping_add(100), 50).unwrap().start, 100);
    assert_eq!(view.borrowed(), (5000, 1));
    drop(one);
    assert!(view.find(two.as_ptr(), 5000).is_some());
    drop(two);
    assert_eq!(view.borrowed(), (0, 0));
    assert_eq!(view.take_returns(1), [0]);
    view.keep_returns(vec![9]);
    assert_eq!(view.take_returns(10), [9, 0]);
    assert!(!view.has_returns());
}

#[test]
fn pages_above_the_mark_go_back_to_the_system() {
    let (heap, _) = both(8192);
    let lease = heap.lease(64 << 10).unwrap();
    fill(&lease, 1);
    drop(lease);
    let again = heap.lease(64 << 10).unwrap();
    assert!(bytes(&again)[..8192].iter().all(|&byte| byte == 1));
    assert!(bytes(&again)[8192..].iter().all(|&byte| byte == 0));
}

#[test]
fn what_was_borrowed_for_oneself_is_not_sent_on() {
    let (heap, view) = both(SIZE);
    let lease = heap.lease(5000).unwrap();
    let mine = view.receive(lease.piece()).unwrap();
    assert!(view.find(mine.as_ptr(), 10).is_none());
    let shared = view.receive_shared(lease.piece()).unwrap();
    assert_eq!(view.find(shared.as_ptr(), 10).unwrap().start, 0);
}

#[test]
fn what_is_lent_stays_until_it_is_given_back() {
    let (heap, view) = both(SIZE);
    let piece = heap.lease(100).unwrap().lend();
    assert_eq!(heap.blocks(), 1);
    drop(view.receive(piece).unwrap());
    view.take_returns(8).into_iter().for_each(|block| heap.given_back(block));
    assert_eq!(heap.blocks(), 0);
    heap.given_back(piece.block); // once too often: passed over
    assert_eq!(Arc::strong_count(&heap), 1, "a lease that was lent does not keep the heap");
}

#[derive(Clone, Debug)]
enum Step {
    Lease(usize),
    Send(usize),
    DropOwn(usize),
    DropTheirs(usize),
    SendHome(usize),
    Returns,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..9_000_usize).prop_map(Step::Lease),
        3 => any::<usize>().prop_map(Step::Send),
        3 => any::<usize>().prop_map(Step::DropOwn),
        3 => any::<usize>().prop_map(Step::DropTheirs),
        2 => any::<usize>().prop_map(Step::SendHome),
        2 => Just(Step::Returns),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// As long as anybody has a lease of a block, its bytes are what its first owner wrote; then it is free.
    #[test]
    fn bytes_stay_while_anybody_has_a_lease(steps in steps()) {
        let (heap, view) = both(16 << 10);
        let mut own: Vec<(u8, Lease)> = Vec::new();
        let mut theirs: Vec<(u8, Lease)> = Vec::new();
        let mut mark = 0_u8;
        for step in steps {
            match step {
                Step::Lease(len) => if let Some(lease) = heap.lease(len) {
                    mark = mark.wrapping_add(1);
                    fill(&lease, mark);
                    own.push((mark, lease));
                },
                Step::Send(any) if !own.is_empty() => {
                    let (mark, lease) = &own[any % own.len()];
                    let lent = heap.receive(lease.piece()).unwrap().lend();
                    theirs.push((*mark, view.receive_shared(lent).unwrap()));
                }
                Step::DropOwn(any) if !own.is_empty() => drop(own.swap_remove(any % own.len())),
                Step::DropTheirs(any) if !theirs.is_empty() => drop(theirs.swap_remove(any % theirs.len())),
                Step::SendHome(any) if !theirs.is_empty() => {
                    let (mark, lease) = &theirs[any % theirs.len()];
                    let piece = view.find(lease.as_ptr(), lease.len()).unwrap();
                    own.push((*mark, heap.receive(piece).unwrap()));
                }
                Step::Returns => view.take_returns(3).into_iter().for_each(|block| heap.given_back(block)),
                _ => {}
            }
            for (mark, lease) in own.iter().chain(&theirs) {
                prop_assert!(bytes(lease).iter().all(|byte| byte == mark));
            }
        }
        let mut blocks: HashMap<u64, usize> = HashMap::new();
        own.iter().chain(&theirs).for_each(|(_, lease)| *blocks.entry(lease.piece().block).or_default() += 1);
        view.take_returns(usize::MAX).into_iter().for_each(|block| heap.given_back(block));
        prop_assert_eq!(heap.blocks(), blocks.len());
        drop((own, theirs));
        view.take_returns(usize::MAX).into_iter().for_each(|block| heap.given_back(block));
        prop_assert_eq!((heap.blocks(), heap.used()), (0, 0));
    }
}
