//! Sessions that nobody would write, and that a broken file might hold: whatever they say, a report comes of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::session::{
    Ending, Fact, Gil, Label, Nanos, Pass, Place, Process, Session, Span, State, Stuck, StuckUnit, Thing, Thread,
    UnitId,
};
use crate::{Style, analyse, text};

/// Small numbers, which meet each other, and the largest ones.
fn time() -> impl Strategy<Value = Nanos> {
    prop_oneof![8 => 0..40u64, 8 => (0..400u64).prop_map(|ms| ms * 10_000_000), 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn index() -> impl Strategy<Value = usize> {
    prop_oneof![9 => 0..5usize, 1 => any::<usize>()]
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..5u32, 1 => any::<u32>()]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "",
            "lock",
            "event-loop",
            "queue-get",
            "process",
            "worker-1",
            "python3",
            "3.13.0t",
            "3.12.1",
            "a\x1b[0m\n",
            "é…"
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

fn span() -> impl Strategy<Value = Span> {
    (time(), time(), 0..State::ALL.len(), option::of(id()), option::of(id()), option::of(id())).prop_map(
        |(from, until, state, place, thing, holder)| Span {
            from,
            until,
            state: State::ALL[state],
            place,
            thing,
            holder,
        },
    )
}

fn ending() -> impl Strategy<Value = Option<Ending>> {
    prop_oneof![
        Just(None),
        any::<i32>().prop_map(|code| Some(Ending::Exit(code))),
        (-2..70i32).prop_map(|signal| Some(Ending::Signal(signal))),
        Just(Some(Ending::Exit(0))),
        Just(Some(Ending::Unknown)),
    ]
}

fn thread() -> impl Strategy<Value = Thread> {
    let who = (word(), option::of(id()), option::of(index()), option::of(word()));
    (who, time(), option::of(time()), time(), time(), vec(span(), 0..12)).prop_map(
        |((name, function, starter, exception), began, ended, cpu, queued, spans)| Thread {
            name,
            function,
            starter,
            exception,
            began,
            ended,
            cpu,
            queued,
            spans,
            ..Thread::default()
        },
    )
}

fn process() -> impl Strategy<Value = Process> {
    let who = (option::of(index()), vec(word(), 0..4), option::of(word()), ending(), any::<bool>());
    let gil = option::of((time(), time()).prop_map(|(held, waited)| Gil { held, waited, switches: 0 }));
    (who, time(), option::of(time()), time(), gil, vec(thread(), 0..5)).prop_map(
        |((parent, command, python, ending, is_recorded), began, ended, cpu, gil, threads)| Process {
            parent,
            command,
            python,
            ending,
            is_recorded,
            began,
            ended,
            cpu,
            gil,
            threads,
            ..Process::default()
        },
    )
}

fn unit() -> impl Strategy<Value = UnitId> {
    (index(), option::of(index())).prop_map(|(process, thread)| UnitId { process, thread })
}

fn kind() -> impl Strategy<Value = String> {
    let ids: Vec<String> = super::IDS.iter().map(|(id, _)| (*id).to_owned()).chain(["new-kind".to_owned()]).collect();
    proptest::sample::select(ids)
}

fn fact() -> impl Strategy<Value = Fact> {
    let labels = vec((id(), word()).prop_map(|(place, text)| Label { place, text }), 0..4);
    (kind(), time(), vec(unit(), 0..3), vec(id(), 0..3), labels, word())
        .prop_map(|(kind, at, units, things, labels, detail)| Fact { kind, at, units, things, labels, detail })
}

fn stuck() -> impl Strategy<Value = Stuck> {
    let unit =
        (index(), option::of(index()), word(), option::of(id()), option::of(word()), option::of(id()), vec(id(), 0..3))
            .prop_map(|(process, thread, name, wanted, holds, taken, stack)| StuckUnit {
                process,
                thread,
                waits_for: name.clone(),
                name,
                wanted,
                holds,
                taken,
                stack,
            });
    (kind(), time(), any::<bool>(), any::<bool>(), vec(unit, 0..9))
        .prop_map(|(kind, at, is_certain, is_timed, units)| Stuck { kind, at, is_certain, is_timed, units })
}

fn session() -> impl Strategy<Value = Session> {
    let places =
        vec((word(), word(), any::<u32>()).prop_map(|(function, file, line)| Place { function, file, line }), 0..4);
    let things = vec(
        (word(), word(), time(), time(), time()).prop_map(|(kind, what, taken, contended, held)| Thing {
            kind,
            what,
            taken,
            contended,
            held,
            ..Thing::default()
        }),
        0..4,
    );
    let passes = vec(
        ((index(), index()), time(), (index(), index()), time(), option::of(id()))
            .prop_map(|(from, at, to, until, thing)| Pass { from, at, to, until, thing }),
        0..12,
    );
    let what = (vec(process(), 0..5), places, things, passes, vec(stuck(), 0..3), vec(fact(), 0..6));
    (vec(word(), 0..3), word(), 0..80u32, time(), time(), ending(), what, any::<u64>()).prop_map(
        |(
            command,
            directory,
            cores,
            length,
            period,
            ending,
            (processes, places, things, passes, stuck, facts),
            dropped,
        )| {
            Session {
                command,
                directory,
                cores,
                length,
                period,
                ending,
                processes,
                places,
                things,
                passes,
                stuck,
                facts,
                dropped,
                ..Session::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn whatever_a_session_says_a_report_comes_of_it(session in session(), colour in any::<bool>(), ascii in any::<bool>(), width in 0..300usize) {
        let report = analyse(&session);
        for cost in &report.locks {
            prop_assert!((0.0..=1.0).contains(&cost.share));
        }
        if let Some(speed_up) = &report.speed_up {
            prop_assert!((0.0..=1.0).contains(&speed_up.serial_fraction));
            for prediction in &speed_up.predictions {
                let (low, high) = prediction.seconds;
                prop_assert!(low.is_finite() && high.is_finite() && low <= high, "{prediction:?}");
            }
        }
        let text = text(&session, &report, Style { colour, ascii, width, ..Style::default() });
        prop_assert!(!ascii || text.is_ascii() );
        prop_assert!(colour || !text.contains('\x1b'), "no orders to a terminal");
        prop_assert!(serde_json::to_string(&report).is_ok());
    }
}
