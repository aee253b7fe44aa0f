//! What happened at some moment, and is worth a word.

use std::collections::HashSet;

use super::ends;
use super::format::flag;
use super::merge::{Context, Merging, Names};
use super::order::{self, Circles};
use super::read::Order;
use crate::session::{Fact, Label, UnitId};

/// Adds the facts that a file tells.
pub(super) fn add(merging: &mut Merging<'_>, context: &Context<'_>, circles: &[Vec<&Order>], names: &Names) {
    add_exceptions(merging, context, names);
    add_orders(merging, context, circles, names);
    add_leaks(merging, context, names);
    add_forks(merging, context, names);
    add_daemons(merging, context, names);
    ends::add(merging, context, names);
}

pub(super) fn unit(names: &Names, thread: u32) -> Option<UnitId> {
    names.threads.get(&thread).map(|thread| UnitId { process: names.process, thread: Some(*thread) })
}

pub(super) fn name(merging: &Merging<'_>, names: &Names, thread: u32) -> String {
    let index = names.threads.get(&thread).copied();
    let thread = index.and_then(|index| merging.session.processes[names.process].threads.get(index));
    thread.map_or_else(|| "a thread that is gone".into(), |thread| format!("\"{}\"", thread.name))
}

fn what(merging: &Merging<'_>, names: &Names, lock: u32) -> String {
    let thing = names.things.get(&lock).and_then(|thing| merging.session.things.get(*thing as usize));
    thing.map_or_else(|| "a lock".into(), |thing| thing.what.clone())
}

fn add_exceptions(merging: &mut Merging<'_>, context: &Context<'_>, names: &Names) {
    for exception in &context.events().exceptions {
        let detail = context.text(exception.text).to_owned();
        if let Some(thread) = names.threads.get(&exception.thread) {
            merging.session.processes[names.process].threads[*thread].exception = Some(detail.clone());
        }
        let place = merging.own_place(context, exception.stack);
        let text = format!("{} ends here", name(merging, names, exception.thread));
        merging.session.facts.push(Fact {
            kind: "unhandled-exception".into(),
            at: merging.moment(exception.at),
            units: unit(names, exception.thread).into_iter().collect(),
            things: Vec::new(),
            labels: place.map(|place| Label { place, text }).into_iter().collect(),
            detail,
        });
    }
}

/// Whether two edges could have been walked at the same moment: neither thread had ended when the other one began.
fn could_meet(context: &Context<'_>, one: &Order, other: &Order) -> bool {
    let events = context.events();
    let (Some(first), Some(second)) = (events.threads.get(&one.thread), events.threads.get(&other.thread)) else {
        return false;
    };
    let is_over = |early: &super::read::Thread, late: &super::read::Thread| {
        let is_before = if early.last == 0 { early.ended <= late.began } else { early.last <= late.first };
        early.ended != 0 && is_before
    };
    if is_over(first, second) || is_over(second, first) {
        return false;
    }
    // Who starts the other one after walking its edge is before it.
    let is_before = |early: &Order, late: &super::read::Thread, late_number: u32| {
        late_number != early.thread && context.index.has_started(early.thread, late.ident, early.at, late.began)
    };
    !is_before(one, second, other.thread) && !is_before(other, first, one.thread)
}

/// Circles of locks, and not by libraries alone: nothing the program could do about those. Nor by one that is released by others than have taken it: it is a
/// signal, or many hold it together as the readers of a reader-writer lock do, and who has taken it is not who waits while it is held.
pub(super) fn circles<'a>(context: &Context<'a>) -> Circles<'a> {
    let events = context.events();
    let is_passed_on = |lock: &u32| events.locks.get(lock).is_some_and(|lock| lock.is_passed_on);
    let is_of_one = |order: &&Order| ![order.held, order.taken].iter().any(is_passed_on);
    let is_own = |circle: &Vec<&Order>| {
        circle.iter().flat_map(|order| [order.stack, order.held_stack]).any(|stack| context.is_own(stack))
    };
    let meet = |one: &Order, other: &Order| could_meet(context, one, other);
    // One of which nothing is known any more may have been there for signals.
    let is_limit = |semaphore: u32| events.locks.get(&semaphore).is_some_and(|lock| lock.is_limit);
    let mut circles = order::circles(events.orders.iter().filter(is_of_one), meet, is_limit);
    circles.found.retain(is_own);
    if !events.orders.iter().all(|order| is_of_one(&order)) {
        let all = order::circles(events.orders.iter(), meet, is_limit).found;
        circles.is_left_out = all.iter().any(|circle| is_own(circle) && !circle.iter().all(is_of_one));
    }
    circles
}

fn add_orders(merging: &mut Merging<'_>, context: &Context<'_>, circles: &[Vec<&Order>], names: &Names) {
    for circle in circles {
        let mut labels = Vec::new();
        for order in circle {
            let who = name(merging, names, order.thread);
            for (stack, text) in [
                (order.held_stack, format!("{who} has taken {} here", what(merging, names, order.held))),
                (order.stack, format!("{who} takes {} here", what(merging, names, order.taken))),
            ] {
                labels.extend(merging.own_place(context, stack).map(|place| Label { place, text }));
            }
        }
        let last = circle.iter().map(|order| order.at).max().unwrap_or_default();
        merging.session.facts.push(Fact {
            kind: "lock-order".into(),
            at: merging.moment(last),
            units: circle.iter().filter_map(|order| unit(names, order.thread)).collect(),
            things: circle.iter().filter_map(|order| names.things.get(&order.held).copied()).collect(),
            labels,
            detail: String::new(),
        });
    }
}

/// Locks that were held when their thread or the interpreter ended.
fn add_leaks(merging: &mut Merging<'_>, context: &Context<'_>, names: &Names) {
    let events = context.events();
    let told = events.leaks.iter().map(|leak| (leak.lock, leak.at, leak.owner, leak.place));
    // A process that was killed says nothing about what it would have released.
    let has_ended = |owner: &u32| {
        events.flags & flag::ENDED != 0 || events.threads.get(owner).is_some_and(|thread| thread.ended != 0)
    };
    let left = events
        .locks
        .iter()
        .filter(|(_, lock)| lock.is_there && !lock.is_waiter && lock.owner != 0 && has_ended(&lock.owner))
        // One that others release is there to be left to them.
        .filter(|(_, lock)| !lock.is_passed_on);
    let left = left.map(|(number, lock)| {
        let at = events.threads.get(&lock.owner).map_or(0, |thread| thread.ended);
        (*number, if at == 0 { events.ended } else { at }, lock.owner, lock.taken_at)
    });
    let mut all: Vec<_> = told.chain(left).collect();
    all.sort_unstable();
    all.dedup_by_key(|leak| leak.0);
    for (lock, at, owner, place) in all {
        let is_daemon = names.threads.get(&owner).is_some_and(|thread| {
            let thread = &merging.session.processes[names.process].threads[*thread];
            thread.is_daemon == Some(true)
        });
        let Some(place) = context.place(place).filter(|(file, ..)| !crate::watch::is_installed(file)) else { continue };
        // When the main thread has ended nobody is left who could want it.
        let process = &merging.session.processes[names.process];
        let is_main = |thread: &usize| process.threads[*thread].native_id == process.pid;
        if is_daemon || names.threads.get(&owner).is_none_or(is_main) {
            continue;
        }
        let text = format!("{} has taken {} here", name(merging, names, owner), what(merging, names, lock));
        let label = Label { place: merging.place(place), text };
        merging.session.facts.push(Fact {
            kind: "lock-leaked".into(),
            at: merging.moment(at),
            units: unit(names, owner).into_iter().collect(),
            things: names.things.get(&lock).copied().into_iter().collect(),
            labels: vec![label],
            detail: String::new(),
        });
    }
}

/// Waits of a forked child for a lock whose holder is not in the child.
fn add_forks(merging: &mut Merging<'_>, context: &Context<'_>, names: &Names) {
    let events = context.events();
    if events.parent.0 == 0 {
        return;
    }
    let mut told = HashSet::new();
    for wait in &events.waits {
        if wait.holder == 0 || wait.has_got || events.threads.contains_key(&wait.holder) || !told.insert(wait.lock) {
            continue;
        }
        let lock = what(merging, names, wait.lock);
        let mut labels = Vec::new();
        for (stack, text) in [
            (wait.stack, format!("the child waits for {lock} here")),
            (wait.taken, "a thread of the parent held it when the child was forked".into()),
        ] {
            labels.extend(merging.own_place(context, stack).map(|place| Label { place, text }));
        }
        merging.session.facts.push(Fact {
            kind: "fork-with-lock".into(),
            at: merging.moment(wait.from),
            units: unit(names, wait.thread).into_iter().collect(),
            things: names.things.get(&wait.lock).copied().into_iter().collect(),
            labels,
            detail: format!("whoever holds {lock} is not in process {}", events.pid),
        });
    }
}

/// Daemon threads that were there when the interpreter ended.
fn add_daemons(merging: &mut Merging<'_>, context: &Context<'_>, names: &Names) {
    let events = context.events();
    if events.flags & flag::ENDED == 0 {
        return;
    }
    for start in events.starts.iter().filter(|start| start.is_daemon == Some(true)) {
        let Some((number, thread)) = context.started(start) else { continue };
        if thread.ended != 0 && !thread.is_cut_off {
            continue;
        }
        let text = format!("{} is started here", name(merging, names, number));
        let place = merging.own_place(context, start.stack);
        merging.session.facts.push(Fact {
            kind: "daemon-killed".into(),
            at: merging.moment(events.ended),
            units: unit(names, number).into_iter().collect(),
            things: Vec::new(),
            labels: place.map(|place| Label { place, text }).into_iter().collect(),
            detail: String::new(),
        });
    }
}
