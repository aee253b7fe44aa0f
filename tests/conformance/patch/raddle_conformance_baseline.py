"""A face that is the standard library itself, in trivial subclasses.

`ci/conformance.sh --baseline` runs the suite against it: what fails there fails because of the machine or of this
harness, not because of Raddle.
"""

from __future__ import annotations

import concurrent.futures

__all__ = ["ProcessPoolExecutor", "ThreadPoolExecutor"]


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """The standard library's thread pool under another identity."""


class ProcessPoolExecutor(concurrent.futures.ProcessPoolExecutor):
    """The standard library's process pool under another identity."""
