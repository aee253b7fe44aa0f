"""`map` of the process drop-in: a worker gets many items at once, and yet each of them is a call of its own."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import operator
import os
import pickle
import random
import signal
import threading
import time

import pytest

import raddle
from calls import PATIENCE, until
from raddle.futures import BrokenProcessPool, ProcessPoolExecutor

NUMBERS = ("submitted", "finished", "failed", "cancelled", "died", "pending", "running")


@pytest.fixture
def executor():
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        yield executor


@pytest.fixture
def log(tmp_path):
    """A file to which each call appends a byte."""
    path = tmp_path / "log"
    path.touch()
    return path


def counts(executor):
    return dict(zip(NUMBERS, executor._lane.counts(), strict=False))


def settle(executor):
    """The counts, once nothing is under way."""
    return until(lambda: (now := counts(executor))["pending"] == now["running"] == 0 and now, "the calls to end")


def note(path):
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(file, b".")
    os.close(file)


def noted(argument):
    value, path = argument
    note(path)
    return value


def wait_for(path):
    until(lambda: os.path.exists(path), f"{path}")


def teach(executor):
    """Has the pool learn that the calls are cheap, as `map` of a fresh function does with its first items."""
    return list(executor.map(operator.neg, range(500)))


def meet(argument):
    """Most calls return at once; one leaves a file for another that waits for it."""
    value, made, awaited = argument
    if made:
        open(made, "x").close()
    if awaited:
        wait_for(awaited)
    return value


def odd_ones_raise(value):
    if value % 2:
        raise ValueError(value)
    return value


def sleepy(argument):
    value, seconds = argument
    time.sleep(seconds)
    return value


def large(value):
    return bytes([value % 256]) * 20_000


def same(value):
    return value


def pair(left, right):
    return left, right


def own_pid(_):
    return os.getpid()


def die_at(argument):
    value, victim = argument
    if value == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def fork_at(value):
    if value == 300:
        os.fork()
    return value


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("stays here")


class Unreadable:
    def __reduce__(self):
        return operator.truediv, (1, 0)


class Carrier:
    """An object whose content travels beside its pickle."""

    def __init__(self, content):
        self.content = content

    def __reduce_ex__(self, protocol):
        return Carrier, (pickle.PickleBuffer(self.content),)


def content_of(carrier):
    return carrier if isinstance(carrier, int) else bytes(carrier.content)[:1]


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [0, 1, 2, 15, 16, 17, 1000, 30_000])
def test_results_come_in_order(executor, many):
    assert list(executor.map(same, range(many))) == list(range(many))
    assert list(executor.map(same, iter(range(many)))) == list(range(many))
    assert settle(executor)["finished"] == 2 * many


def test_all_sorts_of_values_travel(executor):
    values = [None, True, 2**80, 1.5, "text", b"bytes", (1, ("two",)), [1, [2]], {"a": {"b"}}, range(3), 1j] * 300
    assert list(executor.map(same, values)) == values


def test_several_iterables_make_several_arguments(executor):
    assert list(executor.map(pair, range(5000), "ab" * 5000)) == list(zip(range(5000), "ab" * 2500, strict=True))


def test_results_that_are_large_together_come_in_several_answers(executor):
    assert list(executor.map(large, range(1000))) == [large(value) for value in range(1000)]
    assert settle(executor)["finished"] == 1000


def test_items_with_large_buffers_keep_their_places(executor):
    items = [Carrier(bytearray([value % 256]) * 100_000) if value % 50 == 7 else value for value in range(400)]
    assert list(executor.map(content_of, items)) == [content_of(item) for item in items]


def test_several_threads_take_from_one_iterator(executor):
    results, taken = executor.map(same, range(20_000)), []

    def take():
        mine = list(results)
        taken.append(mine)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(value for mine in taken for value in mine) == list(range(20_000))
    assert all(mine == sorted(mine) for mine in taken)


def test_several_threads_map_at_once(executor):
    results = {}

    def use(number):
        results[number] = sum(executor.map(same, range(number, number + 5000)))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == {number: sum(range(number, number + 5000)) for number in range(4)}


# --- every item is a call of its own ----------------------------------------------------------------------------------


def test_all_calls_run_although_nobody_takes_results(executor, log):
    executor.map(noted, [(value, log) for value in range(3000)])
    until(lambda: log.stat().st_size == 3000, "all calls to run")
    assert settle(executor)["finished"] == 3000


def test_a_pool_that_was_shut_down_does_what_was_handed_in(log):
    executor = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    teach(executor)
    results = executor.map(noted, [(value, log) for value in range(3000)])
    executor.shutdown(wait=False)
    assert list(results) == list(range(3000))
    executor.shutdown()
    assert log.stat().st_size == 3000


def test_leaving_the_block_waits_for_all_calls(log):
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        executor.map(noted, [(value, log) for value in range(3000)])
    assert log.stat().st_size == 3000


def test_the_calls_of_a_map_whose_pool_was_dropped_run(log):
    executor = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    results = executor.map(noted, [(value, log) for value in range(3000)])
    del executor
    gc.collect()
    assert list(results) == list(range(3000))


def test_an_item_may_wait_for_one_behind_it(executor, tmp_path):
    for value in (3, 700, 1500, 2900):
        path = str(tmp_path / str(value))
        items = [(value, None, None) for value in range(3000)]
        items[value], items[value + 1] = (value, None, path), (value + 1, path, None)
        assert list(executor.map(meet, items)) == list(range(3000))


def test_what_is_behind_a_slow_item_is_done_by_others(executor, tmp_path):
    path = str(tmp_path / "last")
    items = [(value, None, None) for value in range(5000)]
    items[1000], items[-1] = (1000, None, path), (4999, path, None)
    assert list(executor.map(meet, items)) == list(range(5000))


def test_calls_that_turn_slow_are_shared(executor):
    items = [(value, 0.003 if value >= 2000 else 0) for value in range(2200)]
    pids = list(executor.map(sleepy, items))
    assert pids == list(range(2200))
    workers = set(executor.map(own_pid, range(3000)))
    assert workers <= set(executor._processes)


def test_a_call_begins_while_the_rest_of_the_input_is_read(executor, tmp_path):
    path = str(tmp_path / "first")

    def items():
        yield 0, path, None
        wait_for(path)
        for value in range(1, 1000):
            yield value, None, None

    assert list(executor.map(meet, items())) == list(range(1000))


def test_what_is_submitted_later_comes_later(log):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        results = executor.map(noted, [(value, log) for value in range(2000)])
        assert executor.submit(os.path.getsize, log).result() == 2000
        executor.map(noted, ((value, log) for value in range(2000)))
        assert executor.submit(os.path.getsize, log).result() == 4000
        assert list(results) == list(range(2000))


def test_what_the_input_raises_comes_out_of_map_and_what_was_read_runs(executor, log):
    def items():
        for value in range(1000):
            yield value, log
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        executor.map(noted, items())
    until(lambda: log.stat().st_size == 1000, "what was read to run")


# --- failures ---------------------------------------------------------------------------------------------------------


def test_an_exception_is_raised_at_its_place_and_ends_the_iteration(executor):
    results = executor.map(odd_ones_raise, [0] * 700 + [1] + [0] * 700)
    assert [next(results) for _ in range(700)] == [0] * 700
    with pytest.raises(ValueError, match="1") as raised:
        next(results)
    assert "odd_ones_raise" in str(raised.value.__cause__)
    assert list(results) == []


def test_an_exception_does_not_keep_others_from_running(executor):
    executor.map(odd_ones_raise, range(2000))
    now = settle(executor)
    assert (now["finished"], now["failed"], now["cancelled"]) == (1000, 1000, 0)


def test_an_exception_may_be_a_result(executor):
    results = list(executor.map(ValueError, range(300)))
    assert [type(result) for result in results] == [ValueError] * 300


def test_what_cannot_be_pickled_fails_at_its_place_only(executor):
    results = executor.map(type, [1] * 500 + [Unpicklable()] + [1] * 500)
    assert [next(results) for _ in range(500)] == [int] * 500
    with pytest.raises(RuntimeError, match="stays here"):
        next(results)
    assert teach(executor)
    executor.map(same, [1] * 500 + [Unpicklable()] + [1] * 500)
    assert settle(executor)["failed"] == 2


def test_a_result_that_cannot_be_pickled_fails_at_its_place_only(executor):
    results = executor.map(iter, [()] * 300 + [open])  # `iter(open)` raises
    assert len([next(results) for _ in range(300)]) == 300
    with pytest.raises(TypeError):
        next(results)
    results = executor.map(make, [0] * 300 + [1])
    assert [next(results) for _ in range(300)] == [0] * 300
    with pytest.raises((TypeError, pickle.PicklingError)):
        next(results)


def make(what):
    return threading.Lock() if what else what


def test_a_function_that_cannot_be_pickled_fails_at_the_first_place(executor):
    results = executor.map(lambda value: value, range(10))
    with pytest.raises((pickle.PicklingError, AttributeError)):
        next(results)


def test_what_a_worker_cannot_read_breaks_the_pool():
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        results = executor.map(same, [1] * 600 + [Unreadable()] + [1] * 600)
        with pytest.raises(BrokenProcessPool):
            list(results)
        with pytest.raises(BrokenProcessPool):
            executor.submit(same, 1)


def test_a_process_that_a_call_forked_off_does_not_answer(executor):
    assert list(executor.map(fork_at, range(1000))) == list(range(1000))


# --- ends -------------------------------------------------------------------------------------------------------------


def test_closing_the_iterator_cancels_what_waits(executor, gate):
    results = executor.map(gate, range(5000))
    taker = threading.Thread(target=lambda: next(results, None))
    taker.start()
    until(lambda: counts(executor)["running"] == 2, "two calls to run")
    results.close()
    assert counts(executor)["cancelled"] >= 4990
    gate.open()
    taker.join(PATIENCE)
    now = settle(executor)
    assert now["finished"] + now["cancelled"] == 5000
    assert list(results) == []


def test_results_before_a_slow_item_do_not_wait_for_it(executor, tmp_path):
    for value in (1, 700, 1490, 2999):
        path = str(tmp_path / str(value))
        results = executor.map(meet, [(at, None, path if at == value else None) for at in range(3000)])
        assert [next(results) for _ in range(value)] == list(range(value))
        open(path, "x").close()
        assert list(results) == list(range(value, 3000))
    assert settle(executor)["finished"] == 4 * 3000


def test_closing_takes_items_out_of_a_piece_that_runs(executor, tmp_path):
    path = str(tmp_path / "go")
    items = [(value, None, path if value >= 1000 else None) for value in range(3000)]
    results = executor.map(meet, items)
    assert [next(results) for _ in range(900)] == list(range(900))
    results.close()
    open(path, "x").close()
    now = settle(executor)
    assert now["finished"] + now["cancelled"] == 3000
    assert now["cancelled"] > 1000


def test_an_iterator_that_was_never_begun_cancels_nothing(executor, log):
    results = executor.map(noted, [(value, log) for value in range(2000)])
    del results
    until(lambda: log.stat().st_size == 2000, "all calls to run")


def test_dropping_an_iterator_that_was_begun_cancels_what_waits(executor):
    results = executor.map(sleepy, [(0, 0)] + [(1, 0.05)] * 3000)
    assert next(results) == 0
    del results
    now = settle(executor)
    assert now["cancelled"] > 2900


def test_shutdown_cancels_what_waits_and_its_places_say_so():
    executor = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    results = executor.map(sleepy, [(value, 0 if value < 500 else 0.02) for value in range(3000)])
    assert next(results) == 0
    executor.shutdown(cancel_futures=True)
    taken = []
    with pytest.raises(concurrent.futures.CancelledError):
        taken.extend(results)
    assert list(results) == []
    now = counts(executor)
    assert now["finished"] + now["cancelled"] == 3000
    assert now["cancelled"] > 2000


def test_a_pool_that_is_shut_down_takes_no_map(executor):
    executor.shutdown()
    assert list(executor.map(same, [])) == []
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(same, range(10))


def test_a_timeout_ends_the_iteration_and_cancels_what_waits(executor, gate):
    results = executor.map(gate, range(3000), timeout=0.05)
    with pytest.raises(TimeoutError):
        list(results)
    assert list(results) == []
    assert counts(executor)["cancelled"] >= 2990
    gate.open()


def test_an_interrupt_ends_the_iteration_and_cancels_what_waits(executor, gate):
    results = executor.map(gate, range(3000))
    main, waits = threading.main_thread().ident, threading.Event()

    def interrupt():
        waits.wait(PATIENCE)
        until(lambda: counts(executor)["running"] == 2, "two calls to run")
        time.sleep(0.3)  # by now the main thread is in its wait
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        waits.set()
        list(results)
    thread.join(PATIENCE)
    assert list(results) == []
    assert counts(executor)["cancelled"] >= 2990
    gate.open()


@pytest.mark.parametrize("all_have_come", [True, False])
def test_an_iterator_in_a_forked_child_says_whose_it_is(executor, all_have_come):
    results = executor.map(same, range(5000))
    assert next(results) == 0
    if all_have_come:
        until(lambda: counts(executor)["finished"] == 5000, "every call to end")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in results:
                pass
        except RuntimeError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(results) == list(range(1, 5000))


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [0, 3, 700, 2999])
def test_a_workers_death_breaks_the_pool(victim):
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        results = executor.map(die_at, [(value, victim) for value in range(3000)])
        taken = []
        with pytest.raises(BrokenProcessPool):
            taken.extend(results)
        assert list(results) == []
        with pytest.raises(BrokenProcessPool):
            executor.map(same, range(10))


def test_workers_that_are_killed_at_any_moment_leave_nobody_waiting():
    chance = random.Random(16)
    for _ in range(25):
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
            teach(executor)
            victim = chance.choice(list(executor._processes))
            timer = threading.Timer(chance.uniform(0, 0.01), os.kill, (victim, signal.SIGKILL))
            timer.start()
            taken = []
            try:
                for value in executor.map(same, range(chance.choice([100, 5000, 40_000]))):
                    taken.append(value)
            except BrokenProcessPool:
                pass
            assert taken == list(range(len(taken)))
            timer.join()


# --- workers ----------------------------------------------------------------------------------------------------------


def test_a_map_has_as_many_workers_started_as_have_something_to_do():
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as executor:
        assert list(executor.map(same, range(50))) == list(range(50))
        assert len(executor._processes) == 3
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as executor:
        assert list(executor.map(same, range(1))) == [0]
        assert len(executor._processes) == 1


def test_a_worker_is_replaced_after_so_many_items():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=3) as executor:
        pids = list(executor.map(own_pid, range(7)))
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_an_overridden_submit_is_asked_for_each_item():
    class Counting(ProcessPoolExecutor):
        calls = 0

        def submit(self, fn, /, *args, **kwargs):
            self.calls += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(1, multiprocessing.get_context("fork")) as executor:
        assert list(executor.map(same, range(100))) == list(range(100))
        assert executor.calls == 100


def test_statistics_count_items(executor):
    assert list(executor.map(same, range(4000)))[-1] == 3999
    numbers, workers = executor._lane.report()
    assert numbers[:4] == (4000, 4000, 0, 0)
    assert sum(worker[2] for worker in workers) == 4000


def test_a_pool_as_an_executor_is_not_concerned():
    with raddle.Pool("process", workers=2) as pool:
        assert list(pool.executor().map(same, range(100))) == list(range(100))
