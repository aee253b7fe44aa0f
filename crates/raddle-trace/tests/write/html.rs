//! The page is one file that is all data and our own scripts, whatever names it holds. tests/test_report_html.py looks at it in a browser.

use miniz_oxide::inflate::decompress_to_vec_zlib;
use serde_json::Value;

use raddle_trace::{Report, Session, analyse, html};

/// The data in the page, as the page itself reads it.
fn data(page: &str) -> (String, Value) {
    let (_, rest) = page.split_once("type=\"application/json\" data-kind=\"").unwrap();
    let (kind, rest) = rest.split_once("\">").unwrap();
    let (text, _) = rest.split_once("</script>").unwrap();
    let text = match kind {
        "deflate" => String::from_utf8(decompress_to_vec_zlib(&decoded(text)).unwrap()).unwrap(),
        _ => text.to_owned(),
    };
    (kind.to_owned(), serde_json::from_str(&text).unwrap())
}

fn decoded(base64: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{byte} is no digit"),
    };
    let mut bytes = Vec::new();
    for four in base64.as_bytes().chunks(4) {
        let known = four.iter().filter(|byte| **byte != b'=').count();
        let word = four.iter().take(known).fold(0, |word, byte| word << 6 | digit(*byte)) << (6 * (4 - known));
        bytes.extend(word.to_be_bytes()[1..known].iter());
    }
    bytes
}

#[test]
fn the_page_holds_every_span_and_every_finding() {
    let (session, report) = super::crawler();
    let (kind, data) = data(&html(&session, &report));
    assert_eq!(kind, "deflate");
    for (process, shown) in session.processes.iter().zip(data["processes"].as_array().unwrap()) {
        for (thread, shown) in process.threads.iter().zip(shown["threads"].as_array().unwrap()) {
            let numbers: Vec<u64> =
                shown["spans"].as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect();
            assert_eq!(numbers.len(), thread.spans.len() * 6);
            let mut time = 0;
            for (span, row) in thread.spans.iter().zip(numbers.chunks(6)) {
                let from = time + row[0];
                time = from + row[1];
                assert_eq!((span.from, span.until, span.state as u64), (from, time, row[2]));
                assert_eq!(span.place.map_or(0, |id| u64::from(id) + 1), row[3]);
                assert_eq!(span.holder.map_or(0, |index| u64::from(index) + 1), row[5]);
            }
        }
    }
    assert_eq!(data["report"]["findings"].as_array().unwrap().len(), report.findings.len());
}

#[test]
fn the_source_is_in_the_page_for_it_is_read_where_the_program_is_not() {
    let directory = super::Temporary::new();
    let session = super::story::crawler(&directory.0).unwrap();
    let (_, data) = data(&html(&session, &analyse(&session)));
    assert!(data["places"].to_string().contains("with ledger:"));
}

#[test]
fn no_name_becomes_a_part_of_the_page() {
    let plain = html(&super::story::clean(), &Report::default());
    let session = super::story::hostile();
    let page = html(&session, &analyse(&session));
    let count = |page: &str, what: &str| page.to_lowercase().matches(what).count();
    for mark in ["<script", "</script", "<img", "<!--", "<svg", "<link", "<meta"] {
        assert_eq!(count(&page, mark), count(&plain, mark), "{mark}");
    }
    let (_, data) = data(&page);
    assert_eq!(data["command"][0], session.command[0]);
}

#[test]
fn the_page_asks_nothing_of_the_net() {
    let (session, report) = super::crawler();
    let page = html(&session, &report);
    assert!(page.contains("default-src 'none'"));
    for request in
        ["fetch(", "XMLHttpRequest", "import(", "@import", "WebSocket", "url(http", "src=\"http", "href=\"http"]
    {
        assert!(!page.contains(request), "{request}");
    }
    assert!(!page.contains("{{"), "a mark was not replaced");
}

#[test]
fn small_data_is_readable_and_what_makes_no_sense_is_shown_all_the_same() {
    let (kind, empty) = data(&html(&Session::default(), &Report::default()));
    assert_eq!((kind.as_str(), &empty["processes"]), ("json", &serde_json::json!([])));
    // Spans that overlap, or end before they begin.
    let mut session = super::story::clean();
    session.processes[0].threads[0].spans[1].from = 0;
    session.processes[0].threads[0].spans[0].until = 0;
    let (_, data) = data(&html(&session, &Report::default()));
    let spans = data["processes"][0]["threads"][0]["spans"].as_array().unwrap();
    assert_eq!((spans.len(), spans.iter().all(Value::is_u64)), (12, true));
}
