"""`ThreadPoolExecutor`: the standard library's, on a native queue."""

from __future__ import annotations

import concurrent.futures.thread as stdlib
import itertools
import threading
import time
from concurrent.futures._base import LOGGER

from . import _exit, _raddle
from ._cpus import share_of_cpus, share_of_each, take_share
from ._future import Future  # noqa: TC001  # also tells the lane which class to make
from ._map import INERT, is_overridden, lazy_or_eager_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ._types import P, T

__all__ = ["BrokenThreadPool", "Crew", "ThreadPoolExecutor"]

BrokenThreadPool = stdlib.BrokenThreadPool


class Crew:
    """The threads of a pool. Knows the lane, not the pool, so that a pool can be dropped while its threads work."""

    calls_back = False

    def __init__(
        self,
        lane: _raddle.ThreadLane,
        most: int,
        prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        explain: Callable[[BaseException], BaseException],
    ) -> None:
        """`explain` makes the exception for calls that a failed initializer leaves undone."""
        self.lane = lane
        self.threads: set[threading.Thread] = set()
        self.broken: str | None = None
        self._explain = explain
        self._most = most
        self._prefix = prefix
        self._initializer = initializer
        self._initargs = initargs
        self._share = share_of_each(most)
        self._lock = threading.Lock()
        self._started = 0

    def grow(self) -> None:
        """Starts one more thread, if there may be one."""
        _exit.check_not_exiting()
        with self._lock:
            if len(self.threads) >= self._most:
                return
            name = f"{self._prefix}_{self._started}"
            self._started += 1
            number = self.lane.hire(name)
            thread = threading.Thread(name=name, target=self._work, args=(number, _raddle.fork_lock_order()))
            try:
                thread.start()
            except BaseException:
                self.lane.dismiss(number)
                raise
            if not self.threads:
                _exit.remember(self)
            self.threads.add(thread)

    def _work(self, number: int, before: list[tuple[int, int]] | None) -> None:
        take_share(self._share)
        if before is not None:
            _raddle.follow_lock_order(before)
        try:
            if self._initializer is not None:
                try:
                    self._initializer(*self._initargs)
                except BaseException as error:  # noqa: BLE001  # reported, and by every future
                    LOGGER.critical("Exception in initializer:", exc_info=True)
                    self._break(error)
                    self._leave(number)
                    return
            left = self.lane.run(number)
            if left is None:  # it had nothing to do for a while, and has been counted out
                with self._lock:
                    self.threads.discard(threading.current_thread())
                if self.lane.wants_thread() and not self.lane.is_closed():
                    self.grow()  # what came since then found no free place
            elif left == 0:
                _exit.forget(self)
            return
        except BaseException:  # noqa: BLE001  # nobody is left to raise it to
            LOGGER.critical("Exception in worker", exc_info=True)
        self._leave(number)

    def _leave(self, number: int) -> None:
        if self.lane.dismiss(number) == 0 and self.lane.is_closed():
            _exit.forget(self)

    def _break(self, error: BaseException) -> None:
        self.broken = str(self._explain(error))
        self.lane.close()
        for future in self.lane.take_back(lambda: self._explain(error)):
            if future.set_running_or_notify_cancel():
                future.set_exception(self._explain(error))
                self.lane.count_failed(future._items or 1)

    def close(self) -> None:
        """Takes no more calls."""
        self.lane.close()

    def join(self) -> None:
        """Waits until every thread has ended."""
        if self.lane.wait_for_exits():
            return
        for thread in list(self.threads):
            thread.join()

    def abandon(self) -> None:
        """A thread cannot be ended; the interpreter waits for it, or not, as for every other one."""

    def is_over(self) -> bool:
        """Whether no thread runs any more."""
        return not any(thread.is_alive() for thread in list(self.threads))


def _broken(_: BaseException) -> BaseException:
    return BrokenThreadPool("A thread initializer failed, the thread pool is not usable anymore")


class ThreadPoolExecutor(stdlib.ThreadPoolExecutor):
    """Runs calls on threads. Drop-in for `concurrent.futures.ThreadPoolExecutor`.

    Args:
        max_workers: Threads at most; they are started as they are needed. By default CPUs + 4, 32 at most; in a worker of another pool
            its share of the CPUs counts.
        thread_name_prefix: What the threads' names begin with.
        initializer: Called in each thread before its first call. If it raises, the pool is broken.
        initargs: Arguments of `initializer`.

    A thread of the pool that waits for another call of the same pool, when nobody is left to run it, gets a
    `raddle.errors.DeadlockError` where the standard library would wait for ever.

    Example:
        >>> from raddle.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as executor:
        ...     list(executor.map(pow, [2, 3], [10, 10]))
        [1024, 59049]
    """

    _counter = itertools.count().__next__

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if max_workers is None:
            max_workers = min(32, share_of_cpus() + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = max_workers
        self._thread_name_prefix = thread_name_prefix or f"ThreadPoolExecutor-{ThreadPoolExecutor._counter()}"
        self._initializer = initializer  # type: ignore[assignment]  # typeshed wants it to return None
        self._initargs = initargs
        self._lane = _raddle.ThreadLane(max_workers)
        self._crew = Crew(self._lane, max_workers, self._thread_name_prefix, initializer, initargs, _broken)
        self._shutdown_lock = threading.Lock()
        _exit.when_dropped(self, self._lane.close)

    @property
    def _threads(self) -> set[threading.Thread]:  # type: ignore[override]
        return self._crew.threads

    @property
    def _broken(self) -> str | bool:  # type: ignore[override]
        return self._crew.broken or False

    @property
    def _shutdown(self) -> bool:  # type: ignore[override]
        return self._lane.is_closed()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules ``fn(*args, **kwargs)`` and returns its future.

        Raises:
            RuntimeError: After `shutdown`, or when the interpreter is ending.
            BrokenThreadPool: If the initializer raised.
        """
        if self._crew.broken is not None:
            raise BrokenThreadPool(self._crew.broken)
        future, wants_thread = self._lane.submit(fn, args, kwargs)
        if wants_thread:
            self._crew.grow()
        return future

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Returns an iterator of ``fn(*args)`` for each ``args`` of ``zip(*iterables)``, in order.

        All calls are scheduled at once, unless `buffersize` limits how many are ahead of the iterator.

        Args:
            fn: The function.
            *iterables: Its arguments.
            timeout: Seconds from now until the last result; `TimeoutError` is raised when they are over.
            chunksize: Accepted and ignored, as in the standard library.
            buffersize: Calls scheduled and not yielded, at most.
        """
        deadline = None if timeout is None else timeout + time.monotonic()
        if buffersize is not None or is_overridden(self.submit, ThreadPoolExecutor.submit):
            return lazy_or_eager_map(self, fn, iterables, deadline, buffersize, None)
        if self._crew.broken is not None:
            raise BrokenThreadPool(self._crew.broken)
        starred = len(iterables) != 1
        return self._lane.map(
            fn,
            zip(*iterables, strict=False) if starred else iterables[0],
            self._crew.grow,
            starred=starred,
            inert=all(type(iterable) in INERT for iterable in iterables),
            timeout=timeout,
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls.

        Args:
            wait: Wait until every thread has ended.
            cancel_futures: Cancel what has not started.
        """
        self._lane.close()
        if cancel_futures:
            for future in self._lane.take_back():
                future.cancel()
        if wait:
            self._crew.join()


ThreadPoolExecutor.__module__ = "raddle.futures"
