//! Which call comes first, while ranks count (rule 15 of the lane).

use std::time::Instant;

use raddle_core::sched::Rank;

use super::super::seat::Recovered;
use super::super::ticket::Ticket;
use super::Dispatch;

/// While calls have ranks, rings hold about so many nanoseconds of work, so that little has to be taken out of them again.
const NEAR: u64 = 200_000;
/// And then at most this many calls.
const SHALLOW: usize = 64;

impl<H: Ticket> Dispatch<H> {
    /// A call of this rank is coming: from the first that is not 0 until the lane is empty, ranks count.
    pub(super) fn note_rank(&mut self, rank: Rank) {
        if !self.ranked && rank != 0 {
            self.ranked = true;
            self.recall();
            self.refill();
        } else if self.ranked && rank == 0 && self.outstanding() == 0 {
            self.ranked = false;
        }
    }

    /// Rule 15: what is less urgent than the first call of the backlog, and has not begun, makes way for it.
    pub(super) fn make_way(&mut self) {
        let Some(rank) = self.backlog.front().map(|next| next.ticket.rank()) else { return };
        let mut left = Vec::new();
        for seat in self.seats.iter_mut().flatten() {
            while seat.last_waiting().is_some_and(|last| last < rank)
                && let Some(recovered) = seat.revoke_last()
            {
                left.push(recovered);
            }
        }
        left.reverse();
        self.effects.moved |= !left.is_empty();
        self.requeue(left);
        self.refill();
    }

    /// Takes every call back into the backlog that no worker has begun.
    pub(super) fn recall(&mut self) {
        let mut lines: Vec<_> = self.seats.iter_mut().flatten().map(|seat| seat.revoke_waiting().into_iter()).collect();
        // One of each in turn: which of two seats was given a call earlier, nobody knows.
        let mut left = Vec::new();
        loop {
            let before = left.len();
            left.extend(lines.iter_mut().filter_map(Iterator::next));
            if left.len() == before {
                break;
            }
        }
        self.effects.moved |= !left.is_empty();
        self.requeue(left);
    }

    /// How many calls a ring may hold.
    pub(super) fn depth(&self) -> usize {
        if self.ranked { self.pace.window(NEAR, 2, SHALLOW) } else { usize::MAX }
    }

    /// Puts calls that lost their worker back, and keeps rule 15: what others have not begun may be less urgent.
    pub(super) fn put_back(&mut self, left: Vec<Recovered<H>>) {
        let is_news = !left.is_empty();
        self.requeue(left);
        if self.ranked && is_news {
            self.recall();
        }
    }

    /// While ranks count and a worker has nothing to do: it is to get what is most urgent, and not what comes last. What waits behind a
    /// long call goes elsewhere, and if there is no such call all that has not begun is shared out anew.
    pub(super) fn share_out(&mut self, now: Instant) {
        let left: Vec<_> = self.seats.iter_mut().flatten().flat_map(|seat| seat.leave_long(now)).collect();
        if left.is_empty() {
            self.recall();
        }
        self.effects.moved |= !left.is_empty();
        self.requeue(left);
        self.make_way();
    }

    /// While ranks count, nothing waits behind a call that was seen to be a long one as long as others wait elsewhere.
    pub(super) fn pass_long_calls(&mut self, now: Instant) {
        let left: Vec<_> = self.seats.iter_mut().flatten().flat_map(|seat| seat.leave_long(now)).collect();
        self.effects.moved |= !left.is_empty();
        self.requeue(left);
        self.make_way();
        let some_wait = self.seats().any(|seat| seat.spare() > 1);
        self.effects.foretold |= some_wait;
    }
}
