//! The memory of a ring as the model checker sees it.
//!
//! Every [`UNIT`] is one cell, so an access to any of its bytes conflicts with any other that is not ordered against it. The claim
//! word is an atomic of its own; to write a payload over it counts as an access to it too.

use raddle_core::prim::Arc;
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};
use raddle_core::prim::cell::UnsafeCell;
use std::cell::RefCell;

use super::header::{Raw, UNIT, check_capacity};
use super::memory::Memory;
use super::{Consumer, Lines, Producer};

/// One side's view of a modelled ring.
#[derive(Debug)]
pub(super) struct Model {
    ring: Arc<Ring>,
    /// What `view` has handed out.
    views: RefCell<Vec<Box<[u8]>>>,
}

#[derive(Debug)]
struct Ring {
    lines: Lines,
    units: Vec<Unit>,
}

#[derive(Debug)]
struct Unit {
    claim: AtomicU32,
    bytes: UnsafeCell<[u8; UNIT]>,
}

// SAFETY: the cells are what the model checks: it reports two accesses that are not ordered.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

/// Both ends of an empty ring.
pub fn ring(capacity: usize) -> (Producer, Consumer) {
    check_capacity(capacity);
    let unit = |_| Unit { claim: AtomicU32::new(0), bytes: UnsafeCell::new([0; UNIT]) };
    let ring = Arc::new(Ring { lines: Lines::new(), units: (0..capacity / UNIT).map(unit).collect() });
    let side = || Model { ring: ring.clone(), views: RefCell::default() };
    (Producer::over(side()), Consumer::over(side()))
}

impl Model {
    fn unit(&self, position: u64) -> &Unit {
        &self.ring.units[position as usize / UNIT % self.ring.units.len()]
    }
}

impl Memory for Model {
    fn identity(&self) -> u64 {
        0
    }

    fn capacity(&self) -> usize {
        self.ring.units.len() * UNIT
    }

    fn tail(&self) -> &AtomicU64 {
        &self.ring.lines.tail.position
    }

    fn head(&self) -> &AtomicU64 {
        &self.ring.lines.head.position
    }

    unsafe fn claim(&self, position: u64) -> &AtomicU32 {
        &self.unit(position).claim
    }

    unsafe fn write_header(&self, position: u64, raw: &Raw) {
        self.unit(position).bytes.with_mut(|bytes| {
            // SAFETY: the model has just checked that nobody else is at this cell.
            unsafe { (&mut (*bytes))[UNIT - raw.len()..].copy_from_slice(raw) }
        });
    }

    unsafe fn read_header(&self, position: u64) -> Raw {
        self.unit(position).bytes.with(|bytes| {
            let mut raw = Raw::default();
            // SAFETY: the model has just checked that nobody is writing to this cell.
            raw.copy_from_slice(unsafe { &(&(*bytes))[UNIT - size_of::<Raw>()..] });
            raw
        })
    }

    unsafe fn write(&self, position: u64, bytes: &[u8]) {
        for (position, byte) in (position..).zip(bytes) {
            let unit = self.unit(position);
            // SAFETY: what the model is to check: nobody changes the claim word at the same time.
            unsafe { unit.claim.unsync_load() };
            // SAFETY: the model has just checked that nobody else is at this cell.
            unit.bytes.with_mut(|bytes| unsafe { (*bytes)[position as usize % UNIT] = *byte });
        }
    }

    unsafe fn view(&self, position: u64, len: usize) -> &[u8] {
        let byte = |position: u64| {
            // SAFETY: the model has just checked that nobody is writing to this cell.
            self.unit(position).bytes.with(|bytes| unsafe { (*bytes)[position as usize % UNIT] })
        };
        let copy: Box<[u8]> = (position..position + len as u64).map(byte).collect();
        let bytes: *const [u8] = &*copy;
        self.views.borrow_mut().push(copy);
        // SAFETY: a box keeps its place when the vector grows, and none is dropped before `self`.
        unsafe { &*bytes }
    }
}
