"""Pickles by value: functions and classes that another process cannot import.

`cloudpickle` does almost all of it.
"""

from __future__ import annotations

import functools
import io

import cloudpickle

import raddle_boot

from ._definitions import end_epoch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["taken_apart", "whole"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    #: Whether a class went by value.
    has_classes = False

    def reducer_override(self, obj: Any) -> Any:
        # A cached function pickles as a reference, whatever it wraps.
        if type(obj) is functools._lru_cache_wrapper and _is_out_of_reach(obj):
            return cached, (obj.__wrapped__, *obj.cache_parameters().values())
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and reduced is not NotImplemented and len(reduced) == 6:
            self.has_classes = True
            *how, state_setter = reduced
            if "__slots__" in vars(obj) and not issubclass(obj, tuple) and len(how[1]) == 6 and type(how[1][3]) is dict:
                # cloudpickle gives the class this attribute when it is made already, which makes no slots.
                how[1] = (*how[1][:3], {**how[1][3], "__slots__": vars(obj)["__slots__"]}, *how[1][4:])
            how[2] = state_setter, how[2]
            return (*how, raddle_boot.set_class_state)
        return reduced


def _is_out_of_reach(function: Any) -> bool:
    return function.__module__ == "__main__" or "<locals>" in function.__qualname__


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Callable[..., Any]:
    """A function with a cache of its own, empty at first."""
    return functools.lru_cache(maxsize, typed)(function)


def whole(value: object, buffer_callback: Callable[[object], object] | None = None) -> bytes:
    """The pickle of an object, with all that it needs; its large buffers go to the callback."""
    pickled, has_classes = _pickled(value, buffer_callback)
    if has_classes:
        end_epoch()
    return pickled


def taken_apart(value: object) -> bytes:
    """The same for a definition, which is made of one function or class."""
    return _pickled(value, None)[0]


def _pickled(value: object, buffer_callback: Callable[[object], object] | None) -> tuple[bytes, bool]:
    file = io.BytesIO()
    pickler = _Pickler(file, 5, buffer_callback)
    pickler.dump(value)
    return file.getvalue(), pickler.has_classes
