"""What the bytes of a script's function rest on.

A worker has not run the script, so a function of `__main__` goes by value (decision 0007), and has to be pickled anew for every
`submit`, because whatever belongs to it may have changed. cloudpickle takes tens of microseconds for that, and nearly always makes the bytes of the time
before. To compare what it would look at takes less than one.

# Rules

1. `Marks` are all that goes into the bytes: code, defaults, attributes and annotations of the function, the globals that it names, and
   the same of every function among these. While all are the same objects, the bytes are the same.
2. That is so only for what cannot become another value and stay the same object. What is not known to be of this kind (a list, an instance, a
   class of the script, a closure) has no marks, and neither has a function that writes to globals: it is pickled each time, as before.
"""

from __future__ import annotations

import pathlib
import re
import sys
import types

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Final

__all__ = ["marks_of"]

_FOR_EVER: Final = frozenset(
    (
        type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented), re.Pattern,
        pathlib.PosixPath, pathlib.PurePosixPath,
    )
)  # fmt: skip
"""Types whose objects are what they are for ever."""

_PARTS: Final = [
    "__code__",
    "__defaults__",
    "__kwdefaults__",
    "__dict__",
    "__annotations__",
    "__doc__",
    "__name__",
    "__qualname__",
    "__module__",
]
_OF_A_MODULE: Final = ("__package__", "__name__", "__path__", "__file__")
"""What cloudpickle takes along of the globals, whether it is named or not."""


class _Unknown(Exception):  # not an error: an answer
    """It may change, for all that is known here."""


def marks_of(function: Any) -> _raddle.Marks | bool | None:
    """The marks of a function of the script; False if it has to be pickled each time. None: it is none that stays."""
    try:
        if vars(sys.modules["__main__"]).get(function.__name__) is not function:
            return None  # it may be one of many, which nobody else keeps
        return _Survey().marks_of(function)
    except Exception:  # noqa: BLE001  # what is odd is pickled each time
        return False


class _Survey:
    """Goes through all that a function is made of."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._dicts: list[dict[Any, Any]] = []
        self._names: list[tuple[dict[str, Any], tuple[str, ...]]] = []
        self._attributes: list[tuple[Any, list[str]]] = []
        self._answers: list[Callable[[], object]] = []

    def marks_of(self, function: Any) -> _raddle.Marks:
        from cloudpickle import list_registry_pickle_by_value

        if list_registry_pickle_by_value():
            raise _Unknown  # modules go by value, too, and are not looked at here
        self._answers.append(list_registry_pickle_by_value)
        self._function(function)
        return _raddle.Marks(self._dicts, self._names, self._attributes, self._answers)

    def _look(self, value: Any) -> None:
        kind = type(value)
        if kind in _FOR_EVER:
            return
        if kind is tuple or kind is frozenset:
            self._all(value)
        elif kind is types.FunctionType:
            if not _is_imported(value):
                self._function(value)
        elif isinstance(value, type) or kind is types.BuiltinFunctionType:
            if value is not type(None) and not _is_imported(value):
                raise _Unknown
        elif kind is types.ModuleType:
            if value.__name__ == "__main__" or sys.modules.get(value.__name__) is not value:
                raise _Unknown
            if sys.modules.__len__ not in self._answers:
                self._answers.append(
                    sys.modules.__len__
                )  # cloudpickle takes modules of a package along that have been imported
        elif kind is types.GenericAlias:
            self._all((value.__origin__, value.__args__))
        elif kind is types.UnionType:
            self._all(value.__args__)
        else:
            raise _Unknown

    def _all(self, values: Iterable[Any]) -> None:
        for value in values:
            self._look(value)

    def _dict(self, content: dict[Any, Any]) -> None:
        self._dicts.append(content)
        self._all(content)
        self._all(content.values())

    def _function(self, function: Any) -> None:
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        if function.__closure__ is not None or function.__module__ != "__main__":
            raise _Unknown
        self._attributes.append((function, _PARTS))
        self._dict(function.__dict__)
        self._dict(function.__annotations__)
        self._dict(function.__kwdefaults__ or {})
        self._all(function.__defaults__ or ())
        scope = function.__globals__
        names = (*_OF_A_MODULE, *_globals_of(function.__code__))
        self._names.append((scope, names))
        self._all(scope[name] for name in names if name in scope)


def _globals_of(code: types.CodeType) -> Iterator[str]:
    """The names of the globals that a function reads, or what is defined in it. If it writes to one, nothing is known of it."""
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield instruction.argval
        elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            raise _Unknown
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _is_imported(value: Any) -> bool:
    """Whether it is what its name stands for in a module that another process can import."""
    module = value.__module__
    found = sys.modules.get(module)
    if found is None or module == "__main__":
        return False
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value
