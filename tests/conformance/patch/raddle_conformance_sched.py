"""CPython's tests of `sched`, with Raddle's threads and locks in `threading`."""

from __future__ import annotations

from test.test_sched import *  # noqa: F403
