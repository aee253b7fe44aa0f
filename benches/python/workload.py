"""The functions that the pools are asked to run.

A module of its own, so that every kind of worker can import it by name.
"""

from __future__ import annotations

import os
import time
from typing import Any


def echo(value: int) -> int:
    """The trivial function: what is left is the cost of the pool."""
    return value


def ends(array: Any) -> float:
    """Looks at an array: both ends of it, at least."""
    return float(array[0] + array[-1])


def burn(value: int) -> int:
    """One millisecond of this thread's CPU time, however often it is interrupted."""
    until = time.thread_time() + 0.001
    while time.thread_time() < until:
        pass
    return value


def brief(value: int) -> int:
    """Twenty microseconds of this thread's CPU time: short, and still work."""
    until = time.thread_time_ns() + 20_000
    while time.thread_time_ns() < until:
        pass
    return value


def nap(seconds: float) -> int:
    """Keeps one worker busy without its CPU; returns who it was."""
    time.sleep(seconds)
    return os.getpid()


def hold(folder: str) -> None:
    """Says that it has started, then occupies its worker until the fifo of `folder` is opened for writing."""
    with open(os.path.join(folder, "started"), "ab", buffering=0) as started:
        started.write(b".")
    with open(os.path.join(folder, "gate"), "rb") as gate:
        gate.read()
