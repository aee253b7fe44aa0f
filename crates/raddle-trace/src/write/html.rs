//! A report as one page: it needs nothing but a browser, and asks nothing of the net.
//!
//! ```text
//! html/page.html   the frame; its marks are replaced
//! html/*.css       how it looks
//! html/*.js        what it does, one idea a file, in one function that hides their names
//! data             what is shown, as JSON
//! rows             the spans and the passes, as short numbers in base64
//! ```
//!
//! # Rules
//!
//! 1. What comes from the program (names, files, source lines) may hold anything. It is in the page only as data: `<` and `&` do not occur in it, and the
//!    scripts make text of it, never markup. A policy in the page's head forbids every request all the same.
//! 2. The page is good to read without a pointer, without colours, in the dark and on paper.

mod data;
mod rows;

use std::io::{self, Write};

use crate::report::Report;
use crate::session::Session;
use crate::words::program;

const PAGE: &str = include_str!("html/page.html");
const STYLES: [&str; 3] =
    [include_str!("html/colours.css"), include_str!("html/page.css"), include_str!("html/timeline.css")];
const SCRIPTS: [&str; 8] = [
    include_str!("html/words.js"),
    include_str!("html/data.js"),
    include_str!("html/theme.js"),
    include_str!("html/report.js"),
    include_str!("html/view.js"),
    include_str!("html/draw.js"),
    include_str!("html/timeline.js"),
    include_str!("html/main.js"),
];

/// A session and its report as a page.
#[must_use]
pub fn html(session: &Session, report: &Report) -> String {
    let mut page = Vec::new();
    write_html(session, &|| report, &mut page).expect("a Vec takes everything");
    String::from_utf8(page).expect("its parts are text")
}

/// Writes the same. The report is asked for when what needs none is done: it can be made meanwhile.
///
/// # Errors
///
/// What is written to fails.
pub fn write_html<'r>(session: &Session, report: &dyn Fn() -> &'r Report, out: &mut dyn Write) -> io::Result<()> {
    let rows = base64(&rows::rows(session));
    let report = report();
    let parts = [
        ("title", escaped(&program(&session.command))),
        ("verdict", escaped(&report.verdict)),
        ("styles", STYLES.concat()),
        ("data", data::data(session, report).replace('<', "\\u003c").replace('&', "\\u0026")),
        ("rows", rows),
        ("scripts", SCRIPTS.concat()),
    ];
    let mut rest = PAGE;
    // From one mark to the next, so that what was put in is not looked at again.
    while let Some((before, (name, after))) = rest.split_once("{{").and_then(|(a, b)| Some((a, b.split_once("}}")?))) {
        out.write_all(before.as_bytes())?;
        out.write_all(parts.iter().find(|(part, _)| *part == name).map_or("", |(_, text)| text).as_bytes())?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// Text as text of a page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '"' | '\'' => out += &format!("&#{};", character as u32),
            _ => out.push(character),
        }
    }
    out
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |word: u32| [18, 12, 6, 0].map(|bits| DIGITS[(word >> bits & 63) as usize]);
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    let (threes, rest) = bytes.as_chunks::<3>();
    for &[first, second, third] in threes {
        out.extend_from_slice(&digits(u32::from_be_bytes([0, first, second, third])));
    }
    if let Some(first) = rest.first() {
        let second = rest.get(1);
        let mut last = digits(u32::from_be_bytes([0, *first, second.copied().unwrap_or(0), 0]));
        last[3] = b'=';
        if second.is_none() {
            last[2] = b'=';
        }
        out.extend_from_slice(&last);
    }
    String::from_utf8(out).expect("the digits are ASCII")
}
