"""The exceptions of Raddle, and how each differs from its neighbours.

Where the standard library has the word already, its class is raised or inherited from, so that existing ``except``
clauses keep working.
"""

from __future__ import annotations

import queue
from concurrent.futures import BrokenExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._deadlock import Deadlock
    from ._lock_order import LockOrder

__all__ = [
    "BrokenError",
    "BrokenPool",
    "CallTimeout",
    "Closed",
    "DeadlockError",
    "InternalError",
    "Lagged",
    "LockOrderError",
    "PoolFull",
    "RemoteError",
    "RemoteTraceback",
    "WorkerDied",
]


class BrokenError(BrokenExecutor):
    """Something outside broke this: a peer died, a worker could not be set up."""


class Closed(Exception):
    """The channel has come to its end: this side of it was closed, or the other side is gone and nothing is left.

    Attributes:
        source: Which: the sender or receiver; of several that `raddle.select` waited for, that one, as it was given. None if nothing is
            left to wait for.
    """

    def __init__(self, message: str = "", source: Any = None) -> None:
        super().__init__(message)
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class Lagged(Exception):
    """A receiver of a broadcast was too slow: values were overwritten before it had taken them. It goes on with the oldest that is left.

    Attributes:
        missed: How many.
    """

    def __init__(self, missed: int) -> None:
        super().__init__(missed)
        self.missed = missed

    def __str__(self) -> str:
        return f"{self.missed} values were overwritten before they were received"


class BrokenPool(BrokenError):
    """The pool takes no more calls, because its workers cannot be set up or it was killed.

    A single dead worker does not break a `raddle.Pool`; see `WorkerDied`.
    """


class WorkerDied(BrokenError):
    """The worker process died while it ran this call. Other calls are not affected.

    A `map` hands over calls of less than a tenth of a millisecond in batches; then the whole batch is lost, and `call` says so.

    Attributes:
        call: What it ran, such as ``"parse()"``.
        pid: Its process number.
        exitcode: Its exit code, negative for a signal, None if somebody else collected it, or if it has ended with its zygote.
        attempts: How often the call was begun; more than once only with ``retries``.
        peak_memory: Bytes that the process had in memory, at most. None where the kernel does not tell, which is so for a worker
            that never had more than the process of the pool.
        output: The last lines that it has printed, or None.
    """

    output: str | None = None

    def __init__(
        self,
        call: str,
        pid: int,
        exitcode: int | None,
        how: str,
        attempts: int = 1,
        peak_memory: int | None = None,
        out_of_memory: bool | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(call, pid, exitcode, how, attempts, peak_memory, out_of_memory, limit)
        self.call = call
        self.pid = pid
        self.exitcode = exitcode
        self.attempts = attempts
        self.peak_memory = peak_memory
        self._how = how
        self._out_of_memory = out_of_memory
        self._limit = limit

    def __str__(self) -> str:
        by = " by the kernel, which was out of memory," if self._out_of_memory else ""
        text = f"worker process {self.pid} {self._how}{by} while it ran {self.call}{_again(self.attempts)}"
        is_signal = self.exitcode is not None and self.exitcode < 0
        if self.peak_memory is not None and is_signal:
            text += f" (peak memory {_readable(self.peak_memory)})"
        hint = self._hint()
        return text if hint is None else f"{text}\n  hint: {hint}"

    def _hint(self) -> str | None:
        if self._out_of_memory:
            return "use fewer workers, or give each less to do at once; with memory= a call that wants too much gets a MemoryError"
        if self._limit is not None and self.peak_memory is not None and self.peak_memory > self._limit * 3 // 4:
            return (
                f"the pool gives a worker {_readable(self._limit)} (memory=), and code that gets no memory may crash; "
                "allow more, or give each call less to do"
            )
        if self.exitcode == -9 and self._out_of_memory is None:
            return "SIGKILL often comes from the kernel when memory runs out; see the kernel's log"
        if self.exitcode == -9:
            return "the kernel has ended no process for want of memory since; somebody else has sent the signal"
        if self.exitcode is not None and self.exitcode >= 0:
            return "the function, or a library that it calls, ended the process with os._exit()"
        return None


class CallTimeout(TimeoutError):
    """The call ran for longer than it was allowed to; its worker process was ended, and the call with it.

    Attributes:
        call: What was called, such as ``"parse()"``.
        pid: The process that ran it.
        seconds: How long it was allowed to run.
        attempts: How often it was begun; more than once only with ``retries``.
    """

    def __init__(self, call: str, pid: int, seconds: float, attempts: int = 1) -> None:
        super().__init__(f"{call} was stopped after {seconds:g} s in worker process {pid}{_again(attempts)}")
        self.call = call
        self.pid = pid
        self.seconds = seconds
        self.attempts = attempts

    def __reduce__(self) -> tuple[Any, ...]:
        return CallTimeout, (self.call, self.pid, self.seconds, self.attempts), self.__dict__


def _again(attempts: int) -> str:
    return "" if attempts == 1 else f", the last of {attempts} attempts"


def _readable(size: int) -> str:
    """A number of bytes as people write it."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >> power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} bytes"


class PoolFull(queue.Full):
    """As many calls are under way as the pool takes, and it was made to say so instead of waiting (``when_full="raise"``)."""


class DeadlockError(RuntimeError):
    """This wait can never end. Raised instead of waiting.

    Attributes:
        deadlock: Who waits for whom (`raddle.Deadlock`), or None in an error that was made by hand.
    """

    deadlock: Deadlock | None = None


class LockOrderError(RuntimeError):
    """This lock is not to be taken here: it is taken in the other order elsewhere, and both at the same moment would be a deadlock.

    Attributes:
        order: Who has taken which locks where (`raddle.LockOrder`).
    """

    order: LockOrder | None = None


class InternalError(RuntimeError):
    """A bug in Raddle, not in your program. Please report it, with the traceback."""


class RemoteTraceback(Exception):
    """The traceback of an exception in a worker process, as text. It is that exception's ``__cause__`` here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class RemoteError(Exception):
    """Stands for an exception of a worker process that could not be sent, or could not be made again here.

    Attributes:
        type_name: The qualified name of the exception's class.
        message: Its message.
    """

    def __init__(self, type_name: str, message: str, reason: str) -> None:
        super().__init__(type_name, message, reason)
        self.type_name = type_name
        self.message = message
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.type_name}: {self.message}\n"
            f"  this stands for the original exception, which cannot be sent between processes: {self.reason}"
        )


for _class in (
    BrokenError,
    BrokenPool,
    CallTimeout,
    Closed,
    DeadlockError,
    InternalError,
    LockOrderError,
    PoolFull,
    RemoteError,
    WorkerDied,
):
    _class.__module__ = "raddle"
del _class
