"""`Ref`: an object that every worker of a pool has, and that calls name."""

from __future__ import annotations

import itertools
import os
import pickle
import weakref

import raddle_boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _raddle

__all__ = ["Ref", "resolved"]

#: The refs of this process, by key.
_own: weakref.WeakValueDictionary[int, Ref] = weakref.WeakValueDictionary()


def _fresh_keys() -> None:
    """Keys of no other process: a worker may make refs of its own, and have those of its parent."""
    global _keys
    _keys = itertools.count(int.from_bytes(os.urandom(8)) >> 2)
    _own.clear()


_keys: itertools.count[int]
_fresh_keys()
os.register_at_fork(after_in_child=_fresh_keys)


class Ref:
    """Stands for an object that was put into a pool: a call that has it as an argument gets the object.

    Made by `Pool.put`. When it is collected, the workers let go of the object.
    """

    __slots__ = ("__weakref__", "_key", "_parts", "_read", "_what")

    def __init__(self, value: object, lane: _raddle.ProcessLane | None) -> None:
        self._what = type(value).__qualname__
        self._key = next(_keys)
        self._parts: list[_raddle.Buffer] = []
        self._read: Callable[[], Any]
        if lane is None:
            self._read = lambda: value
            return
        self._parts = parts = lane.put(value)
        self._read = lambda: _load(parts)
        _own[self._key] = self
        weakref.finalize(self, lane.forget, self._key).atexit = False

    @property
    def value(self) -> Any:
        """The object, here. Of a process pool: made anew from what the workers see, its arrays read-only."""
        return self._read()

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        if not self._parts:
            raise TypeError(f"{self!r} belongs to a pool of threads and cannot be pickled\n  hint: send its value")
        return raddle_boot.open_ref, (self._key, *map(pickle.PickleBuffer, self._parts))

    def __repr__(self) -> str:
        return f"<raddle.Ref of a {self._what}, {sum(map(len, self._parts))} bytes>"


Ref.__module__ = "raddle"


def resolved(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments with the objects that refs among them stand for."""
    return tuple(arg.value if type(arg) is Ref else arg for arg in args)


def _load(parts: list[_raddle.Buffer]) -> Any:
    blob, *buffers = parts
    return pickle.loads(blob, buffers=[memoryview(buffer).toreadonly() for buffer in buffers])
