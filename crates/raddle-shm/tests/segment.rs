//! Segments and mappings, with real memory and a second process.
#![cfg(all(target_os = "linux", not(loom)))]

mod support;

use std::fs::File;
use std::io::ErrorKind::InvalidInput;
use std::os::fd::{AsFd, OwnedFd};

use raddle_core::prim::atomic::AtomicU64;
use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed, Release};
use raddle_shm::{Mapping, Segment};
use rustix::fs::{MemfdFlags, SealFlags};
use support::{Peer, parents_segment};

const PAGE: usize = 4096;

/// Reads a byte of a mapping that only this test has.
fn byte(mapping: &Mapping, at: usize) -> u8 {
    assert!(at < 2 * mapping.len());
    // SAFETY: inside the mapping (twice as long where the tests look beyond `len`), and nobody writes meanwhile.
    unsafe { mapping.as_ptr().add(at).read() }
}

fn set_byte(mapping: &Mapping, at: usize, value: u8) {
    assert!(at < 2 * mapping.len());
    // SAFETY: as above.
    unsafe { mapping.as_ptr().add(at).write(value) }
}

fn memory_of(segment: &Segment) -> u64 {
    rustix::fs::fstat(segment).unwrap().st_blocks as u64 * 512
}

#[test]
fn a_segment_is_whole_pages_of_zeros() {
    let segment = Segment::create("raddle-test", PAGE + 1).unwrap();
    assert_eq!(segment.len(), 2 * PAGE);
    let mapping = segment.map(0, 2 * PAGE).unwrap();
    assert!((0..2 * PAGE).all(|at| byte(&mapping, at) == 0));
}

#[test]
fn a_segment_of_no_bytes_or_too_many_is_refused() {
    for len in [0, usize::MAX, usize::MAX / 2 + 1] {
        let error = Segment::create("raddle-test", len).unwrap_err();
        assert_eq!(error.kind(), InvalidInput);
        assert!(error.to_string().contains(&len.to_string()), "{error}");
    }
}

#[test]
fn a_name_that_the_system_cannot_have_is_refused() {
    assert_eq!(Segment::create("nul\0inside", PAGE).unwrap_err().kind(), InvalidInput);
    assert_eq!(Segment::create(&"x".repeat(250), PAGE).unwrap_err().kind(), InvalidInput);
    Segment::create(&"x".repeat(249), PAGE).unwrap();
}

#[test]
fn a_segment_never_changes_its_length() {
    let segment = Segment::create("raddle-test", 4 * PAGE).unwrap();
    for len in [0, PAGE, 8 * PAGE] {
        assert_eq!(rustix::fs::ftruncate(&segment, len as u64), Err(rustix::io::Errno::PERM));
    }
    assert_eq!(rustix::fs::fcntl_add_seals(&segment, SealFlags::WRITE), Err(rustix::io::Errno::PERM));
}

#[test]
fn a_segment_has_no_name_and_does_not_survive_exec() {
    let segment = Segment::create("raddle-test", PAGE).unwrap();
    assert_eq!(rustix::fs::fstat(&segment).unwrap().st_nlink, 0);
    let flags = rustix::io::fcntl_getfd(&segment).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_sparse_segment_takes_memory_where_it_is_touched() {
    let len = 1 << 34;
    let segment = Segment::create("raddle-test", len).unwrap();
    let mapping = segment.map(0, len).unwrap();
    assert_eq!(memory_of(&segment), 0);
    set_byte(&mapping, len - 1, 1);
    assert!((1..=2 << 20).contains(&memory_of(&segment)), "one page, perhaps a huge one");
}

#[test]
fn what_is_not_a_sealed_memfd_is_refused() {
    let refused = |fd: OwnedFd, why: &str| {
        let error = Segment::from_fd(fd).unwrap_err();
        assert_eq!(error.kind(), InvalidInput);
        assert!(error.to_string().contains(why), "{error}");
    };
    refused(File::open(std::env::current_exe().unwrap()).unwrap().into(), "not a memfd");
    refused(File::open("/dev/null").unwrap().into(), "not a memfd");
    let memfd = |len: u64, seals| {
        let fd = rustix::fs::memfd_create("raddle-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, len).unwrap();
        rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    let both = SealFlags::SHRINK | SealFlags::GROW;
    refused(memfd(4096, SealFlags::empty()), "not sealed");
    refused(memfd(4096, SealFlags::SHRINK), "not sealed");
    refused(memfd(4096, SealFlags::GROW), "not sealed");
    refused(memfd(0, both), "0 bytes");
    refused(memfd(4097, both), "4097 bytes");
    assert_eq!(Segment::from_fd(memfd(8192, both)).unwrap().len(), 8192);
}

#[test]
fn a_range_that_is_not_whole_pages_inside_is_refused() {
    let segment = Segment::create("raddle-test", 4 * PAGE).unwrap();
    let wrong =
        [(0, 0), (1, PAGE), (0, 1), (0, 5 * PAGE), (4 * PAGE, PAGE), (PAGE, 4 * PAGE), (usize::MAX - 4095, PAGE)];
    for (offset, len) in wrong {
        assert_eq!(segment.map(offset, len).unwrap_err().kind(), InvalidInput, "{len} at {offset}");
        assert_eq!(segment.map_mirrored(offset, len).unwrap_err().kind(), InvalidInput, "{len} at {offset}");
    }
    segment.map(3 * PAGE, PAGE).unwrap();
}

#[test]
fn two_mappings_show_the_same_bytes_and_outlive_the_segment() {
    let segment = Segment::create("raddle-test", 4 * PAGE).unwrap();
    let (whole, part) = (segment.map(0, 4 * PAGE).unwrap(), segment.map(2 * PAGE, PAGE).unwrap());
    drop(segment);
    set_byte(&part, 5, 77);
    assert_eq!((byte(&whole, 2 * PAGE + 5), part.len(), whole.len()), (77, PAGE, 4 * PAGE));
}

#[test]
fn a_mirrored_mapping_shows_every_byte_twice() {
    let segment = Segment::create("raddle-test", 4 * PAGE).unwrap();
    let mirrored = segment.map_mirrored(PAGE, 2 * PAGE).unwrap();
    let plain = segment.map(0, 4 * PAGE).unwrap();
    assert_eq!(mirrored.len(), 2 * PAGE);
    for at in 0..4 * PAGE {
        set_byte(&mirrored, at, (at % 251) as u8 + 1);
        assert_eq!(byte(&mirrored, (at + 2 * PAGE) % (4 * PAGE)), (at % 251) as u8 + 1);
        assert_eq!(byte(&plain, PAGE + at % (2 * PAGE)), (at % 251) as u8 + 1);
    }
    assert!((0..PAGE).chain(3 * PAGE..4 * PAGE).all(|at| byte(&plain, at) == 0), "its neighbours are untouched");
}

#[test]
fn a_mapping_that_fails_half_way_leaves_no_addresses_behind() {
    // Sealed against writing, which is found out when the addresses are reserved and the first copy is to be mapped.
    let len = 1 << 40;
    let fd = rustix::fs::memfd_create("raddle-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&fd, len as u64).unwrap();
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE).unwrap();
    let segment = Segment::from_fd(fd).unwrap();
    let address_space = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').next().unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
    };
    let before = address_space();
    for _ in 0..4 {
        assert_eq!(segment.map_mirrored(0, len).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(segment.map(0, len).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    }
    assert!(address_space() < before + len, "other tests take some meanwhile, but far less");
}

#[test]
fn a_dropped_mapping_is_unmapped() {
    let name = "raddle-test-dropped";
    let count = || std::fs::read_to_string("/proc/self/maps").unwrap().matches(name).count();
    let segment = Segment::create(name, 4 * PAGE).unwrap();
    let (plain, mirrored) = (segment.map(0, PAGE).unwrap(), segment.map_mirrored(0, 2 * PAGE).unwrap());
    assert_eq!(count(), 3);
    drop((plain, mirrored));
    assert_eq!(count(), 0);
}

#[test]
fn punched_pages_are_zero() {
    let segment = Segment::create("raddle-test", 16 * PAGE).unwrap();
    let mapping = segment.map(0, 16 * PAGE).unwrap();
    (0..16 * PAGE).for_each(|at| set_byte(&mapping, at, 1));
    // Two whole pages lie inside; the halves at both ends stay.
    mapping.punch(2 * PAGE + 100, 3 * PAGE).unwrap();
    let zeros: Vec<_> = (0..16 * PAGE).filter(|&at| byte(&mapping, at) == 0).collect();
    assert_eq!(zeros, (3 * PAGE..5 * PAGE).collect::<Vec<_>>());
    set_byte(&mapping, 3 * PAGE, 9);
    assert_eq!(byte(&mapping, 3 * PAGE), 9, "they can be written to again");
}

#[test]
fn punched_memory_is_free_again() {
    const LEN: usize = 16 << 20;
    let segment = Segment::create("raddle-test", LEN).unwrap();
    let mapping = segment.map(0, LEN).unwrap();
    (0..LEN).step_by(PAGE).for_each(|at| set_byte(&mapping, at, 1));
    assert_eq!(memory_of(&segment), LEN as u64);
    mapping.punch(LEN / 2, LEN / 2).unwrap();
    assert_eq!(memory_of(&segment), LEN as u64 / 2);
    mapping.punch(0, LEN).unwrap();
    assert_eq!(memory_of(&segment), 0);
}

#[test]
fn punching_what_is_not_a_whole_page_changes_nothing() {
    let segment = Segment::create("raddle-test", 2 * PAGE).unwrap();
    let mapping = segment.map(0, 2 * PAGE).unwrap();
    (0..2 * PAGE).for_each(|at| set_byte(&mapping, at, 1));
    mapping.punch(0, 0).unwrap();
    mapping.punch(100, PAGE).unwrap();
    mapping.punch(2 * PAGE, 0).unwrap();
    assert!((0..2 * PAGE).all(|at| byte(&mapping, at) == 1));
    for (offset, len) in [(0, 2 * PAGE + 1), (PAGE, PAGE + 1), (usize::MAX, 2), (2 * PAGE + 1, 0)] {
        assert_eq!(mapping.punch(offset, len).unwrap_err().kind(), InvalidInput);
    }
}

#[test]
fn punching_a_mirrored_mapping_empties_both_copies() {
    let segment = Segment::create("raddle-test", 2 * PAGE).unwrap();
    let mapping = segment.map_mirrored(0, 2 * PAGE).unwrap();
    (0..2 * PAGE).for_each(|at| set_byte(&mapping, at, 1));
    mapping.punch(PAGE, PAGE).unwrap();
    let zeros: Vec<_> = (0..4 * PAGE).filter(|&at| byte(&mapping, at) == 0).collect();
    assert_eq!(zeros, (PAGE..2 * PAGE).chain(3 * PAGE..4 * PAGE).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "8 bytes at 4089 are not inside a mapping of 4096")]
fn a_word_beyond_the_end_is_refused() {
    let mapping = Segment::create("raddle-test", PAGE).unwrap().map(0, PAGE).unwrap();
    mapping.get::<AtomicU64>(PAGE - 7);
}

#[test]
#[should_panic(expected = "4 is not a multiple of 8")]
fn a_word_that_is_not_aligned_is_refused() {
    let mapping = Segment::create("raddle-test", PAGE).unwrap().map(0, PAGE).unwrap();
    mapping.get::<AtomicU64>(4);
}

#[test]
fn another_process_sees_the_same_words() {
    if let Some(segment) = parents_segment() {
        let mapping = segment.map(PAGE, PAGE).unwrap();
        assert_eq!(mapping.get::<AtomicU64>(8).load(Acquire), 41);
        mapping.get::<AtomicU64>(16).store(42, Release);
        return;
    }
    let segment = Segment::create("raddle-test", 2 * PAGE).unwrap();
    let mapping = segment.map(0, 2 * PAGE).unwrap();
    mapping.get::<AtomicU64>(PAGE + 8).store(41, Relaxed);
    assert!(Peer::start("another_process_sees_the_same_words", &segment).wait().success());
    assert_eq!(mapping.get::<AtomicU64>(PAGE + 16).load(Acquire), 42);
    let same = Segment::from_fd(segment.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(same.len(), segment.len());
}
