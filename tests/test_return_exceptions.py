"""`map` and `amap` with `return_exceptions=True`: what a call raises stands where its result would, and the others go on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import threading
import time
import weakref

import pytest

import calls
import raddle

#: Enough cheap calls that most of them travel in batches.
MANY = 6000

both_orders = pytest.mark.parametrize("ordered", [True, False])


def fail_at_thirds(number):
    if number % 3 == 0:
        raise ValueError(number)
    return number


def die_at_2(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_at_5000(number):
    if number == 5000:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave_at_2(number):
    if number == 2:
        raise SystemExit(number)
    return number


def unpicklable_at_2(number):
    return threading.Lock() if number == 2 else number


class Fragile:
    """Cannot be unpickled in another process than the one it was made in."""

    def __init__(self, number):
        self.made_in = os.getpid()
        self.number = number

    def __setstate__(self, state):
        if state["made_in"] != os.getpid():
            raise ValueError("made elsewhere")


def fragile_at_2(number):
    return Fragile(number) if number == 2 else number


class Fall(Exception):
    """Unlike those that are built in, it can be watched."""


def fall(number):
    raise Fall(number)


def kinds_of(values):
    return [type(value).__name__ if isinstance(value, BaseException) else value for value in values]


@both_orders
@pytest.mark.parametrize("window", [None, 16])
def test_each_item_has_a_result_or_its_exception(pool, ordered, window):
    found = list(pool.map(fail_at_thirds, range(MANY), ordered=ordered, window=window, return_exceptions=True))
    numbers = [value.args[0] if isinstance(value, ValueError) else value for value in found]
    assert (numbers if ordered else sorted(numbers)) == list(range(MANY))
    assert sorted(value.args[0] for value in found if isinstance(value, ValueError)) == list(range(0, MANY, 3))


def test_what_fails_does_not_cut_batches_short(pool):
    with pool.trace() as trace:
        for _ in pool.map(fail_at_thirds, range(20_000), return_exceptions=True):
            pass
    assert sum(call.items for call in trace.calls()) == 20_000
    # Most calls travel in long batches; one in three fails.
    assert len(trace) < 2_000
    numbers = pool.statistics()
    assert (numbers.finished + numbers.failed, numbers.failed) == (20_000, 6_667)
    assert (numbers.cancelled, numbers.pending) == (0, 0)
    workers = numbers.per_worker
    assert (sum(worker.calls for worker in workers), sum(worker.failed for worker in workers)) == (20_000, 6_667)


def test_an_exception_of_a_process_has_its_remote_traceback():
    with raddle.Pool("process", 1) as pool:
        for window in (1, None):
            found = list(pool.map(fail_at_thirds, range(MANY), window=window, return_exceptions=True))
            assert all("in fail_at_thirds" in str(error.__cause__) for error in found[::3])


def test_with_several_inputs(pool):
    found = list(pool.map(divmod, range(MANY), [0, 1] * (MANY // 2), return_exceptions=True))
    assert kinds_of(found[:4]) == ["ZeroDivisionError", (1, 0), "ZeroDivisionError", (3, 0)]
    assert kinds_of(found).count("ZeroDivisionError") == MANY // 2


@pytest.mark.parametrize("count", [5, MANY])
@pytest.mark.parametrize(
    ("call", "kind"), [(unpicklable_at_2, "TypeError"), (fragile_at_2, "ValueError"), (leave_at_2, "SystemExit")]
)
def test_every_failure_is_of_its_own_item(call, kind, count):
    with raddle.Pool("process", 1) as pool:
        list(pool.map(calls.identity, range(MANY)))  # it knows that calls are cheap
        found = list(pool.map(call, range(count), return_exceptions=True))
    assert kinds_of(found) == [kind if number == 2 else number for number in range(count)]


def test_arguments_that_cannot_be_sent_or_read_fail_their_own_item():
    inputs = [0, threading.Lock(), Fragile(2), *range(3, MANY)]
    with raddle.Pool("process", 1) as pool:
        list(pool.map(calls.identity, range(MANY)))
        found = list(pool.map(calls.identity, inputs, return_exceptions=True))
    assert kinds_of(found) == [0, "TypeError", "ValueError", *range(3, MANY)]


@both_orders
def test_a_dead_worker_fails_the_call_that_it_ran(ordered):
    with raddle.Pool("process", 2) as pool:
        found = list(pool.map(die_at_2, range(20), ordered=ordered, window=4, return_exceptions=True))
    assert sorted(kinds_of(found), key=str) == sorted(["WorkerDied", 0, 1, *range(3, 20)], key=str)


def test_a_dead_worker_fails_each_item_of_its_batch_and_no_other():
    with raddle.Pool("process", 2) as pool:
        found = list(pool.map(die_at_5000, range(20_000), return_exceptions=True))
        assert len(found) == 20_000
        lost = [number for number, value in enumerate(found) if isinstance(value, raddle.WorkerDied)]
        assert 5000 in lost
        assert lost == list(range(lost[0], lost[-1] + 1))
        assert all(value == number for number, value in enumerate(found) if number not in set(lost))


def test_a_call_that_runs_for_too_long_is_one_of_them():
    with raddle.Pool("process", 2) as pool:
        found = list(pool.map(calls.nap_if_5, range(10), timeout=0.3, return_exceptions=True))
        assert kinds_of(found) == [0, 1, 2, 3, 4, "CallTimeout", 6, 7, 8, 9]
        found = list(pool.options(timeout=0.3).map(calls.nap_if_5, range(7), return_exceptions=True))
        assert kinds_of(found) == [0, 1, 2, 3, 4, "CallTimeout", 6]


@both_orders
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_deadline_says_so_also_of_calls_that_have_not_begun(kind, ordered, return_exceptions, gate):
    with raddle.Pool(kind, 1) as pool:
        held = pool.submit(gate, 0)
        gate.wait_entered()
        inputs = [1, 2, 3]
        results = pool.map(calls.identity, inputs, ordered=ordered, deadline=0.05, return_exceptions=return_exceptions)
        with pytest.raises(TimeoutError, match="calls of this map have not ended in time"):
            next(results)
        gate.open()
        assert held.result() == 0


@both_orders
def test_a_deadline_is_the_deadline_of_all(pool, ordered, gate):
    results = pool.map(calls.call_it, [(gate, 0)], ordered=ordered, deadline=0.2, return_exceptions=True)
    with pytest.raises(TimeoutError, match="1 calls of this map have not ended in time"):
        next(results)
    gate.open()


@both_orders
def test_a_timeout_that_a_call_raises_is_its_own(pool, ordered):
    found = list(pool.map(calls.raise_timeout, range(3), ordered=ordered, deadline=60, return_exceptions=True))
    assert kinds_of(found) == ["TimeoutError"] * 3


@both_orders
def test_what_the_input_raises_is_nobodys_result(pool, ordered):
    def source():
        yield from range(5)
        raise ZeroDivisionError

    found = []
    with pytest.raises(ZeroDivisionError):
        for value in pool.map(fail_at_thirds, source(), ordered=ordered, return_exceptions=True):
            found.append(value)  # what came before it counts
    assert len(found) == 5


def test_a_pool_that_cannot_be_set_up_ends_the_map(kind):
    with raddle.Pool(kind, 1, initializer=calls.fail) as pool, pytest.raises(raddle.BrokenPool):
        for _ in pool.map(calls.identity, range(10), return_exceptions=True):
            pass


@both_orders
def test_a_pool_that_is_shut_down_ends_the_map(pool, ordered, gate):
    results = pool.map(calls.call_it, [(gate, number) for number in range(20)], ordered=ordered, return_exceptions=True)
    gate.wait_entered(2)
    closer = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
    closer.start()
    calls.until(lambda: "closed" in repr(pool), "the pool to close")
    gate.open()
    with pytest.raises((RuntimeError, concurrent.futures.CancelledError)):
        list(results)
    closer.join(30)


def test_ctrl_c_here_leaves_the_map(kind):
    with raddle.Pool(kind, 1) as pool, pytest.raises(KeyboardInterrupt):
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        for _ in pool.map(time.sleep, [1] * 3, return_exceptions=True):
            pass


@both_orders
def test_exceptions_are_let_go_of(pool, ordered):
    results = pool.map(fall, range(3), ordered=ordered, return_exceptions=True)
    gc.disable()
    try:
        left = [weakref.ref(error) for error in results]
        assert [error() for error in left] == [None] * 3
    finally:
        gc.enable()


@both_orders
def test_in_an_event_loop(kind, ordered):
    async def main():
        with raddle.Pool(kind, 2) as pool:
            found = [
                value async for value in pool.amap(fail_at_thirds, range(100), ordered=ordered, return_exceptions=True)
            ]
            numbers = [value.args[0] if isinstance(value, ValueError) else value for value in found]
            assert (numbers if ordered else sorted(numbers)) == list(range(100))
            assert kinds_of(found).count("ValueError") == 34
            if kind == "process":
                hasty = pool.options(timeout=0.3).amap(calls.nap_if_5, range(7), return_exceptions=True)
                assert kinds_of([value async for value in hasty]) == [0, 1, 2, 3, 4, "CallTimeout", 6]
                dying = pool.amap(die_at_2, range(4), window=1, return_exceptions=True)
                assert kinds_of([value async for value in dying]) == [0, 1, "WorkerDied", 3]
            with pytest.raises(ValueError, match="0"):
                async for _ in pool.amap(fail_at_thirds, range(3)):
                    pass

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_pool_that_cannot_be_set_up_ends_it_in_an_event_loop_too(kind):
    async def main():
        with raddle.Pool(kind, 1, initializer=calls.fail) as pool:
            async for _ in pool.amap(calls.identity, range(10), return_exceptions=True):
                pass

    with pytest.raises(raddle.BrokenPool):
        asyncio.run(asyncio.wait_for(main(), 60))


@both_orders
def test_nothing_is_left_of_a_map_that_is_over(pool, ordered):
    class Falls:
        def __call__(self, number):
            raise Fall(number)

    falls = Falls()
    watched = weakref.ref(falls)
    gc.disable()
    try:
        assert len(list(pool.map(falls, range(3), ordered=ordered, return_exceptions=True))) == 3
        del falls
        calls.until(lambda: watched() is None, "the function to be let go of", patience=5)
    finally:
        gc.enable()
