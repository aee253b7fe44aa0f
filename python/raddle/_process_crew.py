"""The workers of a `raddle.Pool("process")`: plain new interpreters, safe to start from any thread at any time."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import warnings
import weakref

import raddle_boot

from . import _exit, _raddle
from ._lanes import lanes
from ._output import Showing, log_levels
from ._weak import weakly
from .errors import BrokenPool, RemoteTraceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._settings import Settings

__all__ = ["ProcessCrew"]


class ProcessCrew:
    """Starts workers as they are needed, and again when they die. Knows the lane, not the pool."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.most
        self._limits = settings.limits
        self._initializer = None if settings.initializer is None else dumps_by_reference_or_value(settings.initializer)
        self._initargs = dumps_by_reference_or_value(settings.initargs)
        self._boot: int | None = None
        self._lock = threading.RLock()
        self._showing = None if settings.output is None else Showing(settings.output)
        self.lane = _raddle.ProcessLane(
            max_workers=settings.most,
            replace=True,
            strict=False,
            dumps=raddle_boot.dumps,
            dumps_by_value=raddle_boot.dumps_by_value,
            loads=pickle.loads,
            broken=BrokenPool,
            remote_traceback=RemoteTraceback,
            grow=weakly(self.grow),
            max_pending=settings.max_pending,
            waits=settings.waits,
            least=settings.least,
            idle_timeout=settings.idle_timeout if settings.is_elastic else None,
            show=None if self._showing is None else weakly(self._showing.show),
            memory=settings.limits.memory,
        )
        lanes[self.lane] = settings.name
        if self._showing is not None:
            self._showing.lane = self.lane

    def grow(self) -> None:
        """Starts one more worker, if there may be one."""
        _exit.check_not_exiting()
        with self._lock:
            if self.lane.workers() >= self._most:
                return
            if self._boot is None:
                self._boot = self._write_boot()
                _exit.remember(self)
            # The keeper first: whatever interrupts this, no worker is without one.
            self.lane.start_keeper(self._departed, self._broken)
            try:
                self._start()
            except OSError as error:
                self._make_do(error)

    def _start(self) -> None:
        assert self._boot is not None, "`grow` has written it"
        code = (
            f"import sys; sys.path.insert(0, {_BOOT_PATH!r}); import raddle_boot; "
            f"raddle_boot.native({{0}}, {{1}}, {{2}}, {{3}}, {{4}}, {{5}}, {os.getpid()})"
        )
        self.lane.spawn([sys.executable, *_interpreter_options(), "-c", code], self._boot)

    def _write_boot(self) -> int:
        settings = {
            "path": sys.path,
            "argv": sys.argv,
            "extension": _raddle.__file__,
            "initializer": self._initializer,
            "initargs": self._initargs,
            "max_tasks": self._limits.max_tasks_per_child,
            "limits": self._limits.of_each(self._most),
            "log_levels": None if self._showing is None else log_levels(),
        }
        boot = os.memfd_create("raddle-boot")
        weakref.finalize(self, os.close, boot).atexit = False
        with open(boot, "wb", closefd=False) as file:
            file.write(pickle.dumps(settings))
        return boot

    def _departed(self, seat: int, pid: int, exitcode: int | None, expected: bool, has_work: bool) -> None:
        with self._lock:
            if self.lane.wants_worker() and self.lane.refusal() in (None, "") and self.lane.workers() < self._most:
                try:
                    self._start()
                except OSError as error:
                    self._make_do(error)

    def _make_do(self, error: OSError) -> None:
        """Goes on with the workers that there are, if there are any: the system has no room for more."""
        started = self.lane.workers()
        if started == 0:
            raise error
        wanted, self._most = self._most, started
        warnings.warn(
            f"only {started} of {wanted} workers could be started: {error}\n"
            "  hint: a worker takes some file descriptors and a process; see `ulimit -n` and `ulimit -u`",
            RuntimeWarning,
            stacklevel=2,
        )

    def _broken(self, reason: str) -> None:
        """The lane has told every future and every worker; there is nothing left to do."""

    def kill(self, reason: str) -> None:
        """Ends every worker now; what has not ended fails for this reason."""
        self.lane.destroy(reason, signal.SIGKILL)

    def close(self) -> None:
        """Takes no more calls. If the program ends because of Ctrl-C, also ends those that run."""
        self.lane.close(False)
        if _exit.was_interrupted():
            self.kill("the program was interrupted")

    def join(self) -> None:
        """Waits until every worker has ended."""
        if self.lane.join():
            _exit.forget(self)
            if self._showing is not None:
                self._showing.show()
                self._showing.finish()

    def abandon(self) -> None:
        """Ends every worker at once, and waits until that is done."""
        self.kill("the program was interrupted while it waited for its end")
        _exit.insist_on(self.lane.join)

    def is_over(self) -> bool:
        """Whether no worker runs any more."""
        return not self.lane.is_kept()


def _interpreter_options() -> list[str]:
    """The options that make another interpreter behave as this one, as far as the environment does not."""
    flags = sys.flags
    letters = {
        "d": flags.debug,
        "O": flags.optimize,
        "B": flags.dont_write_bytecode,
        "s": flags.no_user_site,
        "S": flags.no_site,
        "E": flags.ignore_environment,
        "v": flags.verbose,
        "b": flags.bytes_warning,
        "q": flags.quiet,
        "P": flags.safe_path,
    }
    options = ["-I"] if flags.isolated else []
    options += [f"-{letter * int(count)}" for letter, count in letters.items() if count]
    options += [f"-W{option}" for option in sys.warnoptions]
    for name, value in sys._xoptions.items():
        options.append(f"-X{name}" if value is True else f"-X{name}={value}")
    return options


_BOOT_PATH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def dumps_by_reference_or_value(value: object) -> bytes:
    """Pickles for a worker that has not run the script: what `__main__` defines goes by value."""
    try:
        pickled = raddle_boot.dumps(value)
    except Exception:  # noqa: BLE001  # whatever pickle says, the second try decides
        return raddle_boot.dumps_by_value(value)
    return raddle_boot.dumps_by_value(value) if b"__main__" in pickled else pickled
