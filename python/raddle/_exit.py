"""What must be over before the interpreter is, and what a forked child must not touch.

At exit, before Python waits for threads: every live lane takes no more calls, does what it has, and is joined.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._types import Ending

__all__ = ["check_not_exiting", "forget", "insist_on", "remember", "was_interrupted", "when_dropped"]


_live: set[Ending] = set()
_exiting = False


def remember(ending: Ending) -> None:
    """Has `ending` closed and joined when the interpreter ends. Forgets what is over."""
    for other in [other for other in _live if other.is_over()]:
        _live.discard(other)
    _live.add(ending)


def forget(ending: Ending) -> None:
    """Takes a `remember` back: it is over, or as good as."""
    _live.discard(ending)


def check_not_exiting() -> None:
    """Raises RuntimeError when the interpreter is ending: what is started now would never be waited for."""
    if _exiting:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")


def was_interrupted() -> bool:
    """Whether the interpreter ends because of a KeyboardInterrupt that nobody caught."""
    return _exiting and issubclass(getattr(sys, "last_type", None) or object, KeyboardInterrupt)


def _at_exit() -> None:
    global _exiting
    _exiting = True
    endings = list(_live)
    try:
        for ending in endings:
            ending.close()
        for ending in endings:
            try:
                ending.join()
            except Exception:  # noqa: BLE001  # such as a DeadlockError: the others, and other threads, are waited for all the same
                sys.excepthook(*sys.exc_info())
    except KeyboardInterrupt as interrupt:
        from ._interrupt import seen_from_outside

        # No native thread of ours may be left when the interpreter is taken apart.
        for ending in endings:
            ending.abandon()
        raise seen_from_outside(interrupt) from None
    finally:
        _live.clear()


def insist_on(wait: Callable[[], object]) -> None:
    """Calls `wait` until it was not interrupted. For what is over in a moment."""
    while True:
        try:
            wait()
        except KeyboardInterrupt:
            continue
        return


def _in_child() -> None:
    _raddle.forked()
    _live.clear()


def when_dropped(owner: object, close: Callable[[], object]) -> None:
    """Calls `close` when `owner` is collected, but not at exit."""
    weakref.finalize(owner, close).atexit = False


# The hook that the standard library's executors use: it runs before threads are joined, unlike `atexit`.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_in_child)
