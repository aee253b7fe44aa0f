"""The process lane as `Pool` sees it: the same verbs as its sibling's."""

from __future__ import annotations

from . import _exit
from ._process_crew import ProcessCrew
from ._ref import Ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Final

    from . import _raddle
    from ._future import Future
    from ._settings import Settings
    from ._terms import Terms

__all__ = ["ProcessLaneOf"]

_NUMBERS: Final = (
    "submitted", "finished", "failed", "cancelled", "died", "pending", "running", "workers", "busy_seconds",
)  # fmt: skip


class ProcessLaneOf:
    """Processes."""

    def __init__(self, settings: Settings) -> None:
        self._crew = ProcessCrew(settings)
        self._lane = self._crew.lane

    def close_when_dropped(self, owner: object) -> None:
        """Closes the lane when its pool is dropped."""
        _exit.when_dropped(owner, self._crew.close)

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Schedules one call."""
        return self._lane.submit(fn, args, kwargs)

    def submit_on_terms(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], terms: Terms, waits: bool
    ) -> Future[Any]:
        """Schedules one call on terms. `waits`: if the pool is full; otherwise that is raised."""
        return self._lane.submit_on_terms(fn, args, kwargs, *terms.given, waits)

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
        binding = self._lane.bind(fn, *terms.given)

        def submit_all(calls: _raddle.Input, futures: list[Any], most: int, size: int) -> None:
            self._lane.submit_all(binding, calls, futures, starred=starred, size=size, most=most, goes_on=goes_on)

        return submit_all

    def items_of(self, iterables: tuple[Iterable[Any], ...], starred: bool) -> Iterator[Any]:
        """What a `map` over `iterables` calls its function with."""
        return zip(*iterables, strict=False) if starred else iter(iterables[0])

    def put(self, value: object) -> Ref:
        """Sends an object to every worker that a call names it to."""
        return Ref(value, self._lane)

    def pace(self) -> tuple[int, float, int]:
        """Calls that have ended, seconds spent in them, and bytes that were sent for them."""
        _, finished, failed, _, _, _, _, _, busy = self._lane.counts()
        return finished + failed, busy, self._lane.bytes()

    def counts(self) -> dict[str, Any]:
        """What `repr` shows."""
        return dict(zip(_NUMBERS, self._lane.counts(), strict=True))

    def report(self) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
        """What `PoolStatistics` shows: the numbers of all workers together, and of each."""
        numbers, workers = self._lane.report()
        return dict(zip(_NUMBERS, numbers, strict=True)), list(workers)

    def trace(self, log: _raddle.CallLog | None) -> None:
        """Writes down what becomes of each call that is handed in from now on; or no more, with None."""
        self._lane.trace(log)

    def state(self) -> str:
        """One word for `repr`."""
        refusal = self._lane.refusal()
        return "open" if refusal is None else "broken" if refusal else "closed"

    def close(self, cancel_futures: bool) -> None:
        """Takes no more calls."""
        self._lane.close(cancel_futures)

    def is_over(self) -> bool:
        """Whether no worker runs any more."""
        return self._crew.is_over()

    def join(self) -> None:
        """Waits until every worker has ended."""
        self._crew.join()

    def kill(self, reason: str) -> None:
        """Ends every worker now."""
        self._crew.kill(reason)
