"""The process lanes of this process that are alive, and what their pools are called."""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import _raddle

__all__ = ["lanes"]

lanes: weakref.WeakKeyDictionary[_raddle.ProcessLane, str] = weakref.WeakKeyDictionary()
