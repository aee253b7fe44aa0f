"""What a user sees of Ctrl-C: the line of the program that it met, not the lines of ours behind it."""

from __future__ import annotations

import os
from types import TracebackType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["seen_from_outside"]

_HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Frames of ours, and those of the import system, which loads our rooms when they are first needed.
_INSIDE: Final = (_HERE, "<frozen importlib")


def seen_from_outside(interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
    """Takes the frames of this package out of the traceback. To be raised again by what the user called."""
    frames: list[TracebackType] = []
    entry = interrupt.__traceback__
    while entry is not None:
        if not entry.tb_frame.f_code.co_filename.startswith(_INSIDE):
            frames.append(entry)
        entry = entry.tb_next
    kept: TracebackType | None = None
    for entry in reversed(frames):
        kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return interrupt.with_traceback(kept)
