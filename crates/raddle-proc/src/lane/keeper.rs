//! The lane's one thread of its own: it supervises the workers, and it sees to what nobody waits for.
//!
//! It sleeps in the lane's [`Watch`](crate::Watch) and makes one *pass* each time it is woken: bury the dead, take in
//! replies, refill rings, share out work, set the alarms for the next time; then, without the lock, tell the client.

use std::time::Instant;

use super::dispatch::Departure;
use super::engine::Lane;
use super::ticket::Ticket;
use super::zygote::{self, ZygoteNews};
use crate::{Watch, Watched};

/// What the language above does for a lane. All of it is called by the keeper, with no lock held.
pub trait Client<H>: Send + Sync + 'static {
    /// Runs the whole of the keeper's life, so that the language can prepare the thread and clean up after it.
    fn surround(&self, life: &mut (dyn FnMut() + Send));

    /// Tells whoever wants to know that these calls have ended.
    fn announce(&self, tickets: Vec<H>);

    /// Workers have said something: [`Lane::words`] has it.
    fn heard(&self);

    /// Drops tickets that nobody needs.
    fn dispose(&self, tickets: Vec<H>);

    /// A worker has ended. The client starts another one if it wants one.
    fn departed(&self, departure: Departure, has_work: bool);

    /// The lane is broken and takes no more.
    fn broken(&self, reason: &str);

    /// Something has become of the zygote. The client starts workers in another way, or a new zygote, if there is work.
    fn zygote(&self, news: ZygoteNews) {
        let _ = news;
    }
}

/// Answered calls may wait for disposal until this many have come together.
const HEAP: usize = 256;

pub(super) fn run<H: Ticket>(lane: &Lane<H>, client: &impl Client<H>) {
    // It is there until this thread gives it up.
    let Some(post) = lane.post.get() else { return };
    client.surround(&mut || {
        let mut seen = Vec::new();
        // The first pass does not wait: something may have happened before this thread was there.
        while pass(lane, &post.watch, client, &mut seen) {
            post.watch.wait(&mut seen);
        }
    });
}

/// Looks at everything once. Returns whether there is more to come.
fn pass<H: Ticket>(lane: &Lane<H>, watch: &Watch, client: &impl Client<H>, seen: &mut Vec<Watched>) -> bool {
    let mut dispatch = lane.dispatch.lock();
    dispatch.keeper_looks();
    let heard = seen.contains(&Watched::Zygote);
    let news = if heard { zygote::attend(lane, watch, &mut dispatch) } else { Vec::new() };
    for watched in seen.drain(..) {
        let Watched::Ended(number) = watched else { continue };
        let Some(process) = dispatch.seat_mut(number).and_then(|seat| seat.process.as_mut()) else { continue };
        let Some(ending) = process.poll() else { continue };
        watch.remove(process);
        dispatch.bury(number, ending);
    }
    dispatch.ask_for_backlog(&lane.page);
    dispatch.advance();
    dispatch.enforce_limits(Instant::now());
    dispatch.steal(&lane.page);
    dispatch.arm_keeper();
    dispatch.stop_workers(); // a ring that had no room for the order may have some, and nobody was told
    zygote::settle(lane, &mut dispatch);
    let again = dispatch.has_replies() || dispatch.has_words(); // they came while the alarms were being set
    let announce = std::mem::take(&mut dispatch.effects.announce);
    let broken = dispatch.effects.broken.take();
    let departures = std::mem::take(&mut dispatch.effects.departures);
    let spent = if dispatch.graveyard.len() >= HEAP || dispatch.closing || dispatch.broken.is_some() {
        std::mem::take(&mut dispatch.graveyard)
    } else {
        Vec::new()
    };
    let has_work = dispatch.outstanding() > 0;
    let heard = !dispatch.effects.words.is_empty();
    let owed = dispatch.owed(true);
    lane.set_alarm(owed);
    drop(dispatch);

    if !departures.is_empty() {
        lane.page.bell().ring_always(); // the dead worker may have been about to ring, and nobody else does it
    }
    lane.pay(owed);
    if heard {
        client.heard();
    }
    if !announce.is_empty() {
        client.announce(announce);
    }
    if !spent.is_empty() {
        client.dispose(spent);
    }
    if let Some(reason) = &broken {
        client.broken(reason);
    }
    for departure in departures {
        client.departed(departure, has_work);
    }
    for news in news {
        client.zygote(news);
    }
    let over = lane.dispatch.lock().is_over() && lane.zygote.lock().is_none();
    if again && !over {
        watch.wake();
    }
    !over
}
