"""The benchmark's own arithmetic: a loss must be shown as a loss, a missed floor as missed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from calls import is_gone

HERE = Path(__file__).resolve().parent.parent / "benches" / "python"
sys.path.insert(0, str(HERE))
try:
    import bench_pool
    import contenders
    import report
    import rows
finally:
    sys.path.remove(str(HERE))

LIMITS = {
    "futex round trip between two processes": 1e-5,
    "eventfd round trip between two processes": 1e-5,
    "lock round trip between two Python threads": 1e-5,
    "pickle.dumps + loads of the arguments, (1,)": 1e-6,
    "pickle.dumps + loads of one int in a list of 1,000": 1e-7,
    "call of an empty Python function": 1e-8,
    "call of a native method that takes nothing": 1e-8,
    "a bare thread starts and is waited for": 1e-5,
    "memcpy of one MiB, warm": 1e-4,
    "start and end of an interpreter that imports nothing": 0.01,
    "a forked process starts and ends": 0.001,
    "two idle processes end": 0.001,
    "two idle threads end": 0.0001,
    "bytes of an argument, its tuple, an empty object and a list slot": 100.0,
}
RUN = {
    "machine": "a machine",
    "kernel": "6",
    "versions": {"CPython": "3"},
    "workers": 2,
    "date": "today",
    "commit": "none",
    "load_before": 0,
}


def data(row: str, **seconds: float) -> dict[str, object]:
    results = {name: {"median": value, "low": value, "high": value, "rounds": 1} for name, value in seconds.items()}
    return {"run": RUN, "limits": LIMITS, "rows": {row: results}, "absent": {}}


def only_line(measured: dict[str, object]) -> report.Line:
    (line,) = report.lines_of(measured)
    return line


def test_a_floor_is_met_from_its_ratio_on():
    stdlib = {contenders.STDLIB: 300e-6}
    assert only_line(data("latency-process", **stdlib, **{"raddle.Pool": 29e-6})).floor() == "≥ 10x met"
    assert only_line(data("latency-process", **stdlib, **{"raddle.Pool": 31e-6})).floor() == "≥ 10x missed"


def test_a_floor_in_milliseconds_is_held_against_milliseconds():
    assert only_line(data("start-fresh-process", **{"raddle.Pool": 0.060})).floor() == "≤ 60 ms met"
    assert only_line(data("start-fresh-process", **{"raddle.Pool": 0.061})).floor() == "≤ 60 ms missed"


@pytest.mark.parametrize(("ours", "word"), [(20e-6, "faster"), (41e-6, "level"), (45e-6, "slower")])
def test_the_best_of_all_others_decides_who_is_slower(ours: float, word: str):
    line = only_line(
        data("map-process", **{contenders.STDLIB: 300e-6, "loky": 40e-6, "mpire": 50e-6, "raddle.Pool": ours})
    )
    assert line.peer == ("loky", 40e-6)
    assert line.beside_peers() == word


def test_a_contender_that_failed_is_shown_with_its_error_and_wins_nothing():
    measured = data("map-process", **{contenders.STDLIB: 300e-6, "raddle.Pool": 1e-6})
    measured["rows"]["map-process"]["loky"] = {"error": "did not end within 90 s"}
    assert only_line(measured).peer is None
    assert ("loky", "–", "", "", "did not end within 90 s") in report.details(measured, rows.BY_KEY["map-process"])


def test_the_document_has_every_row_and_every_note():
    text = report.document(data("map-process", **{contenders.STDLIB: 300e-6, "raddle.Pool": 1e-6}))
    for row in rows.ROWS:
        assert f"### {row.title[0].upper()}{row.title[1:]} ({row.lane})" in text
    for note in report.notes().values():
        assert note in text


def test_a_floor_in_times_of_the_standard_library():
    assert only_line(data("lock-threading", threading=100e-9, **{"raddle.threading": 119e-9})).floor().endswith(" met")
    missed = only_line(data("lock-threading", threading=100e-9, **{"raddle.threading": 121e-9}))
    assert missed.floor() == "≤ 1.2x the standard library's time missed"
    assert missed.peer is None
    assert missed.beside_peers() == "slower"


def test_every_row_of_the_primitives_holds_raddle_against_the_standard_library():
    found = [row for row in rows.ROWS if row.lane in contenders.PRIMITIVES]
    assert {row.lane for row in found} == set(contenders.PRIMITIVES)
    for row in found:
        names = [c.name for c in contenders.of_row(row.key)]
        if row.key == contenders.SELECT:  # the standard library has nothing like it
            assert (names, row.at_most) == (["raddle.channel"], 1000)
            continue
        crosses = row.key in (contenders.ACROSS, contenders.TRIP)
        channel = "multiprocessing.Queue" if crosses else "queue.SimpleQueue"
        stdlib = channel if row.lane == "channel" else row.lane
        peers = [name for name in names if name.startswith("faster-fifo")]
        assert bool(peers) == crosses
        assert names == [stdlib, *peers, f"raddle.{row.lane}"]
        assert row.times_stdlib or row.stdlib_times, f"{row.key} has no floor"


def test_rows_are_named_by_their_beginning_or_by_their_lane(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCH_ROWS", "threading alone")
    chosen = {row.key for row in bench_pool.wanted_rows()}
    assert chosen == {row.key for row in rows.ROWS if row.lane == "threading"} | {"alone-queue"}
    monkeypatch.setenv("BENCH_ROWS", "thread-of-gold")
    with pytest.raises(SystemExit, match="no row 'thread-of-gold'"):
        bench_pool.wanted_rows()


def test_every_row_has_both_faces_of_raddle_and_somebody_to_be_held_against():
    only = {contenders.FORK: {"raddle.futures"}, contenders.TERMS: {"raddle.Pool"}}
    for row in rows.ROWS:
        if row.lane in (*contenders.PRIMITIVES, contenders.OBSERVED):
            continue
        names = [contender.name for contender in contenders.of_row(row.key, everybody=False)]
        assert len(names) == len(set(names)), row.key
        others = set(names) - set(contenders.OURS)
        if row.key not in (contenders.TERMS, contenders.STREAM):  # what the standard library cannot do
            assert contenders.STDLIB in others
            assert len(names) >= 5
        assert len(others) >= 2, row.key
        wanted = only.get(row.key, {"raddle.futures", "raddle.Pool"})
        wanted = wanted | ({"raddle.multiprocessing"} if row.key in contenders.MAP else set())
        assert wanted == set(names) & set(contenders.OURS), row.key


def test_clusters_take_part_on_request_alone():
    for name in ("Ray", "Dask"):
        asked = {row.key for row in rows.ROWS if name in [c.name for c in contenders.of_row(row.key)]}
        assert asked >= {contenders.FRESH, "latency-process", "burn-process", "shutdown-process", contenders.WORTH}
        assert not any(row.endswith("-thread") for row in asked)
        for row in rows.ROWS:
            assert name not in [c.name for c in contenders.of_row(row.key, everybody=False)]


def test_a_pool_has_to_be_worth_it():
    results = {contenders.STDLIB: 60e-6, contenders.INLINE: 20e-6, "mpire": 12e-6}
    line = only_line(data(contenders.WORTH, **results, **{"raddle.Pool": 11e-6}))
    assert line.floor() == "≥ 1.8x no pool met"
    assert line.peer == ("mpire", 12e-6), "no pool is no peer"
    assert only_line(data(contenders.WORTH, **results, **{"raddle.Pool": 11.2e-6})).floor() == "≥ 1.8x no pool missed"


def test_a_call_on_terms_is_held_against_a_plain_one():
    measured = data(contenders.TERMS, pebble=300e-6, **{"raddle.Pool": 5e-6})
    measured["rows"][contenders.TERMS]["raddle.Pool"]["plain"] = 3.1e-6
    assert only_line(measured).floor() == "≤ 2 µs more than a plain call met"
    measured["rows"][contenders.TERMS]["raddle.Pool"]["plain"] = 2.9e-6
    assert only_line(measured).floor() == "≤ 2 µs more than a plain call missed"
    assert ("raddle.Pool", "5.00 µs", "5.00 – 5.00", "–", "a plain call 2.90 µs") in report.details(
        measured, rows.BY_KEY[contenders.TERMS]
    )


def test_every_row_has_a_note_and_a_limit():
    known = report.limits.row_limits(LIMITS)
    for row in rows.ROWS:
        assert row.limit in known or row.limit == contenders.PYTHON, row.key
    assert {row.key for row in rows.ROWS} - set(report.notes()) <= {"array-64k-process"}


def test_what_is_observed_is_held_against_itself_in_the_same_round():
    rounds = {
        contenders.PYTHON: [{"median": 1.0}, {"median": 2.0}, {"error": "no"}],
        contenders.RUN: [{"median": 1.04}, {"median": 2.2}, {"median": 9.0}],
    }
    measured = data("locks-run")
    plain = rounds[contenders.PYTHON]
    measured["rows"]["locks-run"] = {
        name: bench_pool.summed_up(found) | bench_pool.beside(found, plain) for name, found in rounds.items()
    }
    line = only_line(measured)
    assert line.beside_plain == pytest.approx(1.07)
    assert (line.limit, line.beside_peers()) == (1.5, "")
    assert line.floor() == "≤ 1.05x its own time missed"
    measured["rows"]["locks-run"][contenders.RUN]["times"] = 1.049
    assert only_line(measured).floor() == "≤ 1.05x its own time met"
    cells = next(cells for cells in report.details(measured, rows.BY_KEY["locks-run"]) if cells[0] == contenders.RUN)
    assert cells[-1] == "1.05x the time of the program by itself"


def test_a_start_is_held_against_what_it_adds():
    line = only_line(data("empty-run", **{contenders.PYTHON: 0.020, contenders.RUN: 0.099, "VizTracer": 0.3}))
    assert line.floor() == "≤ 80 ms more than by itself met"
    assert line.beside_peers() == "faster", "nobody is faster than a program by itself"
    missed = only_line(data("empty-run", **{contenders.PYTHON: 0.020, contenders.RUN: 0.101}))
    assert missed.floor() == "≤ 80 ms more than by itself missed"


def test_who_observes_is_known_by_row():
    for row in rows.ROWS:
        names = [contender.name for contender in contenders.of_row(row.key)]
        if row.key == contenders.LOOKS:
            assert names == [contenders.DUMP, "py-spy dump"]
        elif row.lane == contenders.OBSERVED:
            assert names == [contenders.PYTHON, contenders.RUN, contenders.SAFE, "VizTracer", "py-spy record"]


@pytest.mark.parametrize("row", [row.key for row in rows.ROWS if row.lane == contenders.OBSERVED])
def test_a_program_is_measured_with_raddle_and_without(tmp_path: Path, row: str):
    for name in [c.name for c in contenders.of_row(row) if c.package in ("threading", "raddle")]:
        command = [sys.executable, str(HERE / "one.py"), str(tmp_path / "out"), row, name, "quick"]
        subprocess.run(command, env=os.environ | {"TMPDIR": str(tmp_path)}, cwd=tmp_path, check=True, timeout=50)
        assert json.loads((tmp_path / "out").read_text())["median"] > 0, (row, name)


@pytest.mark.parametrize("row", [contenders.TERMS, contenders.STREAM, contenders.WORTH])
def test_rows_of_raddles_own_measure_it(tmp_path: Path, row: str):
    command = [sys.executable, str(HERE / "one.py"), str(tmp_path / "out"), row, "raddle.Pool", "quick"]
    subprocess.run(command, env=os.environ | {"TMPDIR": str(tmp_path)}, check=True, timeout=50)
    found = json.loads((tmp_path / "out").read_text())["median"]
    assert 0 <= found < 16 << 20 if row == contenders.STREAM else found > 0


def test_what_a_measurement_leaves_running_is_ended_and_its_tracker_cleans_up():
    program = (
        "import multiprocessing, os, signal, subprocess, sys\n"
        "lock = multiprocessing.get_context('spawn').Lock()\n"
        "left = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(lock._semlock.name, left.pid, flush=True)\n"
        "signal.pause()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        name, pid = child.stdout.readline().split()
        semaphore = Path("/dev/shm", f"sem.{name.removeprefix('/')}")
        assert semaphore.exists()
        bench_pool.kill_session(child.pid)
        assert not semaphore.exists()
        assert is_gone(int(pid))
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_every_row_of_threads_measures_the_standard_library_and_every_primitive_both(tmp_path: Path):
    for row in rows.ROWS:
        if row.lane in ("thread", *contenders.PRIMITIVES):
            for name in [
                c.name
                for c in contenders.of_row(row.key)
                if c.name in contenders.STDLIBS or row.lane in contenders.PRIMITIVES
                if importlib.util.find_spec(c.package) is not None  # peers are installed by `make bench` only
            ]:
                command = [sys.executable, str(HERE / "one.py"), str(tmp_path / "out"), row.key, name, "quick"]
                subprocess.run(command, env=os.environ | {"TMPDIR": str(tmp_path)}, check=True, timeout=30)
                assert json.loads((tmp_path / "out").read_text())["median"] > 0, (row.key, name)
