"""A worker writes over the memory that it shares with its parent, at random, while calls flow: the parent survives, every call ends.

`RADDLE_STRESS_SEED` repeats a run's choices.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal

import pytest

import calls
import raddle
import storm


def scribble(seed, rings=4096 + 2 * (256 << 10)):
    """Writes some bytes over this worker's link: its head, its rings, its memory for long payloads."""
    with open("/proc/self/maps") as file:
        parts = [line.split() for line in file if "/memfd:raddle-link" in line and "rw-s" in line]
    chance = random.Random(seed)
    for _ in range(chance.randrange(1, 12)):
        addresses, _, offset, *_ = chance.choice(parts)
        start, end = (int(part, 16) for part in addresses.split("-"))
        # Where something lies: the first megabyte of each mapping.
        at = start + 8 * chance.randrange(min(end - start, 1 << 20) // 8)
        if chance.random() < 0.4 and int(offset, 16) == 0:
            at = start + chance.choice([0x80, 0x100, 0x180, 0x200, 0x280, 0x284, 0x300, 0x340, 0x380, 0x3C0])
        word = chance.choice(
            [
                chance.randrange(1 << 64),
                32 * chance.randrange(20_000),
                chance.randrange(5),
                (1 << 64) - 32 * chance.randrange(1, 100),
                chance.randrange(256) | chance.randrange(256) << 8 | chance.randrange(5) << 32,
            ]
        )
        ctypes.memmove(at, word.to_bytes(8, "little"), chance.choice([1, 2, 4, 8]))
    return os.getpid()


def test_the_link_is_where_this_test_looks_for_it():
    with raddle.Pool("process", 1) as pool:

        def offsets():
            with open("/proc/self/maps") as file:
                return [int(line.split()[2], 16) for line in file if "/memfd:raddle-link" in line and "rw-s" in line]

        found = pool.submit(offsets).result()
        assert 0 in found
        assert len(found) >= 6


def one_pool(seed, vandals=3):
    """Some calls, of which some write over their worker's link."""
    chance = random.Random(seed)
    with raddle.Pool("process", 2) as pool:
        # It may fall asleep for ever over what it has spoiled; then the limits end it.
        limited = pool.options(timeout=1)
        futures = []
        for _ in range(chance.randrange(1, vandals + 1)):
            futures += [limited.submit(calls.add, number, 1) for number in range(chance.randrange(20))]
            futures += [limited.submit(calls.length, b"x" * storm.size(chance, 1 << 20))]
            futures += [limited.submit(scribble, chance.randrange(1 << 32))]
        for number, future in enumerate(futures):
            try:
                future.exception(50)
            except TimeoutError as error:
                error.add_note(f"seed {seed}, call {number} of {len(futures)}, {pool!r}")
                raise
        for worker in pool._lane._lane.pids():
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # With new workers everything is right again. One that was killed may have begun a call by then.
        after = [pool.submit(calls.add, number, 1) for number in range(20)]
        for number, future in enumerate(after):
            assert isinstance(future.exception(50), raddle.WorkerDied) or future.result() == number + 1


@pytest.mark.parametrize(
    "is_long", [pytest.param(False, marks=pytest.mark.timeout(180)), pytest.param(True, marks=pytest.mark.stress)]
)
def test_a_worker_that_writes_over_its_link_hurts_nobody_else(capsys, is_long):
    with capsys.disabled():
        first = storm.seed("scribble")
    one_pool(first, 1)  # what is made once
    before, end, seed = storm.at_rest(), storm.now() + storm.seconds(), first
    while seed < first + 4 or (is_long and storm.now() < end):
        one_pool(seed, 3 if is_long else 1)
        assert raddle.shared.in_use() == 0
        seed += 1
    with capsys.disabled():
        print(f"{seed - first} pools")
    storm.settle(before)
