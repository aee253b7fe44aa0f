//! Messages that come with buffers.
//!
//! Where a payload has the flag [`BUFFERS`](super::flag::BUFFERS), it begins with a list of them:
//!
//! ```text
//! 0    count u32, zero u32
//! 8    count entries of 32 bytes: place, block, start, len (u64 each)
//! ...  the bytes of those whose place is INLINE, one behind the other
//! ...  what the language above makes of the rest
//! ```
//!
//! Large buffers lie in a heap ([`raddle_shm::heap`]): in the parent's, which all workers see, or in the worker's, which its
//! parent sees. Numbers are in the byte order of the machine: both sides are on it.

use raddle_shm::heap::Piece;

const HEAD: usize = 8;
const ENTRY: usize = 32;

const INLINE: u64 = 0;
const PARENT: u64 = 1;
const WORKER: u64 = 2;
const SHARED: u64 = 3;

/// Where the bytes of one buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// In the message itself, so many.
    Inline(usize),
    /// In the parent's heap, for the receiver alone: a worker that sends it back sends a copy.
    Parent(Piece),
    /// In the parent's heap, for everybody who has it: it is sent on as it is.
    Shared(Piece),
    /// In the worker's heap.
    Worker(Piece),
}

/// Appends the list to `out`. The bytes of inline buffers are to follow.
pub fn write(buffers: &[Buffer], out: &mut Vec<u8>) {
    out.extend_from_slice(&(buffers.len() as u32).to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    for buffer in buffers {
        let (place, Piece { block, start, len }) = match *buffer {
            Buffer::Inline(len) => (INLINE, Piece { block: 0, start: 0, len: len as u64 }),
            Buffer::Parent(piece) => (PARENT, piece),
            Buffer::Shared(piece) => (SHARED, piece),
            Buffer::Worker(piece) => (WORKER, piece),
        };
        for word in [place, block, start, len] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
    }
}

/// The list at the beginning of a payload, and what is behind it: the bytes of the inline buffers, of which there are enough, and
/// the rest. None: this is no such payload.
pub fn read(payload: &[u8]) -> Option<(Vec<Buffer>, &[u8])> {
    let (head, mut rest) = payload.split_at_checked(HEAD)?;
    let count = u32::from_ne_bytes(head[..4].try_into().ok()?) as usize;
    if count > rest.len() / ENTRY {
        return None;
    }
    let (mut buffers, mut inline) = (Vec::with_capacity(count), 0_usize);
    for _ in 0..count {
        let entry;
        (entry, rest) = rest.split_at_checked(ENTRY)?;
        let word = |index: usize| entry[8 * index..8 * index + 8].try_into().map(u64::from_ne_bytes);
        let piece = Piece { block: word(1).ok()?, start: word(2).ok()?, len: word(3).ok()? };
        buffers.push(match word(0).ok()? {
            INLINE => {
                inline = inline.checked_add(usize::try_from(piece.len).ok()?)?;
                Buffer::Inline(piece.len as usize)
            }
            PARENT => Buffer::Parent(piece),
            SHARED => Buffer::Shared(piece),
            WORKER => Buffer::Worker(piece),
            _ => return None,
        });
    }
    (inline <= rest.len()).then_some((buffers, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffer() -> impl Strategy<Value = Buffer> {
        let piece =
            (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(block, start, len)| Piece { block, start, len });
        prop_oneof![
            (0..100_usize).prop_map(Buffer::Inline),
            piece.clone().prop_map(Buffer::Parent),
            piece.clone().prop_map(Buffer::Shared),
            piece.prop_map(Buffer::Worker),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(buffers in proptest::collection::vec(buffer(), 0..20), rest in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut payload = Vec::new();
            write(&buffers, &mut payload);
            for buffer in &buffers {
                if let Buffer::Inline(len) = buffer {
                    payload.resize(payload.len() + len, 7);
                }
            }
            let inline = payload.len();
            payload.extend_from_slice(&rest);
            let (found, behind) = read(&payload).unwrap();
            prop_assert_eq!(&found, &buffers);
            prop_assert!(behind.ends_with(&rest));
            let listed = 8 + 32 * buffers.len();
            prop_assert_eq!(behind.len(), payload.len() - listed);
            if inline > listed {
                prop_assert!(read(&payload[..inline - 1]).is_none(), "too short for its inline buffers");
            }
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&payload);
        }
    }
}
