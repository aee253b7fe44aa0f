//! First in first out within a rank; the highest rank first.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// How urgent an item is: the larger, the earlier. Most have the rank 0.
pub type Rank = i16;

/// Where an item lies: its rank and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Its rank.
    pub rank: Rank,
    /// Its number within the rank; the next item has the next one.
    pub number: u64,
}

/// The number of the first item of a rank. Below it is room for what is put in front.
const MIDDLE: u64 = 1 << 44;

/// A line of items for each rank. A plain value: no atomics, no locks.
///
/// Items keep their [`Position`], so that one can be taken out from the middle. It leaves a gap, which goes when it comes to the
/// front. As long as all items have the rank 0, it is a `VecDeque` and nothing else.
///
/// # Examples
///
/// ```
/// use raddle_core::sched::Ranked;
///
/// let mut line = Ranked::new();
/// line.push_back(0, "soon");
/// let never = line.push_back(0, "never");
/// line.push_back(5, "now");
/// assert_eq!(line.take(never), Some("never"));
/// assert_eq!(line.pop_front(), Some("now"));
/// assert_eq!(line.pop_front(), Some("soon"));
/// assert_eq!(line.pop_front(), None);
/// ```
pub struct Ranked<T> {
    plain: Line<T>,
    /// Every other rank that has items. A line that is empty is removed.
    others: BTreeMap<Rank, Line<T>>,
    /// Items in all lines.
    len: usize,
}

/// The items of one rank.
struct Line<T> {
    /// None where one was taken out. The first one is never None.
    items: VecDeque<Option<T>>,
    /// Number of the first one.
    first: u64,
}

impl<T> Line<T> {
    const fn new() -> Self {
        Self { items: VecDeque::new(), first: MIDDLE }
    }

    /// Makes the first one an item, or the line empty.
    fn close_gap(&mut self) {
        while let Some(None) = self.items.front() {
            self.items.pop_front();
            self.first += 1;
        }
    }

    fn pop_front(&mut self) -> Option<T> {
        let item = self.items.pop_front()??;
        self.first += 1;
        self.close_gap();
        Some(item)
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn take(&mut self, number: u64) -> Option<T> {
        let index = self.index_of(number)?;
        let item = self.items.get_mut(index)?.take();
        self.close_gap();
        item
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flatten()
    }
}

impl<T> Ranked<T> {
    /// No items.
    pub const fn new() -> Self {
        Self { plain: Line::new(), others: BTreeMap::new(), len: 0 }
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next item of this rank will lie.
    pub fn next_position(&self, rank: Rank) -> Position {
        let line = if rank == 0 { Some(&self.plain) } else { self.others.get(&rank) };
        Position { rank, number: line.map_or(MIDDLE, |line| line.first + line.items.len() as u64) }
    }

    /// Where an item that is put before all others of this rank will lie.
    pub fn position_in_front(&self, rank: Rank) -> Position {
        let line = if rank == 0 { Some(&self.plain) } else { self.others.get(&rank) };
        Position { rank, number: line.map_or(MIDDLE, |line| line.first) - 1 }
    }

    /// Appends an item to those of its rank.
    pub fn push_back(&mut self, rank: Rank, item: T) -> Position {
        let position = self.next_position(rank);
        self.line(rank).items.push_back(Some(item));
        self.len += 1;
        position
    }

    /// Puts an item before all others of its rank.
    pub fn push_front(&mut self, rank: Rank, item: T) -> Position {
        let line = self.line(rank);
        line.items.push_front(Some(item));
        line.first -= 1;
        let position = Position { rank, number: line.first };
        self.len += 1;
        position
    }

    /// The item that is next.
    pub fn front(&self) -> Option<&T> {
        let line = match self.foremost() {
            0 => &self.plain,
            rank => self.others.get(&rank)?,
        };
        line.items.front()?.as_ref()
    }

    /// The item that is next.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        let line = match self.foremost() {
            0 => &mut self.plain,
            rank => self.others.get_mut(&rank)?,
        };
        line.items.front_mut()?.as_mut()
    }

    /// An item, wherever it lies. None: it is not here any more.
    pub fn get(&self, position: Position) -> Option<&T> {
        let line = if position.rank == 0 { &self.plain } else { self.others.get(&position.rank)? };
        line.items.get(line.index_of(position.number)?)?.as_ref()
    }

    /// The same.
    pub fn get_mut(&mut self, position: Position) -> Option<&mut T> {
        let line = self.line_of(position.rank)?;
        let index = line.index_of(position.number)?;
        line.items.get_mut(index)?.as_mut()
    }

    /// Takes the item that is next.
    pub fn pop_front(&mut self) -> Option<T> {
        let rank = self.foremost();
        let item = self.line_of(rank)?.pop_front();
        self.settle(rank, item)
    }

    /// Takes an item out, wherever it lies. None: it is not here any more.
    pub fn take(&mut self, position: Position) -> Option<T> {
        let item = self.line_of(position.rank)?.take(position.number);
        self.settle(position.rank, item)
    }

    /// Takes all items out, the next one first.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.len);
        all.extend(std::iter::from_fn(|| self.pop_front()));
        *self = Self::new();
        all
    }

    /// All items, in no promised order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.others.values().flat_map(Line::iter).chain(self.plain.iter())
    }

    /// The highest rank that has items; 0 if none has.
    fn foremost(&self) -> Rank {
        let highest = |rank: &Rank| *rank > 0 || self.plain.items.is_empty();
        self.others.last_key_value().map(|(rank, _)| *rank).filter(highest).unwrap_or(0)
    }

    fn line(&mut self, rank: Rank) -> &mut Line<T> {
        if rank == 0 { &mut self.plain } else { self.others.entry(rank).or_insert_with(Line::new) }
    }

    fn line_of(&mut self, rank: Rank) -> Option<&mut Line<T>> {
        if rank == 0 { Some(&mut self.plain) } else { self.others.get_mut(&rank) }
    }

    /// An item was taken out of a line, or there was none.
    fn settle(&mut self, rank: Rank, item: Option<T>) -> Option<T> {
        self.len -= usize::from(item.is_some());
        if rank != 0 && self.others.get(&rank).is_some_and(|line| line.items.is_empty()) {
            self.others.remove(&rank);
        }
        item
    }
}

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Ranked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranked").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What can be done to it.
    #[derive(Clone, Debug)]
    enum Step {
        Back(Rank),
        Front(Rank),
        Pop,
        Take(usize),
        All,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (-2_i16..3).prop_map(Step::Back),
            (-2_i16..3).prop_map(Step::Front),
            Just(Step::Pop),
            any::<usize>().prop_map(Step::Take),
            Just(Step::All),
        ]
    }

    proptest! {
        /// Held against a list that is sorted by rank, and stably.
        #[test]
        fn it_is_a_sorted_list(steps in proptest::collection::vec(step(), 0..200)) {
            let mut ranked = Ranked::new();
            let mut list: Vec<(Rank, usize, Position)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Back(rank) => {
                        let foreseen = ranked.next_position(rank);
                        let position = ranked.push_back(rank, number);
                        prop_assert_eq!(foreseen, position);
                        let at = list.iter().position(|entry| entry.0 < rank).unwrap_or(list.len());
                        list.insert(at, (rank, number, position));
                    }
                    Step::Front(rank) => {
                        let foreseen = ranked.position_in_front(rank);
                        let position = ranked.push_front(rank, number);
                        prop_assert_eq!(foreseen, position);
                        let at = list.iter().position(|entry| entry.0 <= rank).unwrap_or(list.len());
                        list.insert(at, (rank, number, position));
                    }
                    Step::Pop => {
                        let next = (!list.is_empty()).then(|| list.remove(0).1);
                        prop_assert_eq!(ranked.pop_front(), next);
                    }
                    Step::Take(which) if !list.is_empty() => {
                        let (_, number, position) = list.remove(which % list.len());
                        prop_assert_eq!(ranked.take(position), Some(number));
                        prop_assert_eq!(ranked.take(position), None);
                    }
                    Step::Take(_) => {}
                    Step::All => {
                        let all: Vec<usize> = list.drain(..).map(|entry| entry.1).collect();
                        prop_assert_eq!(ranked.take_all(), all);
                    }
                }
                prop_assert_eq!(ranked.len(), list.len());
                prop_assert_eq!(ranked.front(), list.first().map(|entry| &entry.1));
                prop_assert_eq!(ranked.front_mut(), list.first_mut().map(|entry| &mut entry.1));
                for (_, number, position) in &mut list {
                    prop_assert_eq!(ranked.get(*position), Some(&*number));
                    prop_assert_eq!(ranked.get_mut(*position), Some(number));
                }
                prop_assert_eq!(ranked.iter().count(), list.len());
            }
        }
    }
}
