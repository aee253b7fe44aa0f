//! How a map is divided among workers (rules 19 to 22 of the lane).

use std::time::Instant;

use raddle_shm::ring::Header;

use super::super::link::{Page, flag};
use super::super::seat::{LATE, Stage};
use super::super::ticket::{Outgoing, Reply, Spot, Ticket};
use super::{Dispatch, Waiting, want_idle};

/// A piece is made to take so many nanoseconds, at most: half of the time after which what is left of it is taken away.
const MOST: u64 = 500_000;
/// And at least so many, where there is enough: twenty times what the lane takes for it.
const LEAST: u64 = 20_000;
/// Items that take longer than this go one by one: there is nothing to win any more.
const LONG: u64 = 100_000;
/// Pieces that a worker has ahead: while it is not known what an item takes; of one long item each; and of many.
const UNKNOWN_AHEAD: usize = 2;
const LONG_AHEAD: usize = 4;
const AHEAD: usize = 8;

/// What a worker has not done of a piece that it has answered; None: nothing.
pub(super) fn rest_of<H: Ticket>(ticket: &H, reply: &Reply) -> Option<H> {
    match reply {
        Reply::Answer { done, .. } if ticket.is_piece() && (*done).max(1) < ticket.items() => {
            ticket.cut_back((*done).max(1))
        }
        _ => None,
    }
}

impl<H: Ticket> Dispatch<H> {
    /// Takes in a piece. Returns whether one more worker would help.
    pub(crate) fn submit_piece(&mut self, ticket: H, out: &Outgoing<'_>, bytes: usize, page: &Page) -> bool {
        self.counts.submitted += u64::from(ticket.items());
        self.counts.bytes += bytes as u64;
        let had_backlog = !self.backlog.is_empty();
        let Outgoing { kind, flags, tag, .. } = *out;
        self.push_back(Waiting { ticket, kind, flags, tag, payload: Box::default() });
        self.drain();
        self.refill();
        if !self.backlog.is_empty() {
            if !had_backlog {
                self.arm_for_backlog();
            }
            if want_idle(page) && self.has_replies() {
                self.drain();
                self.refill();
            }
        }
        !self.backlog.is_empty() || self.outstanding() > self.seat_count()
    }

    /// Whether the next call would lie behind this one.
    pub(crate) fn is_last(&self, ticket: &H) -> bool {
        let Spot::Backlog(mut position) = ticket.place().get() else { return false };
        position.number += 1;
        position == self.backlog.next_position(position.rank)
    }

    /// The last piece gets one more item.
    pub(crate) fn extend_piece(&mut self, grow: &mut dyn FnMut() -> usize) {
        self.counts.submitted += 1;
        self.counts.bytes += grow() as u64;
        if self.has_replies() {
            self.drain();
            self.refill();
        }
    }

    /// Puts the rest of a piece before everything else.
    pub(super) fn put_in_front(&mut self, ticket: H, sent: Header) {
        let Header { kind, flags, tag, .. } = sent;
        let flags = flags & !(flag::SPILLED | flag::TIMED);
        self.push_front(Waiting { ticket, kind, flags, tag, payload: Box::default() });
    }

    /// Sends the next worker a part of the piece that is first in the backlog. False: none has room for it now.
    pub(super) fn send_piece(&mut self) -> bool {
        let alone = self.backlog.len() == 1;
        let Some(next) = self.backlog.front() else { return false };
        let (items, pace) = (next.ticket.items(), next.ticket.pace());
        let Some(number) = self.choose_for_piece(pace) else { return false };
        let count = self.size_of_piece(items, alone, pace);
        let Some(Waiting { ticket, kind, flags, tag, .. }) = self.pop_piece(count) else { return false };
        let mut payload = Vec::new();
        ticket.write_piece(&mut payload);
        let seat = self.seats[number].as_mut().expect("`choose_for_piece` names a seat that exists");
        if !seat.can_hold(payload.len()) {
            self.refuse(ticket, payload.len());
            return true;
        }
        match seat.send(number, &self.functions, ticket, &Outgoing { kind, flags, tag, parts: &[&payload] }) {
            Ok(()) => {
                if self.closing {
                    seat.arm(seat.last() + 1);
                }
                let foretold = count > 1 || seat.load() > 1;
                self.effects.moved = true;
                if foretold {
                    self.set_alarm(Instant::now().checked_add(LATE)); // it should be seen whether that came true
                }
                true
            }
            Err(ticket) => {
                self.push_front(Waiting { ticket, kind, flags, tag, payload: Box::default() });
                false
            }
        }
    }

    /// Takes so many items of the piece that is first in the backlog out of it.
    fn pop_piece(&mut self, count: u32) -> Option<Waiting<H>> {
        let next = self.backlog.front()?;
        if count >= next.ticket.items() {
            return self.backlog.pop_front();
        }
        let ticket = next.ticket.cut_front(count)?;
        Some(Waiting { ticket, kind: next.kind, flags: next.flags, tag: next.tag, payload: Box::default() })
    }

    /// The seat for the next piece: the one that has the least ahead, rather one that is ready.
    fn choose_for_piece(&self, pace: Option<u64>) -> Option<usize> {
        let ahead = match pace {
            None => UNKNOWN_AHEAD,
            Some(each) if each >= LONG => LONG_AHEAD,
            Some(_) => AHEAD,
        };
        let seats = self.seats.iter().enumerate().filter_map(|(number, seat)| Some((number, seat.as_ref()?)));
        let open = seats.filter(|(_, seat)| seat.takes_calls() && !seat.runs_long() && seat.load() < ahead);
        open.min_by_key(|(_, seat)| (seat.load(), seat.stage != Stage::Live)).map(|(number, _)| number)
    }

    /// How many of `items` make the next piece; `alone`: they are all that is left.
    fn size_of_piece(&self, items: u32, alone: bool, pace: Option<u64>) -> u32 {
        let Some(each) = pace.filter(|&each| each < LONG).map(|each| each.max(1)) else { return 1 };
        let fair = if alone { u64::from(items) / (2 * self.seat_count().max(1) as u64) } else { u64::MAX };
        let size = (MOST / each).min(fair.max(LEAST / each)).max(1);
        u32::try_from(size).map_or(items, |size| size.min(items))
    }

    /// Rule 21: what a worker has not begun goes elsewhere if it is much longer at an item, or a piece, than was foretold. Sees to it that
    /// the keeper comes again for the others.
    pub(super) fn leave_late_pieces(&mut self, now: Instant) {
        for number in 0..self.seats.len() {
            let Some(seat) = self.seats[number].as_mut() else { continue };
            let Some(due) = seat.late_at() else { continue };
            if due > now {
                self.set_alarm(Some(due));
                continue;
            }
            let (tail, left) = seat.leave_late_piece(now);
            let early = seat.take_early();
            let again = seat.late_at();
            self.set_alarm(again);
            self.effects.moved |= early.is_some() || tail.is_some() || !left.is_empty();
            if let Some((ticket, reply)) = early {
                if let Some(seat) = self.seats[number].as_mut() {
                    seat.tally.answered(u64::from(ticket.items()), &reply);
                }
                self.deliver(ticket, reply);
            }
            self.requeue(left);
            tail.into_iter().for_each(|(ticket, sent)| self.put_in_front(ticket, sent));
        }
        self.refill();
    }
}

#[cfg(test)]
mod tests;
