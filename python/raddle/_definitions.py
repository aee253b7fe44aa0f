"""Functions and classes of a script, pickled once.

A worker has not run the script, so what `__main__` defines goes by value (decision 0007): cloudpickle takes a class apart with all
of its functions, and does so again for every argument that is an instance of it. Nearly always the bytes are those of the time before.

A *definition* is these bytes, and a key. A pickle names the key and has the bytes with it; whoever has unpickled them once takes what was
made of them then. So it needs no protocol, and nothing is lost when a worker dies.

# Rules

1. A definition is used as long as everything that went into it is the same objects as then: the attributes of the class, the code, defaults and
   closure of each function, and the globals that it names. Otherwise a new one is made.
2. What can become another value and stay the same object (a list, an instance) cannot be compared like this. Neither can what a function
   writes to globals. Whatever has to do with such is *open*: it has no definition and goes by value each time.
3. cloudpickle keeps one class per class: unpickling a class that is there sets its attributes. So what was made of a definition with
   classes is true until other bytes with classes are unpickled. Two things see to that: an *epoch* ends when a definition with classes is made, or a
   class goes by value; whoever unpickles a definition of another epoch than the last one makes all anew. And what goes by value says so
   when it is unpickled, in whatever order calls are run.
4. What a class was made of it is returned as, whatever has been done to it in between: that is the business of the process that has done it.
5. A function that is sent once needs no definition: the first time, everything goes by value.
"""

from __future__ import annotations

import _pickle
import functools
import gc
import io
import os
import sys
import types
import weakref

import raddle_boot

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Final

__all__ = ["dumps", "end_epoch", "marks_of", "own"]

#: What was defined here, by key.
own: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()
#: So many are kept.
_MOST: Final = 256
#: What had to be defined so often is not defined any more.
_MOST_CHANGES: Final = 4

_FOR_EVER: Final = frozenset(
    (
        type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented), types.CodeType,
        types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType,
        types.ClassMethodDescriptorType, types.GenericAlias, types.UnionType,
    )
)  # fmt: skip
"""Types whose objects are what they are for ever."""

_FOR_EVER_BY_NAME: Final = frozenset(
    (
        "_collections._tuplegetter", "collections._tuplegetter", "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone",
        "decimal.Decimal", "fractions.Fraction", "logging.Logger", "logging.RootLogger", "numpy.dtype", "numpy.ufunc",
        "pathlib.PosixPath", "pathlib.PurePosixPath", "re.Pattern", "uuid.UUID", "weakref.ReferenceType",
    )
)  # fmt: skip
"""The same, without importing them. A logger is found by its name there."""

_DESCRIBED: Final = frozenset(
    (
        "__annotations__", "__dataclass_fields__", "__dataclass_params__", "__dict__", "__non_callable_proto_members__", "__orig_bases__",
        "__parameters__", "__protocol_attrs__",
        "__slotnames__", "__slots__", "__weakref__", "_field_defaults",
    )
)  # fmt: skip
"""Attributes of classes that describe them: written when the class is made, and then read."""


class _Open(Exception):  # not an error: an answer
    """It has no definition."""


class _Definitions:
    """What is named here: once, again and again, or never by a definition."""

    def __init__(self) -> None:
        #: How often each was defined; and a weak reference that ends the entry with the object.
        self._changes: dict[int, tuple[int, weakref.ref[Any]]] = {}
        #: The last ones that were defined: the object, key and bytes, what they rest on, and whether there are classes among them.
        self._current: dict[int, tuple[Any, tuple[bytes, bytes], _raddle.Marks, bool]] = {}
        self.epoch = b""
        self.end_epoch()

    def end_epoch(self) -> None:
        """Classes may be something else from now on (rule 3)."""
        self.epoch = os.urandom(8)

    def parts_of(self, obj: Any) -> tuple[bytes, bytes, bytes]:
        """Key and bytes of a definition that is true now, and the epoch if there are classes in it."""
        current = self._current.get(id(obj))
        if current is None or not current[2].hold():
            received = raddle_boot.definitions.parts_of(obj)
            if received is not None:
                return received
            current = self._define(obj)
        return (*current[1], self.epoch if current[3] else b"")

    def _define(self, obj: Any) -> tuple[Any, tuple[bytes, bytes], _raddle.Marks, bool]:
        key = id(obj)
        known = self._changes.get(key)
        if known is None:
            self._changes[key] = 0, weakref.ref(obj, lambda _: self._changes.pop(key, None))
            raise _Open
        changes, ref = known
        self._changes[key] = _MOST_CHANGES, ref  # unless all goes well
        self._current.pop(key, None)
        if changes >= _MOST_CHANGES:
            raise _Open
        survey = _Survey()
        marks = survey.marks_of(obj)
        from hashlib import blake2b
        from zlib import compress

        from ._by_value import taken_apart

        # A third of the size; and that a pickle mentions `__main__` shall mean that it is a reference into it.
        blob = compress(taken_apart(obj))
        if b"__main__" in blob:
            raise _Open
        # Of the bytes, so that functions that are made anew again and again go by the same.
        parts = blake2b(blob, digest_size=16).digest(), blob
        if survey.has_classes:
            self.end_epoch()
        if len(self._current) >= _MOST:
            del self._current[next(iter(self._current))]
        self._current[key] = obj, parts, marks, survey.has_classes
        self._changes[key] = changes + 1, ref
        own[parts[0]] = obj
        return self._current[key]

    def marks_of(self, obj: Any) -> list[_raddle.Marks]:
        """What the pickle of an object rests on that was named just now; nothing if it was open."""
        current = self._current.get(id(obj))
        if current is None:
            return []
        return [current[2], _raddle.Marks([], [(vars(self), ("epoch",))], [], [])] if current[3] else [current[2]]


_definitions: Final = _Definitions()
end_epoch: Final = _definitions.end_epoch
marks_of: Final = _definitions.marks_of


class _Pickler(_pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if (isinstance(obj, type) or type(obj) is types.FunctionType) and obj.__module__ == "__main__":
            return raddle_boot.defined, _definitions.parts_of(obj)
        return NotImplemented


def dumps(value: object, buffer_callback: Callable[[object], object] | None) -> bytes | None:
    """The pickle of an object, with definitions; its large buffers go to the callback. None: it cannot be made so."""
    file = io.BytesIO()
    buffers: list[Any] = []
    try:
        _Pickler(file, 5, buffer_callback=None if buffer_callback is None else buffers.append).dump(value)
    except Exception:  # noqa: BLE001  # cloudpickle does more, or says it better
        return None
    pickled = file.getvalue()
    if b"__main__" in pickled:  # something other than a function or class is a reference into it
        return None
    if buffer_callback is not None:
        for buffer in buffers:
            buffer_callback(buffer)
    return pickled


class _Survey:
    """Goes through all that an object is made of, and notes what is to be compared."""

    def __init__(self) -> None:
        #: Whether a class goes by value.
        self.has_classes = False
        self._seen: dict[int, Any] = {}
        self._dicts: list[dict[Any, Any]] = []
        self._names: list[tuple[dict[str, Any], tuple[str, ...]]] = []
        self._attributes: list[tuple[Any, list[str]]] = []
        self._answers: list[Callable[[], object]] = []

    def marks_of(self, obj: Any) -> _raddle.Marks:
        """What a definition of the object rests on."""
        import cloudpickle

        if cloudpickle.list_registry_pickle_by_value():
            raise _Open  # modules go by value, too, and are not looked at here
        self.look(obj)
        return _raddle.Marks(self._dicts, self._names, self._attributes, self._answers)

    def look(self, value: Any) -> None:
        kind = type(value)
        if kind in _FOR_EVER or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, type):
            if not _is_imported(value):
                self._class(value)
        elif kind is types.FunctionType:
            if not _is_imported(value):
                self._function(value)
        elif kind in (tuple, frozenset):
            self._all(value)
        elif kind in (staticmethod, classmethod):
            self.look(value.__func__)
        elif kind is property:
            self._all((value.fget, value.fset, value.fdel))
        elif kind is functools.cached_property:
            self.look(value.func)
        elif kind is types.BuiltinFunctionType:
            if type(value.__self__) is not types.ModuleType:
                self.look(value.__self__)
        elif kind is types.ModuleType:
            if value.__name__ == "__main__" or sys.modules.get(value.__name__) is not value:
                raise _Open
        elif (
            kind.__module__ not in ("dataclasses", "typing")
            and f"{kind.__module__}.{kind.__qualname__}" not in _FOR_EVER_BY_NAME
        ):
            raise _Open

    def _all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.look(value)

    def _dict(self, content: dict[Any, Any]) -> None:
        self._dicts.append(content)
        self._all(content.values())

    def _class(self, cls: Any) -> None:
        if cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__:
            raise _Open  # it was one of a module, and is not any more
        self.has_classes = True
        self._attributes.append((cls, ["__bases__"]))
        # `vars` has it behind a proxy, which takes ten times as long to go through.
        content = next(part for part in gc.get_referents(cls) if type(part) is dict)
        if content != vars(cls):
            raise _Open
        self._dicts.append(content)
        self.look(type(cls))
        self._all(cls.__bases__)
        enum = sys.modules.get("enum")
        if enum is not None and isinstance(cls, enum.EnumMeta):
            self._enum(cls)
            return
        for name, value in content.items():
            if name == "_abc_impl":
                from _abc import _get_dump, get_cache_token  # type: ignore[import-not-found]

                if _get_dump(cls)[0]:
                    raise _Open  # other classes are registered with it, and have to come along
                self._answers.append(get_cache_token)  # another one whenever a class is registered somewhere
            elif name not in _DESCRIBED:
                self.look(value)

    def _enum(self, cls: Any) -> None:
        for member in cls.__members__.values():
            self.look(member.value)  # what else a member has does not travel
        parts = (types.FunctionType, classmethod, staticmethod, property)
        self._all(part for part in vars(cls).values() if isinstance(part, parts))

    def _function(self, function: Any) -> None:
        self._attributes.append((function, ["__code__", "__defaults__", "__kwdefaults__", "__dict__"]))
        self._dict(function.__dict__)
        self._all(function.__defaults__ or ())
        if function.__kwdefaults__:
            self._dict(function.__kwdefaults__)
        scope = function.__globals__
        names = tuple(dict.fromkeys(_globals_of(function.__code__)))
        self._names.append((scope, names))
        self._all(scope[name] for name in names if name in scope)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._attributes.append((cell, ["cell_contents"]))
            if name != "repr_running":  # in it, the `__repr__` of a dataclass keeps who is being shown just now
                self.look(cell.cell_contents)


def _globals_of(code: types.CodeType) -> Iterator[str]:
    """The names of the globals that a function reads, or what is defined in it. It is open if it writes to one."""
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield instruction.argval
        elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            raise _Open
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _is_imported(value: Any) -> bool:
    """Whether it is what its name stands for in a module that another process can import."""
    found = sys.modules.get(value.__module__ or "builtins")
    if found is None or value.__module__ == "__main__":
        return False
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value
