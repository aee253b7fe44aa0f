"""What `raddle.shared.statistics` returns."""

from __future__ import annotations

from typing import NamedTuple

from . import _raddle
from ._lanes import lanes

__all__ = ["Holding", "Statistics", "gathered"]


class Holding(NamedTuple):
    """What one worker has of shared memory, in bytes.

    Attributes:
        pool: The name of its pool.
        pid: Its process number; None for calls that wait for any worker.
        arguments: Of calls that it was sent and has not answered.
        kept: Arguments of calls that it has answered, and that its functions have kept.
        results: What this process keeps of its results. Not part of `in_use`: they lie in the worker's memory.
    """

    pool: str
    pid: int | None
    arguments: int
    kept: int
    results: int


class Statistics(NamedTuple):
    """Who has what of shared memory, in bytes.

    Attributes:
        limit: What calls may use before a `submit` waits.
        in_use: What this process has made and that is in use: the next three numbers, and what was rounded up.
        arguments: Arguments of calls under way.
        kept: Arguments that workers have kept beyond their calls.
        arrays: Everything else: arrays and buffers made here, and refs.
        results: What this process keeps of its workers' results.
        holdings: The same for each worker that has something.
    """

    limit: int
    in_use: int
    arguments: int
    kept: int
    arrays: int
    results: int
    holdings: tuple[Holding, ...]


def gathered() -> Statistics:
    """The statistics of this moment."""
    holdings = tuple(
        Holding(name, pid or None, arguments, kept, results)
        for lane, name in list(lanes.items())
        for pid, arguments, kept, results in lane.holdings()
    )
    in_use = _raddle.shared_memory_in_use()
    arguments = sum(holding.arguments for holding in holdings)
    kept = sum(holding.kept for holding in holdings)
    results = sum(holding.results for holding in holdings)
    arrays = max(0, in_use - arguments - kept)
    return Statistics(_raddle.shared_memory_limit(), in_use, arguments, kept, arrays, results, holdings)


Holding.__module__ = Statistics.__module__ = "raddle.shared"
