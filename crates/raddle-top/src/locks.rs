//! The rows of locks and of what else is waited for: by how many, for how long, who holds it.

use raddle_probe::{Look, Process, clean, place_in};

use crate::history::{History, ThreadId};
use crate::row::{Subject, held_by};

/// Something that is waited for or held.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thing {
    pub(crate) subject: Subject,
    pub(crate) what: String,
    /// Who waits for it.
    pub(crate) waiters: Vec<ThreadId>,
    /// For how long the one that waits longest does, in seconds.
    pub(crate) longest: f64,
    /// Who holds it, in words.
    pub(crate) holder: String,
    /// Where it was taken.
    pub(crate) taken: String,
}

/// The rows: those that most wait for come first, and of these those that are waited for longest.
pub(crate) fn things(look: &Look, history: &History, filter: &str) -> Vec<Thing> {
    let mut all: Vec<Thing> = look.processes.iter().flat_map(|process| of_process(process, history)).collect();
    let wanted = filter.to_lowercase();
    all.retain(|thing| {
        [&thing.what, &thing.holder, &thing.taken].iter().any(|text| text.to_lowercase().contains(&wanted))
    });
    all.sort_by(|one, other| other.waiters.len().cmp(&one.waiters.len()).then(other.longest.total_cmp(&one.longest)));
    all
}

fn of_process(process: &Process, history: &History) -> Vec<Thing> {
    let mut things: Vec<Thing> = Vec::new();
    let mut at = |object: u64, what: &str| -> usize {
        let subject = Subject::Thing(process.pid, object);
        things.iter().position(|thing| thing.subject == subject).unwrap_or_else(|| {
            let (what, none) = (clean(what), String::new());
            things.push(Thing { subject, what, waiters: vec![], longest: 0.0, holder: none.clone(), taken: none });
            things.len() - 1
        })
    };
    let mut held = Vec::new();
    for thread in &process.threads {
        for lock in &thread.holds {
            let place = lock.place.as_ref().map_or(String::new(), |place| place_in(process, place));
            held.push((at(lock.object, &lock.what), format!("\"{}\"", clean(&thread.name)), place));
        }
    }
    let mut waits = Vec::new();
    for thread in &process.threads {
        let Some((wait, object)) = thread.wait.as_ref().and_then(|wait| Some((wait, wait.object?))) else { continue };
        let id = (process.pid, thread.native_id);
        let holder = held_by(process, wait).map(|said| said.trim_start_matches("held by ").to_owned());
        let place = wait.holder.as_ref().and_then(|holder| holder.place.as_ref());
        let place = place.map_or(String::new(), |place| place_in(process, place));
        let long = history.of(id).map_or(0.0, |past| history.at() - past.since);
        waits.push((at(object, &wait.what), id, long, holder, place));
    }
    for (index, holder, place) in held {
        (things[index].holder, things[index].taken) = (holder, place);
    }
    for (index, id, long, holder, place) in waits {
        let thing = &mut things[index];
        thing.waiters.push(id);
        thing.longest = thing.longest.max(long);
        if let Some(holder) = holder.filter(|_| thing.holder.is_empty()) {
            (thing.holder, thing.taken) = (holder, place);
        }
    }
    things
}

#[cfg(test)]
mod tests {
    use raddle_probe::{Held, Holder, State};

    use super::*;
    use crate::history::tests::{look, process, thread, waits};

    #[test]
    fn a_lock_is_told_once_with_all_that_wait_and_the_one_that_holds_it() {
        let mut owner = thread(1, "owner", State::Running);
        let mut held = Held::default();
        (held.what, held.object) = ("Lock 'x'".into(), 16);
        owner.holds = vec![held];
        let first = waits(thread(2, "first", State::Blocked), "lock", "Lock 'x'", 16);
        let second = waits(thread(3, "second", State::Blocked), "lock", "Lock 'x'", 16);
        let other = waits(thread(4, "other", State::Waiting), "queue-get", "an item of Queue", 32);
        let seen = look(vec![process(9, vec![owner, other, first, second])]);
        let mut history = History::default();
        history.take(0.0, &seen);
        history.take(3.0, &seen);
        let rows = things(&seen, &history, "");
        assert_eq!(
            rows.iter().map(|row| (row.what.as_str(), row.waiters.len())).collect::<Vec<_>>(),
            [("Lock 'x'", 2), ("an item of Queue", 1)]
        );
        assert_eq!((rows[0].holder.as_str(), rows[0].longest), ("\"owner\"", 3.0));
        assert_eq!(things(&seen, &history, "queue").len(), 1);
    }

    #[test]
    fn an_owner_that_is_gone_is_told() {
        let mut waiter = waits(thread(2, "first", State::Blocked), "rlock", "RLock 'x'", 16);
        waiter.wait.as_mut().expect("it waits").holder = Some(Holder::default());
        let rows = things(&look(vec![process(9, vec![waiter])]), &History::default(), "");
        assert_eq!(rows[0].holder, "whose owner is not there");
    }
}
