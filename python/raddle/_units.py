"""What the threads of this process do."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import NamedTuple

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Life", "Unit", "Units", "life_of", "unhandled", "units"]


class Life(NamedTuple):
    """Where a thread is in its life."""

    state: str
    """"new", "running", "parked" (it waits for something of Raddle's), "asleep" (it waits for something else: a file, a socket, the
    GIL) or "done"."""

    waits_for: str | None
    """What it is parked on, in words."""

    held_by: str | None
    """The name of the thread that holds that, or is that."""

    since: float | None
    """For how many seconds it has been parked."""

    cpu_time: float | None
    """Seconds of processor time that it has used. None: unknown, or it has ended."""

    native_id: int | None
    """The kernel's number of it."""

    outcome: str | None
    """How it is done: "returned", "raised", "stopped"."""


class Unit(NamedTuple):
    """One thread, and the threads that it has started."""

    name: str
    """Its name."""

    ident: int
    """Its `threading.get_ident()`."""

    life: Life
    """What it does."""

    children: tuple[Unit, ...]
    """Those that it has started and that are alive."""

    def __str__(self) -> str:
        return "\n".join(_lines(self))


class Units(tuple[Unit, ...]):
    """Threads that were started by nobody who is still alive, each with those that it has started. `str()` draws the tree."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def _lines(unit: Unit) -> list[str]:
    life = unit.life
    text = f"{unit.name}  {life.state}"
    if life.waits_for is not None:
        text += f" on {life.waits_for}"
        text += "" if life.held_by is None else f", held by {life.held_by!r}"
        text += "" if life.since is None else f", for {life.since:.3g} s"
    lines = [text + ("" if life.cpu_time is None else f"  ({life.cpu_time:.3g} s of CPU)")]
    for number, child in enumerate(unit.children, 1):
        last = number == len(unit.children)
        first, *rest = _lines(child)
        lines.append(f"{'└' if last else '├'} {first}")
        lines += [f"{' ' if last else '│'} {line}" for line in rest]
    return lines


def cpu_time(native_id: int) -> float | None:
    """Seconds of processor time of a thread of this process."""
    try:
        with open(f"/proc/self/task/{native_id}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def _is_on_a_processor(native_id: int) -> bool:
    try:
        with open(f"/proc/self/task/{native_id}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "R"
    except (OSError, IndexError):
        return True


def life_of(unit: int | None, native_id: int | None) -> Life:
    """The life of a thread that is alive."""
    wait = None if unit is None else _raddle.wait_of(unit)
    used = None if native_id is None else cpu_time(native_id)
    if wait is None:
        awake = native_id is None or _is_on_a_processor(native_id)
        return Life("running" if awake else "asleep", None, None, None, used, native_id, None)
    from ._deadlock import name_of

    kind, holder = wait["kind"], wait.get("holder")
    what = "the end of a thread" if kind == "thread" else f"{kind} at {wait['address']:#x}"
    held_by = None if holder is None else name_of(holder)
    return Life("parked", what, held_by, wait["seconds"], used, native_id, None)


def units() -> Units:
    """Every thread of this process with a stack of Python, as a tree: who has started whom, what it does, what it waits for.

    Threads of foreign code are in it, too; what they wait for outside Raddle is not known.

    Example:
        >>> print(raddle.units())  # doctest: +ELLIPSIS
        MainThread  running...
    """
    numbers: dict[int, tuple[int, int]] = {ident: (unit, native) for unit, ident, native in _raddle.list_units()}
    known: dict[int, Any] = dict(threading._active)  # type: ignore[attr-defined]
    alive = list(dict.fromkeys([*known, *sys._current_frames()]))
    children: dict[int | None, list[int]] = {}
    for ident in alive:
        parent = getattr(known.get(ident), "_parent", None)
        children.setdefault(parent if parent in alive and parent != ident else None, []).append(ident)

    def unit_of(ident: int) -> Unit:
        thread = known.get(ident)
        unit, native = numbers.get(ident, (None, getattr(thread, "native_id", None)))
        name = f"thread {ident}" if thread is None else str(thread.name)
        return Unit(name, ident, life_of(unit, native), tuple(unit_of(child) for child in children.get(ident, ())))

    return Units(unit_of(ident) for ident in children.get(None, ()))


_unhandled: deque[tuple[str, BaseException]] = deque(maxlen=1000)


def remember_unhandled(name: str, error: BaseException) -> None:
    """An exception has left the function of a thread."""
    _unhandled.append((name, error))


def unhandled() -> list[tuple[str, BaseException]]:
    """What has left the functions of `raddle.threading.Thread`s since the last call: the thread's name and the exception, oldest first.

    `threading.excepthook` is called for each of them all the same. The last 1,000 are kept.
    """
    taken = []
    while _unhandled:
        taken.append(_unhandled.popleft())
    return taken
