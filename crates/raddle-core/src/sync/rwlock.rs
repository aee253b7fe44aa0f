//! A lock for many readers or one writer, with three rules about who goes first.
//!
//! | holders | means |
//! |---|---|
//! | none, no heirs | free; nobody stands in line |
//! | readers | so many of them as like |
//! | a writer | alone; it may read besides |
//! | heirs | called, and not yet here: the lock is kept for them, as in [`FairLock`](super::FairLock) |
//!
//! # Who goes first
//!
//! * [`Preference::Readers`]: a reader waits only while a writer holds it or is the heir. A writer waits until there is no reader at all, which may be
//!   never.
//! * [`Preference::Writers`]: a reader also waits while a writer stands in line. Readers may wait for ever.
//! * [`Preference::Fair`]: in the order of arrival; readers next to each other enter together. Nobody waits for those who came later.
//!
//! (The two preferences are the first and the second problem of Courtois, Heymans and Parnas, "Concurrent control with readers and writers",
//! 1971.)
//!
//! # Rules
//!
//! 1. Every holder is known by its unit, with how often it holds. Whoever holds it may take it again, whoever waits: a reader that had to stand
//!    behind a writer that waits for it would never come to an end.
//! 2. A reader that wants to write is refused. Two of them would wait for each other for ever; one alone would wait for readers that come and go.
//! 3. A writer may read. When it releases the write first, it goes on as a reader: there is no moment in between.
//! 4. A heir's next attempt succeeds. While a writer is the heir nobody else enters; while readers are, no writer does.
//! 5. Whatever may make it possible for somebody to enter (a release, a leave) calls them in the same step.
//!
//! # Why nobody is forgotten
//!
//! By rule 5 whoever stands in line stands there because of a holder, a heir, or, as a reader, because of a writer in the same line. Holders release,
//! heirs come or leave, and each of these calls the next ones. A writer that leaves the line frees the readers behind it (`next` is called
//! for every leave). So the line is empty when the lock is free without heirs.

use std::collections::VecDeque;

use crate::life::UnitId;
use crate::prim::{Arc, Mutex};

use crate::park::{Attempt, Called, Waiter, epoch};

/// What somebody wants to do.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::sync::{Access, Preference, RwLock};
///
/// let lock = RwLock::new(Preference::Fair);
/// assert_eq!(lock.try_acquire(Access::Read, UnitId(1)), Ok(true));
/// assert_eq!(lock.try_acquire(Access::Read, UnitId(2)), Ok(true));
/// assert_eq!(lock.try_acquire(Access::Write, UnitId(3)), Ok(false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Beside other readers.
    Read,
    /// Alone.
    Write,
}

/// Who goes first. See the module.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::sync::{Access, Preference, RwLock};
///
/// for (preference, enters) in [(Preference::Readers, true), (Preference::Writers, false), (Preference::Fair, false)] {
///     let lock = RwLock::new(preference);
///     assert_eq!(lock.try_acquire(Access::Read, UnitId(1)), Ok(true));
///     let _writer = lock.acquire(Access::Write, UnitId(2), None);
///     assert_eq!(lock.try_acquire(Access::Read, UnitId(3)), Ok(enters), "while a writer waits");
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Readers never wait for a writer that waits.
    Readers,
    /// Readers always wait for a writer that waits.
    Writers,
    /// In the order of arrival.
    Fair,
}

/// Who reads may not begin to write. Nothing was changed.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::sync::{Access, Preference, RwLock, Upgrade};
///
/// let lock = RwLock::new(Preference::Fair);
/// assert_eq!(lock.try_acquire(Access::Read, UnitId(1)), Ok(true));
/// assert_eq!(lock.try_acquire(Access::Write, UnitId(1)), Err(Upgrade));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade;

/// Who releases does not hold it. Nothing was changed.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::sync::{Access, NotHeld, Preference, RwLock};
///
/// assert_eq!(RwLock::new(Preference::Fair).release(Access::Read, UnitId(1)), Err(NotHeld));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHeld;

/// The lock.
///
/// # Examples
///
/// ```
/// use raddle_core::life::UnitId;
/// use raddle_core::park::Attempt;
/// use raddle_core::sync::{Access, Preference, RwLock};
///
/// let lock = RwLock::new(Preference::Fair);
/// let [me, other] = [UnitId(1), UnitId(2)];
/// assert!(lock.acquire(Access::Read, me, None).unwrap().done().is_some());
/// let Ok(Attempt::Wait(waiter)) = lock.acquire(Access::Write, other, None) else { panic!("somebody reads") };
/// assert_eq!(lock.release(Access::Read, me), Ok(true));
/// assert!(waiter.is_called());
/// assert!(lock.acquire(Access::Write, other, Some(&waiter)).unwrap().done().is_some());
/// ```
#[derive(Debug)]
pub struct RwLock {
    preference: Preference,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    writer: Option<Holder>,
    /// The writer, too, if it reads.
    readers: Vec<Holder>,
    line: VecDeque<Place>,
    heirs: Vec<Place>,
    /// The number of forks at which somebody last came.
    epoch: u32,
}

#[derive(Debug)]
struct Holder {
    unit: UnitId,
    times: usize,
}

#[derive(Clone, Debug)]
struct Place {
    waiter: Arc<Waiter>,
    access: Access,
    unit: UnitId,
}

impl Place {
    fn writes(&self) -> bool {
        self.access == Access::Write
    }

    fn is_of(&self, waiter: &Arc<Waiter>) -> bool {
        Arc::ptr_eq(&self.waiter, waiter)
    }
}

impl Inside {
    fn is_writer(&self, unit: UnitId) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.unit == unit)
    }

    fn reads(&self, unit: UnitId) -> bool {
        self.readers.iter().any(|reader| reader.unit == unit)
    }

    /// Whether one who comes, and is no heir, may enter.
    fn admits(&self, preference: Preference, access: Access, me: UnitId) -> bool {
        match access {
            // Rule 1.
            _ if self.is_writer(me) => true,
            Access::Read if self.reads(me) => true,
            Access::Read => {
                self.writer.is_none()
                    && !self.heirs.iter().any(Place::writes)
                    && match preference {
                        Preference::Readers => true,
                        Preference::Writers => !self.line.iter().any(Place::writes),
                        Preference::Fair => self.line.is_empty(),
                    }
            }
            // Nobody stands in line then.
            Access::Write => self.writer.is_none() && self.readers.is_empty() && self.heirs.is_empty(),
        }
    }

    fn enter(&mut self, access: Access, me: UnitId) {
        match (access, &mut self.writer) {
            (Access::Write, Some(writer)) => writer.times += 1,
            (Access::Write, none) => *none = Some(Holder { unit: me, times: 1 }),
            (Access::Read, _) => match self.readers.iter_mut().find(|reader| reader.unit == me) {
                Some(reader) => reader.times += 1,
                None => self.readers.push(Holder { unit: me, times: 1 }),
            },
        }
    }

    /// Rule 5: whoever can enter now becomes a heir, and is called.
    fn next(&mut self, preference: Preference) -> Called {
        if self.line.is_empty() || self.writer.is_some() || self.heirs.iter().any(Place::writes) {
            return Called::default();
        }
        let writer = self.line.iter().position(Place::writes);
        // How many of the line are gone through to find readers.
        let among = match (preference, writer) {
            (Preference::Readers, _) | (_, None) => self.line.len(),
            (Preference::Writers, Some(_)) => 0,
            (Preference::Fair, Some(writer)) => writer,
        };
        let behind = self.line.split_off(among);
        let (mut chosen, mut others): (Vec<_>, VecDeque<_>) = (Vec::new(), VecDeque::new());
        for place in self.line.drain(..) {
            if place.writes() { others.push_back(place) } else { chosen.push(place) }
        }
        others.extend(behind);
        self.line = others;
        if chosen.is_empty()
            && self.readers.is_empty()
            && self.heirs.is_empty()
            && let Some(writer) = self.line.iter().position(Place::writes)
        {
            chosen.extend(self.line.remove(writer));
        }
        self.heirs.extend(chosen.iter().cloned());
        Called::of(chosen.into_iter().map(|place| place.waiter))
    }

    fn forget_strangers(&mut self) {
        if self.epoch != epoch() {
            self.epoch = epoch();
            self.heirs.clear();
            self.line.clear();
        }
    }
}

impl RwLock {
    /// A free lock.
    pub fn new(preference: Preference) -> Self {
        Self { preference, inside: Mutex::new(Inside::default()) }
    }

    /// Who goes first.
    pub fn preference(&self) -> Preference {
        self.preference
    }

    /// Takes it for this unit if that needs no wait.
    ///
    /// # Errors
    ///
    /// [`Upgrade`]: the unit reads, and wants to write.
    #[inline]
    pub fn try_acquire(&self, access: Access, me: UnitId) -> Result<bool, Upgrade> {
        let mut inside = self.inside.lock();
        inside.forget_strangers();
        self.enter(&mut inside, access, me)
    }

    fn enter(&self, inside: &mut Inside, access: Access, me: UnitId) -> Result<bool, Upgrade> {
        if access == Access::Write && !inside.is_writer(me) && inside.reads(me) {
            return Err(Upgrade);
        }
        let enters = inside.admits(self.preference, access, me);
        if enters {
            inside.enter(access, me);
        }
        Ok(enters)
    }

    /// Takes it for this unit, or joins the line. `before`: the waiter of the attempt before, which was called.
    ///
    /// # Errors
    ///
    /// [`Upgrade`]: the unit reads, and wants to write.
    pub fn acquire(&self, access: Access, me: UnitId, before: Option<&Arc<Waiter>>) -> Result<Attempt, Upgrade> {
        self.acquire_with(access, me, before, |_| ())
    }

    /// The same; if it joins the line, `note` is called in the same step, while whoever has it still has it: with whether that is a writer.
    /// It is not called if nobody has it yet, but a heir will.
    ///
    /// # Errors
    ///
    /// [`Upgrade`]: the unit reads, and wants to write.
    pub fn acquire_with(
        &self,
        access: Access,
        me: UnitId,
        before: Option<&Arc<Waiter>>,
        note: impl FnOnce(bool),
    ) -> Result<Attempt, Upgrade> {
        let mut inside = self.inside.lock();
        inside.forget_strangers();
        let heir = before.and_then(|before| inside.heirs.iter().position(|heir| heir.is_of(before)));
        if let Some(heir) = heir {
            inside.heirs.swap_remove(heir);
            inside.enter(access, me);
            return Ok(Attempt::Done(()));
        }
        if self.enter(&mut inside, access, me)? {
            return Ok(Attempt::Done(()));
        }
        let waiter = Waiter::new();
        inside.line.push_back(Place { waiter: waiter.clone(), access, unit: me });
        if inside.writer.is_some() || !inside.readers.is_empty() {
            note(inside.writer.is_some());
        }
        Ok(Attempt::Wait(waiter))
    }

    /// Releases it once. `true`: nobody has it in this way any more.
    ///
    /// # Errors
    ///
    /// [`NotHeld`]: this unit has it not.
    #[inline]
    pub fn release(&self, access: Access, me: UnitId) -> Result<bool, NotHeld> {
        self.release_with(access, me, || ())
    }

    /// The same; if nobody has it in this way any more, `note` is called in the same step: before anyone else has it.
    ///
    /// # Errors
    ///
    /// [`NotHeld`]: this unit has it not.
    #[inline]
    pub fn release_with(&self, access: Access, me: UnitId, note: impl FnOnce()) -> Result<bool, NotHeld> {
        let mut inside = self.inside.lock();
        let is_over = match access {
            Access::Write => {
                let writer = inside.writer.as_mut().filter(|writer| writer.unit == me).ok_or(NotHeld)?;
                writer.times -= 1;
                let is_over = writer.times == 0;
                if is_over {
                    inside.writer = None;
                }
                is_over
            }
            Access::Read => {
                let place = inside.readers.iter().position(|reader| reader.unit == me).ok_or(NotHeld)?;
                inside.readers[place].times -= 1;
                if inside.readers[place].times == 0 {
                    inside.readers.swap_remove(place);
                }
                inside.readers.is_empty()
            }
        };
        if is_over {
            note();
        }
        inside.forget_strangers();
        let called = inside.next(self.preference);
        drop(inside);
        called.wake();
        Ok(is_over)
    }

    /// Takes a waiter out that does not want to wait any more. If it was a heir, or others waited because of it, they are called.
    pub fn leave(&self, waiter: &Arc<Waiter>) {
        let mut inside = self.inside.lock();
        inside.line.retain(|place| !place.is_of(waiter));
        inside.heirs.retain(|place| !place.is_of(waiter));
        let called = inside.next(self.preference);
        drop(inside);
        called.wake();
    }

    /// The units that have it: the writer, or the readers.
    pub fn holders(&self) -> Vec<UnitId> {
        let inside = self.inside.lock();
        match &inside.writer {
            Some(writer) => vec![writer.unit],
            None => inside.readers.iter().map(|reader| reader.unit).collect(),
        }
    }

    /// How often this unit has it, for reading and for writing.
    pub fn held_by(&self, unit: UnitId) -> (usize, usize) {
        let inside = self.inside.lock();
        let of = |holder: Option<&Holder>| holder.map_or(0, |holder| holder.times);
        let reads = of(inside.readers.iter().find(|reader| reader.unit == unit));
        (reads, of(inside.writer.as_ref().filter(|writer| writer.unit == unit)))
    }

    /// The units that must all do something (release it, enter and release, leave) before this one, which stands in line, can enter.
    /// None: it is called.
    pub fn in_the_way(&self, waiter: &Arc<Waiter>) -> Vec<UnitId> {
        let inside = self.inside.lock();
        let Some(at) = inside.line.iter().position(|place| place.is_of(waiter)) else { return Vec::new() };
        let access = inside.line[at].access;
        let before = inside.line.iter().take(at);
        let mut units: Vec<UnitId> = inside.writer.iter().map(|writer| writer.unit).collect();
        if access == Access::Write {
            units.extend(inside.readers.iter().map(|reader| reader.unit));
            units.extend(inside.heirs.iter().map(|place| place.unit));
        } else {
            units.extend(inside.heirs.iter().filter(|place| place.writes()).map(|place| place.unit));
        }
        match (self.preference, access) {
            (Preference::Fair, Access::Write) => units.extend(before.map(|place| place.unit)),
            (Preference::Readers, Access::Read) => {}
            // Readers before it wait for the same writers.
            (Preference::Fair, Access::Read) => {
                units.extend(before.filter(|place| place.writes()).map(|place| place.unit));
            }
            (Preference::Writers, Access::Read) => {
                units.extend(inside.line.iter().filter(|place| place.writes()).map(|place| place.unit));
            }
            (Preference::Writers | Preference::Readers, Access::Write) => {
                units.extend(before.filter(|place| place.writes()).map(|place| place.unit));
            }
        }
        let mut seen = Vec::new();
        units.retain(|unit| {
            !seen.contains(unit) && {
                seen.push(*unit);
                true
            }
        });
        units
    }

    /// How many wait to read and to write, heirs among them.
    pub fn waiting(&self) -> (usize, usize) {
        let mut inside = self.inside.lock();
        inside.forget_strangers();
        let writers = inside.line.iter().chain(&inside.heirs).filter(|place| place.writes()).count();
        (inside.line.len() + inside.heirs.len() - writers, writers)
    }

    /// Makes it free, whoever held it, and forgets who waits. For the child of a fork.
    pub fn reset(&self) {
        *self.inside.lock() = Inside { epoch: epoch(), ..Inside::default() };
    }
}
