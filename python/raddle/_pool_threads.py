"""The thread lane as `Pool` sees it: the same verbs as its sibling's."""

from __future__ import annotations

from . import _exit, _raddle
from ._ref import Ref, resolved
from ._thread_pool import Crew as ThreadCrew
from .errors import BrokenPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ._future import Future
    from ._settings import Settings
    from ._terms import Terms

__all__ = ["ThreadLaneOf", "broken_by"]


def broken_by(error: BaseException) -> BaseException:
    """What calls raise when an initializer has raised this."""
    broken = BrokenPool(f"the initializer of the pool raised in a worker: {error!r}")
    broken.__cause__ = error
    return broken


class ThreadLaneOf:
    """Threads."""

    def __init__(self, settings: Settings) -> None:
        if settings.limits.are_any():
            raise NotImplementedError("threads share one process and its limits\n  hint: use Pool('process')")
        if settings.output not in ("attributed", None):
            raise NotImplementedError("threads print where the program prints\n  hint: use Pool('process')")
        if settings.preload:
            raise NotImplementedError(
                "threads share the modules of their process\n  hint: import them before, or use Pool('process')"
            )
        self._lane = _raddle.ThreadLane(
            settings.most,
            settings.max_pending,
            settings.least,
            settings.idle_timeout if settings.is_elastic else None,
        )
        self._waits = settings.waits
        self._has_refs = False
        self._crew = ThreadCrew(
            self._lane, settings.most, settings.name, settings.initializer, settings.initargs, broken_by
        )

    def close_when_dropped(self, owner: object) -> None:
        """Closes the lane when its pool is dropped."""
        _exit.when_dropped(owner, self._lane.close)

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Schedules one call."""
        return self._submit(fn, args, kwargs, 0, self._waits)

    def _submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], priority: int, waits: bool
    ) -> Future[Any]:
        if self._crew.broken is not None:
            raise BrokenPool(self._crew.broken)
        if self._has_refs:
            args = resolved(args)
            kwargs = dict(zip(kwargs, resolved(tuple(kwargs.values())), strict=True))
        future, wants_thread = self._lane.submit(fn, args, kwargs, priority, waits)
        if wants_thread:
            self._crew.grow()
        return future

    def submit_on_terms(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], terms: Terms, waits: bool
    ) -> Future[Any]:
        """Schedules one call. Of terms, threads know the priority; none of their messages has a name."""
        return self._submit(fn, args, kwargs, terms.priority, waits)

    def wait_for_place(self) -> None:
        """Waits until there may be room for one more call, or the pool takes no more."""
        self._lane.wait_for_place()

    def binder(
        self, fn: Callable[..., Any], starred: bool, terms: Terms, goes_on: bool
    ) -> Callable[[_raddle.Input, list[Any], int, int], None]:
        """A function that schedules a call of `fn` for each item, `most` items at most, `size` of them as one batch.

        An item is the only argument; if `starred`, the tuple of all arguments. The futures are appended to a list. If it `goes_on`, no
        exception ends a batch.
        """

        def submit_all(calls: _raddle.Input, futures: list[Any], most: int, size: int) -> None:
            if self._crew.broken is not None:
                raise BrokenPool(self._crew.broken)
            missing = self._lane.submit_all(
                fn,
                calls,
                futures,
                starred=starred,
                size=size,
                most=most,
                priority=terms.priority,
                goes_on=goes_on,
            )
            for _ in range(missing):
                self._crew.grow()

        return submit_all

    def items_of(self, iterables: tuple[Iterable[Any], ...], starred: bool) -> Iterator[Any]:
        """What a `map` over `iterables` calls its function with."""
        items: Iterator[Any] = zip(*iterables, strict=False) if starred else iter(iterables[0])
        if not self._has_refs:
            return items
        return (resolved(item) for item in items) if starred else (resolved((item,))[0] for item in items)

    def put(self, value: object) -> Ref:
        """Threads have every object; the ref is for programs that run on processes too."""
        self._has_refs = True
        return Ref(value, None)

    def pace(self) -> tuple[int, float, int]:
        """Calls that have ended, seconds spent in them, and bytes that were sent for them: none."""
        _, finished, failed, _, _, _, busy = self._lane.counts()
        return finished + failed, busy, 0

    def counts(self) -> dict[str, Any]:
        """What `repr` shows."""
        return self._named(*self._lane.counts())

    def report(self) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
        """What `PoolStatistics` shows: the numbers of all workers together, and of each."""
        numbers, workers = self._lane.report()
        return self._named(*numbers), list(workers)

    def _named(
        self, submitted: int, finished: int, failed: int, cancelled: int, pending: int, running: int, busy: float
    ) -> dict[str, Any]:
        return {
            "workers": sum(thread.is_alive() for thread in list(self._crew.threads)),
            "submitted": submitted,
            "finished": finished,
            "failed": failed,
            "cancelled": cancelled,
            "died": 0,
            "pending": pending,
            "running": running,
            "busy_seconds": busy,
        }

    def trace(self, log: _raddle.CallLog | None) -> None:
        """Writes down what becomes of each call that is handed in from now on; or no more, with None."""
        self._lane.trace(log)

    def state(self) -> str:
        """One word for `repr`."""
        return "broken" if self._crew.broken is not None else "closed" if self._lane.is_closed() else "open"

    def close(self, cancel_futures: bool) -> None:
        """Takes no more calls."""
        self._lane.close()
        if cancel_futures:
            for future in self._lane.take_back():
                future.cancel()

    def is_over(self) -> bool:
        """Whether no thread runs any more."""
        return self._crew.is_over()

    def join(self) -> None:
        """Waits until every thread has ended."""
        self._crew.join()

    def kill(self, reason: str) -> None:
        """Threads cannot be killed: what has not started is cancelled."""
        self.close(True)
