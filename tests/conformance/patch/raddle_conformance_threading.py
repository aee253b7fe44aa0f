"""CPython's tests of `threading`. The C implementation of `RLock` that they know by name is ours."""

from __future__ import annotations

import threading

if isinstance(threading.RLock, type):  # the standard library's is a function
    threading._CRLock = threading.RLock  # type: ignore[attr-defined]

from test.test_threading import *  # noqa: F403
