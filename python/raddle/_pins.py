"""Small arrays that keep large blocks of shared memory: who they are.

A slice holds the whole block that it lies in. That is right, and it is a trap: a thousand numbers of a result may keep a
gibibyte. NumPy's arrays cannot be listed, so they are looked for where programs keep them: in the namespaces of modules and objects, in
lists, tuples, dicts and sets, and in the variables of functions that run. It takes a while, and is done when shared memory runs short, or
when somebody asks.
"""

from __future__ import annotations

import gc
import sys
import time
import warnings

from ._raddle import Buffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

__all__ = ["Pin", "find", "owner", "warn"]

#: A view is small if it is at most this part of its block.
_PART = 8
#: Blocks smaller than this, in bytes, are not worth a word.
_LEAST = 1 << 20
#: Seconds between two searches that nobody has asked for.
_PAUSE = 10.0
_last_search = float("-inf")


class Pin:
    """A small array that keeps a large block of shared memory.

    Attributes:
        where: What keeps the array, such as ``"variable 'head' in load() (app.py:12)"``.
        array: What it is, such as ``"float64 array of shape (10,)"``.
        nbytes: Its size in bytes.
        block: The size of the block.
    """

    __slots__ = ("array", "block", "nbytes", "where")

    def __init__(self, where: str, array: str, nbytes: int, block: int) -> None:
        self.where = where
        self.array = array
        self.nbytes = nbytes
        self.block = block

    def __repr__(self) -> str:
        return f"<Pin: {self}>"

    def __str__(self) -> str:
        return f"{self.where}, a {self.array} of {_size(self.nbytes)}, keeps {_size(self.block)} of shared memory"


def find(least: int = _LEAST) -> list[Pin]:
    """The pins of blocks of at least so many bytes, the largest block first."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return []
    found: dict[int, list[tuple[str, Any]]] = {}
    blocks: dict[int, Buffer] = {}
    for where, value in _kept():
        if issubclass(type(value), numpy.ndarray):
            block = owner(value)
            if block is not None and len(block) >= least:
                blocks[id(block)] = block
                found.setdefault(id(block), []).append((where, value))
    pins = []
    for key, views in found.items():
        where, largest = max(views, key=lambda view: view[1].nbytes)
        if largest.nbytes * _PART <= len(blocks[key]):
            array = f"{largest.dtype} array of shape {largest.shape}"
            pins.append(Pin(where, array, largest.nbytes, len(blocks[key])))
    return sorted(pins, key=lambda pin: -pin.block)


def warn() -> None:
    """Warns of pins, if there are any. Called when shared memory runs short."""
    global _last_search
    now = time.monotonic()
    if now - _last_search < _PAUSE:
        return
    _last_search = now
    level, frame = 2, sys._getframe(1)
    while _is_ours(frame) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    try:
        pins = find()[:3]
    except Exception:  # noqa: BLE001  # what a program keeps may be as odd as it likes; its calls must not suffer
        return
    for pin in pins:
        warnings.warn(
            f"{pin}, which has run short\n  hint: keep a copy of the array instead: array.copy()",
            RuntimeWarning,
            stacklevel=level,
        )


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "raddle"


def owner(array: Any) -> Buffer | None:
    """The shared memory that an array lies in."""
    base: Any = array
    while base is not None:
        if isinstance(base, Buffer):
            return base
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return None


def _kept() -> Iterator[tuple[str, Any]]:
    """What a program keeps, and where."""
    for frame in list(sys._current_frames().values()):
        yield from _variables(frame)
    del frame  # one of them is our own: frames in a cycle would keep what they have seen until the next collection
    modules = {id(vars(module)): name for name, module in list(sys.modules.items()) if hasattr(module, "__dict__")}
    for holder in gc.get_objects():
        if type(holder) is dict:
            module = modules.get(id(holder))
            for key, value in list(holder.items()):
                if not isinstance(key, str):
                    yield "an item of a dict", value
                elif module is None:
                    yield f"an attribute or item {key!r}", value
                else:
                    yield f"{module}.{key}", value
        elif type(holder) in (list, tuple, set, frozenset):
            for value in list(holder):
                yield f"an item of a {type(holder).__name__}", value
        elif type(holder).__module__ != "builtins":
            # An object that nobody has asked for its `__dict__` has none.
            for value in gc.get_referents(holder):
                yield f"an attribute of a {type(holder).__qualname__}", value


def _variables(frame: FrameType | None) -> Iterator[tuple[str, Any]]:
    while frame is not None:
        code = frame.f_code
        if not _is_ours(frame):
            for name, value in list(frame.f_locals.items()):
                yield f"variable {name!r} in {code.co_name}() ({code.co_filename}:{frame.f_lineno})", value
        frame = frame.f_back


def _size(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.4g} GiB"


Pin.__module__ = "raddle.shared"
