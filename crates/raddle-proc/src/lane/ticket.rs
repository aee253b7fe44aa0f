//! What the lane needs to know of a call: its life, where it is, and how to answer it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use raddle_core::life::AtomicState;
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};
use raddle_core::sched::{Position, Rank};
use raddle_shm::heap::Lease;

use super::Payload;
use crate::Ending;

/// A call that somebody waits for, seen from the lane. The language above implements it for its future.
pub trait Ticket: Send + Sync + 'static {
    /// The life of the call.
    fn life(&self) -> &AtomicState;

    /// Where the call is; changed by the lane only.
    fn place(&self) -> &Place;

    /// How many calls this is for the statistics: one, or as many as a batch has items.
    fn items(&self) -> u32 {
        1
    }

    /// Whether it is a *piece*: many calls of a map, which the lane divides among workers as it sees fit (rules 19 to 22 of the lane).
    fn is_piece(&self) -> bool {
        false
    }

    /// Appends the payload of a piece, as far as it has not been cut.
    fn write_piece(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Cuts the first `count` items off a piece that has more, and returns a ticket for them. Called under the lane's lock, as the
    /// two below. None: it is no piece.
    fn cut_front(&self, count: u32) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = count;
        None
    }

    /// Cuts off the items after the first `count`, and returns a ticket for them.
    fn cut_back(&self, count: u32) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = count;
        None
    }

    /// Nanoseconds that an item of the piece takes, as far as is known.
    fn pace(&self) -> Option<u64> {
        None
    }

    /// The items of the piece turn out to take so many nanoseconds each.
    fn note_pace(&self, each: u64) {
        let _ = each;
    }

    /// How urgent the call is: the larger, the earlier it is begun.
    fn rank(&self) -> Rank {
        0
    }

    /// Takes out the leases of what the call's arguments lie in. Called under the lane's lock when a call was answered, and then
    /// they are kept until the worker gives them back; and when it ends in another way.
    fn take_leases(&self) -> Vec<Lease> {
        Vec::new()
    }

    /// Whether it is to be said when the call was begun.
    fn is_timed(&self) -> bool {
        false
    }

    /// The call was begun by this process, at this moment in nanoseconds of the monotonic clock, if that is known. Called under the
    /// lane's lock, just before the answer of a call that is timed is delivered, or that it is lost.
    fn begun(&self, pid: u32, at: Option<u64>) {
        let _ = (pid, at);
    }

    /// How long the call may run. Then its worker is ended, and the call with it.
    fn limit(&self) -> Option<Duration> {
        None
    }

    /// Whether the call may run again after its worker has died.
    fn may_retry(&self) -> bool {
        false
    }

    /// Counts one more attempt. False: it was the last one.
    fn retry(&self) -> bool {
        false
    }

    /// Bytes of the leases.
    fn lent(&self) -> u64 {
        0
    }

    /// Takes out one lease of this block, which the worker has given back before it answered.
    fn take_lease(&self, block: u64) -> Option<Lease> {
        let _ = block;
        None
    }

    /// Ends the call's life with this reply and wakes the threads that wait for it. Called at most once, under the
    /// lane's lock: it stores, it does not run user code. Returns whether somebody must be told (`Next::announce`).
    fn deliver(&self, reply: Reply) -> bool;
}

/// What came of a call. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The worker answered.
    Answer {
        /// One of [`kind`](super::kind)'s answers.
        kind: u8,
        /// How to read the payload, see [`flag`](super::flag).
        flags: u8,
        /// Nanoseconds that the call ran.
        nanos: u64,
        /// How many items of a batch were done; the others did not run.
        done: u32,
        /// How many of these raised. The last one, and the batch has ended there; or any of a batch that goes on.
        failed: u32,
        /// The answer itself.
        payload: Payload,
    },
    /// The worker died while it ran this call.
    Lost(Arc<Loss>),
    /// The call never ran, and never will: the lane is broken.
    Broken(Arc<str>),
}

/// A worker's death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The worker's process number.
    pub pid: u32,
    /// How it ended.
    pub ending: Ending,
    /// Why.
    pub cause: Cause,
    /// Whether the kernel has ended a process for want of memory at that time. None: it was not killed, or the kernel does not say.
    pub out_of_memory: Option<bool>,
    /// Bytes that it had in memory, at most, see [`Process::peak_memory`](crate::Process::peak_memory).
    pub peak_memory: Option<u64>,
    /// What the worker had to say when it crashed.
    pub words: Option<Arc<str>>,
    /// The last lines that it has printed.
    pub output: Option<Arc<str>>,
}

/// Why a worker has ended while it ran a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody here wanted it.
    Died,
    /// The call ran for longer than it was allowed to.
    Overdue(Duration),
    /// The call was to be stopped.
    Stopped,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker process {} {}", self.pid, self.ending)
    }
}

/// What a worker's death means for the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// The call that it ran fails; everything else goes on with a new worker.
    Replace,
    /// Every call fails, and the lane takes no more (what `concurrent.futures` promises).
    Break,
}

/// A request on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// [`CALL`](super::kind::CALL), [`BATCH`](super::kind::BATCH), [`PIECE`](super::kind::PIECE) or [`APPLY`](super::kind::APPLY).
    pub kind: u8,
    /// How the worker reads the payload.
    pub flags: u8,
    /// For all but `APPLY`: the number that [`Lane::define`](super::Lane::define) gave.
    pub tag: u32,
    /// The payload, in pieces that are sent as one.
    pub parts: &'a [&'a [u8]],
}

impl Outgoing<'_> {
    /// Bytes of the payload.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

/// Where a call is (rule 4 of the lane).
///
/// ```text
/// 63 62 │ 61 .. 48 │ 47 ........ 0
///  tag  │   seat   │    ordinal      tag 0: nowhere   2: a seat
///
/// 63 62 │ 61 ..... 46 │ 45 .... 0
///  tag  │    rank     │  number      tag 1: the backlog
/// ```
#[derive(Debug, Default)]
pub struct Place(AtomicU64);

/// A [`Place`], unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Nowhere,
    Backlog(Position),
    Seat { seat: usize, ordinal: u64 },
}

const TAG: u32 = 62;
const SEAT: u32 = 48;
const RANK: u32 = 46;

/// How many seats a place can name.
pub(crate) const SEATS: usize = 1 << (TAG - SEAT);

impl Place {
    // Ordering: Relaxed everywhere; the word is read and written under the lane's lock, which orders it.

    pub(crate) fn get(&self) -> Spot {
        let word = self.0.load(Relaxed);
        match word >> TAG {
            1 => Spot::Backlog(Position {
                rank: ((word >> RANK) as u16).cast_signed(),
                number: word & ((1 << RANK) - 1),
            }),
            2 => Spot::Seat { seat: (word >> SEAT) as usize & (SEATS - 1), ordinal: word & ((1 << SEAT) - 1) },
            _ => Spot::Nowhere,
        }
    }

    pub(crate) fn set(&self, spot: Spot) {
        let word = match spot {
            Spot::Nowhere => 0,
            Spot::Backlog(Position { rank, number }) => 1 << TAG | u64::from(rank.cast_unsigned()) << RANK | number,
            Spot::Seat { seat, ordinal } => 2 << TAG | (seat as u64) << SEAT | ordinal,
        };
        self.0.store(word, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_place_is_taken_for_another(seat in 0..SEATS, ordinal in 0..1_u64 << SEAT, rank: Rank, number in 0..1_u64 << RANK) {
            let place = Place::default();
            for spot in [Spot::Seat { seat, ordinal }, Spot::Backlog(Position { rank, number })] {
                place.set(spot);
                prop_assert_eq!(place.get(), spot);
            }
        }
    }

    #[test]
    fn a_place_keeps_what_was_put_into_it() {
        let place = Place::default();
        assert_eq!(place.get(), Spot::Nowhere);
        for spot in [
            Spot::Backlog(Position { rank: 0, number: 0 }),
            Spot::Backlog(Position { rank: -1, number: u64::from(u32::MAX) + 7 }),
            Spot::Seat { seat: 0, ordinal: 0 },
            Spot::Seat { seat: 16_383, ordinal: (1 << 48) - 1 },
            Spot::Nowhere,
        ] {
            place.set(spot);
            assert_eq!(place.get(), spot);
        }
    }
}
