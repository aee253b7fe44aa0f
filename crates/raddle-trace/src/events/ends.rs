//! Threads whose end nobody waited for.
//!
//! ```text
//!      start        end                                              never joined: there was time to, and nobody did
//!        ├───────────┤
//!  main ─┴───────────────────────────────┤ nothing left to do
//!            ├───────────────────────────┼───────────────┤           orphaned: the program ends when it does
//!          start                                        end
//! ```
//!
//! # Rules
//!
//! 1. Only threads are told of that the program itself has started, by `threading.Thread`, and that are no daemons. Those of pools, of timers and of other libraries
//!    are looked after by them.
//! 2. Whoever joined a thread, or was told by `is_alive` that it has ended, knows of it, however late. The interpreter, which joins what is left, does not count.
//! 3. A thread that has met another one at a lock, an event or a queue of the program may have said there that it is done: it is not told as one that was never joined.
//! 4. Nothing is said where something of this could have been missed.
//! 5. A thread that ends when the program does is neither: [`SHORT`] is how far apart the two must be.

use std::collections::HashSet;

use super::facts::{name, unit};
use super::format::flag;
use super::merge::{Context, Merging, Names};
use super::read::{Events, Join, Start, Thread};
use crate::session::{Fact, Label, Nanos};
use crate::watch::is_installed;
use crate::words::duration;

/// A tenth of a second is nothing that anybody waits for.
const SHORT: Nanos = 100_000_000;

pub(super) fn add(merging: &mut Merging<'_>, context: &Context<'_>, names: &Names) {
    let events = context.events();
    // Without this moment it is not known how the program ended: it may have been killed.
    if events.main_ended == 0 || events.dropped != 0 {
        return;
    }
    let joined = joined(context);
    let main_ended = merging.moment(events.main_ended);
    for start in events.starts.iter().filter(|start| start.is_daemon == Some(false) && is_own(context, start)) {
        let Some((number, thread)) = context.started(start) else { continue };
        if joined.contains(&number) {
            continue;
        }
        let ended = if thread.ended == 0 { names.end } else { merging.moment(thread.ended) };
        let (kind, detail) = if ended >= main_ended.saturating_add(SHORT) {
            ("orphaned-thread", left_over(merging, names, number, ended - main_ended))
        } else if ended.saturating_add(SHORT) <= main_ended
            && is_seen(start, thread)
            && may_be_told(context, start, number)
        {
            ("never-joined", outlived(merging, events, names, start, thread))
        } else {
            continue;
        };
        let text = format!("{} is started here", name(merging, names, number));
        let place = merging.own_place(context, start.stack);
        merging.session.facts.push(Fact {
            kind: kind.into(),
            at: if kind == "never-joined" { ended } else { main_ended },
            units: unit(names, number).into_iter().collect(),
            things: Vec::new(),
            labels: place.map(|place| Label { place, text }).into_iter().collect(),
            detail,
        });
    }
}

/// Rule 1: who calls `start`, and what runs.
fn is_own(context: &Context<'_>, start: &Start) -> bool {
    let is_timer = context.place(start.function).is_some_and(|(file, function, _)| {
        file.ends_with("/threading.py") && is_installed(file) && function == "Timer.run"
    });
    let caller = context.stack(start.stack).find(|(file, ..)| !(file.ends_with("/threading.py") && is_installed(file)));
    !is_timer && caller.is_some_and(|(file, ..)| !is_installed(file) && !is_ours(file))
}

/// Whether it is a file of Raddle's own that is not installed, but lies in its source tree.
fn is_ours(file: &str) -> bool {
    file.contains("/python/raddle/")
}

/// The numbers of the threads whose end somebody knows of (rule 2).
fn joined(context: &Context<'_>) -> HashSet<u32> {
    let events = context.events();
    let is_interpreter = |join: &&Join| {
        let place = context.stack(join.stack).next();
        place.is_some_and(|(file, function, _)| file.ends_with("/threading.py") && function == "_shutdown")
    };
    let number = |join: &Join| {
        if join.of != 0 {
            return Some(join.of);
        }
        context.started(context.index.joined(events, join)?).map(|(number, _)| number)
    };
    events.joins.iter().filter(|join| !is_interpreter(join)).filter_map(number).collect()
}

/// Whether it would have been seen that it is joined (rule 4).
fn is_seen(start: &Start, thread: &Thread) -> bool {
    thread.joins_seen || start.handle != 0
}

/// Rules 3 and 4. Where a function of a library runs, such as a server's loop, the library has its own ways to say when it is over.
fn may_be_told(context: &Context<'_>, start: &Start, number: u32) -> bool {
    let events = context.events();
    let is_library = context.place(start.function).is_some_and(|(file, ..)| is_installed(file));
    !is_library && events.flags & flag::UNSEEN_MEANS == 0 && !events.met.contains(&number)
}

fn left_over(merging: &Merging<'_>, names: &Names, number: u32, length: Nanos) -> String {
    format!("{} went on for {} after the main thread", name(merging, names, number), duration(length))
}

/// What is to be said of the one that has started it, if that was not there any more.
fn outlived(merging: &Merging<'_>, events: &Events, names: &Names, start: &Start, thread: &Thread) -> String {
    let starter = events.threads.get(&start.thread);
    if starter.is_some_and(|starter| starter.ended != 0 && starter.ended < thread.ended) {
        format!("{}, which had started it, ended before it", name(merging, names, start.thread))
    } else {
        String::new()
    }
}
