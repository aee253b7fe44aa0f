"""What a stream of text can show, and standard output that may not take it."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["give_up_output", "wants_colour", "write_out"]


def wants_colour(stream: TextIO) -> bool:
    """Whether colours are welcome in what is written there: it is a terminal that has them, and its user has not asked for none (NO_COLOR)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write_out(data: bytes) -> str | None:
    """Writes to standard output; returns what is wrong with it. Raises BrokenPipeError if its reader has enough."""
    if sys.stdout is None:
        return "standard output is closed"
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_output()
        return f"standard output cannot be written: {error.strerror}"
    return None


def give_up_output() -> None:
    """What Python would still write at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
