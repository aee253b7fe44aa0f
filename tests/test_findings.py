"""What `raddle run` says about programs that go wrong, and that it says nothing about their twins that do not.

The programs stand in `observed`, each beside its clean twin. They know nothing of Raddle.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sessions

HERE = Path(__file__).parent / "observed"
RADDLE = os.path.join(os.path.dirname(sys.executable), "raddle")
PATIENCE = 50

FINDINGS = {
    "abba": "deadlock",
    "philosophers": "deadlock",
    "relock": "self-deadlock",
    "imports_itself": "deadlock",
    "waits_holding": "nobody-can-wake",
    "pool_nested": "pool-exhausted",
    "join_before_drain": "process-deadlock",
    "wait_with_pipe": "process-deadlock",
    "lost_wakeup": "lost-wakeup",
    "no_sentinel": "nobody-can-wake",
    "fork_locked": "lost-lock",
    "gil_bound": "gil-bound",
    "async_block": "event-loop-blocked",
}
"""What is to be found from outside."""

RECORDED = {
    "abba_by_calls": "deadlock",
    "inversion": "lock-order",
    "lucky_philosophers": "lock-order",
    "hidden_ring": "lock-order",
    "two_rings": "lock-order",
    "starve": "starvation",
    "hot_lock": "hot-lock",
    "never_joined": "never-joined",
    "orphaned": "orphaned-thread",
    "child_died": "child-died",
}
"""What only a recorder within the program can know for sure."""

if IS_HANDED_OVER := sys.version_info >= (3, 14):
    del RECORDED["starve"]
"""Whether a lock goes to a thread that has waited for a millisecond."""

TRIES = {"starve": 8}
"""For how long a thread is passed over is a matter of luck, in each of its runs: the system may give it the lock soon."""

TRIES_WHERE_NONE = 4

CLEAN = sorted(path.stem for path in HERE.glob("*_clean.py"))


def observe(name, directory, *options):
    """Runs a program; returns its process, and the report."""
    run = subprocess.run(
        [RADDLE, "run", "--on-deadlock", "abort", "--output", directory / "seen", *options, HERE / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=directory,
    )
    document = sessions.document(directory / "seen")
    return run, document


def ids(document):
    return [finding["id"] for finding in document["report"]["findings"]]


@pytest.mark.parametrize("mode", ["safe", "recorded"])
@pytest.mark.parametrize("name", FINDINGS)
def test_what_goes_wrong_is_found(name, mode, tmp_path):
    run, document = observe(name, tmp_path, *(["--safe"] if mode == "safe" else []))
    assert FINDINGS[name] in ids(document), run.stderr
    assert f"[{FINDINGS[name]}]" in run.stderr
    is_stuck = bool(document["session"]["stuck"])
    assert run.returncode == (3 if is_stuck else 0)


@pytest.mark.parametrize("name", RECORDED)
def test_what_went_well_by_luck_is_found(name, tmp_path):
    for _ in range(TRIES.get(name, 1)):
        run, document = observe(name, tmp_path)
        if RECORDED[name] in ids(document):
            return
    pytest.fail(run.stderr)


@pytest.mark.skipif(not IS_HANDED_OVER, reason="here a lock goes to whoever is there first")
def test_nobody_starves_where_locks_are_handed_over(tmp_path):
    # On a busy machine one of the threads, which is for idle times, may get the lock and no processor.
    for _ in range(TRIES_WHERE_NONE):
        run, document = observe("starve", tmp_path)
        if "starvation" not in ids(document):
            return
    pytest.fail(run.stderr)


@pytest.mark.parametrize("mode", ["safe", "recorded"])
@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_in_a_clean_program(name, mode, tmp_path):
    run, document = observe(name, tmp_path, *(["--safe"] if mode == "safe" else []))
    assert ids(document) == [], run.stderr
    assert run.returncode == 0


def test_places_of_a_deadlock_are_those_of_the_program(tmp_path):
    run, document = observe("abba", tmp_path)
    [finding] = [finding for finding in document["report"]["findings"] if finding["id"] == "deadlock"]
    places = document["session"]["places"]
    lines = sorted(places[label["place"]]["line"] for label in finding["labels"])
    source = (HERE / "abba.py").read_text().splitlines()
    assert [source[line - 1].strip() for line in lines] == ["with x:", "with y:", "with y:", "with x:"]
    assert "take the locks in the same order everywhere" in run.stderr


def test_circles_that_share_a_pair_of_locks_are_told_each(tmp_path):
    run, document = observe("two_rings", tmp_path)
    threads = document["session"]["processes"][0]["threads"]
    circles = [fact for fact in document["session"]["facts"] if fact["kind"] == "lock-order"]
    names = [sorted(threads[unit["thread"]]["name"] for unit in circle["units"]) for circle in circles]
    assert sorted(names) == [["ab", "bc", "ca"], ["ab", "bd", "da"]], run.stderr
    assert 'around another circle here: "ab", "bd" and "da"' in run.stderr or (
        'around another circle here: "ab", "bc" and "ca"' in run.stderr
    )


def test_the_lock_that_the_length_hangs_on_is_ranked_first_and_the_serial_fraction_is_the_known_one(tmp_path):
    """Four tenths of each piece of work are done under one lock, by all eight threads."""
    source = (HERE / "hot_lock.py").read_text().splitlines()
    # Where the machine is busy with something else nothing is predicted, sleeps are longer, others than the lock are waited for, and looks are so few
    # that one of the threads may never be seen asleep.
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        run, document = observe("hot_lock", directory)
        report, session = document["report"], document["session"]
        first, *others = report["locks"]
        made = session["places"][session["things"][first["thing"]]["made"]]
        assert source[made["line"] - 1] == "ledger = threading.Lock()", run.stderr
        assert Path(made["file"]).name == "hot_lock.py"
        assert session["things"][first["thing"]]["taken"] == 8 * 30
        workers = [thread for thread in session["processes"][0]["threads"] if "(work)" in thread["name"]]
        assert len(workers) == 8
        slept = [
            sum(span["until"] - span["from"] for span in worker["spans"] if span["state"] == "sleep")
            for worker in workers
        ]
        is_first = first["share"] > sum(other["share"] for other in others)
        # Of eight pieces that meet at the lock one goes on: each thread waits for most of the time, and sleeps ten milliseconds of each piece.
        is_seen_asleep = min(slept) > 30 * 0.010e9 / 2
        serial = report["speed_up"] and report["speed_up"]["serial_fraction"]
        if is_first and is_seen_asleep and serial is not None and 0.3 < serial < 0.55:
            break
    else:
        pytest.fail(
            f"its share is {first['share']}, the serial fraction {serial} and not near 0.4, or of {slept} one is too short"
        )


@pytest.mark.parametrize("mode", ["safe", "recorded"])
def test_threads_of_a_library_that_rest_are_no_work(mode, tmp_path):
    run, document = observe("library_threads_clean", tmp_path, *(["--safe"] if mode == "safe" else []))
    threads = document["session"]["processes"][0]["threads"]
    foreign = [thread for thread in threads if thread["is_foreign"]]
    assert len(foreign) >= 3
    for thread in foreign:
        # What it takes to begin, it works.
        assert {span["state"] for span in thread["spans"]} <= {"event", "native", "runnable"}, thread
    assert not [thread for thread in threads if not thread["name"]]
    assert document["report"]["speed_up"] is None, "one thread works: nothing could be spread"
    assert not {"fewer-threads", "threads"} & {advice["choice"] for advice in document["report"]["advice"]}, run.stderr


def test_who_has_given_a_lock_back_inside_of_its_with_closes_no_circle(tmp_path):
    run, document = observe("gives_back", tmp_path)
    assert run.returncode == 0, run.stderr
    assert "deadlock" not in run.stderr
    assert ids(document) == [], run.stderr


def test_a_deadlock_whose_threads_go_on_is_taken_back(tmp_path):
    command = [RADDLE, "run", "--safe", "--output", tmp_path / "seen", HERE / "gives_back.py"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
    document = sessions.document(tmp_path / "seen")
    assert run.returncode == 0
    assert ids(document) == [], run.stderr
    [note] = document["session"]["notes"]
    assert note.startswith('"gives" and "waits" seemed to wait for ever, and went on after ')


def test_a_deadlock_that_somebody_has_interrupted_remains(tmp_path):
    """The main thread is in it, and leaves it by Ctrl-C; the other one goes on then."""
    program = tmp_path / "stuck.py"
    program.write_text(
        "import threading\n"
        "x, y, both = threading.Lock(), threading.Lock(), threading.Barrier(2)\n"
        "def take(one, two):\n"
        "    with one:\n"
        "        both.wait()\n"
        "        with two: pass\n"
        "threading.Thread(target=take, args=(y, x)).start()\n"
        "try: take(x, y)\n"
        "except KeyboardInterrupt: pass\n"
    )
    command = [RADDLE, "run", "--output", tmp_path / "seen", program]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True) as run:
        assert run.stderr.readline().startswith("raddle: deadlock: ")
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=PATIENCE)[1]
    document = sessions.document(tmp_path / "seen")
    assert run.returncode == 0
    assert ids(document) == ["deadlock"], said
    assert document["session"]["notes"] == [], said


@pytest.mark.parametrize("mode", ["safe", "recorded"])
def test_who_waits_for_a_message_of_another_process_does_no_work(mode, tmp_path):
    run, document = observe("across_clean", tmp_path, *(["--safe"] if mode == "safe" else []))
    children = document["session"]["processes"][1:]
    assert len(children) == 4

    def most(process):
        spans = process["threads"][0]["spans"]
        return max(spans, key=lambda span: span["until"] - span["from"])["state"]

    assert sorted(map(most, children)) == ["event", "queue", "queue", "queue"]
    assert document["report"]["speed_up"] is None, run.stderr
    assert document["report"]["advice"] == [], run.stderr


def test_who_waits_for_a_notification_is_said_to_hold_what_the_notifier_needs(tmp_path):
    run, document = observe("waits_holding", tmp_path)
    [finding] = document["report"]["findings"]
    assert "\"wait\" holds Lock 'ledger' since here" in [label["text"] for label in finding["labels"]], run.stderr
