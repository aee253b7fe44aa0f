"""A progress bar without a timer thread.

The thread that does the counting draws: `Bar.advance` looks at the clock and redraws when that is due, so nothing runs beside
the work and nothing is left running after it. On a terminal one line is redrawn at most ten times a second, in a notebook twice
a second; anywhere else (a log file, a pipe) a whole line is written every five seconds. Between two drawings an `advance` costs
one look at the clock.

A bar belongs to one thread. It never raises because of its stream: when writing fails, it falls silent and the work goes on.
"""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal, Self, TextIO

__all__ = ["Bar", "Progress", "facts", "place_of"]

_EVERY: Final = {"terminal": 0.1, "notebook": 0.5, "log": 5.0}
_BAR_CELLS: Final = 28
_LEAST_CELLS: Final = 10
_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"
_CLEAR_TO_END: Final = "\x1b[K"


class Progress(NamedTuple):
    """How far a `map` has come, for whoever shows it.

    Attributes:
        label: What is being done, in a word or two.
        done: Results that were taken.
        total: How many there will be; None if that is not known.
        failed: Calls of the pool that have failed since the map began.
        seconds: Time since the map began.
        workers: Workers that exist.
        busy: Workers that run a call.
        busy_share: The part of the workers' time since the map began that they have spent inside calls, from 0 to 1.
        ended: The map is over, and this is the last that is said of it.
    """

    label: str
    done: int
    total: int | None
    failed: int
    seconds: float
    workers: int
    busy: int
    busy_share: float
    ended: bool

    @property
    def rate(self) -> float:
        """Results per second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None if that is not known."""
        if self.total is None or self.rate <= 0:
            return None
        return max(0, self.total - self.done) / self.rate

    def about_the_workers(self) -> str:
        """The workers in a few words."""
        if not self.workers:
            return ""
        # Whole per cent, rounded down: 100 % means always.
        count = f"{self.workers} workers" if self.ended else f"workers {self.busy}/{self.workers}"
        return f"{count} {int(100 * self.busy_share)} % busy"


Progress.__module__ = "raddle"


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
        place = place_of(self._stream)
        self._in_line = place != "log"
        self.every: Final = _EVERY[place]
        self._color = place == "terminal" and not os.environ.get("NO_COLOR")
        self._full, self._empty = ("█", "░") if _can_encode(self._stream, "█░") else ("#", ".")
        self._done = 0
        self._failed = 0
        self._extra = ""
        self._closed = False
        self._started = monotonic()
        # A terminal shows the empty bar at once; a log shows nothing before there is something to say.
        self._due = self._started if self._in_line else self._started + self.every
        if self._in_line:
            self._draw(self._started)

    def advance(self, n: int = 1, failed: int = 0) -> None:
        """Counts `n` more steps as done, `failed` of them as failures, and redraws if that is due."""
        self._done += n
        self._failed += failed
        now = monotonic()
        if now >= self._due:
            self._draw(now)

    def state(self, done: int, failed: int, extra: str) -> None:
        """Sets what is drawn next, with a few words more where there is room for them."""
        self._done, self._failed, self._extra = done, failed, extra

    def draw(self) -> None:
        """Draws now."""
        self._draw(monotonic())

    def close(self) -> None:
        """Draws the final state and ends the line. Calling it again does nothing."""
        if self._closed:
            return
        self._draw(monotonic())
        if self._in_line:
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
        self._due = now + self.every
        if self._in_line:
            # The last column stays empty: a full line would make some terminals wrap.
            self._write("\r" + self._line(now, _width(self._stream) - 1))
        else:
            self._write(self._line(now, None) + "\n")

    def _line(self, now: float, width: int | None) -> str:
        """The state as one line: cut and padded to `width` on a terminal, as long as it is in a log."""
        text = facts(self._done, self._total, now - self._started)
        failures = f"  {self._failed:,} failed" if self._failed else ""
        extra = f"  {self._extra}" if self._extra else ""
        if width is None:
            return f"{self._label}  {text}{extra}{failures}"
        room = width - len(self._label) - len(text) - len(failures) - 4
        if room - len(extra) >= (_LEAST_CELLS if self._total is not None else 0):
            text, room = text + extra, room - len(extra)
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


def facts(done: int, total: int | None, seconds: float) -> str:
    """Count, rate and time left, or time spent where that is not known."""
    rate = done / seconds if seconds > 0 else 0.0
    parts = []
    if total is None:
        parts.append(f"{done:,} done")
    else:
        # Whole per cent, rounded down: 100 % means all.
        percent = 100 * min(done, total) // total if total else 100
        parts.append(f"{done:,}/{total:,} ({percent} %)")
    parts.append(f"{_rate(rate)}/s")
    parts.append(
        f"{_clock((total - done) / rate)} left" if total is not None and done < total and rate > 0 else _clock(seconds)
    )
    return "  ".join(parts)


def place_of(stream: TextIO | None) -> Literal["terminal", "notebook", "log"]:
    """What a stream is shown on. A log takes whole lines alone, and no control characters."""
    try:
        if stream is not None and stream.isatty():
            return "log" if os.environ.get("TERM") == "dumb" else "terminal"
    except (ValueError, AttributeError):  # a closed file, or something that can be written to and no more
        return "log"
    # What a kernel sends to its notebook knows carriage returns, and says that it is no terminal.
    is_kernel = any(kind.__module__.startswith("ipykernel.") for kind in type(stream).__mro__)
    return "notebook" if is_kernel else "log"


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
