"""`raddle.Pool` and the drop-in executors from outside: one behaviour, whatever the workers are."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import re
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

import calls
import raddle
import raddle.futures
from calls import until
from threads import start

# --- submit ---------------------------------------------------------------------------------------------------------


def test_a_call_returns_its_value(runner):
    assert runner.submit(calls.add, 2, 3).result() == 5


def test_positional_and_keyword_arguments_arrive_as_they_were_given(runner):
    assert runner.submit(calls.arguments).result() == ((), {})
    assert runner.submit(calls.arguments, 1, "two").result() == ((1, "two"), {})
    assert runner.submit(calls.arguments, a=1).result() == ((), {"a": 1})
    assert runner.submit(calls.arguments, 1, fn=2, self=3).result() == ((1,), {"fn": 2, "self": 3})


def test_a_call_that_raises_raises_from_its_future_with_traceback_and_type(runner):
    future = runner.submit(calls.fail, "no luck")
    with pytest.raises(ValueError, match="^no luck$") as caught:
        future.result()
    assert future.exception() is caught.value
    assert future.done()
    assert not future.cancelled()


def test_the_traceback_of_a_remote_exception_names_the_line_that_raised(runner, lane):
    error = runner.submit(calls.raise_chained).exception()
    if lane.in_processes:
        text = str(error.__cause__)
        assert "calls.py" in text
        assert "in raise_chained" in text
        assert "KeyError: 'the cause'" in text
    else:
        assert isinstance(error.__cause__, KeyError)


def test_calls_run_where_the_kind_says(runner, lane):
    there = runner.submit(calls.pid).result()
    assert (there != os.getpid()) == lane.in_processes


def test_many_calls_all_come_back_right(runner):
    futures = [runner.submit(calls.add, number, number) for number in range(2000)]
    assert [future.result() for future in futures] == [2 * number for number in range(2000)]


def test_every_worker_takes_part(lane, gate):
    with lane.make(3) as runner:
        futures = [runner.submit(gate, number) for number in range(3)]
        gate.wait_entered(3)
        gate.open()
        assert [future.result() for future in futures] == [0, 1, 2]


def test_every_worker_takes_part_after_calls_that_were_short(lane, gate):
    # What calls took so far says nothing about the next ones.
    with lane.make(3) as runner:
        for number in range(200):
            assert runner.submit(calls.identity, number).result() == number
        futures = [runner.submit(gate, number) for number in range(3)]
        gate.wait_entered(3)
        gate.open()
        assert [future.result() for future in futures] == [0, 1, 2]


def test_no_more_calls_run_at_once_than_there_are_workers(lane, gate):
    with lane.make(2) as runner:
        futures = [runner.submit(gate) for _ in range(5)]
        gate.wait_entered(2)
        assert not futures[4].done()
        assert gate.entered() == 2
        gate.open()


def test_results_wait_with_a_timeout_and_can_be_asked_for_again(runner, gate):
    future = runner.submit(gate, "late")
    for ask in (future.result, future.exception):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(timeout=0.05)
        assert 0.04 < time.monotonic() - started < 5
        with pytest.raises(TimeoutError):
            ask(0)
        with pytest.raises(TimeoutError):
            ask(-1)
    gate.open()
    assert future.result(timeout=30) == "late"
    assert future.exception(timeout=0) is None


def test_running_and_done_tell_where_a_call_is(lane, gate):
    with lane.make(1) as runner:
        first, second = runner.submit(gate), runner.submit(calls.identity)
        gate.wait_entered()
        until(first.running, "the first call to be seen running")
        assert not first.done()
        assert not second.done()
        gate.open()
        second.result()
        assert first.done()
        assert not first.running()


def test_a_program_may_ask_again_and_again_instead_of_waiting(lane):
    with lane.make(1) as runner:
        for ask in (
            lambda future: future.done(),
            lambda future: not future.running() and future.done(),
            lambda future: future._state == "FINISHED",
            lambda future: "state=finished returned int" in repr(future),
        ):
            assert runner.submit(calls.identity, 1).result() == 1
            future = runner.submit(calls.identity, 2)
            until(lambda ask=ask, future=future: ask(future), "the call to end", patience=3)
            assert future.result() == 2


# --- cancel ---------------------------------------------------------------------------------------------------------


def test_a_call_that_waits_can_be_cancelled_and_one_that_has_ended_cannot(lane, gate, tmp_path):
    with lane.make(1) as runner:
        first = runner.submit(gate, "first")
        gate.wait_entered()
        # The standard library's process pool hands one call more than it has workers to their queue.
        waiting = [runner.submit(calls.write, tmp_path / f"ran{number}", "") for number in range(4)]
        if lane.name != "process":  # there it is stopped, see test_control
            assert not first.cancel()
        assert waiting[3].cancel()
        assert waiting[3].cancelled()
        assert waiting[3].done()
        assert waiting[3].cancel(), "cancelling again says the same"
        for ask in (waiting[3].result, waiting[3].exception):
            with pytest.raises(CancelledError):
                ask()
        gate.open()
        assert first.result() == "first"
        assert not first.cancel()
        waiting[2].result()
    assert (tmp_path / "ran2").exists()
    assert not (tmp_path / "ran3").exists()


def test_a_call_that_was_cancelled_while_another_thread_waits_wakes_it(lane, gate):
    with lane.make(1) as runner:
        runner.submit(gate)
        gate.wait_entered()
        future = [runner.submit(calls.identity) for _ in range(3)][-1]
        heard = []

        def wait():
            try:
                future.result()
            except CancelledError:
                heard.append("cancelled")

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert future.cancel()
        waiter.join(30)
        assert heard == ["cancelled"]
        gate.open()


# --- callbacks ------------------------------------------------------------------------------------------------------


def test_callbacks_are_called_in_order_without_anybody_waiting(runner, gate):
    called = []
    future = runner.submit(gate, 1)
    for number in range(3):
        future.add_done_callback(lambda done, number=number: called.append((number, done)))
    assert called == []
    gate.open()
    until(lambda: len(called) == 3, "the callbacks")
    assert called == [(0, future), (1, future), (2, future)]


def test_a_callback_added_late_is_called_at_once(runner):
    future = runner.submit(calls.identity, 1)
    future.result()
    called = []
    future.add_done_callback(called.append)
    assert called == [future]


def test_a_callback_that_raises_is_logged_and_the_others_are_called(runner, gate, caplog):
    called = []
    future = runner.submit(gate)
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(called.append)
    gate.open()
    until(lambda: called, "the second callback")
    assert "exception calling callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_can_submit_again(runner):
    over = threading.Event()
    results = []

    def again(future):
        results.append(future.result())
        if len(results) < 5:
            runner.submit(calls.add, results[-1], 1).add_done_callback(again)
        else:
            over.set()

    runner.submit(calls.add, 0, 1).add_done_callback(again)
    assert over.wait(30)
    assert results == [1, 2, 3, 4, 5]


# --- map ------------------------------------------------------------------------------------------------------------


class Endless:
    """Numbers without end, that knows how far it was read."""

    def __init__(self):
        self.read = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.read += 1
        return self.read - 1


def test_map_gives_results_in_the_order_of_the_input(runner):
    assert list(runner.map(calls.add, range(500), range(500))) == [2 * number for number in range(500)]


def test_map_ends_with_the_shortest_input_and_reads_nothing_when_it_is_empty(runner):
    assert list(runner.map(calls.add, range(3), range(100))) == [0, 2, 4]
    assert list(runner.map(calls.add, [], range(100))) == []
    assert list(runner.map(calls.identity, [])) == []


def test_map_unordered_gives_the_same_results(pool):
    assert sorted(pool.map(calls.identity, range(500), ordered=False)) == list(range(500))
    assert list(pool.map(calls.identity, [], ordered=False)) == []


def test_map_unordered_does_not_wait_for_a_slow_first_call(pool, gate):
    results = pool.map(lambda value: gate(value) if value == 0 else value, range(4), ordered=False)
    assert sorted(itertools.islice(results, 3)) == [1, 2, 3]
    gate.open()
    assert list(results) == [0]


@pytest.mark.parametrize("ordered", [True, False])
def test_map_of_an_endless_input_reads_no_further_than_its_window(pool, ordered):
    numbers = Endless()
    results = pool.map(calls.identity, numbers, ordered=ordered, window=5)
    assert numbers.read == 5
    for taken in range(1, 50):
        next(results)
        assert numbers.read <= taken + 5
    results.close()
    assert numbers.read <= 54


@pytest.mark.parametrize("ordered", [True, False])
def test_map_of_an_endless_input_is_bounded_without_a_window_too(pool, ordered):
    numbers = Endless()
    results = pool.map(calls.identity, numbers, ordered=ordered)
    for _ in range(3000):
        next(results)
    assert numbers.read <= 3000 + 16384
    results.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_a_batch_whose_calls_turn_out_to_be_slow_is_handed_back_and_shared(pool, gate, ordered):
    # Hundreds of cheap calls make batches; after a slow one, two that only end together.
    results = pool.map(calls.slow_then_meet, range(3000), itertools.repeat(gate), ordered=ordered)
    seen = list(results)
    assert (seen if ordered else sorted(seen)) == list(range(3000))
    now = pool.statistics()
    assert (now.submitted, now.finished, now.failed, now.cancelled) == (3000, 3000, 0, 0)
    assert (now.pending, now.running) == (0, 0)


def test_what_a_batch_has_not_done_after_an_exception_counts_as_cancelled(pool):
    with pytest.raises(ValueError, match="^2500$"):
        list(pool.map(calls.fail_if, range(4000), itertools.repeat(2500)))
    until(lambda: pool.statistics().running == pool.statistics().pending == 0, "the other batches")
    now = pool.statistics()
    assert now.failed == 1
    assert now.submitted == now.finished + now.failed + now.cancelled


def test_several_threads_may_read_one_map(pool):
    results = pool.map(calls.identity, range(5000))
    taken = [[], []]

    def read(into):
        while True:
            try:
                into.append(next(results))
            except StopIteration:
                return
            except ValueError:  # as with a generator: the other thread is waiting for the next results
                continue

    readers = [threading.Thread(target=read, args=(into,)) for into in taken]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(30)
    assert sorted(taken[0] + taken[1]) == list(range(5000))


def test_a_map_that_was_closed_yields_nothing_more(pool):
    results = pool.map(calls.identity, range(5000))
    assert [next(results) for _ in range(100)] == list(range(100))
    results.close()
    assert list(results) == []


def test_map_starts_before_its_first_result_is_asked_for(pool, gate):
    results = pool.map(gate, range(3))
    gate.wait_entered(2)
    gate.open()
    assert list(results) == [0, 1, 2]


def test_map_keeps_every_worker_busy_with_a_window_as_wide_as_the_pool(pool, gate):
    results = pool.map(gate, range(4), window=2)
    gate.wait_entered(2)
    gate.open()
    assert list(results) == [0, 1, 2, 3]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_exception_in_map_comes_at_its_place_and_cancels_the_rest(pool, ordered):
    submitted = pool.statistics().submitted
    results = pool.map(calls.fail_if, itertools.count(), itertools.repeat(20), ordered=ordered, window=8)
    seen = []
    with pytest.raises(ValueError, match="^20$"):
        for value in results:
            seen.append(value)
    if ordered:
        assert seen == list(range(20))
    assert 20 not in seen
    assert next(results, "over") == "over"
    until(lambda: pool.statistics().pending == 0, "the rest to be cancelled")
    assert pool.statistics().submitted - submitted <= len(seen) + 8
    assert pool.submit(calls.add, 1, 1).result() == 2


def test_closing_the_iterator_cancels_what_has_not_started(kind, gate, tmp_path):
    with raddle.Pool(kind, 1) as pool:
        blocked = pool.submit(gate)
        gate.wait_entered()
        results = pool.map(calls.append, itertools.repeat(tmp_path / "ran"), ["x"] * 10)
        results.close()
        gate.open()
        blocked.result()
    assert not (tmp_path / "ran").exists()


def test_dropping_the_iterator_cancels_what_has_not_started(kind, gate, tmp_path):
    with raddle.Pool(kind, 1) as pool:
        blocked = pool.submit(gate)
        gate.wait_entered()
        results = pool.map(calls.append, itertools.repeat(tmp_path / "ran"), ["x"] * 10)
        del results
        gc.collect()
        gate.open()
        blocked.result()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ordered", [True, False])
def test_a_deadline_of_map_counts_from_the_call_of_map(pool, gate, ordered):
    started = time.monotonic()
    results = pool.map(gate, range(10), deadline=0.1, ordered=ordered)
    with pytest.raises(TimeoutError):
        next(results)
    assert 0.08 < time.monotonic() - started < 5
    assert next(results, "over") == "over"


def test_an_exception_of_the_input_reaches_the_caller_and_cancels(pool):
    def inputs():
        yield from range(3)
        raise OSError("the input is gone")

    with pytest.raises(OSError, match="the input is gone"):
        list(pool.map(calls.identity, inputs()))
    with pytest.raises(OSError, match="the input is gone"):
        list(pool.map(calls.identity, inputs(), ordered=False))
    assert pool.submit(calls.add, 1, 1).result() == 2


def test_results_are_let_go_of_as_they_are_taken(kind):
    class Big:
        pass

    with raddle.Pool(kind, 1) as pool:
        results = pool.map(lambda _: Big(), range(5))
        first = weakref.ref(next(results))
        next(results)
        gc.collect()
        assert first() is None
        results.close()


def test_map_inside_map_of_another_pool(kind):
    with raddle.Pool(kind, 2) as outer, raddle.Pool("thread", 2) as inner:
        numbers = inner.map(calls.identity, range(50))
        assert list(outer.map(calls.add, numbers, inner.map(calls.identity, range(50)))) == list(range(0, 100, 2))


def test_two_maps_of_one_pool_may_be_read_in_turns(pool):
    left, right = pool.map(calls.identity, range(300)), pool.map(calls.identity, range(300), ordered=False)
    pairs = list(zip(left, right, strict=True))
    assert [pair[0] for pair in pairs] == list(range(300))
    assert sorted(pair[1] for pair in pairs) == list(range(300))


# --- progress -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_progress_shows_a_bar_on_stderr_and_changes_no_result(pool, capsys, ordered):
    results = list(pool.map(calls.identity, range(30), progress=True, ordered=ordered))
    assert sorted(results) == list(range(30))
    assert "30/30 (100 %)" in capsys.readouterr().err


def test_progress_of_an_input_without_a_length_counts(pool, capsys):
    list(pool.map(calls.identity, (number for number in range(30)), progress=True))
    assert "30 done" in capsys.readouterr().err


# --- as_completed ---------------------------------------------------------------------------------------------------


def test_as_completed_gives_each_future_once_as_it_ends(pool, gate):
    slow = pool.submit(gate, "slow")
    quick = [pool.submit(calls.identity, number) for number in range(10)]
    ended = pool.as_completed([slow, *quick, *quick])
    assert {next(ended) for _ in quick} == set(quick)
    gate.open()
    assert list(ended) == [slow]


def test_as_completed_times_out_and_says_how_many_are_missing(pool, gate):
    futures = [pool.submit(gate), pool.submit(calls.identity, 1)]
    assert futures[1].result() == 1  # workers start in their own time
    ended = pool.as_completed(futures, timeout=0.2)
    assert next(ended) is futures[1]
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(ended)


# --- the end of a pool ----------------------------------------------------------------------------------------------


def test_leaving_the_block_waits_for_every_call(lane, tmp_path):
    with lane.make() as runner:
        for number in range(20):
            runner.submit(calls.write, tmp_path / str(number), "done")
    assert len(list(tmp_path.iterdir())) == 20


def test_after_shutdown_nothing_is_taken_and_results_stay(lane):
    runner = lane.make()
    future = runner.submit(calls.add, 1, 2)
    runner.shutdown()
    assert future.result() == 3
    with pytest.raises(RuntimeError, match="after shutdown"):
        runner.submit(calls.add, 1, 2)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(runner.map(calls.add, [1], [2]))
    runner.shutdown()


def test_a_pool_that_was_never_used_ends_at_once(lane):
    with lane.make():
        pass
    lane.make().shutdown(wait=False)


@pytest.mark.parametrize("calls_first", [0, 1, 20])
@pytest.mark.parametrize("make", [lambda: raddle.Pool("thread", 4), lambda: raddle.futures.ThreadPoolExecutor(4)])
def test_after_a_shutdown_that_waits_every_thread_is_over(make, calls_first):
    for _ in range(20):
        before = set(threading.enumerate())
        runner = make()
        for number in range(calls_first):
            runner.submit(calls.identity, number)
        ours = set(threading.enumerate()) - before
        runner.shutdown()
        assert not any(thread.is_alive() for thread in ours)
        assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("make", [lambda: raddle.Pool("thread", 2), lambda: raddle.futures.ThreadPoolExecutor(2)])
def test_a_call_that_waits_for_the_end_of_its_own_thread_is_told(make):
    runner = make()
    runner.submit(calls.identity).result(20)
    with pytest.raises(RuntimeError, match="join current thread"):
        runner.submit(runner.shutdown).result(20)
    runner.shutdown()


def test_a_thread_that_waits_for_the_end_of_a_pool_can_be_stopped(gate):
    pool = raddle.Pool("thread", 1)
    pool.submit(gate)
    gate.wait_entered()
    raised = []

    def end():
        try:
            pool.shutdown()
        except raddle.Stopped as stopped:
            raised.append(stopped)

    ending = start(end)
    assert raddle.stop(ending)  # in the wait, or before it
    ending.join(20)
    assert len(raised) == 1
    gate.open()
    pool.shutdown()


def test_shutdown_without_waiting_returns_and_the_calls_end_all_the_same(lane, gate):
    runner = lane.make(1)
    futures = [runner.submit(gate, number) for number in range(3)]
    gate.wait_entered()
    runner.shutdown(wait=False)
    assert not futures[0].done()
    gate.open()
    assert [future.result(30) for future in futures] == [0, 1, 2]
    runner.shutdown()


def test_shutdown_with_cancel_futures_cancels_what_has_not_started(lane, gate):
    runner = lane.make(1)
    futures = [runner.submit(gate, number) for number in range(6)]
    gate.wait_entered()
    runner.shutdown(wait=False, cancel_futures=True)
    assert futures[5].cancelled()
    gate.open()
    runner.shutdown()
    assert futures[0].result() == 0
    assert all(future.cancelled() for future in futures[2:])


def test_an_exception_in_the_block_cancels_what_has_not_started_and_goes_on(kind, gate):
    futures = []
    with pytest.raises(ZeroDivisionError):
        with raddle.Pool(kind, 1) as pool:
            futures += [pool.submit(gate, number) for number in range(5)]
            gate.wait_entered()
            threading.Timer(0, lambda: until(futures[4].cancelled) and gate.open()).start()
            raise ZeroDivisionError
    assert futures[0].result(0) == 0
    assert all(future.cancelled() for future in futures[1:])


def test_a_dropped_pool_ends_its_workers_when_they_have_done_their_calls(kind, tmp_path):
    pool = raddle.Pool(kind, 2, name="dropped")
    futures = [pool.submit(calls.identity, number) for number in range(10)]
    pids = {pool.submit(calls.pid).result() for _ in range(10)} - {os.getpid()}
    seen = weakref.ref(pool)
    del pool
    gc.collect()
    assert seen() is None
    assert [future.result(30) for future in futures] == list(range(10))
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the worker processes to end")
    until(lambda: not any(thread.name.startswith("dropped") for thread in threading.enumerate()), "the threads to end")


def test_a_pool_whose_first_caller_thread_has_ended_goes_on(process_lane):
    # The kernel ties a child to the thread that started it, not to the process.
    with process_lane.make(2) as runner:
        pids = []
        thread = threading.Thread(target=lambda: pids.append(runner.submit(calls.pid).result()))
        thread.start()
        thread.join()
        assert runner.submit(calls.add, 1, 1).result(30) == 2
        assert os.path.exists(f"/proc/{pids[0]}")


# --- many threads at once -------------------------------------------------------------------------------------------


def in_threads(count, work):
    """Runs `work(number)` in `count` threads at once; raises what the first of them raised."""
    errors = []
    start = threading.Barrier(count)

    def run(number):
        try:
            start.wait(30)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(45)
    assert not any(thread.is_alive() for thread in threads), "a wake-up was lost"
    if errors:
        raise errors[0]


def test_sixteen_threads_submit_and_wait_at_once(runner):
    def work(number):
        for step in range(200):
            assert runner.submit(calls.add, number, step).result(30) == number + step

    in_threads(16, work)


def test_threads_wait_for_each_others_futures(runner):
    futures = [runner.submit(calls.add, number, 1) for number in range(400)]

    def work(number):
        order = futures if number % 2 else futures[::-1]
        assert [future.result(30) for future in order] == [order[i].result() for i in range(400)]
        assert {future.result() for future in futures} == set(range(1, 401))

    in_threads(8, work)


def test_threads_mix_maps_callbacks_and_as_completed_on_one_pool(pool):
    def work(number):
        for _ in range(5):
            if number % 3 == 0:
                assert list(pool.map(calls.identity, range(60))) == list(range(60))
            elif number % 3 == 1:
                futures = [pool.submit(calls.identity, value) for value in range(60)]
                assert sorted(f.result() for f in pool.as_completed(futures, 30)) == list(range(60))
            else:
                called = []
                for value in range(60):
                    pool.submit(calls.identity, value).add_done_callback(lambda f: called.append(f.result()))
                until(lambda: len(called) == 60, "the callbacks")
                assert sorted(called) == list(range(60))

    in_threads(6, work)


# --- initializer ----------------------------------------------------------------------------------------------------


def test_the_initializer_runs_once_in_each_worker_before_its_first_call(process_lane, gate):
    with process_lane.make(2, initializer=calls.initialize, initargs=("set up",)) as runner:
        futures = [runner.submit(gate) for _ in range(2)]
        gate.wait_entered(2)
        gate.open()
        assert [future.result() for future in futures] == [None, None]
        for _ in range(20):
            assert runner.submit(calls.initialized).result() == ["set up"]


def test_the_initializer_runs_in_each_thread(lane, gate):
    if lane.in_processes:
        pytest.skip("threads only; processes have a test of their own")
    names = []
    with lane.make(2, initializer=lambda: names.append(calls.thread_name())) as runner:
        futures = [runner.submit(gate) for _ in range(2)]
        gate.wait_entered(2)
        gate.open()
        for future in futures:
            future.result()
    assert len(set(names)) == len(names) == 2


def test_an_initializer_of_a_pool_may_be_a_closure(kind):
    mark = "seen by the worker"

    def set_up():
        sys.modules["calls"].tell = lambda: mark

    def ask():
        return sys.modules["calls"].tell()

    import calls  # noqa: F401  the closure finds it in sys.modules

    with raddle.Pool(kind, 1, initializer=lambda: (__import__("calls"), set_up())) as pool:
        assert pool.submit(ask).result() == mark


# --- what a pool says of itself -------------------------------------------------------------------------------------


def adds_up(statistics):
    ended = statistics.finished + statistics.failed + statistics.cancelled
    return statistics.submitted == ended + statistics.pending + statistics.running


def test_statistics_add_up_while_calls_run_and_afterwards(kind, gate):
    with raddle.Pool(kind, 1) as pool:
        assert adds_up(pool.statistics())
        assert pool.statistics().submitted == 0
        running = pool.submit(gate)
        gate.wait_entered()
        waiting = [pool.submit(calls.identity, number) for number in range(4)]
        failing = pool.submit(calls.fail)
        now = until(lambda: (seen := pool.statistics()).running == 1 and seen, "the call to be seen running")
        assert (now.kind, now.submitted, now.pending, now.finished) == (kind, 6, 5, 0)
        assert adds_up(now)
        assert waiting[0].cancel()
        now = pool.statistics()
        assert (now.cancelled, now.pending) == (1, 4)
        assert adds_up(now)
        gate.open()
        running.result()
        assert failing.exception() is not None
        for future in waiting[1:]:
            future.result()
    then = pool.statistics()
    assert (then.submitted, then.finished, then.failed, then.cancelled) == (6, 4, 1, 1)
    assert (then.pending, then.running, then.died, then.workers) == (0, 0, 0, 0)
    assert adds_up(then)


def test_statistics_add_up_after_a_shutdown_that_cancels(kind, gate):
    pool = raddle.Pool(kind, 1)
    futures = [pool.submit(gate) for _ in range(10)]
    gate.wait_entered()
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    pool.shutdown()
    then = pool.statistics()
    assert then.cancelled == sum(future.cancelled() for future in futures) == 9
    assert then.finished == 1
    assert adds_up(then)


def test_statistics_count_what_could_not_be_pickled_as_failed():
    with raddle.Pool("process", 1) as pool:
        assert pool.submit(calls.identity, threading.Lock()).exception() is not None
        assert pool.submit(calls.result_that_cannot_be_pickled).exception() is not None
        now = pool.statistics()
        assert (now.submitted, now.failed) == (2, 2)
        assert adds_up(now)


def test_busy_seconds_measure_the_calls_and_not_the_waiting(pool):
    before = time.monotonic()
    pool.submit(time.sleep, 0.1).result()
    spent = time.monotonic() - before
    now = pool.statistics()
    assert 0.1 <= now.busy_seconds <= spent
    assert now.wall_seconds >= 0.1


def test_statistics_cannot_be_changed(pool):
    with pytest.raises(AttributeError):
        pool.statistics().submitted = 7


def test_repr_shows_name_state_workers_and_calls(kind, gate):
    pool = raddle.Pool(kind, 2, name="mill")
    assert repr(pool) == f"<Pool 'mill' open, 0/2 {kind} workers, 0 running, 0 pending>"
    futures = [pool.submit(gate) for _ in range(5)]
    gate.wait_entered(2)
    expected = f"<Pool 'mill' open, 2/2 {kind} workers, 2 running, 3 pending>"
    until(lambda: repr(pool) == expected, f"{expected}, not {pool!r}")
    gate.open()
    for future in futures:
        future.result()
    pool.shutdown()
    assert repr(pool) == f"<Pool 'mill' closed, 0/2 {kind} workers, 0 running, 0 pending>"


def test_pools_without_a_name_are_numbered(kind):
    left, right = raddle.Pool(kind), raddle.Pool(kind)
    assert re.fullmatch(rf"{kind}-pool-\d+", left.name)
    assert left.name != right.name
    left.shutdown()
    right.shutdown()


def test_the_threads_of_a_pool_carry_its_name():
    with raddle.Pool("thread", 1, name="mill") as pool:
        assert pool.submit(calls.thread_name).result() == "mill_0"


def test_a_pool_has_as_many_workers_as_the_process_has_cpus(kind):
    with raddle.Pool(kind) as pool:
        assert pool.workers == len(os.sched_getaffinity(0))


def test_kind_workers_and_name_can_be_read(kind):
    with raddle.Pool(kind, 3, name="mill") as pool:
        assert (pool.kind, pool.workers, pool.name) == (kind, 3, "mill")


def test_a_pool_cannot_be_pickled_and_says_why(pool):
    with pytest.raises(TypeError, match=r"<Pool .*> cannot be sent to another process\n  hint: "):
        pickle.dumps(pool)


# --- what is printed ------------------------------------------------------------------------------------------------


def test_what_calls_print_arrives_complete_and_in_order(script):
    ended = script("""
        import raddle, calls

        with raddle.Pool("process", 1, output="inherit") as pool:
            list(pool.map(calls.print_lines, range(0, 1000, 10), [10] * 100))
        print("the end")
    """).run()
    assert ended.err == ""
    assert ended.out.splitlines() == [*(f"line {number}" for number in range(1000)), "the end"]


def test_what_several_workers_print_arrives_complete(script):
    # Buffers of several processes meet in one pipe at arbitrary places, so what can be compared is the characters;
    # lines that are flushed one by one arrive as lines.
    ended = script("""
        import raddle, calls

        with raddle.Pool("process", 2, output="inherit") as pool:
            list(pool.map(calls.print_lines, range(0, 1000, 10), [10] * 100))
    """).run()
    assert ended.err == ""
    assert sorted(ended.out) == sorted("".join(f"line {number}\n" for number in range(1000)))

    ended = script("""
        import raddle

        with raddle.Pool("process", 2, output="inherit") as pool:
            list(pool.map(lambda number: print("line", number, flush=True), range(1000)))
    """).run()
    assert ended.err == ""
    assert sorted(ended.out.splitlines()) == sorted(f"line {number}" for number in range(1000))
