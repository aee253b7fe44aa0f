"""CPython's tests of `threading_local`, with Raddle's threads and locks in `threading`."""

from __future__ import annotations

from test.test_threading_local import *  # noqa: F403
