"""A progress bar without a timer thread.

The thread that does the counting draws: `Bar.advance` looks at the clock and redraws when that is due, so nothing runs beside
the work and nothing is left running after it. On a terminal one line is redrawn at most ten times a second; anywhere else (a
log file, a pipe) a whole line is written every five seconds. Between two drawings an `advance` costs one look at the clock.

A bar belongs to one thread. It never raises because of its stream: when writing fails, it falls silent and the work goes on.
"""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

__all__ = ["Bar"]

_REDRAW_SECONDS: Final = 0.1
_LOG_SECONDS: Final = 5.0
_BAR_CELLS: Final = 28
_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"
_CLEAR_TO_END: Final = "\x1b[K"


class Bar:
    """Shows how far a piece of work has come.

    Args:
        total: The number of steps, or `None` when it is not known.
        label: What is being done, in a word or two.
        stream: Where to draw; `sys.stderr` by default.

    Examples:
        >>> with Bar(len(paths), "reading") as bar:
        ...     for path in paths:
        ...         read(path)
        ...         bar.advance()
    """

    def __init__(self, total: int | None, label: str, stream: TextIO | None = None) -> None:
        self._total = total
        self._label = " ".join(label.splitlines())
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._terminal = _is_terminal(self._stream)
        self._every = _REDRAW_SECONDS if self._terminal else _LOG_SECONDS
        self._color = self._terminal and not os.environ.get("NO_COLOR")
        self._full, self._empty = ("█", "░") if _can_encode(self._stream, "█░") else ("#", ".")
        self._done = 0
        self._failed = 0
        self._closed = False
        self._started = monotonic()
        # A terminal shows the empty bar at once; a log shows nothing before there is something to say.
        self._due = self._started if self._terminal else self._started + self._every
        if self._terminal:
            self._draw(self._started)

    def advance(self, n: int = 1, failed: int = 0) -> None:
        """Counts `n` more steps as done, `failed` of them as failures, and redraws if that is due."""
        self._done += n
        self._failed += failed
        now = monotonic()
        if now >= self._due:
            self._draw(now)

    def close(self) -> None:
        """Draws the final state and ends the line. Calling it again does nothing."""
        if self._closed:
            return
        self._draw(monotonic())
        if self._terminal:
            self._write("\n")
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        total = "?" if self._total is None else self._total
        return f"<Bar {self._label!r} {self._done}/{total}, {self._failed} failed>"

    def _draw(self, now: float) -> None:
        if self._closed or self._stream is None:
            self._due = float("inf")
            return
        self._due = now + self._every
        if self._terminal:
            # The last column stays empty: a full line would make some terminals wrap.
            self._write("\r" + self._line(now, _width(self._stream) - 1))
        else:
            self._write(self._line(now, None) + "\n")

    def _line(self, now: float, width: int | None) -> str:
        """The state as one line: cut and padded to `width` on a terminal, as long as it is in a log."""
        seconds = now - self._started
        rate = self._done / seconds if seconds > 0 else 0.0
        facts = []
        if self._total is None:
            facts.append(f"{self._done:,} done")
        else:
            # Whole per cent, rounded down: 100 % means all.
            percent = 100 * min(self._done, self._total) // self._total if self._total else 100
            facts.append(f"{self._done:,}/{self._total:,} ({percent} %)")
        facts.append(f"{_rate(rate)}/s")
        if self._total is not None and self._done < self._total and rate > 0:
            facts.append(f"{_clock((self._total - self._done) / rate)} left")
        else:
            facts.append(_clock(seconds))
        text = "  ".join(facts)
        failures = f"  {self._failed:,} failed" if self._failed else ""
        if width is None:
            return f"{self._label}  {text}{failures}"
        room = width - len(self._label) - len(text) - len(failures) - 4
        bar = self._cells(min(_BAR_CELLS, room)) if self._total is not None and room >= 4 else ""
        line = f"{self._label}  {bar}{text}"[: max(0, width - len(failures))]
        if not self._color:
            return (line + failures)[:width].ljust(width)
        return line + (f"{_RED}{failures[:width]}{_PLAIN}" if failures else "") + _CLEAR_TO_END

    def _cells(self, cells: int) -> str:
        share = min(1.0, self._done / self._total) if self._total else 1.0
        full = int(cells * share)
        return self._full * full + self._empty * (cells - full) + "  "

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe, a closed file, a character the encoding lacks
            self._stream = None


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # a closed file
        return False


def _can_encode(stream: TextIO | None, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _width(stream: TextIO | None) -> int:
    """The columns of the terminal behind the stream: `COLUMNS` if set, as everywhere, else what the terminal says."""
    try:
        columns = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        columns = 0
    if columns <= 0 and stream is not None:
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
    return columns if columns > 0 else 80


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
