//! What lies in the memory of a channel, and what its words mean. All of it is atomic, and any value of any word is sound.
//!
//! ```text
//! position   lap 36 | slot 28                                of the next message to be sent (tail), to be received (head)
//! slot       lap 36 | state 3 | party 10 | generation 15     the party that writes or takes
//! block      generation 32 | 0 2 | state 2 | 0 3 | party 10 | generation 15
//! party      generation 15 | state 2 | process 32
//! transit    generation 32 | 0 2 | state 2 | side 1 | 0 2 | party 10 | generation 15
//! ```
//!
//! A generation says which of the many uses of a thing is meant, so that who has slept over it notices.

use raddle_core::prim::atomic::{AtomicU32, AtomicU64};

use crate::Gong;

/// Bytes of a message that lie in its slot.
pub const INLINE: usize = 8 * TEXT;
/// The same in words.
pub(super) const TEXT: usize = 14;
/// Processes that have a channel at a time.
#[cfg(not(loom))]
pub(super) const PARTIES: usize = 1023;
/// Ends of a channel that are on their way to another process at a time.
#[cfg(not(loom))]
pub(super) const TRANSITS: usize = 4096;

const LAP_BITS: u32 = 36;
const LAPS: u64 = (1 << LAP_BITS) - 1;
const LOW_BITS: u32 = 28;
const LOW: u64 = (1 << LOW_BITS) - 1;
const GENERATION: u32 = (1 << 15) - 1;

/// Which side of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The senders.
    Send = 0,
    /// The receivers.
    Receive = 1,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
        }
    }
}

/// A party in one of its lives: 25 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner(pub(super) u32);

impl Owner {
    /// No party: what nobody is to clear up.
    pub(super) const NOBODY: Self = Self((1 << 25) - 1);

    pub(super) fn new(index: usize, generation: u32) -> Self {
        Self((index as u32) << 15 | generation & GENERATION)
    }

    pub(super) fn index(self) -> usize {
        (self.0 >> 15) as usize
    }

    pub(super) fn generation(self) -> u32 {
        self.0 & GENERATION
    }
}

/// A tail or a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) lap: u64,
    pub(super) slot: usize,
}

impl Position {
    pub(super) fn decode(word: u64) -> Self {
        Self { lap: word >> LOW_BITS, slot: (word & LOW) as usize }
    }

    pub(super) fn encode(self) -> u64 {
        self.lap << LOW_BITS | self.slot as u64
    }

    pub(super) fn next(self, slots: usize) -> Self {
        if self.slot + 1 < slots {
            Self { lap: self.lap, slot: self.slot + 1 }
        } else {
            Self { lap: next_lap(self.lap), slot: 0 }
        }
    }
}

pub(super) fn next_lap(lap: u64) -> u64 {
    (lap + 1) & LAPS
}

/// Where a slot is in its life. In this order, once in each lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Writing(Owner),
    Full,
    /// Its writer has died.
    Skipped,
    Taking(Owner),
}

/// What a slot's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotWord {
    pub(super) lap: u64,
    pub(super) state: State,
}

/// How a lap lies to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Before,
    Same,
    After,
    Nonsense,
}

impl SlotWord {
    /// None: nobody of us has written this.
    pub(super) fn decode(word: u64) -> Option<Self> {
        let owner = Owner((word & ((1 << 25) - 1)) as u32);
        let state = match word >> 25 & 7 {
            0 => State::Free,
            1 => State::Writing(owner),
            2 => State::Full,
            3 => State::Skipped,
            4 => State::Taking(owner),
            _ => return None,
        };
        Some(Self { lap: word >> LOW_BITS, state })
    }

    pub(super) fn encode(self) -> u64 {
        let (state, owner) = match self.state {
            State::Free => (0, 0),
            State::Writing(owner) => (1, owner.0),
            State::Full => (2, 0),
            State::Skipped => (3, 0),
            State::Taking(owner) => (4, owner.0),
        };
        self.lap << LOW_BITS | state << 25 | u64::from(owner)
    }

    pub(super) fn beside(self, lap: u64) -> Beside {
        match self.lap.wrapping_sub(lap) & LAPS {
            0 => Beside::Same,
            1 => Beside::After,
            LAPS => Beside::Before,
            _ => Beside::Nonsense,
        }
    }
}

/// Who has a block, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Free,
    /// It is being filled, or its message is in the channel.
    Filled(Owner),
    /// Its message was received, and the receiver uses it where it lies.
    Leased(Owner),
}

/// What a block's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockWord {
    pub(super) generation: u32,
    pub(super) usage: Use,
}

impl BlockWord {
    pub(super) fn decode(word: u64) -> Option<Self> {
        let owner = Owner((word & ((1 << 25) - 1)) as u32);
        let usage = match word >> 28 & 3 {
            0 => Use::Free,
            1 => Use::Filled(owner),
            2 => Use::Leased(owner),
            _ => return None,
        };
        Some(Self { generation: (word >> 32) as u32, usage })
    }

    pub(super) fn encode(self) -> u64 {
        let (usage, owner) = match self.usage {
            Use::Free => (0, 0),
            Use::Filled(owner) => (1, owner.0),
            Use::Leased(owner) => (2, owner.0),
        };
        u64::from(self.generation) << 32 | usage << 28 | u64::from(owner)
    }

    /// It is given back.
    pub(super) fn freed(self) -> Self {
        Self { generation: self.generation.wrapping_add(1), usage: Use::Free }
    }
}

/// Where a party is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Free,
    Alive,
    /// It has ended, and what it left is not all cleared up.
    Dead,
}

/// What a party's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartyWord {
    pub(super) generation: u32,
    pub(super) life: Life,
    pub(super) pid: u32,
}

impl PartyWord {
    pub(super) fn decode(word: u64) -> Self {
        let life = match word >> 32 & 3 {
            0 => Life::Free,
            1 => Life::Alive,
            _ => Life::Dead,
        };
        Self { generation: (word >> 34) as u32 & GENERATION, life, pid: word as u32 }
    }

    pub(super) fn encode(self) -> u64 {
        let life = match self.life {
            Life::Free => 0,
            Life::Alive => 1,
            Life::Dead => 2,
        };
        u64::from(self.generation) << 34 | life << 32 | u64::from(self.pid)
    }

    pub(super) fn freed(self) -> Self {
        Self { generation: (self.generation + 1) & GENERATION, life: Life::Free, pid: 0 }
    }
}

/// What a party has: how many senders and receivers. `generation 15 | senders 24 | receivers 24`.
pub(super) fn counts(generation: u32, senders: u32, receivers: u32) -> u64 {
    u64::from(generation) << 48 | u64::from(senders & 0xff_ffff) << 24 | u64::from(receivers & 0xff_ffff)
}

/// How many of one side, if the word is of that generation.
pub(super) fn count_of(word: u64, generation: u32, side: Side) -> u32 {
    if (word >> 48) as u32 != generation {
        return 0;
    }
    match side {
        Side::Send => (word >> 24) as u32 & 0xff_ffff,
        Side::Receive => word as u32 & 0xff_ffff,
    }
}

/// One of a side, in such a word.
pub(super) fn one(side: Side) -> u64 {
    match side {
        Side::Send => 1 << 24,
        Side::Receive => 1,
    }
}

/// An end of a channel that is on its way: counted by nobody but this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransitWord {
    pub(super) generation: u32,
    pub(super) of: Option<(Side, Owner)>,
}

impl TransitWord {
    pub(super) fn decode(word: u64) -> Self {
        let owner = Owner((word & ((1 << 25) - 1)) as u32);
        let side = if word >> 27 & 1 == 0 { Side::Send } else { Side::Receive };
        Self { generation: (word >> 32) as u32, of: (word >> 28 & 3 == 1).then_some((side, owner)) }
    }

    pub(super) fn encode(self) -> u64 {
        let of = self.of.map_or(0, |(side, owner)| 1 << 28 | (side as u64) << 27 | u64::from(owner.0));
        u64::from(self.generation) << 32 | of
    }

    pub(super) fn freed(self) -> Self {
        Self { generation: self.generation.wrapping_add(1), of: None }
    }
}

/// The place of one message.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) word: AtomicU64,
    /// `kind 8 | in a block 1 | length 55`.
    pub(super) head: AtomicU64,
    /// The message, or `block 32 | its generation 32`.
    pub(super) text: [AtomicU64; TEXT],
}

/// The books of one block.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Block {
    pub(super) word: AtomicU64,
    /// Of the message in it.
    pub(super) len: AtomicU64,
    /// Bytes that may have been written to since its pages were given back.
    pub(super) touched: AtomicU64,
}

/// A process that has the channel.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Party {
    pub(super) word: AtomicU64,
    /// When the process was started, as the kernel counts it: `generation 15 | start 49`.
    pub(super) start: AtomicU64,
    /// See [`counts`].
    pub(super) counts: AtomicU64,
}

/// What all look at.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) tail: Line<AtomicU64>,
    pub(super) head: Line<AtomicU64>,
    /// Receivers sleep here.
    pub(super) items: Line<Gong>,
    /// Senders sleep here that need a slot.
    pub(super) room: Line<Gong>,
    /// Senders sleep here that need a block.
    pub(super) space: Line<Gong>,
    pub(super) news: Line<News>,
}

/// What changes rarely.
#[repr(C)]
#[derive(Debug)]
pub(super) struct News {
    /// Grows whenever an end is counted anew, and when a party has died.
    pub(super) epoch: AtomicU64,
    /// 1: no senders any more; 2: no receivers any more. Never taken back.
    pub(super) closed: AtomicU32,
    /// Of the blocks, parties and transits: all above were never used.
    pub(super) blocks: AtomicU32,
    pub(super) parties: AtomicU32,
    pub(super) transits: AtomicU32,
    /// What the maker has said; see `member.rs`.
    pub(super) shape: [AtomicU64; 5],
}

/// On cache lines of its own; 128 bytes, because processors fetch lines in pairs.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Line<T>(pub(super) T);

#[cfg(loom)]
mod made {
    use super::*;

    fn word() -> AtomicU64 {
        AtomicU64::new(0)
    }

    impl Ends {
        pub(in crate::channel) fn new() -> Self {
            let small = || AtomicU32::new(0);
            let news = News {
                epoch: word(),
                closed: small(),
                blocks: small(),
                parties: small(),
                transits: small(),
                shape: std::array::from_fn(|_| word()),
            };
            let gong = || Line(Gong::new());
            Self {
                tail: Line(word()),
                head: Line(word()),
                items: gong(),
                room: gong(),
                space: gong(),
                news: Line(news),
            }
        }
    }

    impl Slot {
        pub(in crate::channel) fn new() -> Self {
            Self { word: word(), head: word(), text: std::array::from_fn(|_| word()) }
        }
    }

    impl Block {
        pub(in crate::channel) fn new() -> Self {
            Self { word: word(), len: word(), touched: word() }
        }
    }

    impl Party {
        pub(in crate::channel) fn new() -> Self {
            Self { word: word(), start: word(), counts: word() }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_a_word_says_is_what_was_written(word in any::<u64>()) {
            if let Some(slot) = SlotWord::decode(word) {
                prop_assert_eq!(SlotWord::decode(slot.encode()), Some(slot));
            }
            if let Some(block) = BlockWord::decode(word) {
                prop_assert_eq!(BlockWord::decode(block.encode()), Some(block));
            }
            let (party, transit, position) = (PartyWord::decode(word), TransitWord::decode(word), Position::decode(word));
            prop_assert_eq!(PartyWord::decode(party.encode()), party);
            prop_assert_eq!(TransitWord::decode(transit.encode()), transit);
            prop_assert_eq!(position.encode(), word);
        }
    }

    #[test]
    fn the_last_lap_is_before_the_first() {
        let last = Position { lap: LAPS, slot: 2 };
        assert_eq!(last.next(3), Position { lap: 0, slot: 0 });
        let word = SlotWord { lap: LAPS, state: State::Full };
        assert_eq!(
            (word.beside(0), word.beside(LAPS), word.beside(LAPS - 1)),
            (Beside::Before, Beside::Same, Beside::After)
        );
        assert_eq!(word.beside(7), Beside::Nonsense);
    }
}
