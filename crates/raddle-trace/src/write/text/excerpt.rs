//! The source around the labels of a finding, as compilers show it.
//!
//! ```text
//!   --> bank.py:16 in transfer
//!    |
//! 14 |     with a:
//!    |     ------- "alpha" holds Lock 'a' since here
//! 16 |         with b:
//!    |         ^^^^^^^ "alpha" waits for Lock 'b' here
//! ```
//!
//! Where a file is not there the places alone are shown.

use std::collections::BTreeMap;

use crate::session::{Label, Place};
use crate::source;
use crate::words::{clean, place};

use super::{BLUE, Page, RED, YELLOW, pad, wrap};

/// The excerpts for these labels, the first of which is the most important; and whether the last of them is source, below which a line is to be left.
pub(super) fn lines(page: &Page<'_>, labels: &[Label], is_error: bool) -> (Vec<String>, bool) {
    let known: Vec<(&Place, &Label)> =
        labels.iter().filter_map(|label| Some((page.session.places.get(label.place as usize)?, label))).collect();
    let mut out = Vec::new();
    let mut is_open = false;
    let Some((first, _)) = known.first() else { return (out, is_open) };
    let mut files: Vec<&str> = Vec::new();
    for (place, _) in &known {
        if !files.contains(&place.file.as_str()) {
            files.push(&place.file);
        }
    }
    let gutter = known.iter().map(|(place, _)| place.line.to_string().len()).max().unwrap_or(1);
    for (index, file) in files.iter().enumerate() {
        let here: Vec<(&Place, &Label)> = known.iter().filter(|(place, _)| place.file == *file).copied().collect();
        let arrow = if index == 0 { "-->" } else { ":::" };
        let head = here[0].0;
        let of = if head.function.is_empty() || head.function == "<module>" {
            String::new()
        } else {
            format!(" in {}", clean(&head.function))
        };
        let arrow = page.paint(BLUE, &format!("{}{arrow}", " ".repeat(gutter)));
        out.push(page.cut(&format!("{arrow} {}{of}", place(page.session, head)), page.width()));
        let source = source::lines(page.session, file, here.iter().map(|(place, _)| place.line));
        is_open = !source.is_empty();
        out.extend(match is_open {
            true => excerpt(page, &source, &here, first, gutter, is_error),
            false => without_source(page, &here, gutter),
        });
    }
    (out, is_open)
}

fn excerpt(
    page: &Page<'_>,
    source: &BTreeMap<u32, String>,
    here: &[(&Place, &Label)],
    first: &Place,
    gutter: usize,
    is_error: bool,
) -> Vec<String> {
    let mut by_line: BTreeMap<u32, Vec<(&Place, &Label)>> = BTreeMap::new();
    for (place, label) in here {
        by_line.entry(place.line).or_default().push((place, label));
    }
    let bar = page.paint(BLUE, &format!("{} |", " ".repeat(gutter)));
    let mut out = vec![bar.clone()];
    let mut last = None;
    for (line, labels) in &by_line {
        if last.is_some_and(|last| line - last > 1) {
            out.push(page.paint(BLUE, &format!("{}...", " ".repeat(gutter.saturating_sub(2)))));
        }
        last = Some(*line);
        let is_first = labels.iter().any(|(place, _)| *place == first);
        let colour = match (is_first, is_error) {
            (true, true) => RED,
            (true, false) => YELLOW,
            _ => BLUE,
        };
        let number = page.paint(BLUE, &format!("{} |", pad(&line.to_string(), gutter)));
        let room = page.width().saturating_sub(gutter + 3);
        let text = source.get(line).map(|text| clean(&text.replace('\t', "    ")));
        let (indent, length) = match &text {
            Some(text) => (text.len() - text.trim_start().len(), code(text).chars().count()),
            None => (0, 0),
        };
        if let Some(text) = &text {
            out.push(page.cut(&format!("{number} {}", text.trim_end()), page.width()));
        }
        for (index, (_, label)) in labels.iter().enumerate() {
            let mark = if is_first { "^" } else { "-" };
            let marks = match (index, &text) {
                (0, Some(_)) => mark.repeat(length.clamp(1, 40)),
                (_, Some(_)) => " ".repeat(length.clamp(1, 40)),
                (_, None) => format!("line {line}:"),
            };
            let said = clean(&label.text);
            let lead = indent + marks.chars().count() + 1;
            // Beside the marks if it fits, below them if not.
            if lead + said.chars().count() <= room {
                let words = page.paint(colour, &format!("{marks} {said}"));
                out.push(format!("{bar} {}{words}", " ".repeat(indent)));
            } else {
                if index == 0 && text.is_some() {
                    out.push(format!("{bar} {}{}", " ".repeat(indent), page.paint(colour, &marks)));
                }
                let indent = if text.is_some() { indent.min(room / 3) } else { 0 };
                let said = if text.is_some() { said } else { format!("{marks} {said}") };
                let rows = wrap(&said, room.saturating_sub(indent), "");
                out.extend(rows.iter().map(|row| format!("{bar} {}{}", " ".repeat(indent), page.paint(colour, row))));
            }
        }
    }
    out
}

/// The file is not there: the labels alone.
fn without_source(page: &Page<'_>, here: &[(&Place, &Label)], gutter: usize) -> Vec<String> {
    let head = here[0].0.line;
    let say = |(place, label): &(&Place, &Label)| {
        let at = if place.line == head { String::new() } else { format!("line {}: ", place.line) };
        let mark = page.paint(BLUE, "=");
        wrap(
            &format!("{}{mark} {at}{}", " ".repeat(gutter + 1), clean(&label.text)),
            page.width(),
            &" ".repeat(gutter + 3),
        )
    };
    here.iter().flat_map(say).collect()
}

/// What of a line is to be underlined: no indent, and no comment behind it where that is plain to see.
fn code(text: &str) -> &str {
    let text = text.trim();
    let bare = text.split_once("  #").map_or(text, |(code, _)| code);
    bare.trim_end()
}
