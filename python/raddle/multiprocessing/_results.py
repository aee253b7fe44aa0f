"""What the pools of this package give for their calls: results to wait for, and iterators."""

from __future__ import annotations

import builtins
import itertools
import multiprocessing.pool as stdlib
import threading
import time
from collections import deque
from multiprocessing import TimeoutError  # noqa: A004  # the pools' own
from types import GenericAlias

from .. import _raddle
from .._future import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.pool import IMapIterator as _StdlibIMapIterator
    from typing import Any, Final, Self

    from .._types import T
    from ._workers import ProcessWorkers, ThreadWorkers
else:

    class _StdlibIMapIterator(stdlib.IMapIterator):
        __class_getitem__ = classmethod(GenericAlias)


__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "failed"]

#: What is read at once: reading it takes no time and does not fail.
_AT_HAND: Final = frozenset({list, tuple, range, dict, set, frozenset, str, bytes, bytearray, deque})
#: So many calls are under way, at most, before the thread that reads the input of an `imap` waits.
_AHEAD: Final = 1024


def failed(error: BaseException) -> Future[Any]:
    """A future for a call that could not be scheduled."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _until(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _ends(future: Future[Any], deadline: float | None) -> bool:
    """Waits for the end of a call, and says whether it came in time."""
    try:
        future.exception(_left(deadline))
    except builtins.TimeoutError:
        return False
    return True


class ApplyResult(stdlib.ApplyResult["T"]):
    """What one call will come to. As `multiprocessing.pool.ApplyResult`, also known as `AsyncResult`.

    Example:
        >>> from raddle.multiprocessing import ThreadPool
        >>> with ThreadPool(2) as pool:
        ...     pool.apply_async(pow, (2, 10)).get(timeout=10)
        1024
    """

    def __init__(
        self,
        future: Future[Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._future = future
        #: Set when the callbacks have returned; None if there are none.
        self._told: _raddle.EventCore | None = None
        if callback is not None or error_callback is not None:
            self._told = _raddle.EventCore()
            self._callback = callback
            self._error_callback = error_callback
            future.add_done_callback(self._tell)

    def _tell(self, _: object) -> None:
        told = self._told
        assert told is not None, "there are callbacks"
        try:
            raised = self._failure()
            if raised is None:
                if self._callback is not None:
                    self._callback(self._outcome())
            elif self._error_callback is not None:
                self._error_callback(raised)
        finally:
            told.set()

    def _failure(self) -> BaseException | None:
        return self._future.exception()

    def _outcome(self) -> T:
        value: T = self._future.result()
        return value

    def ready(self) -> bool:
        """Whether the call has ended."""
        return self._future.done() if self._told is None else self._told.is_set()

    def successful(self) -> bool:
        """Whether the call returned.

        Raises:
            ValueError: If it has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._failure() is None

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call has ended and its callbacks have returned, `timeout` seconds at most."""
        self._wait_for([self._future], timeout)

    def _wait_for(self, futures: list[Future[Any]], timeout: float | None) -> None:
        deadline = _until(timeout)
        # Also where there are callbacks: who could end a call is known, so that a wait which can never end is found.
        if all(_ends(future, deadline) for future in futures) and self._told is not None:
            self._told.wait(_left(deadline))

    def get(self, timeout: float | None = None) -> T:
        """What the call returned; raises what it raised.

        Raises:
            multiprocessing.TimeoutError: If it does not end within `timeout` seconds.
            raddle.WorkerDied: If the worker process died while it ran the call.
            raddle.BrokenPool: If the pool was terminated, or its workers cannot be set up.
        """
        if timeout is not None or self._told is not None:
            self.wait(timeout)
            if not self.ready():
                raise TimeoutError
        return self._outcome()


AsyncResult = ApplyResult


class MapResult(ApplyResult["list[T]"], stdlib.MapResult["T"]):
    """What the calls of a map will come to, all of them. As `multiprocessing.pool.MapResult`."""

    def __init__(
        self,
        futures: list[Future[Any]],
        failure: BaseException | None,
        chunksize: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        """`failure` is what ended the input early."""
        self._futures = futures
        self._chunksize = chunksize
        self._broken_input = failure
        self._lock = threading.Lock()
        self._gathered: tuple[list[T], BaseException | None] | None = None
        self._told = None
        # The standard library does not tell the callbacks of an empty map either.
        if (callback is not None or error_callback is not None) and futures:
            self._told = _raddle.EventCore()
            self._callback = callback
            self._error_callback = error_callback
            self._missing = len(futures)
            for future in futures:
                future.add_done_callback(self._one_ended)

    def _one_ended(self, _: object) -> None:
        with self._lock:
            self._missing -= 1
            last = self._missing == 0
        if last:
            self._tell(None)

    @property
    def _number_left(self) -> int:
        return sum(not future.done() for future in self._futures)

    def _gather(self) -> tuple[list[T], BaseException | None]:
        """The results, and the exception of the first call that raised."""
        with self._lock:
            if self._gathered is not None:
                return self._gathered
            futures = self._futures
        results: list[T] = []
        failure: BaseException | None = None
        for future in futures:
            raised = future.exception()
            if raised is None:
                value = future.result()
                if future._items:
                    values, raised = value
                    results += values
                else:
                    results.append(value)
            if failure is None:
                failure = raised
        with self._lock:
            if self._gathered is None:
                if failure is None:
                    failure = self._broken_input
                self._gathered = (results if failure is None else [], failure)
                self._futures = []
            return self._gathered

    def _failure(self) -> BaseException | None:
        return self._gather()[1]

    def _outcome(self) -> list[T]:
        results, failure = self._gather()
        if failure is None:
            return results
        try:
            raise failure
        finally:
            del failure  # an exception must not be kept by a frame of its own traceback

    def ready(self) -> bool:
        """Whether every call has ended."""
        return all(future.done() for future in self._futures) if self._told is None else self._told.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until every call has ended and the callbacks have returned, `timeout` seconds at most."""
        self._wait_for(self._futures, timeout)


class _Raised:
    """An exception in its place among results."""

    def __init__(self, error: BaseException) -> None:
        self.error = [error]


def _unpack(future: Future[Any], values: deque[Any]) -> None:
    """Appends what came of a future that has ended: results, and perhaps an exception behind them."""
    raised = future.exception()
    if raised is None and not future._items:
        values.append(future.result())
        return
    if raised is None:
        results, raised = future.result()
        values.extend(results)
    if raised is not None:
        values.append(_Raised(raised))


class IMapIterator(_StdlibIMapIterator["T"]):
    """The results of an `imap`, in order. As `multiprocessing.pool.IMapIterator`.

    Example:
        >>> from raddle.multiprocessing import ThreadPool
        >>> with ThreadPool(2) as pool:
        ...     results = pool.imap(str, range(3))
        ...     results.next(timeout=10), list(results)
        ('0', ['1', '2'])
    """

    def __init__(
        self,
        workers: ProcessWorkers | ThreadWorkers,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> None:
        self._change = threading.Condition()
        self._futures: deque[Future[Any]] = deque()
        self._is_complete = False
        self._ending: BaseException | None = None
        #: Held by the thread whose turn it is to wait.
        self._turn = threading.Lock()
        #: Results that have come and were not taken.
        self._values: deque[Any] = deque()
        try:
            submit_all = workers.binder(func, False, chunksize)
            items = iter(iterable)
        except Exception as error:  # noqa: BLE001  # such as a function that cannot be pickled: the iterator says so
            self._complete(error)
            return
        if type(iterable) in _AT_HAND:
            futures: list[Future[Any]] = []
            submit_all(_raddle.Input(items), futures)
            self._add(futures)
            self._complete(None)
        else:
            workers.readers.start(_Reading(self, items, chunksize, submit_all))

    def _add(self, futures: list[Future[Any]]) -> None:
        with self._change:
            self._futures.extend(futures)
            self._change.notify()

    def _complete(self, failure: BaseException | None) -> None:
        """Nothing more comes; what ended the input early is raised behind the results."""
        with self._change:
            if not self._is_complete:
                self._is_complete = True
                self._ending = failure
            self._change.notify()

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> T:
        """The next result; raises what its call raised, and goes on with the one after that.

        Raises:
            StopIteration: At the end.
            multiprocessing.TimeoutError: If there is no result within `timeout` seconds.
        """
        deadline = _until(timeout)
        if not self._turn.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError
        try:
            if not self._values:
                self._fetch(deadline)
            value = self._values.popleft()
        finally:
            self._turn.release()
        if type(value) is not _Raised:
            return value  # type: ignore[no-any-return]
        raise value.error.pop()

    __next__ = next  # noqa: A003  # the method above

    def _fetch(self, deadline: float | None) -> None:
        """Waits for the next results."""
        if not self._futures:
            with self._change:
                if not self._await(lambda: bool(self._futures), deadline):
                    return
        future = self._futures[0]
        if deadline is not None and not _ends(future, deadline):
            raise TimeoutError
        _unpack(future, self._values)
        self._futures.popleft()

    def _await(self, is_there: Callable[[], bool], deadline: float | None) -> bool:
        """Waits under the condition until there is something under way; false if the input's end is what comes next."""
        while not is_there():
            if self._is_complete:
                failure, self._ending = self._ending, None
                if failure is None:
                    raise StopIteration
                self._values.append(_Raised(failure))
                return False
            if not self._change.wait(_left(deadline)):
                raise TimeoutError
        return True


class _Reading:
    """The input of an iterator, read by a thread."""

    def __init__(
        self,
        results: IMapIterator[Any],
        items: Iterator[Any],
        chunksize: int,
        submit_all: Callable[[_raddle.Input, list[Future[Any]]], object],
    ) -> None:
        self._results = results
        self._items = items
        self._chunksize = chunksize
        self._submit_all = submit_all
        #: Held by the thread unless it is in the input's own code.
        self._inside = threading.Lock()
        self._ahead: list[Future[Any]] = []

    def run(self) -> None:
        """Reads to the end."""
        failure: BaseException | None = None
        try:
            # An input that raises in the middle of a chunk takes the chunk with it, as in the standard library.
            while chunk := list(itertools.islice(self._items, self._chunksize)):
                with self._inside:
                    if self._results._is_complete:
                        return
                    self._schedule(chunk)
        except BaseException as error:  # noqa: BLE001  # it is the iterator's
            failure = error
        self._results._complete(failure)

    def _schedule(self, chunk: list[Any]) -> None:
        futures: list[Future[Any]] = []
        self._submit_all(_raddle.Input(chunk), futures)
        self._results._add(futures)
        self._ahead += futures
        while len(self._ahead) >= _AHEAD:
            _ends(self._ahead[_AHEAD // 2], None)
            self._ahead = [future for future in self._ahead if not future.done()]

    def stop(self, error: BaseException) -> None:
        """Nothing will become of what is read from now on."""
        self._results._complete(error)

    def hold(self) -> None:
        """Waits until the thread is in the input's own code, and does not let it out any more."""
        self._inside.acquire()


class IMapUnorderedIterator(IMapIterator["T"]):
    """The results of an `imap_unordered`, as they come. As `multiprocessing.pool.IMapUnorderedIterator`."""

    def __init__(
        self,
        workers: ProcessWorkers | ThreadWorkers,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> None:
        self._watch = _raddle.WatchSet([], shared=True)
        self._under_way = 0
        super().__init__(workers, func, iterable, chunksize)

    def _add(self, futures: list[Future[Any]]) -> None:
        with self._change:
            self._under_way += self._watch.add(futures)
            self._change.notify()

    def _fetch(self, deadline: float | None) -> None:
        with self._change:
            if not self._await(lambda: self._under_way > 0, deadline):
                return
        ended = self._watch.next(_left(deadline))
        if not ended:
            raise TimeoutError
        with self._change:
            self._under_way -= len(ended)
        for future in ended:
            _unpack(future, self._values)


for _class in (ApplyResult, MapResult, IMapIterator, IMapUnorderedIterator):
    _class.__module__ = "raddle.multiprocessing.pool"
del _class
