//! The rows of processes and threads: made of a look, sorted, filtered.

use std::cmp::Reverse;
use std::collections::HashMap;

use raddle_probe::{Look, Process, State, Thread, clean};

use crate::history::{Gil, History};
use crate::row::{Subject, command, held_by, own_place, place_and_function, plural, urgency, word};

/// By what units are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// As they have begun.
    #[default]
    Begin,
    Cpu,
    State,
    Name,
    /// How long they wait.
    Wait,
}

/// Which units are shown, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) sort: Sort,
    /// Threads of all processes in one list.
    pub(crate) is_flat: bool,
    /// What a row must contain somewhere.
    pub(crate) filter: String,
}

/// A process or a thread.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unit {
    pub(crate) subject: Subject,
    pub(crate) depth: usize,
    pub(crate) name: String,
    /// Of a thread.
    pub(crate) state: Option<State>,
    /// For how long it does that, in seconds.
    pub(crate) since: Option<f64>,
    /// Processors.
    pub(crate) cpu: f64,
    /// Of a thread: the share of looks at which it waited for the GIL.
    pub(crate) gil_wait: Option<f64>,
    /// Of a process.
    pub(crate) gil: Option<Gil>,
    /// At the last looks, the newest at the end.
    pub(crate) states: Vec<State>,
    /// What it waits for, and who holds that.
    pub(crate) wait: String,
    /// Where it is.
    pub(crate) place: String,
}

/// The rows. `parents`: who has started each process.
pub(crate) fn units(look: &Look, parents: &HashMap<u32, u32>, history: &History, choice: &Choice) -> Vec<Unit> {
    let mut groups: Vec<(Unit, Vec<Unit>)> = look
        .processes
        .iter()
        .map(|process| {
            let depth = if choice.is_flat { 0 } else { depth(process.pid, parents, look) };
            let own = of_process(process, history, depth);
            let is_of_process = contains(&own, choice);
            let threads = process.threads.iter().map(|thread| of_thread(process, thread, history, depth + 1));
            let all = threads.chain(native(process, history, depth + 1));
            (own, all.filter(|thread| is_of_process || contains(thread, choice)).collect())
        })
        .collect();
    if choice.is_flat {
        let mut all: Vec<Unit> = groups.into_iter().flat_map(|(_, threads)| threads).collect();
        sort(&mut all, choice.sort);
        for unit in &mut all {
            unit.depth = 0;
            if look.processes.len() > 1 {
                unit.name = format!("{} {}", unit.name, unit.subject.process());
            }
        }
        return all;
    }
    groups.retain(|(own, threads)| !threads.is_empty() || contains(own, choice));
    let mut rows = Vec::new();
    for (own, mut threads) in groups {
        sort(&mut threads, choice.sort);
        rows.push(own);
        rows.append(&mut threads);
    }
    rows
}

fn depth(pid: u32, parents: &HashMap<u32, u32>, look: &Look) -> usize {
    let is_shown = |pid: &u32| look.processes.iter().any(|process| process.pid == *pid);
    let up = std::iter::successors(Some(pid), |pid| parents.get(pid).copied().filter(|parent| parent != pid));
    up.skip(1).take_while(is_shown).take(8).count()
}

fn sort(rows: &mut [Unit], by: Sort) {
    // What is equal stays as it has begun.
    match by {
        Sort::Begin => {}
        Sort::Cpu => rows.sort_by(|one, other| other.cpu.total_cmp(&one.cpu)),
        Sort::State => rows.sort_by_key(|unit| unit.state.map(urgency)),
        Sort::Name => rows.sort_by_cached_key(|unit| natural(&unit.name)),
        Sort::Wait => rows.sort_by_key(|unit| {
            let waits = matches!(unit.state, Some(State::Blocked | State::Waiting | State::Gil | State::Io));
            (!waits, Reverse((unit.since.unwrap_or(0.0) * 1e3) as u64))
        }),
    }
}

/// For an order in which `worker-2` stands before `worker-10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0_u64)];
    let mut was_digit = false;
    for character in name.chars() {
        let digit = character.to_digit(10);
        if digit.is_none() && was_digit {
            parts.push((String::new(), 0));
        }
        was_digit = digit.is_some();
        if let Some((text, number)) = parts.last_mut() {
            match digit {
                Some(digit) => *number = number.saturating_mul(10).saturating_add(u64::from(digit)),
                None => text.push(character),
            }
        }
    }
    parts
}

fn contains(unit: &Unit, choice: &Choice) -> bool {
    let wanted = choice.filter.to_lowercase();
    let state = unit.state.map_or("", word);
    wanted.is_empty()
        || [&unit.name, &unit.wait, &unit.place, state].iter().any(|text| text.to_lowercase().contains(&wanted))
}

fn of_process(process: &Process, history: &History, depth: usize) -> Unit {
    let whole = history.of_process(process.pid);
    let runs =
        process.version.as_ref().map_or("no Python that can be seen".into(), |version| format!("CPython {version}"));
    Unit {
        subject: Subject::Process(process.pid),
        depth,
        name: format!("{} {}", process.pid, command(process)),
        state: None,
        since: process.age,
        cpu: whole.map_or(0.0, |whole| whole.cpu),
        gil_wait: None,
        gil: whole.and_then(|whole| whole.gil()),
        states: Vec::new(),
        wait: runs,
        place: plural(process.threads.len() + process.native_threads.len(), "thread"),
    }
}

fn of_thread(process: &Process, thread: &Thread, history: &History, depth: usize) -> Unit {
    let past = history.of((process.pid, thread.native_id));
    let mut wait = thread.wait.as_ref().map_or(String::new(), |wait| clean(&wait.what));
    if let Some(holder) = thread.wait.as_ref().and_then(|wait| held_by(process, wait)) {
        wait = format!("{wait}, {holder}");
    }
    if thread.holds_gil && wait.is_empty() {
        wait = "holds the GIL".into();
    }
    Unit {
        subject: Subject::Thread((process.pid, thread.native_id)),
        depth,
        name: clean(&thread.name),
        state: Some(thread.state),
        since: past.map(|past| history.at() - past.since),
        cpu: past.map_or(0.0, |past| past.cpu),
        gil_wait: process.version.as_ref().and(past).map(|past| past.gil()),
        gil: None,
        states: past.map_or(Vec::new(), |past| past.states.iter().map(|(_, state)| *state).collect()),
        wait,
        place: own_place(thread).map_or(String::new(), |place| place_and_function(process, place)),
    }
}

/// One row for all threads that Python does not know.
fn native(process: &Process, history: &History, depth: usize) -> Option<Unit> {
    let threads = &process.native_threads;
    let busy = threads.iter().filter(|thread| thread.is_running).count();
    let whole = history.of_process(process.pid);
    let of_python: f64 = process
        .threads
        .iter()
        .filter_map(|thread| history.of((process.pid, thread.native_id)))
        .map(|past| past.cpu)
        .sum();
    (!threads.is_empty()).then(|| Unit {
        subject: Subject::Native(process.pid),
        depth,
        name: format!("({} native)", threads.len()),
        state: Some(if busy > 0 { State::Native } else { State::Waiting }),
        since: None,
        cpu: whole.map_or(0.0, |whole| (whole.cpu - of_python).max(0.0)),
        gil_wait: None,
        gil: None,
        states: Vec::new(),
        wait: format!("{busy} of {} that Python does not know", plural(threads.len(), "thread")),
        place: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{look, process, thread, waits};

    fn rows(look: &Look, parents: &[(u32, u32)], choice: &Choice) -> Vec<(usize, String)> {
        let mut history = History::default();
        history.take(0.0, look);
        let all = units(look, &parents.iter().copied().collect(), &history, choice);
        all.into_iter().map(|unit| (unit.depth, unit.name)).collect()
    }

    fn two() -> Look {
        let (mut b, a) = (thread(11, "worker-10", State::Running), thread(12, "worker-2", State::Blocked));
        b.cpu = 5;
        let a = waits(a, "lock", "Lock 'ledger'", 16);
        look(vec![process(1, vec![thread(1, "MainThread", State::Io)]), process(2, vec![b, a])])
    }

    fn names(rows: &[(usize, String)]) -> Vec<&str> {
        rows.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn processes_stand_under_those_that_have_started_them_and_threads_under_theirs() {
        let seen = rows(&two(), &[(1, 99), (2, 1)], &Choice::default());
        let expected =
            [(0, "1 program1.py"), (1, "MainThread"), (1, "2 program2.py"), (2, "worker-10"), (2, "worker-2")];
        assert_eq!(seen, expected.map(|(depth, name)| (depth, name.to_owned())));
    }

    #[test]
    fn flat_is_one_list_of_all_threads() {
        let choice = Choice { is_flat: true, sort: Sort::Name, ..Choice::default() };
        assert_eq!(names(&rows(&two(), &[], &choice)), ["MainThread 1", "worker-2 2", "worker-10 2"]);
        let choice = Choice { is_flat: true, sort: Sort::State, ..Choice::default() };
        assert_eq!(names(&rows(&two(), &[], &choice)), ["worker-2 2", "worker-10 2", "MainThread 1"]);
    }

    #[test]
    fn a_filter_keeps_what_contains_it_and_the_process_around() {
        let choice = Choice { filter: "LEDGER".into(), ..Choice::default() };
        assert_eq!(names(&rows(&two(), &[], &choice)), ["2 program2.py", "worker-2"]);
        let choice = Choice { filter: "program2".into(), ..Choice::default() };
        assert_eq!(names(&rows(&two(), &[], &choice)), ["2 program2.py", "worker-10", "worker-2"]);
        assert!(rows(&two(), &[], &Choice { filter: "nowhere".into(), ..Choice::default() }).is_empty());
    }

    #[test]
    fn by_cpu_and_by_wait() {
        let mut history = History::default();
        let mut seen = two();
        history.take(0.0, &seen);
        seen.processes[1].threads[0].cpu = 5 + 1_000_000_000;
        seen.processes[1].threads[0].runs = Some(2);
        history.take(1.0, &seen);
        let sorted = |sort| {
            let choice = Choice { is_flat: true, sort, ..Choice::default() };
            let all = units(&seen, &HashMap::new(), &history, &choice);
            all.into_iter().map(|unit| unit.name).collect::<Vec<_>>()
        };
        assert_eq!(sorted(Sort::Cpu)[0], "worker-10 2");
        assert_eq!(sorted(Sort::Wait)[2], "worker-10 2");
    }

    #[test]
    fn what_a_thread_waits_for_is_told_with_who_holds_it() {
        let mut seen = two();
        let wait = seen.processes[1].threads[1].wait.as_mut().expect("it waits");
        let mut holder = raddle_probe::Holder::default();
        holder.thread = Some(0);
        wait.holder = Some(holder);
        let all = units(&seen, &HashMap::new(), &History::default(), &Choice::default());
        assert_eq!(all[4].wait, "Lock 'ledger', held by \"worker-10\"");
    }

    #[test]
    fn a_circle_of_parents_ends() {
        // Numbers are used again: what is read of two processes need not belong together.
        assert_eq!(rows(&two(), &[(1, 2), (2, 1)], &Choice::default()).len(), 5);
    }
}
