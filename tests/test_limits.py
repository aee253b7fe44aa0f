"""What worker processes may take, and what they say when they crash."""

from __future__ import annotations

import functools
import os
import signal
import textwrap

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


# --- memory ----------------------------------------------------------------------------------------------------------

MUCH = """
    import os, signal, sys
    import calls, raddle, raddle.futures

    def fill_and_die(size, number=signal.SIGKILL):
        kept = bytearray(b"x") * size
        os.kill(os.getpid(), number)

    def own_peak():
        return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

    if __name__ == "__main__":
        exec(sys.argv[1])
"""


def measured(script, source, *arguments):
    """Runs lines in a small process, whose own memory does not count for much."""
    ended = script(MUCH).run(textwrap.dedent(source), *arguments, timeout=60)
    assert (ended.code, ended.err) == (0, ""), ended
    return ended.out


def test_a_dead_worker_had_so_much_memory(script):
    out = measured(
        script,
        """
        with raddle.Pool("process", 1) as pool:
            error = pool.submit(fill_and_die, 200 << 20).exception()
            assert 200 << 20 < error.peak_memory < 300 << 20, error.peak_memory
            assert f"(peak memory 2{error.peak_memory // (10 << 20) % 10}" in str(error), error
            again = __import__("pickle").loads(__import__("pickle").dumps(error))
            assert (str(again), again.peak_memory) == (str(error), error.peak_memory)
        print(error)
        """,
    )
    assert "was killed by SIGKILL while it ran fill_and_die() (peak memory 2" in out


def test_what_the_pools_process_had_is_not_what_the_worker_had(script):
    measured(
        script,
        """
        kept = bytearray(b"x") * (400 << 20)
        del kept
        assert own_peak() > 400 << 20
        with raddle.Pool("process", 1) as pool:
            error = pool.submit(fill_and_die, 20 << 20).exception()
            assert isinstance(error, raddle.WorkerDied) and error.peak_memory is None, error.peak_memory
            assert "peak memory" not in str(error)
        """,
    )


def test_a_worker_that_dies_near_its_limit_says_so(script):
    out = measured(
        script,
        """
        with raddle.Pool("process", 1, memory="200MiB") as pool:
            print(pool.submit(fill_and_die, 170 << 20, signal.SIGABRT).exception())
        """,
    )
    assert "hint: the pool gives a worker 200.0 MiB (memory=)" in out


def test_a_killed_worker_says_whether_the_kernel_wanted_its_memory():
    died = functools.partial(raddle.WorkerDied, "parse()", 4711, -9, "was killed by SIGKILL", 1, 2040109466)
    assert str(died(True)).splitlines() == [
        "worker process 4711 was killed by SIGKILL by the kernel, which was out of memory, while it ran parse() (peak memory 1.9 GiB)",
        "  hint: use fewer workers, or give each less to do at once; with memory= a call that wants too much gets a MemoryError",
    ]
    assert "somebody else has sent the signal" in str(died(False))
    assert "see the kernel's log" in str(died(None))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_drop_in_dies_as_before(script, method):
    out = measured(
        script,
        """
        import multiprocessing
        with raddle.futures.ProcessPoolExecutor(1, multiprocessing.get_context(sys.argv[2])) as executor:
            print(executor.submit(fill_and_die, 50 << 20).exception())
        """,
        method,
    )
    assert "was killed by SIGKILL" in out
    assert "peak memory" not in out
