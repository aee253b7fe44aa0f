//! A channel whose memory is the model checker's.

use raddle_core::prim::atomic::AtomicU64;

use super::table::{BlockId, Garbled, Label, Table, Transit};
use super::words::{Block, Ends, Owner, Party, Side, Slot, SlotWord, State, Use};
use crate::Gong;
use raddle_core::prim::atomic::Ordering::SeqCst;

/// The memory.
#[derive(Debug)]
pub struct Channel {
    ends: Ends,
    slots: Vec<Slot>,
    blocks: Vec<Block>,
    parties: Vec<Party>,
    transits: Vec<AtomicU64>,
}

/// A party.
#[derive(Clone, Copy, Debug)]
pub struct Me(Owner);

/// A block of a party.
#[derive(Debug)]
pub struct Piece(BlockId);

impl Channel {
    /// An empty channel.
    pub fn new(slots: usize, blocks: usize, parties: usize) -> Self {
        Self {
            ends: Ends::new(),
            slots: (0..slots).map(|_| Slot::new()).collect(),
            blocks: (0..blocks).map(|_| Block::new()).collect(),
            parties: (0..parties).map(|_| Party::new()).collect(),
            transits: vec![AtomicU64::new(0)],
        }
    }

    fn table(&self) -> Table<'_> {
        let Self { ends, slots, blocks, parties, transits } = self;
        Table { ends, slots, blocks, parties, transits }
    }

    /// A new party.
    pub fn join(&self) -> Me {
        Me(self.table().join(1, 1).expect("there is room"))
    }

    /// Sends a number.
    pub fn send(&self, me: Me, number: u64) -> bool {
        let label = Label { kind: 1, len: 8, is_in_block: false };
        self.table().send(me.0, label, &[number]).expect("all keep the rules")
    }

    /// Sends a block.
    pub fn send_piece(&self, me: Me, piece: &Piece) -> bool {
        let label = Label { kind: 1, len: 1, is_in_block: true };
        self.table().send(me.0, label, &[piece.0.encode()]).expect("all keep the rules")
    }

    /// Takes a number, or a block.
    pub fn take(&self, me: Me) -> Option<Result<u64, Piece>> {
        let taken: Result<_, Garbled> = self.table().take(me.0);
        let taken = taken.expect("all keep the rules")?;
        Some(if taken.label.is_in_block { Err(Piece(BlockId::decode(taken.text[0]))) } else { Ok(taken.text[0]) })
    }

    /// A block.
    pub fn claim(&self, me: Me) -> Option<Piece> {
        self.table().claim_block(me.0, 1, None).map(Piece)
    }

    /// Gives a block back that was taken.
    pub fn give_back(&self, me: Me, piece: &Piece) {
        self.table().free_block(piece.0, Use::Leased(me.0));
    }

    /// The first half of a send, by a party that dies over it.
    pub fn die_sending(&self, me: Me) {
        self.die(State::Free, State::Writing(me.0));
    }

    /// The first half of a take.
    pub fn die_taking(&self, me: Me) {
        self.die(State::Full, State::Taking(me.0));
    }

    /// In the first slot and lap.
    fn die(&self, from: State, to: State) {
        let word = |state| SlotWord { lap: 0, state }.encode();
        _ = self.slots[0].word.compare_exchange(word(from), word(to), SeqCst, SeqCst);
    }

    /// Clears up after a party.
    pub fn bury(&self, me: Me) {
        self.table().bury(me.0);
    }

    /// One end more.
    pub fn add(&self, me: Me, side: Side) {
        assert!(self.table().add(me.0, side));
    }

    /// One less.
    pub fn remove(&self, me: Me, side: Side) {
        self.table().remove(me.0, side);
    }

    /// An end that is under way.
    pub fn dispatch(&self, me: Me, side: Side) -> Transit {
        self.table().dispatch(me.0, side).expect("there is room")
    }

    /// It has arrived.
    pub fn arrived(&self, transit: Transit) -> bool {
        self.table().arrived(transit)
    }

    /// Whether nobody has an end of that side.
    pub fn is_deserted(&self, side: Side) -> bool {
        self.table().is_deserted(side)
    }

    /// Where a side sleeps.
    pub fn gong(&self, side: Side) -> &Gong {
        match side {
            Side::Send => &self.ends.room.0,
            Side::Receive => &self.ends.items.0,
        }
    }
}
