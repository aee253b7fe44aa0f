"""Worker processes that a `multiprocessing` context starts, for the drop-ins: what a worker is to inherit, it inherits."""

from __future__ import annotations

import os
import pickle
import socket
import threading

import raddle_boot

from . import _raddle
from ._cpus import share_of_each
from ._weak import weakly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from typing import Any, Final

__all__ = ["Begun", "ContextCrew"]


class Begun:
    """A process that was started for a seat, and that the lane does not know yet."""

    def __init__(self, seat: int, process: BaseProcess, lifeline: socket.socket | None) -> None:
        self.seat: Final = seat
        self.process: Final = process
        self.lifeline: Final = lifeline


class ContextCrew:
    """The workers of a pool. Knows the lane, not the pool, so that a pool can be dropped while its workers work.

    When workers are started, and what their end means, is said by subclasses.
    """

    def __init__(
        self,
        most: int,
        context: BaseContext,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        *,
        for_pool: bool,
        broken: Callable[[str], BaseException],
        remote_traceback: Callable[[str], BaseException],
    ) -> None:
        """`for_pool` says whose rules hold: those of `multiprocessing.Pool`, or those of an executor."""
        self.processes: dict[int, BaseProcess] = {}
        self._lifelines: dict[int, socket.socket] = {}
        self._most = most
        self._context = context
        self._method = context.get_start_method(allow_none=False)
        self._for_pool = for_pool
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks = max_tasks
        self._share = share_of_each(most)
        self._lock = threading.RLock()
        self.lane = _raddle.ProcessLane(
            max_workers=most,
            replace=for_pool,
            strict=not for_pool,
            dumps=raddle_boot.forking_dumps,
            dumps_by_value=None,
            loads=pickle.loads,
            broken=broken,
            remote_traceback=remote_traceback,
            grow=weakly(self.grow),
        )

    def grow(self) -> None:
        """One more worker would help."""
        raise NotImplementedError

    def _begin(self) -> Begun:
        """Starts a process."""
        if self._method == "fork":
            # Here, where no page has to be copied for it, and not in each child.
            import faulthandler  # noqa: F401
        seat, link, words = self.lane.seat()
        # The fork server's children see its end, not ours: they hold one end of a socket, and we the other.
        ours, theirs = socket.socketpair() if self._method == "forkserver" else (None, None)
        parent = None if ours else os.getpid()
        lifeline = raddle_boot.Descriptor(theirs.fileno()) if theirs else None
        rules = (self._share, self._initializer, self._initargs, self._max_tasks, self._for_pool)
        try:
            descriptors = tuple(raddle_boot.Descriptor(fd) for fd in (link, *self.lane.fds(), words))
            process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
                target=raddle_boot.drop_in,
                args=(_raddle.__file__, descriptors, parent, lifeline, *rules),
            )
            if self._for_pool:
                process.name = process.name.replace("Process", "PoolWorker")
            process.start()
        except BaseException:
            self.lane.vacate(seat)
            if ours:
                ours.close()
            raise
        finally:
            os.close(link)
            os.close(words)
            if theirs:
                theirs.close()
        return Begun(seat, process, ours)

    def _settle(self, begun: Begun) -> None:
        """Tells the lane of a process."""
        pid = begun.process.pid
        assert pid is not None, "it has been started"
        if begun.lifeline is not None:
            self._lifelines[pid] = begun.lifeline
        self.processes[pid] = begun.process
        self.lane.occupy(begun.seat, pid, False)

    def _collect(self, pid: int) -> BaseProcess | None:
        """Lets go of a process that has ended."""
        with self._lock:
            process = self.processes.pop(pid, None)
            lifeline = self._lifelines.pop(pid, None)
        if lifeline is not None:
            lifeline.close()
        if process is not None:
            process.join()
        return process

    def is_over(self) -> bool:
        """Whether no worker runs any more."""
        return not self.lane.is_kept()
