"""`Pool`: many calls over a few workers, the same verbs for every kind of worker."""

from __future__ import annotations

import itertools
import time

from . import _raddle
from ._feed import Feed, as_they_come, in_order, total_of
from ._future import Future
from ._future import as_completed as _as_completed
from ._interrupt import seen_from_outside
from ._limits import Limits
from ._limits import whole as _checked
from ._settings import Settings
from ._terms import NO_TERMS, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
    from concurrent.futures import Executor
    from concurrent.futures import Future as AnyFuture
    from types import TracebackType
    from typing import Any, Final, Literal, NoReturn, overload

    from ._output import OutputLine
    from ._pool_processes import ProcessLaneOf
    from ._pool_statistics import PoolStatistics
    from ._pool_threads import ThreadLaneOf
    from ._trace import Trace
    from ._types import P, ProgressLike, T

__all__ = ["Options", "Pool"]

#: Stands for an argument that was not given.
_MISSING: Any = object()
#: Items that `map_reduce` combines in one call.
_GRAIN: Final = 256


class Pool:
    """Runs calls on workers of one kind.

    Args:
        kind: ``"thread"`` or ``"process"``. Threads share everything and take turns where there is a GIL; processes run
            Python code in parallel and exchange pickles.
        workers: Workers at most; they are started as they are needed. By default the CPUs that this process may use; in a worker of another
            pool its share of them, which is that pool's CPUs divided by its number of workers. A pair of numbers makes an elastic
            pool: of the workers beyond the first number, those end that have nothing to do for a while.
        idle_timeout: How long that is, in seconds.
        name: What `repr` and the threads' names show.
        initializer: Called in each worker before its first call. If it raises, the pool is broken.
        initargs: Arguments of `initializer`.
        memory: Of each worker process: bytes that its data may take, or a text such as ``"2GiB"``. Beyond it, a call gets a MemoryError.
        max_tasks_per_child: Calls after which a worker process is replaced.
        nice: How much each worker process gives way to others, 0 to 19.
        affinity: The CPUs that worker processes may run on.
        max_pending: Calls that may be under way at once: handed in, and not ended. Bounds memory. A `map` does not wait for others: its
            window is no wider than this, and comes on top.
        when_full: What `submit` does with a call beyond that: ``"wait"``, or ``"raise"`` `PoolFull`. `run` and `amap` await
            instead of waiting (`amap` always).
        output: What becomes of what workers print: ``"attributed"`` writes it to this program's `sys.stdout` and `sys.stderr`, each line
            with the call and the process in front, ``"plain"`` without; a function is called with each `OutputLine`; with
            ``"inherit"`` workers write to the descriptors that they have inherited. In the first three cases their log records go through
            this program's `logging`, and each of their warnings is shown once.
        blas_threads: Threads that libraries of numbers (BLAS, OpenMP, ...) may start in each worker process. ``"auto"`` shares the
            CPUs among the workers, where the environment says nothing else; None leaves it to the libraries.
        preload: Names of modules that worker processes have from the start. One process loads them, and workers are forked from it in
            milliseconds; it has one thread, so that is safe. If a module starts threads when it is loaded, each worker is a new
            interpreter all the same, and a RuntimeWarning says so.

    Functions, arguments and results of a process pool may be anything that `pickle` or `cloudpickle` can pickle: lambdas,
    closures and what ``__main__`` defines too, and the script needs no ``if __name__ == "__main__"``. Workers are new
    interpreters; they have imported nothing of yours until a call does.

    A worker process that dies costs the call it ran, which raises `raddle.errors.WorkerDied`; the others go on.

    As a context manager it waits for all calls at the end of the block; after an exception it cancels what has not started;
    after Ctrl-C it also ends worker processes at once.

    Fork: a pool belongs to the process that made it; a forked child gets a RuntimeError.

    Raises:
        ValueError: For an unknown kind, or less than one worker.
        TypeError: If `workers` is not a whole number or `initializer` not callable.
        NotImplementedError: For kinds that are planned and not there yet.

    Example:
        >>> import raddle
        >>> with raddle.Pool("thread", workers=2) as pool:
        ...     list(pool.map(lambda x: x * x, range(5)))
        [0, 1, 4, 9, 16]
    """

    def __init__(
        self,
        kind: str,
        workers: int | tuple[int, int] | None = None,
        *,
        idle_timeout: float = 10.0,
        name: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        memory: int | str | None = None,
        max_tasks_per_child: int | None = None,
        nice: int = 0,
        affinity: Iterable[int] | None = None,
        blas_threads: int | str | None = "auto",
        max_pending: int | None = None,
        when_full: str = "wait",
        output: str | Callable[[OutputLine], object] = "attributed",
        preload: Iterable[str] = (),
    ) -> None:
        try:
            lane_of = _lane_of(kind)
            self.kind: Final = kind
            self.name: Final = name or f"{kind}-pool-{next(_numbers)}"
            limits = Limits(memory, max_tasks_per_child, nice, affinity, blas_threads)
            settings = Settings(
                workers,
                idle_timeout,
                self.name,
                initializer,
                tuple(initargs),
                limits,
                max_pending,
                when_full,
                output,
                preload,
            )
            self.workers: Final = settings.most
            self.max_pending: Final = max_pending
            self._waits = settings.waits
            self._lane = lane_of(settings)
            self._max_tasks = limits.max_tasks_per_child
            self._made = time.monotonic()
            self._lane.close_when_dropped(self)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules ``fn(*args, **kwargs)`` and returns its future.

        What cannot be pickled for a worker process, and a result that cannot be pickled back, is raised by that future
        alone.

        Raises:
            RuntimeError: After `shutdown`, in a forked child, or when the interpreter is ending.
            BrokenPool: If workers cannot be set up.
            PoolFull: If as many calls are under way as there may be, and it is not to wait.
        """
        try:
            return self._lane.submit(fn, args, kwargs)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    if TYPE_CHECKING:

        @overload
        def map(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any],
            ordered: bool = True,
            window: int | None = None,
            deadline: float | None = None,
            progress: ProgressLike = False,
            return_exceptions: Literal[False] = False,
            timeout: float | None = None,
            retries: int = 0,
            priority: int = 0,
            name: str | None = None,
        ) -> Iterator[T]: ...

        @overload
        def map(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any],
            ordered: bool = True,
            window: int | None = None,
            deadline: float | None = None,
            progress: ProgressLike = False,
            return_exceptions: bool,
            timeout: float | None = None,
            retries: int = 0,
            priority: int = 0,
            name: str | None = None,
        ) -> Iterator[T | BaseException]: ...

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        window: int | None = None,
        deadline: float | None = None,
        progress: ProgressLike = False,
        return_exceptions: bool = False,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        name: str | None = None,
    ) -> Iterator[T] | Iterator[T | BaseException]:
        """Returns an iterator of ``fn(*args)`` for each ``args`` of ``zip(*iterables)``.

        The input is read as results are taken: it may be endless. There are no chunks to choose: how many calls are in
        flight, and whether cheap ones are handed over in batches, follows from how long they take. A batch is through in
        milliseconds, or what it has not done is handed back and shared again; a worker that dies costs all of it.

        Args:
            fn: The function.
            *iterables: Its arguments.
            ordered: Yield results in the order of the input; otherwise as they come.
            window: Calls in flight, at most; then there are no batches. By default about 50 ms of work per worker, at most 4096 per
                worker and 16384 in all.
            deadline: Seconds from now until the last result; `TimeoutError` is raised when they are over.
            progress: Show how far it is, with how busy the workers are. True: on stderr, by tqdm or rich where one of them is
                installed. A text: the same, under this label. A bar with ``update(n)``, such as one of tqdm: it is told how many
                more there are. A function: it is called with a `Progress`. Bars and functions are called by the thread that takes
                the results, at most ten times a second and once at the end; what they raise ends the iteration.
            return_exceptions: Yield what a call raises in the place of its result, and go on, as `asyncio.gather` does: also the
                `WorkerDied` of a call whose worker has died (each call of a batch has it), and the `CallTimeout` of one that ran for too
                long. What is not about a call is raised all the same: Ctrl-C here, what the input raises, a deadline that is over, a
                pool that is broken or shut down.
            timeout, retries, priority, name: Terms of each call, as `options` has them. With any of them there are no batches.

        Without `return_exceptions` the first call that raises ends the iteration; calls that have not started are then cancelled, as they are when the
        iterator is closed.

        Example:
            >>> import raddle
            >>> with raddle.Pool("process", workers=2) as pool:
            ...     sorted(pool.map(lambda x: x * x, range(5), ordered=False))
            [0, 1, 4, 9, 16]
        """
        terms = NO_TERMS
        if timeout is not None or retries or priority or name is not None:
            terms = self._terms(timeout, retries, priority, name)
        try:
            return self._map(fn, iterables, ordered, window, deadline, progress, return_exceptions, terms)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    def _map(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        ordered: bool,
        window: int | None,
        deadline: float | None,
        progress: ProgressLike,
        goes_on: bool,
        terms: Terms,
    ) -> Iterator[T]:
        if window is not None and _checked(window, "window") < 1:
            raise ValueError(f"window must be at least 1, or None, not {window}")
        if not callable(fn):
            raise TypeError(f"the function to map must be callable, not {fn!r}")
        if not iterables:
            raise TypeError("map needs at least one iterable of arguments")
        until = None if deadline is None else time.monotonic() + deadline
        display = None
        if progress is not False and progress is not None:
            from ._display import Display

            display = Display(progress, self.name, total_of(iterables), self._lane)
        starred = len(iterables) > 1
        may_batch = terms is NO_TERMS and self._max_tasks is None
        submit_all = self._lane.binder(fn, starred, terms, bool(goes_on))
        items = self._lane.items_of(iterables, starred)
        feed = Feed(self._lane, submit_all, items, self.workers, window, self.max_pending, may_batch, goes_on)
        runs = in_order(feed, until) if ordered else as_they_come(feed, until)
        next(runs)  # the first calls are on their way when `map` returns
        if display is None:
            return _raddle.Results(runs)
        return _raddle.Results(display.follow(runs), (display.meter, display.draw))

    def map_reduce(
        self,
        fn: Callable[..., T],
        combine: Callable[[T, T], T],
        /,
        *iterables: Iterable[Any],
        initial: Any = _MISSING,
        grain: int = _GRAIN,
    ) -> T:
        """Combines ``fn(*args)`` for each ``args`` of ``zip(*iterables)`` to one value, in the workers.

        Args:
            fn: The function.
            combine: Makes one value of two neighbours. It has to be associative, and need not be commutative.
            *iterables: Arguments of `fn`, read as they are needed.
            initial: Comes before everything else. Without it an empty input is a TypeError.
            grain: So many items are combined in one call, one after the other; then these in pairs, and so on. The order depends on
                the number of items and on this alone: the result has the same bits for every number of workers.

        Example:
            >>> import raddle
            >>> with raddle.Pool("process", workers=2) as pool:
            ...     pool.map_reduce(len, max, ["a", "ccc", "bb"])
            3
        """
        from ._reduce import map_reduce

        if _checked(grain, "grain") < 1:
            raise ValueError(f"grain must be at least 1, not {grain}")
        if not iterables:
            raise TypeError("map_reduce needs at least one iterable of arguments")
        result: T = map_reduce(self, fn, combine, iterables, initial, grain)
        return result

    def reduce(
        self, combine: Callable[[T, T], T], iterable: Iterable[T], /, initial: Any = _MISSING, *, grain: int = _GRAIN
    ) -> T:
        """As `functools.reduce`, in the workers, in the order that `map_reduce` has.

        Example:
            >>> import operator, raddle
            >>> with raddle.Pool("process", workers=2) as pool:
            ...     pool.reduce(operator.add, range(1000))
            499500
        """
        from ._reduce import itself

        result: T = self.map_reduce(itself, combine, iterable, initial=initial, grain=grain)
        return result

    def scan(
        self, combine: Callable[[T, T], T], iterable: Iterable[T], /, *, initial: Any = _MISSING, grain: int = _GRAIN
    ) -> Iterator[T]:
        """As `itertools.accumulate`, in the workers: yields the first item, the first two combined, the first three, and so on.

        The input is read as results are taken.

        Example:
            >>> import operator, raddle
            >>> with raddle.Pool("process", workers=2) as pool:
            ...     list(pool.scan(operator.add, [1, 2, 3, 4]))
            [1, 3, 6, 10]
        """
        from ._reduce import scan

        if _checked(grain, "grain") < 1:
            raise ValueError(f"grain must be at least 1, not {grain}")
        return scan(self, combine, iterable, initial, grain)

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``fn(*args, **kwargs)`` on a worker, without blocking the event loop, and returns its result.

        Context variables stay here: neither threads nor processes see them.

        Cancelling it cancels the call; on processes also one that runs.

        Example:
            >>> import asyncio, raddle
            >>> async def main():
            ...     with raddle.Pool("process", workers=2) as pool:
            ...         return await asyncio.gather(*(pool.run(pow, 2, number) for number in range(5)))
            >>> asyncio.run(main())
            [1, 2, 4, 8, 16]
        """
        result: T = await self._run(fn, args, kwargs, NO_TERMS)
        return result

    async def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], terms: Terms) -> Any:
        import asyncio

        from ._async import submit

        return await asyncio.wrap_future(await submit(self, fn, args, kwargs, terms, waits=self._waits))

    if TYPE_CHECKING:

        @overload
        def amap(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any] | AsyncIterable[Any],
            ordered: bool = True,
            window: int | None = None,
            return_exceptions: Literal[False] = False,
        ) -> AsyncIterator[T]: ...

        @overload
        def amap(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any] | AsyncIterable[Any],
            ordered: bool = True,
            window: int | None = None,
            return_exceptions: bool,
        ) -> AsyncIterator[T | BaseException]: ...

    def amap(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        window: int | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[T] | AsyncIterator[T | BaseException]:
        """As `map`, for ``async for``. The input may be asynchronous, too.

        Args:
            fn: The function.
            *iterables: Its arguments.
            ordered: Yield results in the order of the input; otherwise as they come.
            window: Calls in flight, at most. By default 16 for each worker.
            return_exceptions: Yield what a call raises in the place of its result, and go on.

        When the task is cancelled while it waits for a result, so are its calls; on processes also those that run. When the
        iteration is left in another way, calls that have not started are cancelled. What the input raises comes after the
        results before it.

        Example:
            >>> import asyncio, raddle
            >>> async def main():
            ...     with raddle.Pool("thread", workers=2) as pool:
            ...         return [value async for value in pool.amap(abs, range(-3, 0))]
            >>> asyncio.run(main())
            [3, 2, 1]
        """
        return self._amap(fn, iterables, ordered, window, return_exceptions, NO_TERMS)

    def _amap(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        ordered: bool,
        window: int | None,
        goes_on: bool,
        terms: Terms,
    ) -> AsyncIterator[T]:
        from ._async import amap

        if window is not None and _checked(window, "window") < 1:
            raise ValueError(f"window must be at least 1, or None, not {window}")
        if not iterables:
            raise TypeError("amap needs at least one iterable of arguments")
        width = window or 16 * self.workers
        if self.max_pending is not None:
            width = min(width, self.max_pending)
        return amap(self, fn, iterables, ordered, width, terms, goes_on)

    def options(
        self, *, timeout: float | None = None, retries: int = 0, priority: int = 0, name: str | None = None
    ) -> Options:
        """The same pool, for calls on terms. Returns an object with `submit`, `map` and `executor`.

        Args:
            timeout: Seconds that a call may run, from when a worker begins it. Then its worker is asked to end (SIGTERM, to all of its
                process group), a second later it is killed, and the call raises `CallTimeout`. What the call has started and is left of
                the group when the worker has ended is killed, too. Other calls are not affected.
            retries: How often a call may run again whose worker has died or which ran for too long. Its arguments are then sent
                whole and not through shared memory.
            priority: How urgent it is, from -32768 to 32767: of the calls that no worker has begun, the one with the largest comes first.
                A call that runs is not interrupted.
            name: What messages call it, instead of the function's name.

        Raises:
            ValueError: For a timeout that is not positive, less than no retries, or a priority out of range.
            NotImplementedError: For a timeout or retries on threads: a thread cannot be stopped, and does not die.

        Example:
            >>> import raddle, time
            >>> with raddle.Pool("process", workers=1) as pool:
            ...     type(pool.options(timeout=0.1).submit(time.sleep, 60).exception()).__name__
            'CallTimeout'
        """
        return Options(self, self._terms(timeout, retries, priority, name))

    def _terms(self, timeout: float | None, retries: int, priority: int, name: str | None) -> Terms:
        if timeout is not None and not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, or None, not {timeout!r}")
        if _checked(retries, "retries") < 0:
            raise ValueError(f"retries must be 0 or more, not {retries}")
        if retries >= 1 << 32:
            raise ValueError(f"retries must be less than 2**32, not {retries}")
        if not -(1 << 15) <= _checked(priority, "priority") < 1 << 15:
            raise ValueError(f"priority must be from -32768 to 32767, not {priority}")
        if self.kind == "thread" and (timeout is not None or retries):
            raise NotImplementedError(
                "a call on a thread cannot be stopped, nor does its worker die\n  hint: use Pool('process')"
            )
        return Terms(timeout, retries, priority, name)

    def executor(self) -> Executor:
        """This pool as a `concurrent.futures.Executor`, for code that insists on one.

        It is the same pool, with the standard library's `map`: whoever shuts the executor down, or leaves its block, has shut down
        the pool.

        Example:
            >>> import concurrent.futures, raddle
            >>> with raddle.Pool("process", workers=2) as pool:
            ...     isinstance(pool.executor(), concurrent.futures.Executor), pool.executor().submit(pow, 2, 10).result()
            (True, 1024)
        """
        from ._executor import PoolExecutor

        return PoolExecutor(self, self)

    @property
    def _max_workers(self) -> int:
        # Dask, and others who take an executor for what it can do, look here for how many calls to have under way.
        return self.workers

    def put(self, value: object) -> Any:
        """Sends an object to the workers once, for many calls, and returns a `Ref` that stands for it.

        A call that has the ref as an argument gets the object; on processes also where it lies inside of an argument. Each worker makes
        the object when a call first names it, and keeps it until the ref is collected. Its arrays are not copied: all workers read
        the same memory, and may only read it. Threads get the object itself.

        Raises:
            pickle.PicklingError: And others, if it cannot be pickled for worker processes.
            MemoryError: If there is no room for it in shared memory.

        Example:
            >>> import raddle
            >>> with raddle.Pool("process", workers=2) as pool:
            ...     table = pool.put({"a": 1, "b": 2})
            ...     list(pool.map(lambda key, table: table[key], "ab", [table] * 2))
            [1, 2]
        """
        return self._lane.put(value)

    def as_completed(self, fs: Iterable[AnyFuture[T]], timeout: float | None = None) -> Iterator[AnyFuture[T]]:
        """Yields futures as they end, those that have ended first.

        Raises:
            TimeoutError: If not all ended within `timeout` seconds.
        """
        return _as_completed(fs, timeout)

    def statistics(self) -> PoolStatistics:
        """Numbers about the pool since it was made, and about each of its workers.

        Example:
            >>> import raddle
            >>> with raddle.Pool("process", workers=1) as pool:
            ...     results = list(pool.map(len, ["a", "bb", "ccc"]))
            ...     now = pool.statistics()
            >>> now.finished, [worker.calls for worker in now.per_worker]
            (3, [3])
        """
        try:
            from ._pool_statistics import PoolStatistics, WorkerStatistics

            numbers, workers = self._lane.report()
            per_worker = tuple(WorkerStatistics(*worker) for worker in workers)
            wall_seconds = time.monotonic() - self._made
            return PoolStatistics(kind=self.kind, wall_seconds=wall_seconds, per_worker=per_worker, **numbers)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    def trace(self, path: str | os.PathLike[str] | None = None, *, most: int = 1_000_000) -> Trace:
        """Writes down what becomes of each call, and when; to be used in a ``with`` statement.

        Of calls that are handed in inside of the block, and end: when they were submitted, queued, begun, ended and received, which
        worker ran them, and how they ended: also those that were cancelled, killed, or could not be sent. It costs about a
        microsecond and a hundred bytes per call, and writing the file some tens of microseconds more. After Ctrl-C no file is
        written; `Trace.save` still can.

        Args:
            path: A file that is written at the end of the block, for Perfetto (https://ui.perfetto.dev), speedscope or
                ``chrome://tracing``. An older one stays as it is until the new one is whole.
            most: So many calls, or batches of a map, at most; `Trace.left_out` says how many there were beyond.

        Raises:
            OSError: If the file cannot be written.
            RuntimeError: If the pool is being traced already.

        Example:
            >>> import raddle
            >>> with raddle.Pool("process", workers=2) as pool, pool.trace() as trace:
            ...     results = [pool.submit(pow, 2, number).result() for number in range(3)]
            >>> [(call.name, call.outcome) for call in trace.calls()]
            [('pow', 'returned'), ('pow', 'returned'), ('pow', 'returned')]
        """
        from ._trace import Trace

        if _checked(most, "most") < 1:
            raise ValueError(f"most must be at least 1, not {most}")
        return Trace(self._lane, self.name, self.kind, path, most)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls.

        Args:
            wait: Wait until every worker has ended. Ctrl-C during the wait ends worker processes at once.
            cancel_futures: Cancel what has not started.
        """
        self._lane.close(cancel_futures)
        if wait:
            try:
                self._lane.join()
            except KeyboardInterrupt as interrupt:
                self._lane.kill("the pool was interrupted while it shut down")
                raise seen_from_outside(interrupt) from None
            except BaseException as error:
                from .errors import DeadlockError

                if not isinstance(error, DeadlockError):  # which interrupts nothing: what waits is still to be done
                    self._lane.kill("the pool was interrupted while it shut down")
                raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._lane.kill(f"the block of the pool was left by {kind.__name__}")
        try:
            self.shutdown(cancel_futures=kind is not None)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    def __repr__(self) -> str:
        numbers = self._lane.counts()
        state = self._lane.state()
        return (
            f"<Pool {self.name!r} {state}, {numbers['workers']}/{self.workers} {self.kind} workers, "
            f"{numbers['running']} running, {numbers['pending']} pending>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be sent to another process\n"
            "  hint: a call in a pool cannot use the pool itself; return the work to the caller, or make a pool there"
        )


class Options:
    """A pool, for calls on terms. Made by `Pool.options`."""

    def __init__(self, pool: Pool, terms: Terms) -> None:
        self._pool = pool
        self._terms = terms

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Pool.submit`."""
        try:
            return self._pool._lane.submit_on_terms(fn, args, kwargs, self._terms, self._pool._waits)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    if TYPE_CHECKING:

        @overload
        def map(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any],
            ordered: bool = True,
            window: int | None = None,
            deadline: float | None = None,
            progress: ProgressLike = False,
            return_exceptions: Literal[False] = False,
        ) -> Iterator[T]: ...

        @overload
        def map(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any],
            ordered: bool = True,
            window: int | None = None,
            deadline: float | None = None,
            progress: ProgressLike = False,
            return_exceptions: bool,
        ) -> Iterator[T | BaseException]: ...

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        window: int | None = None,
        deadline: float | None = None,
        progress: ProgressLike = False,
        return_exceptions: bool = False,
    ) -> Iterator[T] | Iterator[T | BaseException]:
        """As `Pool.map`, with these terms for each call."""
        try:
            return self._pool._map(fn, iterables, ordered, window, deadline, progress, return_exceptions, self._terms)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `Pool.run`."""
        result: T = await self._pool._run(fn, args, kwargs, self._terms)
        return result

    if TYPE_CHECKING:

        @overload
        def amap(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any] | AsyncIterable[Any],
            ordered: bool = True,
            window: int | None = None,
            return_exceptions: Literal[False] = False,
        ) -> AsyncIterator[T]: ...

        @overload
        def amap(
            self,
            fn: Callable[..., T],
            /,
            *iterables: Iterable[Any] | AsyncIterable[Any],
            ordered: bool = True,
            window: int | None = None,
            return_exceptions: bool,
        ) -> AsyncIterator[T | BaseException]: ...

    def amap(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        window: int | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[T] | AsyncIterator[T | BaseException]:
        """As `Pool.amap`, with these terms for each call."""
        return self._pool._amap(fn, iterables, ordered, window, return_exceptions, self._terms)

    def executor(self) -> Executor:
        """As `Pool.executor`, for calls on these terms."""
        from ._executor import PoolExecutor

        return PoolExecutor(self._pool, self)

    @property
    def _max_workers(self) -> int:
        return self._pool.workers

    def __repr__(self) -> str:
        return f"<options {self._terms!r} of {self._pool!r}>"


Pool.__module__ = Options.__module__ = "raddle"

_numbers = itertools.count(1)


def _lane_of(kind: str) -> type[ThreadLaneOf] | type[ProcessLaneOf]:
    # Each lane is loaded by those who use it.
    if kind == "thread":
        from ._pool_threads import ThreadLaneOf

        return ThreadLaneOf
    if kind == "process":
        from ._pool_processes import ProcessLaneOf

        return ProcessLaneOf
    if kind in ("interpreter", "auto"):
        raise NotImplementedError(f"Pool({kind!r}) is planned and not there yet\n  hint: use 'thread' or 'process'")
    raise ValueError(f"unknown kind of pool: {kind!r}\n  hint: use 'thread' or 'process'")
