"""Pools inside of pools: they share one budget of CPUs, and never wait for each other in a circle."""

from __future__ import annotations

import multiprocessing
import os

import pytest

import raddle
import raddle.futures
from raddle import _cpus


@pytest.fixture
def sixteen(monkeypatch):
    """A machine with so many CPUs, as far as the parent is concerned."""
    monkeypatch.setattr(_cpus, "usable_cpus", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def widths():
    """What pools that are made here have by default, on a large machine."""
    from raddle import _cpus

    real, _cpus.usable_cpus = _cpus.usable_cpus, lambda: 16
    try:
        with raddle.Pool("process") as pool:
            threads = pool.submit(os.getenv, "OMP_NUM_THREADS").result() if pool.workers == 1 else None
            return (
                pool.workers,
                raddle.Pool("thread").workers,
                raddle.futures.ProcessPoolExecutor()._max_workers,
                raddle.futures.ThreadPoolExecutor()._max_workers,
                threads,
            )
    finally:
        _cpus.usable_cpus = real


def test_outside_of_a_pool_there_are_all_cpus(sixteen):
    assert widths() == (16, 16, 16, 20, None)


@pytest.mark.parametrize(("workers", "share"), [(1, 16), (3, 5), (4, 4), (16, 1), (40, 1)])
def test_a_pool_in_a_worker_has_the_workers_share(sixteen, kind, workers, share):
    with raddle.Pool(kind, workers) as pool:
        found = pool.submit(widths).result(60)
    assert found[:4] == (share, share, share, share + 4)
    assert found[4] == ("1" if share == 1 else None)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_in_a_worker_of_a_drop_in_has_its_share(sixteen, method):
    with raddle.futures.ProcessPoolExecutor(4, multiprocessing.get_context(method)) as executor:
        assert executor.submit(widths).result(60)[:4] == (4, 4, 4, 8)


def test_a_pool_in_a_thread_of_a_drop_in_has_its_share(sixteen):
    with raddle.futures.ThreadPoolExecutor(5) as executor:
        assert executor.submit(widths).result(60)[:4] == (3, 3, 3, 7)


def test_preloaded_workers_have_their_share(sixteen):
    with raddle.Pool("process", 4, preload=["json"]) as pool:
        assert pool.submit(widths).result(60)[:4] == (4, 4, 4, 8)


def test_a_number_is_obeyed():
    def ask():
        with raddle.Pool("process", 3) as inner, raddle.Pool("thread", 5) as threads:
            return inner.workers, threads.workers

    with raddle.Pool("process", 2) as pool:
        assert pool.submit(ask).result(60) == (3, 5)


def test_a_worker_has_no_more_than_the_cpus_that_it_may_run_on():
    cpu = min(os.sched_getaffinity(0))
    with raddle.Pool("process", 1, affinity=[cpu]) as pool:
        assert pool.submit(lambda: raddle.Pool("process").workers).result(60) == 1


def test_the_share_gets_smaller_from_level_to_level(sixteen):
    def level(depth, kinds):
        from raddle import _cpus

        _cpus.usable_cpus = lambda: 16
        share = _cpus.share_of_cpus()
        if depth == 0:
            return [share]
        with raddle.Pool(kinds[0], 2) as pool:
            return [share, *pool.submit(level, depth - 1, kinds[1:]).result(60)]

    assert level(3, ["process", "thread", "process"]) == [16, 8, 4, 2]
    assert level(3, ["thread", "process", "thread"]) == [16, 8, 4, 2]


def test_a_forked_worker_has_its_own_share_and_not_that_of_the_thread_that_forked(sixteen):
    def fork_from_a_thread():
        with raddle.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
            return executor.submit(widths).result(60)[0]

    with raddle.Pool("thread", 2) as pool:
        assert pool.submit(fork_from_a_thread).result(60) == 4


def square(value):
    return value * value


def sum_in_processes(values):
    with raddle.Pool("process") as pool:
        return sum(pool.map(square, values))


def sum_in_threads(values):
    with raddle.Pool("thread") as pool:
        return sum(pool.map(sum_in_processes, [values, values]))


def test_three_levels_of_pools_come_to_an_end():
    with raddle.Pool("process", 2) as pool:
        assert list(pool.map(sum_in_threads, [range(10), range(20), range(30)])) == [570, 4940, 17110]
        assert pool.statistics().died == 0


def in_parallel(depth, values):
    joblib = pytest.importorskip("joblib")

    import raddle.joblib

    if depth == 0:
        return sum(values)
    raddle.joblib.register()
    with joblib.parallel_config(backend="raddle"):
        n_jobs = 2 if depth == 3 else -1
        return sum(joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(in_parallel)(depth - 1, values) for _ in range(2)))


def test_joblib_in_joblib_in_joblib_comes_to_an_end():
    pytest.importorskip("joblib")
    assert in_parallel(3, range(10)) == 8 * 45


def test_all_jobs_of_joblib_in_a_worker_are_its_share(sixteen):
    pytest.importorskip("joblib")

    def ask():
        import raddle.joblib
        from raddle import _cpus

        _cpus.usable_cpus = lambda: 16
        backend = raddle.joblib.RaddleBackend()
        return backend.effective_n_jobs(-1), backend.effective_n_jobs(-2), backend.effective_n_jobs(7)

    with raddle.Pool("process", 4) as pool:
        assert pool.submit(ask).result(60) == (4, 3, 7)
