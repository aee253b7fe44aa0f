//! Findings, in the style of a compiler.

use crate::report::{Certainty, Finding, Level};
use crate::words::clean;

use super::{BLUE, BOLD, CYAN, DIM, Page, RED, YELLOW, excerpt, wrap};

/// The findings, in about so many lines: each whole while there is room, the others with their first line.
pub(super) fn lines(page: &Page<'_>, room: usize) -> Vec<String> {
    let mut out = Vec::new();
    let findings = &page.report.findings;
    for (index, finding) in findings.iter().enumerate() {
        let whole = whole(page, finding);
        // Each of those after it may need a line.
        let rest = findings.len() - index - 1;
        let is_short = out.len() + whole.len() + 1 + rest.min(4) > room && index > 0;
        if is_short && out.len() + 2 > room && rest > 0 {
            out.push(page.paint(DIM, &format!("and {} more findings", rest + 1)));
            break;
        }
        if !is_short && !out.is_empty() {
            out.push(String::new());
        }
        out.extend(if is_short { vec![page.cut(&head(page, finding), page.width())] } else { whole });
    }
    out
}

fn whole(page: &Page<'_>, finding: &Finding) -> Vec<String> {
    let mut out = wrap(&head(page, finding), page.width(), "    ");
    let (excerpt, is_open) = excerpt::lines(page, &finding.labels, finding.level == Level::Error);
    out.extend(excerpt);
    let gutter = finding.labels.iter().filter_map(|label| page.session.places.get(label.place as usize));
    let gutter = gutter.map(|place| place.line.to_string().len()).max().unwrap_or(1);
    let indent = " ".repeat(gutter + 1);
    if is_open && !(finding.notes.is_empty() && finding.help.is_empty()) {
        out.push(page.paint(BLUE, &format!("{indent}|")));
    }
    let said = finding.notes.iter().map(|note| ("note", note)).chain(finding.help.iter().map(|help| ("help", help)));
    for (word, text) in said {
        let mark = page.paint(BLUE, "=");
        let text = format!("{indent}{mark} {}: {}", page.paint(BOLD, word), clean(text));
        out.extend(wrap(&text, page.width(), &format!("{indent}        ")));
    }
    out
}

/// `warning[gil-bound]: two threads run Python code and take turns`
fn head(page: &Page<'_>, finding: &Finding) -> String {
    let (word, colour) = match finding.level {
        Level::Error => ("error", RED),
        Level::Warning => ("warning", YELLOW),
        Level::Note => ("note", CYAN),
    };
    let sure = match finding.certainty {
        Certainty::Certain => "",
        Certainty::Probable => " (probably)",
        Certainty::Possible => " (possibly)",
    };
    let id = page.paint(colour, &format!("{word}[{}]", clean(&finding.id)));
    format!("{id}{}", page.paint(BOLD, &format!(": {}{sure}", clean(&finding.title))))
}
