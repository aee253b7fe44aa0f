"""What workers print and log, and their warnings, shown by the parent: in order, and with the name of the call.

A worker's words arrive with its answers. Whoever is about to go on because a call has ended shows what was said before (`Showing.show`);
if nobody waits, a thread of our own does, which is started for it and ends with it. One at a time, so that the order is that in which they
arrived.
"""

from __future__ import annotations

import sys
import threading

from . import _raddle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._types import Output

__all__ = ["OutputLine", "Showing", "checked", "log_levels"]


#: Seconds to wait for somebody else who is showing.
_PATIENCE = 1.0
#: Bytes of a line that are waited for before it is shown in pieces.
_LONGEST = 1 << 20


class OutputLine:
    """A line that a worker has printed.

    Attributes:
        text: The line, with its end.
        stream: ``"stdout"`` or ``"stderr"``.
        call: The name of the function that the worker was running; empty between calls.
        pid: Its process number.
    """

    __slots__ = ("call", "pid", "stream", "text")

    def __init__(self, text: str, stream: str, call: str, pid: int) -> None:
        self.text = text
        self.stream = stream
        self.call = call
        self.pid = pid

    def __repr__(self) -> str:
        return f"OutputLine(text={self.text!r}, stream={self.stream!r}, call={self.call!r}, pid={self.pid})"

    def __str__(self) -> str:
        """The line with its origin in front: ``[parse 4711] text``."""
        return f"[{self.call or 'worker'} {self.pid}] {self.text}"


class Showing:
    """Shows the words of one pool's workers."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lock = threading.RLock()
        self._busy = False
        #: What has come of a line, and in which call, by process and stream, until the rest of it comes.
        self._begun: dict[tuple[int, str], tuple[str, bytes]] = {}
        #: And of a log record or a warning.
        self._parts: dict[tuple[int, str], bytes] = {}
        self._warned: set[tuple[Any, ...]] = set()
        #: Workers that have ended.
        self._gone: list[int] = []
        self.lane: _raddle.ProcessLane | None = None
        #: Guards what follows; held for moments.
        self._gate = threading.Lock()
        self._has_more = self._is_over = False
        self._listener: threading.Thread | None = None

    def heard(self) -> None:
        """Something has arrived, says the keeper, which must not wait for anybody's stream: a thread of our own shows it."""
        with self._gate:
            self._has_more = True
            if self._listener is None and not self._is_over:
                listener = threading.Thread(target=self._listen, name="raddle-output", daemon=True)
                try:
                    listener.start()
                except RuntimeError:  # the interpreter is ending, and shows the rest itself
                    return
                self._listener = listener

    def _listen(self) -> None:
        while True:
            with self._gate:
                if not self._has_more or self._is_over:
                    self._listener = None
                    return
                self._has_more = False
            try:
                self._show(-1)
            except BaseException as error:  # noqa: BLE001  # such as SystemExit of the user's function: it is not for this thread
                _raddle.write_unraisable(error, self._output)

    def show(self) -> None:
        """Shows what has arrived before whoever calls this goes on.

        If somebody else is showing it, waits for that; but not for ever: what shows it may itself wait for the caller. Also called inside
        of itself, by a stream or a handler that waits for a call; then it does nothing.
        """
        self._show(_PATIENCE)

    def _show(self, timeout: float) -> None:
        if not self._lock.acquire(timeout=timeout):
            return
        try:
            if self._busy or self.lane is None:
                return
            self._busy = True
            try:
                while words := self.lane.take_words():
                    for pid, kind, call, text in words:
                        self._take(pid, kind, call, text)
                self._let_go()
            finally:
                self._busy = False
        finally:
            self._lock.release()

    def departed(self, pid: int) -> None:
        """A worker has ended: what it has begun has no end."""
        if any(key[0] == pid for key in [*self._begun, *self._parts]):
            with self._gate:
                self._gone.append(pid)
            self.heard()

    def finish(self) -> None:
        """Nothing more will come: shows all that is left."""
        with self._gate:
            self._is_over = True
            listener = self._listener
        if listener is not None and listener is not threading.current_thread():
            listener.join()
        self._show(-1)
        with self._lock:
            for key in list(self._begun):
                self._end_line(key)

    def _end_line(self, key: tuple[int, str]) -> None:
        call, text = self._begun.pop(key)
        self._print(OutputLine(text.decode("utf-8", "replace") + "\n", key[1], call, key[0]))

    def _let_go(self) -> None:
        """Shows what workers that have ended had begun. Another process may get their numbers."""
        with self._gate:
            gone, self._gone = self._gone, []
        for pid in gone:
            for key in [key for key in self._begun if key[0] == pid]:
                self._end_line(key)
            for key in [key for key in self._parts if key[0] == pid]:
                del self._parts[key]

    def _take(self, pid: int, kind: str, call: str, text: bytes) -> None:
        key = (pid, kind)
        if kind in ("stdout", "stderr"):
            before = self._begun.pop(key, None)
            *lines, rest = ((before[1] if before else b"") + text).split(b"\n")
            if rest:
                # A bar that is redrawn begins its line anew each time; the last time counts.
                self._begun[key] = (call, rest[rest.rfind(b"\r", 0, -1) + 1 :])
                if len(rest) > _LONGEST:
                    self._end_line(key)
            for line in lines:
                self._print(OutputLine(line.decode("utf-8", "replace") + "\n", kind, call, pid))
            return
        whole = self._parts.pop(key, b"") + text
        if len(whole) < 8 or len(whole) < 8 + int.from_bytes(whole[:8], "little"):
            self._parts[key] = whole
            return
        import pickle

        try:
            fields = pickle.loads(whole[8:])
            (self._log if kind == "log" else self._warn)(fields, call, pid)
        except Exception as error:  # noqa: BLE001  # a record is not worth a result
            _raddle.write_unraisable(error, f"a {kind} of worker process {pid}")

    def _print(self, line: OutputLine) -> None:
        try:
            if callable(self._output):
                self._output(line)
            else:
                _write(getattr(sys, line.stream), line.text if self._output == "plain" else str(line))
        except Exception as error:  # noqa: BLE001  # what the user's function or stream raises must not cost a result
            _raddle.write_unraisable(error, self._output)

    def _log(self, fields: dict[str, Any], call: str, pid: int) -> None:
        import logging

        record = logging.makeLogRecord({**fields, "call": call, "processName": f"{call or 'worker'} {pid}"})
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)

    def _warn(self, fields: tuple[str, str, str, int], call: str, pid: int) -> None:
        import warnings

        if fields in self._warned:
            return
        self._warned.add(fields)
        name, message, filename, lineno = fields
        category = _category(name)
        try:
            warnings.warn_explicit(message, category, filename, lineno, **_module(filename), registry={})
        except Warning:  # it is to be an error, and there is nobody to raise it to
            line = warnings.formatwarning(message, category, filename, lineno)
            self._print(OutputLine(line, "stderr", call, pid))


def _write(stream: Any, text: str) -> None:
    """Writes to a standard stream, whatever it is. Whoever reads no more of it misses nothing."""
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError as error:
            stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
    except (OSError, ValueError):
        pass  # a closed pipe, a closed file


def _module(filename: str) -> dict[str, Any]:
    """What filters know a module by, unless by its file. Functions of the script travel without their file."""
    is_main = filename.startswith("<") or filename == getattr(sys.modules.get("__main__"), "__file__", None)
    return {"module": "__main__"} if is_main else {}


def _category(name: str) -> type[Warning]:
    """The class of a warning, as far as this process has loaded it."""
    module, _, name = name.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning


def log_levels() -> dict[str, int]:
    """The levels of this process's loggers, as far as they were set: those of its workers."""
    logging = sys.modules.get("logging")
    if logging is None:
        return {}
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {name: logger.level for name, logger in loggers.items() if getattr(logger, "level", 0)}


def checked(output: Any) -> Output | None:
    """The `output` of a pool; None if its workers keep the streams that they have inherited."""
    if output in ("attributed", "plain") or callable(output):
        chosen: Output = output
        return chosen
    if output == "inherit":
        return None
    raise ValueError(
        f"output must be 'attributed', 'plain', 'inherit' or a function that takes an OutputLine, not {output!r}"
    )


OutputLine.__module__ = "raddle"
