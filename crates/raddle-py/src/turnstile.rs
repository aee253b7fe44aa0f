//! The turnstile before the interpreter: of many threads that have been woken, few at a time ask for it.
//!
//! Who waits for CPython's lock looks every five milliseconds whether somebody else has got it meanwhile. Of a few threads nobody notices.
//! Thousands that are woken at once (an event that is set, a channel that ends, a wide pool that is given work or shut down) spend all
//! processors on looking, and take minutes for what is the work of a second. So a thread that comes back from a wait goes through here:
//! [`ABREAST`] threads at a time ask for the interpreter, the others sleep in line, first come first served.
//!
//! # Rules
//!
//! 1. A [`Pass`] is taken detached, after the wait, and given back as soon as its thread is attached. Its holder waits for the interpreter
//!    and for nothing else, so each is given back as long as there is an interpreter to attach to.
//! 2. Whoever stands in line holds no pass and no lock of the house. What it has been woken for is its own already.
//! 3. The main thread passes by: it has to run the handlers of signals.
//! 4. A fork begins anew: those who held a pass, and those who stood in line, are not there.
//!
//! A build without a GIL has no turnstile.

use raddle_core::park::{Attempt, Wake};
use raddle_core::sync::Semaphore;

use crate::of_process::OfProcess;
use crate::runtime;

/// So many ask at a time. That many looking every five milliseconds cost next to nothing, and the next ones are awake when it is their turn.
const ABREAST: usize = 32;

/// The passes (rule 4).
static PASSES: OfProcess<Semaphore> = OfProcess::new(|| Semaphore::new(ABREAST, None));

/// The right to ask for the interpreter. To be dropped attached.
#[must_use = "whoever drops it lets the next one in"]
pub(crate) struct Pass(Option<&'static Semaphore>);

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(passes) = self.0 {
            let given_back = passes.release(1);
            debug_assert!(given_back.is_ok(), "there is no bound");
        }
    }
}

/// Waits until it is this thread's turn to ask for the interpreter.
pub(crate) fn enter() -> Pass {
    if cfg!(Py_GIL_DISABLED) || runtime::is_main_thread() {
        return Pass(None);
    }
    let (passes, mut before) = (PASSES.get(), None);
    while let Attempt::Wait(waiter) = passes.acquire(before.as_ref()) {
        // An interruption concerns what the thread waits for: it looks for that where it waits next.
        while waiter.park(None) != Wake::Unparked {}
        before = Some(waiter);
    }
    Pass(Some(passes))
}

/// To be called in a forked child (rule 4).
pub(crate) fn forked() {
    PASSES.renew();
}
