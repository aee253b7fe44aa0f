"""Puts one face (a module such as `raddle.futures`) in the place of a package of the standard library, in every process.

A `.pth` file beside this module imports it at the start of each interpreter of the virtual environment, also under
`python -I`, but only when `RADDLE_CONFORMANCE_LOG` is set. Importing it does next to nothing: it waits for the first
import of the package (`RADDLE_CONFORMANCE_PACKAGE`; by default `concurrent.futures`), so that a process that never asks for it
starts as always.

The order, once the package is asked for:

1. the standard library's package is executed as it is;
2. the face is imported: it sees the originals, and may build on them;
3. the standard library's remaining submodules are imported, so that they too are built on the originals;
4. every public name of the face replaces the same name in the package and in its submodules.

Sub-interpreters, which the standard library's `InterpreterPoolExecutor` makes, keep the standard library as it is: Raddle's extension does
not load there.

The log gets one line per event: `patched PID`, `ours CLASS PID` for each pool of the face that is made, and
`stdlib CLASS PID` for each pool of the standard library that is made in spite of the patch.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PACKAGE = os.environ.get("RADDLE_CONFORMANCE_PACKAGE", "concurrent.futures")
SUBMODULES, POOLS = {
    "concurrent.futures": (
        ("_base", "thread", "process", "interpreter"),
        ("ThreadPoolExecutor", "ProcessPoolExecutor"),
    ),
    "multiprocessing.pool": ((), ("Pool", "ThreadPool")),
    "threading": ((), ("Thread",)),
    "queue": ((), ("Queue",)),
}[PACKAGE]


def face_name() -> str:
    return os.environ.get("RADDLE_CONFORMANCE_FACE", "raddle.futures")


def log(*words: object) -> None:
    """Appends one line; a single write, so that lines of several processes do not mix."""
    line = " ".join(map(str, words)) + f" {os.getpid()}\n"
    out = os.open(os.environ["RADDLE_CONFORMANCE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(out, line.encode())
    finally:
        os.close(out)


def report(cls: type, word: str, exactly: bool) -> None:
    """Makes `cls` log each of its instances (with `exactly`, not those of its subclasses)."""
    import functools

    original = cls.__init__  # type: ignore[misc]

    @functools.wraps(original)
    def init(self: object, *args: object, **kwargs: object) -> None:
        nearest = next(base for base in type(self).__mro__ if "__init__" in vars(base))
        if type(self) is cls if exactly else nearest is cls:
            log(word, cls.__name__)
        original(self, *args, **kwargs)

    cls.__init__ = init  # type: ignore[misc]


def is_in_the_main_interpreter() -> bool:
    try:
        import _interpreters
    except ImportError:  # before 3.13
        return True
    return _interpreters.get_current()[0] == _interpreters.get_main()[0]


def patch(package: ModuleType) -> None:
    """Steps 2 to 4 of the module head."""
    import importlib
    import importlib.util

    if not is_in_the_main_interpreter():
        return
    # The import machinery binds a submodule in its parent only after it has run; the face may already need it.
    parent, _, child = PACKAGE.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)
    face = importlib.import_module(face_name())
    names = [f"{PACKAGE}.{name}" for name in SUBMODULES]
    modules = [package, *(importlib.import_module(name) for name in names if importlib.util.find_spec(name))]
    originals = {name: getattr(package, name) for name in POOLS}
    for name in face.__all__:
        for module in modules:
            if hasattr(module, name):
                setattr(module, name, getattr(face, name))
    for name, original in originals.items():
        ours = getattr(package, name)
        if ours is original:
            raise ImportError(f"{face_name()} has no {name} of its own")
        report(original, "stdlib", exactly=True)
        report(ours, "ours", exactly=False)
    log("patched")


class Hook:
    """Waits at the head of `sys.meta_path` for the first import of the package."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != PACKAGE:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)  # type: ignore[arg-type]
            if spec is not None and spec.loader is not None:
                break
        else:
            return None
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            patch(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if PACKAGE in sys.modules:
    patch(sys.modules[PACKAGE])
else:
    sys.meta_path.insert(0, Hook())
