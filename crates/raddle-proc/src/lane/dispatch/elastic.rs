//! How many workers there should be.

use std::time::{Duration, Instant};

use super::super::ticket::Ticket;
use super::Dispatch;

/// When workers are told to end because there is nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elastic {
    /// So many stay.
    pub(crate) least: usize,
    /// How long the others stay. None: for ever.
    pub(crate) idle: Option<Duration>,
}

impl<H: Ticket> Dispatch<H> {
    /// Whether there are more calls than workers that take them.
    pub(crate) fn wants_worker(&self) -> bool {
        self.outstanding() > self.seats().filter(|seat| seat.takes_calls()).count()
    }

    /// If workers that have nothing to do are to end after a while, and this one has nothing to do, its time begins.
    pub(super) fn note_idle(&mut self, number: usize) {
        let Some(timeout) = self.elastic.idle else { return };
        let Some(seat) = self.seat_mut(number).filter(|seat| seat.load() == 0) else { return };
        let now = Instant::now();
        seat.note_idle(now);
        self.set_alarm(now.checked_add(timeout));
    }

    /// Tells workers to end that have had nothing to do for too long, and sees to it that the keeper comes again for the others.
    pub(super) fn let_idle_go(&mut self, now: Instant) {
        let Some(timeout) = self.elastic.idle.filter(|_| !self.closing) else { return };
        let mut stay = self.seats().filter(|seat| seat.takes_calls()).count();
        let mut next = None;
        for seat in self.seats.iter_mut().flatten() {
            if stay <= self.elastic.least {
                return;
            }
            let Some(due) = seat.idle_since().and_then(|since| since.checked_add(timeout)) else { continue };
            if due <= now {
                stay -= usize::from(seat.send_stop());
            } else {
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
            }
        }
        self.set_alarm(next);
    }
}
