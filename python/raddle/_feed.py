"""How `Pool.map` reads its input, and hands out what comes of it.

The input is read a window at a time; how wide the window is, and whether calls go in batches, follows from how long calls take
(`Feed`). Two generators take the results, in order or as they come, as lists: one for each call or batch.
"""

from __future__ import annotations

import operator
import time
from collections import deque
from functools import partial

from . import _raddle
from ._interrupt import seen_from_outside
from .errors import BrokenPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, Final, TypeAlias

    from ._pool_processes import ProcessLaneOf
    from ._pool_threads import ThreadLaneOf

    _Outcome: TypeAlias = tuple[list[Any], BaseException | None, list[Any]]

__all__ = ["Feed", "as_they_come", "in_order", "total_of"]

#: `map` keeps about so many seconds of work ahead of the workers.
_AHEAD: Final = 0.05
#: And never more bytes of arguments and results than about this, as far as they are known.
_HEAVIEST: Final = 64 << 20
#: And never more calls than this, nor than this for each worker: that is four batches of a thousand, and with longer ones the cheapest calls
#: are not done any sooner.
_WIDEST: Final = 16384
_WIDEST_EACH: Final = 4096
#: Calls shorter than this, in seconds, are handed over in batches. To hand over a single one takes about three microseconds of the
#: CPUs, its answer included.
_CHEAP: Final = 100e-6
#: So many calls make a batch, at most: it is through in milliseconds.
_LARGEST: Final = 2048


class Feed:
    """The input of a `map`, turned into futures a window at a time."""

    def __init__(
        self,
        lane: ThreadLaneOf | ProcessLaneOf,
        submit_all: Callable[[_raddle.Input, list[Any], int, int], None],
        items: Iterator[Any],
        workers: int,
        window: int | None,
        most: int | None,
        may_batch: bool,
        goes_on: bool,
    ) -> None:
        self._lane = lane
        #: What came of a future: its results, the exception that ended its batch, and the items that it had no time for. It waits
        #: until a moment of `time.monotonic`.
        self.outcome: Callable[[Any, float | None], _Outcome] = partial(_outcome_of_each, lane) if goes_on else _outcome
        self._input = _raddle.Input(items)
        self._submit_all = submit_all
        self._may_batch = may_batch
        self._workers = workers
        self._window = window
        self._widest = min(_WIDEST, _WIDEST_EACH * workers) if most is None else most
        self._narrowest = min(2 * workers + 2, self._widest)
        self._in_flight = 0
        self._low = 1
        self._width = min(window or self._narrowest, self._widest)
        self._size = 1
        self._taken = 0
        self._seen = (*lane.pace(), 0, time.perf_counter())

    def more(self) -> list[Any]:
        """Futures that fill the window again, if it is half empty."""
        if self._in_flight > self._low or self._input.has_ended():
            return []
        if self._window is None:
            self._look_at_the_pace()
        self._low = max(1, self._width // 2)
        futures = self._submit(self._input, max(0, self._width - self._in_flight), self._size)
        self._in_flight += sum(future._items or 1 for future in futures) if self._size > 1 else len(futures)
        return futures

    def again(self, items: list[Any]) -> list[Any]:
        """Futures for items that a batch had no time for, each on its own."""
        self._size = 1
        return self._submit(_raddle.Input(items), len(items), 1)

    def _submit(self, items: _raddle.Input, most: int, size: int) -> list[Any]:
        futures: list[Any] = []
        try:
            self._submit_all(items, futures, most, size)
        except BaseException as error:
            for future in futures:
                future._cancel_waiting()
            has_begun = self._taken or self._in_flight
            if has_begun and type(error) is RuntimeError and self._lane.state() == "closed":
                raise RuntimeError(
                    "the pool was shut down before all results of this map were taken\n"
                    "  hint: take them inside of the block, for example with list()"
                ) from None
            raise
        return futures

    def _look_at_the_pace(self) -> None:
        """Finds how many calls should be ahead, and how many of them make a batch, by what the last ones took.

        So many that workers stay busy, but no more than are soon taken, and no more bytes than are well to have in flight.
        """
        ended, busy, size, taken, now = *self._lane.pace(), self._taken, time.perf_counter()
        before = self._seen
        calls = ended - before[0]
        if calls < self._narrowest:
            return
        self._seen = (ended, busy, size, taken, now)
        each = max((busy - before[1]) / calls, 1e-7)
        ahead = [self._workers * _AHEAD / each, self._widest]
        if taken > before[3]:
            ahead.append(2 * _AHEAD * (taken - before[3]) / max(now - before[4], 1e-6))
        if size > before[2]:
            ahead.append(_HEAVIEST * calls / (size - before[2]))
        self._width = max(self._narrowest, int(min(ahead)))
        self._size = (
            max(1, min(_LARGEST, self._width // (4 * self._workers))) if each < _CHEAP and self._may_batch else 1
        )

    def done(self, items: int) -> None:
        """Counts items out of the window: they have been taken."""
        self._in_flight -= items
        self._taken += items

    def finish(self) -> None:
        """Raises what the input raised; the items before it have been done."""
        failure = self._input.take_failure()
        if failure is not None:
            raise failure


def _outcome(future: Any, deadline: float | None) -> _Outcome:
    try:
        return _unpacked(future, future.result(None if deadline is None else deadline - time.monotonic()))
    finally:
        del future  # it has the exception whose traceback has this frame


def _outcome_of_each(lane: ThreadLaneOf | ProcessLaneOf, future: Any, deadline: float | None) -> _Outcome:
    """The same where exceptions are results, too. What ends all calls at once is raised, though."""
    failure = future.exception(None if deadline is None else deadline - time.monotonic())
    if failure is None:
        return _unpacked(future, future.result())
    if isinstance(failure, BrokenPool) and lane.state() == "broken":
        try:
            raise failure
        finally:
            del failure, future  # its traceback has this frame
    return [failure] * max(1, future._items), None, []


def _unpacked(future: Any, value: Any) -> _Outcome:
    items = future._batch
    if items is None:
        return [value], None, []
    results, failure = value
    return results, failure, items[len(results) :] if failure is None else []


def in_order(feed: Feed, deadline: float | None) -> Generator[list[Any] | None]:
    futures: deque[Any] = deque()
    try:
        futures.extend(feed.more())
        yield None
        while futures:
            future = futures.popleft()
            try:
                results, failure, left = feed.outcome(future, deadline)
            except TimeoutError as error:
                # Asked before it is cancelled, because then it is done, too.
                is_of_the_call = future.done() and not future.cancelled() and future.exception() is error
                future._cancel_waiting()
                if is_of_the_call or deadline is None:
                    raise
                raise TimeoutError(f"{len(futures) + 1} calls of this map have not ended in time") from error
            except BaseException:
                future._cancel_waiting()
                raise
            del future  # an exception's traceback must not keep its own future alive
            done = len(results)
            yield results  # and whoever takes them empties the list
            if failure is not None:
                raised = [failure]
                del results, failure  # an exception must not be kept by a frame of its own traceback
                raise raised.pop()
            feed.done(done)
            if left:
                futures.extendleft(reversed(feed.again(left)))
            del results, failure, left
            futures.extend(feed.more())
        feed.finish()
    except KeyboardInterrupt as interrupt:
        raise seen_from_outside(interrupt) from interrupt.__cause__
    finally:
        for future in futures:
            future._cancel_waiting()


def as_they_come(feed: Feed, deadline: float | None) -> Generator[list[Any] | None]:
    watch = _raddle.WatchSet([])
    in_flight = 0
    ended: list[Any] = []
    try:
        in_flight = watch.add(feed.more())
        yield None
        while in_flight:
            ended = watch.next(None if deadline is None else deadline - time.monotonic())
            if not ended:
                raise TimeoutError(f"{in_flight} calls of this map have not ended in time")
            in_flight -= len(ended)
            ended.reverse()
            while ended:
                results, failure, left = feed.outcome(ended.pop(), None)
                done = len(results)
                yield results  # as above
                if failure is not None:
                    raised = [failure]
                    del results, failure  # as above
                    raise raised.pop()
                feed.done(done)
                if left:
                    in_flight += watch.add(feed.again(left))
                del results, failure, left
                in_flight += watch.add(feed.more())
        feed.finish()
    except KeyboardInterrupt as interrupt:
        raise seen_from_outside(interrupt) from interrupt.__cause__
    finally:
        for future in watch.close():
            future._cancel_waiting()


def total_of(iterables: tuple[Iterable[Any], ...]) -> int | None:
    """How many calls a `map` makes, as far as that is known."""
    sizes = [operator.length_hint(iterable, -1) for iterable in iterables]
    return min((size for size in sizes if size >= 0), default=None)
