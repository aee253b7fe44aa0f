"""Raddle: one concurrency system for Python, with a Rust core."""

# The map of this package:
#
#   Pool                   many calls over a few workers            pool.py
#   raddle.futures         drop-in for concurrent.futures           futures.py
#   scope                  a block that owns what is started in it   _scope.py
#   stop, units            ending threads, seeing them             _stop.py, _units.py
#   check_lock_order       locks taken in both orders               _lock_order.py
#   channel, select        passing values, waiting for the first     _channel.py
#   raddle.threading       drop-in for threading                    threading.py
#   raddle.queue           drop-in for queue                        queue.py
#   raddle.sync            locks, latches, atomics, a dict          sync.py
#   raddle.multiprocessing drop-in for multiprocessing.Pool         multiprocessing/
#   raddle.shared          memory that crosses without a copy        shared.py
#   shared_channel         a channel between processes             _shared_channel.py
#   raddle.errors          every exception, and what it means       errors.py
#
# Names with an underscore are the house's own. `_raddle` is the compiled half; `raddle_boot` is the first code in a child.

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from . import shared as shared
    from . import sync as sync
    from ._channel import BroadcastSender as BroadcastSender
    from ._channel import Receiver as Receiver
    from ._channel import Selected as Selected
    from ._channel import Sender as Sender
    from ._channel import Timer as Timer
    from ._channel import WatchReceiver as WatchReceiver
    from ._channel import after as after
    from ._channel import aselect as aselect
    from ._channel import broadcast as broadcast
    from ._channel import channel as channel
    from ._channel import every as every
    from ._channel import oneshot as oneshot
    from ._channel import select as select
    from ._channel import watch as watch
    from ._deadlock import Deadlock as Deadlock
    from ._deadlock import StuckUnit as StuckUnit
    from ._lock_order import LockOrder as LockOrder
    from ._lock_order import LockOrderCheck as LockOrderCheck
    from ._lock_order import OrderedPair as OrderedPair
    from ._lock_order import check_lock_order as check_lock_order
    from ._output import OutputLine as OutputLine
    from ._pool_statistics import PoolStatistics as PoolStatistics
    from ._pool_statistics import WorkerStatistics as WorkerStatistics
    from ._progress import Progress as Progress
    from ._ref import Ref as Ref
    from ._scope import Handle as Handle
    from ._scope import Scope as Scope
    from ._scope import scope as scope
    from ._shared_channel import SharedReceiver as SharedReceiver
    from ._shared_channel import SharedSender as SharedSender
    from ._shared_channel import shared_channel as shared_channel
    from ._stop import Stopped as Stopped
    from ._stop import checkpoint as checkpoint
    from ._stop import shield as shield
    from ._stop import stop as stop
    from ._trace import Trace as Trace
    from ._trace import TracedCall as TracedCall
    from ._units import Life as Life
    from ._units import Unit as Unit
    from ._units import Units as Units
    from ._units import unhandled as unhandled
    from ._units import units as units
    from .errors import BrokenError as BrokenError
    from .errors import BrokenPool as BrokenPool
    from .errors import CallTimeout as CallTimeout
    from .errors import Closed as Closed
    from .errors import DeadlockError as DeadlockError
    from .errors import InternalError as InternalError
    from .errors import Lagged as Lagged
    from .errors import LockOrderError as LockOrderError
    from .errors import PoolFull as PoolFull
    from .errors import RemoteError as RemoteError
    from .errors import WorkerDied as WorkerDied
    from .pool import Pool as Pool

__all__ = [
    "BroadcastSender",
    "BrokenError",
    "BrokenPool",
    "CallTimeout",
    "Closed",
    "Deadlock",
    "DeadlockError",
    "Handle",
    "InternalError",
    "Lagged",
    "Life",
    "LockOrder",
    "LockOrderCheck",
    "LockOrderError",
    "OrderedPair",
    "OutputLine",
    "Pool",
    "PoolFull",
    "PoolStatistics",
    "Progress",
    "Receiver",
    "Ref",
    "RemoteError",
    "Scope",
    "Selected",
    "Sender",
    "SharedReceiver",
    "SharedSender",
    "Stopped",
    "StuckUnit",
    "Timer",
    "Trace",
    "TracedCall",
    "Unit",
    "Units",
    "WatchReceiver",
    "WorkerDied",
    "WorkerStatistics",
    "after",
    "aselect",
    "broadcast",
    "channel",
    "check_lock_order",
    "checkpoint",
    "every",
    "on_deadlock",
    "oneshot",
    "scope",
    "select",
    "shared",
    "shared_channel",
    "shield",
    "stop",
    "sync",
    "unhandled",
    "units",
    "watch",
]

__version__ = "0.1.0"

on_deadlock: str | Callable[[Deadlock], object] = "report"
"""What happens when a thread begins a wait that can never end: "report" it on stderr, "raise" `DeadlockError` in the thread whose wait
closes the circle, or call this with the `Deadlock`, in that thread."""

_HOMES = {
    "BroadcastSender": "_channel",
    "Receiver": "_channel",
    "Selected": "_channel",
    "Sender": "_channel",
    "Timer": "_channel",
    "WatchReceiver": "_channel",
    "after": "_channel",
    "aselect": "_channel",
    "broadcast": "_channel",
    "channel": "_channel",
    "every": "_channel",
    "oneshot": "_channel",
    "select": "_channel",
    "watch": "_channel",
    "Stopped": "_stop",
    "checkpoint": "_stop",
    "shield": "_stop",
    "stop": "_stop",
    "Life": "_units",
    "Unit": "_units",
    "Units": "_units",
    "unhandled": "_units",
    "units": "_units",
    "SharedReceiver": "_shared_channel",
    "SharedSender": "_shared_channel",
    "shared_channel": "_shared_channel",
    "Handle": "_scope",
    "Scope": "_scope",
    "scope": "_scope",
    "Deadlock": "_deadlock",
    "LockOrder": "_lock_order",
    "LockOrderCheck": "_lock_order",
    "OrderedPair": "_lock_order",
    "check_lock_order": "_lock_order",
    "StuckUnit": "_deadlock",
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
    if name in ("shared", "sync"):
        found: object = __import__(f"{__name__}.{name}", fromlist=[name])
    else:
        found = getattr(__import__(f"{__name__}.{_HOMES.get(name, 'errors')}", fromlist=[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
