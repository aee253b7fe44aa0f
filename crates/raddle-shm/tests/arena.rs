//! The bookkeeping of a region, against a plain list of blocks.
#![cfg(all(target_os = "linux", not(loom)))]

use proptest::prelude::*;
use raddle_shm::Arena;

#[test]
fn blocks_lie_one_behind_the_other_at_multiples_of_64() {
    let mut arena = Arena::new(1024, 4096);
    assert_eq!(
        [arena.alloc(1), arena.alloc(64), arena.alloc(65), arena.alloc(0)],
        [Some(0), Some(64), Some(128), Some(256)]
    );
    assert_eq!((arena.outstanding(), arena.high_water()), (4, 320));
}

#[test]
fn an_empty_arena_starts_again_at_zero() {
    let mut arena = Arena::new(1024, 4096);
    for _ in 0..100 {
        let (a, b) = (arena.alloc(500).unwrap(), arena.alloc(500).unwrap());
        assert_eq!((a, b), (0, 512));
        assert_eq!(arena.alloc(1), None);
        assert!(arena.free(a) && arena.free(b));
    }
}

#[test]
fn blocks_that_are_given_back_in_order_make_room_for_new_ones() {
    let mut arena = Arena::new(4096, 4096);
    let mut last = arena.alloc(1000).unwrap();
    for _ in 0..100 {
        let next = arena.alloc(1000).unwrap();
        assert!(arena.free(last));
        last = next;
    }
    assert_eq!(arena.high_water(), 2048, "two at a time never need more than twice the room");
}

#[test]
fn a_payload_over_the_soft_limit_goes_alone() {
    let mut arena = Arena::new(1024, 4096);
    let small = arena.alloc(10).unwrap();
    assert_eq!(arena.alloc(2000), None);
    arena.free(small);
    let large = arena.alloc(2000).unwrap();
    assert_eq!(arena.alloc(10), None, "behind it is beyond the soft limit");
    arena.free(large);
    assert_eq!(arena.alloc(4096), Some(0));
    assert_eq!(Arena::new(1024, 4096).alloc(4097), None);
    assert_eq!(Arena::new(1024, 4096).alloc(usize::MAX), None);
}

#[test]
fn what_is_not_a_block_is_not_given_back() {
    let mut arena = Arena::new(1024, 4096);
    let block = arena.alloc(100).unwrap();
    assert!(!arena.free(64) && !arena.free(usize::MAX));
    assert!(arena.free(block) && !arena.free(block));
    assert_eq!(arena.outstanding(), 0);
}

#[test]
fn the_mark_stays_until_it_is_reset() {
    let mut arena = Arena::new(1024, 4096);
    let block = arena.alloc(4000).unwrap();
    arena.free(block);
    assert_eq!(arena.high_water(), 4032);
    arena.alloc(100).unwrap();
    arena.reset_high_water();
    assert_eq!(arena.high_water(), 128);
}

#[test]
fn a_region_that_is_not_a_multiple_of_64_is_not_left() {
    let mut arena = Arena::new(1000, 1000);
    assert_eq!(arena.alloc(961), None);
    assert_eq!(arena.alloc(960), Some(0));
    assert_eq!(Arena::new(0, 63).alloc(0), None);
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(usize),
    Free(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_usize..700).prop_map(Step::Alloc),
        1 => (0_usize..6000).prop_map(Step::Alloc),
        3 => (0_usize..100).prop_map(Step::Free),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn blocks_never_overlap_and_room_is_found_if_there_is_any(soft in 0_usize..5000, capacity in 0_usize..6000, steps in steps()) {
        let (mut arena, mut blocks) = (Arena::new(soft, capacity), Vec::<(usize, usize)>::new());
        let mut high = 0;
        for step in steps {
            match step {
                Step::Alloc(len) => {
                    // A place that is free: 64-byte units, below the limit, in no block.
                    let limit = if blocks.is_empty() { capacity } else { soft.min(capacity) } / 64 * 64;
                    let size = len.max(1).next_multiple_of(64);
                    let is_free = |at: usize| blocks.iter().all(|&(o, s)| at + size <= o || o + s <= at);
                    let expected = (0..limit).step_by(64).find(|&at| at + size <= limit && is_free(at));
                    let got = arena.alloc(len);
                    prop_assert_eq!(got, expected);
                    if let Some(at) = got {
                        blocks.push((at, size));
                        high = high.max(at + size);
                    }
                }
                Step::Free(index) if !blocks.is_empty() => {
                    let (at, _) = blocks.swap_remove(index % blocks.len());
                    prop_assert!(arena.free(at));
                    prop_assert!(!arena.free(at));
                }
                Step::Free(_) => prop_assert!(!arena.free(0)),
            }
            prop_assert_eq!((arena.outstanding(), arena.high_water()), (blocks.len(), high));
        }
    }
}
