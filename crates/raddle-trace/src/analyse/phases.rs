//! How much of the program's time was work, and of what kind: one walk over all spans in the order of time.
//!
//! At every moment some threads are *active*: they work, or want to. With none the program waits for the world; with one it is
//! *alone*, and more workers bring nothing; with several it is *parallel*, and their work could be spread further.
//!
//! # Rules
//!
//! 1. A thread that waits for the GIL, a processor or a lock is active: it wants to work. Its wait itself is no work.
//! 2. Waiting for the world (a file, a clock) is work only for threads that share their role with others: a second worker can wait at the same
//!    time. For a thread of its own kind, such as a heartbeat, it is nothing.
//! 3. The threads of a process with a GIL together run Python for no longer than the time that passes, whatever looks say.

use crate::session::Nanos;

use super::timeline::{Class, Timeline, has_gil};

/// How much of the program's time was work, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Phases {
    /// While no thread was active.
    pub(crate) idle: f64,
    /// While exactly one was.
    pub(crate) alone: f64,
    /// By the clock, while several were.
    pub(crate) parallel: f64,
    /// The work done while several were active.
    pub(crate) python: f64,
    pub(crate) native: f64,
    pub(crate) world: f64,
    /// Of it, the Python of each process.
    pub(crate) python_of: Vec<f64>,
    /// Of it, the most that a thread without others of its role did.
    pub(crate) longest_role: f64,
}

impl Phases {
    /// The work done while several were active.
    pub(crate) fn shared(&self) -> f64 {
        self.python + self.native + self.world
    }

    /// All work, in one row.
    pub(crate) fn work(&self) -> f64 {
        self.alone + self.shared()
    }
}

/// A running sum over the parallel time: `value` applies since `since` on the parallel clock.
#[derive(Clone, Copy, Default)]
struct Meter {
    value: f64,
    since: f64,
    sum: f64,
}

impl Meter {
    fn change(&mut self, clock: f64, by: f64) {
        self.settle(clock);
        // What is left of additions and subtractions may be a hair below nothing.
        self.value = (self.value + by).max(0.0);
    }

    fn settle(&mut self, clock: f64) {
        self.sum += self.value * (clock - self.since);
        self.since = clock;
    }
}

pub(crate) fn phases(timeline: &Timeline<'_>) -> Phases {
    let processes = &timeline.session.processes;
    let mut python: Vec<Meter> = vec![Meter::default(); processes.len()];
    let mut single: Vec<Meter> = vec![Meter::default(); timeline.units.len()];
    let (mut native, mut world) = (Meter::default(), Meter::default());
    let (mut now, mut clock, mut active) = (timeline.began, 0.0, 0_usize);
    let mut found = Phases::default();
    for Edge { at, unit, is_start, class } in edges(timeline) {
        let unit = unit as usize;
        let past = at.min(timeline.until).saturating_sub(now) as f64;
        now = now.max(at);
        match active {
            0 => found.idle += past,
            1 => found.alone += past,
            _ => clock += past,
        }
        let of = &timeline.units[unit];
        let is_one_of_many = timeline.roles[of.role].count > 1;
        let sign = if is_start { 1.0 } else { -1.0 };
        let is_active = match class {
            Class::Python => {
                python[of.id.0].change(clock, sign * of.pace);
                true
            }
            Class::Native => {
                native.change(clock, sign * of.pace);
                true
            }
            Class::World if is_one_of_many => {
                world.change(clock, sign);
                true
            }
            Class::Wants => true,
            Class::World | Class::Idle => false,
        };
        if !is_one_of_many && matches!(class, Class::Python | Class::Native) {
            single[unit].change(clock, sign * of.pace);
        }
        if is_active {
            active = if is_start { active + 1 } else { active.saturating_sub(1) };
        }
    }
    found.idle += timeline.until.saturating_sub(now) as f64;
    let settled = |mut meter: Meter| {
        meter.settle(clock);
        meter.sum
    };
    found.parallel = clock;
    let most = |process| if has_gil(process) { clock } else { f64::INFINITY };
    found.python_of =
        python.into_iter().zip(processes).map(|(meter, process)| settled(meter).min(most(process))).collect();
    found.python = found.python_of.iter().sum();
    found.native = settled(native);
    found.world = settled(world);
    found.longest_role = single.into_iter().map(settled).fold(0.0, f64::max);
    found
}

/// Where a span begins or ends.
#[derive(Clone, Copy)]
struct Edge {
    at: Nanos,
    unit: u32,
    is_start: bool,
    class: Class,
}

/// Where spans begin and end, in the order of time; ends before beginnings, so that a thread is not counted twice.
fn edges(timeline: &Timeline<'_>) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (index, unit) in timeline.units.iter().enumerate() {
        for span in unit.spans.iter() {
            let (unit, class) = (index as u32, Class::of(span.state));
            if class != Class::Idle {
                edges.push(Edge { at: span.from, unit, is_start: true, class });
                edges.push(Edge { at: span.until, unit, is_start: false, class });
            }
        }
    }
    edges.sort_by_key(|edge| (edge.at, edge.is_start, edge.unit));
    edges
}
