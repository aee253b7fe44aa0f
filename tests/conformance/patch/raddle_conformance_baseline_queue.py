"""As `raddle_conformance_baseline`, for queues."""

from __future__ import annotations

import queue
from queue import *  # noqa: F403

__all__ = ["Queue"]


class Queue(queue.Queue):  # type: ignore[type-arg]
    """The standard library's queue under another identity."""
