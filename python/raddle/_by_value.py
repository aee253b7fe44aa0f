"""Pickles by value: functions and classes that another process cannot import.

`cloudpickle` does almost all of it.
"""

from __future__ import annotations

import functools
import io

import cloudpickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["dumps_by_value"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    def reducer_override(self, obj: Any) -> Any:
        # A cached function pickles as a reference, whatever it wraps.
        if type(obj) is functools._lru_cache_wrapper and _is_out_of_reach(obj):
            return cached, (obj.__wrapped__, *obj.cache_parameters().values())
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented and isinstance(obj, type) and "__slots__" in vars(obj):
            return _with_slots(obj, reduced)
        return reduced


def _with_slots(cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    # cloudpickle makes a class without slots, and gives it the attribute that says which it has.
    make, args, *others = reduced
    if issubclass(cls, tuple) or len(args) != 6 or type(args[3]) is not dict:
        return reduced
    return (make, (*args[:3], {**args[3], "__slots__": vars(cls)["__slots__"]}, *args[4:]), *others)


def _is_out_of_reach(function: Any) -> bool:
    return function.__module__ == "__main__" or "<locals>" in function.__qualname__


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Callable[..., Any]:
    """A function with a cache of its own, empty at first."""
    return functools.lru_cache(maxsize, typed)(function)


def dumps_by_value(value: object, buffer_callback: Callable[[object], object] | None = None) -> bytes:
    """The pickle of an object; its large buffers go to the callback."""
    file = io.BytesIO()
    _Pickler(file, 5, buffer_callback).dump(value)
    return file.getvalue()
