//! What was recorded from within a process, with a title, labels and help for people.

use std::collections::{HashMap, HashSet};

use crate::report::{Certainty, Finding, Level};
use crate::session::{Fact, PlaceId, Session, State, UnitId};
use crate::words::{clean, names, plural, unit};

use super::{Evidence, Fill, finding, stuck_units};

/// How often something is told one by one before the rest is counted.
const MOST: usize = 4;

pub(super) fn findings(evidence: &Evidence<'_, '_>) -> Vec<Finding> {
    let session = evidence.timeline.session;
    groups(session).into_iter().filter_map(|group| tell(session, &group)).collect()
}

/// Facts of one kind at one place are one finding.
fn groups(session: &Session) -> Vec<Vec<&Fact>> {
    let known = Known::of(session);
    let mut groups: Vec<Vec<&Fact>> = Vec::new();
    let mut by_place: HashMap<(&str, Option<PlaceId>), usize> = HashMap::new();
    let is_told_elsewhere = |fact: &Fact| fact.kind == "unhandled-exception";
    for fact in session.facts.iter().filter(|fact| !is_told_elsewhere(fact) && known.is_worth_it(fact)) {
        let key = (fact.kind.as_str(), fact.labels.first().map(|label| label.place));
        let group = *by_place.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(fact);
    }
    groups
}

/// What else is known about the units of facts.
struct Known<'s> {
    session: &'s Session,
    /// Processes in which somebody waits for a lock that nobody will release.
    lost: HashSet<usize>,
    stuck: HashSet<UnitId>,
    /// Processes with an event loop.
    loops: HashSet<usize>,
}

impl<'s> Known<'s> {
    fn of(session: &'s Session) -> Self {
        let lost = session.stuck.iter().filter(|stuck| stuck.kind == "lost-lock").flat_map(|stuck| &stuck.units);
        let loops = session.things.iter().filter(|thing| thing.kind == "event-loop");
        Self {
            session,
            lost: lost.map(|unit| unit.process).collect(),
            stuck: stuck_units(session),
            loops: loops.map(|thing| thing.process).collect(),
        }
    }

    /// Not everything that was recorded is worth a word: a daemon that waits when the program ends is what daemons are for; one that is at work is cut off.
    fn is_worth_it(&self, fact: &Fact) -> bool {
        let is_at_work = |id: &UnitId| {
            let thread = self.session.processes.get(id.process).and_then(|process| process.threads.get(id.thread?));
            // One that was looked at once, when it had just been started, has since done nobody knows what.
            let seen = thread.filter(|thread| thread.cpu > 0);
            let last = seen.and_then(|thread| thread.spans.last()).map(|span| span.state);
            matches!(last, Some(State::Running | State::Native | State::Gil | State::Runnable | State::Lock))
        };
        let mut units = fact.units.iter();
        match fact.kind.as_str() {
            "daemon-killed" => units.any(is_at_work),
            // A child that hangs for it is told as such.
            "fork-with-lock" => !units.any(|id| self.lost.contains(&id.process)),
            // Of one that cannot go on that is told, and not that it is left over.
            "orphaned-thread" => !units.any(|id| self.stuck.contains(id)),
            // Nobody sees what threads tell an event loop.
            "never-joined" => !units.any(|id| self.loops.contains(&id.process)),
            _ => true,
        }
    }
}

fn tell(session: &Session, group: &[&Fact]) -> Option<Finding> {
    let first = group.first()?;
    let mut units: Vec<UnitId> = group.iter().flat_map(|fact| fact.units.iter().copied()).collect();
    let mut seen = HashSet::new();
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
    // The title speaks of the first: others go the same way through the code, and through other locks.
    let circles = if first.kind == "lock-order" { &group[1..] } else { &[] };
    told = circles.iter().take(MOST).fold(told, |told, fact| told.note(other_circle(session, fact)));
    if circles.len() > MOST {
        told = told.note(format!("and {}", plural(circles.len() - MOST, "more circle")));
    }
    Some(help.iter().fold(told, |told, help| told.help(*help)))
}

/// `3 Locks are taken around another circle here: "a", "b" and "c"`
fn other_circle(session: &Session, fact: &Fact) -> String {
    let who: Vec<String> = fact.units.iter().map(|id| unit(session, *id)).collect();
    let who = names(who.iter().map(String::as_str), MOST);
    format!("{} are taken around another circle here: {who}", things(session, fact))
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
