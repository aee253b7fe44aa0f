"""As `raddle_conformance_baseline`, for threads."""

from __future__ import annotations

import threading

__all__ = ["Thread"]


class Thread(threading.Thread):
    """The standard library's thread under another identity."""
