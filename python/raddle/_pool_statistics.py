"""What `Pool.statistics` returns.

A module of its own, because a class of this kind needs `typing`, which takes longer to import than all of Raddle.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PoolStatistics", "WorkerStatistics"]


class WorkerStatistics(NamedTuple):
    """Numbers about one worker of a pool.

    Attributes:
        name: The name of the thread; ``"process 4711"`` for a process.
        pid: The process number; None for a thread.
        calls: Calls that returned or failed here.
        failed: Those of them that raised, or were lost with the worker.
        busy_seconds: Time spent inside calls, the one that runs now included. For threads it includes waiting for the GIL.
        age_seconds: Time since the worker was started, until its end if it has ended.
        state: ``"starting"``, ``"idle"``, ``"busy"``, ``"leaving"`` (it takes no more calls), ``"ended"`` or ``"died"``.
    """

    name: str
    pid: int | None
    calls: int
    failed: int
    busy_seconds: float
    age_seconds: float
    state: str

    @property
    def idle_seconds(self) -> float:
        """Time spent outside of calls, its start included."""
        return max(0.0, self.age_seconds - self.busy_seconds)

    @property
    def busy_share(self) -> float:
        """The part of its time that it spent inside calls, from 0 to 1."""
        return min(1.0, self.busy_seconds / self.age_seconds) if self.age_seconds > 0 else 0.0


class PoolStatistics(NamedTuple):
    """Numbers about a pool since it was made.

    Attributes:
        kind: ``"thread"`` or ``"process"``.
        workers: Workers that exist now.
        submitted: Calls handed in.
        finished: Calls that returned a value.
        failed: Calls that raised, or were lost with their worker.
        cancelled: Calls cancelled before they started.
        died: Worker processes that died without being asked to.
        pending: Calls that wait.
        running: Calls that run.
        busy_seconds: Time that workers spent inside calls, summed over all workers that there ever were; the calls that run now
            are included. For threads it includes waiting for the GIL.
        wall_seconds: Time since the pool was made.
        per_worker: The workers that exist, and the last 32 of those that have ended, the last one last. The numbers above count all.
    """

    kind: str
    workers: int
    submitted: int
    finished: int
    failed: int
    cancelled: int
    died: int
    pending: int
    running: int
    busy_seconds: float
    wall_seconds: float
    per_worker: tuple[WorkerStatistics, ...]


PoolStatistics.__module__ = WorkerStatistics.__module__ = "raddle"
