"""How a thread is asked to end.

In layers, from the gentle to the rough:

1. `stop(thread)` writes down a `Stopped` for the thread and interrupts whatever it waits for in Raddle: a lock, a queue, a join, a
   future. It is raised there, or in its next wait, or at its next `checkpoint()`.
2. Loops that only compute call `checkpoint()` now and then.
3. `stop(thread, interrupt=True)` also throws it between two bytecodes, at a `raddle.threading.Thread` that was made with
   `interruptible=True`. What was thrown and has not arrived when the thread's function ends is taken back.
4. What is not to be torn apart stands behind a `shield()`.

A call that blocks outside Raddle (a socket, `time.sleep`, a C library) is not ended by 1; by 3 when it comes back.
"""

from __future__ import annotations

import contextlib
import threading
import time

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stopped", "checkpoint", "shield", "stop"]


class Stopped(BaseException):
    """Somebody wants this thread to end. Let it pass; `finally` and `with` do their work.

    It is no `Exception`, so that `except Exception` does not swallow it.

    Attributes:
        by: The name of the thread that asked.
        reason: Why, in the words of whoever asked, or None.
        since: When, by `time.monotonic()`, in seconds.
    """

    def __init__(self, reason: str | None = None, *, by: str | None = None, since: float | None = None) -> None:
        super().__init__(reason)
        self.by = threading.current_thread().name if by is None else by
        self.reason = reason
        self.since = time.monotonic() if since is None else since

    def __str__(self) -> str:
        return f"stopped by {self.by!r}" + ("" if self.reason is None else f": {self.reason}")


def stop(thread: threading.Thread, reason: str | None = None, *, interrupt: bool = False) -> bool:
    """Asks a thread to end: `Stopped` is raised in its wait, in its next wait, or at its next checkpoint.

    It works for every thread that has touched something of Raddle's, and for every `raddle.threading.Thread`. Asking again
    replaces what was asked before and not raised yet.

    Args:
        thread: Which.
        reason: Why; it is in the exception.
        interrupt: Also throw it between two bytecodes, if the thread is a `raddle.threading.Thread` made with `interruptible=True`.

    Returns:
        Whether it was asked: False if it has ended, was not started, or never touched Raddle.

    Example:
        >>> from raddle.threading import Event, Thread
        >>> thread = Thread(target=Event().wait)
        >>> thread.start()
        >>> raddle.stop(thread, "enough")
        True
        >>> thread.join()
    """
    unit = unit_of(thread)
    if unit is None:
        return False
    asked = _raddle.order(unit, Stopped(reason))
    if asked and interrupt:
        _raddle.throw(unit, Stopped)
    return asked


def unit_of(thread: threading.Thread) -> int | None:
    """The number of a thread's unit, if it is alive and is one."""
    if not thread.is_alive():
        return None
    unit = getattr(thread, "_unit", None)
    if unit is not None:
        return int(unit)
    return next((number for number, ident, _ in _raddle.list_units() if ident == thread.ident), None)


def checkpoint() -> None:
    """Raises `Stopped` if this thread was asked to stop, and what handlers of signals raise. Costs little; call it in long loops.

    Example:
        >>> for _ in range(3):
        ...     raddle.checkpoint()
    """
    _raddle.checkpoint()


@contextlib.contextmanager
def shield() -> Iterator[None]:
    """Within this `with` block the thread is not stopped; what was asked meanwhile is raised in the next wait after it.

    Example:
        >>> with raddle.shield():
        ...     pass  # what must not be torn apart
    """
    _raddle.raise_shield()
    try:
        yield
    finally:
        _raddle.lower_shield()
