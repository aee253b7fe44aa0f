//! A look as JSON. The schema is documented in `docs/guide/dump.md`; fields are added, never renamed or taken away.

use std::fmt::Write;

use crate::error::Trouble;
use crate::model::{AsyncTask, Child, Deadlock, Held, Holder, Look, NativeThread, Place, Process, Thread, Wait};

/// The number of the schema: it changes when a field changes its meaning.
const VERSION: u32 = 1;

/// Writes looks as one JSON document.
#[must_use]
pub fn json(look: &Look) -> String {
    let mut text = String::new();
    object(&mut text, |fields| {
        fields.number("version", f64::from(VERSION));
        let stuck = if look.stuck.is_empty() { &[][..] } else { &[()][..] };
        fields.objects("deadlocks", stuck, |fields, ()| {
            fields.objects("threads", &look.stuck, |fields, (at, index)| {
                let process = &look.processes[*at];
                fields.number("pid", process.pid.into());
                fields.number("native_id", process.threads[*index].native_id.into());
            });
        });
        fields.objects("processes", &look.processes, process);
    });
    text
}

/// Writes why nothing could be seen as a JSON document.
#[must_use]
pub fn trouble_json(trouble: &Trouble) -> String {
    let mut text = String::new();
    object(&mut text, |fields| {
        fields.number("version", f64::from(VERSION));
        fields.object("error", |fields| {
            fields.text("kind", trouble.kind());
            fields.text("message", &trouble.to_string());
            fields.text("hint", &trouble.hint());
        });
    });
    text
}

fn process(fields: &mut Fields<'_>, process: &Process) {
    fields.number("pid", process.pid.into());
    fields.array("command", &process.command, |text, word| string(text, word));
    fields.maybe("python", process.version.as_deref(), Fields::text);
    fields.maybe("directory", process.directory.as_deref(), Fields::text);
    fields.maybe("age_seconds", process.age, Fields::number);
    fields.number("look_seconds", process.took);
    fields.objects("deadlocks", &process.deadlocks, |fields, deadlock| self::deadlock(fields, process, deadlock));
    fields.array("orphans", &process.orphans, |text, index| native_id(text, process, *index));
    fields.objects("threads", &process.threads, |fields, thread| self::thread(fields, process, thread));
    fields.objects("native_threads", &process.native_threads, native_thread);
    fields.objects("tasks", &process.tasks, |fields, task| self::task(fields, process, task));
    fields.array("task_deadlocks", &process.task_deadlocks, |text, tasks| {
        array(text, tasks, |text, index| push(text, format_args!("{index}")));
    });
    fields.objects("children", &process.children, child);
    fields.array("notes", &process.notes, |text, note| string(text, note));
}

fn deadlock(fields: &mut Fields<'_>, process: &Process, deadlock: &Deadlock) {
    fields.array("threads", &deadlock.threads, |text, index| native_id(text, process, *index));
    fields.truth("certain", deadlock.is_certain);
    fields.truth("timed", deadlock.is_timed);
}

fn thread(fields: &mut Fields<'_>, process: &Process, thread: &Thread) {
    fields.text("name", &thread.name);
    fields.text("ident", &thread.ident.to_string());
    fields.number("native_id", thread.native_id.into());
    fields.number("interpreter", thread.interpreter as f64);
    fields.maybe("daemon", thread.is_daemon, Fields::truth);
    fields.text("state", thread.state.word());
    fields.truth("holds_gil", thread.holds_gil);
    match &thread.wait {
        Some(wait) => fields.object("waits_for", |fields| self::wait(fields, process, wait)),
        None => fields.null("waits_for"),
    }
    fields.objects("holds", &thread.holds, held);
    fields.truth("certain", thread.is_certain);
    fields.truth("whole", thread.is_whole);
    fields.objects("frames", &thread.frames, place);
}

fn wait(fields: &mut Fields<'_>, process: &Process, wait: &Wait) {
    fields.text("kind", wait.kind);
    fields.text("what", &wait.what);
    fields.maybe("object", wait.object, Fields::address);
    fields.maybe("name", wait.name.as_deref(), Fields::text);
    fields.truth("timed", wait.is_timed);
    maybe_place(fields, "place", wait.place.as_ref());
    match &wait.holder {
        Some(holder) => fields.object("holder", |fields| self::holder(fields, process, holder)),
        None => fields.null("holder"),
    }
}

fn holder(fields: &mut Fields<'_>, process: &Process, holder: &Holder) {
    let thread = holder.thread.map(|index| &process.threads[index]);
    fields.maybe("name", thread.map(|thread| thread.name.as_str()), Fields::text);
    fields.maybe("native_id", thread.map(|thread| f64::from(thread.native_id)), Fields::number);
    maybe_place(fields, "place", holder.place.as_ref());
}

fn held(fields: &mut Fields<'_>, held: &Held) {
    fields.text("kind", held.kind);
    fields.text("what", &held.what);
    fields.address("object", held.object);
    fields.maybe("name", held.name.as_deref(), Fields::text);
    maybe_place(fields, "place", held.place.as_ref());
}

fn task(fields: &mut Fields<'_>, process: &Process, task: &AsyncTask) {
    fields.text("name", &task.name);
    fields.text("state", task.state);
    fields.maybe("awaits", task.awaits.map(|index| process.tasks[index].name.as_str()), Fields::text);
    fields.objects("frames", &task.frames, place);
}

fn native_thread(fields: &mut Fields<'_>, thread: &NativeThread) {
    fields.text("name", &thread.name);
    fields.number("native_id", thread.native_id.into());
    fields.truth("running", thread.is_running);
}

fn child(fields: &mut Fields<'_>, child: &Child) {
    fields.number("pid", child.pid.into());
    fields.array("command", &child.command, |text, word| string(text, word));
}

fn place(fields: &mut Fields<'_>, place: &Place) {
    fields.text("function", &place.function);
    fields.text("file", &place.file);
    fields.number("line", place.line.into());
}

fn maybe_place(fields: &mut Fields<'_>, name: &str, place: Option<&Place>) {
    match place {
        Some(place) => fields.object(name, |fields| self::place(fields, place)),
        None => fields.null(name),
    }
}

fn native_id(text: &mut String, process: &Process, index: usize) {
    push(text, format_args!("{}", process.threads[index].native_id));
}

/// An object that is being written.
struct Fields<'text> {
    text: &'text mut String,
    is_first: bool,
}

fn object(text: &mut String, write: impl FnOnce(&mut Fields<'_>)) {
    text.push('{');
    write(&mut Fields { text, is_first: true });
    text.push('}');
}

fn array<T>(text: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, item);
    }
    text.push(']');
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
        string(self.text, name);
        self.text.push(':');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        string(self.text, value);
    }

    fn number(&mut self, name: &str, value: f64) {
        self.name(name);
        push(self.text, format_args!("{value}"));
    }

    fn truth(&mut self, name: &str, value: bool) {
        self.name(name);
        push(self.text, format_args!("{value}"));
    }

    /// An address as a string: JSON's numbers lose digits in many readers.
    fn address(&mut self, name: &str, value: u64) {
        self.text(name, &format!("{value:#x}"));
    }

    fn null(&mut self, name: &str) {
        self.name(name);
        self.text.push_str("null");
    }

    fn maybe<T>(&mut self, name: &str, value: Option<T>, write: impl FnOnce(&mut Self, &str, T)) {
        match value {
            Some(value) => write(self, name, value),
            None => self.null(name),
        }
    }

    fn object(&mut self, name: &str, write: impl FnOnce(&mut Fields<'_>)) {
        self.name(name);
        object(self.text, write);
    }

    fn array<T>(&mut self, name: &str, items: &[T], write: impl FnMut(&mut String, &T)) {
        self.name(name);
        array(self.text, items, write);
    }

    fn objects<T>(&mut self, name: &str, items: &[T], mut write: impl FnMut(&mut Fields<'_>, &T)) {
        self.array(name, items, |text, item| object(text, |fields| write(fields, item)));
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

fn string(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            control if control < ' ' => push(text, format_args!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut text = String::new();
        string(&mut text, "a\"b\\c\nd\u{1}é");
        assert_eq!(text, "\"a\\\"b\\\\c\\u000ad\\u0001é\"");
    }

    #[test]
    fn arrays_hold_objects_or_other_items() {
        let mut text = String::new();
        object(&mut text, |fields| {
            fields.array("words", &["a", "b"], |text, word| string(text, word));
            fields.objects("things", &[1, 2], |fields, thing| fields.number("n", f64::from(*thing)));
            fields.objects("none", &[0; 0], |fields, _| fields.null("n"));
        });
        assert_eq!(text, r#"{"words":["a","b"],"things":[{"n":1},{"n":2}],"none":[]}"#);
    }
}
