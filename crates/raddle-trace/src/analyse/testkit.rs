//! Sessions in a few lines, for tests.
//!
//! A [`Story`] has threads that do one thing after the other; times are in milliseconds. [`looked_at`] makes of it what looks from outside would have
//! seen. The simulations at the end play what a machine would do with workers that share a lock or a GIL.

use crate::session::{
    Ending, Fact, Label, Nanos, Pass, Place, PlaceId, Process, Session, Span, State, Stuck, StuckUnit, Thing, ThingId,
    Thread, UnitId,
};

/// Milliseconds as nanoseconds.
pub(crate) fn ms(milliseconds: f64) -> Nanos {
    (milliseconds * 1e6) as Nanos
}

/// A session that is being told.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) session: Session,
}

impl Story {
    /// A program of one process, recorded from within, that ended with exit code 0.
    pub(crate) fn of(program: &str) -> Self {
        let process = Process {
            pid: 4711,
            command: vec!["python".into(), program.into()],
            python: Some("3.12.1".into()),
            ending: Some(Ending::Exit(0)),
            is_recorded: true,
            ..Process::default()
        };
        let session = Session {
            command: vec![program.into()],
            directory: "/srv/app".into(),
            cores: 2,
            ending: Some(Ending::Exit(0)),
            period: ms(10.0),
            processes: vec![process],
            ..Session::default()
        };
        let mut story = Self { session };
        story.thread("MainThread");
        story
    }

    /// A thread of the first process; its index.
    pub(crate) fn thread(&mut self, name: &str) -> usize {
        self.thread_of(0, name, 0.0)
    }

    pub(crate) fn thread_of(&mut self, process: usize, name: &str, began: f64) -> usize {
        let threads = &mut self.session.processes[process].threads;
        let native_id = 5000 + threads.len() as u32;
        threads.push(Thread {
            native_id,
            name: name.into(),
            is_python: true,
            is_daemon: Some(false),
            began: ms(began),
            ..Thread::default()
        });
        threads.len() - 1
    }

    /// A worker process with a main thread; its index.
    pub(crate) fn process(&mut self, began: f64) -> usize {
        let command = self.session.processes[0].command.clone();
        let pid = 4711 + self.session.processes.len() as u32;
        self.session.processes.push(Process {
            pid,
            parent: Some(0),
            command,
            python: Some("3.12.1".into()),
            began: ms(began),
            ending: Some(Ending::Exit(0)),
            is_recorded: true,
            ..Process::default()
        });
        self.thread_of(self.session.processes.len() - 1, "MainThread", began);
        self.session.processes.len() - 1
    }

    pub(crate) fn place(&mut self, file: &str, line: u32, function: &str) -> PlaceId {
        let file = format!("{}/{file}", self.session.directory);
        self.session.places.push(Place { function: function.into(), file, line });
        (self.session.places.len() - 1) as PlaceId
    }

    pub(crate) fn thing(&mut self, kind: &str, what: &str) -> ThingId {
        self.session.things.push(Thing { kind: kind.into(), what: what.into(), ..Thing::default() });
        (self.session.things.len() - 1) as ThingId
    }

    /// A thread of the first process does this next, for so many milliseconds.
    pub(crate) fn does(&mut self, thread: usize, state: State, length: f64) -> &mut Span {
        self.does_in(0, thread, state, length)
    }

    pub(crate) fn does_in(&mut self, process: usize, thread: usize, state: State, length: f64) -> &mut Span {
        let thread = &mut self.session.processes[process].threads[thread];
        let from = thread.spans.last().map_or(thread.began, |span| span.until);
        let until = from + ms(length);
        thread.spans.push(Span { from, until, state, place: None, thing: None, holder: None });
        thread.spans.last_mut().expect("it was pushed just now")
    }

    /// A thread of the first process has ended.
    pub(crate) fn ends(&mut self, thread: usize) {
        let thread = &mut self.session.processes[0].threads[thread];
        thread.ended = thread.spans.last().map(|span| span.until);
    }

    pub(crate) fn pass(&mut self, from: usize, to: usize, at: Nanos, thing: ThingId) {
        self.session.passes.push(Pass { from: (0, from), at, to: (0, to), until: at, thing: Some(thing) });
    }

    pub(crate) fn fact(
        &mut self,
        kind: &str,
        threads: &[usize],
        things: &[ThingId],
        labels: &[(PlaceId, &str)],
        detail: &str,
    ) {
        let at = self.end() / 2;
        self.session.facts.push(Fact {
            kind: kind.into(),
            at,
            units: threads.iter().map(|thread| UnitId { process: 0, thread: Some(*thread) }).collect(),
            things: things.to_vec(),
            labels: labels.iter().map(|(place, text)| Label { place: *place, text: (*text).into() }).collect(),
            detail: detail.into(),
        });
    }

    pub(crate) fn stuck(&mut self, kind: &str, units: Vec<StuckUnit>) -> &mut Stuck {
        let at = self.end() / 2;
        self.session.stuck.push(Stuck { kind: kind.into(), at, is_certain: true, is_timed: false, units });
        self.session.stuck.last_mut().expect("it was pushed just now")
    }

    fn end(&self) -> Nanos {
        let threads = self.session.processes.iter().flat_map(|process| &process.threads);
        threads.filter_map(|thread| thread.spans.last()).map(|span| span.until).max().unwrap_or(0)
    }

    /// The main thread joins the others and ends; the session is whole.
    pub(crate) fn joined(mut self) -> Session {
        let end = self.end();
        let main = &self.session.processes[0].threads[0];
        let so_far = main.spans.last().map_or(0, |span| span.until);
        if end > so_far {
            self.does(0, State::Join, (end - so_far) as f64 / 1e6);
        }
        self.told()
    }

    /// The session as it is.
    pub(crate) fn told(mut self) -> Session {
        let end = self.end();
        self.session.length = end;
        for process in &mut self.session.processes {
            let last = process.threads.iter().filter_map(|thread| thread.spans.last()).map(|span| span.until).max();
            process.ended = process.ending.and(Some(last.unwrap_or(end)));
            for thread in &mut process.threads {
                let on = |span: &&Span| matches!(span.state, State::Running | State::Native);
                thread.cpu = thread.spans.iter().filter(on).map(|span| span.until - span.from).sum();
                let is_over = |span: &&Span| span.state != State::Lock || span.until < end;
                thread.ended = thread.ended.or_else(|| thread.spans.last().filter(is_over).map(|span| span.until));
            }
            process.cpu = process.threads.iter().map(|thread| thread.cpu).sum();
        }
        self.session
    }
}

/// What looks from outside, so many milliseconds apart, would have seen of it: no passes, no counts, no facts, and states as they were at each look.
pub(crate) fn looked_at(mut session: Session, period: f64) -> Session {
    let period = ms(period);
    session.period = period;
    session.passes.clear();
    session.facts.clear();
    for thing in &mut session.things {
        *thing = Thing { taken: 0, contended: 0, held: 0, ..thing.clone() };
    }
    for process in &mut session.processes {
        process.is_recorded = false;
        process.gil = None;
        for thread in &mut process.threads {
            let mut seen: Vec<Span> = Vec::new();
            // Not in step with what has a period of its own.
            let late = |look: u64| (look + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 36;
            let moments = (0..).map(|look| look * period + late(look) % period);
            for at in moments.take_while(|at| *at < session.length) {
                let Some(span) = thread.spans.iter().find(|span| span.from <= at && at < span.until) else { continue };
                match seen.last_mut() {
                    Some(last) if Span { from: 0, until: 0, ..*last } == Span { from: 0, until: 0, ..*span } => {
                        last.until = at + period;
                    }
                    last => {
                        let from = last.map_or(at, |last| last.until.min(at));
                        if let Some(last) = seen.last_mut() {
                            last.until = last.until.min(at);
                        }
                        seen.push(Span { from: from.max(at), until: at + period, ..*span });
                    }
                }
            }
            if let Some(last) = seen.last_mut() {
                last.until = last.until.min(session.length);
            }
            thread.spans = seen;
        }
    }
    session
}

/// Workers that take turns at one lock: rounds of `free` milliseconds without it, in this state, then `locked` with it. Each has a processor. The lock
/// goes to those that wait in the order in which they came.
pub(crate) fn sharing_a_lock(
    story: &mut Story,
    workers: usize,
    rounds: usize,
    free: f64,
    locked: f64,
    state: State,
) -> ThingId {
    let lock = story.thing("lock", "Lock 'table'");
    let at = story.place("table.py", 12, "store");
    let crew: Vec<usize> = (0..workers).map(|index| story.thread(&format!("worker-{index}"))).collect();
    let mut ready: Vec<(Nanos, usize, usize)> = crew.iter().map(|worker| (0, *worker, 0)).collect();
    let (mut lock_free, mut owner) = (0, None);
    while let Some(first) = (0..ready.len()).min_by_key(|index| (ready[*index].0, ready[*index].1)) {
        let (now, worker, step) = ready.swap_remove(first);
        if step == 2 * rounds {
            story.ends(worker);
            continue;
        }
        // Not all alike, as in life, but the same on average.
        let length = |mean: f64| ms(mean * (0.5 + ((worker * 31 + step * 17) % 101) as f64 / 100.0));
        let until = if step % 2 == 0 {
            story.does(worker, state, length(free) as f64 / 1e6);
            now + length(free)
        } else {
            if lock_free > now {
                let holder = owner;
                let span = story.does(worker, State::Lock, (lock_free - now) as f64 / 1e6);
                (span.thing, span.place, span.holder) = (Some(lock), Some(at), holder);
                story.session.things[lock as usize].contended += 1;
                if let Some(from) = holder {
                    story.pass(from as usize, worker, lock_free, lock);
                }
            }
            let length = length(locked);
            story.does(worker, state, length as f64 / 1e6);
            let thing = &mut story.session.things[lock as usize];
            (thing.taken, thing.held) = (thing.taken + 1, thing.held + length);
            lock_free = now.max(lock_free) + length;
            owner = Some(worker as u32);
            lock_free
        };
        ready.push((until, worker, step + 1));
    }
    lock
}

/// Threads that run Python for so many milliseconds each, five at a time.
pub(crate) fn sharing_a_gil(story: &mut Story, threads: usize, each: f64) -> Vec<usize> {
    let at = story.place("crawler.py", 41, "parse");
    let crew: Vec<usize> = (0..threads).map(|index| story.thread(&format!("worker-{index}"))).collect();
    let turns = (each / 5.0) as usize;
    for turn in 0..turns * threads {
        for (index, worker) in crew.iter().enumerate() {
            let state = if turn % threads == index { State::Running } else { State::Gil };
            // The last ones have fewer to wait for.
            if turn < turns * threads - (threads - 1 - index) {
                story.does(*worker, state, 5.0).place = Some(at);
            }
        }
    }
    for process in &mut story.session.processes {
        process.threads.iter_mut().for_each(join_neighbours);
    }
    crew
}

/// Neighbours of one kind become one span.
fn join_neighbours(thread: &mut Thread) {
    thread.spans.dedup_by(|next, span| {
        let is_one = Span { from: 0, until: 0, ..*next } == Span { from: 0, until: 0, ..*span };
        span.until = if is_one { next.until } else { span.until };
        is_one
    });
}
