"""What a stream of text can show."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["wants_colour"]


def wants_colour(stream: TextIO) -> bool:
    """Whether colours are welcome in what is written there: it is a terminal that has them, and its user has not asked for none (NO_COLOR)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
