"""A pool in an event loop: calls that are awaited, and an asynchronous iterator over many."""

from __future__ import annotations

import asyncio
import weakref

from ._terms import NO_TERMS
from .errors import PoolFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
    from typing import Any

    from ._future import Future
    from .pool import Pool

__all__ = ["amap", "submit"]

#: What an input has come to when it has ended.
_END: Any = object()


#: For each loop and pool with tasks that wait for a place in it: the first of them waits for all, in a thread of the loop's executor.
_waits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakKeyDictionary[Pool, asyncio.Lock]] = (
    weakref.WeakKeyDictionary()
)


async def submit(pool: Pool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
    """As `Pool.submit`, but if the pool is full it awaits a place instead of blocking the loop."""
    if pool.max_pending is None:
        return pool.submit(fn, *args, **kwargs)
    lane, loop = pool._lane, asyncio.get_running_loop()
    while True:
        try:
            return lane.submit_on_terms(fn, args, kwargs, NO_TERMS, False)
        except PoolFull:
            if not pool._waits:
                raise
        async with _waits.setdefault(loop, weakref.WeakKeyDictionary()).setdefault(pool, asyncio.Lock()):
            await loop.run_in_executor(None, lane.wait_for_place)


async def amap(
    pool: Pool,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
    ordered: bool,
    window: int,
) -> AsyncIterator[Any]:
    """Yields what the calls return. The input is read on while results are waited for, as far as the window reaches."""
    waits = any(hasattr(iterable, "__aiter__") for iterable in iterables)
    source: Any = _zipped(iterables) if waits else zip(*iterables, strict=False)
    calls: dict[asyncio.Future[Any], Future[Any]] = {}  # in the order of the input
    item: asyncio.Task[Any] | None = None
    has_ended = False
    failure: BaseException | None = None

    async def begin(args: Any) -> bool:
        if args is not _END:
            call = await submit(pool, fn, args, {})
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
                    yield future.result()
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
