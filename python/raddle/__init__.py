"""Raddle: one concurrency system for Python, with a Rust core."""

# The map of this package:
#
#   Pool                   many calls over a few workers            pool.py
#   raddle.futures         drop-in for concurrent.futures           futures.py
#   raddle.errors          every exception, and what it means       errors.py
#
# Names with an underscore are the house's own. `_raddle` is the compiled half; `raddle_boot` is the first code in a child.

from __future__ import annotations

from .errors import BrokenError as BrokenError
from .errors import BrokenPool as BrokenPool
from .errors import DeadlockError as DeadlockError
from .errors import InternalError as InternalError
from .errors import RemoteError as RemoteError
from .errors import WorkerDied as WorkerDied
from .pool import Pool as Pool
from .pool import PoolStatistics as PoolStatistics

__all__ = [
    "BrokenError",
    "BrokenPool",
    "DeadlockError",
    "InternalError",
    "Pool",
    "PoolStatistics",
    "RemoteError",
    "WorkerDied",
]

__version__ = "0.1.0"

for _name in __all__:
    globals()[_name].__module__ = "raddle"
del _name
