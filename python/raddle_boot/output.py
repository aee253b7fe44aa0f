"""What a worker prints and logs, and its warnings, on their way to the parent. Standard library only.

The streams hand over whole lines; what a call has left unfinished goes when the worker has nothing to do. What does not go through
Python (a C library, a process that the worker starts) writes to the descriptors that the worker has inherited, as ever.
"""

from __future__ import annotations

import io
import os
import sys
from _thread import get_ident

from . import when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

__all__ = ["speak"]


class _Words(io.RawIOBase):
    """One of the two streams, in bytes."""

    def __init__(self, outlet: Any, what: str, fd: int) -> None:
        self._outlet = outlet
        self._what = what
        self._fd = fd
        self.name = f"<{what}>"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        words = bytes(data)
        if not self._outlet.say(self._what, words):
            os.write(self._fd, words)  # a process that was forked off has nobody else to tell
        return len(words)


class _Stream(io.TextIOWrapper):
    """One of the two streams.

    `print` writes a line and its end one after the other: so that lines of several threads do not meet, each thread's are put together
    before they go. A worker asks before each sleep whether there is something to flush.
    """

    has_more = False
    _is_bypassed = False

    def __init__(self, words: io.BufferedWriter) -> None:
        super().__init__(words, "utf-8", "backslashreplace", line_buffering=True)
        #: What threads have written of lines that have not ended.
        self._begun: dict[int, str] = {}

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            return super().write(text)  # type: ignore[unreachable]  # it says what is wrong
        self.has_more = True
        me = get_ident()
        whole = self._begun.pop(me, "") + text
        end = whole.rfind("\n") + 1
        if end < len(whole):
            self._begun[me] = whole[end:]
        if end:
            super().write(whole[:end])
        return len(text)

    def flush(self) -> None:
        begun = self._begun.pop(get_ident(), "")
        if begun:
            super().write(begun)
        super().flush()
        self.has_more = self._is_bypassed

    def finish(self) -> None:
        """Lets everything go: there will be no more."""
        for begun in list(self._begun.values()):
            super().write(begun)
        self._begun.clear()
        super().flush()

    @property
    def buffer(self) -> Any:
        # Whoever takes it may write behind our back from now on.
        self.flush()
        self.has_more = self._is_bypassed = True
        return super().buffer


def _stream(outlet: Any, what: str, fd: int) -> _Stream:
    return _Stream(io.BufferedWriter(_Words(outlet, what, fd)))


def speak(outlet: Any, log_levels: dict[str, int]) -> None:
    """From now on the standard streams, `logging` and `warnings` of this process speak through the outlet."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    sys.stdout = _stream(outlet, "stdout", 1)
    sys.stderr = _stream(outlet, "stderr", 2)
    # A worker that never logs does not load it.
    when_imported("logging", lambda logging: _have_logged(logging, outlet, log_levels))
    _have_warned(outlet)


def _have_logged(logging: Any, outlet: Any, levels: dict[str, int]) -> None:
    """Sends every record to the parent, where it goes through the handlers that the program has set up."""
    import pickle

    class ToParent(logging.Handler):  # type: ignore[misc]  # the module is a variable here
        def emit(self, record: Any) -> None:
            try:
                fields = {**record.__dict__, "msg": record.getMessage(), "args": None}
                if record.exc_info:
                    fields["exc_text"] = record.exc_text or _formatter.formatException(record.exc_info)
                fields["exc_info"] = None
                try:
                    words = pickle.dumps(fields)
                except Exception:  # noqa: BLE001  # an extra field that cannot be sent must not cost the record
                    words = pickle.dumps({key: value for key, value in fields.items() if _is_plain(value)})
                outlet.say("log", len(words).to_bytes(8, "little") + words)
            except Exception:  # noqa: BLE001  # as every handler does
                self.handleError(record)

    root = logging.getLogger()
    for handler in list(root.handlers):
        # What a module has set up that was loaded before this process began to speak: `basicConfig` would do nothing after that.
        if type(handler) is logging.StreamHandler and handler.stream in (sys.__stdout__, sys.__stderr__):
            root.removeHandler(handler)
    _formatter = logging.Formatter()
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    root.addHandler(ToParent())


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _have_warned(outlet: Any) -> None:
    import warnings

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            file.write(warnings.formatwarning(message, category, filename, lineno, line))
            return
        import pickle

        fields = (f"{category.__module__}.{category.__qualname__}", str(message), filename, lineno)
        words = pickle.dumps(fields)
        outlet.say("warning", len(words).to_bytes(8, "little") + words)

    warnings.showwarning = show
