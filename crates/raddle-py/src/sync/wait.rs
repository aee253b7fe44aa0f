//! The loop in which a thread waits at a primitive.

use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use raddle_core::park::{Attempt, Waiter, Wake};
use raddle_proc::lane::Waited;

use crate::wait_graph::{self, What};

/// Sleeps until the waiter, which stands in line for `what`, is called. `false`: the deadline has passed. An error: a signal's
/// handler or an order has raised, or the wait would never end.
pub(crate) fn until_called(
    py: Python<'_>,
    what: What,
    waiter: &Arc<Waiter>,
    deadline: Option<Instant>,
) -> PyResult<bool> {
    let has_come =
        wait_graph::enter(py, what, waiter, deadline)?.sleep(py, deadline, |until| of_wake(waiter.park(until)))?;
    Ok(has_come || waiter.is_called())
}

pub(crate) fn of_wake(wake: Wake) -> Waited {
    match wake {
        Wake::Unparked => Waited::Done,
        Wake::TimedOut => Waited::TimedOut,
        Wake::Interrupted => Waited::Interrupted,
    }
}

/// Attempts, and waits between attempts, until one succeeds. `None`: the deadline has passed.
///
/// `leave` takes a waiter out that does not want to wait any more, and passes its call on.
pub(crate) fn until_done<T>(
    py: Python<'_>,
    what: What,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(Option<&Arc<Waiter>>) -> Attempt<T>,
    leave: impl Fn(&Arc<Waiter>),
) -> PyResult<Option<T>> {
    let mut before = None;
    loop {
        match attempt(before.as_ref()) {
            Attempt::Done(value) => return Ok(Some(value)),
            Attempt::Wait(waiter) => {
                match until_called(py, what.clone(), &waiter, deadline) {
                    Ok(true) => {}
                    ended => {
                        leave(&waiter);
                        return ended.map(|_| None);
                    }
                }
                before = Some(waiter);
            }
        }
    }
}
