"""Drop-in for `concurrent.futures`: the same names, signatures and exceptions on Raddle's lanes.

`Future` inherits from `concurrent.futures.Future`, and the executors from the standard library's executors, so
``isinstance`` checks, `asyncio.wrap_future`, ``loop.run_in_executor`` and the standard library's own `wait` and
`as_completed` accept them. What newer Pythons added (``map(buffersize=)``, ``terminate_workers``, ``kill_workers``) is
there on all. `InterpreterPoolExecutor` is the standard library's own, where it has one (3.14).
"""

from __future__ import annotations

from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    InvalidStateError,
    TimeoutError,  # noqa: A004  # the standard library exports it
)
from concurrent.futures import __all__ as _its_names

from ._future import Future as Future
from ._future import as_completed as as_completed
from ._future import wait as wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 14):
        from concurrent.futures import InterpreterPoolExecutor as InterpreterPoolExecutor

    from ._process_pool import BrokenProcessPool as BrokenProcessPool
    from ._process_pool import ProcessPoolExecutor as ProcessPoolExecutor
    from ._thread_pool import BrokenThreadPool as BrokenThreadPool
    from ._thread_pool import ThreadPoolExecutor as ThreadPoolExecutor

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "BrokenThreadPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "TimeoutError",
    "as_completed",
    "wait",
]

__all__ += {"InterpreterPoolExecutor"}.intersection(_its_names)  # noqa: PLE0605  # where there is one


_LAZY = {
    "BrokenProcessPool": "_process_pool",
    "BrokenThreadPool": "_thread_pool",
    "ProcessPoolExecutor": "_process_pool",
    "ThreadPoolExecutor": "_thread_pool",
}


def __getattr__(name: str) -> object:
    # As in the standard library: each executor, and `multiprocessing`, is loaded by those who use it.
    if name not in _LAZY and name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = f"{__package__}.{_LAZY[name]}" if name in _LAZY else "concurrent.futures"
    module = __import__(place, fromlist=[name])  # without the package `importlib` around it
    found: object = getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
