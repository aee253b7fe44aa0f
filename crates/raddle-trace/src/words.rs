//! How numbers and names are said.

pub(crate) use raddle_probe::plural;

use crate::session::{Ending, Nanos, Place, Session, Thread, UnitId};

/// A length of time, as exact as one wants to read it: `12.4 s`, `310 ms`, `45 µs`, `3 min 20 s`.
pub(crate) fn duration(nanos: Nanos) -> String {
    let seconds = seconds(nanos);
    match seconds {
        _ if seconds >= 3600.0 => format!("{} h {} min", nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60),
        _ if seconds >= 100.0 => format!("{} min {} s", nanos / 60_000_000_000, nanos / 1_000_000_000 % 60),
        _ if seconds >= 9.95 => format!("{seconds:.1} s"),
        _ if seconds >= 0.9995 => format!("{seconds:.2} s"),
        _ if nanos >= 999_500 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// From one number of seconds to another, in one unit: `6.8 to 7.3 s`; one number where they look alike.
pub(crate) fn range((low, high): (f64, f64)) -> String {
    let (scale, unit) = if high >= 0.9995 { (1.0, "s") } else { (1e3, "ms") };
    let digits = |value: f64| match value {
        _ if unit == "ms" || value >= 99.5 => format!("{value:.0}"),
        _ if value >= 2.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let (low, high) = (digits(low * scale), digits(high * scale));
    if low == high { format!("{low} {unit}") } else { format!("{low} to {high} {unit}") }
}

/// A share from 0 to 1: `71 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).clamp(0.0, 9999.0))
}

/// Names in a row: `"a", "b" and 6 more`.
pub(crate) fn names<'name>(all: impl IntoIterator<Item = &'name str>, most: usize) -> String {
    let mut quoted: Vec<String> = all.into_iter().map(|name| format!("\"{}\"", clean(name))).collect();
    let rest = quoted.len().saturating_sub(most);
    if rest > 0 {
        quoted.truncate(most);
        return format!("{} and {rest} more", quoted.join(", "));
    }
    match quoted.pop() {
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} and {last}", quoted.join(", ")),
        None => String::new(),
    }
}

/// `"alpha"`.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", clean(name))
}

/// Without what could be an order to a terminal: control characters become escapes.
pub(crate) fn clean(text: &str) -> String {
    let is_order = |character: char| {
        character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_order(character) { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

/// At most so many characters.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The last part of a path.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// What a command line runs, in a word or two: `crawler.py`, `-m http.server`, `python -c`.
pub(crate) fn program(command: &[String]) -> String {
    split(command).0
}

/// What that is run with; code is no argument.
pub(crate) fn arguments(command: &[String]) -> &[String] {
    split(command).1
}

fn split(command: &[String]) -> (String, &[String]) {
    let Some((first, rest)) = command.split_first() else { return ("the program".into(), &[]) };
    let is_python = base(first).starts_with("python") || base(first).starts_with("pypy");
    let called = (clean(base(first)), rest);
    if !is_python {
        return called;
    }
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" => return words.next().map_or(called, |module| (format!("-m {}", clean(module)), words.as_slice())),
            "-c" => return (format!("{} -c", called.0), words.as_slice().get(1..).unwrap_or_default()),
            "-X" | "-W" | "--check-hash-based-pycs" => drop(words.next()),
            word if word.starts_with('-') && word.len() > 1 => {}
            word => return (clean(base(word)), words.as_slice()),
        }
    }
    called
}

/// A file as one would name it from the directory that the program was started in, or from the library that it is in.
pub(crate) fn file<'file>(session: &Session, file: &'file str) -> &'file str {
    let own = file.strip_prefix(session.directory.as_str()).filter(|_| !session.directory.is_empty());
    let own = own.and_then(|rest| if session.directory.ends_with('/') { Some(rest) } else { rest.strip_prefix('/') });
    own.or_else(|| in_library(file)).unwrap_or(file)
}

/// Whether a file belongs to Python or to an installed package, and not to the program.
pub(crate) fn is_library(file: &str) -> bool {
    in_library(file).is_some() || file.starts_with('<') && file != "<string>" && file != "<stdin>"
}

/// The path below `site-packages` or below the directory of the standard library.
fn in_library(file: &str) -> Option<&str> {
    if let Some((_, rest)) = file.rsplit_once("/site-packages/") {
        return Some(rest);
    }
    let (_, rest) = file.rsplit_once("/lib/python3.")?;
    rest.split_once('/').map(|(_, rest)| rest)
}

/// `crawler.py:41`.
pub(crate) fn place(session: &Session, place: &Place) -> String {
    format!("{}:{}", clean(file(session, &place.file)), place.line)
}

/// A unit's name: the thread's, or the process' number.
pub(crate) fn unit(session: &Session, unit: UnitId) -> String {
    let Some(process) = session.processes.get(unit.process) else { return "?".into() };
    match unit.thread.and_then(|index| process.threads.get(index)) {
        Some(thread) => thread_name(thread),
        None => format!("process {}", process.pid),
    }
}

/// A thread's name, or its number if it has none.
pub(crate) fn thread_name(thread: &Thread) -> String {
    if thread.name.is_empty() { format!("thread {}", thread.native_id) } else { clean(&thread.name) }
}

/// How something ended: `ended with exit code 0`, `was ended by SIGSEGV`.
pub(crate) fn ending(ending: Option<Ending>) -> String {
    match ending {
        None => "is still running".into(),
        Some(Ending::Exit(code)) => format!("ended with exit code {code}"),
        Some(Ending::Signal(number)) => format!("was ended by {}", signal(number)),
        Some(Ending::Unknown) => "ended".into(),
    }
}

/// The name of a signal of Linux.
pub(crate) fn signal(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_exact_as_one_wants_to_read_them() {
        let cases = [
            (45_000, "45 µs"),
            (310_000_000, "310 ms"),
            (1_500_000_000, "1.50 s"),
            (12_400_000_000, "12.4 s"),
            (200_000_000_000, "3 min 20 s"),
            (7_260_000_000_000, "2 h 1 min"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos), text);
        }
        assert_eq!(range((6.81, 7.32)), "6.8 to 7.3 s");
        assert_eq!(range((0.5, 0.5001)), "500 ms");
        assert_eq!((plural(1, "thread"), plural(2, "process")), ("1 thread".into(), "2 processes".into()));
    }

    #[test]
    fn a_command_is_called_by_what_it_runs() {
        let program_of = |words: &[&str]| program(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(program_of(&["/usr/bin/python3", "-X", "dev", "/srv/crawler.py", "--depth", "3"]), "crawler.py");
        assert_eq!(program_of(&["crawler.py", "x"]), "crawler.py");
        assert_eq!(program_of(&["python", "-m", "http.server"]), "-m http.server");
        assert_eq!(program_of(&["python", "-c", "print(1)"]), "python -c");
        assert_eq!(program_of(&[]), "the program");
        let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(arguments(&of(&["python3", "-X", "dev", "crawler.py", "--depth", "3"])), ["--depth", "3"]);
        assert_eq!(arguments(&of(&["python", "-m", "http.server", "80"])), ["80"]);
        assert_eq!(arguments(&of(&["python", "-c", "print(1)", "x"])), ["x"]);
        assert_eq!((arguments(&of(&["python"])).len(), arguments(&[]).len()), (0, 0));
    }

    #[test]
    fn names_carry_no_orders_to_a_terminal() {
        assert_eq!(clean("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(names(["a", "b", "c"], 2), "\"a\", \"b\" and 1 more");
        assert_eq!(names(["a", "b"], 5), "\"a\" and \"b\"");
    }

    #[test]
    fn files_are_named_from_where_the_program_was_started() {
        let session = Session { directory: "/srv/app".into(), ..Session::default() };
        assert_eq!(file(&session, "/srv/app/a/b.py"), "a/b.py");
        assert_eq!(file(&session, "/srv/application/b.py"), "/srv/application/b.py");
        assert_eq!(file(&session, "/usr/lib/python3.11/threading.py"), "threading.py");
        assert_eq!(file(&session, "/v/lib/python3.11/site-packages/x/y.py"), "x/y.py");
    }
}
