//! Where in a file something is: who was started by a start, which start a handle is of.
//!
//! A program may start many thousands of threads one after another, and all of them can have the same `get_ident()`, since a number is given again when its thread has
//! ended. So nothing here goes through all threads or all starts to find one: each list is made once for each file, in the order of time, and is halved again and again.

use std::collections::HashMap;

use super::read::{Events, Join, Start, Thread};

/// Lists of what a file says, by what it is looked for by.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By `get_ident()`: when a thread began, and its number.
    of_ident: HashMap<u64, Vec<(u64, u32)>>,
    /// By handle: when a thread's start was called, and where it is in [`Events::starts`].
    of_handle: HashMap<u64, Vec<(u64, usize)>>,
    /// By who starts and the `get_ident()` of who is started: when.
    of_starter: HashMap<(u32, u64), Vec<u64>>,
}

impl Index {
    pub(super) fn of(events: &Events) -> Self {
        let mut index = Self::default();
        for (number, thread) in &events.threads {
            index.of_ident.entry(thread.ident).or_default().push((thread.began, *number));
        }
        for (at, start) in events.starts.iter().enumerate() {
            index.of_handle.entry(start.handle).or_default().push((start.called, at));
            index.of_starter.entry((start.thread, start.ident)).or_default().push(start.called);
        }
        index.of_ident.values_mut().for_each(|threads| threads.sort_unstable());
        index.of_handle.values_mut().for_each(|starts| starts.sort_unstable());
        index.of_starter.values_mut().for_each(|starts| starts.sort_unstable());
        index
    }

    /// The thread that was started, by its number.
    pub(super) fn started<'a>(&self, events: &'a Events, start: &Start) -> Option<(u32, &'a Thread)> {
        let threads = self.of_ident.get(&start.ident)?;
        // It may note something before its starter does.
        let (_, number) = threads.get(threads.partition_point(|(began, _)| *began < start.called))?;
        Some((*number, events.threads.get(number)?))
    }

    /// The start of the thread that is joined by its handle: the last before.
    pub(super) fn joined<'a>(&self, events: &'a Events, join: &Join) -> Option<&'a Start> {
        let starts = self.of_handle.get(&join.handle)?;
        let (_, at) = starts[..starts.partition_point(|(called, _)| *called <= join.at)].last()?;
        events.starts.get(*at)
    }

    /// Whether a thread has started one of this `get_ident()` after a moment and not after another.
    pub(super) fn has_started(&self, starter: u32, ident: u64, after: u64, until: u64) -> bool {
        let Some(starts) = self.of_starter.get(&(starter, ident)) else { return false };
        starts.get(starts.partition_point(|called| *called <= after)).is_some_and(|called| *called <= until)
    }
}
