//! The bytes of one reply, on their way to the thread that wants them.

use std::ops::Deref;
use std::sync::Arc;

use raddle_shm::heap::Lease;

const SMALL: usize = 22;
/// From so many bytes on it is asked whether there is memory for them.
const HUGE: usize = 1 << 20;

/// Owned bytes; the short ones (most results are) take no allocation.
#[derive(Clone)]
pub struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Small { len: u8, bytes: [u8; SMALL] },
    Large(Arc<[u8]>),
    Parcel(Arc<Parcel>),
}

/// Bytes that name buffers, and the right to use these.
struct Parcel {
    bytes: Box<[u8]>,
    leases: Vec<Option<Arc<Lease>>>,
}

impl Payload {
    /// No bytes.
    pub const EMPTY: Self = Self(Repr::Small { len: 0, bytes: [0; SMALL] });
}

impl Payload {
    /// A copy of the bytes. None: there is no memory for it.
    pub(crate) fn copied(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HUGE {
            return Some(Self::from(bytes));
        }
        Some(Self(Repr::Parcel(Arc::new(Parcel { bytes: copy_of(bytes)?, leases: Vec::new() }))))
    }

    /// A copy of bytes that name buffers, with their leases: one entry for each, empty for those that lie in the bytes themselves. The
    /// copy is asked for them, since the bytes may change meanwhile. None: there is no memory for it.
    pub(crate) fn parcel<E>(
        bytes: &[u8],
        leases: impl FnOnce(&[u8]) -> Result<Vec<Option<Arc<Lease>>>, E>,
    ) -> Result<Option<Self>, E> {
        let Some(bytes) = copy_of(bytes) else { return Ok(None) };
        let leases = leases(&bytes)?;
        Ok(Some(Self(Repr::Parcel(Arc::new(Parcel { bytes, leases })))))
    }

    /// Bytes of the buffers that the bytes name.
    pub(crate) fn lent(&self) -> u64 {
        self.leases().iter().flatten().map(|lease| lease.len() as u64).sum()
    }

    /// The leases of the buffers that the bytes name.
    pub fn leases(&self) -> &[Option<Arc<Lease>>] {
        match &self.0 {
            Repr::Parcel(parcel) => &parcel.leases,
            _ => &[],
        }
    }
}

fn copy_of(bytes: &[u8]) -> Option<Box<[u8]>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy.into_boxed_slice())
}

impl From<&[u8]> for Payload {
    fn from(from: &[u8]) -> Self {
        if from.len() <= SMALL {
            let mut bytes = [0; SMALL];
            bytes[..from.len()].copy_from_slice(from);
            Self(Repr::Small { len: from.len() as u8, bytes })
        } else {
            Self(Repr::Large(from.into()))
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Small { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Large(bytes) => bytes,
            Repr::Parcel(parcel) => &parcel.bytes,
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_come_back() {
        for len in 0..100_usize {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            assert_eq!(&*Payload::from(&bytes[..]), &bytes[..]);
        }
    }

    #[test]
    fn a_payload_is_no_larger_than_three_words() {
        assert_eq!(size_of::<Payload>(), 24);
    }
}
