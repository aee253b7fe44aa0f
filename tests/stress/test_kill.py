"""Random workers die in every way there is while tasks flow; every future ends, nothing hangs, nothing is left.

`RADDLE_STRESS_SECONDS` says for how long (20 by default), `RADDLE_STRESS_SEED` repeats a run's choices.
"""

from __future__ import annotations

import array
import collections
import concurrent.futures
import os
import pickle
import random
import signal
import threading
import time

import pytest

import calls
import raddle
import storm
from calls import until

WORKERS = 3
#: Calls in flight, at most.
AHEAD = 300


def echo(number, payload):
    return number, payload


def nap(number, seconds):
    time.sleep(seconds)
    return number


def raises(number):
    raise KeyError(number)


def die(number):
    os._exit(number % 256)


def grow(number, size):
    return number, b"g" * size


def make_task(chance, number, pool):
    """Submits one call of a random sort. Returns its future, and a check of what it may come to."""
    kinds = {
        "echo": 50, "nap": 6, "pid": 20, "raises": 8, "grow": 14, "closure": 12, "die": 0.4, "unpicklable": 2,
        "array": 30, "careful": 10, "late": 0.5, "stopped": 0.5,
    }  # fmt: skip
    kind = chance.choices(list(kinds), list(kinds.values()))[0]
    if kind == "pid":
        return pool.submit(calls.pid), is_a_pid
    if kind == "echo":
        payload = chance.choice([b"", b"x" * 10, b"y" * 20_000, "text\ud800", {"a": [number]}, b"z" * 300_000])
        return pool.submit(calls.apply, _named("echo"), number, payload), lambda value: value == (number, payload)
    if kind == "nap":
        return pool.submit(calls.apply, _named("nap"), number, chance.uniform(0, 0.01)), lambda value: value == number
    if kind == "raises":
        return pool.submit(calls.apply, _named("raises"), number), KeyError
    if kind == "grow":
        size = chance.choice([1, 16_384, 100_000, 1_000_000])
        return pool.submit(calls.apply, _named("grow"), number, size), lambda value: value == (number, b"g" * size)
    if kind == "closure":
        return pool.submit(lambda: number * 2), lambda value: value == number * 2
    if kind == "array":
        size = chance.choice([0, 100, 5_000, 100_000, 1_000_000])
        sent = array.array("d", [number]) * size
        value = pickle.PickleBuffer(sent) if chance.random() < 0.5 else sent
        return pool.submit(calls.first_and_size, value), lambda found: found == ((number, size) if size else (None, 0))
    if kind == "careful":
        careful = pool.options(retries=50, timeout=30)
        return careful.submit(calls.apply, _named("echo"), number, b"c"), lambda value: value == (number, b"c")
    if kind == "late":
        return pool.options(timeout=0.02).submit(time.sleep, 60), raddle.CallTimeout
    if kind == "stopped":
        future = pool.submit(time.sleep, 60)
        threading.Timer(0.05, future.cancel).start()
        return future, concurrent.futures.CancelledError
    if kind == "die":
        return pool.submit(calls.exit_now, number % 256), raddle.WorkerDied
    return pool.submit(calls.identity, threading.Lock()), TypeError


def is_a_pid(value):
    return value > 0


def _named(name):
    return FUNCTIONS[name]


def by_value(function):
    """A copy of the function that no module has: workers cannot import this file."""
    import types

    copy = types.FunctionType(function.__code__, {"os": os, "time": time}, function.__name__)
    copy.__module__ = "__main__"
    return copy


FUNCTIONS = {function.__name__: by_value(function) for function in (echo, nap, raises, grow)}


def flow(chance, seconds):
    """Lets tasks flow through a pool whose workers are killed. Returns what came of them."""
    came_of = collections.Counter()
    with raddle.Pool("process", WORKERS) as pool:
        killer = storm.Killer(pool, random.Random(chance.random()))
        killer.start()
        in_flight = collections.deque()
        end = time.monotonic() + seconds
        number = 0
        try:
            while time.monotonic() < end or in_flight:
                while time.monotonic() < end and len(in_flight) < AHEAD:
                    number += 1
                    future, expected = make_task(chance, number, pool)
                    if chance.random() < 0.03:
                        future.cancel()
                    if chance.random() < 0.1:
                        future.add_done_callback(lambda _: came_of.update(["callbacks"]))
                        came_of["callbacks due"] += 1
                    in_flight.append((future, expected))
                future, expected = in_flight.popleft()
                what = judge(future, expected)
                came_of[what] += 1
                if what == "returned" and expected is is_a_pid:
                    killer.answered.add(future.result())
        finally:
            killer.stop()
        # The pool is whole after all this.
        assert list(pool.map(calls.identity, range(100))) == list(range(100))
        until(lambda: came_of["callbacks"] == came_of["callbacks due"], "every callback")
        now = pool.statistics()
        assert now.pending == now.running == 0
        assert now.died >= came_of["lost"]
    came_of["died"] = now.died
    came_of.update({f"killed by {way}": count for way, count in killer.killed.items()})
    return came_of


def judge(future, expected):
    """Says what came of a future; fails if that could not be."""
    if future.cancelled():
        return "cancelled"
    try:
        error = future.exception(timeout=60)  # a future that does not end is the failure that is looked for
    except concurrent.futures.CancelledError:
        return "cancelled"
    if isinstance(error, raddle.WorkerDied):
        assert error.pid > 0
        assert str(error.pid) in str(error)
        return "lost"
    if isinstance(expected, type):
        assert isinstance(error, expected), f"{error!r} instead of {expected}"
        return "raised"
    assert error is None, error
    assert expected(future.result(0)), future.result(0)
    return "returned"


@pytest.mark.stress
def test_nothing_is_lost_and_nothing_hangs_while_workers_are_killed(capsys):
    with capsys.disabled():
        chance = random.Random(storm.seed("kill"))
    seconds = storm.seconds()
    storm.memory()
    flow(chance, min(2.0, seconds / 5))  # what is loaded and allocated once
    before, memory_before = storm.at_rest(), storm.memory()
    rounds = [flow(chance, seconds / 4) for _ in range(4)]
    total = sum(rounds, collections.Counter())
    with capsys.disabled():
        print(", ".join(f"{count} {what}" for what, count in sorted(total.items())))
    storm.settle(before)
    assert raddle.shared.in_use() == 0
    assert storm.memory() - memory_before < 32 << 20
    assert total["returned"] > 100
    assert total["lost"] >= 4


@pytest.mark.stress
def test_the_drop_in_breaks_cleanly_however_its_workers_die(process_lane, capsys):
    if process_lane.is_pool:
        pytest.skip("a pool lives on, see above")
    from concurrent.futures.process import BrokenProcessPool

    with capsys.disabled():
        chance = random.Random(storm.seed(f"drop-in, {process_lane}"))
    end = time.monotonic() + storm.seconds() / 4
    rounds = 0
    before = None
    while time.monotonic() < end:
        rounds += 1
        runner = process_lane.make(2)
        futures = [runner.submit(calls.add, number, 1) for number in range(chance.randrange(1, 200))]
        # A forked worker has this process's fault handler, which would write a page for each SIGSEGV.
        ways = [signal.SIGKILL, signal.SIGTERM, *([] if process_lane.method == "fork" else [signal.SIGSEGV])]
        for pid in list(runner._processes)[: chance.randrange(1, 3)]:
            try:
                os.kill(pid, chance.choice(ways))
            except ProcessLookupError:
                pass
        for number, future in enumerate(futures):
            error = future.exception(60)
            assert error is None or isinstance(error, BrokenProcessPool), error
            assert error is not None or future.result() == number + 1
        runner.shutdown()
        del runner, futures, future
        if rounds == 3:
            before = storm.at_rest()
    with capsys.disabled():
        print(f"{rounds} pools broken")
    if before is not None:
        storm.settle(before)
