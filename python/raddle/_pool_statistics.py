"""What `Pool.statistics` returns.

A module of its own, because a class of this kind needs `typing`, which takes longer to import than all of Raddle.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PoolStatistics"]


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
        busy_seconds: Time that workers spent inside calls, summed over the workers. For threads it includes waiting for
            the GIL.
        wall_seconds: Time since the pool was made.
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


PoolStatistics.__module__ = "raddle"
