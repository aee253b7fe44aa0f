//! The spans and the passes for the page: of these there may be a million, and both sides are to be done with them in a moment.
//!
//! Whole numbers of seven bits a byte, the low ones first, with the highest bit where another byte follows (LEB128). The spans of each thread, one behind
//! the other:
//!
//! ```text
//!   state + 16 if there is a place + 32 if a thing + 64 if a holder
//!   how long after the end of the span before      its length      place      thing      holder
//! ```
//!
//! Then the passes: process and thread of the giver, when, process and thread of the taker, how much later, the thing counted from 1 (0: none). How many
//! there are of each stands with the rest of the data.

use crate::session::{Pass, Session, Span, State};

const HAS_PLACE: u64 = 16;
const HAS_THING: u64 = 32;
const HAS_HOLDER: u64 = 64;

const _: () = assert!(State::ALL.len() <= HAS_PLACE as usize);

/// What a row takes, roughly.
const USUAL: usize = 10;

pub(super) fn rows(session: &Session) -> Vec<u8> {
    let threads = || session.processes.iter().flat_map(|process| &process.threads);
    let count = threads().map(|thread| thread.spans.len()).sum::<usize>() + session.passes.len();
    let mut bytes = Vec::with_capacity(count * USUAL);
    for thread in threads() {
        let mut last = 0;
        for span in &thread.spans {
            last = push_span(&mut bytes, span, last);
        }
    }
    for pass in &session.passes {
        push_pass(&mut bytes, pass);
    }
    bytes
}

/// Returns when the span ends. `last`: when the one before it did.
fn push_span(bytes: &mut Vec<u8>, span: &Span, last: u64) -> u64 {
    // Rule 2 of sessions; what was read from a file may not keep it.
    let from = span.from.max(last);
    let until = span.until.max(from);
    let parts = [(span.place, HAS_PLACE), (span.thing, HAS_THING), (span.holder, HAS_HOLDER)];
    push(bytes, span.state as u64 + parts.iter().map(|(id, flag)| if id.is_some() { *flag } else { 0 }).sum::<u64>());
    push(bytes, from - last);
    push(bytes, until - from);
    for id in parts.into_iter().filter_map(|(id, _)| id) {
        push(bytes, u64::from(id));
    }
    until
}

fn push_pass(bytes: &mut Vec<u8>, pass: &Pass) {
    let later = pass.until.saturating_sub(pass.at);
    let thing = pass.thing.map_or(0, |id| u64::from(id) + 1);
    for number in [pass.from.0 as u64, pass.from.1 as u64, pass.at, pass.to.0 as u64, pass.to.1 as u64, later, thing] {
        push(bytes, number);
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
