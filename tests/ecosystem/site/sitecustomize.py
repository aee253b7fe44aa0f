"""Registers Raddle with joblib, as its default backend, in every process that imports joblib.

Python imports this file at the start of each interpreter that finds it on its path: the tests, their scripts, and the workers
of every backend. It does nothing until joblib is imported.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class Hook:
    """Waits at the head of `sys.meta_path` for the import of joblib."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "joblib":
            return None
        sys.meta_path.remove(self)
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path)  # type: ignore[arg-type]
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if (
                "raddle.joblib" not in sys.modules
            ):  # else it is what imports joblib: a worker of its backend, which registers
                import raddle.joblib

                raddle.joblib.register(make_default=True)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Hook())
