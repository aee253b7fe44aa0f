//! What the protocol needs of the memory it runs on.

use raddle_core::prim::atomic::{AtomicU32, AtomicU64};

use super::header::Raw;

/// The memory of a ring: real (`mapped.rs`), or the model checker's (`model.rs`).
///
/// Positions are reduced to the ring inside, so that no position, however wrong, leads out of it. The methods that touch bytes
/// are unsafe because two sides may not touch the same ones at a time; which side may touch which is the protocol's affair, and
/// rules 2 and 3 of the module head are the argument at each call.
pub(super) trait Memory {
    /// Tells this ring from every other that this process has opened.
    fn identity(&self) -> u64;

    fn capacity(&self) -> usize;

    fn tail(&self) -> &AtomicU64;

    fn head(&self) -> &AtomicU64;

    /// The claim word of the record at `position`.
    ///
    /// # Safety
    ///
    /// `position` is that of a record whose bytes nobody is writing to as payload: it is published, or the caller is
    /// the producer.
    unsafe fn claim(&self, position: u64) -> &AtomicU32;

    /// Writes the header of the record at `position`, all but the claim word.
    ///
    /// # Safety
    ///
    /// The caller is the producer, and the unit at `position` is outside `head..tail`.
    unsafe fn write_header(&self, position: u64, raw: &Raw);

    /// Reads the header of the record at `position`, all but the claim word.
    ///
    /// # Safety
    ///
    /// The caller is the consumer, and the unit at `position` is inside `head..tail`.
    unsafe fn read_header(&self, position: u64) -> Raw;

    /// Copies `bytes` to `position`.
    ///
    /// # Safety
    ///
    /// The caller is the producer, and the bytes are at most `capacity` and outside `head..tail`.
    unsafe fn write(&self, position: u64, bytes: &[u8]);

    /// The `len` bytes at `position`.
    ///
    /// # Safety
    ///
    /// The caller is the consumer, the bytes are at most `capacity`, and inside `head..tail` as long as the reference lives.
    unsafe fn view(&self, position: u64, len: usize) -> &[u8];
}
