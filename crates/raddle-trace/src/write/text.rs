//! A report for people, on a terminal: at most sixty lines, the verdict first.
//!
//! ```text
//! verdict
//!
//! what each process and thread did           tree, folded where there are many
//!
//! findings                                   whole, while there is room; then one line each
//!
//! locks, speed-up, advice, notes
//! ```
//!
//! What comes from the program (names, files, source lines) may hold anything, also orders to a terminal: control characters are written as escapes.
//! Colours never carry a meaning alone.

mod bar;
mod excerpt;
mod finding;
mod tables;
#[cfg(test)]
mod tests;
mod tree;

use crate::report::Report;
use crate::session::Session;

/// How the text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// With colours, for a terminal.
    pub colour: bool,
    /// With nothing but ASCII.
    pub ascii: bool,
    /// So many columns. Less than 60 are taken as 60.
    pub width: usize,
    /// So many lines, about: what does not fit is told in fewer words, and never left out without a word.
    pub lines: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: false, ascii: false, width: 100, lines: 60 }
    }
}

/// Writes a report.
#[must_use]
pub fn text(session: &Session, report: &Report, style: Style) -> String {
    let page = Page { session, report, style };
    let head = vec![page.cut(&page.paint(BOLD, &report.verdict), style.width.max(60) * 2)];
    let tree = tree::lines(&page);
    let tables = [tables::locks(&page), tables::speed_up(&page), tables::advice(&page), tables::notes(&page)];
    let taken = 1 + blocks(&tree) + tables.iter().map(|lines| blocks(lines)).sum::<usize>();
    let findings = finding::lines(&page, style.lines.saturating_sub(taken).max(8));
    let mut out = String::new();
    for block in [head, tree, findings].into_iter().chain(tables).filter(|block| !block.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        for line in block {
            out.push_str(&page.to_ascii(line.trim_end()));
            out.push('\n');
        }
    }
    out
}

/// The lines of a block, with the empty one before it.
fn blocks(lines: &[String]) -> usize {
    if lines.is_empty() { 0 } else { lines.len() + 1 }
}

const RED: &str = "1;31";
const GREEN: &str = "32";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const CYAN: &str = "36";
const BOLD: &str = "1";
const DIM: &str = "2";

/// What is written, and how.
struct Page<'a> {
    session: &'a Session,
    report: &'a Report,
    style: Style,
}

impl Page<'_> {
    fn paint(&self, colour: &str, text: &str) -> String {
        if self.style.colour && !text.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn width(&self) -> usize {
        self.style.width.clamp(60, 200)
    }

    /// At most so many characters, where colours take none.
    fn cut(&self, text: &str, most: usize) -> String {
        let mut out = String::new();
        let (mut seen, mut is_order) = (0, false);
        for character in text.chars() {
            is_order |= character == '\x1b';
            if !is_order {
                seen += 1;
                if seen > most {
                    continue;
                }
            }
            out.push(if seen == most && !is_order && text_width(text) > most { '…' } else { character });
            is_order &= character != 'm';
        }
        out
    }

    fn to_ascii(&self, line: &str) -> String {
        if !self.style.ascii {
            return line.to_owned();
        }
        let mut out = String::with_capacity(line.len());
        for character in line.chars() {
            match character {
                '█' => out.push('#'),
                '▓' => out.push('%'),
                '▒' => out.push('='),
                '░' => out.push('-'),
                '·' => out.push('.'),
                '├' | '└' => out.push('+'),
                '│' => out.push('|'),
                '…' => out.push_str("..."),
                'µ' => out.push('u'),
                other if other.is_ascii() => out.push(other),
                _ => out.push('?'),
            }
        }
        out
    }
}

/// How many columns a text takes, where colours take none.
fn text_width(text: &str) -> usize {
    let mut is_order = false;
    let visible = text.chars().filter(|character| {
        is_order |= *character == '\x1b';
        let counts = !is_order;
        is_order &= *character != 'm';
        counts
    });
    visible.count()
}

/// Filled up with blanks to so many columns.
fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text_width(text))))
}

/// A sentence in lines of at most so many characters, each after the first one indented.
fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let words = text.trim_start_matches(' ');
    let mut line = " ".repeat(text.len() - words.len());
    let mut is_first = true;
    for word in words.split(' ') {
        let room = if lines.is_empty() { width } else { width.saturating_sub(text_width(indent)) };
        if !is_first && text_width(&line) + 1 + text_width(word) > room {
            lines.push(std::mem::take(&mut line));
            is_first = true;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(word);
        is_first = false;
    }
    lines.push(line);
    lines
        .into_iter()
        .enumerate()
        .map(|(index, line)| if index == 0 { line } else { format!("{indent}{line}") })
        .collect()
}
