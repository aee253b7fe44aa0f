//! What was recorded in the processes joins what was seen from outside.
//!
//! # Rules
//!
//! 1. What is in the session keeps its index. Processes, threads, places and things are found again by what identifies them, or added behind.
//! 2. An exact span replaces what was guessed for its time, and spans still do not overlap. Where each wait of a kind is known, and none was left out, what looks
//!    took for another one was none.
//! 3. A file that is not one of events, or that cannot be read, is left out with a note. One in which there is nothing yet has nothing to say: its process has
//!    only just been forked, or was killed then.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::path::Path;

use super::classify::{Class, classify};
use super::format::{SUFFIX, flag};
use super::index::Index;
use super::overlay::Worth;
use super::read::{Events, Order, Start, Wait};
use super::{facts, overlay};
use crate::quick::{QuickMap, QuickSet};
use crate::session::{Ending, Gil, Nanos, Pass, Place, PlaceId, Process, Session, Span, State, Thing, ThingId, Thread};
use crate::watch::is_installed;

/// How many exact spans are taken over at most; of more, the longest are.
const MOST_SPANS: usize = 200_000;

/// The kernel has a thread for a moment after the last that it has noted itself.
const LAG: Nanos = 100_000_000;

/// Reads all event files of a directory and adds what they say to a session.
///
/// `origin`: the session's start on `CLOCK_MONOTONIC`, in nanoseconds.
pub fn merge(session: &mut Session, directory: &Path, origin: u64) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) {
            match Events::of(&path) {
                Ok(events) => files.push(events),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
                Err(error) => session.notes.push(format!("{} could not be read: {error}", path.display())),
            }
        }
    }
    merge_all(session, files, origin);
}

/// Adds what files say.
pub(super) fn merge_all(session: &mut Session, mut files: Vec<Events>, origin: u64) {
    files.sort_by_key(|events| (events.began, events.pid, events.turn));
    let lengths = files.iter().flat_map(|events| {
        let waits = events.waits.iter().filter(|wait| wait.until != 0).map(|wait| wait.until.saturating_sub(wait.from));
        waits.chain(events.gil_waits.iter().map(|wait| wait.until.saturating_sub(wait.from)))
    });
    let shortest = shortest(lengths.collect());
    let by_name: HashMap<(u32, u32), usize> =
        files.iter().enumerate().map(|(index, events)| ((events.pid, events.turn), index)).collect();
    let places = session.places.iter().cloned().zip(0..).collect();
    let mut merging = Merging { session, origin, places, processes: HashMap::new(), things: HashMap::new(), shortest };
    merging.know();
    for at in 0..files.len() {
        merging.add(&Context::new(&files, &by_name, at));
    }
    merging.add_endings(&files);
}

/// The shortest length that is taken over, so that no more than so many are.
fn shortest(mut lengths: Vec<u64>) -> u64 {
    let Some(surplus) = lengths.len().checked_sub(MOST_SPANS) else { return 0 };
    if surplus == 0 { 0 } else { *lengths.select_nth_unstable(surplus).1 }
}

/// A file, and those that it goes on from.
pub(super) struct Context<'a> {
    files: &'a [Events],
    by_name: &'a HashMap<(u32, u32), usize>,
    at: usize,
    /// Of this file.
    pub(super) index: Index,
    /// What the waits with these stacks are: a million waits have some hundred stacks.
    classes: RefCell<QuickMap<u32, Class>>,
}

impl<'a> Context<'a> {
    /// `by_name`: where in `files` those are from which others go on; `at`: where this one is.
    pub(super) fn new(files: &'a [Events], by_name: &'a HashMap<(u32, u32), usize>, at: usize) -> Self {
        Self { files, by_name, at, index: Index::of(&files[at]), classes: RefCell::default() }
    }

    pub(super) fn events(&self) -> &'a Events {
        &self.files[self.at]
    }

    /// The thread that was started, by its number.
    pub(super) fn started(&self, start: &Start) -> Option<(u32, &'a super::read::Thread)> {
        self.index.started(self.events(), start)
    }

    /// What has this number: in this file, or in the one that it was forked from.
    fn look<T>(&self, id: u32, what: impl Fn(&Events) -> Option<&T>) -> Option<&T> {
        let mut index = self.at;
        // A chain of forks is no longer than there are files.
        for _ in 0..self.files.len() {
            let events = &self.files[index];
            if id >= events.first_id {
                return what(events);
            }
            index = *self.by_name.get(&events.parent).filter(|parent| **parent != index)?;
        }
        None
    }

    pub(super) fn text(&self, id: u32) -> &str {
        self.look(id, |events| events.texts.get(&id)).map_or("", String::as_str)
    }

    /// File, function and line.
    pub(super) fn place(&self, id: u32) -> Option<(&str, &str, u32)> {
        let (file, function, line) = *self.look(id, |events| events.places.get(&id))?;
        Some((self.text(file), self.text(function), line))
    }

    /// The places of a stack, the innermost first.
    pub(super) fn stack(&self, id: u32) -> impl Iterator<Item = (&str, &str, u32)> {
        let places = self.look(id, |events| events.stacks.get(&id)).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|place| self.place(*place))
    }

    /// Whether the program itself has anything to do with a stack.
    pub(super) fn is_own(&self, stack: u32) -> bool {
        self.stack(stack).any(|(file, ..)| !is_installed(file))
    }
}

pub(super) struct Merging<'a> {
    pub(super) session: &'a mut Session,
    origin: u64,
    places: HashMap<Place, PlaceId>,
    /// The processes of the session by their numbers, the oldest first.
    processes: HashMap<u32, Vec<usize>>,
    /// The locks of the session that nothing is known of yet but that somebody waited for them, the oldest first.
    things: HashMap<LockKey, VecDeque<ThingId>>,
    shortest: u64,
}

/// What a lock is found again by: its process, its address, and whether it is an `RLock`.
type LockKey = (usize, u64, bool);

/// What the numbers of a file are in the session.
pub(super) struct Names {
    pub(super) process: usize,
    pub(super) threads: QuickMap<u32, usize>,
    pub(super) things: QuickMap<u32, ThingId>,
    /// When nothing more was recorded.
    pub(super) end: Nanos,
}

impl Merging<'_> {
    pub(super) fn moment(&self, time: u64) -> Nanos {
        time.saturating_sub(self.origin)
    }

    /// Looks through what is in the session, once.
    fn know(&mut self) {
        for (index, process) in self.session.processes.iter().enumerate() {
            self.processes.entry(process.pid).or_default().push(index);
        }
        for (thing, id) in self.session.things.iter().zip(0..) {
            if matches!(thing.kind.as_str(), "lock" | "rlock") {
                let key = (thing.process, thing.object, thing.kind == "rlock");
                self.things.entry(key).or_default().push_back(id);
            }
        }
    }

    fn add(&mut self, context: &Context<'_>) {
        let events = context.events();
        let process = self.process_of(events);
        let end = match (events.ended, self.session.processes[process].ended) {
            (0, Some(ended)) => ended,
            // What began last has been there for a moment.
            (0, None) => self.session.length.max(self.moment(last_of(events)).saturating_add(1)),
            (ended, _) => self.moment(ended),
        };
        let mut names = Names { process, threads: QuickMap::default(), things: QuickMap::default(), end };
        self.add_threads(context, &mut names);
        let circles = facts::circles(context);
        self.add_things(context, &circles.found, &mut names);
        self.add_spans(context, &names);
        self.add_starts(context, &names);
        facts::add(self, context, &circles.found, &names);
        let end = names.end;
        let gil_since = self.moment(events.gil_since);
        let kept = &mut self.session.processes[process];
        kept.is_recorded = events.flags & (flag::LOCKS | flag::GIL) != 0;
        if events.flags & flag::GIL != 0 {
            let (mut held, waited, switches) = events.gil;
            if events.gil_since != 0 {
                held = held.saturating_add(end.saturating_sub(gil_since));
            }
            let before = kept.gil.unwrap_or_default();
            kept.gil = Some(Gil {
                held: before.held.saturating_add(held),
                waited: before.waited.saturating_add(waited),
                switches: before.switches.saturating_add(switches),
            });
        }
        self.session.dropped = self.session.dropped.saturating_add(events.dropped);
        for line in events.note.lines() {
            self.session.notes.push(format!("process {}: {line}", events.pid));
        }
        let missing = [
            (
                !circles.is_whole,
                "locks were taken in more orders than could be gone through: there may be more that are taken around a circle",
            ),
            (
                circles.is_left_out,
                "locks are taken around a circle of which one was released by another thread than had taken it, as a signal is: that is not told as lock-order",
            ),
            (events.locks_unseen > 0, "there were more locks than could be followed"),
            (
                events.orders_unseen > 0,
                "locks were taken in more orders than could be told: some that contradict each other may be missing",
            ),
        ];
        for (_, text) in missing.into_iter().filter(|(is_so, _)| *is_so) {
            self.session.notes.push(format!("process {}: {text}", events.pid));
        }
    }

    /// How children ended, as their parents were told, and who was meant to end so: what another process has sent a signal, or one of a group.
    fn add_endings(&mut self, files: &[Events]) {
        let mut sent: HashMap<(u32, i32), u64> = HashMap::new();
        for events in files {
            for (pid, when, number) in events.signalled.iter().filter(|(pid, ..)| *pid != events.pid) {
                sent.entry((*pid, *number)).and_modify(|first| *first = (*first).min(*when)).or_insert(*when);
            }
        }
        for (pid, when, ending) in files.iter().flat_map(|events| &events.reaped) {
            let was_sent = |pid, number| sent.get(&(pid, number)).is_some_and(|first| first <= when);
            let is_wanted = matches!(ending, Ending::Signal(number) if was_sent(*pid, *number) || was_sent(0, *number));
            let at = self.moment(*when);
            // A number can be given again: it is the last that had begun.
            let of_pid = self.processes.get(pid).into_iter().flatten();
            let Some(index) = of_pid.copied().rfind(|index| self.session.processes[*index].began <= at) else {
                continue;
            };
            let process = &mut self.session.processes[index];
            if matches!(process.ending, None | Some(Ending::Unknown)) {
                (process.ending, process.is_wanted) = (Some(*ending), is_wanted);
                process.ended = process.ended.or(Some(at));
            }
        }
    }

    fn process_of(&mut self, events: &Events) -> usize {
        let began = self.moment(events.began);
        let parent = self.processes.get(&events.parent.0).and_then(|indices| indices.last()).copied();
        let of_pid = self.processes.get(&events.pid).into_iter().flatten();
        let of_pid = of_pid.map(|index| (*index, &self.session.processes[*index]));
        // A number can be given again after its process has ended.
        let nearest = of_pid.filter(|(_, process)| process.ended.is_none_or(|ended| began <= ended));
        if let Some((index, _)) = nearest.min_by_key(|(_, process)| process.began.abs_diff(began)) {
            let process = &mut self.session.processes[index];
            process.began = process.began.min(began);
            self.name_fork(index, parent);
            return index;
        }
        let ended = (events.ended != 0).then(|| self.moment(events.ended));
        self.session.processes.push(Process { pid: events.pid, parent, began, ended, ..Process::default() });
        let index = self.session.processes.len() - 1;
        self.processes.entry(events.pid).or_default().push(index);
        self.name_fork(index, parent);
        index
    }

    /// A file goes on from another one where a process was forked. If nobody has seen the fork's command line, it is its parent's.
    fn name_fork(&mut self, index: usize, parent: Option<usize>) {
        if let Some(parent) = parent.filter(|_| self.session.processes[index].command.is_empty()) {
            self.session.processes[index].command = self.session.processes[parent].command.clone();
        }
    }

    fn add_threads(&mut self, context: &Context<'_>, names: &mut Names) {
        let mut seen: Vec<_> = context.events().threads.iter().filter(|(_, thread)| thread.began != 0).collect();
        seen.sort_by_key(|(number, thread)| (thread.began, **number));
        // Those of a number that no one in the file is yet.
        let mut free: HashMap<u32, VecDeque<usize>> = HashMap::new();
        for (index, thread) in self.session.processes[names.process].threads.iter().enumerate() {
            free.entry(thread.native_id).or_default().push_back(index);
        }
        for (number, thread) in seen {
            let began = self.moment(thread.began);
            let ended = (thread.ended != 0).then(|| self.moment(thread.ended));
            let kept = &mut self.session.processes[names.process].threads;
            let of_number = free.entry(thread.native_id).or_default();
            let is_over = |other: &Thread| other.ended.is_some_and(|ended| ended < began);
            // All that come after begin later.
            while of_number.front().is_some_and(|first| is_over(&kept[*first])) {
                of_number.pop_front();
            }
            let is_it =
                |other: &Thread| !is_over(other) && ended.is_none_or(|ended| other.began <= ended.saturating_add(LAG));
            let known = of_number.iter().position(|index| is_it(&kept[*index]));
            let index = known.and_then(|position| of_number.remove(position)).unwrap_or_else(|| {
                let name = format!("Thread-{}", thread.native_id);
                kept.push(Thread { native_id: thread.native_id, name, began, ..Thread::default() });
                kept.len() - 1
            });
            let kept = &mut kept[index];
            kept.ident = if kept.ident == 0 { thread.ident } else { kept.ident };
            kept.is_python = true;
            kept.began = kept.began.min(began);
            kept.ended = ended.or(kept.ended);
            names.threads.insert(*number, index);
        }
    }

    /// The locks that are worth a word: those that somebody had to wait for, or that something else is told of.
    fn add_things(&mut self, context: &Context<'_>, circles: &[Vec<&Order>], names: &mut Names) {
        let events = context.events();
        let mut wanted: Vec<u32> =
            events.waits.iter().filter(|wait| !class_of(context, wait).is_inner).map(|wait| wait.lock).collect();
        wanted.extend(events.leaks.iter().map(|leak| leak.lock));
        let is_held = |lock: &super::read::Lock| lock.is_there && lock.owner != 0;
        let is_own =
            |lock: &super::read::Lock| context.place(lock.taken_at).is_some_and(|(file, ..)| !is_installed(file));
        wanted.extend(events.locks.iter().filter(|(_, lock)| is_held(lock) && is_own(lock)).map(|(number, _)| *number));
        wanted.extend(circles.iter().flatten().map(|order| order.held));
        wanted.sort_unstable();
        wanted.dedup();
        for number in wanted {
            let Some(lock) = events.locks.get(&number).filter(|lock| !lock.is_waiter) else { continue };
            let made = self.own_place(context, lock.made);
            let counts = |thing: &mut Thing| {
                thing.made = made;
                thing.taken = lock.taken;
                thing.contended = u64::from(lock.contended);
                thing.held = lock.held;
            };
            let things = &mut self.session.things;
            let unknown = self.things.entry((names.process, lock.object, lock.is_rlock)).or_default();
            let is_known = |thing: &Thing| thing.taken != 0 || thing.made.is_some();
            while unknown.front().is_some_and(|id| is_known(&things[*id as usize])) {
                unknown.pop_front();
            }
            let id = if let Some(id) = unknown.front() {
                counts(&mut things[*id as usize]);
                *id
            } else {
                let (kind, what) = if lock.is_rlock { ("rlock", "RLock") } else { ("lock", "Lock") };
                let mut thing = Thing {
                    kind: kind.into(),
                    what: what.into(),
                    process: names.process,
                    object: lock.object,
                    ..Thing::default()
                };
                counts(&mut thing);
                things.push(thing);
                let id = (things.len() - 1) as ThingId;
                unknown.push_back(id);
                id
            };
            names.things.insert(number, id);
        }
    }

    fn add_spans(&mut self, context: &Context<'_>, names: &Names) {
        let events = context.events();
        let mut waits: QuickMap<usize, Vec<Span>> = QuickMap::default();
        // Where threads wait for what is recorded.
        let mut recorded: QuickSet<(State, Option<PlaceId>)> = QuickSet::default();
        let mut places: QuickMap<u32, Option<PlaceId>> = QuickMap::default();
        for wait in &events.waits {
            let Some(thread) = names.threads.get(&wait.thread).copied() else { continue };
            let class = class_of(context, wait);
            let until = if wait.until == 0 { names.end } else { self.moment(wait.until) };
            let from = self.moment(wait.from);
            if wait.until != 0 && wait.until.saturating_sub(wait.from) < self.shortest || until < from {
                continue;
            }
            let place = *places.entry(wait.stack).or_insert_with(|| self.own_place(context, wait.stack));
            let thing = names.things.get(&wait.lock).copied().filter(|_| !class.is_inner);
            let holder = names.threads.get(&wait.holder).map(|holder| *holder as u32).filter(|_| !class.is_inner);
            recorded.insert((class.state, place));
            waits.entry(thread).or_default().push(Span { from, until, state: class.state, place, thing, holder });
            if let Some(from) =
                names.threads.get(&wait.releaser).copied().filter(|from| wait.released != 0 && *from != thread)
            {
                self.session.passes.push(Pass {
                    from: (names.process, from),
                    at: self.moment(wait.released),
                    to: (names.process, thread),
                    until,
                    thing,
                });
            }
        }
        let of_file: QuickSet<ThingId> = names.things.values().copied().collect();
        let mut gils: QuickMap<usize, Vec<Span>> = QuickMap::default();
        for wait in &events.gil_waits {
            let Some(thread) = names.threads.get(&wait.thread).copied() else { continue };
            if wait.until.saturating_sub(wait.from) < self.shortest {
                continue;
            }
            let (from, until) = (self.moment(wait.from), self.moment(wait.until));
            let holder = names.threads.get(&wait.holder).map(|holder| *holder as u32);
            gils.entry(thread).or_default().push(Span {
                from,
                until,
                state: State::Gil,
                place: None,
                thing: None,
                holder,
            });
        }
        let is_exact = events.flags & flag::GIL != 0;
        let is_whole = events.dropped == 0 && self.shortest == 0;
        // What came before the recorder and after it is only guessed.
        let (began, end) = (self.moment(events.began), names.end);
        let is_wrong = |span: &Span| {
            let is_known = span.place.is_some() && recorded.contains(&(span.state, span.place));
            (began..end).contains(&span.from)
                && (is_known || span.state == State::Lock && span.thing.is_some_and(|thing| of_file.contains(&thing)))
        };
        let known: QuickSet<usize> = names.threads.values().copied().collect();
        let things = &self.session.things;
        let worth = |span: &Span| match span.state {
            State::Gil if is_exact => Worth::Ran,
            _ if is_whole && is_wrong(span) => Worth::Wrong,
            // In there are also the interpreter's own locks, which are held for a moment.
            State::Event if is_whole && span.thing.is_some_and(|thing| things[thing as usize].kind == "native") => {
                Worth::Doubtful
            }
            _ => Worth::Good,
        };
        for (index, thread) in self.session.processes[names.process].threads.iter_mut().enumerate() {
            let exact = [waits.remove(&index).unwrap_or_default(), gils.remove(&index).unwrap_or_default()];
            if known.contains(&index) {
                let mut all = exact.concat();
                overlay::in_order(&mut all);
                overlay::split(&mut thread.spans, end);
                overlay::correct(&mut thread.spans, &all, worth);
            }
            for mut exact in exact {
                overlay::in_order(&mut exact);
                thread.spans = overlay::lay(&thread.spans, exact);
            }
        }
    }

    fn add_starts(&mut self, context: &Context<'_>, names: &Names) {
        let events = context.events();
        // Threads that nobody is known to have started, for those that have written nothing.
        let mut of_ident: HashMap<u64, VecDeque<usize>> = HashMap::new();
        for (index, thread) in self.session.processes[names.process].threads.iter().enumerate() {
            of_ident.entry(thread.ident).or_default().push_back(index);
        }
        for start in &events.starts {
            let starter = names.threads.get(&start.thread).copied();
            let new = context.started(start).and_then(|(number, _)| names.threads.get(&number).copied());
            let new = new.or_else(|| {
                let threads = &self.session.processes[names.process].threads;
                let of_ident = of_ident.get_mut(&start.ident)?;
                while of_ident.front().is_some_and(|index| threads[*index].starter.is_some()) {
                    of_ident.pop_front();
                }
                of_ident.front().copied()
            });
            let Some(new) = new else { continue };
            let function = context.place(start.function).map(|place| self.place(place));
            let (called, name) = (self.moment(start.called), context.text(start.name));
            let thread = &mut self.session.processes[names.process].threads[new];
            thread.is_foreign = false;
            thread.starter = starter.filter(|starter| *starter != new).or(thread.starter);
            thread.function = function.or(thread.function);
            // Where `threading` has not said its name the kernel has: that is the program's.
            if !name.is_empty() && thread.is_daemon.is_none() {
                name.clone_into(&mut thread.name);
            }
            thread.is_daemon = thread.is_daemon.or(start.is_daemon);
            let began = thread.began;
            if let Some(starter) = starter.filter(|starter| *starter != new) {
                self.session.passes.push(Pass {
                    from: (names.process, starter),
                    at: called.min(began),
                    to: (names.process, new),
                    until: began,
                    thing: None,
                });
            }
        }
    }

    pub(super) fn place(&mut self, (file, function, line): (&str, &str, u32)) -> PlaceId {
        let place = Place { function: function.into(), file: file.into(), line };
        let places = &mut self.session.places;
        *self.places.entry(place).or_insert_with_key(|place| {
            places.push(place.clone());
            (places.len() - 1) as PlaceId
        })
    }

    /// The innermost place of a stack that is the program's own, or else the innermost.
    pub(super) fn own_place(&mut self, context: &Context<'_>, stack: u32) -> Option<PlaceId> {
        let own = context.stack(stack).find(|(file, ..)| !is_installed(file));
        own.or_else(|| context.stack(stack).next()).map(|place| self.place(place))
    }
}

fn class_of(context: &Context<'_>, wait: &Wait) -> Class {
    let class = || classify(context.stack(wait.stack).map(|(file, function, _)| (file, function)));
    *context.classes.borrow_mut().entry(wait.stack).or_insert_with(class)
}

/// The last moment that a file speaks of.
fn last_of(events: &Events) -> u64 {
    let waits = events.waits.iter().map(|wait| wait.until.max(wait.from));
    let gil = events.gil_waits.iter().map(|wait| wait.until);
    let threads = events.threads.values().map(|thread| thread.ended.max(thread.began));
    waits.chain(gil).chain(threads).chain([events.began]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::read::{Exception, GilWait, Join, Lock, Thread as Seen};
    use super::*;
    use crate::write::{html, perfetto, sarif};
    use crate::{Style, analyse, text};

    const THREADS: u32 = 20_000;

    /// The main thread starts threads and joins each before the next one; all have the same `get_ident()`, and each waits for a lock of its own and for the GIL.
    /// Every second one was seen from outside, and every third ends by an exception. While it is there the main thread waits: for its end, or for something
    /// that nobody has recorded.
    fn one_after_another() -> (Session, Events) {
        let mut events = Events { pid: 77, flags: flag::LOCKS | flag::GIL | flag::ENDED, ..Events::default() };
        events.texts.extend([(1, "job.py".to_owned()), (2, "work".to_owned()), (3, "ValueError".to_owned())]);
        events.places.insert(4, (1, 2, 12));
        events.stacks.insert(5, vec![4]);
        events.threads.insert(1, Seen { ident: 111, native_id: 77, began: 1, ..Seen::default() });
        let mut threads = vec![Thread { native_id: 77, ..Thread::default() }];
        for number in 2..THREADS + 2 {
            let began = u64::from(number) * 100_000;
            let (from, until, ended) = (began + 1, began + 20, began + 30);
            let thread =
                Seen { ident: 222, native_id: 100 + number, began, ended, joins_seen: true, ..Seen::default() };
            events.threads.insert(number, thread);
            let start =
                Start { thread: 1, ident: 222, called: began - 9, started: began, stack: 5, ..Start::default() };
            events.starts.push(Start { is_daemon: Some(number % 2 == 0), handle: 7, ..start });
            let join = Join { thread: 1, handle: 7, at: ended, stack: 5, ..Join::default() };
            events.joins.extend((number % 5 > 0).then_some(join));
            let wait = Wait { thread: number, lock: number, from, until, stack: 5, holder: 1, ..Wait::default() };
            events.waits.push(wait);
            let lock = Lock { object: 0x1000 + u64::from(number), owner: number, is_there: true, ..Lock::default() };
            events.locks.insert(number, Lock { taken_at: 4, ..lock });
            events.gil_waits.push(GilWait { thread: number, from: until + 1, until: until + 5, holder: 1 });
            let exception = Exception { thread: number, at: ended, stack: 5, text: 3 };
            events.exceptions.extend((number % 3 == 0).then_some(exception));
            let state = if number % 4 < 2 { State::Join } else { State::Event };
            threads[0].spans.push(Span { from: began, until: ended, state, place: None, thing: None, holder: None });
            if number % 2 == 0 {
                let ended = Some(ended);
                threads.push(Thread { native_id: 100 + number, began, ended, ident: 222, ..Thread::default() });
            }
        }
        events.ended = u64::from(THREADS + 9) * 100_000;
        events.main_ended = events.ended;
        let process = Process { pid: 77, threads, ..Process::default() };
        (Session { processes: vec![process], length: events.ended, cores: 2, ..Session::default() }, events)
    }

    /// In as many steps as there are threads, or a few times as many: with their square it takes minutes, with their cube days.
    #[test]
    fn many_threads_are_no_matter() {
        let (mut session, events) = one_after_another();
        merge_all(&mut session, vec![events], 0);
        let threads = &session.processes[0].threads;
        assert_eq!(threads.len(), THREADS as usize + 1);
        let of_outside = THREADS as usize / 2;
        assert!(threads[1..=of_outside].iter().all(|thread| thread.native_id % 2 == 0 && thread.starter == Some(0)));
        assert!(threads[of_outside + 1..].iter().all(|thread| thread.native_id % 2 == 1 && thread.starter == Some(0)));
        assert_eq!(session.things.len(), THREADS as usize);
        assert_eq!(session.passes.len(), THREADS as usize);
        let report = analyse(&session);
        assert!(text(&session, &report, Style::default()).len() < 10_000);
        let written =
            [html(&session, &report).len(), perfetto(&session, &report).len(), sarif(&session, &report).len()];
        assert!(written.iter().all(|length| *length < 2000 * THREADS as usize), "{written:?}");
    }
}
