//! What a wait for a lock really is: every event, queue and join of the standard library waits for a lock in the end.

use crate::session::State;

/// A wait, by the functions around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) state: State,
    /// Whether the lock is only a means: nobody *holds* an event.
    pub(super) is_inner: bool,
}

const LOCK: Class = Class { state: State::Lock, is_inner: false };

/// `frames`: files and functions, the innermost first.
pub(super) fn classify<'a>(frames: impl IntoIterator<Item = (&'a str, &'a str)>) -> Class {
    let mut frames = frames.into_iter();
    let Some((file, function)) = frames.next() else { return LOCK };
    if !file.ends_with("/threading.py") {
        return LOCK;
    }
    let inner = |state| Class { state, is_inner: true };
    match function {
        "Thread._wait_for_tstate_lock" => inner(State::Join),
        "Condition.wait" => {
            let around = frames.find(|(_, function)| *function != "Condition.wait_for");
            match around {
                Some((file, _)) if file.ends_with("/queue.py") || file.ends_with("/multiprocessing/queues.py") => {
                    inner(State::Queue)
                }
                _ => inner(State::Event),
            }
        }
        "_shutdown" => inner(State::Join),
        _ => LOCK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADING: &str = "/usr/lib/python3.11/threading.py";

    #[test]
    fn a_wait_is_named_after_what_calls_it() {
        let state = |frames: &[(&'static str, &'static str)]| classify(frames.iter().copied()).state;
        assert_eq!(state(&[("job.py", "work")]), State::Lock);
        assert_eq!(state(&[(THREADING, "Condition.__enter__"), ("job.py", "work")]), State::Lock);
        assert_eq!(
            state(&[(THREADING, "Condition.wait"), ("/usr/lib/python3.11/queue.py", "Queue.get")]),
            State::Queue
        );
        assert_eq!(state(&[(THREADING, "Condition.wait"), (THREADING, "Event.wait")]), State::Event);
        assert_eq!(state(&[(THREADING, "Thread._wait_for_tstate_lock"), (THREADING, "Thread.join")]), State::Join);
        // A program may have a file of that name.
        assert_eq!(state(&[("threading.py", "Condition.wait"), ("job.py", "work")]), State::Lock);
    }
}
