"""How much is done for one number, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Effort:
    """How much is done for one number."""

    calls: int = 2000
    tasks: int = 10_000
    burns: int = 1000
    briefs: int = 20_000
    pending: int = 100_000
    streamed: int = 1_000_000
    seconds: float = 0.5
    """Short work is repeated for as long as this."""


FULL = Effort()
QUICK = Effort(calls=300, tasks=2000, burns=200, briefs=4000, pending=20_000, streamed=100_000, seconds=0.1)

Numbers = dict[str, float]


def again(seconds: float, work: Callable[[], None]) -> list[float]:
    """The durations of `work`, done once to warm up (uncounted when it is short) and repeated for a while."""
    began = perf_counter()
    work()
    first = perf_counter() - began
    if first >= seconds:
        return [first]
    times: list[float] = []
    until = perf_counter() + seconds
    while not times or perf_counter() < until:
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return times
