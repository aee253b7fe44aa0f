//! Keys, from the bytes that a terminal in raw mode sends.
//!
//! What is not known is passed over. An escape character is the key Esc when nothing follows it in the same read, and the beginning of a sequence otherwise:
//! terminals send a sequence at once.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    /// With the control key.
    Control(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
}

/// Reads the keys out of what one read has brought.
pub(crate) fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut found = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        let (key, length) = match first {
            0x1b if rest.is_empty() => (Some(Key::Escape), 1),
            0x1b => sequence(bytes),
            b'\r' | b'\n' => (Some(Key::Enter), 1),
            b'\t' => (Some(Key::Tab), 1),
            0x08 | 0x7f => (Some(Key::Backspace), 1),
            0x01..=0x1a => (Some(Key::Control(char::from(first - 1 + b'a'))), 1),
            _ => character(bytes),
        };
        found.extend(key);
        bytes = &bytes[length..];
    }
    found
}

fn character(bytes: &[u8]) -> (Option<Key>, usize) {
    let longest = bytes.len().min(4);
    let valid = (1..=longest).find_map(|length| Some((std::str::from_utf8(&bytes[..length]).ok()?, length)));
    match valid {
        Some((text, length)) => (text.chars().next().filter(|one| !one.is_control()).map(Key::Char), length),
        None => (None, 1),
    }
}

/// `ESC [ parameters final`, `ESC O final`, or a key that was pressed with Alt.
fn sequence(bytes: &[u8]) -> (Option<Key>, usize) {
    let (introducer, body) = (bytes[1], &bytes[2..]);
    if introducer == 0x1b {
        return (Some(Key::Escape), 1);
    }
    if introducer != b'[' && introducer != b'O' {
        // With Alt: no key of ours. A character may be long.
        return (None, 1 + character(&bytes[1..]).1);
    }
    let Some(end) = body.iter().position(|byte| (0x40..=0x7e).contains(byte)) else { return (None, bytes.len()) };
    let key = match (&body[..end], body[end]) {
        ([], b'A') => Some(Key::Up),
        ([], b'B') => Some(Key::Down),
        ([], b'H') | (b"1" | b"7", b'~') => Some(Key::Home),
        ([], b'F') | (b"4" | b"8", b'~') => Some(Key::End),
        ([], b'Z') => Some(Key::BackTab),
        ([], b'M') if introducer == b'O' => Some(Key::Enter),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        _ => None,
    };
    (key, 2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_send_becomes_keys() {
        assert_eq!(keys(b"q\x03\r\t\x7f"), [Key::Char('q'), Key::Control('c'), Key::Enter, Key::Tab, Key::Backspace]);
        assert_eq!(
            keys(b"\x1b[A\x1b[B\x1bOA\x1b[5~\x1b[6~\x1b[Z"),
            [Key::Up, Key::Down, Key::Up, Key::PageUp, Key::PageDown, Key::BackTab]
        );
        assert_eq!(keys(b"\x1b[H\x1b[F\x1b[1~\x1b[4~"), [Key::Home, Key::End, Key::Home, Key::End]);
        assert_eq!(keys("ä→".as_bytes()), [Key::Char('ä'), Key::Char('→')]);
    }

    #[test]
    fn an_escape_alone_is_a_key_and_what_is_not_known_is_passed_over() {
        assert_eq!(keys(b"\x1b"), [Key::Escape]);
        assert_eq!(keys(b"\x1b\x1b"), [Key::Escape, Key::Escape]);
        assert_eq!(keys(b"\x1b[1;5Aq"), [Key::Char('q')]);
        assert_eq!(keys(b"\x1bxq"), [Key::Char('q')]);
        assert_eq!(keys(b"\x1b[200"), []);
        assert_eq!(keys(b"\xff\xc3q"), [Key::Char('q')]);
    }

    #[test]
    fn every_pair_and_triple_of_bytes_is_taken_in() {
        for first in [0x1b, b'[', b'O', b'A', 0xc3, 0xff, 0x00, b'~'] {
            for second in 0..=255 {
                for third in [0x1b, b'[', b'~', 0xa4, b'a'] {
                    keys(&[first, second, third]);
                    keys(&[first, second]);
                }
            }
        }
    }
}
