"""`Pool` and `ThreadPool`: the standard library's, on Raddle's lanes.

Everything is there that `multiprocessing.pool` has. The classes are subclasses of the standard library's, and the exceptions
are the standard library's own.
"""

from __future__ import annotations

import multiprocessing.pool as stdlib
import warnings
from multiprocessing import TimeoutError  # noqa: A004  # the standard library has it here
from multiprocessing.pool import (  # type: ignore[attr-defined]  # typeshed lacks the exceptions
    CLOSE,
    INIT,
    RUN,
    TERMINATE,
    MaybeEncodingError,
    RemoteTraceback,
)

from .. import _exit, _raddle
from .._cpus import share_of_cpus
from ._results import (
    ApplyResult,
    AsyncResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    failed,
)
from ._workers import ProcessWorkers, ThreadWorkers
from .context import get_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from multiprocessing.context import BaseContext
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from .._future import Future
    from .._types import S, T

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "RemoteTraceback",
    "ThreadPool",
    "TimeoutError",
]


class _Handler:
    """What the standard library's threads behind a pool are here, as far as others use them."""

    daemon = True

    def __init__(self, workers: ProcessWorkers | ThreadWorkers) -> None:
        self._workers = workers

    def is_alive(self) -> bool:
        return self._workers.is_alive()

    def join(self, timeout: float | None = None) -> None:
        if timeout is None:
            self._workers.join()


def _is_positive(number: object) -> bool:
    return isinstance(number, int) and number > 0


class Pool(stdlib.Pool):
    """Runs calls in processes. Drop-in for `multiprocessing.pool.Pool`.

    Args:
        processes: Worker processes. By default the CPUs that this process may use.
        initializer: Called in each worker before its first call. If it raises, calls raise `raddle.BrokenPool`.
        initargs: Arguments of `initializer`.
        maxtasksperchild: Calls, or chunks of calls, after which a worker is replaced.
        context: A `multiprocessing` context; says how workers are started.

    A worker that dies fails the call that it ran, with `raddle.WorkerDied`; the pool goes on with another worker. Leaving
    the block of a pool terminates it.

    Example:
        >>> from raddle.multiprocessing import Pool
        >>> with Pool(2) as pool:
        ...     pool.map(abs, [-1, 2, -3])
        [1, 2, 3]
    """

    _workers: ProcessWorkers | ThreadWorkers

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
    ) -> None:
        self._state = INIT
        self._ctx = context if context is not None else get_context()
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = tuple(initargs)
        if processes is None:
            processes = share_of_cpus()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and not _is_positive(maxtasksperchild):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._workers = self._make_workers()
        self._workers.fill()
        _exit.when_dropped(self, self._workers.close)
        self._state = RUN

    def _make_workers(self) -> ProcessWorkers | ThreadWorkers:
        return ProcessWorkers(self._processes, self._ctx, self._initializer, self._initargs, self._maxtasksperchild)

    # What it needs is kept in defaults: at the end of the interpreter modules lose their names.
    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN) -> None:
        if getattr(self, "_state", None) == _run:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    @property
    def _pool(self) -> list[Any]:
        return self._workers.members() if hasattr(self, "_workers") else []

    @property
    def _worker_handler(self) -> _Handler:
        return _Handler(self._workers)

    _task_handler = _result_handler = _worker_handler

    def _repopulate_pool(self) -> None:
        self._workers.fill()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _submit(self, func: Callable[..., T], args: Iterable[Any], kwds: Mapping[str, Any]) -> Future[T]:
        self._check_running()
        try:
            # What is no tuple and no dict was unpacked by the worker in the standard library.
            args, kwds = args if type(args) is tuple else tuple(args), kwds if type(kwds) is dict else dict(kwds)
        except Exception as error:  # noqa: BLE001  # of the call, and of nobody else
            return failed(error)
        return self._workers.submit(func, args, kwds)

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> T:
        """What ``func(*args, **kwds)`` returns in a worker."""
        return self._submit(func, args, kwds).result()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult[T]:
        """Schedules ``func(*args, **kwds)``.

        Args:
            func: The function.
            args: Its arguments.
            kwds: Its keyword arguments.
            callback: Called with what it returned, before the result is ready. In a thread of the pool: it should not block.
            error_callback: Called with what it raised.

        Raises:
            ValueError: If the pool was closed or terminated.
            raddle.BrokenPool: If its workers cannot be set up.
        """
        return ApplyResult(self._submit(func, args, kwds), callback, error_callback)

    def map(self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int | None = None) -> list[T]:
        """The results of `func` for each item, as a list.

        Args:
            func: The function.
            iterable: The items. All of them are taken first.
            chunksize: So many items go to a worker at once; by default a quarter of what is each worker's share.

        Raises the exception of the first call that raised, once all have ended. Within a chunk the calls after it are left out.
        """
        return self._map(func, iterable, False, chunksize, None, None).get()

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """Schedules what `map` does, and returns its result to wait for. The callbacks are those of `apply_async`."""
        return self._map(func, iterable, False, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """As `map`, where each item has all arguments of a call: ``func(*item)``."""
        return self._map(func, iterable, True, chunksize, None, None).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """As `map_async`, where each item has all arguments of a call."""
        return self._map(func, iterable, True, chunksize, callback, error_callback)

    def _map(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        starred: bool,
        chunksize: int | None,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> MapResult[T]:
        self._check_running()
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (self._processes * 4)))
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        futures: list[Future[Any]] = []
        failure: BaseException | None = None
        try:
            submit_all = self._workers.binder(func, starred, chunksize)
            calls = _raddle.Input(map(tuple, items) if starred else items)
            submit_all(calls, futures)
            failure = calls.take_failure()
        except Exception as error:  # noqa: BLE001  # such as a function that cannot be pickled: the result says so
            failure = error
        if failure is not None and not futures:
            futures, failure = [failed(failure)], None
        return MapResult(futures, failure, chunksize, callback, error_callback)

    def imap(self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int | None = 1) -> IMapIterator[T]:
        """An iterator of the results of `func` for each item, in order.

        A list, a range and the like are scheduled at once; any other iterable is read by a thread, while calls end.

        Args:
            func: The function.
            iterable: The items.
            chunksize: So many items go to a worker at once. Not needed to be fast.
        """
        return IMapIterator(self._workers, func, iterable, self._checked(chunksize))

    def imap_unordered(
        self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int | None = 1
    ) -> IMapIterator[T]:
        """As `imap`, but those results come first that are there first."""
        return IMapUnorderedIterator(self._workers, func, iterable, self._checked(chunksize))

    def _checked(self, chunksize: int | None) -> int:
        self._check_running()
        if chunksize is None or chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        return chunksize

    def close(self) -> None:
        """Takes no more calls. Workers end when they have done what there is."""
        if self._state == RUN:
            self._state = CLOSE
            self._workers.close()

    def terminate(self) -> None:
        """Ends every worker at once. What has not ended raises `raddle.BrokenPool`.

        Threads cannot be ended: a `ThreadPool` leaves out what has not started.
        """
        self._state = TERMINATE
        self._workers.terminate("the pool was terminated before this call had ended")

    def join(self) -> None:
        """Waits until every worker has ended.

        Raises:
            ValueError: If the pool was neither closed nor terminated.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._workers.join()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.terminate()

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")


class ThreadPool(Pool, stdlib.ThreadPool):
    """Runs calls on threads. Drop-in for `multiprocessing.pool.ThreadPool`.

    Args:
        processes: Threads. By default as many as there are CPUs that this process may use.
        initializer: Called in each thread before its first call. If it raises, calls raise `raddle.BrokenPool`.
        initargs: Arguments of `initializer`.

    Example:
        >>> from raddle.multiprocessing import ThreadPool
        >>> with ThreadPool(2) as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        Pool.__init__(self, processes, initializer, initargs)

    def _make_workers(self) -> ThreadWorkers:
        return ThreadWorkers(self._processes, self._initializer, self._initargs)
