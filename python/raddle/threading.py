"""Drop-in for `threading`: the same names, faster primitives, and waits that Raddle can see, stop and name.

Import from here instead of from `threading`, or put it in place of the standard library's for a whole program::

    from raddle.threading import Thread, Lock, Condition

    import raddle.threading
    raddle.threading.install()

A `Thread` is a `threading.Thread`, and all of them are in one list: `threading.enumerate()` and `raddle.threading.enumerate()`
are the same function. Locks, events and the rest are of Raddle's own types, with the standard library's behaviour.

What is different:

- A wait without a timeout that can never end is reported (`raddle.on_deadlock`): threads that wait for each other's locks or for each
  other's end, a lock that its owner takes again, and events, queues or conditions for which everybody waits.
- A thread can be asked to stop, and obeys in whatever it waits for: `raddle.stop`.
- `Semaphore`, `Event`, `Condition` and `Barrier` are one native object each; what they are made of in the standard library
  (`Event._cond`, `Semaphore._cond`) does not exist.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import warnings
from threading import (
    TIMEOUT_MAX,
    BrokenBarrierError,
    ExceptHookArgs,
    ThreadError,
    active_count,
    current_thread,
    enumerate,  # noqa: A004 (its name)
    excepthook,
    get_ident,
    get_native_id,
    getprofile,
    gettrace,
    local,
    main_thread,
    setprofile,
    settrace,
    stack_size,
)

from . import _exit as _exit  # a forked child must be told of the fork
from . import _raddle, _units
from ._raddle import Lock, RLock
from ._stop import Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Protocol

    class _AnyLock(Protocol):
        """What a condition can be made over."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...


__all__ = [
    "TIMEOUT_MAX",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Event",
    "ExceptHookArgs",
    "Lock",
    "RLock",
    "Semaphore",
    "Thread",
    "ThreadError",
    "Timer",
    "active_count",
    "current_thread",
    "enumerate",
    "excepthook",
    "get_ident",
    "get_native_id",
    "getprofile",
    "gettrace",
    "install",
    "installed",
    "local",
    "main_thread",
    "setprofile",
    "settrace",
    "stack_size",
    "uninstall",
]

if sys.version_info >= (3, 12):
    from threading import setprofile_all_threads, settrace_all_threads

    __all__ += ["setprofile_all_threads", "settrace_all_threads"]


_Thread = threading.Thread


def _place(primitive: object) -> str:
    """`threading.Event at 0x…`: as the standard library's say it."""
    kind = type(primitive)
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__} at {id(primitive):#x}"


class Condition(_raddle.ConditionCore):
    """A condition variable, as `threading.Condition`.

    Args:
        lock: A `Lock`, an `RLock`, or any object with `acquire` and `release`. None makes an `RLock`.
    """

    def __init__(self, lock: _AnyLock | None = None) -> None:
        self._start(lock)

    def __repr__(self) -> str:
        return f"<Condition({self._lock}, {self._waiting})>"

    def notifyAll(self) -> None:  # noqa: N802 (its name)
        """The old name of `notify_all`."""
        warnings.warn("notifyAll() is deprecated, use notify_all() instead", DeprecationWarning, stacklevel=2)
        self.notify_all()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()


class Semaphore(_raddle.SemaphoreCore):
    """A number of permits, as `threading.Semaphore`.

    Args:
        value: How many there are.

    Raises:
        ValueError: `value` is negative.
    """

    def __init__(self, value: int = 1) -> None:
        self._start(value, False)

    def __repr__(self) -> str:
        return f"<{_place(self)}: value={self._value}>"


class BoundedSemaphore(Semaphore):
    """A semaphore that refuses to be released more often than it was acquired, as `threading.BoundedSemaphore`."""

    def __init__(self, value: int = 1) -> None:
        self._start(value, True)

    def __repr__(self) -> str:
        return f"<{_place(self)}: value={self._value}/{self._initial_value}>"


class Event(_raddle.EventCore):
    """A flag that threads wait for, as `threading.Event`."""

    def isSet(self) -> bool:  # noqa: N802 (its name)
        """The old name of `is_set`."""
        warnings.warn("isSet() is deprecated, use is_set() instead", DeprecationWarning, stacklevel=2)
        return self.is_set()

    def __repr__(self) -> str:
        return f"<{_place(self)}: {'set' if self.is_set() else 'unset'}>"

    def _at_fork_reinit(self) -> None:
        """Nothing to do: whoever waited in the parent is forgotten by itself."""


class _Birth(Event):
    """Set when a thread has begun. Whoever waits for that looks for a moment before it sleeps: a thread begins soon, or the machine is
    busy."""

    def wait(self, timeout: float | None = None) -> bool:
        return self._wait_soon(timeout)


class Barrier(_raddle.BarrierCore):
    """A place where a fixed number of threads wait for each other, as `threading.Barrier`.

    Args:
        parties: How many.
        action: Called by one of them, before they go on.
        timeout: Seconds; the default of `wait`.
    """

    def __init__(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> None:
        self._start(parties, action, timeout)

    def __repr__(self) -> str:
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{_place(self)}: {state}>"


class Thread(_Thread):
    """A thread, as `threading.Thread`, of which it is a subclass.

    Args:
        group: None.
        target: What to call.
        name: Its name.
        args: Arguments of `target`.
        kwargs: Arguments of `target` by name.
        daemon: Whether the program may end while it runs. None: as the thread that makes it.
        interruptible: Whether `raddle.stop(thread, interrupt=True)` may throw `Stopped` between two bytecodes.
        **more: What later versions of Python know.
    """

    _unit: int | None = None
    """The number of the unit that it is, while it runs."""

    _before: list[tuple[int, int]] | None = None
    """What was over when it was started, as far as orders of locks are watched."""

    _over: list[tuple[int, int]] | None = None
    """What is over for whoever has joined it."""

    _parent: int | None = None
    """`get_ident()` of the thread that has started it."""

    _outcome: str | None = None
    _is_interruptible = False

    failure: BaseException | None = None
    """The exception that has left its function, if one has. `threading.excepthook` was called with it, too."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        interruptible: bool = False,
        **more: Any,
    ) -> None:
        # By name: once `install` has put this class in place of the standard library's, `threading`'s own subclasses come here, too.
        _Thread.__init__(self, group, target, name, args, kwargs, daemon=daemon, **more)
        self._started = _Birth()
        if isinstance(self, Thread):
            self._is_interruptible = interruptible
            # The standard library gives each thread a hook of its own; ours comes before it.
            self._hook = self.__dict__.pop("_invoke_excepthook")

    def start(self) -> None:
        """Starts it, as `threading.Thread.start`. Whoever starts it is not stopped before it has begun."""
        self._parent = get_ident()
        self._before = _raddle.fork_lock_order()
        _raddle.raise_shield()
        try:
            super().start()
        finally:
            _raddle.lower_shield()

    def _bootstrap_inner(self) -> None:
        self._unit = _raddle.my_unit()
        if self._before is not None:
            _raddle.follow_lock_order(self._before)
        try:
            if not self._is_interruptible:
                super()._bootstrap_inner()  # type: ignore[misc]
                return
            try:
                _raddle.arm()
                super()._bootstrap_inner()  # type: ignore[misc]
            except Stopped:
                self._outcome = "stopped"  # it arrived between the end of `run` and this line
            finally:
                _raddle.disarm()
        finally:
            self._over = _raddle.end_lock_order()

    def _invoke_excepthook(self, thread: threading.Thread) -> None:
        """An exception has left `run`."""
        error = sys.exc_info()[1]
        if isinstance(error, Stopped):
            self._outcome = "stopped"
            return
        if error is not None and not isinstance(error, SystemExit):
            self._outcome = "raised"
            self.failure = error
            _units.remember_unhandled(self.name, error)
        try:
            self._hook(thread)
        finally:
            del error

    @property
    def life(self) -> _units.Life:
        """Where it is in its life: its state, what it is parked on and who holds that, since when, its processor time, how it ended."""
        if self.is_alive():
            return _units.life_of(self._unit, self.native_id)
        outcome = None if self.ident is None else self._outcome or "returned"
        return _units.Life("new" if self.ident is None else "done", None, None, None, None, self.native_id, outcome)

    def join(self, timeout: float | None = None) -> None:
        """Waits for its end, as `threading.Thread.join`.

        Raises:
            RuntimeError: It was not started, or is this thread.
            DeadlockError: It waits for this thread, and `raddle.on_deadlock` is "raise".
        """
        unit = self._unit
        # At the end of the interpreter a daemon thread runs no more, and never ends: since 3.14 the standard library says so.
        if unit is None or unit == _raddle.my_unit() or not self.is_alive() or sys.is_finalizing():
            super().join(timeout)
            self._follow()
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        if _raddle.join_unit(unit, timeout):
            super().join(None if deadline is None else max(deadline - time.monotonic(), 0.0))
            self._follow()

    def _follow(self) -> None:
        """All that the thread has done is over for this one."""
        if self._over is not None:
            _raddle.follow_lock_order(self._over)


class Timer(Thread):
    """Calls a function after a time, unless it is cancelled, as `threading.Timer`.

    Args:
        interval: Seconds.
        function: What to call.
        args: Its arguments.
        kwargs: Its arguments by name.
    """

    def __init__(
        self,
        interval: float,
        function: Callable[..., object],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.interval = interval
        self.function = function
        self.args = [] if args is None else args
        self.kwargs = {} if kwargs is None else kwargs
        self.finished = Event()

    def cancel(self) -> None:
        """Cancels it, if the function was not called yet."""
        self.finished.set()

    def run(self) -> None:
        """Waits and calls."""
        self.finished.wait(self.interval)
        if not self.finished.is_set():
            self.function(*self.args, **self.kwargs)
        self.finished.set()


_REPLACED = ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore", "Thread", "Timer")
_originals: dict[tuple[str, str], Any] = {}


def install() -> None:
    """Puts Raddle's threads, locks and queues in place of the standard library's, for the whole program.

    Every module that takes them from `threading` or `queue` *after* this gets Raddle's; objects that exist, and names that were
    imported before, stay as they are. So it stands at the beginning of a program. Calling it again does nothing.

    Example:
        >>> import threading, raddle.threading
        >>> with raddle.threading.installed():
        ...     threading.Lock is raddle.threading.Lock
        True
    """
    import queue

    from . import queue as queues

    if _originals:
        return
    ours = [(threading, name, globals()[name]) for name in _REPLACED]
    ours += [(queue, name, getattr(queues, name)) for name in queues._REPLACED]
    for module, name, value in ours:
        _originals[module.__name__, name] = getattr(module, name)
        setattr(module, name, value)


def uninstall() -> None:
    """Takes `install` back. Objects that were made meanwhile stay as they are."""
    for (module, name), value in _originals.items():
        setattr(sys.modules[module], name, value)
    _originals.clear()


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """`install` for the time of a `with` block."""
    was_installed = bool(_originals)
    install()
    try:
        yield
    finally:
        if not was_installed:
            uninstall()
