"""The body of `Executor.map`, the same for every executor."""

from __future__ import annotations

import itertools
import time
import weakref
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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
    submit_all: Callable[[Callable[..., T], Iterator[tuple[Any, ...]]], list[Future[T]]] | None = None,
) -> Iterator[T]:
    """The body of `Executor.map`."""
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    calls = zip(*iterables, strict=False)
    if buffersize is not None:
        first = deque(executor.submit(fn, *args) for args in itertools.islice(calls, buffersize))
        return _buffered(weakref.ref(executor), fn, calls, first, deadline)
    if submit_all is not None:
        return map_results(submit_all(fn, calls), deadline)
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


def map_results(futures: list[Future[T]], deadline: float | None) -> Iterator[T]:
    """Yields the results of `futures` in order, letting go of each, and cancels the rest however it ends."""
    futures.reverse()
    try:
        while futures:
            yield futures.pop().result() if deadline is None else _result_or_cancel(futures.pop(), deadline)
    finally:
        for future in futures:
            future.cancel()


def _result_or_cancel(future: Future[T], deadline: float) -> T:
    try:
        return future.result(deadline - time.monotonic())
    except BaseException:
        future.cancel()
        raise
    finally:
        del future  # an exception's traceback must not keep its own future alive
