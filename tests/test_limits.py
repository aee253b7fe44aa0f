"""What worker processes may take, and what they say when they crash."""

from __future__ import annotations

import os
import signal

import pytest

import calls
import raddle
from raddle._limits import bytes_of


def test_more_memory_than_allowed_is_an_error_of_that_call_alone():
    with raddle.Pool("process", 1, memory="200MiB") as pool:
        assert isinstance(pool.submit(bytearray, 400 << 20).exception(30), MemoryError)
        assert len(pool.submit(bytearray, 1 << 20).result()) == 1 << 20
        assert pool.statistics().died == 0


def test_a_worker_is_replaced_after_so_many_calls():
    with raddle.Pool("process", 1, max_tasks_per_child=3) as pool:
        pids = [pool.submit(os.getpid).result() for _ in range(10)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3, 1]
        assert pool.statistics().died == 0
        assert len(set(pool.map(calls.nap_and_pid, [0] * 60))) >= 20, "a map has no batches then"


def test_workers_are_nice_and_stay_on_their_cpus():
    cpu = min(os.sched_getaffinity(0))
    with raddle.Pool("process", 1, nice=7, affinity=[cpu]) as pool:
        assert pool.submit(os.nice, 0).result() == os.nice(0) + 7
        assert pool.submit(os.sched_getaffinity, 0).result() == {cpu}


def test_libraries_of_numbers_share_the_cpus_among_the_workers(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cpus = len(os.sched_getaffinity(0))
    for given, expected in (({}, str(max(1, cpus // 2))), ({"blas_threads": 3}, "3"), ({"blas_threads": None}, None)):
        with raddle.Pool("process", 2, **given) as pool:
            assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with raddle.Pool("process", 2) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "5"


@pytest.mark.parametrize(
    ("limits", "error", "match"),
    [
        ({"memory": "much"}, ValueError, "such as '2GiB'"),
        ({"memory": 0}, ValueError, "more than 0"),
        ({"memory": 1.5}, TypeError, "whole number"),
        ({"max_tasks_per_child": 0}, ValueError, "at least 1"),
        ({"max_tasks_per_child": "few"}, TypeError, "whole number"),
        ({"nice": -1}, ValueError, "0 or more"),
        ({"affinity": []}, ValueError, "at least one CPU"),
        ({"affinity": ["first"]}, TypeError, "whole number"),
        ({"blas_threads": "all"}, ValueError, "'auto'"),
        ({"blas_threads": 0}, ValueError, "at least 1"),
    ],
)
def test_limits_that_make_no_sense_are_said_at_once(kind, limits, error, match):
    with pytest.raises(error, match=match):
        raddle.Pool(kind, 1, **limits)


def test_threads_have_no_limits_of_their_own():
    with pytest.raises(NotImplementedError, match="process"):
        raddle.Pool("thread", 1, memory="1GiB")


def test_sizes_are_read_as_people_write_them():
    sizes = {"2GiB": 2 << 30, "2 GB": 2 << 30, "500M": 500 << 20, "1.5k": 1536, "7": 7, "7B": 7, "1tib": 1 << 40}
    assert {text: bytes_of(text) for text in sizes} == sizes
    assert bytes_of(12345) == 12345


# --- crashes ---------------------------------------------------------------------------------------------------------


def notes(error):
    return "\n".join(getattr(error, "__notes__", []))


def test_a_crash_says_where_it_happened():
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(calls.crash_deep_inside).exception(30)
        assert isinstance(error, raddle.WorkerDied)
        assert error.exitcode == -signal.SIGSEGV
        assert "Segmentation fault" in notes(error)
        assert "in the_culprit" in notes(error)


def test_a_worker_that_is_killed_leaves_no_words():
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(calls.kill_itself).exception(30)
        assert isinstance(error, raddle.WorkerDied)
        assert notes(error) == ""
        assert "out of memory" not in str(error).splitlines()[0]


def test_a_crash_breaks_a_drop_in_and_is_named(process_lane):
    with process_lane.make(1) as runner:
        error = runner.submit(calls.crash_deep_inside).exception(30)
        assert isinstance(error, raddle.WorkerDied if process_lane.is_pool else raddle.futures.BrokenProcessPool)
        if process_lane.method != "forkserver":  # whose children are not ours to ask
            assert "SIGSEGV" in str(error)
