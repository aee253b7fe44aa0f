//! Which types may be looked at in memory that others write to.

use raddle_core::prim::atomic::{AtomicU32, AtomicU64};

use crate::ring::Lines;
use crate::{Alarm, Bell, Gong};

/// A type that may lie in shared memory and be used through a plain reference.
///
/// # Safety
///
/// 1. Every pattern of bytes is a valid value; there is no padding whose content matters and nothing to drop.
/// 2. It is made of atomic integers only, so that another process may change it at any moment.
/// 3. Its layout is fixed (`#[repr(C)]` or a single such word), so that both sides agree on it.
///
/// # Examples
///
/// ```
/// use raddle_shm::{Alarm, Bell, Segment, Shared};
///
/// #[repr(C)]
/// struct Page {
///     bell: Bell,
///     alarm: Alarm,
/// }
/// // SAFETY: two types that keep the rules, next to each other, in a fixed order.
/// unsafe impl Shared for Page {}
///
/// let mapping = Segment::create("example", 4096)?.map(0, 4096)?;
/// let page: &Page = mapping.get(0);
/// page.alarm.init();
/// assert!(!page.alarm.due(1_000_000));
/// # Ok::<(), std::io::Error>(())
/// ```
pub unsafe trait Shared {}

// SAFETY: one atomic integer.
unsafe impl Shared for AtomicU32 {}
// SAFETY: one atomic integer.
unsafe impl Shared for AtomicU64 {}
// SAFETY: `repr(C)`, two atomic integers; any values are sound (bell.md).
unsafe impl Shared for Bell {}
// SAFETY: as above (gong.md).
unsafe impl Shared for Gong {}
// SAFETY: `repr(C)`, one atomic integer; any value is sound.
unsafe impl Shared for Alarm {}
// SAFETY: `repr(C)`, two atomic integers far apart; the padding between them is never looked at.
unsafe impl Shared for Lines {}
