//! The lane's one thread of its own: it supervises the workers, and it sees to what nobody waits for.
//!
//! It sleeps in the lane's [`Watch`](crate::Watch) and makes one *pass* each time it is woken: bury the dead, take in
//! replies, refill rings, share out work, set the alarms for the next time; then, without the lock, tell the client.

use super::dispatch::{Departure, Effects};
use super::engine::Lane;
use super::ticket::Ticket;
use crate::Watched;

/// What the language above does for a lane. All of it is called by the keeper, with no lock held.
pub trait Client<H>: Send + Sync + 'static {
    /// Runs the whole of the keeper's life, so that the language can prepare the thread and clean up after it.
    fn surround(&self, life: &mut (dyn FnMut() + Send));

    /// Tells whoever wants to know that these calls have ended.
    fn announce(&self, tickets: Vec<H>);

    /// Drops tickets that nobody needs.
    fn dispose(&self, tickets: Vec<H>);

    /// A worker has ended. The client starts another one if it wants one.
    fn departed(&self, departure: Departure, has_work: bool);

    /// The lane is broken and takes no more.
    fn broken(&self, reason: &str);
}

/// Answered calls may wait for disposal until this many have come together.
const HEAP: usize = 256;

pub(super) fn run<H: Ticket>(lane: &Lane<H>, client: &impl Client<H>) {
    client.surround(&mut || {
        let mut seen = Vec::new();
        // The first pass does not wait: something may have happened before this thread was there.
        while pass(lane, client, &mut seen) {
            lane.watch.wait(&mut seen);
        }
    });
}

/// Looks at everything once. Returns whether there is more to come.
fn pass<H: Ticket>(lane: &Lane<H>, client: &impl Client<H>, seen: &mut Vec<Watched>) -> bool {
    let mut effects = Effects::none();
    let mut departures = Vec::new();
    let mut dispatch = lane.dispatch.lock();
    for watched in seen.drain(..) {
        let Watched::Ended(number) = watched else { continue };
        let Some(process) = dispatch.seat_mut(number).and_then(|seat| seat.process.as_mut()) else { continue };
        let Some(ending) = process.poll() else { continue };
        lane.watch.remove(process);
        departures.extend(dispatch.bury(number, ending, &mut effects));
    }
    dispatch.drain(&mut effects);
    dispatch.advance(&mut effects);
    dispatch.steal(&lane.page, &mut effects);
    dispatch.arm_keeper();
    let mut again = dispatch.has_replies(); // they came while the alarms were being set
    effects.announce.append(&mut dispatch.announce);
    let spent = if dispatch.graveyard.len() >= HEAP || dispatch.closing || dispatch.broken.is_some() {
        std::mem::take(&mut dispatch.graveyard)
    } else {
        Vec::new()
    };
    let has_work = dispatch.outstanding() > 0;
    drop(dispatch);

    if !departures.is_empty() {
        lane.page.bell().ring_always(); // the dead worker may have been about to ring, and nobody else does it
    } else if effects.moved {
        lane.page.bell().ring();
    }
    if !effects.announce.is_empty() {
        client.announce(std::mem::take(&mut effects.announce));
    }
    if !spent.is_empty() {
        client.dispose(spent);
    }
    if let Some(reason) = &effects.broken {
        client.broken(reason);
    }
    for departure in departures {
        client.departed(departure, has_work);
    }
    let over = lane.dispatch.lock().is_over();
    again &= !over;
    if again {
        lane.watch.wake();
    }
    !over
}
