//! Findings as systems of continuous integration read them.

use std::path::Path;

use serde_json::Value;

use raddle_trace::{Certainty, Finding, Label, Level, Place, Report, sarif};

#[test]
fn findings_are_results_with_rules_and_places() {
    let (session, report) = super::crawler();
    let log: Value = serde_json::from_str(&sarif(&session, &report)).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), report.findings.len());
    for (finding, result) in report.findings.iter().zip(results) {
        assert_eq!(result["ruleId"], finding.id);
        assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], finding.id);
        assert!(result["message"]["text"].as_str().unwrap().starts_with(&finding.title));
        let related = result["relatedLocations"].as_array().map_or(0, Vec::len);
        assert_eq!(result["locations"].as_array().map_or(0, Vec::len) + related, finding.labels.len());
    }
    let deadlock = &results[0];
    assert_eq!((deadlock["level"].as_str(), deadlock["ruleId"].as_str()), (Some("error"), Some("deadlock")));
    let place = &deadlock["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"], serde_json::json!({"uri": "crawler.py", "uriBaseId": "%SRCROOT%"}));
    assert_eq!(place["region"]["startLine"], 16);
    assert_eq!(rules[0]["name"], "Deadlock");
    assert_eq!(run["invocations"][0]["exitSignalNumber"], 2);
    let root = run["originalUriBaseIds"]["%SRCROOT%"]["uri"].as_str().unwrap();
    assert!(root.starts_with("file:///") && root.ends_with('/'), "{root}");
}

#[test]
fn every_finding_has_a_page_that_its_rule_leads_to() {
    let (session, report) = super::crawler();
    let log: Value = serde_json::from_str(&sarif(&session, &report)).unwrap();
    for rule in log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap() {
        let address = rule["helpUri"].as_str().unwrap();
        let page = address.split_once("/blob/main/").unwrap().1;
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page).is_file(), "{address}");
    }
}

#[test]
fn files_have_addresses_and_what_is_no_file_has_none() {
    let mut session = super::story::hostile();
    let uri_of = |session: &raddle_trace::Session| {
        let finding = Finding {
            id: "gil-bound".into(),
            level: Level::Warning,
            certainty: Certainty::Certain,
            title: "a title".into(),
            at: None,
            units: vec![],
            labels: vec![Label { place: 0, text: "here".into() }],
            notes: vec![],
            help: vec![],
        };
        let report = Report { findings: vec![finding], ..Report::default() };
        let log: Value = serde_json::from_str(&sarif(session, &report)).unwrap();
        log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"].clone()
    };
    for (file, uri) in [
        ("/srv/app/a b/ü.py", "a%20b/%C3%BC.py"),
        ("/usr/lib/python3.12/queue.py", "file:///usr/lib/python3.12/queue.py"),
        ("./c.py", "c.py"),
        ("/srv/application/d.py", "file:///srv/application/d.py"),
    ] {
        session.places[0] = Place { function: "f".into(), file: file.into(), line: 1 };
        assert_eq!(uri_of(&session)["uri"], uri, "{file}");
    }
    for file in ["<string>", ""] {
        session.places[0].file = file.into();
        assert_eq!(uri_of(&session), Value::Null, "{file}");
    }
}
