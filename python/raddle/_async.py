"""`Pool.amap`: calls of a pool as an asynchronous iterator."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
    from typing import Any

    from ._future import Future

__all__ = ["amap"]

#: What an input has come to when it has ended.
_END: Any = object()


async def amap(
    submit: Callable[..., Future[Any]],
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

    def begin(args: Any) -> bool:
        if args is not _END:
            call = submit(fn, *args)
            calls[asyncio.wrap_future(call)] = call
        return args is _END

    try:
        while True:
            while not waits and not has_ended and len(calls) < window:
                try:
                    args = next(source, _END)
                except Exception as error:  # noqa: BLE001  # the user's; it comes after the results before it
                    args, failure = _END, error
                has_ended = begin(args)
            if waits and item is None and not has_ended and len(calls) < window:
                item = asyncio.ensure_future(anext(source, _END))
            if item is not None and item.done():
                failure = item.exception()  # as above
                args, item = _END if failure is not None else item.result(), None
                has_ended = begin(args)
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
