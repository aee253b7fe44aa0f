"""The rows of `channel` that cross to another process: one puts in, another takes out, through whatever a contender gives.

The other process is forked, so that both have what they use without sending it.
"""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

from contenders import Contender, Modules
from sizes import Effort, Numbers, again

CAPACITY = 1024
"""How many values each holds."""
WORKERS = 2


def in_child(work: Callable[[], None]) -> Any:
    """A forked process that does `work`. It ends as `multiprocessing` has it: what a queue has not written yet is written."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def ends_of(contender: Contender) -> tuple[Callable[[Any], object], Callable[[], Any]]:
    modules: Modules = contender.open(WORKERS)
    assert modules.crossing is not None, f"{contender.name} crosses to other processes"
    return modules.crossing(CAPACITY)


def through(contender: Contender, effort: Effort) -> Numbers:
    """One process sends numbers, one receives them, as fast as they can; per item."""
    items = 5 * effort.tasks

    def work() -> None:
        send, take = ends_of(contender)

        def produce() -> None:
            for number in range(items + 1):
                send(number)

        child = in_child(produce)
        assert take() == 0
        began = perf_counter()
        for number in range(1, items + 1):
            assert take() == number
        times.append(perf_counter() - began)
        child.join()

    times: list[float] = []
    again(effort.seconds, work)
    return {"median": statistics.median(times) / items}


def trip(contender: Contender, effort: Effort) -> Numbers:
    """A number goes to a process that waits for it, and comes back; one at a time."""
    (send, heard), (answer, take) = ends_of(contender), ends_of(contender)

    def echo() -> None:
        for _ in range(effort.calls):
            answer(heard())

    child = in_child(echo)
    times = []
    for number in range(effort.calls):
        began = perf_counter()
        send(number)
        value = take()
        times.append(perf_counter() - began)
        assert value == number
    child.join()
    times = times[len(times) // 10 :]
    return {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}
