"""As `raddle_conformance_baseline`, for the pools of `multiprocessing`."""

from __future__ import annotations

import multiprocessing.pool

__all__ = ["Pool", "ThreadPool"]


class Pool(multiprocessing.pool.Pool):
    """The standard library's pool under another identity."""


class ThreadPool(multiprocessing.pool.ThreadPool):
    """The standard library's pool of threads under another identity."""
