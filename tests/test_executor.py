"""`Pool.executor`: a pool, for code that insists on a `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import inspect
import itertools
import os

import pytest

import calls
import raddle


@pytest.fixture
def executor(pool):
    return pool.executor()


def test_it_is_an_executor_and_the_same_pool(pool, executor):
    assert isinstance(executor, concurrent.futures.Executor)
    assert executor.submit(calls.add, 1, 2, extra=3).result() == 6
    assert list(executor.map(lambda x, y: x * y, range(5), range(5))) == [0, 1, 4, 9, 16]
    assert pool.statistics().finished == 6
    assert repr(pool) in repr(executor)


def parameters(function):
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", ["submit", "shutdown"])
def test_its_signatures_are_the_standard_librarys(executor, name):
    assert parameters(getattr(type(executor), name)) == parameters(getattr(concurrent.futures.Executor, name))


def test_its_map_schedules_everything_at_once_as_the_standard_librarys_does(executor, gate):
    read = []
    results = executor.map(gate, (read.append(number) or number for number in range(10)), chunksize=3)
    assert read == list(range(10))
    gate.open()
    assert list(results) == list(range(10))


def test_its_map_with_a_buffersize_takes_an_endless_input(executor):
    assert list(itertools.islice(executor.map(abs, itertools.count(-3), buffersize=2), 4)) == [3, 2, 1, 0]


def test_its_map_times_out(executor, gate):
    results = executor.map(gate, range(2), timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()


@pytest.mark.parametrize("ending", ["with", "shutdown"])
def test_shutting_it_down_shuts_the_pool_down(kind, ending):
    pool = raddle.Pool(kind, 1)
    if ending == "with":
        with pool.executor() as executor:
            future = executor.submit(calls.identity, 1)
    else:
        executor = pool.executor()
        future = executor.submit(calls.identity, 1)
        executor.shutdown(cancel_futures=False)
    assert future.done()
    for gone in (pool, executor):
        with pytest.raises(RuntimeError, match="shut"):
            gone.submit(calls.identity)


def test_leaving_its_block_with_an_exception_cancels_what_has_not_started(kind, gate):
    with pytest.raises(LookupError):
        with raddle.Pool(kind, 1).executor() as executor:
            executor.submit(gate)
            gate.wait_entered()
            waiting = [executor.submit(calls.identity) for _ in range(4)][-1]
            waiting.add_done_callback(lambda _: gate.open())
            raise LookupError
    assert waiting.cancelled()


def test_it_says_how_many_workers_it_has_as_others_ask_it(pool):
    assert pool._max_workers == pool.executor()._max_workers == pool.options()._max_workers == pool.workers == 2


def test_the_calls_of_an_executor_on_terms_are_on_these_terms(tmp_path):
    with raddle.Pool("process", 1) as pool:
        executor = pool.options(retries=2, timeout=30).executor()
        assert isinstance(executor, concurrent.futures.Executor)
        assert executor.submit(calls.die_until, tmp_path / "log", 3).result() == 3
        with pytest.raises(raddle.CallTimeout):
            pool.options(timeout=0.2).executor().submit(calls.touch_and_sleep, tmp_path / "pid").result()
        assert list(pool.options(retries=1).executor().map(calls.die_until, [tmp_path / "log2"], [2])) == [2]


def test_a_pool_lives_as_long_as_its_executor():
    executor = raddle.Pool("process", 1).executor()
    assert executor.submit(os.getpid).result() != os.getpid()
    executor.shutdown()


def test_a_buffered_map_of_an_executor_that_nobody_keeps_has_all_results():
    with raddle.Pool("thread", 2) as pool:
        assert list(pool.executor().map(abs, range(-20, 0), buffersize=5)) == list(range(20, 0, -1))
