"""`map` of the thread drop-in: one record for all items, and yet each of them is a call of its own."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import os
import signal
import threading
import time
import weakref

import pytest

import calls
import raddle
from calls import until
from raddle.futures import ThreadPoolExecutor

PATIENCE = 10


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as executor:
        yield executor


def counts(executor):
    """Submitted, finished, failed, cancelled, pending, running."""
    return executor._lane.counts()[:6]


class Stage:
    """Calls that wait for a word of the test, and a list of those that have begun."""

    def __init__(self):
        self.begun = []
        self.go = threading.Event()

    def __call__(self, value):
        self.begun.append(value)
        assert self.go.wait(PATIENCE)
        return value


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.go.set()


# --- every item is a call of its own ----------------------------------------------------------------------------------


def test_an_item_that_blocks_does_not_hold_up_the_others(executor):
    rest_is_done = threading.Event()
    done = []

    def first_waits_for_last(number):
        if number == 0:
            assert rest_is_done.wait(PATIENCE)
        done.append(number)
        if len(done) == 99:
            rest_is_done.set()
        return number

    assert list(executor.map(first_waits_for_last, range(100))) == list(range(100))
    assert done == [*range(1, 100), 0]


@pytest.mark.parametrize("source", [list, iter])
@pytest.mark.parametrize("threads", [2, 5, 16])
def test_as_many_items_run_at_once_as_there_are_threads(threads, source):
    barrier = threading.Barrier(threads)
    with ThreadPoolExecutor(threads) as executor:
        for _ in range(3):  # with new threads, and with those that sleep
            assert sorted(executor.map(lambda _: barrier.wait(PATIENCE), source(range(threads)))) == list(
                range(threads)
            )


def test_calls_begin_in_the_order_in_which_they_were_handed_in():
    begun = []
    with ThreadPoolExecutor(1) as executor:
        stage = Stage()
        held = executor.submit(stage, "held")
        for number in range(0, 40, 4):
            executor.submit(begun.append, number)
            executor.map(begun.append, [number + 1, number + 2])
            executor.submit(begun.append, number + 3)
        stage.go.set()
        held.result(PATIENCE)
    assert begun == list(range(40))


def test_what_is_submitted_while_the_input_is_read_keeps_its_place():
    begun = []
    with ThreadPoolExecutor(1) as executor:
        stage = Stage()
        held = executor.submit(stage, "held")

        def source():
            for number in range(0, 40, 3):
                executor.submit(begun.append, number)
                yield number + 1
                yield number + 2

        results = executor.map(begun.append, source())
        stage.go.set()
        held.result(PATIENCE)
        assert list(results) == [None] * 28
    assert begun == list(range(42))


def test_a_call_begins_while_the_rest_of_the_input_is_read(executor):
    has_run = threading.Event()

    def source():
        yield 1
        assert has_run.wait(PATIENCE)
        yield 2

    def run(number):
        has_run.set()
        return number

    assert list(executor.map(run, source())) == [1, 2]


def test_many_maps_of_many_threads_at_once():
    with ThreadPoolExecutor(3) as executor:
        failed = []

        def use(offset):
            for size in (1, 2, 3, 50, 1000):
                expected = list(range(offset, offset + size))
                for source in (expected, iter(expected)):
                    if list(executor.map(calls.identity, source)) != expected:
                        failed.append((offset, size))

        users = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for user in users:
            user.start()
        for user in users:
            user.join()
        assert failed == []
        assert counts(executor) == (2 * 8 * 1056, 2 * 8 * 1056, 0, 0, 0, 0)


def test_threads_may_share_an_iterator(executor):
    results = executor.map(lambda number: time.sleep(0.0001) or number, range(400))
    taken = [[], [], []]
    takers = [threading.Thread(target=lambda mine=mine: mine.extend(results)) for mine in taken]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sorted(itertools.chain(*taken)) == list(range(400))
    assert all(mine == sorted(mine) for mine in taken)


def test_functions_in_c_let_other_threads_have_the_interpreter(executor):
    results = executor.map(sum, [range(200_000)] * 400)
    next(results)
    pending = counts(executor)[4]
    results.close()
    assert pending > 100


@pytest.mark.parametrize(
    "iterables",
    [
        [],
        [[]],
        [range(0)],
        [range(5)],
        [(1, 2), [3, 4, 5]],
        ["abc"],
        [b"abc", {1: 2, 3: 4}],
        [iter([1, 2]), range(10)],
        [{7}, frozenset([8])],
        [[(1, 2)], [(3, 4)]],
        [[(1, 2), (3, 4)]],
    ],
)
def test_inputs_of_every_kind(executor, iterables):
    copies = [list(iterable) for iterable in iterables]
    sources = [iter(copy) if hasattr(it, "__next__") else it for it, copy in zip(iterables, copies)]
    assert list(executor.map(lambda *args: args, *sources)) == list(zip(*copies))


def test_what_is_no_iterable_is_refused_at_once(executor):
    with pytest.raises(TypeError, match="not iterable"):
        executor.map(calls.identity, 5)


def test_what_cannot_be_called_is_the_calls_failure(executor):
    results = executor.map(5, [1])
    with pytest.raises(TypeError, match="not callable"):
        next(results)


# --- ends ------------------------------------------------------------------------------------------------------------


def test_an_exception_comes_in_its_place_and_cancels_what_waits(stage):
    def fail_at_one(number):
        if number == 1:
            raise ValueError(number)
        return stage(number) if number > 1 else number

    with ThreadPoolExecutor(1) as executor:
        results = executor.map(fail_at_one, range(50))
        assert next(results) == 0
        with pytest.raises(ValueError, match="^1$") as caught:
            next(results)
        assert "fail_at_one" in [entry.name for entry in caught.traceback]
        assert list(results) == []
        stage.go.set()
    submitted, finished, failed, cancelled, pending, running = counts(executor)
    assert (submitted, failed, pending, running) == (50, 1, 0, 0)
    assert finished + cancelled == 49
    assert stage.begun in ([], [2])


@pytest.mark.parametrize("how", ["close", "drop", "raise in the loop", "collect"])
def test_an_iterator_that_is_left_half_way_cancels_what_waits(stage, how):
    with ThreadPoolExecutor(2) as executor:
        results = executor.map(lambda number: stage(number) if number else 0, range(1000))
        assert next(results) == 0
        until(lambda: len(stage.begun) == 2)
        if how == "close":
            results.close()
            assert next(results, "over") == "over"
        elif how == "drop":
            del results
        elif how == "collect":
            knot = [results]
            knot.append(knot)
            del knot, results
            gc.collect()
        else:
            with pytest.raises(ZeroDivisionError):
                leave_a_loop(results)
            del results
        assert counts(executor) == (1000, 1, 0, 997, 0, 2)
        stage.go.set()
    assert counts(executor) == (1000, 3, 0, 997, 0, 0)
    assert sorted(stage.begun) == [1, 2]


def leave_a_loop(results):
    for _ in itertools.chain([0], []):
        del results
        1 / 0  # noqa: B018


def test_an_iterator_that_was_never_asked_cancels_nothing(executor):
    seen = []
    executor.map(seen.append, range(100))
    executor.map(seen.append, iter(range(100, 200))).close()
    executor.shutdown()
    assert sorted(seen) == list(range(200))


def test_what_the_input_raises_is_raised_at_once_and_the_calls_before_it_run(executor):
    seen = []

    def source():
        yield from range(10)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        executor.map(seen.append, source())
    executor.shutdown()
    assert sorted(seen) == list(range(10))


def test_a_timeout_counts_from_the_call_of_map(stage):
    with ThreadPoolExecutor(1) as executor:
        results = executor.map(lambda number: stage(number) if number else 0, range(10), timeout=0.1)
        assert next(results) == 0
        began = time.monotonic()
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        assert time.monotonic() - began < 5
        assert next(results, "over") == "over"
        assert counts(executor)[3:] == (8, 0, 1)
        stage.go.set()
    assert stage.begun == [1]


def test_results_that_are_there_come_after_the_timeout_too(executor):
    results = executor.map(calls.identity, range(10), timeout=0.01)
    until(lambda: counts(executor)[1] == 10)
    time.sleep(0.02)
    assert list(results) == list(range(10))


def test_shutdown_can_cancel_what_waits(stage):
    with ThreadPoolExecutor(2) as executor:
        results = executor.map(stage, range(100))
        until(lambda: len(stage.begun) == 2)
        executor.shutdown(wait=False, cancel_futures=True)
        stage.go.set()
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(concurrent.futures.CancelledError):
            next(results)
        assert next(results, "over") == "over"
    assert counts(executor) == (100, 2, 0, 98, 0, 0)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(stage, [1])


def test_a_thread_that_waits_hears_that_its_item_was_cancelled(stage):
    with ThreadPoolExecutor(1) as executor:
        held = executor.submit(stage, "held")
        results, heard = executor.map(calls.identity, range(5)), []

        def take():
            try:
                next(results)
            except concurrent.futures.CancelledError as error:
                heard.append(error)

        taker = threading.Thread(target=take)
        taker.start()
        executor.shutdown(wait=False, cancel_futures=True)
        taker.join(PATIENCE)
        assert len(heard) == 1
        stage.go.set()
        held.result(PATIENCE)


def test_shutdown_without_cancelling_lets_everything_run(executor):
    results = executor.map(calls.identity, range(1000))
    executor.shutdown()
    assert list(results) == list(range(1000))


def test_a_pool_that_is_dropped_does_what_it_has():
    results = ThreadPoolExecutor(2).map(calls.identity, iter(range(1000)))
    gc.collect()
    assert list(results) == list(range(1000))


@pytest.mark.parametrize("source", [list, iter])
def test_a_failed_initializer_is_what_the_results_raise(source):
    stage = Stage()

    def break_pool():
        stage(0)
        raise ZeroDivisionError

    executor = ThreadPoolExecutor(1, initializer=break_pool)
    results = executor.map(calls.identity, source(range(10)))
    stage.go.set()
    with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
        next(results)
    assert next(results, "over") == "over"
    with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
        executor.map(calls.identity, [1])
    executor.shutdown()
    assert counts(executor) == (10, 0, 10, 0, 0, 0)


def test_a_map_that_waits_for_its_own_pool_is_a_named_deadlock():
    with ThreadPoolExecutor(1) as executor, pytest.raises(raddle.DeadlockError, match="its only thread waits"):
        executor.submit(lambda: list(executor.map(calls.identity, range(5)))).result(PATIENCE)
    with ThreadPoolExecutor(2) as executor:
        both = threading.Barrier(2)

        def nest(_):
            both.wait(PATIENCE)
            return list(executor.map(calls.identity, range(5)))

        with pytest.raises(raddle.DeadlockError, match="all 2 threads of the pool wait"):
            list(executor.map(nest, range(2)))


def test_a_map_inside_of_a_map_is_no_deadlock_while_a_thread_is_left(executor):
    nested = executor.submit(lambda: list(executor.map(calls.identity, range(500))))
    assert nested.result(PATIENCE) == list(range(500))


def test_a_signals_handler_that_raises_ends_the_iteration(stage):
    with ThreadPoolExecutor(1) as executor:
        results = executor.map(stage, range(100))
        until(lambda: stage.begun)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            next(results)
        assert next(results, "over") == "over"
        assert counts(executor)[3:] == (99, 0, 1)
        stage.go.set()
    assert stage.begun == [0]


def test_a_call_may_raise_what_is_no_exception(executor):
    results = executor.map(calls.raise_interrupt, range(3))
    with pytest.raises(KeyboardInterrupt):
        next(results)


# --- what is let go of ------------------------------------------------------------------------------------------------


class Thing:
    """Can be referred to weakly."""


def test_a_result_is_let_go_of_when_it_was_taken():
    with ThreadPoolExecutor(1) as executor:
        results = executor.map(calls.Counted, range(3000))
        alive = []
        for result in results:
            del result
            alive.append(calls.Counted.alive)
        assert alive[-1] == 0


def test_arguments_and_function_are_let_go_of_when_the_calls_have_ended(executor):
    things = [Thing() for _ in range(10)]
    known = [weakref.ref(thing) for thing in things]

    def function(thing):
        return 7

    known.append(weakref.ref(function))
    results = executor.map(function, things)
    assert next(results) == 7
    del things, function
    until(lambda: all(ref() is None for ref in known), "arguments and function to go", 5)
    assert list(results) == [7] * 9


def test_results_of_a_map_that_nobody_listens_to_are_let_go_of_at_once(executor, stage):
    known = []

    def make(number):
        if number == 3:
            stage(number)
        thing = Thing()
        known.append(weakref.ref(thing))
        return thing

    executor.map(make, range(3))
    executor.map(make, range(3, 4))
    until(lambda: len(known) == 3)
    until(lambda: all(ref() is None for ref in known), "the results to go", 5)
    stage.go.set()


def test_who_waits_comes_out_before_what_is_let_go_of_runs_code(stage):
    out, made, in_time = threading.Event(), threading.Event(), []

    class Waits:
        def __del__(self):
            in_time.append(out.wait(PATIENCE))

    def make(number):
        if number == 0:
            return stage(number)
        made.set()
        return Waits()

    def take():
        assert list(results) == []
        out.set()

    with ThreadPoolExecutor(2) as executor:
        results = executor.map(make, range(2))
        taker = threading.Thread(target=take)
        taker.start()
        assert made.wait(PATIENCE)
        until(lambda: counts(executor)[1] == 1)
        results.close()
        taker.join(PATIENCE)
        stage.go.set()
    assert in_time == [True]


@pytest.mark.parametrize("how", ["close", "drop"])
def test_results_that_were_not_taken_are_let_go_of(executor, how):
    known = []

    def make(number):
        thing = Thing()
        known.append(weakref.ref(thing))
        return thing

    results = executor.map(make, range(100))
    next(results)
    until(lambda: len(known) == 100)
    assert sum(ref() is not None for ref in known) >= 98
    if how == "close":
        results.close()
    else:
        del results
    until(lambda: all(ref() is None for ref in known), "the results to go", 5)


def test_a_knot_of_results_and_iterator_is_collected(executor):
    knot = []
    results = executor.map(knot.__iadd__, [[], [], []])  # each returns the knot
    until(lambda: counts(executor)[1] == 3)
    until(lambda: executor._lane.counts()[5] == 0)
    knot.append(results)
    thing = Thing()
    knot.append(thing)
    known = weakref.ref(thing)
    executor.shutdown()
    del knot, results, thing
    gc.collect()
    assert known() is None


def test_an_exception_is_not_kept_alive_by_its_own_traceback(executor):
    gc.collect()
    gc.disable()
    try:
        try:
            list(executor.map(calls.mishap_at_5000, range(5001)))
        except calls.Mishap as error:
            known = weakref.ref(error)
        until(lambda: known() is None, "the exception to go", patience=5)
    finally:
        gc.enable()


# --- forks -----------------------------------------------------------------------------------------------------------


def in_child(work):
    """Whether `work` is true in a fork of this process."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_a_child_has_the_results_that_are_there_and_is_refused_the_others(executor, stage):
    results = executor.map(lambda number: stage(number) if number > 2 else number, range(100))
    assert next(results) == 0
    until(lambda: len(stage.begun) == 2)
    until(lambda: counts(executor)[1] == 3)

    def look():
        assert [next(results), next(results)] == [1, 2]
        for use in (lambda: next(results), lambda: executor.map(calls.identity, [1])):
            with pytest.raises(RuntimeError, match="fork"):
                use()
        results.close()
        return True

    assert in_child(look)
    stage.go.set()
    assert list(results) == list(range(1, 100))


def test_a_child_may_drop_the_parents_iterator(executor, stage):
    box = [executor.map(lambda number: stage(number) if number else number, range(100))]
    assert next(box[0]) == 0
    until(lambda: len(stage.begun) == 2)
    assert in_child(lambda: box.clear() or gc.collect() >= 0)
    stage.go.set()
    assert list(box.pop()) == list(range(1, 100))
