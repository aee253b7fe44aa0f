//! Who holds which lock at this moment, as the recorder of a process that runs knows it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use raddle_probe::Place;

use super::format::SUFFIX;
use super::merge::Context;
use super::read::Events;

/// Locks that are held: by their addresses, the native number of the thread that has each, and where that took it.
#[derive(Debug, Default)]
pub struct Holders(HashMap<u64, (u32, Option<Place>)>);

impl Holders {
    /// What the newest file of a process in this directory says; nothing if there is none.
    #[must_use]
    pub fn of(directory: &Path, pid: u32) -> Self {
        let prefix = format!("{pid}-");
        let turn_of = |name: &str| name.strip_prefix(&prefix)?.strip_suffix(SUFFIX)?.parse::<u32>().ok();
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let newest = entries
            .filter_map(|entry| Some((turn_of(entry.file_name().to_str()?)?, entry.path())))
            .max_by_key(|(turn, _)| *turn);
        newest.and_then(|(_, path)| Events::of(&path).ok()).map_or_else(Self::default, Self::from)
    }

    fn from(events: Events) -> Self {
        let files = [events];
        let [events] = &files;
        // What a forked child has taken over from its parent has its place in the parent's file: it is told without.
        let by_name = HashMap::new();
        let context = Context::new(&files, &by_name, 0);
        let held = events.locks.values().filter(|lock| lock.is_there && !lock.is_waiter && lock.owner != 0);
        let known = held.filter_map(|lock| {
            let thread = events.threads.get(&lock.owner).filter(|thread| thread.ended == 0)?;
            let place = context.place(lock.taken_at);
            let place = place.map(|(file, function, line)| Place::new(function, file, line));
            Some((lock.object, (thread.native_id, place)))
        });
        Self(known.collect())
    }

    /// Who holds the lock at this address.
    #[must_use]
    pub fn get(&self, object: u64) -> Option<(u32, Option<Place>)> {
        self.0.get(&object).cloned()
    }
}
