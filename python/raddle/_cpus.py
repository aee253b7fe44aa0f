"""How many CPUs there are to use."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["usable_cpus"]


def usable_cpus() -> int:
    """CPUs that this process may use."""
    counter: Callable[[], int | None] = getattr(os, "process_cpu_count", lambda: len(os.sched_getaffinity(0)))
    return counter() or 1
