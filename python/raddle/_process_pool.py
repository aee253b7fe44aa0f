"""`ProcessPoolExecutor`: the standard library's, on the process lane."""

from __future__ import annotations

import concurrent.futures.process as stdlib
import functools
import multiprocessing as mp
import signal
import time

from . import _exit, _raddle
from ._context_crew import ContextCrew
from ._cpus import share_of_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from typing import Any

    from ._future import Future
    from ._types import P, T

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]

BrokenProcessPool = stdlib.BrokenProcessPool


def _remote_traceback(text: str) -> BaseException:
    # typeshed takes the text for a traceback object.
    traceback: BaseException = stdlib._RemoteTraceback(f'\n"""\n{text}"""')  # type: ignore[arg-type]
    return traceback


class Crew(ContextCrew):
    """The workers of an executor."""

    calls_back = True

    def __init__(
        self,
        most: int,
        context: BaseContext,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
    ) -> None:
        super().__init__(
            most,
            context,
            initializer,
            initargs,
            max_tasks,
            for_pool=False,
            broken=BrokenProcessPool,
            remote_traceback=_remote_traceback,
        )

    def grow(self) -> None:
        """Starts one more worker; with the fork method all of them, before this process has threads of ours."""
        _exit.check_not_exiting()
        with self._lock:
            first = not self.processes
            missing = self._most - len(self.processes)
            if first:
                _exit.remember(self)
            try:
                for _ in range(
                    missing if first and self._method == "fork" else min(missing, 1 if self._may_grow() else 0)
                ):
                    self._settle(self._begin())
            finally:  # also if Ctrl-C came in between: no worker is without a keeper
                if first:
                    self.lane.start_keeper(self._departed, self._broken)

    def _may_grow(self) -> bool:
        # A fork would copy our own threads' locks: the pool stays as it was made, as in the standard library.
        return self._method != "fork" or not self.processes

    def _departed(self, seat: int, pid: int, exitcode: int | None, expected: bool, has_work: bool) -> None:
        self._collect(pid)  # who has its object may still ask how it has ended
        # Asked again: what came while the process was still in `processes` found no free place.
        if expected and (has_work or self.lane.outstanding()) and self.lane.refusal() in (None, ""):
            with self._lock:
                if len(self.processes) < self._most:  # a submit may have been faster
                    self._settle(self._begin())

    def _broken(self, reason: str) -> None:
        """The lane has told every future and every worker; there is nothing left to do."""

    def close(self) -> None:
        """Takes no more calls."""
        self.lane.close(False)

    def join(self, timeout: float | None = None) -> None:
        """Waits until every worker has ended."""
        if self.lane.join(timeout):
            _exit.forget(self)

    def abandon(self) -> None:
        """Ends every worker at once, and waits until that is done."""
        self.lane.destroy("the program was interrupted while it waited for its end", signal.SIGKILL)
        _exit.insist_on(self.lane.join)


class _Keeper:
    """What the standard library calls the executor manager thread, as far as others use it."""

    def __init__(self, lane: _raddle.ProcessLane) -> None:
        self._lane = lane

    def join(self, timeout: float | None = None) -> None:
        self._lane.join(timeout)

    def is_alive(self) -> bool:
        return self._lane.is_kept()


class _NoQueue:
    """The standard library's call queue, which there is none of."""

    def join_thread(self) -> None:
        pass

    def close(self) -> None:
        pass


class ProcessPoolExecutor(stdlib.ProcessPoolExecutor):
    """Runs calls in processes. Drop-in for `concurrent.futures.ProcessPoolExecutor`.

    Args:
        max_workers: Worker processes at most. By default the CPUs that this process may use, or in a worker of another pool its share of
            them.
        mp_context: A `multiprocessing` context; says how workers are started.
        initializer: Called in each worker before its first call. If it raises, the pool is broken.
        initargs: Arguments of `initializer`.
        max_tasks_per_child: Calls after which a worker is replaced; not with the fork start method.

    A worker that dies breaks the pool, as in the standard library: every call that has not ended raises
    `BrokenProcessPool`. `raddle.Pool` lives on.

    Example:
        >>> from raddle.futures import ProcessPoolExecutor
        >>> with ProcessPoolExecutor(2) as executor:
        ...     list(executor.map(pow, [2, 3], [10, 10]))
        [1024, 59049]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = share_of_cpus()
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if mp_context is None:
            mp_context = mp.get_context("spawn") if max_tasks_per_child is not None else mp.get_context()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if mp_context.get_start_method(allow_none=False) == "fork":
                raise ValueError("max_tasks_per_child is incompatible with the 'fork' multiprocessing start method")
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._initializer = initializer  # type: ignore[assignment]  # typeshed wants it to return None
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._crew = Crew(max_workers, mp_context, initializer, initargs, max_tasks_per_child)
        self._lane = self._crew.lane
        _exit.when_dropped(self, self._crew.close)

    @property
    def _processes(self) -> dict[int, BaseProcess]:  # type: ignore[override]
        return self._crew.processes

    @property
    def _broken(self) -> str | bool:  # type: ignore[override]
        return self._lane.refusal() or False

    @property
    def _executor_manager_thread(self) -> _Keeper | None:  # type: ignore[override]
        return _Keeper(self._lane) if self._lane.is_kept() else None

    @property
    def _call_queue(self) -> _NoQueue:
        return _NoQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules ``fn(*args, **kwargs)`` and returns its future.

        What cannot be pickled is raised by that future alone.

        Raises:
            RuntimeError: After `shutdown`, or when the interpreter is ending.
            BrokenProcessPool: If a worker died or the initializer raised.
        """
        return self._lane.submit(fn, args, kwargs)

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
            chunksize: So many items go to a worker as one call, done to its end or to the first that raises. Not needed to
                be fast: without it every item is a call of its own and costs little.
            buffersize: Calls scheduled and not yielded, at most.
        """
        from ._map import is_overridden, lazy_or_eager_map  # who submits alone does not load it

        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        overridden = is_overridden(self.submit, ProcessPoolExecutor.submit)
        # A worker that is replaced after so many calls counts records, and a piece of a map has many calls.
        if chunksize == 1 and buffersize is None and not overridden and self._max_tasks_per_child is None:
            results = self._map(fn, iterables, timeout)
            if results is not None:
                return results
        deadline = None if timeout is None else timeout + time.monotonic()
        submit_all = None if overridden else functools.partial(self._submit_all, chunksize)
        return lazy_or_eager_map(self, fn, iterables, deadline, buffersize, submit_all, chunksize > 1)

    def _map(
        self, fn: Callable[..., T], iterables: tuple[Iterable[Any], ...], timeout: float | None
    ) -> Iterator[T] | None:
        from ._map import INERT

        try:
            binding = self._lane.bind(fn)
        except Exception:  # noqa: BLE001  # it cannot be pickled: each call says so
            return None
        starred = len(iterables) != 1
        return self._lane.map(
            binding,
            zip(*iterables, strict=False) if starred else iterables[0],
            starred=starred,
            inert=all(type(iterable) in INERT for iterable in iterables),
            timeout=timeout,
        )

    def _submit_all(self, size: int, fn: Callable[..., T], calls: _raddle.Input, starred: bool) -> list[Future[T]]:
        try:
            binding = self._lane.bind(fn)
        except Exception:  # noqa: BLE001  # it cannot be pickled: each call says so
            return [self.submit(fn, *(args if starred else (args,))) for args in calls]
        futures: list[Future[T]] = []
        self._lane.submit_all(binding, calls, futures, starred=starred, size=size, whole=True)
        return futures

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls.

        Args:
            wait: Wait until every worker has ended.
            cancel_futures: Cancel what has not started.
        """
        self._lane.close(cancel_futures)
        if wait:
            self._crew.join()

    def terminate_workers(self) -> None:
        """Ends every worker with SIGTERM, and with them the calls that run. Shuts the pool down."""
        self._force_shutdown(operation="terminate")

    def kill_workers(self) -> None:
        """Ends every worker with SIGKILL, and with them the calls that run. Shuts the pool down."""
        self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation: str) -> None:
        # The standard library's name, which subclasses replace.
        import contextlib

        from ._map import is_overridden

        if operation not in _ENDS:
            raise ValueError(f"Unsupported operation: {operation!r}")
        # A process of a class of the user's own has its own way to end, and the standard library promises that it is asked.
        for process in list(self._crew.processes.values()):
            end = getattr(process, operation)
            if is_overridden(end, getattr(mp.process.BaseProcess, operation)) and process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    end()
        self._lane.destroy(f"the workers were ended by {operation}_workers()", _ENDS[operation])
        self._lane.close(True)


_ENDS = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL}


ProcessPoolExecutor.__module__ = "raddle.futures"
