//! The page is one file that is all data and our own scripts, whatever names it holds. tests/test_report_html.py looks at it in a browser.

use serde_json::Value;

use raddle_trace::{Report, Session, analyse, html};

/// What stands in an element of the page.
fn element<'a>(page: &'a str, begins: &str) -> &'a str {
    let (_, rest) = page.split_once(begins).unwrap();
    rest.split_once("</script>").unwrap().0
}

/// The data in the page, as the page itself reads it.
fn data(page: &str) -> Value {
    serde_json::from_str(element(page, "<script id=\"data\" type=\"application/json\">")).unwrap()
}

/// The rows in the page.
struct Rows(std::vec::IntoIter<u8>);

impl Rows {
    fn of(page: &str) -> Self {
        Self(decoded(element(page, "<script id=\"rows\" type=\"text/plain\">")).into_iter())
    }

    fn next(&mut self) -> u64 {
        let mut number = 0;
        for place in 0.. {
            let byte = self.0.next().unwrap();
            number |= u64::from(byte & 127) << (7 * place);
            if byte < 128 {
                break;
            }
        }
        number
    }
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
fn the_page_holds_every_span_every_pass_and_every_finding() {
    let (session, report) = super::crawler();
    let page = html(&session, &report);
    let (data, mut rows) = (data(&page), Rows::of(&page));
    for (process, shown) in session.processes.iter().zip(data["processes"].as_array().unwrap()) {
        for (thread, shown) in process.threads.iter().zip(shown["threads"].as_array().unwrap()) {
            assert_eq!(shown["spans"].as_u64(), Some(thread.spans.len() as u64));
            let mut time = 0;
            for span in &thread.spans {
                let head = rows.next();
                let from = time + rows.next();
                time = from + rows.next();
                assert_eq!((span.from, span.until, span.state as u64), (from, time, head & 15));
                for (flag, id) in [(16, span.place), (32, span.thing), (64, span.holder)] {
                    assert_eq!(id.map(u64::from), (head & flag != 0).then(|| rows.next()));
                }
            }
        }
    }
    assert!(!session.passes.is_empty());
    assert_eq!(data["passes"].as_u64(), Some(session.passes.len() as u64));
    for pass in &session.passes {
        let row = [(); 7].map(|()| rows.next());
        assert_eq!((pass.from, pass.at), ((row[0] as usize, row[1] as usize), row[2]));
        assert_eq!((pass.to, pass.until), ((row[3] as usize, row[4] as usize), row[2] + row[5]));
        assert_eq!(pass.thing.map_or(0, |id| u64::from(id) + 1), row[6]);
    }
    assert_eq!(rows.0.next(), None);
    assert_eq!(data["report"]["findings"].as_array().unwrap().len(), report.findings.len());
}

#[test]
fn the_source_is_in_the_page_for_it_is_read_where_the_program_is_not() {
    let directory = super::Temporary::new();
    let session = super::story::crawler(&directory.0).unwrap();
    let data = data(&html(&session, &analyse(&session)));
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
    let data = data(&page);
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
fn what_makes_no_sense_is_shown_all_the_same() {
    let page = html(&Session::default(), &Report::default());
    assert_eq!((data(&page)["processes"].clone(), Rows::of(&page).0.len()), (serde_json::json!([]), 0));
    // Spans that overlap, or end before they begin.
    let mut session = super::story::clean();
    session.processes[0].threads[0].spans[1].from = 0;
    session.processes[0].threads[0].spans[0].until = 0;
    let page = html(&session, &Report::default());
    assert_eq!(data(&page)["processes"][0]["threads"][0]["spans"], 2);
    let mut rows = Rows::of(&page);
    let times: Vec<u64> = (0..2)
        .flat_map(|_| {
            let (head, times) = (rows.next(), [rows.next(), rows.next()]);
            (0..(head >> 4).count_ones()).for_each(|_| _ = rows.next());
            times
        })
        .collect();
    assert!(times.iter().all(|time| *time <= session.length), "{times:?}");
}
