//! What stands before every payload, and how it lies in memory.

/// Bytes of a header, and what the length of a record is a multiple of.
pub(super) const UNIT: usize = 32;

/// The states of a claim word. See the drawing in `ring.md`.
pub(super) mod claim {
    pub(in crate::ring) const QUEUED: u32 = 1;
    pub(in crate::ring) const STARTED: u32 = 2;
    pub(in crate::ring) const REVOKED: u32 = 3;
}

/// What a record says about itself. The ring carries it and does not look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Header {
    /// What the record is.
    pub kind: u8,
    /// How the payload is to be read.
    pub flags: u8,
    /// What the record is about, in a few bits.
    pub tag: u32,
    /// Which one it is.
    pub id: u64,
    /// Free.
    pub extra: u64,
}

/// A header without its claim word, as it lies in memory from byte 4 on.
pub(super) type Raw = [u8; UNIT - 4];

impl Header {
    /// With the length of the payload, as bytes.
    pub(super) fn encode(self, len: u32) -> Raw {
        let mut raw = [0; UNIT - 4];
        raw[0..4].copy_from_slice(&len.to_ne_bytes());
        raw[4] = self.kind;
        raw[5] = self.flags;
        raw[8..12].copy_from_slice(&self.tag.to_ne_bytes());
        raw[12..20].copy_from_slice(&self.id.to_ne_bytes());
        raw[20..28].copy_from_slice(&self.extra.to_ne_bytes());
        raw
    }

    /// The header, and the length of the payload as the producer says it is. Any bytes give some header.
    pub(super) fn decode(raw: &Raw) -> (Header, u32) {
        let header = Header {
            kind: raw[4],
            flags: raw[5],
            tag: u32::from_ne_bytes(part(raw, 8)),
            id: u64::from_ne_bytes(part(raw, 12)),
            extra: u64::from_ne_bytes(part(raw, 20)),
        };
        (header, u32::from_ne_bytes(part(raw, 0)))
    }
}

fn part<const N: usize>(raw: &Raw, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&raw[at..at + N]);
    bytes
}

/// Bytes that a record with so much payload takes in the ring.
pub(super) const fn record_len(payload: usize) -> usize {
    UNIT + payload.next_multiple_of(UNIT)
}

/// The longest payload: half the ring, less the header. So two of the longest fit, and neither side waits for an empty ring.
pub(super) const fn max_payload(capacity: usize) -> usize {
    let half = capacity / 2 - UNIT;
    // The length is a u32 in the header.
    if half > LONGEST { LONGEST } else { half }
}

/// The longest payload of any ring.
const LONGEST: usize = (u32::MAX as usize) & !(UNIT - 1);

/// Bytes between the two positions, if that can be (rule 6 of the module head).
pub(super) fn used(tail: u64, head: u64, capacity: usize) -> Option<usize> {
    let used = usize::try_from(tail.wrapping_sub(head)).ok()?;
    (used <= capacity && used.is_multiple_of(UNIT)).then_some(used)
}

/// What a capacity must be.
pub(super) fn check_capacity(capacity: usize) {
    assert!(
        capacity.is_power_of_two() && capacity >= 2 * UNIT,
        "the capacity of a ring is a power of two, 64 or more, not {capacity}"
    );
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_encoding() {
        let header = Header { kind: 1, flags: 2, tag: 0x0304_0506, id: 0x0708_090a_0b0c_0d0e, extra: u64::MAX - 3 };
        assert_eq!(Header::decode(&header.encode(77)), (header, 77));
        assert_eq!(Header::decode(&Header::default().encode(u32::MAX)), (Header::default(), u32::MAX));
    }

    #[test]
    fn a_field_lies_where_the_drawing_says() {
        let raw = Header { kind: 1, flags: 2, tag: 3, id: 4, extra: 5 }.encode(6);
        let at = |offset: usize| raw[offset - 4];
        let low = if cfg!(target_endian = "little") { [0; 4] } else { [3, 3, 7, 7] };
        assert_eq!((at(8), at(9), at(10), at(11)), (1, 2, 0, 0));
        assert_eq!((at(4 + low[0]), at(12 + low[1]), at(16 + low[2]), at(24 + low[3])), (6, 3, 4, 5));
    }

    #[test]
    fn two_of_the_longest_fit() {
        for shift in 6..40 {
            let capacity = 1_usize << shift;
            assert!(2 * record_len(max_payload(capacity)) <= capacity);
            assert!(u32::try_from(max_payload(capacity)).is_ok());
        }
    }
}
