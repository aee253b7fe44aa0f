"""What is measured: one function per row, run in a process of its own, for one contender.

Each gives a number in seconds (memory: bytes per task), and for latency the 99th percentile beside the median. Where the
work is short it is repeated for a while, and the median of the repetitions counts.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import across
import observers
import primitives
from contenders import PYTHON, Contender, Pool
from sizes import Effort, Numbers, again
from workload import brief, burn, echo, ends, hold, nap

WORKERS = 2


def warm(pool: Pool) -> None:
    """Gets all workers up: each naps once, or a second time where one was quicker than another's start."""
    for _ in range(2):
        for handle in [pool.submit(nap, 0.02) for _ in range(WORKERS)]:
            pool.result(handle)


def start(contender: Contender, effort: Effort) -> Numbers:
    """From the call of the constructor until the first result."""
    began = perf_counter()
    pool = contender.open(WORKERS)
    assert pool.result(pool.submit(echo, 7)) == 7
    took = perf_counter() - began
    pool.close()
    return {"median": took}


def latency(contender: Contender, effort: Effort) -> Numbers:
    """`submit` and `result`, one task at a time."""
    pool = contender.open(WORKERS)
    warm(pool)
    submit, result = pool.submit, pool.result
    times = []
    until = perf_counter() + 4 * effort.seconds
    for number in range(effort.calls):
        began = perf_counter()
        value = result(submit(echo, number))
        ended = perf_counter()
        assert value == number
        times.append(ended - began)
        if ended > until and number >= 200:
            break
    pool.close()
    times = times[len(times) // 10 :]
    return {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}


def backlog(contender: Contender, effort: Effort) -> Numbers:
    """All tasks are submitted, then all results taken; per task."""
    pool = contender.open(WORKERS)
    warm(pool)
    submit, result, wanted = pool.submit, pool.result, list(range(effort.tasks))

    def work() -> None:
        handles = [submit(echo, number) for number in wanted]
        assert [result(handle) for handle in handles] == wanted

    times = again(effort.seconds, work)
    pool.close()
    return {"median": statistics.median(times) / effort.tasks}


def map_again(contender: Contender, effort: Effort, function: Callable[[int], int], calls: int) -> Numbers:
    """`map` of a function over so many numbers, again and again; per item."""
    pool = contender.open(WORKERS)
    warm(pool)
    wanted = list(range(calls))

    def work() -> None:
        assert list(pool.map(function, range(calls))) == wanted

    times = again(effort.seconds, work)
    pool.close()
    return {"median": statistics.median(times) / calls}


def map_trivial(contender: Contender, effort: Effort) -> Numbers:
    """`map` of the trivial function, no chunk size; per item."""
    return map_again(contender, effort, echo, effort.tasks)


def burn_set(contender: Contender, effort: Effort) -> Numbers:
    """`map` of a function that burns one millisecond of CPU; per task."""
    pool = contender.open(WORKERS)
    warm(pool)
    wanted = list(range(effort.burns))
    began = perf_counter()
    assert list(pool.map(burn, range(effort.burns))) == wanted
    took = perf_counter() - began
    pool.close()
    return {"median": took / effort.burns}


def brief_set(contender: Contender, effort: Effort) -> Numbers:
    """`map` of a function that burns twenty microseconds of CPU; per task."""
    return map_again(contender, effort, brief, effort.briefs)


def on_terms(contender: Contender, effort: Effort) -> Numbers:
    """A call with a deadline, a retry and a priority, and a plain one, in turn, one at a time."""
    pool = contender.open(WORKERS)
    warm(pool)
    plain, careful, result = pool.submit, pool.careful, pool.result
    assert careful is not None, f"{contender.name} has calls on terms"
    times: tuple[list[float], list[float]] = ([], [])
    until = perf_counter() + 4 * effort.seconds
    for number in range(effort.calls):
        for submit, sink in zip((plain, careful), times):
            began = perf_counter()
            value = result(submit(echo, number))
            ended = perf_counter()
            assert value == number
            sink.append(ended - began)
        if ended > until and number >= 200:
            break
    pool.close()
    without, on = (statistics.median(sink[len(sink) // 10 :]) for sink in times)
    return {"median": on, "plain": without}


def stream(contender: Contender, effort: Effort) -> Numbers:
    """Growth of this process's peak memory while a generator's items are mapped and their results looked at."""
    pool = contender.open(WORKERS)
    warm(pool)
    assert pool.stream is not None, f"{contender.name} has a lazy map"
    assert sum(pool.stream(echo, iter(range(1000)))) == sum(range(1000))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmHWM")
    began = perf_counter()
    total = 0
    for value in pool.stream(echo, (number for number in range(effort.streamed))):
        total += value
    took = perf_counter() - began
    grown = resident("VmHWM") - before
    assert total == effort.streamed * (effort.streamed - 1) // 2
    pool.close()
    return {"median": grown, "each": took / effort.streamed}


def array_of(contender: Contender, size: int, shared: bool) -> Any:
    """An array of so many bytes; in Raddle's own shared memory, where it is Raddle's turn."""
    import numpy

    if shared and contender.package == "raddle":
        import raddle

        array = raddle.shared.zeros(size // 8)
    else:
        array = numpy.zeros(size // 8)
    array[...] = 1.0
    return array


def crossing(size: int, back: bool, shared: bool = False) -> Callable[[Contender, Effort], Numbers]:
    """An array of `size` bytes goes to a worker, and back or not; one at a time."""

    def measure(contender: Contender, effort: Effort) -> Numbers:
        pool = contender.open(WORKERS)
        warm(pool)
        array = array_of(contender, size, shared)

        def work() -> None:
            if back:
                returned = pool.result(pool.submit(echo, array))
                assert returned[0] + returned[-1] == 2.0
            else:
                assert pool.result(pool.submit(ends, array)) == 2.0

        for _ in range(3):
            work()
        times = again(2 * effort.seconds, work)
        pool.close()
        return {"median": statistics.median(times)}

    return measure


def resident(field: str) -> int:
    """A memory figure of this process in bytes, from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def memory(contender: Contender, effort: Effort) -> Numbers:
    """Growth of this process's peak memory while both workers are occupied and tasks queue up; per task."""
    pool = contender.open(WORKERS)
    warm(pool)
    folder = tempfile.mkdtemp(prefix="bench-")
    os.mkfifo(os.path.join(folder, "gate"))
    holds = [pool.submit(hold, folder) for _ in range(WORKERS)]
    started = Path(folder, "started")
    until = perf_counter() + 20
    while not started.exists() or started.stat().st_size < WORKERS:
        if perf_counter() > until:
            raise TimeoutError("the workers were not all occupied after 20 s")
        time.sleep(0.01)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmHWM")
    began = perf_counter()
    handles = [pool.submit(echo, number) for number in range(effort.pending)]
    took = perf_counter() - began
    grown = resident("VmHWM") - before
    assert len(holds) + len(handles) == WORKERS + effort.pending
    # The queue is thrown away with the process: how long it would take to drain is another row's matter.
    return {"median": grown / effort.pending, "submit": took / effort.pending}


def shutdown(contender: Contender, effort: Effort) -> Numbers:
    """The end of a pool whose workers are all up and have nothing to do."""
    pool = contender.open(WORKERS)
    warm(pool)
    time.sleep(0.05)
    began = perf_counter()
    pool.close()
    return {"median": perf_counter() - began}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    title: str
    unit: str
    scale: float
    measure: Callable[[Contender, Effort], Numbers]
    rounds: int
    limit: str
    """The physical limit it is held against: a key of `limits.row_limits`, or `contenders.PYTHON`: the program by itself."""

    times_stdlib: float | None = None
    """How many times faster than the standard library it has to be."""

    at_most: float | None = None
    """What it may cost at most, in `unit`."""

    times_inline: float | None = None
    """How many times faster than no pool at all it has to be."""

    stdlib_times: float | None = None
    """What it may cost at most, in times of the standard library."""

    adds_at_most: float | None = None
    """What it may cost more than a plain call, or a program by itself, at most, in `unit`."""

    of_rounds: Callable[[Iterable[float]], float] = statistics.median
    """What counts of the rounds. `min` where whatever disturbs a round can only add to it, by half as much again."""

    @property
    def lane(self) -> str:
        return self.key.rpartition("-")[2]


MS, US, NS, B, MIB = 1e3, 1e6, 1e9, 1.0, 2.0**-20

ROWS = (
    Row("start-fork-process", "start until the first result, workers forked", "ms", MS, start, 9, "fork", at_most=60),
    Row(
        "start-fresh-process",
        "start until the first result, fresh interpreters",
        "ms",
        MS,
        start,
        9,
        "start",
        at_most=60,
    ),
    Row("latency-process", "submit + result, one at a time", "µs", US, latency, 3, "latency-process", times_stdlib=10),
    Row("latency-thread", "submit + result, one at a time", "µs", US, latency, 3, "latency-thread", times_stdlib=2),
    Row(
        "backlog-process",
        "10,000 submits, then all results, per task",
        "µs",
        US,
        backlog,
        3,
        "backlog-process",
        times_stdlib=20,
    ),
    Row(
        "backlog-thread",
        "10,000 submits, then all results, per task",
        "µs",
        US,
        backlog,
        3,
        "backlog-thread",
        times_stdlib=6,
    ),
    Row("map-process", "map of a trivial function, per item", "µs", US, map_trivial, 3, "map-process", times_stdlib=30),
    Row("map-thread", "map of a trivial function, per item", "µs", US, map_trivial, 3, "map-thread"),
    Row(
        "brief-process",
        "20,000 tasks of 20 µs CPU, per task",
        "µs",
        US,
        brief_set,
        3,
        "brief",
        times_inline=1.8,
    ),
    Row(
        "terms-process",
        "submit + result with deadline, retry and priority",
        "µs",
        US,
        on_terms,
        3,
        "latency-process",
        adds_at_most=2,
    ),
    Row("burn-process", "1,000 tasks of 1 ms CPU, per task", "ms", MS, burn_set, 3, "burn"),
    Row(
        "array-there-process",
        "64 MiB array to a worker",
        "ms",
        MS,
        crossing(64 << 20, False),
        1,
        "one copy",
        at_most=16.8,
    ),
    Row(
        "array-64m-process",
        "64 MiB array there and back",
        "ms",
        MS,
        crossing(64 << 20, True),
        1,
        "copies",
        at_most=22.4,
    ),
    Row(
        "array-shared-process",
        "64 MiB shared array there and back",
        "ms",
        MS,
        crossing(64 << 20, True, shared=True),
        1,
        "latency-process",
        at_most=6.7,
    ),
    Row("array-1m-process", "1 MiB array there and back", "µs", US, crossing(1 << 20, True), 1, "copies 1m"),
    Row("array-64k-process", "64 KiB array there and back", "µs", US, crossing(64 << 10, True), 1, "copies 64k"),
    Row("array-1k-process", "1 KiB array there and back", "µs", US, crossing(1 << 10, True), 1, "latency-process"),
    Row("memory-process", "peak memory of 100,000 pending tasks, per task", "B", B, memory, 1, "memory"),
    Row("memory-thread", "peak memory of 100,000 pending tasks, per task", "B", B, memory, 1, "memory"),
    Row(
        "stream-process",
        "peak memory of a map over 1,000,000 generated items",
        "MiB",
        MIB,
        stream,
        1,
        "stream",
        at_most=16,
    ),
    Row("shutdown-process", "shutdown of an idle pool", "ms", MS, shutdown, 9, "shutdown-process"),
    Row("shutdown-thread", "shutdown of an idle pool", "ms", MS, shutdown, 9, "shutdown-thread"),
    Row("lock-threading", "with lock, alone", "ns", NS, primitives.LOCK, 5, "two calls", stdlib_times=1.2),
    Row(
        "contended-threading",
        "with lock, two threads, per block",
        "ns",
        NS,
        primitives.contended,
        5,
        "two calls",
        times_stdlib=1,
    ),
    Row(
        "semaphore-threading", "with semaphore, alone", "ns", NS, primitives.SEMAPHORE, 5, "two calls", times_stdlib=10
    ),
    Row(
        "event-threading",
        "Event: set, wait, clear",
        "ns",
        NS,
        primitives.EVENT,
        5,
        "three calls",
        times_stdlib=10,
    ),
    Row("asked-threading", "Event: is_set", "ns", NS, primitives.ASKED, 5, "one call", times_stdlib=1),
    Row(
        "notify-threading",
        "Condition: with and notify, nobody waits",
        "ns",
        NS,
        primitives.NOTIFY,
        5,
        "three calls",
        times_stdlib=10,
    ),
    Row(
        "timeout-threading",
        "Condition: wait(0), its lock held",
        "ns",
        NS,
        primitives.TIMEOUT,
        5,
        "one call",
        times_stdlib=10,
    ),
    Row(
        "barrier-threading",
        "Barrier of one: wait",
        "ns",
        NS,
        primitives.BARRIER,
        5,
        "one call",
        times_stdlib=10,
    ),
    Row("birth-threading", "Thread: start + join", "µs", US, primitives.birth, 5, "thread", times_stdlib=1),
    Row(
        "alone-queue",
        "Queue: put + get, one thread",
        "ns",
        NS,
        primitives.put_and_get("Queue"),
        5,
        "two calls",
        times_stdlib=15,
    ),
    Row(
        "between-queue",
        "Queue(1024) between two threads, per item",
        "ns",
        NS,
        primitives.between,
        5,
        "two calls",
        times_stdlib=6,
    ),
    Row(
        "trip-queue",
        "two Queues, there and back, one at a time",
        "µs",
        US,
        primitives.trip,
        5,
        "latency-thread",
        times_stdlib=1,
    ),
    Row(
        "simple-queue",
        "SimpleQueue: put + get, one thread",
        "ns",
        NS,
        primitives.put_and_get("SimpleQueue"),
        5,
        "two calls",
        times_stdlib=1,
    ),
    Row(
        "lifo-queue",
        "LifoQueue: put + get, one thread",
        "ns",
        NS,
        primitives.put_and_get("LifoQueue"),
        5,
        "two calls",
        times_stdlib=10,
    ),
    Row(
        "priority-queue",
        "PriorityQueue: put + get, one thread",
        "ns",
        NS,
        primitives.put_and_get("PriorityQueue"),
        5,
        "two calls",
        times_stdlib=1,
    ),
    Row(
        "between-channel",
        "a channel without a bound between two threads, per item",
        "ns",
        NS,
        primitives.through,
        5,
        "two calls",
        times_stdlib=1,
    ),
    Row(
        "select-channel",
        "select over 8 channels of which one is ready, and a send",
        "ns",
        NS,
        primitives.select,
        5,
        "two calls",
        at_most=1000,
    ),
    Row(
        "across-channel",
        "a channel for 1,024 values between two processes, per item",
        "ns",
        NS,
        across.through,
        5,
        "one call",
        times_stdlib=20,
    ),
    Row(
        "trip-channel",
        "two channels between two processes, there and back, one at a time",
        "µs",
        US,
        across.trip,
        5,
        "latency-process",
        times_stdlib=1,
    ),
    *(
        Row(f"{key}-run", title, "s", 1.0, observers.program(*what), rounds, PYTHON, stdlib_times=1.05, of_rounds=min)
        for key, title, what, rounds in (
            ("cpu", "four threads of pure Python", ("cpu_threads", 400_000), 4),
            ("pool", "a process pool", ("process_pool", 280), 4),
            ("pipeline", "a pipeline of queues", ("pipeline", 180_000), 4),
            ("server", "a server and its clients in one event loop", ("server", 1800), 4),
            # In half of its rounds, by itself too, threads queue up behind one lock for the rest of the time.
            ("locks", "transfers under three locks each", ("locks", 130_000), 8),
        )
    ),
    Row("loop-run", "with lock, alone, observed", "ns", NS, observers.loop(2_000_000), 3, PYTHON, stdlib_times=2),
    Row("empty-run", "a program that does nothing", "ms", MS, observers.empty, 3, PYTHON, adds_at_most=80),
    Row("dump-run", "a look at 200 waiting threads", "ms", MS, observers.dump, 3, "start", at_most=100),
)

BY_KEY = {row.key: row for row in ROWS}
