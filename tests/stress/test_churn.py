"""Pools made, used in every way, hurt, and dropped, again and again: nothing grows.

`make stress TIME=1800` runs it for half an hour. `RADDLE_STRESS_SEED` repeats a run's choices.
"""

from __future__ import annotations

import collections
import concurrent.futures
import gc
import itertools
import os
import random
import signal
import statistics
import time

import numpy as np
import pytest

import calls
import raddle
import storm
from calls import until


def live_pids(pool):
    return list(pool._lane._lane.pids())


def map_a_lot(chance, pool):
    count = chance.randrange(1, 5000)
    assert sum(pool.map(calls.identity, range(count), ordered=chance.random() < 0.5)) == count * (count - 1) // 2


def leave_a_map(chance, pool):
    results = pool.map(calls.identity, itertools.count(), ordered=chance.random() < 0.5)
    for _ in range(chance.randrange(500)):
        next(results)
    results.close()


def kill_workers(chance, pool):
    futures = [pool.submit(calls.nap_and_return, number) for number in range(20)]
    futures[0].exception(60)
    for pid in live_pids(pool)[: chance.randrange(1, 3)]:
        try:
            os.kill(pid, chance.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
        except ProcessLookupError:
            pass
    for number, future in enumerate(futures):
        error = future.exception(60)
        assert isinstance(error, raddle.WorkerDied) or future.result() == number
    assert isinstance(pool.submit(calls.exit_now, 1).exception(60), raddle.WorkerDied)


def cancel_calls(chance, pool):
    futures = [pool.submit(time.sleep, 60) for _ in range(4)]
    time.sleep(chance.uniform(0, 0.05))  # to hit different moments
    chance.shuffle(futures)
    for future in futures:
        while not future.cancel():  # it may be in the moment of its death
            pass
        assert future.cancelled()


def time_out(chance, pool):
    hasty = pool.options(timeout=chance.uniform(0.01, 0.05), retries=chance.randrange(2))
    assert isinstance(hasty.submit(time.sleep, 60).exception(60), raddle.CallTimeout)


def share_arrays(chance, pool):
    image = raddle.shared.zeros((1 + chance.randrange(300), 1000))
    half = len(image) // 2
    parts = [pool.submit(calls.add_one_in_place, part) for part in (image[:half], image[half:])]
    kept = parts[0].exception(60), parts[1].result(60)
    assert image.all()
    assert kept[1].all()


def send_arrays(chance, pool):
    arrays = [np.full(1 + storm.size(chance, 1 << 17), number, dtype=float) for number in range(10)]
    futures = [pool.submit(calls.add_one_in_place, values) for values in arrays]
    for number, future in enumerate(futures):
        assert (future.result(60) == number + 1).all()
    if chance.random() < 0.3:
        assert isinstance(pool.submit(calls.keep_and_die, arrays[0]).exception(60), raddle.WorkerDied)


def put_objects(chance, pool):
    refs = [pool.put({"values": np.arange(1 + storm.size(chance, 1 << 16))}) for _ in range(5)]
    for ref in refs:
        futures = [pool.submit(calls.item_of, ref, "values") for _ in range(4)]
        assert all(future.result(60)[-1] == len(ref.value["values"]) - 1 for future in futures)
    if chance.random() < 0.3:
        calls_with_refs = [pool.submit(calls.item_of, ref, "values") for ref in refs]
        os.kill(chance.choice(live_pids(pool)), signal.SIGKILL)
        assert all(isinstance(f.exception(60), (raddle.WorkerDied, type(None))) for f in calls_with_refs)


def send_much(chance, pool):
    data = b"x" * storm.size(chance, 30 << 20)
    assert pool.submit(calls.length, data).result(60) == len(data)
    assert len(pool.submit(calls.make_bytes, len(data)).result(60)) == len(data)


def fail_in_calls(chance, pool):
    futures = [pool.submit(calls.fail) for _ in range(50)] + [pool.submit(calls.raise_odd) for _ in range(3)]
    assert all(future.exception(60) is not None for future in futures)
    with pytest.raises(ValueError, match="5"):
        list(pool.map(calls.fail_if, range(100), [50] * 100))


def send_functions_by_value(chance, pool):
    number = chance.random()
    assert [pool.submit(lambda number=number: number * 2).result(60) for _ in range(3)] == [number * 2] * 3


ACTS = [
    map_a_lot, leave_a_map, kill_workers, cancel_calls, time_out, share_arrays, send_arrays, put_objects, send_much,
    fail_in_calls, send_functions_by_value,
]  # fmt: skip


def use_a_pool(chance):
    """One pool's life: some acts, and one of the ways to be through with it."""
    workers = chance.randrange(1, 3)
    limits = {"max_tasks_per_child": 50} if chance.random() < 0.2 else {}
    pool = raddle.Pool("process", workers, **limits)
    acts = chance.choices(ACTS, k=chance.randrange(1, 4))
    try:
        for act in acts:
            act(chance, pool)
    except BaseException as error:
        error.add_note(f"after {[act.__name__ for act in acts]} with {workers} workers, {limits}")
        raise
    end = chance.choice(["shutdown", "block", "drop", "kill", "drop busy"])
    if end == "shutdown":
        pool.shutdown()
    elif end == "block":
        with pool:
            pool.submit(calls.identity, 1)
    elif end == "kill":
        with pytest.raises(SystemExit), pool:
            pool.submit(time.sleep, 60)
            raise SystemExit
    elif end == "drop busy":
        for number in range(10):
            pool.submit(calls.nap_and_return, number)
    return [act.__name__ for act in acts] + [end]


def use_an_executor(chance):
    """The same, with the drop-in; a worker's death breaks it."""
    with raddle.futures.ProcessPoolExecutor(1) as executor:
        futures = [executor.submit(calls.add, number, 1) for number in range(20)]
        if chance.random() < 0.5:
            executor.submit(calls.exit_now, 1)
        concurrent.futures.wait(futures, 60)
        assert all(future.done() for future in futures)
    return ["executor"]


def forget_the_dropped(before):
    """A pool that was dropped is forgotten when its last call is done and the next pool starts."""

    def all_is_as_before():
        with raddle.Pool("process", 1) as pool:
            pool.submit(calls.identity).result()
        del pool
        return all(new <= old for old, new in zip(before, storm.belongings()))

    try:
        until(all_is_as_before, "pools that were dropped to be forgotten", 5)
    except AssertionError:
        storm.settle(before, 1)  # says what is there


Sample = collections.namedtuple("Sample", "anonymous shared belongings")


@pytest.mark.parametrize(
    "is_long", [pytest.param(False, marks=pytest.mark.timeout(180)), pytest.param(True, marks=pytest.mark.stress)]
)
def test_pools_made_hurt_and_dropped_again_and_again_leave_nothing(capsys, is_long):
    with capsys.disabled():
        seed = storm.seed("churn")
    chance = random.Random(seed)
    least, end = 8, storm.now() + (storm.seconds() if is_long else 0)
    with raddle.Pool("process", 1) as pool:  # what is loaded and allocated once
        for act in ACTS:
            act(chance, pool)
    del pool
    gc.collect()
    before = storm.at_rest()
    samples, acts = [], collections.Counter()
    while len(samples) < least or storm.now() < end:
        acts.update(use_an_executor(chance) if is_long and chance.random() < 0.05 else use_a_pool(chance))
        # Not at the end alone: each round gives back what it took.
        forget_the_dropped(before)
        storm.settle(before)
        assert raddle.shared.in_use() == 0
        samples.append(Sample(storm.memory(), storm.memory("RssShmem"), storm.belongings()))
    with capsys.disabled():
        print(report(samples, acts))
    # A few rounds fill caches: the heap's pages, the allocator's, pickles of functions. What grows is seen in many.
    steady = samples[len(samples) // 3 :] if len(samples) > 100 else []
    for name in ("anonymous", "shared") if steady else ():
        values, step = [getattr(sample, name) for sample in steady], max(1, len(steady) // 60)
        few = [statistics.median(values[at : at + step]) for at in range(0, len(values), step)]
        growth = storm.slope(few) * len(few)
        assert growth < 8 << 20, f"{name} memory grew by {growth:.0f} bytes, see {few}"
    # A heap keeps half a gigabyte of what it has used once.
    assert max(sample.shared for sample in samples) < 600 << 20


def report(samples, acts):
    """Some lines about a run."""
    lines = [f"{len(samples)} pools: " + ", ".join(f"{count} {name}" for name, count in sorted(acts.items()))]
    for at in sorted({int(part / 10 * (len(samples) - 1)) for part in range(11)}):
        anonymous, shared, have = samples[at]
        lines.append(f"  after {at + 1}: {anonymous >> 10} KiB own, {shared >> 10} KiB shared, {tuple(have)}")
    return "\n".join(lines)
