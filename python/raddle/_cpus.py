"""How many CPUs there are to use.

A pool inside of a worker of another pool has to do with that worker's share: the CPUs of the outer pool, divided by the number of its
workers. What is nested has a part of the whole, and not the whole again at each level.
"""

from __future__ import annotations

import os
import threading

import raddle_boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["share_of_cpus", "share_of_each", "take_share", "usable_cpus"]

_here = threading.local()


def usable_cpus() -> int:
    """CPUs that this process may use."""
    counter: Callable[[], int | None] = getattr(os, "process_cpu_count", lambda: len(os.sched_getaffinity(0)))
    return counter() or 1


def share_of_cpus() -> int:
    """CPUs for a pool that is made here: those that this process may use, or in a worker of a pool its share of them."""
    share = getattr(_here, "share", raddle_boot.share)
    return usable_cpus() if share is None else min(usable_cpus(), share)


def share_of_each(workers: int, cpus: int | None = None) -> int:
    """The share of each worker of a pool that has so many CPUs; by default those for a pool that is made here."""
    return max(1, (share_of_cpus() if cpus is None else cpus) // workers)


def take_share(share: int) -> None:
    """Says that this thread is a worker with such a share."""
    _here.share = share
