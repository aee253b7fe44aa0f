"""What is said, and done, about a wait that can never end.

Where a lock was taken is written down nowhere: that would cost something each time. Whoever has taken one by a `with` statement has its
`__exit__` on the value stack of a frame, with the place in the code; so when there is something to say, this process looks into itself as
`raddle dump` looks into others.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import traceback
from typing import NamedTuple

from . import _raddle
from .errors import DeadlockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Any

__all__ = ["Deadlock", "StuckUnit", "found"]


class StuckUnit(NamedTuple):
    """One thread of a deadlock."""

    name: str
    """The thread's name."""

    ident: int | None
    """Its `threading.get_ident()`."""

    native_id: int | None
    """The kernel's number."""

    waits_for: str
    """What it waits for, in words."""

    wanted_at: str | None
    """`file:line` of where it waits."""

    held_by: str | None
    """The name of the thread that holds what it waits for, or runs it."""

    taken_at: str | None
    """`file:line` of where that thread took it, if that is known: by a `with` statement, as a rule."""

    stack: str
    """Its stack, as text."""


class Deadlock(NamedTuple):
    """Threads that wait for each other. `str()` tells it in words."""

    units: tuple[StuckUnit, ...]
    """Who takes part. In a ring everyone waits for the next one, and the last for the first."""

    is_everybody: bool
    """Whether it is no ring, but every thread of the process waits for something that another would have to bring."""

    is_exhaustion: bool = False
    """Whether these are all threads of a pool, and each waits for calls of the same pool."""

    def __str__(self) -> str:
        count = len(self.units)
        if self.is_exhaustion:
            threads = "its only thread waits" if count == 1 else f"all {count} threads of the pool wait"
            head = f"this wait can never end: {threads} for calls of the same pool, and nobody is left to run them"
        elif count == 1 and not self.is_everybody:
            head = "deadlock: a thread waits for itself"
        elif self.is_everybody:
            head = (
                "deadlock: the only thread waits for something that nobody is left to bring"
                if count == 1
                else f"deadlock: all {count} threads wait, and nobody is left who could end it"
            )
        else:
            head = f"deadlock: {count} threads wait for each other"
        lines = [head]
        for unit in self.units:
            line = f'  "{unit.name}" waits for {unit.waits_for}'
            if unit.wanted_at is not None:
                line += f" (wanted {unit.wanted_at})"
            if unit.held_by is not None:
                line += f', {"run" if _is_call(unit.waits_for) else "held"} by "{unit.held_by}"'
                if unit.taken_at is not None:
                    line += f" (taken {unit.taken_at})"
            lines.append(line)
        lines.append(f"  hint: {self._hint()}")
        return "\n".join(lines)

    def _hint(self) -> str:
        if self.is_exhaustion:
            return "give the pool more workers, use a second pool for the inner calls, or return the inner future instead of waiting for it"
        if self.is_everybody:
            return "give the wait a timeout, or see to it that somebody puts, sets, notifies or releases before waiting"
        if any(unit.waits_for.startswith("the end of") for unit in self.units):
            return "what is to end must not need what the one that waits for it holds: release it before join() or shutdown()"
        if len(self.units) == 1:
            return "use an RLock, or do not take the lock again in what is called while it is held"
        if any(map(_is_call, (unit.waits_for for unit in self.units))):
            return "do not wait for a call while holding, or being, what the call needs: return the future, or wait after the lock"
        return "take the locks in the same order everywhere"


def _is_call(waits_for: str) -> bool:
    return waits_for.startswith(("the result of a call", "the first of several results"))


def found(waits: Sequence[dict[str, Any]], is_everybody: bool, is_exhaustion: bool) -> DeadlockError | None:
    """Called by the thread whose wait closes a circle, before it waits. Does what `raddle.on_deadlock` says.

    A pool that is exhausted is always raised: its own threads are all that could go on.

    Returns:
        What is to be raised.
    """
    import raddle

    frames = sys._current_frames()
    taken = _taken()
    deadlock = Deadlock(tuple(_stuck(wait, frames, taken) for wait in waits), is_everybody, is_exhaustion)
    del frames
    what = raddle.on_deadlock
    if callable(what):
        what(deadlock)
    if what == "raise" or is_exhaustion:
        error = DeadlockError(str(deadlock))
        error.deadlock = deadlock
        return error
    if not callable(what) and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # closed
            sys.stderr.write(f"raddle: {deadlock}\n")
    return None


def _taken() -> dict[int, tuple[str, str | None]]:
    """The locks that are held by `with` statements: for the address of each, where it was taken, and its name."""
    found = {}
    # Whatever goes wrong here, the deadlock is told all the same.
    with contextlib.suppress(Exception):
        _, text = _raddle.dump(os.getpid(), tree=False, as_json=True, colour=False)
        for process in json.loads(text)["processes"]:
            for thread in process["threads"] if process["pid"] == os.getpid() else ():
                for held in thread["holds"]:
                    place = held.get("place")
                    if place is not None and held.get("object") is not None:
                        found[int(held["object"], 16)] = f"{place['file']}:{place['line']}", held.get("name")
    return found


def _stuck(wait: dict[str, Any], frames: dict[int, FrameType], taken: dict[int, tuple[str, str | None]]) -> StuckUnit:
    ident = wait["ident"]
    frame = None if ident is None else frames.get(ident)
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    holder = wait.get("holder")
    kind, address = wait["kind"], wait["address"]
    what = f"the end of {name_of(holder)!r}" if kind == "thread" else f"{kind} at {address:#x}"
    place, name = taken.get(address, (None, None))
    if name is not None:
        what = f"{kind} {name!r} at {address:#x}"
    return StuckUnit(
        name=name_of(ident),
        ident=ident,
        native_id=wait["native"],
        waits_for=what.replace("'", '"') if kind == "thread" else what,
        wanted_at=None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}",
        held_by=None if holder is None or kind == "thread" else name_of(holder),
        taken_at=place,
        stack="" if frame is None else "".join(traceback.format_stack(frame)),
    )


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name in ("threading", "queue", "concurrent.futures._base") or name.partition(".")[0] == "raddle"


def name_of(ident: int | None) -> str:
    """The name of a thread."""
    if ident is None:
        return "a thread that has ended"
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    return str(thread.name) if thread is not None else f"thread {ident}"
