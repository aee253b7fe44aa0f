"""What `Pool.trace` returns: what became of each call, and when.

The file is in the Trace Event Format (Chromium, "Trace Event Format", 2016), which Perfetto (https://ui.perfetto.dev), speedscope and
``chrome://tracing`` open as it is: a row for each worker with its calls, a row for each thread that has handed in calls, arrows between
the two, and how many calls were waiting and running.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import stat
import threading
from typing import NamedTuple

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import IO, Any

    from ._pool_processes import ProcessLaneOf
    from ._pool_threads import ThreadLaneOf

__all__ = ["Trace", "TracedCall"]

#: Calls are taken out of the log by so many.
_AT_ONCE = 10_000
#: The counters are drawn in so many steps, at most.
_STEPS = 5_000


class TracedCall(NamedTuple):
    """One call that has ended, or one batch of a `map`. Moments are seconds of `time.monotonic`.

    Attributes:
        name: What was called: the qualified name of a function, or the ``name=`` of the call.
        outcome: ``"returned"``, ``"raised"`` (of a batch: an item did), ``"cancelled"``, ``"timeout"``, ``"died"`` (its worker did),
            ``"broken"`` (the pool was) or ``"unsent"`` (it could not be pickled).
        items: How many calls it was: more than 1 for a batch. The items behind one that raised, which nobody began, are another batch,
            ``"cancelled"``.
        thread: The native number of the thread that handed it in.
        worker: The process, or the native number of the thread, that ran it; None if none did.
        submitted: When it was handed in.
        queued: When its arguments were encoded, and it could be begun.
        begun: When a worker called the function. None if none did, or if the worker has died and that is not known.
        ended: When the function came back, or its worker was seen to be dead. None if no worker began it.
        received: When its end was known here.
    """

    name: str
    outcome: str
    items: int
    thread: int
    worker: int | None
    submitted: float
    queued: float
    begun: float | None
    ended: float | None
    received: float


class Trace:
    """The calls of a pool that were handed in inside of a block and have ended. Made by `Pool.trace`."""

    def __init__(
        self,
        lane: ThreadLaneOf | ProcessLaneOf,
        pool: str,
        kind: str,
        path: str | os.PathLike[str] | None,
        most: int,
    ) -> None:
        self._lane = lane
        self._pool = pool
        self._kind = kind
        self._path = path
        self._log = _raddle.CallLog(most)
        self._state = "new"

    def __enter__(self) -> Trace:
        self._lane.trace(self._log)
        try:
            if self._path is not None:
                self._path = os.path.abspath(self._path)
                with open(self._path, "a", encoding="utf-8"):
                    pass  # what cannot be written is said now, and not when all is done
        except BaseException:
            self._lane.trace(None)
            raise
        self._state = "under way"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._state != "under way":
            return
        self._state = "ended"
        try:
            self._lane.trace(None)
            # After Ctrl-C, workers are to end, and not to wait for a file.
            if self._path is not None and (kind is None or issubclass(kind, Exception)):
                self.save(self._path)
        except Exception as trouble:
            if error is None:
                raise
            error.add_note(f"raddle: the trace could not be written: {trouble}")

    def calls(self) -> list[TracedCall]:
        """The calls that have ended up to now, in the order in which they have."""
        return list(self._calls(len(self)))

    @property
    def left_out(self) -> int:
        """How many calls, or batches of a map, have ended when there was no room for more."""
        return self._log.left_out()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file for Perfetto, speedscope or ``chrome://tracing`` with the calls that have ended up to now.

        It is there when it is whole: Ctrl-C, or a disk that is full, leaves what was there before.

        Raises:
            OSError: If it cannot be written.
        """
        target = os.path.realpath(os.fsdecode(path))  # a link stays a link
        # Nothing can take the place of a pipe or a terminal.
        if os.path.isfile(target) or not os.path.exists(target):
            with contextlib.suppress(PermissionError):  # of its folder; it may be written to all the same
                self._save_beside(target)
                return
        with open(target, "w", encoding="utf-8") as file:
            self._write(file)

    def _save_beside(self, target: str) -> None:
        """Writes another file, which then takes the place of `target`."""
        new = os.path.join(os.path.dirname(target), f".{os.getpid()}-{threading.get_ident()}.raddle-trace")
        try:
            with open(new, "w", encoding="utf-8") as file:
                with contextlib.suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), stat.S_IMODE(os.stat(target).st_mode))
                self._write(file)
            os.replace(new, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise

    def __len__(self) -> int:
        return len(self._log)

    def __repr__(self) -> str:
        return f"<Trace of {self._pool!r} {self._state}, {len(self)} calls>"

    def _calls(self, count: int) -> Iterator[TracedCall]:
        for first in range(0, count, _AT_ONCE):
            yield from map(TracedCall._make, self._log.rows(first, min(_AT_ONCE, count - first)))

    def _write(self, file: IO[str]) -> None:
        other = {"writer": "raddle", "version": 1, "pool": self._pool, "kind": self._kind, "left_out": self.left_out}
        file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(other)}, "traceEvents": [\n')
        count = len(self)
        events = itertools.chain(
            self._names(count),
            itertools.chain.from_iterable(map(self._events, itertools.count(1), self._calls(count))),
            self._counters(count),
        )
        for number, event in enumerate(events):
            file.write((",\n" if number else "") + json.dumps(event))
        file.write("\n]}\n")

    def _names(self, count: int) -> Iterator[dict[str, Any]]:
        here = os.getpid()
        yield _named(here, here, "process_name", f"program, with pool {self._pool!r}")
        known = {thread.native_id: thread.name for thread in threading.enumerate()}
        threads: dict[int, None] = {}
        workers: dict[int, None] = {}
        for call in self._calls(count):
            threads[call.thread] = None
            if call.worker is not None:
                workers[call.worker] = None
        for thread in threads:
            yield _named(here, thread, "thread_name", known.get(thread, f"thread {thread}"))
        for worker in workers:
            if self._kind == "process":
                yield _named(worker, worker, "process_name", f"worker of {self._pool!r}")
            else:
                yield _named(here, worker, "thread_name", known.get(worker, f"thread {worker} of {self._pool!r}"))

    def _events(self, number: int, call: TracedCall) -> Iterator[dict[str, Any]]:
        here = os.getpid()
        handed_in = {"ph": "X", "cat": "submit", "name": f"submit {call.name}", "pid": here, "tid": call.thread}
        yield {**handed_in, **_span(call.submitted, call.queued), "args": {"outcome": call.outcome}}
        if call.worker is None or call.ended is None:
            return
        begun = call.ended if call.begun is None else call.begun
        place = {"pid": call.worker if self._kind == "process" else here, "tid": call.worker}
        args = {
            "outcome": call.outcome,
            "items": call.items,
            "encoded_ms": _ms(call.submitted, call.queued),
            "waited_ms": "not known" if call.begun is None else _ms(call.queued, begun),
            "returned_ms": _ms(call.ended, call.received),
        }
        yield {"ph": "X", "cat": "run", "name": call.name, **place, **_span(begun, call.ended), "args": args}
        arrow = {"cat": "call", "name": "call", "id": number}
        yield {"ph": "s", **arrow, "pid": here, "tid": call.thread, "ts": _us(call.queued)}
        yield {"ph": "f", "bp": "e", **arrow, **place, "ts": _us(begun)}

    def _counters(self, count: int) -> Iterator[dict[str, Any]]:
        """How many calls were waiting and running, over time."""
        first = min((call.queued for call in self._calls(count)), default=0.0)
        last = max((max(call.received, call.ended or 0.0) for call in self._calls(count)), default=0.0)
        step = max((last - first) / _STEPS, 1e-9)
        changes: dict[int, list[int]] = {}

        def change(moment: float, waiting: int, running: int) -> None:
            numbers = changes.setdefault(math.ceil((moment - first) / step), [0, 0])
            numbers[0] += waiting
            numbers[1] += running

        for call in self._calls(count):
            change(call.queued, call.items, 0)
            if call.begun is not None and call.ended is not None:
                change(call.begun, -call.items, 1)
                change(call.ended, 0, -1)
            else:
                change(call.received, -call.items, 0)
        waiting = running = 0
        for number, (more_waiting, more_running) in sorted(changes.items()):
            waiting, running = waiting + more_waiting, running + more_running
            numbers = {"waiting": waiting, "running": running}
            yield {"ph": "C", "name": "calls", "pid": os.getpid(), "ts": _us(first + number * step), "args": numbers}


def _named(pid: int, tid: int, what: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _us(moment: float) -> float:
    return round(moment * 1e6, 3)


def _span(begin: float, end: float) -> dict[str, float]:
    return {"ts": _us(begin), "dur": round(max(0.0, end - begin) * 1e6, 3)}


def _ms(begin: float, end: float) -> float:
    return round((end - begin) * 1e3, 4)


Trace.__module__ = TracedCall.__module__ = "raddle"
