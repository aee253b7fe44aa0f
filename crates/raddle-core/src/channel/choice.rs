//! The choice of the first of several things that happens.
//!
//! # How it goes
//!
//! First each case is tried ([`try_all`]), in any order, so that of those that are ready each is as likely as the others. If none is ready, one waiter joins the lines of all, and each is
//! tried once more as it joins; offers to rendezvous are made last ([`Turn::join`]). Then whoever chooses sleeps, until the waiter is
//! called. It withdraws its offers and leaves all lines, which passes on calls that it does not use ([`Turn::end`]), and begins again,
//! unless an offer was accepted. So exactly one case happens, and nobody who waits beside it is forgotten.

use super::pass::{Claim, Place};
use crate::park::Waiter;
use crate::prim::Arc;

/// What trying has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Tried<V> {
    /// It has happened, with this value.
    Happened(V),
    /// Not yet. If a place was given, the caller stands in line.
    NotYet,
    /// It never will.
    Never,
}

/// One thing that may happen.
pub trait Case {
    /// What comes of it.
    type Value;
    /// Why it cannot be waited for.
    type Error;

    /// Tries it, or joins its line.
    ///
    /// # Errors
    ///
    /// It cannot be waited for; then nobody stands in line.
    fn attempt(&self, place: Option<Place<'_>>) -> Result<Tried<Self::Value>, Self::Error>;

    /// Whether it is to send through a rendezvous, which is only offered.
    fn is_offer(&self) -> bool {
        false
    }

    /// Offers it, under this number.
    fn offer(&self, number: usize, claim: &Arc<Claim>, waiter: &Arc<Waiter>) {
        _ = (number, claim, waiter);
    }

    /// Takes the offer back, unless it was accepted.
    fn take_back(&self, number: usize, claim: &Arc<Claim>) {
        _ = (number, claim);
    }

    /// Leaves its line, if it stands there, and passes its call on.
    fn leave(&self, waiter: &Arc<Waiter>);
}

/// Tries all cases once, in an order that the `dice` decide: any number, drawn at random; 0 stands for the order in which they were given.
/// Gives the number of the one that has happened.
///
/// # Errors
///
/// What the first case that cannot be waited for says.
pub fn try_all<C: Case>(cases: &[C], dice: u64) -> Result<Tried<(usize, C::Value)>, C::Error> {
    attempt_all(cases, &order_of(cases.len(), dice), None)
}

fn attempt_all<C: Case>(
    cases: &[C],
    order: &[usize],
    place: Option<Place<'_>>,
) -> Result<Tried<(usize, C::Value)>, C::Error> {
    let mut could_be = false;
    for &number in order {
        match cases[number].attempt(place)? {
            Tried::Happened(value) => return Ok(Tried::Happened((number, value))),
            Tried::NotYet => could_be = true,
            Tried::Never => {}
        }
    }
    Ok(if could_be { Tried::NotYet } else { Tried::Never })
}

/// The numbers of all cases, shuffled: any order is as likely as the others (R. A. Fisher and F. Yates, 1938). To begin anywhere and to go
/// on in turn would prefer whoever comes after many that are not ready.
fn order_of(count: usize, mut dice: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // A step of a multiplicative congruential generator (P. L'Ecuyer 1999), whose upper bits are good. From 0 it gives nothing but 0.
        dice = dice.wrapping_mul(0xf135_7aea_2e62_a9c5);
        let other = last - ((dice >> 33) % (last as u64 + 1)) as usize;
        order.swap(last, other);
    }
    order
}

/// What joining all lines has come to.
#[derive(Debug)]
pub enum Joined<'a, C: Case> {
    /// The waiter stands in all lines.
    Standing(Turn<'a, C>),
    /// The case of this number has happened on the way.
    Happened((usize, C::Value)),
    /// Nothing of it ever will.
    Never,
}

/// One sleep of one who chooses: the waiter stands in the lines of all cases, from `join` to `end`. Dropped, it ends.
#[derive(Debug)]
pub struct Turn<'a, C: Case> {
    cases: &'a [C],
    waiter: Arc<Waiter>,
    claim: Option<Arc<Claim>>,
    is_over: bool,
}

/// What stands in the lines of a task that chooses, between two looks.
#[derive(Debug)]
#[must_use = "it stands in lines until it is resumed and ended"]
pub struct Standing {
    waiter: Arc<Waiter>,
    claim: Option<Arc<Claim>>,
}

impl<'a, C: Case> Turn<'a, C> {
    /// Joins all lines, in an order that the `dice` decide as for [`try_all`]. `is_again`: it was called before and came too late, which gives the only
    /// case a place at the front.
    ///
    /// # Errors
    ///
    /// As from [`try_all`]; then it stands in no line.
    pub fn join(cases: &'a [C], dice: u64, waiter: Arc<Waiter>, is_again: bool) -> Result<Joined<'a, C>, C::Error> {
        let mut turn = Self { cases, waiter, claim: None, is_over: false };
        let claim = cases.iter().any(Case::is_offer).then(Claim::new);
        let mut place = Place::new(&turn.waiter).again(is_again && cases.len() == 1);
        if let Some(claim) = &claim {
            place = place.with_claim(claim);
        }
        let order = order_of(cases.len(), dice);
        match attempt_all(cases, &order, Some(place))? {
            Tried::Happened(happened) => return Ok(Joined::Happened(happened)),
            Tried::Never => return Ok(Joined::Never),
            Tried::NotYet => {}
        }
        if let Some(claim) = claim {
            turn.claim = Some(claim.clone());
            for &number in &order {
                cases[number].offer(number, &claim, &turn.waiter);
            }
        }
        Ok(Joined::Standing(turn))
    }

    /// Goes on with what was left standing, for the same cases.
    pub fn resume(cases: &'a [C], standing: Standing) -> Self {
        Self { cases, waiter: standing.waiter, claim: standing.claim, is_over: false }
    }

    /// Leaves it standing in all lines, for a task. It has to be resumed, to be ended.
    pub fn let_stand(mut self) -> Standing {
        self.is_over = true;
        Standing { waiter: self.waiter.clone(), claim: self.claim.clone() }
    }

    /// The waiter, to be parked.
    pub fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// Withdraws the offers and leaves all lines. `Some`: the offer of this number was accepted.
    pub fn end(mut self) -> Option<usize> {
        self.leave_all()
    }

    fn leave_all(&mut self) -> Option<usize> {
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        let accepted = self.claim.as_ref().and_then(|claim| claim.withdraw());
        for (number, case) in self.cases.iter().enumerate() {
            if let Some(claim) = &self.claim {
                case.take_back(number, claim);
            }
            case.leave(&self.waiter);
        }
        accepted
    }
}

impl<C: Case> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        self.leave_all();
    }
}
