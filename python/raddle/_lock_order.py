"""Locks that are taken in both orders, told although the run was lucky."""

from __future__ import annotations

import contextlib
import sys
from typing import NamedTuple

from . import _raddle
from .errors import LockOrderError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

__all__ = ["LockOrder", "LockOrderCheck", "OrderedPair", "check_lock_order", "found"]


class OrderedPair(NamedTuple):
    """One thread has held one lock, and wanted another."""

    thread: str
    """The thread's name."""

    held: str
    """What it held, in words."""

    taken_at: str | None
    """`file:line` of where it had taken that."""

    wanted: str
    """What it wanted, in words."""

    wanted_at: str | None
    """`file:line` of where it wanted that."""


class LockOrder(NamedTuple):
    """Locks that were taken in orders which do not go together. `str()` tells it in words."""

    pairs: tuple[OrderedPair, ...]
    """The orders: each thread held what the one before it wanted."""

    def __str__(self) -> str:
        lines = [
            f"lock order: {len(self.pairs)} locks are taken in a ring; threads that do so at the same moment wait for each other for ever"
        ]
        for pair in self.pairs:
            taken = "" if pair.taken_at is None else f" (taken {pair.taken_at})"
            wanted = "" if pair.wanted_at is None else f" (wanted {pair.wanted_at})"
            lines.append(f'  "{pair.thread}" held {pair.held}{taken} and wanted {pair.wanted}{wanted}')
        lines.append("  hint: take the locks in the same order everywhere, or both under a third one")
        return "\n".join(lines)


#: What is done about an inversion: by the check that was begun last.
_checks: list[LockOrderCheck] = []


class LockOrderCheck:
    """Orders of locks are watched while it lasts: as long as the block, or until `stop()`."""

    def __init__(self, then: str | Callable[[LockOrder], object]) -> None:
        self.then = then
        _checks.append(self)
        if len(_checks) == 1:
            _raddle.watch_lock_order(True)

    def stop(self) -> None:
        """Watches no longer. What was seen is forgotten when nobody watches any more."""
        if self in _checks:
            _checks.remove(self)
            if not _checks:
                _raddle.watch_lock_order(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def check_lock_order(then: str | Callable[[LockOrder], object] = "report") -> LockOrderCheck:
    """Watches in which order locks are taken, and tells of orders that could end in a deadlock, although this run was lucky.

    Args:
        then: "report" it on stderr, "raise" `LockOrderError` in the thread that is about to take the last lock of the ring, before it takes it,
            or call this with the `LockOrder`, in that thread.

    Locks of `raddle.threading` and `raddle.sync` are watched, with those that conditions have. Each use of a lock takes several times as long
    meanwhile, so this is for tests and for looking into something.

    Example:
        >>> import raddle
        >>> with raddle.check_lock_order("raise"):
        ...     pass  # run the tests
    """
    if then not in ("report", "raise") and not callable(then):
        raise ValueError(f"then must be 'report', 'raise' or a function, not {then!r}")
    return LockOrderCheck(then)


def found(steps: Sequence[dict[str, Any]]) -> LockOrderError | None:
    """Called by the thread whose wish closes a ring, before it waits. Returns what is to be raised."""
    if not _checks:
        return None
    order = LockOrder(tuple(map(_pair, steps)))
    then = _checks[-1].then
    if then == "raise":
        error = LockOrderError(str(order))
        error.order = order
        return error
    if callable(then):
        then(order)
    elif sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # closed
            sys.stderr.write(f"raddle: {order}\n")
    return None


def _pair(step: dict[str, Any]) -> OrderedPair:
    held, held_address, taken_at = step["held"]
    wanted, wanted_address, wanted_at = step["wanted"]
    return OrderedPair(
        step["thread"], f"{held} at {held_address:#x}", taken_at, f"{wanted} at {wanted_address:#x}", wanted_at
    )
