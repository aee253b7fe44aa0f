//! As much of the protobuf wire format as the trace needs: <https://protobuf.dev/programming-guides/encoding/>.

/// A message that is being written.
#[derive(Clone, Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;

/// So many bytes are seven bits each of a number, at most.
const LONGEST: usize = 10;

impl Message {
    /// Has no room yet.
    pub(super) const EMPTY: Self = Self { bytes: Vec::new() };

    /// Most are small: they never have to grow.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(64) }
    }

    pub(super) fn uint(mut self, field: u32, value: u64) -> Self {
        self.put_uint(field, value);
        self
    }

    /// `int32`, `int64`: negative numbers are ten bytes long, as the format has it.
    pub(super) fn int(self, field: u32, value: i64) -> Self {
        self.uint(field, value.cast_unsigned())
    }

    pub(super) fn fixed64(mut self, field: u32, value: u64) -> Self {
        self.key(field, FIXED64);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub(super) fn string(self, field: u32, value: &str) -> Self {
        self.counted(field, value.as_bytes())
    }

    pub(super) fn message(self, field: u32, value: &Message) -> Self {
        self.counted(field, &value.bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An empty message in the same room.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a message as a field.
    pub(super) fn add(&mut self, field: u32, value: &Message) {
        self.put(field, &value.bytes);
    }

    /// Adds a number as a field.
    pub(super) fn put_uint(&mut self, field: u32, value: u64) {
        self.key(field, VARINT);
        self.varint(value);
    }

    /// Begins a message of so many bytes, which come next, as a field.
    pub(super) fn begin(&mut self, field: u32, length: usize) {
        self.key(field, LENGTH);
        self.varint(length as u64);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn counted(mut self, field: u32, value: &[u8]) -> Self {
        self.put(field, value);
        self
    }

    fn put(&mut self, field: u32, value: &[u8]) {
        self.begin(field, value.len());
        self.bytes.extend_from_slice(value);
    }

    fn key(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    /// Seven bits a byte, the lowest first; the eighth says that there is more.
    fn varint(&mut self, mut value: u64) {
        if value < 0x80 {
            return self.bytes.push(value as u8); // most are
        }
        let mut room = [0; LONGEST];
        let mut length = 0;
        while value >= 0x80 {
            room[length] = value as u8 | 0x80;
            value >>= 7;
            length += 1;
        }
        room[length] = value as u8;
        self.bytes.extend_from_slice(&room[..=length]);
    }

    /// Another message's fields behind one's own.
    pub(super) fn append(&mut self, other: &Message) {
        self.bytes.extend_from_slice(&other.bytes);
    }
}

/// How many bytes a number takes.
pub(super) fn varint_length(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::{Message, varint_length};

    #[test]
    fn a_number_is_as_long_as_it_is_said_to_be() {
        for value in (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, u64::MAX >> bit]) {
            assert_eq!(varint_length(value) + 1, Message::new().uint(1, value).len(), "{value}");
        }
    }

    #[test]
    fn bytes_are_as_the_format_has_them() {
        // The examples of the encoding guide.
        assert_eq!(Message::new().uint(1, 150).bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().string(2, "testing").bytes(), b"\x12\x07testing");
        assert_eq!(Message::new().message(3, &Message::new().uint(1, 150)).bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::new().int(1, -2).bytes(), b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        assert_eq!(Message::new().fixed64(1, 1).bytes(), [0x09, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
