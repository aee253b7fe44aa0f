"""`Pool.executor`: a pool as an `Executor`, for code that asks for one."""

from __future__ import annotations

import time
from concurrent.futures import Executor

from ._map import lazy_or_eager_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any

    from ._future import Future
    from ._types import P, T
    from .pool import Options, Pool

__all__ = ["PoolExecutor"]


class PoolExecutor(Executor):
    """A pool, or a pool with its terms, under the standard library's interface. Made by `Pool.executor`."""

    def __init__(self, pool: Pool, calls: Pool | Options) -> None:
        self._pool = pool
        self._calls = calls

    @property
    def _max_workers(self) -> int:
        return self._pool.workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Pool.submit`."""
        return self._calls.submit(fn, *args, **kwargs)

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As `concurrent.futures.Executor.map`: all calls are scheduled at once. `Pool.map` is lazy and has batches.

        Args:
            fn: The function.
            *iterables: Its arguments.
            timeout: Seconds from now until the last result; `TimeoutError` is raised when they are over.
            chunksize: Accepted and ignored.
            buffersize: Calls scheduled and not yielded, at most.
        """
        deadline = None if timeout is None else timeout + time.monotonic()
        return lazy_or_eager_map(self, fn, iterables, deadline, buffersize, None, is_facade=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shuts the pool itself down."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<executor of {self._calls!r}>"
