"""The rows of `threading` and `queue`: one primitive at a time, out of either module.

Operations of nanoseconds are written out ten times in the body of a loop, so that the loop itself is not in the number.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from time import perf_counter
from typing import Any

from contenders import Contender, Modules
from sizes import Effort, Numbers, again

WRITTEN_OUT = 10
SAMPLE = 200e-6
"""How long one sample takes, about, for everybody: a share of a scheduler's slice, so that where the machine is shared the median is a
sample that nobody has interrupted."""
WORKERS = 2

Measure = Callable[[Contender, Effort], Numbers]


def repeated(setup: str, line: str) -> Measure:
    """One line, again and again, in a thread that is alone; per line. `setup` may name `threading` and `queue`."""

    def measure(contender: Contender, effort: Effort) -> Numbers:
        modules: Modules = contender.open(WORKERS)
        return sampled(setup, line, {"threading": modules.threading, "queue": modules.queue}, effort)

    return measure


def sampled(setup: str, line: str, names: dict[str, Any], effort: Effort) -> Numbers:
    """One line, again and again; per line."""
    timer = timeit.Timer("\n".join([line] * WRITTEN_OUT), setup, globals=names)
    loops = 1
    while min(timer.timeit(loops) for _ in range(3)) < SAMPLE:
        loops *= 2
    times: list[float] = []
    again(effort.seconds, lambda: times.append(timer.timeit(loops)))
    return {"median": statistics.median(times) / (loops * WRITTEN_OUT)}


LOCK = repeated("lock = threading.Lock()", "with lock: pass")
SEMAPHORE = repeated("semaphore = threading.Semaphore()", "with semaphore: pass")
EVENT = repeated("event = threading.Event()", "event.set(); event.wait(); event.clear()")
ASKED = repeated("event = threading.Event()", "event.is_set()")
NOTIFY = repeated("condition = threading.Condition()", "with condition: condition.notify()")
TIMEOUT = repeated("condition = threading.Condition(); condition.acquire()", "condition.wait(0)")
BARRIER = repeated("barrier = threading.Barrier(1)", "barrier.wait()")


def put_and_get(kind: str) -> Measure:
    """One item into an empty queue and out again."""
    return repeated(f"q = queue.{kind}()", "q.put(1); q.get()")


def together(modules: Modules, works: list[Callable[[], None]]) -> None:
    """Does all of it at the same time, each in a thread of its own, and waits for them."""
    threads = [modules.threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def contended(contender: Contender, effort: Effort) -> Numbers:
    """Two threads take the same lock, as often as they can; per block."""
    modules: Modules = contender.open(WORKERS)
    lock, blocks = modules.threading.Lock(), 5 * effort.tasks

    def take() -> None:
        for _ in range(blocks):
            with lock:
                pass

    times = again(effort.seconds, lambda: together(modules, [take, take]))
    return {"median": statistics.median(times) / (2 * blocks)}


def birth(contender: Contender, effort: Effort) -> Numbers:
    """A thread that does nothing, from its making until it has ended."""
    modules: Modules = contender.open(WORKERS)
    Thread = modules.threading.Thread  # noqa: N806 (a class)

    def nothing() -> None:
        pass

    def work() -> None:
        thread = Thread(target=nothing)
        thread.start()
        thread.join()

    return {"median": statistics.median(again(effort.seconds, work))}


def between(contender: Contender, effort: Effort) -> Numbers:
    """One thread puts, one gets, as fast as they can; per item."""
    modules: Modules = contender.open(WORKERS)
    items = 5 * effort.tasks

    def work() -> None:
        queue = modules.queue.Queue(1024)

        def put() -> None:
            for number in range(items):
                queue.put(number)

        def get() -> None:
            for number in range(items):
                assert queue.get() == number

        together(modules, [put, get])

    return {"median": statistics.median(again(effort.seconds, work)) / items}


def through(contender: Contender, effort: Effort) -> Numbers:
    """The same through something without a bound that has two ends."""
    modules: Modules = contender.open(WORKERS)
    items = 5 * effort.tasks

    def work() -> None:
        send, receive = modules.channel()

        def put() -> None:
            for number in range(items):
                send(number)

        def get() -> None:
            for number in range(items):
                assert receive() == number

        together(modules, [put, get])

    return {"median": statistics.median(again(effort.seconds, work)) / items}


def select(contender: Contender, effort: Effort) -> Numbers:
    """The first of eight channels of which one is ready, and the value put back."""
    import raddle

    contender.open(WORKERS)
    ends = [raddle.channel(1) for _ in range(8)]
    ends[5][0].send(1)
    names = {"select": raddle.select, "r": [receiver for _, receiver in ends], "put": ends[5][0].send}
    return sampled("", "select(*r); put(1)", names, effort)


def trip(contender: Contender, effort: Effort) -> Numbers:
    """An item goes to a thread that waits for it, and comes back through a second queue; one at a time."""
    modules: Modules = contender.open(WORKERS)
    there, back = modules.queue.Queue(), modules.queue.Queue()
    times = []

    def echo() -> None:
        for _ in range(effort.calls):
            back.put(there.get())

    def ping() -> None:
        for number in range(effort.calls):
            began = perf_counter()
            there.put(number)
            value = back.get()
            times.append(perf_counter() - began)
            assert value == number

    together(modules, [echo, ping])
    times = times[len(times) // 10 :]
    return {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}
