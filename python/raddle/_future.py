"""`Future`, and waiting for several of them."""

from __future__ import annotations

import concurrent.futures as stdlib
import time
from concurrent.futures._base import DoneAndNotDoneFutures

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ._types import T

__all__ = ["Future", "as_completed", "wait"]


class Future(_raddle.FutureCore, stdlib.Future["T"]):
    """What a call will come to. A `concurrent.futures.Future` whose work is native.

    Made by executors and pools; make one yourself only for tests, as in the standard library.
    """

    if TYPE_CHECKING:
        # The native class knows no types of results.
        def result(self, timeout: float | None = ...) -> T: ...
        def exception(self, timeout: float | None = ...) -> BaseException | None: ...
        def set_result(self, result: T) -> None: ...
        def set_exception(self, exception: BaseException | None) -> None: ...
        def add_done_callback(self, fn: Callable[[stdlib.Future[T]], object], /) -> None: ...


Future.__module__ = "raddle.futures"
_raddle.set_future_type(Future)


def as_completed(fs: Iterable[stdlib.Future[T]], timeout: float | None = None) -> Iterator[stdlib.Future[T]]:
    """Yields futures as they end, those that have ended first. Duplicates are yielded once.

    Args:
        fs: Futures, of any executors.
        timeout: Seconds to wait for all of them, from the first `next`. None waits for ever.

    Raises:
        TimeoutError: If not all ended in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pending = set(fs)
    del fs  # the caller's list must not keep alive what has been given out
    if not all(isinstance(future, _raddle.FutureCore) for future in pending):
        yield from stdlib.as_completed(pending, timeout)
        return
    total = left = len(pending)
    watch = _raddle.WatchSet(list(pending))
    pending.clear()
    try:
        while left:
            ended = watch.next(None if deadline is None else deadline - time.monotonic())
            if not ended:
                raise stdlib.TimeoutError(f"{left} (of {total}) futures unfinished")
            left -= len(ended)
            ended.reverse()
            while ended:
                yield ended.pop()
    finally:
        watch.close()


def wait(
    fs: Iterable[stdlib.Future[T]], timeout: float | None = None, return_when: str = stdlib.ALL_COMPLETED
) -> DoneAndNotDoneFutures[T]:
    """Waits for futures, and returns which of them have ended and which have not.

    Args:
        fs: Futures, of any executors.
        timeout: Seconds to wait. None waits for ever.
        return_when: `ALL_COMPLETED`, `FIRST_COMPLETED` or `FIRST_EXCEPTION`.

    Raises:
        ValueError: If `return_when` is none of these.
    """
    everything = set(fs)
    if not all(isinstance(future, _raddle.FutureCore) for future in everything):
        return stdlib.wait(everything, timeout, return_when)
    if return_when not in (stdlib.ALL_COMPLETED, stdlib.FIRST_COMPLETED, stdlib.FIRST_EXCEPTION):
        raise ValueError(f"Invalid return condition: {return_when!r}")
    deadline = None if timeout is None else time.monotonic() + timeout
    done: set[stdlib.Future[T]] = set()
    watch = _raddle.WatchSet(list(everything))
    try:
        ended = watch.next(0)
        while True:
            done.update(ended)
            if len(done) == len(everything) or (ended and _is_enough(ended, return_when)):
                break
            ended = watch.next(None if deadline is None else deadline - time.monotonic())
            if not ended:
                break
    finally:
        watch.close()
    return DoneAndNotDoneFutures(done, everything - done)


def _is_enough(ended: list[Any], return_when: str) -> bool:
    if return_when == stdlib.FIRST_COMPLETED:
        return True
    return return_when == stdlib.FIRST_EXCEPTION and any(
        not future.cancelled() and future.exception() is not None for future in ended
    )
