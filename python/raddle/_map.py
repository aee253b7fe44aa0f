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
    from typing import Any, Final

    from ._future import Future
    from ._types import T

__all__ = ["INERT", "is_overridden", "lazy_or_eager_map"]

#: To iterate over one of these runs no code of anybody's.
INERT: Final = frozenset((list, tuple, range, str, bytes, dict, set, frozenset))


def is_overridden(method: Callable[..., Any], ours: Callable[..., Any]) -> bool:
    """Whether a bound method is another one than `ours`: a subclass's, or one that was put on the instance."""
    return getattr(method, "__func__", None) is not ours


def lazy_or_eager_map(
    executor: Any,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    deadline: float | None,
    buffersize: int | None,
    submit_all: Callable[[Callable[..., T], _raddle.Input, bool], list[Future[T]]] | None,
    in_chunks: bool = False,
    is_facade: bool = False,
) -> Iterator[T]:
    """The body of `Executor.map`.

    `submit_all` schedules a call for each item, which is the only argument or, if it is told so, the tuple of all
    arguments; `in_chunks` says that its futures may be batches, `is_facade` that the executor is an object that nobody else may keep. None has each call go through `submit`, which may be a
    subclass's.
    """
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    if buffersize is not None:
        zipped = zip(*iterables, strict=False)
        first = deque(executor.submit(fn, *args) for args in itertools.islice(zipped, buffersize))
        return _buffered((lambda: executor) if is_facade else weakref.ref(executor), fn, zipped, first, deadline)
    if submit_all is None:
        return map_results([executor.submit(fn, *args) for args in zip(*iterables, strict=False)], deadline)
    starred = len(iterables) != 1
    calls = _raddle.Input(zip(*iterables, strict=False) if starred else iterables[0])
    futures = submit_all(fn, calls, starred)
    failure = calls.take_failure()
    if failure is not None:
        raise failure
    return _raddle.Results(_map_chunks(futures, deadline)) if in_chunks else map_results(futures, deadline)


def _buffered(
    executor: Callable[[], Any],
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


def _map_chunks(futures: list[Future[Any]], deadline: float | None) -> Iterator[list[Any]]:
    """The same where each future may be a batch, as lists of results."""
    sizes = [future._items for future in reversed(futures)]
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
                raised = [failure]
                del failure  # an exception must not be kept by a frame of its own traceback
                raise raised.pop()
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
