//! Findings as SARIF 2.1.0, which systems of continuous integration and editors show beside the code.
//!
//! The standard: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
//!
//! # Rules
//!
//! 1. A finding's id is its rule's. A rule is listed once, in the order in which its findings come.
//! 2. A file below the directory that the program was started in has a URI that is relative to it (`%SRCROOT%`); any other has an absolute one, and what is
//!    no file (`<string>`) has none.
//! 3. The first label is the location, the others are related locations.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::report::{Certainty, Finding, Report};
use crate::session::{Ending, Label, Place, Session};
use crate::write::words::level_name;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Writes the findings.
#[must_use]
pub fn sarif(session: &Session, report: &Report) -> String {
    let mut rules: Vec<&str> = Vec::new();
    for finding in &report.findings {
        if !rules.contains(&finding.id.as_str()) {
            rules.push(&finding.id);
        }
    }
    let results: Vec<Value> = report.findings.iter().map(|finding| result(session, finding, &rules)).collect();
    let mut invocation = json!({"executionSuccessful": true, "commandLine": session.command.join(" ")});
    match session.ending {
        Some(Ending::Exit(code)) => invocation["exitCode"] = code.into(),
        Some(Ending::Signal(number)) => invocation["exitSignalNumber"] = number.into(),
        _ => {}
    }
    let mut run = json!({
        "tool": {"driver": {
            "name": "raddle",
            "version": env!("CARGO_PKG_VERSION"),
            "informationUri": env!("CARGO_PKG_REPOSITORY"),
            "rules": rules.iter().map(|id| rule(id)).collect::<Vec<_>>(),
        }},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": results,
    });
    if session.directory.starts_with('/') {
        let root = format!("{}/", session.directory.trim_end_matches('/'));
        run["originalUriBaseIds"] = json!({"%SRCROOT%": {"uri": format!("file://{}", escaped(&root))}});
    }
    let log = json!({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]});
    serde_json::to_string_pretty(&log).expect("plain data with text keys is always JSON")
}

fn rule(id: &str) -> Value {
    // `gil-bound` is also called GilBound, as SARIF wants names.
    let name: String = id
        .split('-')
        .flat_map(|word| word.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }))
        .collect();
    json!({"id": id, "name": name, "helpUri": format!("{}/blob/main/docs/findings/{}.md", env!("CARGO_PKG_REPOSITORY"), escaped(id))})
}

fn result(session: &Session, finding: &Finding, rules: &[&str]) -> Value {
    let mut message = finding.title.clone();
    finding.notes.iter().for_each(|note| message.push_str(&format!("\nnote: {note}")));
    finding.help.iter().for_each(|help| message.push_str(&format!("\nhelp: {help}")));
    let mut locations = finding.labels.iter().filter_map(|label| location(session, label));
    let certainty = match finding.certainty {
        Certainty::Possible => "possible",
        Certainty::Probable => "probable",
        Certainty::Certain => "certain",
    };
    let first = locations.next();
    let related: Vec<Value> = locations.collect();
    let mut result = json!({
        "ruleId": finding.id,
        "ruleIndex": rules.iter().position(|id| *id == finding.id),
        "level": level_name(finding.level),
        "message": {"text": message},
        "properties": {"certainty": certainty},
    });
    if let Some(first) = first {
        result["locations"] = json!([first]);
    }
    if !related.is_empty() {
        result["relatedLocations"] = related.into();
    }
    if let Some(at) = finding.at {
        result["properties"]["seconds"] = (at as f64 / 1e9).into();
    }
    result
}

fn location(session: &Session, label: &Label) -> Option<Value> {
    let place = session.places.get(label.place as usize)?;
    let mut physical = json!({"artifactLocation": artifact(session, place)?});
    // A region's line is counted from 1: what has none is the file as a whole.
    if place.line > 0 {
        physical["region"] = json!({"startLine": place.line});
    }
    let mut location = json!({"physicalLocation": physical, "message": {"text": label.text}});
    if !place.function.is_empty() {
        location["logicalLocations"] = json!([{"fullyQualifiedName": place.function, "kind": "function"}]);
    }
    Some(location)
}

/// Rule 2.
fn artifact(session: &Session, place: &Place) -> Option<Value> {
    let file = place.file.as_str();
    if file.is_empty() || file.starts_with('<') {
        return None;
    }
    let root = session.directory.trim_end_matches('/');
    let below = file.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
    match below.filter(|_| !root.is_empty()) {
        Some(below) => Some(json!({"uri": escaped(below), "uriBaseId": "%SRCROOT%"})),
        None if file.starts_with('/') => Some(json!({"uri": format!("file://{}", escaped(file))})),
        None => Some(json!({"uri": escaped(file.trim_start_matches("./")), "uriBaseId": "%SRCROOT%"})),
    }
}

/// As a path in a URI.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
    out
}
