"""Payloads of every size go both ways while workers die of everything there is: each future ends, rightly, and nothing runs twice.

`make stress TIME=1800` has time for all twenty thousand. `RADDLE_STRESS_SEED` repeats a run's choices.
"""

from __future__ import annotations

import collections
import random
import zlib

import numpy as np
import pytest

import raddle
import storm
from calls import until

#: Bytes of arguments and results in flight, at most.
AHEAD = 48 << 20


class Flow:
    """Tasks through one pool whose workers are killed, with a book of what is expected of each."""

    def __init__(self, pool, chance, paths, killer):
        self.pool = pool
        self.chance = chance
        self.paths = paths
        self.killer = killer
        with open(paths["material"], "rb") as file:
            self.material = file.read()
        self.number = 0
        self.in_flight = collections.deque()
        self.bytes_in_flight = 0
        self.came_of = collections.Counter()
        #: Of each task, how often it may run.
        self.allowed = {}
        #: Of each task, how often it ran at least.
        self.owed = {}

    def place(self):
        length = storm.size(self.chance)
        start = self.chance.randrange(len(self.material) - length)
        return start, start + length

    def submit(self):
        """Submits one task: most exchange payloads, some end their worker or want all the memory."""
        self.number += 1
        number, turn = self.number, self.chance.random()
        retries = 40 if self.chance.random() < 0.15 else 0
        runner = self.pool.options(retries=retries) if retries else self.pool
        self.allowed[number] = 1 + retries
        if turn < 0.004:
            self.allowed[number] = 1
            self.enter(self.pool.submit(storm.leave, number, number % 256, self.paths), number, "leaves", 0, 0)
        elif turn < 0.006:
            few = self.chance.randrange(3)
            self.allowed[number] = 1 + few
            future = self.pool.options(retries=few).submit(storm.leave, number, number % 256, self.paths)
            self.enter(future, number, "leaves", few, 0)
        elif turn < 0.012:
            self.enter(runner.submit(storm.gorge, number, self.paths), number, "gorges", retries, 0)
        else:
            sent, wanted = self.place(), self.place()
            payload = self.material[slice(*sent)]
            how = self.chance.choice(["bytes", "array"])
            checksum = zlib.crc32(payload)
            if self.chance.random() < 0.5:
                payload = np.frombuffer(payload, dtype=np.uint8)
            weight = len(payload) + wanted[1] - wanted[0]
            arguments = (number, payload, checksum, wanted, how, self.paths)
            self.enter(runner.submit(storm.exchange, *arguments), number, (wanted, how), retries, weight)

    def enter(self, future, number, expected, retries, weight):
        if self.chance.random() < 0.2:
            self.came_of["callbacks due"] += 1
            future.add_done_callback(lambda _: self.came_of.update(["callbacks"]))
        self.in_flight.append((future, number, expected, retries, weight))
        self.bytes_in_flight += weight

    def settle_one(self):
        """Waits for the oldest task, and judges it."""
        future, number, expected, retries, weight = self.in_flight.popleft()
        self.bytes_in_flight -= weight
        what = self.judge(future, number, expected, retries)
        self.came_of[what] += 1

    def judge(self, future, number, expected, retries):
        error = future.exception(timeout=120)  # a future that does not end is the failure that is looked for
        if isinstance(error, raddle.WorkerDied):
            assert error.pid > 0
            assert error.attempts == retries + 1, f"task {number}: {error!r} with {retries} retries"
            names = {"leaves": "leave()", "gorges": "gorge()"}
            assert error.call == names.get(expected, "exchange()"), f"task {number}: {error!r}"
            assert str(error.pid) in str(error)
            assert error.call in str(error)
            if expected == "leaves":
                self.owed[number] = 0  # it may have been killed before it got there
            return "lost"
        if expected == "gorges":
            assert isinstance(error, MemoryError), f"task {number}: {error!r}"
            self.owed[number] = 1
            return "had no memory"
        assert error is None, f"task {number} raised {error!r}"
        assert expected != "leaves", f"task {number} returned {future.result()!r}"
        pid, piece = future.result()
        self.killer.answered.add(pid)
        wanted, how = expected
        assert isinstance(piece, np.ndarray if how == "array" else bytes)
        assert memoryview(piece).tobytes() == self.material[slice(*wanted)], f"task {number} got something else"
        self.owed[number] = 1
        return "returned"

    def run(self, tasks, seconds):
        """Has so many tasks done, or as many as this time allows."""
        end = storm.now() + seconds
        while (more := self.number < tasks and storm.now() < end) or self.in_flight:
            while more and self.number < tasks and self.bytes_in_flight < AHEAD and len(self.in_flight) < 200:
                self.submit()
            self.settle_one()
        until(lambda: self.came_of["callbacks"] == self.came_of["callbacks due"], "every callback")

    def check_ledger(self):
        """Nothing ran twice without retries, nothing more often than it was allowed to, and what returned had run."""
        counts = storm.Ledger(self.paths["ledger"]).counts()
        for number, allowed in self.allowed.items():
            ran = counts[number]
            assert ran <= allowed, f"task {number} ran {ran} times, and was allowed to {allowed} times"
            assert ran >= self.owed.get(number, 0), f"task {number} ended well and never ran"
        assert set(counts) <= set(self.allowed)
        self.came_of["ran again"] = sum(count - 1 for count in counts.values() if count > 1)


def flow(tmp_path, seed, tasks, seconds=float("inf")):
    """One pool, so many tasks; a worker is killed every 50 ms. Returns what came of them."""
    chance = random.Random(seed)
    paths = {
        "material": storm.write_material(tmp_path / f"material-{seed}-{tasks}", seed),
        "ledger": str(tmp_path / f"ledger-{seed}-{tasks}"),
    }
    with raddle.Pool("process", 3, memory="400MiB") as pool:
        killer = storm.Killer(pool, random.Random(seed + 1), (0.05, 0.05), ("SIGKILL", "SIGSEGV", "SIGSTOP+SIGKILL"))
        run = Flow(pool, chance, paths, killer)
        killer.start()
        try:
            run.run(tasks, seconds)
        finally:
            killer.stop()
        statistics = pool.statistics()
        assert (statistics.pending, statistics.running) == (0, 0)
        assert statistics.submitted == run.number
        assert statistics.finished + statistics.failed == run.number
        run.check_ledger()
    run.came_of["workers that died"] = statistics.died
    run.came_of.update({f"killed by {way}": count for way, count in killer.killed.items()})
    return run.came_of


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param(100, marks=pytest.mark.timeout(120)),
        pytest.param(20_000, marks=pytest.mark.stress),  # all of them from some minutes on
    ],
)
def test_payloads_of_every_size_arrive_whole_while_workers_are_killed(tmp_path, capsys, tasks):
    with capsys.disabled():
        seed = storm.seed("payloads")
    flow(tmp_path, seed, 30)  # what is loaded and allocated once
    before, memory_before = storm.at_rest(), storm.memory()
    total = flow(tmp_path, seed + 1, tasks, storm.seconds() if tasks > 1000 else float("inf"))
    with capsys.disabled():
        print(", ".join(f"{count} {what}" for what, count in sorted(total.items())))
    storm.settle(before)
    assert raddle.shared.in_use() == 0
    assert storm.memory() - memory_before < 48 << 20
    # What the heap keeps, and no more, see docs/decisions/0010.
    assert storm.memory("RssShmem") < 600 << 20
    assert total["returned"] > total["lost"]
    assert total["workers that died"] > 0
