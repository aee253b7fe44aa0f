//! The steps of the protocol (`channel.md`), each by one atomic operation.

use raddle_core::prim::atomic::AtomicU64;
use raddle_core::prim::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::words::{
    Beside, Block, BlockWord, Ends, INLINE, Life, Owner, Party, PartyWord, Position, Side, Slot, SlotWord, State, TEXT,
    TransitWord, Use, count_of, counts, next_lap, one,
};

/// The memory of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    pub(super) ends: &'a Ends,
    pub(super) slots: &'a [Slot],
    pub(super) blocks: &'a [Block],
    pub(super) parties: &'a [Party],
    pub(super) transits: &'a [AtomicU64],
}

/// What stands in a slot: what kind of message it is, where its bytes are, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) kind: u8,
    pub(super) len: usize,
    pub(super) is_in_block: bool,
}

const LEN: u64 = (1 << 55) - 1;

impl Label {
    fn encode(self) -> u64 {
        u64::from(self.kind) << 56 | u64::from(self.is_in_block) << 55 | self.len as u64 & LEN
    }

    fn decode(word: u64) -> Self {
        Self { kind: (word >> 56) as u8, len: (word & LEN) as usize, is_in_block: word >> 55 & 1 == 1 }
    }

    /// Words of the slot that its message takes.
    fn words(self) -> usize {
        if self.is_in_block { 1 } else { self.len.min(INLINE).div_ceil(8) }
    }
}

/// A block in one of its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    pub(super) index: usize,
    pub(super) generation: u32,
}

impl BlockId {
    pub(super) fn encode(self) -> u64 {
        (self.index as u64) << 32 | u64::from(self.generation)
    }

    pub(super) fn decode(word: u64) -> Self {
        Self { index: (word >> 32) as usize, generation: word as u32 }
    }
}

/// An end on its way, by number and word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transit {
    pub(super) index: u32,
    pub(super) word: u64,
}

#[cfg(not(loom))]
impl Transit {
    /// As two numbers, to be sent to whoever is to have the end.
    pub fn to_words(self) -> (u32, u64) {
        (self.index, self.word)
    }

    /// From such numbers.
    pub fn from_words(index: u32, word: u64) -> Self {
        Self { index, word }
    }
}

/// What lies in the memory has not been written by a party of this channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

impl std::fmt::Display for Garbled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the shared memory of the channel was overwritten")
    }
}

impl std::error::Error for Garbled {}

/// A message that was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) label: Label,
    pub(super) text: [u64; TEXT],
}

impl Table<'_> {
    // Sending.

    /// Puts a message at the end. `false`: there is no free slot. `text` is what stands in the slot.
    pub(super) fn send(&self, me: Owner, label: Label, text: &[u64]) -> Result<bool, Garbled> {
        let tail = &self.ends.tail.0;
        for _ in 0..self.most_steps() {
            // Ordering: Acquire. Not more than a hint: the slot's word decides.
            let at = tail.load(Acquire);
            let Position { lap, slot } = Position::decode(at);
            let slot = self.slots.get(slot).ok_or(Garbled)?;
            // Ordering: Acquire. Pairs with the Release in `finish`: who took the last message has stopped looking at it.
            let word = slot.word.load(Acquire);
            let seen = SlotWord::decode(word);
            match seen.map(|seen| (seen.beside(lap), seen.state)) {
                Some((Beside::Same, State::Free)) => {
                    let mine = SlotWord { lap, state: State::Writing(me) }.encode();
                    // Ordering: AcqRel. Acquire as above; Release, so that who sees the slot in this lap sees `tail` in it, too.
                    if slot.word.compare_exchange(word, mine, AcqRel, Relaxed).is_err() {
                        continue;
                    }
                    self.advance(tail, at);
                    slot.head.store(label.encode(), Relaxed);
                    for (to, from) in slot.text.iter().zip(text) {
                        to.store(*from, Relaxed);
                    }
                    let full = SlotWord { lap, state: State::Full }.encode();
                    // Ordering: Release. Pairs with the Acquire in `take`: who sees it full sees the message.
                    slot.word.compare_exchange(mine, full, Release, Relaxed).map_err(|_| Garbled)?;
                    self.ends.items.0.ring();
                    return Ok(true);
                }
                // Somebody was faster, or has died before it moved the tail.
                Some((Beside::Same, _) | (Beside::After, State::Free)) => self.advance(tail, at),
                Some((Beside::Before, state)) if state != State::Free && tail.load(Acquire) == at => return Ok(false),
                Some((Beside::Before, state)) if state != State::Free => {}
                _ if tail.load(Acquire) == at => return Err(Garbled),
                _ => {}
            }
        }
        Err(Garbled)
    }

    /// Whether the next slot is free. A hint.
    #[cfg(not(loom))]
    pub(super) fn has_room(&self) -> bool {
        let Position { lap, slot } = Position::decode(self.ends.tail.0.load(Acquire));
        // What is not a full slot is worth a try.
        let word = self.slots.get(slot).and_then(|slot| SlotWord::decode(slot.word.load(Acquire)));
        !matches!(word.map(|word| (word.beside(lap), word.state)), Some((Beside::Before, state)) if state != State::Free)
    }

    // Receiving.

    /// Takes the first message. `None`: there is none, or the first is still being written.
    pub(super) fn take(&self, me: Owner) -> Result<Option<Taken>, Garbled> {
        let head = &self.ends.head.0;
        for _ in 0..self.most_steps() {
            // Ordering: Acquire. Not more than a hint: the slot's word decides.
            let at = head.load(Acquire);
            let Position { lap, slot } = Position::decode(at);
            let slot = self.slots.get(slot).ok_or(Garbled)?;
            // Ordering: Acquire. Pairs with the Release in `send`: the message is all there.
            let word = slot.word.load(Acquire);
            let seen = SlotWord::decode(word);
            match seen.map(|seen| (seen.beside(lap), seen.state)) {
                Some((Beside::Same, State::Full)) => {
                    let mine = SlotWord { lap, state: State::Taking(me) }.encode();
                    // Ordering: AcqRel, as in `send`, with `head`.
                    if slot.word.compare_exchange(word, mine, AcqRel, Relaxed).is_err() {
                        continue;
                    }
                    self.advance(head, at);
                    return self.finish(me, slot, lap, mine).map(Some);
                }
                Some((Beside::Same, State::Skipped)) => {
                    let free = SlotWord { lap: next_lap(lap), state: State::Free }.encode();
                    // Ordering: Release, as in `finish`.
                    if slot.word.compare_exchange(word, free, Release, Relaxed).is_ok() {
                        self.advance(head, at);
                        self.ends.room.0.ring();
                    }
                }
                Some((Beside::Same, State::Taking(_)) | (Beside::After, _)) => self.advance(head, at),
                // Or the one who takes its last message is not through with it.
                Some((Beside::Same, State::Free | State::Writing(_)) | (Beside::Before, State::Taking(_))) => {
                    let is_now = head.load(Acquire) == at;
                    if is_now {
                        return Ok(None);
                    }
                }
                _ if head.load(Acquire) == at => return Err(Garbled),
                _ => {}
            }
        }
        Err(Garbled)
    }

    /// Copies the message out, takes its block over, and frees the slot.
    fn finish(&self, me: Owner, slot: &Slot, lap: u64, mine: u64) -> Result<Taken, Garbled> {
        let label = Label::decode(slot.head.load(Relaxed));
        let mut text = [0; TEXT];
        for (to, from) in text.iter_mut().zip(&slot.text).take(label.words()) {
            *to = from.load(Relaxed);
        }
        let sound = if label.is_in_block {
            // The block first: until the slot is free, who finds us dead finds the block by it.
            self.take_over(me, BlockId::decode(text[0]))
        } else {
            label.len <= INLINE
        };
        let free = SlotWord { lap: next_lap(lap), state: State::Free }.encode();
        // Ordering: Release. Pairs with the Acquire in `send`: we have stopped looking at the message before the next one is written.
        slot.word.compare_exchange(mine, free, Release, Relaxed).map_err(|_| Garbled)?;
        self.ends.room.0.ring();
        if sound { Ok(Taken { label, text }) } else { Err(Garbled) }
    }

    /// Whether there is something to take. A hint.
    #[cfg(not(loom))]
    pub(super) fn has_items(&self) -> bool {
        let Position { lap, slot } = Position::decode(self.ends.head.0.load(Acquire));
        let word = self.slots.get(slot).and_then(|slot| SlotWord::decode(slot.word.load(Acquire)));
        !matches!(
            word.map(|word| (word.beside(lap), word.state)),
            Some((Beside::Same, State::Free | State::Writing(_)))
        )
    }

    /// How many messages were sent, and received, as far as the positions tell. What was skipped counts on both sides.
    #[cfg(not(loom))]
    pub(super) fn totals(&self) -> (u64, u64) {
        let slots = self.slots.len() as u64;
        let total = |word: &AtomicU64| {
            let Position { lap, slot } = Position::decode(word.load(Acquire));
            lap.wrapping_mul(slots).wrapping_add(slot as u64)
        };
        let received = total(&self.ends.head.0);
        (total(&self.ends.tail.0), received)
    }

    /// How often `send` and `take` may find that others were faster, or something that makes no sense, before they give up.
    fn most_steps(&self) -> usize {
        4 * self.slots.len() + 100_000
    }

    /// Moves a position on, if nobody else has.
    fn advance(&self, position: &AtomicU64, at: u64) {
        let next = Position::decode(at).next(self.slots.len()).encode();
        // Ordering: AcqRel. Who sees the new position sees the slot that was used at the old one.
        _ = position.compare_exchange(at, next, AcqRel, Relaxed);
    }

    // Blocks.

    /// A block of its own for a message that is to be sent. None: there is none, or the messages in blocks would be longer than `limit`
    /// together.
    pub(super) fn claim_block(&self, me: Owner, len: usize, limit: Option<usize>) -> Option<BlockId> {
        if let Some(limit) = limit {
            let filled = self.sum_of_blocks(|usage| matches!(usage, Use::Filled(_)));
            if filled.saturating_add(len as u64) > limit as u64 {
                return None;
            }
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let word = block.word.load(Relaxed);
            let Some(seen @ BlockWord { usage: Use::Free, .. }) = BlockWord::decode(word) else { continue };
            let mine = BlockWord { usage: Use::Filled(me), ..seen }.encode();
            // Ordering: Acquire. Pairs with the Release in `free_block`: who had it has stopped using it.
            if block.word.compare_exchange(word, mine, Acquire, Relaxed).is_ok() {
                block.len.store(len as u64, Relaxed);
                self.ends.news.0.blocks.fetch_max(index as u32 + 1, Relaxed);
                return Some(BlockId { index, generation: seen.generation });
            }
        }
        None
    }

    /// Makes the block of a message ours.
    fn take_over(&self, me: Owner, id: BlockId) -> bool {
        let Some(block) = self.blocks.get(id.index) else { return false };
        // Who clears up after a dead sender changes the word once.
        for _ in 0..3 {
            let word = block.word.load(Relaxed);
            let filled = BlockWord::decode(word).filter(|seen| seen.generation == id.generation);
            let Some(seen @ BlockWord { usage: Use::Filled(_), .. }) = filled else { return false };
            let mine = BlockWord { usage: Use::Leased(me), ..seen }.encode();
            // Ordering: Relaxed. What its sender has written there came with the slot.
            if block.word.compare_exchange(word, mine, Relaxed, Relaxed).is_ok() {
                self.ends.space.0.ring_out();
                return true;
            }
        }
        false
    }

    /// Gives a block back that we had, for this use.
    pub(super) fn free_block(&self, id: BlockId, usage: Use) {
        let Some(block) = self.blocks.get(id.index) else { return };
        let mine = BlockWord { generation: id.generation, usage };
        // Ordering: Release. Pairs with the Acquire in `claim_block`.
        if block.word.compare_exchange(mine.encode(), mine.freed().encode(), Release, Relaxed).is_ok() {
            self.ends.space.0.ring_out();
        }
    }

    /// How many blocks receivers use.
    #[cfg(not(loom))]
    pub(super) fn leased(&self) -> usize {
        self.used_blocks()
            .iter()
            .filter(|block| {
                let word = BlockWord::decode(block.word.load(Relaxed));
                matches!(word, Some(BlockWord { usage: Use::Leased(_), .. }))
            })
            .count()
    }

    /// Bytes in blocks of messages that have not been received.
    #[cfg(not(loom))]
    pub(super) fn bytes(&self) -> u64 {
        self.sum_of_blocks(|usage| matches!(usage, Use::Filled(_)))
    }

    fn sum_of_blocks(&self, counts: impl Fn(Use) -> bool) -> u64 {
        let len = |block: &Block| {
            let counted = BlockWord::decode(block.word.load(Relaxed)).is_some_and(|word| counts(word.usage));
            if counted { block.len.load(Relaxed) } else { 0 }
        };
        self.used_blocks().iter().map(len).fold(0, u64::saturating_add)
    }

    /// Those that were ever used, at least those that this thread knows of.
    fn used_blocks(&self) -> &[Block] {
        let used = self.ends.news.0.blocks.load(Relaxed) as usize;
        &self.blocks[..used.min(self.blocks.len())]
    }

    // Parties and their ends.

    /// Makes a process a party. None: there are too many.
    pub(super) fn join(&self, pid: u32, start: u64) -> Option<Owner> {
        for (index, party) in self.parties.iter().enumerate() {
            let word = party.word.load(Relaxed);
            let seen = PartyWord::decode(word);
            if seen.life != Life::Free {
                continue;
            }
            let mine = PartyWord { life: Life::Alive, pid, ..seen };
            if party.word.compare_exchange(word, mine.encode(), AcqRel, Relaxed).is_err() {
                continue;
            }
            let generation = u64::from(seen.generation);
            party.start.store(generation << 49 | start & ((1 << 49) - 1), SeqCst);
            party.counts.store(counts(seen.generation, 0, 0), SeqCst);
            let news = &self.ends.news.0;
            news.parties.fetch_max(index as u32 + 1, SeqCst);
            self.tell();
            return Some(Owner::new(index, seen.generation));
        }
        None
    }

    /// Everybody looks who there is. It is no work that one of them could do for all: so all are woken, also those of whom no ringer knows.
    fn tell(&self) {
        let Ends { news, items, room, space, .. } = self.ends;
        news.0.epoch.fetch_add(1, SeqCst);
        for gong in [items, room, space] {
            gong.0.ring_all();
        }
    }

    /// A party that lives, by number.
    fn party(&self, owner: Owner) -> Option<&Party> {
        let party = self.parties.get(owner.index())?;
        let word = PartyWord::decode(party.word.load(SeqCst));
        (word.generation == owner.generation() && word.life == Life::Alive).then_some(party)
    }

    /// A party has one more of a side. `false`: it is no party.
    pub(super) fn add(&self, me: Owner, side: Side) -> bool {
        let Some(party) = self.party(me) else { return false };
        party.counts.fetch_add(one(side), SeqCst);
        // After the count, and before whoever gave it away is counted no more: see `is_deserted`.
        self.ends.news.0.epoch.fetch_add(1, SeqCst);
        true
    }

    /// A party has one less.
    pub(super) fn remove(&self, me: Owner, side: Side) {
        let Some(party) = self.party(me) else { return };
        let before = party.counts.fetch_sub(one(side), SeqCst);
        if count_of(before, me.generation(), side) == 1 {
            self.is_deserted(side);
        }
    }

    /// Whether a side has no ends any more, anywhere. It stays so.
    pub(super) fn is_deserted(&self, side: Side) -> bool {
        let news = &self.ends.news.0;
        let flag = 1 << side as u32;
        if news.closed.load(Acquire) & flag != 0 {
            return true;
        }
        // What was counted nowhere while nothing was counted anew is not there. If others are always faster, somebody is there.
        for _ in 0..64 {
            let epoch = news.epoch.load(SeqCst);
            if self.count(side) > 0 {
                return false;
            }
            if news.epoch.load(SeqCst) == epoch {
                // Ordering: AcqRel. Who sees the flag sees what the last of that side has done.
                news.closed.fetch_or(flag, AcqRel);
                self.tell();
                return true;
            }
        }
        false
    }

    /// Whether [`is_deserted`](Self::is_deserted) has said so before.
    #[inline]
    #[cfg(not(loom))]
    pub(super) fn is_closed(&self, side: Side) -> bool {
        self.ends.news.0.closed.load(Acquire) & (1 << side as u32) != 0
    }

    /// Ends of a side, also those on their way.
    pub(super) fn count(&self, side: Side) -> u64 {
        let news = &self.ends.news.0;
        let parties = (news.parties.load(SeqCst) as usize).min(self.parties.len());
        let here = self.parties[..parties].iter().map(|party| {
            let word = PartyWord::decode(party.word.load(SeqCst));
            if word.life != Life::Alive {
                return 0;
            }
            u64::from(count_of(party.counts.load(SeqCst), word.generation, side))
        });
        let transits = (news.transits.load(SeqCst) as usize).min(self.transits.len());
        let under_way = self.transits[..transits].iter().map(|word| {
            let of = TransitWord::decode(word.load(SeqCst)).of;
            u64::from(of.is_some_and(|(of, _)| of == side))
        });
        // Those on their way first: an end goes from there to a party, and a party's to there.
        under_way.sum::<u64>() + here.sum::<u64>()
    }

    /// Counts an end that is sent to another process. None: too many are on their way.
    pub(super) fn dispatch(&self, me: Owner, side: Side) -> Option<Transit> {
        for (index, at) in self.transits.iter().enumerate() {
            let word = at.load(Relaxed);
            let seen = TransitWord::decode(word);
            if seen.of.is_some() {
                continue;
            }
            let mine = TransitWord { of: Some((side, me)), ..seen }.encode();
            // Before it is counted, so that nobody who counts overlooks it.
            self.ends.news.0.transits.fetch_max(index as u32 + 1, SeqCst);
            if at.compare_exchange(word, mine, SeqCst, Relaxed).is_ok() {
                self.ends.news.0.epoch.fetch_add(1, SeqCst);
                return Some(Transit { index: index as u32, word: mine });
            }
        }
        None
    }

    /// The end has arrived, and is counted there; or it will never arrive. `false`: that was said before.
    pub(super) fn arrived(&self, transit: Transit) -> bool {
        let seen = TransitWord::decode(transit.word);
        let (Some(at), Some((side, _))) = (self.transits.get(transit.index as usize), seen.of) else { return false };
        let gone = at.compare_exchange(transit.word, seen.freed().encode(), SeqCst, Relaxed).is_ok();
        if gone {
            self.is_deserted(side);
        }
        gone
    }

    /// Whether it is still on its way.
    #[cfg(not(loom))]
    pub(super) fn is_under_way(&self, transit: Transit) -> bool {
        self.transits.get(transit.index as usize).is_some_and(|at| at.load(SeqCst) == transit.word)
    }

    /// Whether ends that this party has sent are on their way.
    #[cfg(not(loom))]
    pub(super) fn has_under_way(&self, me: Owner) -> bool {
        let used = (self.ends.news.0.transits.load(SeqCst) as usize).min(self.transits.len());
        let sent = |word: &AtomicU64| TransitWord::decode(word.load(SeqCst)).of.is_some_and(|(_, by)| by == me);
        self.transits[..used].iter().any(sent)
    }

    /// The processes of the parties that live: number, and start if it is known.
    #[cfg(not(loom))]
    pub(super) fn members(&self) -> Vec<(Owner, u32, Option<u64>)> {
        let used = (self.ends.news.0.parties.load(SeqCst) as usize).min(self.parties.len());
        let member = |(index, party): (usize, &Party)| {
            let word = PartyWord::decode(party.word.load(SeqCst));
            let start = party.start.load(SeqCst);
            let known = (start >> 49) as u32 == word.generation;
            let start = known.then_some(start & ((1 << 49) - 1));
            (word.life != Life::Free).then_some((Owner::new(index, word.generation), word.pid, start))
        };
        self.parties[..used].iter().enumerate().filter_map(member).collect()
    }

    // Death.

    /// A party has ended, and takes no more steps. Any number of others may say so at the same time, and die over it.
    pub(super) fn bury(&self, dead: Owner) {
        let Some(party) = self.parties.get(dead.index()) else { return };
        let word = party.word.load(SeqCst);
        let seen = PartyWord::decode(word);
        if seen.generation != dead.generation() || seen.life == Life::Free {
            return;
        }
        let buried = PartyWord { life: Life::Dead, ..seen };
        if seen.life == Life::Alive && party.word.compare_exchange(word, buried.encode(), SeqCst, SeqCst).is_err() {
            // Somebody else was faster. It goes on: that one may be dead by now.
            let now = PartyWord::decode(party.word.load(SeqCst));
            if now != buried {
                return;
            }
        }
        self.clear_slots(dead);
        self.clear_transits(dead);
        self.clear_blocks(dead);
        _ = party.word.compare_exchange(buried.encode(), buried.freed().encode(), SeqCst, Relaxed);
        for side in [Side::Send, Side::Receive] {
            self.is_deserted(side);
        }
        self.tell();
    }

    /// What it was writing is skipped; what it was taking is lost.
    fn clear_slots(&self, dead: Owner) {
        for slot in self.slots {
            let word = slot.word.load(Acquire);
            let Some(SlotWord { lap, state }) = SlotWord::decode(word) else { continue };
            let next = match state {
                State::Writing(owner) if owner == dead => SlotWord { lap, state: State::Skipped },
                State::Taking(owner) if owner == dead => {
                    let (label, text) = (Label::decode(slot.head.load(Relaxed)), slot.text[0].load(Relaxed));
                    if label.is_in_block {
                        self.free_unclaimed(BlockId::decode(text));
                    }
                    SlotWord { lap: next_lap(lap), state: State::Free }
                }
                _ => continue,
            };
            _ = slot.word.compare_exchange(word, next.encode(), AcqRel, Relaxed);
        }
    }

    /// Frees the block of a message whose taker died before it had made the block its own.
    fn free_unclaimed(&self, id: BlockId) {
        let Some(block) = self.blocks.get(id.index) else { return };
        // Who clears up after its sender changes the word once.
        for _ in 0..3 {
            let word = block.word.load(Relaxed);
            let filled = BlockWord::decode(word).filter(|seen| seen.generation == id.generation);
            let Some(seen @ BlockWord { usage: Use::Filled(_), .. }) = filled else { return };
            if block.word.compare_exchange(word, seen.freed().encode(), AcqRel, Relaxed).is_ok() {
                return;
            }
        }
    }

    fn clear_transits(&self, dead: Owner) {
        for at in self.transits {
            let word = at.load(SeqCst);
            let seen = TransitWord::decode(word);
            if seen.of.is_some_and(|(_, by)| by == dead) {
                _ = at.compare_exchange(word, seen.freed().encode(), SeqCst, Relaxed);
            }
        }
    }

    /// What it used is free. What it has sent stays, and belongs to nobody.
    fn clear_blocks(&self, dead: Owner) {
        for (index, block) in self.blocks.iter().enumerate() {
            // Ordering: Acquire. The word comes before the look at the slots: who takes the block meanwhile changes it.
            let word = block.word.load(Acquire);
            let Some(seen) = BlockWord::decode(word) else { continue };
            let next = match seen.usage {
                Use::Leased(owner) if owner == dead => seen.freed(),
                Use::Filled(owner) if owner == dead => {
                    if self.is_sent(BlockId { index, generation: seen.generation }) {
                        BlockWord { usage: Use::Filled(Owner::NOBODY), ..seen }
                    } else {
                        seen.freed()
                    }
                }
                _ => continue,
            };
            _ = block.word.compare_exchange(word, next.encode(), AcqRel, Relaxed);
        }
    }

    /// Whether a message in the channel, or one that is just being taken, lies in this block.
    fn is_sent(&self, id: BlockId) -> bool {
        self.slots.iter().any(|slot| {
            // A slot whose word changes under the look has been taken, and its taker has changed the block's word.
            let word = slot.word.load(Acquire);
            let holds = matches!(SlotWord::decode(word), Some(SlotWord { state: State::Full | State::Taking(_), .. }));
            holds && Label::decode(slot.head.load(Relaxed)).is_in_block && slot.text[0].load(Relaxed) == id.encode()
        })
    }
}
