//! How others hear of a life, without the life knowing them.
//!
//! The recorder of events implements [`Listener`]; where nobody listens stands [`NoListener`], and
//! nothing is left of the calls.

use super::{Event, Outcome, State};

/// The name of a unit in what a [`Listener`] hears. Whoever makes the units gives out the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub u64);

/// One method per event of a life. All are called after the step was taken, on the thread that took it.
///
/// A listener returns at once: it does not wait, it does not panic, and it takes no step of the unit it
/// hears of.
///
/// # Examples
///
/// ```
/// use raddle_core::life::{AtomicState, Event, Listener, Outcome, UnitId};
/// use raddle_core::prim::Mutex;
///
/// #[derive(Default)]
/// struct Ends(Mutex<Vec<(UnitId, Outcome)>>);
///
/// impl Listener for Ends {
///     fn finished(&self, unit: UnitId, outcome: Outcome) {
///         self.0.lock().push((unit, outcome));
///     }
/// }
///
/// let (life, ends) = (AtomicState::new(), Ends::default());
/// _ = life.step_heard(Event::Start, UnitId(7), &ends)?;
/// _ = life.step_heard(Event::Finish(Outcome::Returned), UnitId(7), &ends)?;
/// assert_eq!(*ends.0.lock(), [(UnitId(7), Outcome::Returned)]);
/// # Ok::<(), raddle_core::life::Refused>(())
/// ```
#[expect(unused_variables, reason = "the defaults hear and do nothing")]
pub trait Listener {
    /// A worker has taken the unit up.
    fn started(&self, unit: UnitId) {}
    /// The unit fell asleep.
    fn parked(&self, unit: UnitId) {}
    /// What the unit slept for has come.
    fn unparked(&self, unit: UnitId) {}
    /// The unit is over: it finished, was cancelled, or was stopped before it began.
    fn finished(&self, unit: UnitId, outcome: Outcome) {}
    /// Someone asked the unit to end. A unit that was new is finished by this; both are heard.
    fn stop_asked(&self, unit: UnitId) {}
    /// The unit was taken back before a worker had it. `finished` is heard after this.
    fn cancelled(&self, unit: UnitId) {}
    /// Someone wants to be told of the end.
    fn watched(&self, unit: UnitId) {}
    /// A thread is about to sleep for the end.
    fn waited(&self, unit: UnitId) {}
    /// Everyone who had to be told of the end has been.
    fn told(&self, unit: UnitId) {}

    /// Calls the methods above that belong to `event`, which has led to `after`.
    #[doc(hidden)]
    #[inline]
    fn hear(&self, unit: UnitId, event: Event, after: State) {
        match event {
            Event::Start => self.started(unit),
            Event::Park => self.parked(unit),
            Event::Unpark => self.unparked(unit),
            Event::Finish(_) => {}
            Event::Stop => self.stop_asked(unit),
            Event::Cancel => self.cancelled(unit),
            Event::Watch => self.watched(unit),
            Event::Wait => self.waited(unit),
            Event::Told => self.told(unit),
        }
        if matches!(event, Event::Finish(_) | Event::Stop | Event::Cancel)
            && let Some(outcome) = after.outcome()
        {
            self.finished(unit, outcome);
        }
    }
}

/// Nobody listens, and it costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoListener;

impl Listener for NoListener {}
