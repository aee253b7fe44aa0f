//! What was recorded from within a process, with a title, labels and help for people.

use crate::report::{Certainty, Finding, Level};
use crate::session::{Fact, Session, State, UnitId};
use crate::words::{clean, names, plural, unit};

use super::{Evidence, Fill, finding};

/// How often something is told one by one before the rest is counted.
const MOST: usize = 4;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let session = evidence.timeline.session;
    groups(session).into_iter().filter_map(|group| tell(session, &group)).collect()
}

/// Facts of one kind at one place are one finding.
fn groups(session: &Session) -> Vec<Vec<&Fact>> {
    let mut groups: Vec<Vec<&Fact>> = Vec::new();
    let place = |fact: &Fact| fact.labels.first().map(|label| label.place);
    let is_told_elsewhere = |fact: &Fact| fact.kind == "unhandled-exception";
    for fact in session.facts.iter().filter(|fact| !is_told_elsewhere(fact) && is_worth_it(session, fact)) {
        let alike = |group: &&mut Vec<&Fact>| group[0].kind == fact.kind && place(group[0]) == place(fact);
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(fact),
            None => groups.push(vec![fact]),
        }
    }
    groups
}

/// Not everything that was recorded is worth a word: a daemon that waits when the program ends is what daemons are for; one that is at work is cut off.
fn is_worth_it(session: &Session, fact: &Fact) -> bool {
    let is_at_work = |id: &UnitId| {
        let thread = session.processes.get(id.process).and_then(|process| process.threads.get(id.thread?));
        // One that was looked at once, when it had just been started, has since done nobody knows what.
        let seen = thread.filter(|thread| thread.cpu > 0);
        let last = seen.and_then(|thread| thread.spans.last()).map(|span| span.state);
        matches!(last, Some(State::Running | State::Native | State::Gil | State::Runnable | State::Lock))
    };
    // A child that hangs for it is told as such.
    let is_stuck = |id: &UnitId| {
        let mut lost = session.stuck.iter().filter(|stuck| stuck.kind == "lost-lock").flat_map(|stuck| &stuck.units);
        lost.any(|unit| unit.process == id.process)
    };
    let is_stuck_itself = |id: &UnitId| {
        let mut units = session.stuck.iter().flat_map(|stuck| &stuck.units);
        units.any(|unit| (unit.process, unit.thread) == (id.process, id.thread))
    };
    let has_event_loop =
        |id: &UnitId| session.things.iter().any(|thing| thing.process == id.process && thing.kind == "event-loop");
    match fact.kind.as_str() {
        "daemon-killed" => fact.units.iter().any(is_at_work),
        "fork-with-lock" => !fact.units.iter().any(is_stuck),
        // Of one that cannot go on that is told, and not that it is left over.
        "orphaned-thread" => !fact.units.iter().any(is_stuck_itself),
        // Nobody sees what threads tell an event loop.
        "never-joined" => !fact.units.iter().any(has_event_loop),
        _ => true,
    }
}

fn tell(session: &Session, group: &[&Fact]) -> Option<Finding> {
    let first = group.first()?;
    let mut units: Vec<UnitId> = group.iter().flat_map(|fact| fact.units.iter().copied()).collect();
    let mut seen = std::collections::HashSet::new();
    units.retain(|unit| seen.insert(*unit));
    let who = names(units.iter().map(|id| unit(session, *id)).collect::<Vec<_>>().iter().map(String::as_str), 3);
    let what = things(session, first);
    let (level, certainty, title, help) = words(first, group.len(), units.len(), &who, &what);
    let mut told = finding(&first.kind, level, title).sure(certainty).at(first.at).about(units);
    // Labels that are already there, word for word, say nothing new.
    for label in group.iter().flat_map(|fact| &fact.labels).take(8) {
        let is_told = told.labels.iter().any(|other| other == label);
        told = if is_told { told } else { told.label(Some(label.place), clean(&label.text)) };
    }
    let mut details: Vec<&str> =
        group.iter().map(|fact| fact.detail.as_str()).filter(|text| !text.is_empty()).collect();
    details.dedup();
    let rest = details.len().saturating_sub(MOST);
    told = details.into_iter().take(MOST).fold(told, |told, detail| told.note(clean(detail)));
    told = if rest > 0 { told.note(format!("and {rest} more")) } else { told };
    Some(help.iter().fold(told, |told, help| told.help(*help)))
}

/// What the fact is about: `Lock 'a' and Lock 'b'`.
fn things(session: &Session, fact: &Fact) -> String {
    let thing = |id: &u32| session.things.get(usize::try_from(*id).ok()?).map(|thing| clean(&thing.what));
    let all: Vec<String> = fact.things.iter().filter_map(thing).collect();
    match all.split_last() {
        None => "a lock".into(),
        Some((last, before)) if !before.is_empty() && before.iter().all(|other| other == last) => {
            format!("{} {last}s", all.len())
        }
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

fn words(
    fact: &Fact,
    times: usize,
    units: usize,
    who: &str,
    what: &str,
) -> (Level, Certainty, String, &'static [&'static str]) {
    use Certainty::{Certain, Possible, Probable};
    use Level::{Note, Warning};
    let (is, has, holds) = if units == 1 { ("is", "has", "holds") } else { ("are", "have", "hold") };
    let threads = plural(units, "thread");
    match fact.kind.as_str() {
        "lock-order" => (
            Warning,
            Probable,
            if fact.things.len() > 2 {
                format!("{what} are taken around a circle")
            } else {
                format!("{what} are taken in both orders")
            },
            &[
                "threads that do this at the same moment wait for each other for ever: take the locks in the same order everywhere",
            ],
        ),
        "lock-leaked" => (
            Warning,
            Certain,
            format!("{who} {has} ended and still {holds} {what}"),
            &[
                "whoever wants it next waits for ever: take it with `with`, which releases it on the way out of a return or an exception too",
            ],
        ),
        "fork-with-lock" => (
            Warning,
            Certain,
            format!("the process was forked while another thread held {what}"),
            &[
                "in the child nobody will ever release it: fork before threads are started, or start processes by \"spawn\" or \"forkserver\"",
            ],
        ),
        "daemon-killed" => (
            Note,
            Certain,
            format!(
                "the program ended while the daemon {} {is} at work: {who}",
                if units == 1 { "thread" } else { "threads" }
            ),
            &["it was cut off in the middle of what it did: tell it to stop and join it if that matters"],
        ),
        "never-joined" => (
            Note,
            Certain,
            format!("nobody waited for the {} of {threads}: {who}", if units == 1 { "end" } else { "ends" }),
            &["what went wrong there would go unseen: join() it, or use a `with` block that does, such as a pool's"],
        ),
        "orphaned-thread" => (
            Note,
            Certain,
            format!("{threads} went on after the main thread had ended: {who}"),
            &["the program cannot end before they do: tell them to stop, or make them daemons if they may be cut off"],
        ),
        "event-loop-blocked" => (
            Warning,
            Certain,
            "the event loop could do nothing else while one callback was busy".into(),
            super::event_loop::HELP,
        ),
        "lost-wakeup" => (
            Warning,
            Possible,
            format!(
                "{what} is waited for without a look at the condition itself: a notification before the wait is lost"
            ),
            &["wait in a loop for the condition itself: `condition.wait_for(lambda: ready)`"],
        ),
        "starvation" => (
            Warning,
            Certain,
            format!("{who} waited long for {what} while others took it again and again"),
            super::starvation::HELP,
        ),
        kind => {
            let again = if times > 1 { format!(", {times} times") } else { String::new() };
            (Note, Certain, format!("{}{again}: {who}", clean(&kind.replace('-', " "))), &[])
        }
    }
}
