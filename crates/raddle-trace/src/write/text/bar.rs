//! A thread's time as a bar, and in words.

use crate::analyse::Shares;
use crate::session::State;
use crate::words::percent;

use super::{CYAN, DIM, GREEN, Page, RED, YELLOW};

/// What the characters of a bar stand for, in the order in which they stand.
pub(super) const KINDS: [(char, &str, &str, &[State]); 5] = [
    ('█', "runs Python", GREEN, &[State::Running]),
    ('▓', "runs native code", GREEN, &[State::Native]),
    ('▒', "wants to: GIL, processor, lock", RED, &[State::Gil, State::Runnable, State::Lock]),
    ('░', "waits for others", YELLOW, &[State::Queue, State::Event, State::Join]),
    ('·', "I/O, sleep", CYAN, &[State::Io, State::Sleep]),
];

/// A bar of so many characters.
pub(super) fn bar(page: &Page<'_>, shares: &Shares, width: usize) -> String {
    let mut out = String::new();
    let (mut done, mut drawn) = (0.0, 0);
    for (character, _, colour, states) in KINDS {
        done += shares.fraction_of(states);
        // Rounded at the ends and not at the lengths, so that the lengths add up.
        let until = ((done * width as f64).round() as usize).clamp(drawn, width);
        out.push_str(&page.paint(colour, &String::from(character).repeat(until - drawn)));
        drawn = until;
    }
    out.push_str(&" ".repeat(width - drawn));
    out
}

/// `running 27 %  GIL 71 %  I/O 2 %`: what is more than nothing, the longest first, at most so many.
pub(super) fn in_words(shares: &Shares, most: usize) -> String {
    let worth = shares.longest_first().into_iter().filter(|(_, share)| *share >= 0.01);
    let words: Vec<String> =
        worth.take(most).map(|(state, share)| format!("{} {}", word(state), percent(share))).collect();
    words.join("  ")
}

/// The characters that were used, and what they stand for.
pub(super) fn legend(page: &Page<'_>, shares: &Shares) -> String {
    let used = KINDS.iter().filter(|(_, _, _, states)| shares.fraction_of(states) > 0.0);
    let words: Vec<String> = used.map(|(character, words, _, _)| format!("{character} {words}")).collect();
    page.paint(DIM, &words.join("   "))
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Native => "native",
        State::Runnable => "no processor",
        State::Gil => "GIL",
        State::Lock => "lock",
        State::Queue => "queue",
        State::Event => "event",
        State::Join => "joining",
        State::Io => "I/O",
        State::Sleep => "asleep",
        State::Stopped => "stopped",
        State::Unknown => "unknown",
    }
}
