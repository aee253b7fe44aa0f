"""Programs that keep an order, and so cannot deadlock, are left alone; and programs that do not are told once for each deadlock.

`make stress TIME=1800` runs them for half an hour. `RADDLE_STRESS_SEED` repeats a run's choices.
"""

from __future__ import annotations

import functools
import random
import threading as standard
import time

import pytest

import raddle
import storm
from raddle.futures import ThreadPoolExecutor, as_completed, wait
from raddle.sync import Lock as FairLock
from raddle.threading import Lock, RLock
from threads import PATIENCE, together

LEVELS = 8
HOWS = [
    lambda futures: [future.result() for future in futures],
    lambda futures: [future.result() for future in as_completed(futures)],
    lambda futures: [future.result() for future in wait(futures).done],
]


class Building:
    """Locks and pools, one of each on every level. Whoever holds or runs something waits for what lies higher, and for nothing else."""

    def __init__(self, chance):
        kinds = [Lock, RLock, FairLock]
        self.locks = [chance.choice(kinds)() for _ in range(LEVELS)]
        self.pools = [ThreadPoolExecutor(chance.randrange(1, 4), f"level {level}") for level in range(LEVELS)]

    def climb(self, seed, level, room):
        """Does something on a higher level, and so on. Returns how many calls it has made, with those that they have made."""
        chance = random.Random(seed)
        if chance.random() < 0.3:
            time.sleep(chance.choice([0, 0.0005, 0.0019, 0.002, 0.0021, 0.004]))
        level += chance.randrange(1, 3)
        if level >= LEVELS or room == 0:
            return 0
        what = chance.random()
        if what < 0.4:
            with self.locks[level]:
                return self.climb(chance.random(), level, room)
        width = chance.randrange(1, 4)
        calls = [(chance.random(), level, room - 1) for _ in range(width)]
        if what < 0.6:
            return width + sum(self.pools[level].map(self.climb, *zip(*calls, strict=True)))
        futures = [self.pools[level].submit(self.climb, *call) for call in calls]
        return width + sum(chance.choice(HOWS)(futures))

    def close(self):
        for pool in self.pools:
            pool.shutdown()


@pytest.mark.parametrize("is_long", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_who_climbs_only_never_deadlocks(capsys, alarms, is_long):
    with capsys.disabled():
        seed = storm.seed("order")
    chance = random.Random(seed)
    end, calls, rounds = storm.now() + (storm.seconds() if is_long else 0), 0, 0
    while rounds < 3 or storm.now() < end:
        building = Building(chance)
        made = []

        def run(seed, building=building, made=made):
            for number in range(20):
                made.append(building.climb(seed + number, -1, 4))

        try:
            raised = together(*(functools.partial(run, chance.random()) for _ in range(4)))
        finally:
            building.close()
        assert raised == [None] * 4
        assert alarms == []
        calls, rounds = calls + sum(made), rounds + 1
    with capsys.disabled():
        print(f"{rounds} rounds, {calls} calls")


@pytest.mark.parametrize("is_long", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_who_goes_in_a_ring_is_told_of_it_once_and_all_end(capsys, raises, is_long):
    with capsys.disabled():
        seed = storm.seed("rings")
    chance = random.Random(seed)
    end, rounds = storm.now() + (storm.seconds() if is_long else 0), 0
    while rounds < 20 or storm.now() < end:
        rounds += 1
        size = chance.randrange(1, 5)
        locks = [chance.choice([Lock, RLock])() for _ in range(size)]
        pools = [ThreadPoolExecutor(1) for _ in range(size)]
        hows = [chance.choice(HOWS) for _ in range(size)]
        taken = standard.Barrier(size)

        def step(number, size=size, locks=locks, pools=pools, hows=hows, taken=taken):
            """Holds a lock of the ring, and has a call take the next one."""
            following = (number + 1) % size
            with locks[number]:
                taken.wait(PATIENCE)
                hows[number]([pools[number].submit(take, locks[following])])

        def take(lock):
            with lock:
                pass

        results = together(*(lambda number=number: step(number) for number in range(size)))
        for pool in pools:
            pool.shutdown()
        # Whoever waits for a call that was told raises the same.
        told = {id(error.deadlock): error.deadlock for error in results if error is not None}
        assert all(isinstance(error, raddle.DeadlockError) for error in results if error is not None)
        assert len(told) == 1, told
        assert len(next(iter(told.values())).units) == 2 * size
        assert not any(lock.acquire(blocking=False) is False for lock in locks)
