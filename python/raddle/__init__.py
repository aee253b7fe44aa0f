"""Raddle: one concurrency system for Python, with a Rust core."""

# The map of this package:
#
#   Pool                   many calls over a few workers            pool.py
#   raddle.futures         drop-in for concurrent.futures           futures.py
#   raddle.multiprocessing drop-in for multiprocessing.Pool         multiprocessing/
#   raddle.shared          memory that crosses without a copy        shared.py
#   raddle.errors          every exception, and what it means       errors.py
#
# Names with an underscore are the house's own. `_raddle` is the compiled half; `raddle_boot` is the first code in a child.

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import shared as shared
    from ._output import OutputLine as OutputLine
    from ._pool_statistics import PoolStatistics as PoolStatistics
    from ._pool_statistics import WorkerStatistics as WorkerStatistics
    from ._progress import Progress as Progress
    from ._ref import Ref as Ref
    from ._trace import Trace as Trace
    from ._trace import TracedCall as TracedCall
    from .errors import BrokenError as BrokenError
    from .errors import BrokenPool as BrokenPool
    from .errors import CallTimeout as CallTimeout
    from .errors import DeadlockError as DeadlockError
    from .errors import InternalError as InternalError
    from .errors import PoolFull as PoolFull
    from .errors import RemoteError as RemoteError
    from .errors import WorkerDied as WorkerDied
    from .pool import Pool as Pool

__all__ = [
    "BrokenError",
    "BrokenPool",
    "CallTimeout",
    "DeadlockError",
    "InternalError",
    "OutputLine",
    "Pool",
    "PoolFull",
    "PoolStatistics",
    "Progress",
    "Ref",
    "RemoteError",
    "Trace",
    "TracedCall",
    "WorkerDied",
    "WorkerStatistics",
    "shared",
]

__version__ = "0.1.0"

_HOMES = {
    "OutputLine": "_output",
    "Pool": "pool",
    "PoolStatistics": "_pool_statistics",
    "Progress": "_progress",
    "Ref": "_ref",
    "Trace": "_trace",
    "TracedCall": "_trace",
    "WorkerStatistics": "_pool_statistics",
}


def __getattr__(name: str) -> object:
    # What is not used is not loaded: a program that wants `raddle.futures` alone starts as fast as it can.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "shared":
        found: object = __import__(f"{__name__}.shared", fromlist=["shared"])
    else:
        found = getattr(__import__(f"{__name__}.{_HOMES.get(name, 'errors')}", fromlist=[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
