"""A pool in an event loop: calls that are awaited, and an asynchronous iterator over many."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque

from ._terms import NO_TERMS
from .errors import BrokenPool, PoolFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
    from typing import Any

    from ._future import Future
    from ._pool_processes import ProcessLaneOf
    from ._pool_threads import ThreadLaneOf
    from ._terms import Terms
    from .pool import Pool

__all__ = ["amap", "submit"]

#: What an input has come to when it has ended.
_END: Any = object()


class _Turn:
    """A task's turn to try. It is over when the task says so, or when nobody has it any more: the loop may be closed by then."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over

    def end(self) -> None:
        self._over.set()

    def __del__(self) -> None:
        self._over.set()


class _Places:
    """The tasks that wait for a place in a full pool, of whatever loops.

    One thread waits in the pool for all of them, as long as there are any. It lets one task try at a time, the one that has waited
    longest, and has nothing to do with the loops' executors: calls that hang must not use those up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[_Turn]]] = deque()
        self._is_waited_for = False

    async def turn(self, lane: ProcessLaneOf | ThreadLaneOf) -> _Turn:
        """Returns when it is the task's turn to try, which it ends when it has tried."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[_Turn] = loop.create_future()
        with self._lock:
            self._tasks.append((loop, turn))
            if not self._is_waited_for:
                threading.Thread(target=self._wait, args=(lane,), name="raddle-places", daemon=True).start()
                self._is_waited_for = True
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                turn.result().end()  # it had its turn, and does not take it
            raise

    def _wait(self, lane: ProcessLaneOf | ThreadLaneOf) -> None:
        while True:
            lane.wait_for_place()
            with self._lock:
                while self._tasks and self._tasks[0][1].cancelled():
                    self._tasks.popleft()
                if not self._tasks:
                    self._is_waited_for = False
                    return
                loop, turn = self._tasks.popleft()
            over = threading.Event()
            try:
                loop.call_soon_threadsafe(_grant, turn, _Turn(over))
            except RuntimeError:
                continue  # the loop is closed
            del loop, turn
            over.wait()


def _grant(awaited: asyncio.Future[_Turn], turn: _Turn) -> None:
    if awaited.cancelled():
        turn.end()
    else:
        awaited.set_result(turn)


_places: weakref.WeakKeyDictionary[Pool, _Places] = weakref.WeakKeyDictionary()


async def submit(
    pool: Pool,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    terms: Terms = NO_TERMS,
    *,
    waits: bool = True,
) -> Future[Any]:
    """As `Pool.submit`, but if the pool is full it awaits a place instead of blocking the loop."""
    if pool.max_pending is None:
        return pool._lane.submit_on_terms(fn, args, kwargs, terms, True)
    turn: _Turn | None = None
    while True:
        try:
            return pool._lane.submit_on_terms(fn, args, kwargs, terms, False)
        except PoolFull:
            if not waits:
                raise
        finally:
            if turn is not None:
                turn.end()
        turn = await _places.setdefault(pool, _Places()).turn(pool._lane)


async def amap(
    pool: Pool,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
    ordered: bool,
    window: int,
    terms: Terms,
    goes_on: bool,
) -> AsyncIterator[Any]:
    """Yields what the calls return; if it `goes_on`, also what they raise. The input is read on while results are waited for, as far as the window reaches."""
    waits = any(hasattr(iterable, "__aiter__") for iterable in iterables)
    source: Any = _zipped(iterables) if waits else zip(*iterables, strict=False)
    calls: dict[asyncio.Future[Any], Future[Any]] = {}  # in the order of the input
    item: asyncio.Task[Any] | None = None
    has_ended = False
    failure: BaseException | None = None

    async def begin(args: Any) -> bool:
        if args is not _END:
            call = await submit(pool, fn, args, {}, terms)
            calls[asyncio.wrap_future(call)] = call
        return args is _END

    try:
        while True:
            while not waits and not has_ended and len(calls) < window:
                try:
                    args = next(source, _END)
                except Exception as error:  # noqa: BLE001  # the user's; it comes after the results before it
                    args, failure = _END, error
                has_ended = await begin(args)
            if waits and item is None and not has_ended and len(calls) < window:
                item = asyncio.ensure_future(anext(source, _END))
            if item is not None and item.done():
                failure = item.exception()  # as above
                args, item = _END if failure is not None else item.result(), None
                has_ended = await begin(args)
                continue
            awaited = list(calls)[: 1 if ordered else None]
            if not awaited and item is None:
                if failure is not None:
                    raise failure
                return
            done, _ = await asyncio.wait(
                [*awaited, *([] if item is None else [item])], return_when=asyncio.FIRST_COMPLETED
            )
            for future in awaited:
                if future in done:
                    del calls[future]
                    yield _outcome_of_each(pool, future) if goes_on else future.result()
    except asyncio.CancelledError:
        for call in calls.values():
            call.cancel()
        raise
    finally:
        if item is not None:
            item.cancel()
            await asyncio.wait([item])
        for future, call in calls.items():
            call._cancel_waiting()
            future.add_done_callback(_look_at)
        if waits:
            await source.aclose()


def _outcome_of_each(pool: Pool, future: asyncio.Future[Any]) -> Any:
    """What a call has returned, or raised. What ends all calls at once is raised, though."""
    failure = None if future.cancelled() else future.exception()
    if failure is None or (isinstance(failure, BrokenPool) and pool._lane.state() == "broken"):
        return future.result()
    return failure


def _look_at(future: asyncio.Future[Any]) -> None:
    """Takes note of an exception that nobody asks for."""
    if not future.cancelled():
        future.exception()


async def _zipped(iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...]) -> Any:
    """`zip`, over iterables of both kinds."""
    iterators: list[Any] = [
        aiter(iterable) if hasattr(iterable, "__aiter__") else iter(iterable)  # type: ignore[arg-type]
        for iterable in iterables
    ]
    while True:
        items = []
        for iterator in iterators:
            item = await anext(iterator, _END) if hasattr(iterator, "__anext__") else next(iterator, _END)
            if item is _END:
                return
            items.append(item)
        yield tuple(items)
