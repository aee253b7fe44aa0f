"""Registers Raddle with joblib, as its default backend, in every process that imports joblib.

Python imports this file at the start of each interpreter that finds it on its path: the tests, their scripts, and the workers
of every backend. It does nothing until joblib is imported.
"""

from __future__ import annotations

import sys

import raddle_boot


def _register(joblib: object) -> None:
    if "raddle.joblib" not in sys.modules:  # else it is what imports joblib: a worker of its backend, which registers
        import raddle.joblib

        raddle.joblib.register(make_default=True)


raddle_boot.when_imported("joblib", _register)
