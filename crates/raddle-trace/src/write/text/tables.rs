//! Locks by what they cost, what more workers would bring, advice, notes.

use crate::analyse::crowding;
use crate::report::Prediction;
use crate::words::{clean, duration, percent, place, plural, range, shorten};

use super::{BOLD, DIM, Page, pad, wrap};

/// So many locks, pieces of advice, notes.
const LOCKS: usize = 5;
const ADVICE: usize = 3;
const NOTES: usize = 4;

/// A lock that costs less than this share of the critical path, and was waited for less than this, is not worth a line.
const SHARE: f64 = 0.01;
const WAITED: u64 = 10_000_000;

pub(super) fn locks(page: &Page<'_>) -> Vec<String> {
    let worth = page.report.locks.iter().filter(|cost| cost.share >= SHARE || cost.waited >= WAITED);
    let mut rows = Vec::new();
    for cost in worth {
        let Some(thing) = page.session.things.get(cost.thing as usize) else { continue };
        let at = cost.place.and_then(|id| page.session.places.get(id as usize));
        rows.push([
            shorten(&clean(&thing.what), 32),
            percent(cost.share),
            duration(cost.waited),
            cost.waits.to_string(),
            duration(cost.longest),
            at.map_or(String::new(), |at| place(page.session, at)),
        ]);
    }
    let more = rows.len().saturating_sub(LOCKS);
    rows.truncate(LOCKS);
    let mut out = table(page, ["locks", "critical path", "waited", "waits", "longest", "mostly at"], &rows);
    if more > 0 {
        out.push(page.paint(DIM, &format!("and {more} more")));
    }
    out
}

pub(super) fn speed_up(page: &Page<'_>) -> Vec<String> {
    let Some(speed_up) = &page.report.speed_up else { return Vec::new() };
    let mut counts: Vec<Option<u32>> = Vec::new();
    let mut models: Vec<&str> = Vec::new();
    for Prediction { model, workers, .. } in &speed_up.predictions {
        if !counts.contains(workers) {
            counts.push(*workers);
        }
        if !models.contains(&model.as_str()) {
            models.push(model);
        }
    }
    let cell = |model: &str, workers: Option<u32>| {
        let found = speed_up.predictions.iter().find(|one| one.model == model && one.workers == workers);
        found.map_or(String::new(), |one| range(one.seconds))
    };
    let head: Vec<String> = std::iter::once("with a processor each".to_owned())
        .chain(counts.iter().map(|count| count.map_or("the limit".into(), |count| plural(count as usize, "worker"))))
        .collect();
    let rows: Vec<Vec<String>> = models
        .iter()
        .map(|model| {
            let cells = counts.iter().map(|count| cell(model, *count));
            std::iter::once(format!("  {}", clean(model))).chain(cells).collect()
        })
        .collect();
    let title = format!(
        "{}: {} of the work ran one at a time (serial fraction {:.2}); {} of work in all",
        page.paint(BOLD, "speed-up"),
        percent(speed_up.serial_fraction),
        speed_up.serial_fraction,
        duration(speed_up.work)
    );
    let mut out = vec![page.cut(&title, page.width())];
    out.extend(columns(page, &std::iter::once(head).chain(rows).collect::<Vec<_>>(), true));
    out
}

pub(super) fn advice(page: &Page<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for advice in page.report.advice.iter().take(ADVICE) {
        let text =
            format!("{} {}", page.paint(BOLD, &format!("advice[{}]:", clean(&advice.choice))), clean(&advice.text));
        out.extend(wrap(&text, page.width(), "    "));
        if !advice.evidence.is_empty() {
            let facts = format!("    since {}", clean(&advice.evidence.join("; ")));
            out.extend(wrap(&facts, page.width(), "    ").iter().map(|line| page.paint(DIM, line)));
        }
    }
    out
}

pub(super) fn notes(page: &Page<'_>) -> Vec<String> {
    let session = page.session;
    let mut all: Vec<String> = session.notes.iter().map(|note| clean(note)).collect();
    if session.dropped > 0 {
        all.push(format!(
            "{} were not recorded: there was no room for them",
            plural(usize::try_from(session.dropped).unwrap_or(usize::MAX), "event")
        ));
    }
    all.extend(crowding(session).map(|crowding| {
        let share = percent(crowding.share);
        format!("the machine was busy with something else: {share} of the time in which a thread could run, no processor was free for it")
    }));
    let more = all.len().saturating_sub(NOTES);
    all.truncate(NOTES);
    let mut out: Vec<String> =
        all.iter().flat_map(|note| wrap(&format!("note: {note}"), page.width(), "      ")).collect();
    if more > 0 {
        out.push(format!("and {}", plural(more, "more note")));
    }
    out.iter().map(|line| page.paint(DIM, line)).collect()
}

fn table<const N: usize>(page: &Page<'_>, head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(|row| row.to_vec())).collect();
    columns(page, &all, false)
}

/// Columns of one width each: the first to the left, the others to the right, and the last one as it is.
fn columns(page: &Page<'_>, rows: &[Vec<String>], is_last_right: bool) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |(index, row): (usize, &Vec<String>)| {
        let mut out = String::new();
        for (column, cell) in row.iter().enumerate() {
            match column {
                0 => out.push_str(&pad(cell, widths[0])),
                _ if column + 1 == count && !is_last_right => out.push_str(&format!("   {cell}")),
                _ => {
                    let blanks = widths[column].saturating_sub(cell.chars().count());
                    out.push_str(&format!("   {}{cell}", " ".repeat(blanks)));
                }
            }
        }
        let out = page.cut(&out, page.width());
        if index == 0 { page.paint(BOLD, &out) } else { out }
    };
    rows.iter().enumerate().map(line).collect()
}
