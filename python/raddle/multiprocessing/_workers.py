"""The two lanes as the pools of this package see them: the same verbs for processes and for threads."""

from __future__ import annotations

import _thread
import itertools
import signal
import threading
from multiprocessing import util
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]

from .. import _exit, _raddle
from .._context_crew import Begun, ContextCrew
from .._pool_threads import broken_by
from .._thread_pool import Crew as ThreadCrew
from ..errors import BrokenPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from typing import Any, Final, Protocol

    from .._future import Future
else:
    Protocol = object

__all__ = ["ProcessWorkers", "Readers", "ThreadWorkers"]

#: Seconds after which a worker that does not heed SIGTERM is killed.
_GRACE: Final = 1.0
_THE_END: Final = "the program has ended"
#: Where `multiprocessing` ends its own pools, when the interpreter ends.
_EXIT_PRIORITY: Final = 15


class Reading(Protocol):
    """An input that a thread reads."""

    def run(self) -> None:
        """Reads to the end."""

    def stop(self, error: BaseException) -> None:
        """Nothing will become of what is read from now on."""

    def hold(self) -> None:
        """Waits until the thread is in the input's own code, and does not let it out any more."""


class Readers:
    """Threads that read the inputs of `imap`, as the standard library's task handler does.

    An input may block, and nobody may be there to take results. The pool that is closed takes what they read to the end.
    """

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._running: dict[threading.Thread, Reading] = {}
        self._closing = False

    def start(self, reading: Reading) -> None:
        """Reads in a thread."""
        # The end of the program does not wait for an input: hence a daemon.
        thread = threading.Thread(name="raddle-reader", target=self._run, args=(reading,), daemon=True)
        with self._lock:
            self._running[thread] = reading
        try:
            thread.start()
        except BaseException:
            self._ended(thread)
            raise

    def _run(self, reading: Reading) -> None:
        try:
            reading.run()
        finally:
            self._ended(threading.current_thread())

    def _ended(self, thread: threading.Thread) -> None:
        with self._lock:
            self._running.pop(thread, None)
            last = self._closing and not self._running
        if last:
            self._close()

    def close(self) -> None:
        """Closes when everything has been read."""
        with self._lock:
            self._closing = True
            if self._running:
                return
        self._close()

    def stop(self, error: BaseException) -> list[Reading]:
        """What is not read yet comes to nothing."""
        with self._lock:
            stopped = list(self._running.values())
            self._running.clear()
        for reading in stopped:
            reading.stop(error)
        return stopped

    def join(self) -> None:
        """Waits until everything has been read."""
        with self._lock:
            threads = list(self._running)
        for thread in threads:
            thread.join()


class ProcessWorkers(ContextCrew):
    """Processes."""

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
            for_pool=True,
            broken=BrokenPool,
            remote_traceback=lambda text: RemoteTraceback(f'\n"""\n{text}"""'),
        )
        self.readers = Readers(self._close)
        self._at_exit: util.Finalize | None = None

    def members(self) -> list[Any]:
        """The processes."""
        return list(self.processes.values())

    def fill(self) -> None:
        """Starts workers until there are as many as there should be; if one cannot be started, none of them."""
        with self._lock:
            begun: list[Begun] = []
            settled: list[Begun] = []
            try:
                for _ in range(self._most - len(self.processes)):
                    begun.append(self._begin())
                if begun and self._at_exit is None:
                    # Not with the executors' hook: `multiprocessing` lets threads go on using a pool after the main one.
                    self._at_exit = util.Finalize(None, self._end_at_exit, exitpriority=_EXIT_PRIORITY)
                for one in begun:
                    self._settle(one)
                    settled.append(one)
            except BaseException:  # also Ctrl-C
                for one in begun:
                    if one not in settled:
                        self._undo(one)
                raise
            finally:  # no worker is without a keeper
                if self.processes:
                    self.lane.start_keeper(self._departed, self._broken)

    def grow(self) -> None:
        """One is missing that could not be replaced when it ended."""
        self.fill()

    def _undo(self, begun: Begun) -> None:
        begun.process.terminate()
        begun.process.join()
        if begun.lifeline is not None:
            begun.lifeline.close()
        self.processes = {pid: process for pid, process in self.processes.items() if process is not begun.process}
        self.lane.vacate(begun.seat)

    def _departed(self, seat: int, pid: int, exitcode: int | None, expected: bool, has_work: bool) -> None:
        self._collect(pid)
        refusal = self.lane.refusal()
        if refusal is None or (refusal == "" and self.lane.outstanding()):
            self._replace()
        elif not self.processes and self._at_exit is not None:
            self._at_exit.cancel()

    def _replace(self) -> None:
        if self._method != "fork":
            self._refill(None)
            return
        # The thread that forks is the main one of its child. The keeper cannot be: what it has become in the eyes of `threading`,
        # when a callback asked for the current thread, is no main thread.
        failure: list[BaseException] = []
        done = threading.Lock()
        done.acquire()

        def refill() -> None:
            try:
                self._refill(failure)
            finally:
                done.release()

        _thread.start_new_thread(refill, ())
        done.acquire()
        if failure:
            raise failure.pop()

    def _refill(self, failure: list[BaseException] | None) -> None:
        try:
            self.fill()
        except BaseException as error:  # it is raised by whoever waits for us
            if isinstance(error, OSError) and self.lane.workers():
                return  # the others go on, and the next call tries again
            if failure is None:
                raise
            failure.append(error)

    def _broken(self, reason: str) -> None:
        """The lane has told every future and every worker; there is nothing left to do."""

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Schedules one call."""
        return self.lane.submit(fn, args, kwargs)

    def binder(
        self, fn: Callable[..., Any], starred: bool, size: int
    ) -> Callable[[_raddle.Input, list[Future[Any]]], object]:
        """A function that schedules a call of `fn` for each item, `size` of them as one batch.

        An item is the only argument; if `starred`, the tuple of all arguments. The futures are appended to a list.
        """
        binding = self.lane.bind(fn)

        def submit_all(calls: _raddle.Input, futures: list[Future[Any]]) -> None:
            self.lane.submit_all(binding, calls, futures, starred=starred, size=size, whole=True, apart=True)

        return submit_all

    def close(self) -> None:
        """Takes no more calls."""
        self.readers.close()

    def _close(self) -> None:
        self.lane.close(False)

    def terminate(self, reason: str) -> list[Reading]:
        """Ends every worker now; what has not ended fails for this reason. Returns the inputs that were not read to the end."""
        if self.lane.is_foreign():
            return []
        stopped = self.readers.stop(BrokenPool(reason))
        self.lane.destroy(reason, signal.SIGTERM)
        try:
            if not self.lane.join(_GRACE):
                self.lane.destroy(reason, signal.SIGKILL)
                self.lane.join()
        except BaseException:
            self.lane.destroy(reason, signal.SIGKILL)
            raise
        return stopped

    def join(self) -> None:
        """Waits until every worker has ended."""
        self.readers.join()
        self.lane.join()

    def is_alive(self) -> bool:
        """Whether workers are looked after."""
        return self.lane.is_kept()

    def outstanding(self) -> int:
        """Calls that have not ended."""
        return 0 if self.lane.is_foreign() else self.lane.outstanding()

    def _end_at_exit(self) -> None:
        stopped: list[Reading] = []
        _exit.insist_on(lambda: stopped.extend(self.terminate(_THE_END)))
        _exit.insist_on(self.lane.join)
        for reading in stopped:
            _exit.insist_on(reading.hold)


class _Threads(ThreadCrew):
    """Threads that do not begin anything more when the program ends, as those of the standard library.

    What they run is waited for, though: a thread of ours must not meet the interpreter when it is being taken apart.
    """

    readers: Readers

    def stop(self, reason: str) -> list[Reading]:
        """Fails what has not started. Returns the inputs that were not read to the end."""
        stopped = self.readers.stop(BrokenPool(reason))
        self.lane.close()
        for future in self.lane.take_back():
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokenPool(reason))
                self.lane.count_failed(future._items or 1)
        return stopped

    def close(self) -> None:
        for reading in self.stop(_THE_END):
            reading.hold()


class ThreadWorkers:
    """Threads."""

    _counter = itertools.count(1).__next__

    def __init__(self, most: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self._lane = _raddle.ThreadLane(most)
        self._most = most
        self._crew = _Threads(
            self._lane, most, f"ThreadPool-{ThreadWorkers._counter()}", initializer, initargs, broken_by
        )
        self.readers = self._crew.readers = Readers(self._lane.close)

    def members(self) -> list[Any]:
        """The threads."""
        return list(self._crew.threads)

    def fill(self) -> None:
        """Starts threads until there are as many as there should be."""
        try:
            for _ in range(self._most - len(self._crew.threads)):
                self._crew.grow()
        except BaseException:
            self._lane.close()  # those that were started have nobody to wait for
            raise

    def _check(self) -> None:
        if self._crew.broken is not None:
            raise BrokenPool(self._crew.broken)

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Schedules one call."""
        self._check()
        return self._lane.submit(fn, args, kwargs)[0]

    def binder(
        self, fn: Callable[..., Any], starred: bool, size: int
    ) -> Callable[[_raddle.Input, list[Future[Any]]], object]:
        """As that of the processes."""

        def submit_all(calls: _raddle.Input, futures: list[Future[Any]]) -> None:
            self._check()
            self._lane.submit_all(fn, calls, futures, starred=starred, size=size, whole=True)

        return submit_all

    def close(self) -> None:
        """Takes no more calls."""
        self.readers.close()

    def terminate(self, reason: str) -> None:
        """Fails what has not started. A call that runs goes on: threads cannot be ended."""
        self._crew.stop(reason)

    def join(self) -> None:
        """Waits until every thread has ended."""
        self.readers.join()
        self._crew.join()

    def is_alive(self) -> bool:
        """Whether a thread runs."""
        return not self._crew.is_over()

    def outstanding(self) -> int:
        """Calls that have not ended."""
        counts = self._lane.counts()
        return counts[4] + counts[5]
