"""What `map` shows while it goes on: whose bar draws, and what it is told.

```text
    Results.__next__ ── counts ──▶ Meter ── is due ──▶ Display.draw ── Progress ──▶ painter
```

The thread that takes results counts and draws; nothing runs beside it. The `Meter` is native: a result that is not due to be
shown costs a look at the clock.

A *painter* draws: the plain `Bar`, one of tqdm or of rich, or what the user has given. Which one, for ``progress=True``:

1. In a log file or a pipe the plain one, which writes whole lines.
2. Otherwise that of tqdm or rich, if the program has imported it; tqdm's if it has imported both.
3. Otherwise tqdm's if it is installed, or else rich's if that is. In a notebook both need ipywidgets.
4. Otherwise the plain one.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from . import _raddle
from ._interrupt import seen_from_outside
from ._progress import Bar, Progress, facts, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TextIO

    from ._pool_processes import ProcessLaneOf
    from ._pool_threads import ThreadLaneOf

__all__ = ["Display"]

#: How often a painter that is not the plain one is told something.
_REDRAW_SECONDS: Final = 0.1


class Painter(Protocol):
    """Something that shows progress. Its methods may raise only what the user's own code raises."""

    every: float
    """Seconds between two calls of `show`."""

    def show(self, now: Progress) -> None:
        """Shows a state, for the last time if it says so."""


class Display:
    """Follows one `map`.

    Args:
        wanted: What the caller has given as `progress`.
        label: What to call it if the caller does not say.
        total: How many results there will be, if that is known.
        lane: Whose workers it tells about.
    """

    def __init__(self, wanted: Any, label: str, total: int | None, lane: ThreadLaneOf | ProcessLaneOf) -> None:
        self.meter = _raddle.Meter()
        self._make = _maker(wanted)
        self._painter: Painter | None = None
        self._label = wanted if isinstance(wanted, str) else label
        self._total = total
        self._lane = lane
        self._begun = monotonic()
        numbers, _ = lane.report()
        self._before = (numbers["busy_seconds"], numbers["failed"])

    def follow(self, runs: Generator[list[Any] | None]) -> Generator[list[Any] | None]:
        """The same lists of results, with the display open as long as they come."""
        try:
            self._open()
            yield from runs
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from interrupt.__cause__
        finally:
            runs.close()
            self._show(ended=True)

    def draw(self) -> None:
        """Shows how far it is. Called by `Results` when that is due."""
        try:
            self._show(ended=False)
        except KeyboardInterrupt as interrupt:
            raise seen_from_outside(interrupt) from None

    def _open(self) -> None:
        self._painter = self._make(self._label, self._total)
        if not isinstance(self._painter, _Plain):  # which has shown itself where that is right
            self._show(ended=False)
        else:
            self.meter.rest(self._painter.every)

    def _show(self, ended: bool) -> None:
        painter, self._painter = self._painter, None  # if it raises it is not called again
        if painter is not None:
            painter.show(self._now(ended))
            if not ended:
                self._painter = painter
                self.meter.rest(painter.every)

    def _now(self, ended: bool) -> Progress:
        numbers, workers = self._lane.report()
        seconds = monotonic() - self._begun
        busy_seconds, failed = self._before
        there = [worker for worker in workers if worker[_STATE] not in ("ended", "died")]
        time_of_all = sum(min(worker[_AGE], seconds) for worker in workers)
        share = (numbers["busy_seconds"] - busy_seconds) / time_of_all if time_of_all > 0 else 0.0
        return Progress(
            label=self._label,
            done=self.meter.taken(),
            total=self._total,
            failed=numbers["failed"] - failed,
            seconds=seconds,
            workers=len(there),
            busy=sum(worker[_STATE] == "busy" for worker in there),
            busy_share=min(1.0, max(0.0, share)),
            ended=ended,
        )


#: Where a lane's report of a worker has them.
_AGE: Final = 5
_STATE: Final = 6


def _maker(wanted: Any) -> Callable[[str, int | None], Painter]:
    """What makes the painter that is wanted."""
    if wanted is True or isinstance(wanted, str):
        return _usual
    if isinstance(wanted, type):
        raise TypeError(f"progress must be a bar, not its class {wanted!r}\n  hint: make one, and close it afterwards")
    if hasattr(wanted, "add_task") and hasattr(wanted, "update"):
        return lambda label, total: _RichTask(wanted, label, total)
    if callable(getattr(wanted, "update", None)):
        return lambda label, total: _Own(wanted, total)
    if callable(wanted):
        return lambda label, total: _Told(wanted)
    raise TypeError(
        f"progress must be True, False, a label, a bar with update(n), or a function, not {wanted!r}\n"
        "  hint: a function is called with a raddle.Progress"
    )


def _usual(label: str, total: int | None) -> Painter:
    """The bar that suits the place and the program."""
    place = place_of(sys.stderr)
    if place != "log" and (place == "terminal" or _is_there("ipywidgets")):
        kinds: dict[str, Callable[[str, int | None, bool], Painter]] = {"tqdm": _Tqdm, "rich": _Rich}
        imported = [name for name in kinds if sys.modules.get(name) is not None]
        for name in [*imported, *kinds]:
            if name in imported or _is_there(name):
                try:
                    return kinds[name](label, total, place == "notebook")
                except ImportError:  # it is there, and is not what it was
                    continue
    return _Plain(label, total)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # it was put where modules are and has no spec
        return False


class _Plain:
    def __init__(self, label: str, total: int | None) -> None:
        self._bar = Bar(total, label)
        self.every = self._bar.every

    def show(self, now: Progress) -> None:
        self._bar.state(now.done, now.failed, now.about_the_workers())
        if now.ended:
            self._bar.close()
        else:
            self._bar.draw()


class _Tqdm:
    """A bar of tqdm, drawn when we say so."""

    every = _REDRAW_SECONDS

    def __init__(self, label: str, total: int | None, in_notebook: bool) -> None:
        base = import_module("tqdm.notebook").tqdm_notebook if in_notebook else import_module("tqdm").tqdm
        unwatched: Any = type("tqdm", (base,), {"monitor_interval": 0})  # no thread looks after it
        # It draws at each `update`, also at one of nothing, and not before the first.
        self._bar = unwatched(
            total=total,
            desc=" ".join(label.splitlines()),
            file=None if in_notebook else _Quiet(sys.stderr),
            dynamic_ncols=True,
            mininterval=0,
            miniters=0,
            delay=1e-9,
        )

    def show(self, now: Progress) -> None:
        self._bar.set_postfix_str(_in_a_word(now), refresh=False)
        self._bar.update(now.done - self._bar.n)
        if now.ended:
            self._bar.close()


class _Rich:
    """A bar of rich, drawn when we say so."""

    every = _REDRAW_SECONDS

    def __init__(self, label: str, total: int | None, in_notebook: bool) -> None:
        rich = import_module("rich.progress")
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=28),
            rich.TextColumn("{task.fields[facts]}", markup=False),
            rich.TextColumn("{task.fields[failures]}", style="red", markup=False),
            console=import_module("rich.console").Console(file=_Quiet(sys.stderr)),
            auto_refresh=False,  # no thread of its own
        )
        self._task = self._bar.add_task(" ".join(label.splitlines()), total=total, facts="", failures="")
        self._bar.start()

    def show(self, now: Progress) -> None:
        self._bar.update(
            self._task,
            completed=now.done,
            facts="  ".join(filter(None, (facts(now.done, now.total, now.seconds), now.about_the_workers()))),
            failures=f"{now.failed:,} failed" if now.failed else "",
        )
        self._bar.refresh()
        if now.ended:
            self._bar.stop()


class _RichTask:
    """A task in a display of rich that is the user's."""

    every = _REDRAW_SECONDS

    def __init__(self, bars: Any, label: str, total: int | None) -> None:
        self._bars = bars
        self._task = bars.add_task(label, total=total, workers="")

    def show(self, now: Progress) -> None:
        self._bars.update(self._task, completed=now.done, workers=_in_a_word(now))


class _Own:
    """A bar that is the user's. It may have `total` and `set_postfix_str`, as those of tqdm have."""

    every = _REDRAW_SECONDS

    def __init__(self, bar: Any, total: int | None) -> None:
        self._bar = bar
        self._told = 0
        if getattr(bar, "total", total) is None and total is not None:
            bar.total = total

    def show(self, now: Progress) -> None:
        more, self._told = now.done - self._told, now.done
        if more or now.ended:
            postfix = getattr(self._bar, "set_postfix_str", None)
            if callable(postfix):
                postfix(_in_a_word(now), False)
            self._bar.update(more)


class _Told:
    """A function that is the user's."""

    every = _REDRAW_SECONDS

    def __init__(self, tell: Callable[[Progress], object]) -> None:
        self._tell = tell

    def show(self, now: Progress) -> None:
        self._tell(now)


def _in_a_word(now: Progress) -> str:
    """The workers and the failures, for a bar that says the rest itself."""
    return ", ".join(filter(None, (now.about_the_workers(), f"{now.failed:,} failed" if now.failed else "")))


class _Quiet:
    """A stream that falls silent when writing fails, for bars that would raise, or exit the program."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._failed = False

    def write(self, text: str) -> int:
        if not self._failed:
            try:
                return self._stream.write(text)
            except (OSError, ValueError):
                self._failed = True
        return len(text)

    def flush(self) -> None:
        if not self._failed:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._failed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    # By this `tqdm.write` knows which bars are in the way of what it writes.
    def __eq__(self, other: object) -> bool:
        return self._stream == (other._stream if isinstance(other, _Quiet) else other)

    def __hash__(self) -> int:
        return hash(self._stream)
