//! What workers say besides their answers: the parent's end of the ring for words (rules 16 to 18 of the lane).

use std::collections::VecDeque;
use std::sync::Arc;

use raddle_shm::ring::Consumer;
use raddle_shm::{Alarm, Bell};

use super::link::kind;
use super::seat::Corrupt;

/// So many bytes of what a worker prints are remembered for the case that it dies.
const RECENT: usize = 4 << 10;
/// And of these so many lines are shown.
const LINES: usize = 10;

/// What a worker has said besides its answers.
#[derive(Clone, Debug)]
pub struct Words {
    /// Its process number.
    pub pid: u32,
    /// [`STDOUT`](super::kind::STDOUT) and the like.
    pub kind: u8,
    /// What it was running, in the language's words.
    pub call: Box<[u8]>,
    /// What it said; printed text may be cut anywhere.
    pub text: Box<[u8]>,
}

/// The parent's ear for one worker.
#[derive(Debug)]
pub(crate) struct Hearing {
    ring: Consumer,
    /// Records taken from there.
    taken: u64,
    /// The last of what was printed.
    recent: VecDeque<u8>,
}

impl Hearing {
    pub(crate) fn new(ring: Consumer) -> Self {
        Self { ring, taken: 0, recent: VecDeque::new() }
    }

    /// Whether something was said that was not taken in.
    pub(crate) fn has_words(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Bytes of what was said and not taken in.
    pub(crate) fn waiting(&self) -> usize {
        self.ring.used()
    }

    /// Has the keeper woken when something more is said.
    pub(crate) fn arm(&self, alarm: &Alarm) {
        alarm.set(self.taken + 1);
    }

    /// Takes in one piece. Whoever waits for room sleeps at the bell.
    pub(crate) fn hear(&mut self, pid: u32, bell: &Bell) -> Result<Option<Words>, Corrupt> {
        let crowded = self.ring.used() > self.ring.capacity() / 4;
        let Some(record) = self.ring.peek().map_err(|_| Corrupt)? else { return Ok(None) };
        let kind = record.header.kind;
        let (call, text) = record.payload.split_at_checked(record.header.tag as usize).ok_or(Corrupt)?;
        let words = Words { pid, kind, call: call.into(), text: text.into() };
        if matches!(kind, kind::STDOUT | kind::STDERR) {
            let surplus = (self.recent.len() + text.len()).saturating_sub(RECENT);
            self.recent.drain(..surplus.min(self.recent.len()));
            self.recent.extend(&text[text.len().saturating_sub(RECENT)..]);
        }
        self.ring.advance();
        self.taken += 1;
        if crowded {
            bell.ring();
        }
        Ok(Some(words))
    }

    /// The last lines that were printed.
    pub(crate) fn last_output(&mut self) -> Option<Arc<str>> {
        let text = String::from_utf8_lossy(self.recent.make_contiguous()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
        (!last.is_empty()).then(|| last.into())
    }
}
