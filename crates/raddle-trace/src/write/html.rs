//! A report as one page: it needs nothing but a browser, and asks nothing of the net.
//!
//! ```text
//! html/page.html   the frame; its marks are replaced
//! html/*.css       how it looks
//! html/*.js        what it does, one idea a file, in one function that hides their names
//! data             what is shown, as JSON; deflated and in base64 if it is large
//! ```
//!
//! # Rules
//!
//! 1. What comes from the program (names, files, source lines) may hold anything. It is in the page only as data: `<` and `&` do not occur in it, and the
//!    scripts make text of it, never markup. A policy in the page's head forbids every request all the same.
//! 2. The page is good to read without a pointer, without colours, in the dark and on paper.

mod data;

use std::fmt::Write;

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

/// More JSON than this is deflated.
const LARGE: usize = 64 << 10;

/// How hard it is tried: the next levels take several times as long for a few per cent, and whoever has run the program waits for the page.
const EFFORT: u8 = 1;

/// Writes the page.
#[must_use]
pub fn html(session: &Session, report: &Report) -> String {
    let data = data::data(session, report);
    let (kind, data) = if data.len() > LARGE {
        ("deflate", base64(&miniz_oxide::deflate::compress_to_vec_zlib(data.as_bytes(), EFFORT)))
    } else {
        ("json", data.replace('<', "\\u003c").replace('&', "\\u0026"))
    };
    let parts = [
        ("title", escaped(&program(&session.command))),
        ("verdict", escaped(&report.verdict)),
        ("styles", STYLES.concat()),
        ("kind", kind.to_owned()),
        ("data", data),
        ("scripts", SCRIPTS.concat()),
    ];
    let mut page = String::with_capacity(PAGE.len() + parts.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut rest = PAGE;
    // From one mark to the next, so that what was put in is not looked at again.
    while let Some((before, (name, after))) = rest.split_once("{{").and_then(|(a, b)| Some((a, b.split_once("}}")?))) {
        page.push_str(before);
        page.push_str(parts.iter().find(|(part, _)| *part == name).map_or("", |(_, text)| text));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// Text as text of a page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '"' | '\'' => write!(out, "&#{};", character as u32).expect("a String takes everything"),
            _ => out.push(character),
        }
    }
    out
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| word << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            let value = DIGITS[(word >> (18 - 6 * digit) & 63) as usize];
            out.push(if is_there { char::from(value) } else { '=' });
        }
    }
    out
}
