//! What somebody within the process knows better: who holds a lock for which that cannot be seen from outside.
//!
//! A plain lock does not say who has it. Where it was taken by `with` that is seen in the stack of the one who did; otherwise only a recorder knows.

use crate::model::{Deadlock, Holder, Place, Process};
use crate::task;

impl Process {
    /// The threads that wait for a lock of which nobody knows who holds it, and the lock's address.
    pub fn waits_for_unknown(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.threads.iter().enumerate().filter_map(|(index, thread)| {
            let wait = thread.wait.as_ref().filter(|wait| matches!(wait.kind, "lock" | "rlock"))?;
            if wait.holder.is_some() {
                return None;
            }
            Some((index, wait.object?))
        })
    }

    /// Notes who holds the locks for which threads wait, and looks for circles again. `holder` is asked with the address of a lock, and answers with the native
    /// number of the thread that has it, and where that took it.
    ///
    /// What it answers has to be younger than this look. A circle is certain if none of its threads has run since, and if there is nobody else who could release a
    /// lock for which it waits: that is for the caller to know.
    pub fn learn(&mut self, holder: impl Fn(u64) -> Option<(u32, Option<Place>)>) {
        let unknown: Vec<(usize, u64)> = self.waits_for_unknown().collect();
        for (index, object) in unknown {
            let Some((native_id, place)) = holder(object) else { continue };
            // One that is gone has left it to others, who may release it: that is nobody's lock, and not one that nobody will release.
            let Some(thread) = self.threads.iter().position(|thread| thread.native_id == native_id) else { continue };
            if let Some(wait) = &mut self.threads[index].wait {
                wait.holder = Some(Holder { thread: Some(thread), place });
            }
        }
        let has_not_run = |index: &usize| self.threads[*index].is_certain && self.has_not_run(*index);
        let mut found = Deadlock::among(&self.threads, has_not_run);
        found.retain(|new| self.deadlocks.iter().all(|known| known.threads != new.threads));
        self.deadlocks.append(&mut found);
    }

    /// Whether a thread has not run since it was looked at.
    pub(crate) fn has_not_run(&self, thread: usize) -> bool {
        let thread = &self.threads[thread];
        thread.runs.is_some() && thread.runs == task::runs(self.pid, thread.native_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Thread, Wait};

    fn waiting(native_id: u32, object: u64) -> Thread {
        let wait = Wait { kind: "lock", object: Some(object), ..Wait::default() };
        Thread { native_id, wait: Some(wait), ..Thread::default() }
    }

    #[test]
    fn who_is_told_of_closes_the_circle() {
        let mut process =
            Process { threads: vec![waiting(1, 0x10), waiting(2, 0x20), Thread::default()], ..Process::default() };
        let place = Place::new("f", "f.py", 7);
        process.learn(|object| Some((if object == 0x10 { 2 } else { 1 }, Some(place.clone()))));
        assert_eq!(process.deadlocks.len(), 1);
        assert_eq!(process.deadlocks[0].threads, [0, 1]);
        assert!(!process.deadlocks[0].is_certain, "nothing is known of whether they have run");
        let holder = process.threads[0].wait.as_ref().and_then(|wait| wait.holder.clone());
        assert_eq!(holder, Some(Holder { thread: Some(1), place: Some(place) }));
        process.learn(|_| panic!("there is nobody left to ask for"));
        assert_eq!(process.deadlocks.len(), 1);
    }

    #[test]
    fn a_holder_that_is_gone_is_none() {
        let mut process = Process { threads: vec![waiting(1, 0x10)], ..Process::default() };
        process.learn(|_| Some((9, None)));
        assert_eq!(process.waits_for_unknown().count(), 1);
        assert!(process.deadlocks.is_empty());
    }
}
