"""The body of `Executor.map`, the same for every executor."""

from __future__ import annotations

import itertools
import time
import weakref
from collections import deque

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

    from ._future import Future
    from ._types import T

__all__ = ["lazy_or_eager_map"]


def lazy_or_eager_map(
    executor: Any,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    deadline: float | None,
    buffersize: int | None,
    submit_all: Callable[[Callable[..., T], Iterator[Any], bool], list[Future[T]]] | None,
    unpack: Callable[[Any], BaseException] | None = None,
) -> Iterator[T]:
    """The body of `Executor.map`.

    `submit_all` schedules a call for each item, which is the only argument or, if it is told so, the tuple of all
    arguments. None has each call go through `submit`, which may be a subclass's. If its futures may be batches, `unpack` makes
    the exception that one brought along.
    """
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    calls = zip(*iterables, strict=False)
    if buffersize is not None:
        first = deque(executor.submit(fn, *args) for args in itertools.islice(calls, buffersize))
        return _buffered(weakref.ref(executor), fn, calls, first, deadline)
    if submit_all is not None:
        starred = len(iterables) != 1
        futures = submit_all(fn, calls if starred else iter(iterables[0]), starred)
        if unpack is not None:
            return _raddle.Results(_map_batches(futures, deadline, unpack))
        return map_results(futures, deadline)
    return map_results([executor.submit(fn, *args) for args in calls], deadline)


def _buffered(
    executor: weakref.ref[Any],
    fn: Callable[..., T],
    calls: Iterator[tuple[Any, ...]],
    futures: deque[Future[T]],
    deadline: float | None,
) -> Iterator[T]:
    try:
        while futures:
            pool = executor()
            args = None if pool is None else next(calls, None)
            if pool is not None and args is not None:
                futures.append(pool.submit(fn, *args))
            del pool
            future = futures.popleft()
            try:
                yield future.result(None if deadline is None else deadline - time.monotonic())
            finally:
                future.cancel()
                del future
    finally:
        for future in futures:
            future.cancel()


def map_results(futures: list[Future[T]], deadline: float | None) -> Generator[T]:
    """Yields the results of `futures` in order, letting go of each, and cancels the rest however it ends."""
    futures.reverse()
    try:
        while futures:
            yield futures.pop().result() if deadline is None else _result_or_cancel(futures.pop(), deadline)
    finally:
        for future in futures:
            future.cancel()


def _map_batches(
    futures: list[Future[Any]], deadline: float | None, unpack: Callable[[Any], BaseException]
) -> Iterator[list[Any]]:
    """The same where each future may be a batch, as lists of results."""
    sizes = [future._items for future in futures]
    sizes.reverse()
    values = map_results(futures, deadline)
    try:
        for value in values:
            if sizes.pop() == 0:
                yield [value]
                continue
            results, failure = value
            del value
            yield results
            del results
            if failure is not None:
                raise unpack(failure)
    finally:
        values.close()


def _result_or_cancel(future: Future[T], deadline: float) -> T:
    try:
        return future.result(deadline - time.monotonic())
    except BaseException:
        future.cancel()
        raise
    finally:
        del future  # an exception's traceback must not keep its own future alive
