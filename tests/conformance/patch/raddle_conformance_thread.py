"""CPython's tests of `_thread`, with Raddle's threads and locks in `threading`."""

from __future__ import annotations

from test.test_thread import *  # noqa: F403
