"""`Pool.map_reduce`, `Pool.reduce` and `Pool.scan`: what many calls come to, put together in the workers.

The input is cut into leaves of a fixed number of items, and the leaves are combined in pairs of neighbours, pairs of pairs, and
so on: the carries of a binary counter (Knuth, The Art of Computer Programming, volume 3, section 5.2.4, on merging lists).
The shape of that tree follows from the number of items alone, so floating-point results are the same bits for every number of
workers, and operators need not be commutative.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .pool import Pool

__all__ = ["itself", "map_reduce", "scan"]


def map_reduce(
    pool: Pool,
    fn: Callable[..., Any],
    combine: Callable[[Any, Any], Any],
    iterables: tuple[Iterable[Any], ...],
    initial: Any,
    grain: int,
) -> Any:
    """The body of `Pool.map_reduce`."""
    from .pool import _MISSING as MISSING

    totals = pool.map(functools.partial(_leaf, fn, combine), _leaves(iterables, grain))
    ranks: list[int] = []
    parts: list[Any] = []

    def merge() -> None:
        right, left = _value(parts.pop()), _value(parts.pop())
        parts.append(pool.submit(combine, left, right))

    for total in totals:
        ranks.append(0)
        parts.append(total)
        while len(ranks) > 1 and ranks[-1] == ranks[-2]:
            ranks.pop()
            ranks[-1] += 1
            merge()
    while len(parts) > 1:
        merge()
    if not parts:
        if initial is MISSING:
            raise TypeError("the input is empty, and there is no initial value")
        return initial
    total = _value(parts[0])
    return total if initial is MISSING else pool.submit(combine, initial, total).result()


def scan(
    pool: Pool, combine: Callable[[Any, Any], Any], iterable: Iterable[Any], initial: Any, grain: int
) -> Iterator[Any]:
    """The body of `Pool.scan`."""
    from .pool import _MISSING as MISSING

    before = initial
    if before is not MISSING:
        yield before
    under_way: deque[Any] = deque()
    try:
        for sums in pool.map(functools.partial(_sums, combine), _leaves((iterable,), grain)):
            if before is MISSING:
                under_way.append(sums)
                before = sums[-1]
            else:
                under_way.append(pool.submit(_behind, combine, before, sums))
                before = pool.submit(combine, before, sums[-1]).result()
            while len(under_way) > 2 * pool.workers:
                yield from _value(under_way.popleft())
        while under_way:
            yield from _value(under_way.popleft())
    finally:
        for part in under_way:
            if not isinstance(part, list):
                part._cancel_waiting()


def _leaves(iterables: tuple[Iterable[Any], ...], grain: int) -> Iterator[list[tuple[Any, ...]]]:
    calls = zip(*iterables, strict=False)
    while leaf := list(itertools.islice(calls, grain)):
        yield leaf


def _leaf(fn: Callable[..., Any], combine: Callable[[Any, Any], Any], calls: list[tuple[Any, ...]]) -> Any:
    return functools.reduce(combine, itertools.starmap(fn, calls))


def _sums(combine: Callable[[Any, Any], Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    return list(itertools.accumulate((item for (item,) in calls), combine))


def _behind(combine: Callable[[Any, Any], Any], before: Any, sums: list[Any]) -> list[Any]:
    return [combine(before, item) for item in sums]


def _value(part: Any) -> Any:
    """A part of the tree: a value, or the future of one."""
    from ._future import Future

    return part.result() if isinstance(part, Future) else part


def itself(value: Any) -> Any:
    """What `Pool.reduce` maps."""
    return value
