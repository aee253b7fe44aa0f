"""`raddle.multiprocessing`: pools with the standard library's interface, and without its hangs."""

from __future__ import annotations

import doctest
import gc
import importlib
import inspect
import itertools
import multiprocessing
import multiprocessing.pool
import os
import queue
import signal
import threading
import time
import weakref

import pytest

import calls
import raddle
import raddle.multiprocessing as rmp
from calls import is_gone, until
from raddle.multiprocessing import pool as rpool

METHODS = ["fork", "spawn", "forkserver"]


def make(kind, processes=2, **options):
    """A pool of threads, or of processes that are started in one way."""
    if kind == "thread":
        return rmp.ThreadPool(processes, **options)
    return rmp.get_context(kind).Pool(processes, **options)


@pytest.fixture(params=["thread", *METHODS])
def kind(request):
    return request.param


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def pool(kind):
    """A pool of each kind."""
    with make(kind) as pool:
        yield pool


@pytest.fixture
def process_pool(method):
    """A pool of processes, for each way to start them."""
    with make(method) as pool:
        yield pool


# --- the module -----------------------------------------------------------------------------------------------------


def test_the_module_has_every_name_of_the_standard_library():
    assert set(multiprocessing.__all__) <= set(rmp.__all__)
    assert set(rmp.__all__) - set(multiprocessing.__all__) == {"ThreadPool"}
    for name in rmp.__all__:
        if name not in ("Pool", "ThreadPool", "get_context"):
            assert getattr(rmp, name) == getattr(multiprocessing, name)


def test_exceptions_are_the_standard_librarys_own():
    assert rmp.TimeoutError is multiprocessing.TimeoutError
    for name in ("MaybeEncodingError", "RemoteTraceback", "TimeoutError"):
        assert getattr(rpool, name) is getattr(multiprocessing.pool, name)


@pytest.mark.parametrize("name", ["Pool", "ThreadPool"])
def test_signatures_are_those_of_the_standard_library(name):
    ours, theirs = getattr(rpool, name), getattr(multiprocessing.pool, name)
    assert issubclass(ours, theirs)
    for method in ["__init__", *(name for name in vars(multiprocessing.pool.Pool) if not name.startswith("_"))]:
        if method == "Process":
            continue
        mine = inspect.signature(getattr(ours, method)).parameters.values()
        known = inspect.signature(getattr(theirs, method)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in known], method


@pytest.mark.parametrize("name", ["ApplyResult", "MapResult", "IMapIterator"])
def test_results_have_the_interface_of_the_standard_library(name):
    ours, theirs = getattr(rpool, name), getattr(multiprocessing.pool, name)
    assert issubclass(ours, theirs)
    for method in ("get", "wait", "ready", "successful", "next", "__next__"):
        if hasattr(theirs, method):
            mine, known = (inspect.signature(getattr(each, method)).parameters for each in (ours, theirs))
            assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in known.values()]


def test_a_context_makes_our_pools_and_everything_else_of_its_own_kind(method):
    context = rmp.get_context(method)
    assert isinstance(context, type(multiprocessing.get_context(method)))
    assert context.get_start_method() == method
    assert context.get_context() is context
    assert context.get_context("spawn") is rmp.get_context("spawn")
    assert context.Process is multiprocessing.get_context(method).Process
    with context.Pool(1) as pool:
        assert type(pool) is rpool.Pool
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert pool._pool[0].name.startswith(type(context).__name__.removesuffix("Context") + "PoolWorker")


def test_the_module_follows_the_start_method_of_multiprocessing():
    assert rmp.get_context().get_start_method() == multiprocessing.get_start_method()
    with rmp.Pool(1) as pool:
        assert pool._ctx.get_start_method() == multiprocessing.get_start_method()
    with pytest.raises(ValueError, match="cannot find context for 'nonsense'"):
        rmp.get_context("nonsense")


def test_numbers_out_of_range_are_refused(kind):
    for number in (0, -1):
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            make(kind, number)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        make(kind, initializer=1)
    if kind != "thread":
        for tasks in (0, -1, 0.5, "12"):
            with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
                make(kind, maxtasksperchild=tasks)
    with make(kind, 1) as pool:
        for call in (pool.map, pool.map_async, pool.imap, pool.imap_unordered):
            with pytest.raises(ValueError, match="Chunksize must be 1"):
                call(abs, [1], 0)


@pytest.mark.parametrize(
    "module", ["raddle.multiprocessing", *map("raddle.multiprocessing.{}".format, ["pool", "context"])]
)
def test_the_examples_in_the_docstrings_are_true(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


# --- calls ----------------------------------------------------------------------------------------------------------


def test_calls_return_what_their_functions_return(pool):
    assert pool.apply(calls.add, (1, 2), {"extra": 3}) == 6
    assert pool.apply(calls.arguments, [1, 2]) == ((1, 2), {})
    assert pool.apply_async(calls.add, (1,)).get(30) == 1
    assert pool.map(abs, range(-5, 5)) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    assert pool.map_async(abs, (number for number in [-1, -2])).get(30) == [1, 2]
    assert pool.starmap(pow, [(2, 3), [3, 2], iter((4, 1))]) == [8, 9, 4]
    assert pool.starmap_async(pow, zip([2, 3], [3, 2])).get(30) == [8, 9]
    assert list(pool.imap(abs, [-1, -2])) == [1, 2]
    assert sorted(pool.imap_unordered(abs, [-1, -2])) == [1, 2]


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
@pytest.mark.parametrize("size", [0, 1, 7, 100])
def test_every_chunk_size_gives_the_same_results(pool, size, chunksize):
    numbers = range(size)
    assert pool.map(abs, numbers, chunksize) == list(numbers)
    assert pool.starmap(abs, [(number,) for number in numbers], chunksize) == list(numbers)
    for inputs in (numbers, iter(numbers)):
        assert list(pool.imap(abs, inputs, chunksize or 1)) == list(numbers)
    for inputs in (numbers, iter(numbers)):
        assert sorted(pool.imap_unordered(abs, inputs, chunksize or 1)) == list(numbers)


def test_a_chunk_is_one_call_for_those_who_count(method):
    with make(method, 1, maxtasksperchild=1) as pool:
        pids = pool.map(calls.pid, range(6), chunksize=2)
    assert len(set(pids)) == 3
    assert pids[::2] == pids[1::2]


def test_a_long_chunk_is_done_to_its_end(kind):
    with make(kind, 1) as pool:
        assert pool.map(calls.nap_and_return, range(30), chunksize=30) == list(range(30))


def test_a_result_says_whether_it_is_there(pool, gate):
    result = pool.apply_async(gate, ("through",))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(0)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    gate.open()
    assert result.get() == "through"
    assert result.ready()
    assert result.successful()
    failed = pool.apply_async(calls.fail)
    failed.wait()
    assert not failed.successful()


def test_the_result_of_a_map_says_whether_it_is_there(pool, gate):
    result = pool.map_async(gate, range(2), chunksize=1)
    gate.wait_entered(2)
    assert not result.ready()
    assert result._number_left == 2
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    gate.open()
    assert result.get(30) == [0, 1]
    assert result.get() is result.get()
    assert result.successful()
    assert result._number_left == 0


def test_the_words_of_a_timeout_are_the_calls_own_if_it_raised_one(pool):
    for result in (pool.apply_async(calls.raise_timeout), pool.map_async(calls.raise_timeout, [1])):
        with pytest.raises(TimeoutError, match="of its own"):
            result.get(30)
        with pytest.raises(TimeoutError, match="of its own"):
            result.get()


def test_results_are_what_type_checkers_are_told(pool):
    assert type(pool.apply_async(abs, (1,))) is rpool.AsyncResult
    assert type(pool.map_async(abs, [1])) is rpool.MapResult
    assert type(pool.imap(abs, [1])) is rpool.IMapIterator
    assert type(pool.imap_unordered(abs, [1])) is rpool.IMapUnorderedIterator
    assert rpool.AsyncResult[int].__origin__ is rpool.ApplyResult


# --- errors ---------------------------------------------------------------------------------------------------------


def test_what_a_call_raises_is_raised_with_the_traceback_of_the_worker(process_pool):
    with pytest.raises(ValueError, match="bad") as caught:
        process_pool.apply(calls.fail)
    assert type(caught.value.__cause__) is multiprocessing.pool.RemoteTraceback
    assert "in fail" in caught.value.__cause__.tb


def test_what_a_call_raises_on_a_thread_is_that_very_exception():
    error = KeyError("mine")

    def fail():
        raise error

    with rmp.ThreadPool(1) as pool:
        with pytest.raises(KeyError) as caught:
            pool.apply(fail)
        assert caught.value is error


def test_a_map_raises_the_first_exception_when_everything_has_ended(pool, tmp_path):
    with pytest.raises(ValueError, match="^2$"):
        pool.starmap(calls.note_and_fail_from_2, [(number, tmp_path) for number in range(6)], chunksize=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == list("012345")


def test_results_and_exceptions_that_cannot_be_pickled_are_errors_of_their_own_calls(process_pool):
    after = process_pool.apply_async(calls.identity, (1,))
    for call, word in [
        (calls.result_that_cannot_be_pickled, "lock"),
        (calls.raise_unpicklable, "UnpicklableError"),
    ]:
        with pytest.raises(multiprocessing.pool.MaybeEncodingError, match=word):
            process_pool.apply(call)
        with pytest.raises(multiprocessing.pool.MaybeEncodingError, match=word):
            process_pool.starmap(call, [()] * 5)
    with pytest.raises(multiprocessing.pool.MaybeEncodingError, match="NeedsTwo"):
        process_pool.apply(calls.raise_what_cannot_be_made_again)
    with pytest.raises(ZeroDivisionError):
        process_pool.apply(calls.ExplodesHere)
    assert after.get(30) == 1
    assert len({worker.pid for worker in process_pool._pool}) == 2


def test_arguments_and_functions_that_cannot_be_pickled_are_errors_of_their_own_calls(process_pool):
    for bad in (process_pool.apply_async(lambda: 1), process_pool.map_async(lambda _: 1, [1, 2])):
        with pytest.raises(Exception, match="[Pp]ickle"):
            bad.get(30)
    with pytest.raises(Exception, match="[Pp]ickle"):
        list(process_pool.imap(lambda _: 1, [1, 2]))
    with pytest.raises(TypeError, match="stays here"):
        process_pool.map(calls.identity, [1, calls.Unpicklable(), 3])
    results = process_pool.imap(calls.identity, [1, calls.Unpicklable(), 3])
    assert next(results) == 1
    with pytest.raises(TypeError, match="stays here"):
        next(results)
    assert list(results) == [3]


def test_arguments_that_are_none_are_an_error_of_the_call(pool):
    with pytest.raises(TypeError):
        pool.apply_async(abs, 5).get(30)
    seen = queue.SimpleQueue()
    pool.apply_async(abs, 5, error_callback=seen.put)
    assert isinstance(seen.get(timeout=30), TypeError)


def breaks_at(stop):
    for number in range(10):
        if number == stop:
            raise KeyError(number)
        yield number


class SizedAndBroken:
    """Knows its length, and raises when it is read."""

    def __len__(self):
        return 10

    def __iter__(self):
        return breaks_at(5)


def test_an_input_that_raises_ends_the_map(pool):
    with pytest.raises(KeyError):
        pool.map(abs, breaks_at(5))
    for chunksize in (None, 1, 3):
        result = pool.map_async(abs, SizedAndBroken(), chunksize)
        with pytest.raises(KeyError):
            result.get(30)
    with pytest.raises(TypeError, match="not iterable"):
        pool.map_async(abs, None)
    with pytest.raises(TypeError, match="not iterable"):
        pool.starmap(abs, [1, 2])
    seen = queue.SimpleQueue()
    pool.map_async(abs, SizedAndBroken(), error_callback=seen.put)
    assert isinstance(seen.get(timeout=30), KeyError)


def test_an_input_that_raises_ends_an_iterator_behind_its_results(pool):
    for imap in (pool.imap, pool.imap_unordered):
        results = imap(abs, breaks_at(5))
        assert sorted(next(results) for _ in range(5)) == [0, 1, 2, 3, 4]
        with pytest.raises(KeyError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        with pytest.raises(TypeError, match="not iterable"):
            next(imap(abs, 5))


# --- iterators ------------------------------------------------------------------------------------------------------


def test_an_iterator_goes_on_behind_an_exception(pool):
    for inputs in ([1, 2, 3], iter([1, 2, 3])):
        results = pool.imap(calls.fail_at_2, inputs)
        assert next(results) == 1
        with pytest.raises(ValueError):
            next(results)
        assert list(results) == [3]


def test_an_iterator_waits_as_long_as_it_is_told(pool, gate):
    for imap in (pool.imap, pool.imap_unordered):
        results = imap(gate, iter([1]))
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.01)
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(0)
    gate.open()
    assert results.next(30) == 1
    with pytest.raises(StopIteration):
        results.next(30)


def test_an_iterator_waits_for_an_input_as_long_as_it_is_told(pool):
    line = queue.SimpleQueue()
    for imap in (pool.imap, pool.imap_unordered):
        results = imap(abs, iter(line.get, None))
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.01)
        line.put(-1)
        assert results.next(30) == 1
        line.put(None)
        assert list(results) == []


def test_results_come_unordered_as_they_are_there(pool, gate):
    def inputs():
        yield gate, "slow"
        yield calls.identity, "quick"
        yield calls.identity, "quick too"

    results = pool.imap_unordered(calls.call_it, inputs())
    assert {next(results), next(results)} == {"quick", "quick too"}
    gate.open()
    assert next(results) == "slow"


def test_an_input_is_read_while_nobody_takes_results(pool):
    read = []

    def inputs():
        for number in range(50):
            read.append(number)
            yield number

    results = pool.imap(abs, inputs())
    until(lambda: len(read) == 50)
    assert list(results) == list(range(50))


def test_an_endless_input_is_read_no_further_than_calls_end(kind, gate):
    counter = itertools.count()
    with make(kind, 1) as pool:
        results = pool.imap_unordered(calls.through_the_gate_at_0, ((gate, number) for number in counter))
        gate.wait_entered()
        # The first call holds all others up, so that no more than so many are read.
        held = [repr(counter)]
        until(lambda: held.append(repr(counter)) or held[-1] == held[-2] != "count(1)")
        gate.open()
        assert [next(results) for _ in range(3000)]


def test_several_threads_may_take_the_results_of_an_iterator(pool):
    for imap in (pool.imap, pool.imap_unordered):
        results = imap(abs, iter(range(500)))
        taken = queue.SimpleQueue()

        def take(results=results, taken=taken):
            for result in results:
                taken.put(result)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(taken.get() for _ in range(taken.qsize())) == list(range(500))


# --- callbacks ------------------------------------------------------------------------------------------------------


def test_callbacks_are_called_before_the_result_is_there(pool):
    seen = []
    pool.apply_async(abs, (-1,), callback=seen.append, error_callback=seen.append).wait()
    assert seen.pop() == 1
    pool.map_async(abs, [-1, -2], callback=seen.append, error_callback=seen.append).wait()
    assert seen.pop() == [1, 2]
    pool.starmap_async(abs, [(-1,)], callback=seen.append).wait()
    assert seen.pop() == [1]
    for result in (
        pool.apply_async(calls.fail, callback=seen.append, error_callback=seen.append),
        pool.map_async(calls.fail, ["bad"], callback=seen.append, error_callback=seen.append),
    ):
        result.wait()
        assert str(seen.pop()) == "bad"
        with pytest.raises(ValueError, match="bad"):
            result.get()
    assert seen == []


def test_callbacks_are_called_without_anybody_who_waits(pool):
    seen = queue.SimpleQueue()
    for number in range(100):
        pool.apply_async(calls.identity, (number,), callback=seen.put)
    assert sorted(seen.get(timeout=30) for _ in range(100)) == list(range(100))


def test_a_callback_that_raises_does_not_hold_up_the_others(pool, caplog):
    def fail(_):
        raise RuntimeError("of the callback")

    seen = []
    result = pool.apply_async(abs, (-1,), callback=fail)
    assert result.get(30) == 1
    pool.apply_async(abs, (-1,), callback=seen.append).wait(30)
    assert seen == [1]
    until(lambda: "of the callback" in caplog.text)


def test_a_callback_may_use_its_pool(pool):
    seen = queue.SimpleQueue()

    def again(value):
        if value == 5:
            pool.close()
            seen.put(value)
        else:
            pool.apply_async(calls.add, (value, 1), callback=again)

    pool.apply_async(calls.add, (0,), callback=again)
    assert seen.get(timeout=30) == 5
    pool.join()


def test_a_callback_may_terminate_its_pool(pool):
    done = threading.Event()
    pool.apply_async(abs, (-1,), callback=lambda _: (pool.terminate(), done.set()))
    assert done.wait(30)
    pool.join()


# --- workers --------------------------------------------------------------------------------------------------------


def test_a_killed_worker_fails_the_call_it_ran_and_nothing_else(process_pool, gate, method):
    dies = process_pool.apply_async(calls.signal_self, (signal.SIGKILL,))
    others = [process_pool.apply_async(calls.identity, (number,)) for number in range(20)]
    with pytest.raises(raddle.WorkerDied) as caught:
        dies.get(30)
    assert caught.value.call == "signal_self()"
    assert str(caught.value.pid) in str(caught.value)
    if method != "forkserver":  # whose children tell their exit codes to nobody but their server
        assert caught.value.exitcode == -signal.SIGKILL
        assert "SIGKILL" in str(caught.value)
    assert [other.get(30) for other in others] == list(range(20))
    assert process_pool.map(abs, range(20)) == list(range(20))
    until(lambda: caught.value.pid not in (pids := [worker.pid for worker in process_pool._pool]) and len(pids) == 2)


def test_a_killed_worker_fails_the_map_it_worked_for(process_pool):
    seen = []
    result = process_pool.map_async(calls.exit_now, [3, 3], chunksize=1, error_callback=seen.append)
    with pytest.raises(raddle.WorkerDied, match="exit_now"):
        result.get(30)
    assert isinstance(seen[0], raddle.WorkerDied)
    with pytest.raises(raddle.WorkerDied, match="a batch of 2 calls of exit_now"):
        process_pool.map(calls.exit_now, [3, 3], chunksize=2)
    results = process_pool.imap(calls.exit_at_1, iter(range(3)))
    assert next(results) == 0
    with pytest.raises(raddle.WorkerDied):
        next(results)
    assert next(results) == 2


def test_an_idle_worker_that_is_killed_is_replaced(process_pool):
    before = {worker.pid for worker in process_pool._pool}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    after = until(lambda: (now := {worker.pid for worker in process_pool._pool}) - before == now and len(now) == 2)
    assert after
    assert process_pool.map(abs, range(20)) == list(range(20))


def test_a_worker_that_was_forked_later_makes_pools_too():
    # It was forked by another thread than the main one, and is the main one of its process now.
    with make("fork", 1) as pool:
        process = pool._pool[0]
        # A callback makes a thread of the pool known to `threading`.
        pool.apply_async(abs, (1,), callback=lambda _: threading.current_thread()).wait()
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: pool._pool and pool._pool[0] is not process)
        assert pool.apply(calls.main_thread_and_nested, (5,)) == (True, 5)


def test_workers_are_replaced_after_so_many_calls(method):
    with make(method, 2, maxtasksperchild=3) as pool:
        assert len({pool.apply(calls.pid) for _ in range(12)}) >= 4
        until(lambda: len(pool._pool) == 2)
        assert pool.map(abs, range(20), 1) == list(range(20))


def test_a_pool_that_is_closed_early_ends_all_calls_although_workers_retire(method):
    pool = make(method, 2, maxtasksperchild=1)
    results = [pool.apply_async(calls.nap_and_return, (number,)) for number in range(8)]
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == list(range(8))


def test_an_initializer_prepares_each_worker(kind, tmp_path):
    with make(kind, initializer=calls.append, initargs=(tmp_path / "log", "x")) as pool:
        assert pool.map(abs, range(10)) == list(range(10))
        until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text() == "xx")


def test_the_initializer_runs_even_if_there_are_no_calls(kind, tmp_path):
    pool = make(kind, 1, initializer=calls.append, initargs=(tmp_path / "log", "x"))
    pool.close()
    pool.join()
    assert (tmp_path / "log").read_text() == "x"


def test_initializer_arguments_may_have_to_be_inherited(method):
    context = rmp.get_context(method)
    letters = context.SimpleQueue()
    lock = context.Lock()
    with context.Pool(1, initializer=calls.keep_for_later, initargs=(letters, lock)) as pool:
        pool.apply(calls.put_kept, ("a letter",))
        assert letters.get() == "a letter"


def test_an_initializer_that_raises_is_an_error_of_every_call_and_not_a_hang(kind, caplog):
    with make(kind, initializer=calls.fail, initargs=("unfit",)) as pool:
        with pytest.raises(raddle.BrokenPool, match="unfit"):
            pool.map(abs, range(10))
        with pytest.raises(raddle.BrokenPool, match="unfit"):
            pool.apply(abs, (1,))
        with pytest.raises(raddle.BrokenPool, match="unfit"):
            pool.imap(abs, [1]).next(30)


def test_workers_that_cannot_start_are_an_error_and_not_a_storm_of_processes(method):
    with (
        make(method, 1, initializer=os._exit, initargs=(7,)) as pool,
        pytest.raises(raddle.BrokenPool, match="in a row"),
    ):
        pool.apply(abs, (1,))


def test_pools_may_be_nested_in_workers(process_pool):
    assert process_pool.map(calls.nested_pools, range(3), chunksize=1) == [[0, 0], [0, 1], [0, 2]]


def test_what_workers_print_is_not_lost(script):
    ended = script("""
        from raddle.multiprocessing import Pool
        if __name__ == "__main__":
            pool = Pool(2)
            pool.map(print, range(100))
            pool.close()    # to leave a block terminates workers, also before they have written, as in the standard library
            pool.join()
    """).run()
    assert (ended.code, ended.err) == (0, "")
    assert sorted(map(int, ended.out.split())) == list(range(100))


def test_large_arrays_go_through_shared_memory_in_chunks_too(process_pool):
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(1 << 17, number) for number in range(8)]
    assert process_pool.map(calls.sum_of, arrays, chunksize=4) == [number << 17 for number in range(8)]
    mixed = [1, arrays[1], 2, arrays[3]]
    back = process_pool.map(calls.identity, mixed, chunksize=4)
    assert [back[0], back[1].sum(), back[2], back[3].sum()] == [1, 1 << 17, 2, 3 << 17]
    assert list(process_pool.starmap(calls.filled, [(3, 1.5), (2, 0.5)])[0]) == [1.5, 1.5, 1.5]


# --- the end --------------------------------------------------------------------------------------------------------


def test_a_closed_pool_ends_what_it_has_and_takes_no_more(pool, gate):
    result = pool.apply_async(gate, ("through",))
    lazy = pool.imap(calls.identity, iter(range(50)))
    pool.close()
    for call in (pool.apply, pool.apply_async):
        with pytest.raises(ValueError, match="Pool not running"):
            call(abs, (1,))
    for call in (pool.map, pool.map_async, pool.starmap, pool.starmap_async, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="Pool not running"):
            call(abs, [1])
    gate.open()
    pool.join()
    assert result.get(0) == "through"
    assert list(lazy) == list(range(50))
    pool.close()
    pool.join()


def test_a_pool_is_not_joined_while_it_runs(pool):
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()


def test_leaving_the_block_terminates(kind):
    with make(kind) as pool:
        workers = pool._pool
        assert pool.map(abs, [-1]) == [1]
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass
    pool.join()
    if kind != "thread":
        assert all(is_gone(worker.pid) for worker in workers)
        assert pool._pool == []
    assert "state=TERMINATE" in repr(pool)


def test_terminating_during_a_map_fails_what_has_not_ended(process_pool, tmp_path):
    seen = queue.SimpleQueue()
    result = process_pool.map_async(time.sleep, [60] * 1000, chunksize=1, error_callback=seen.put)
    lazy = process_pool.imap_unordered(time.sleep, iter([60] * 3))
    blocked = process_pool.imap(abs, iter(queue.SimpleQueue().get, None))
    process_pool.terminate()
    for wait in (result.get, lambda timeout: next(lazy), lambda timeout: next(blocked)):
        with pytest.raises(raddle.BrokenPool, match="terminated"):
            wait(30)
    assert isinstance(seen.get(timeout=30), raddle.BrokenPool)
    process_pool.join()
    assert process_pool._pool == []


def test_terminating_a_pool_of_threads_leaves_out_what_has_not_started(gate):
    pool = rmp.ThreadPool(1)
    first = pool.apply_async(gate, ("through",))
    gate.wait_entered()
    rest = pool.map_async(abs, range(10), chunksize=1)
    pool.terminate()
    with pytest.raises(raddle.BrokenPool, match="terminated"):
        rest.get(30)
    gate.open()
    pool.join()
    assert first.get() == "through"


def test_a_worker_that_does_not_heed_the_signal_is_killed(method, tmp_path):
    with make(method, 1) as pool:
        pool.apply_async(calls.ignore_and_tell, (tmp_path / "pid",))
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_map_that_waits_is_told_of_the_termination(kind, gate):
    with make(kind, 1) as pool:
        pool.apply_async(gate)
        gate.wait_entered()
        raised = queue.SimpleQueue()

        def wait():
            try:
                pool.map(abs, range(10))
            except Exception as error:
                raised.put(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: pool._workers.outstanding() > 1)
        pool.terminate()
        assert isinstance(raised.get(timeout=30), raddle.BrokenPool)
        waiter.join(30)
        gate.open()


def test_a_dropped_pool_says_so_and_ends_what_it_has(kind, gate):
    pool = make(kind)
    result = pool.apply_async(gate, ("through",))
    workers = pool._pool
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
    gate.open()
    assert result.get(30) == "through"
    if kind == "thread":
        for worker in workers:
            worker.join(30)
    else:
        until(lambda: all(is_gone(worker.pid) for worker in workers))


def test_a_pool_is_not_kept_by_its_workers_or_results(kind):
    pool = make(kind)
    result = pool.map_async(abs, range(10))
    results = pool.imap(abs, iter(range(10)))
    assert list(results) == result.get()
    pool.terminate()
    pool.join()
    gone = weakref.ref(pool)
    del pool
    assert gone() is None


def test_a_pool_cannot_be_pickled(pool):
    import pickle

    with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
        pickle.dumps(pool)


def test_if_one_worker_cannot_be_started_none_is_left(method):
    context = rmp.get_context(method)
    made = []

    class Context(type(context)):
        @staticmethod
        def Process(**options):
            if len(made) == 2:
                raise OSError("no more of them")
            made.append(context.Process(**options))
            return made[-1]

    fds = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no more of them"):
        rpool.Pool(4, context=Context())
    assert len(made) == 2
    assert all(is_gone(process.pid) for process in made)
    made.clear()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= fds + (method == "forkserver") * 3  # the server's own


def test_the_names_behind_a_pool_that_others_use(pool):
    assert len(pool._pool) == pool._processes == 2
    assert pool._state == multiprocessing.pool.RUN
    handler = pool._worker_handler
    assert handler.is_alive()
    pool._repopulate_pool()
    assert len(pool._pool) == 2
    pool.close()
    for handler in (pool._worker_handler, pool._task_handler, pool._result_handler):
        handler.join()
        assert not handler.is_alive()


def test_a_forked_child_is_told_that_the_pool_is_not_its_own(pool):
    assert pool.map(abs, range(10)) == list(range(10))
    child = multiprocessing.get_context("fork").Process(target=exit_if_refused, args=(pool,))
    child.start()
    child.join(30)
    assert child.exitcode == 7
    assert pool.map(abs, range(10)) == list(range(10))


def exit_if_refused(pool):
    for use in (lambda: pool.apply(abs, (1,)), lambda: pool.map(int, range(3)), lambda: next(pool.imap(int, [1]))):
        with pytest.raises(RuntimeError, match="this pool belongs to the process that made it"):
            use()
    pool.terminate()
    pool.join()
    os._exit(7)


# --- programs -------------------------------------------------------------------------------------------------------

LEFT_OPEN = """
    import os, sys, threading, time
    import calls
    from raddle.multiprocessing import Pool, ThreadPool, get_context
    if __name__ == "__main__":
        pool = get_context({method!r}).Pool(2)
        pool.map(abs, range(10))
        endless = pool.imap(abs, iter(int, 1))
        next(endless)
        results = pool.map_async(time.sleep, [60] * 10, chunksize=1)
        blocked = pool.imap(abs, iter(threading.Event().wait, 1))
        print(*(worker.pid for worker in pool._pool))
"""


def test_a_program_that_ends_with_an_open_pool_does_not_wait_for_it(script, method):
    ended = script(LEFT_OPEN.format(method=method)).run()
    assert (ended.code, ended.err) == (0, ""), ended
    assert all(is_gone(int(pid)) for pid in ended.out.split())


def test_a_program_that_ends_with_an_open_pool_of_threads_does_only_what_runs(script):
    ended = script("""
        import threading, time
        from raddle.multiprocessing import ThreadPool
        pool = ThreadPool(1)
        entered = threading.Event()
        def slow(number):
            entered.set()
            time.sleep(0.2)
            print(number, flush=True)
        results = pool.map_async(slow, range(1000), chunksize=1)
        endless = pool.imap(abs, iter(int, 1))
        blocked = pool.imap(abs, iter(threading.Event().wait, 1))
        entered.wait()
    """).run()
    assert (ended.code, ended.err) == (0, ""), ended
    assert "999" not in ended.out.split()


def test_a_thread_may_use_a_pool_when_the_main_thread_has_ended(script):
    ended = script("""
        import threading
        from raddle.multiprocessing import Pool
        def work():
            threading.main_thread().join()
            print(pool.map(abs, range(3)))
            pool.close()
            pool.join()
        if __name__ == "__main__":
            pool = Pool(1)
            threading.Thread(target=work).start()
    """).run()
    assert (ended.code, ended.out, ended.err) == (0, "[0, 1, 2]\n", ""), ended


def sleeps(pid):
    """Whether the main thread of a process sleeps, and has not woken up for a moment."""

    def state():
        with open(f"/proc/{pid}/status") as file:
            return [line for line in file if line.startswith(("State", "voluntary_ctxt_switches"))]

    before = state()
    time.sleep(0.1)
    return "sleeping" in before[0] and state() == before


@pytest.mark.parametrize("what", ["map(touch_and_sleep, [path] * 1000)", "apply(touch_and_sleep, (path,))"])
def test_ctrl_c_ends_a_program_that_waits_for_a_pool(script, method, what, tmp_path):
    program = script(f"""
        from calls import touch_and_sleep
        from raddle.multiprocessing import get_context
        if __name__ == "__main__":
            path = {str(tmp_path / "begun")!r}
            with get_context({method!r}).Pool(2) as pool:
                pool.map(abs, range(10), chunksize=1)
                print(*(worker.pid for worker in pool._pool), flush=True)
                pool.{what}
    """)
    child = program.start()
    pids = child.stdout.readline().split()
    assert len(pids) == 2
    until(lambda: (tmp_path / "begun").exists() and sleeps(child.pid))
    os.killpg(child.pid, signal.SIGINT)
    ended = program.finish()
    assert ended.code == -signal.SIGINT, ended
    assert ended.err.count("Traceback") == 1, ended.err
    assert all(is_gone(int(pid)) for pid in pids)


def test_workers_end_with_a_program_that_is_killed(script, method):
    program = script(LEFT_OPEN.format(method=method).rstrip() + "\n        sys.stdout.flush(); time.sleep(60)\n")
    child = program.start()
    pids = [int(pid) for pid in child.stdout.readline().split()]
    assert len(pids) == 2
    child.kill()
    program.finish()  # which is when nobody holds its pipes any more
    until(lambda: all(is_gone(pid) for pid in pids))
