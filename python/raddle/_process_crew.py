"""The workers of a `raddle.Pool("process")`: plain new interpreters, safe to start from any thread at any time."""

from __future__ import annotations

import contextlib
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
    from collections.abc import Callable
    from typing import Any, Final

    from ._settings import Settings

__all__ = ["ProcessCrew"]

#: So many zygotes in a row may end before they are ready; then the pool is broken.
_STILLBORN: Final = 3


class ProcessCrew:
    """Starts workers as they are needed, and again when they die. Knows the lane, not the pool."""

    calls_back = True

    def __init__(self, settings: Settings) -> None:
        self._most = settings.most
        self._limits = settings.limits
        self._preload = settings.preload
        #: Whether workers are forked from a zygote; and how many of those have ended before they were ready, one after the other.
        self._forks = bool(settings.preload)
        self._stillborn = 0
        self._has_warned = False
        self._initializer = None if settings.initializer is None else dumps_by_reference_or_value(settings.initializer)
        self._initargs = dumps_by_reference_or_value(settings.initargs)
        #: The descriptor of what workers start with, what it holds of this moment, and how it is closed.
        self._boot: int | None = None
        self._written_for: dict[str, Any] = {}
        self._close_boot: Callable[[], object] | None = None
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
            heard=None if self._showing is None else weakly(self._showing.heard),
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
                self._write_boot()
                _exit.remember(self)
            # The keeper first: whatever interrupts this, no worker is without one.
            self.lane.start_keeper(self._departed, self._broken, self._zygote)
            try:
                self._start()
            except OSError as error:
                self._make_do(error)

    def _start(self) -> None:
        assert self._boot is not None, "`grow` has written it"
        if not (self._forks and self._fork(self._boot)):
            if self._written_for != _moment():
                self._write_boot()
            arguments = f"{{0}}, {{1}}, {{2}}, {{3}}, {{4}}, {{5}}, {os.getpid()}"
            self.lane.spawn(_interpreter(f"import raddle_boot; raddle_boot.native({arguments})"), self._boot)

    def _fork(self, boot: int) -> bool:
        """Has the zygote fork a worker, which gets what this process has at this moment. False: it cannot now."""
        arguments = f"{{0}}, {{1}}, {{2}}, {{3}}, {{4}}, {os.getpid()}"
        argv = _interpreter(f"import raddle_boot.zygote as zygote; zygote.main({arguments})")
        others: dict[int | str, int] = {}
        for stream in (1, 2):
            with contextlib.suppress(OSError):  # it may be closed
                os.fstat(stream)
                others[stream] = stream
        with contextlib.ExitStack() as opened:
            try:
                others["directory"] = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, others["directory"])
                moment = _written(_moment() | {"environ": dict(os.environ), "others": list(others)})
                opened.callback(os.close, moment)
                self.lane.fork(argv, boot, [moment, *others.values()])
            except OSError:
                return False
        return True

    def _zygote(self, word: str, text: str, wanted: int) -> None:
        """Something has become of the zygote: so many workers that it was to fork are to be started in another way."""
        with self._lock:
            if word == "threads":
                self._forks = False
            self._stillborn = self._stillborn + 1 if word == "stillborn" else 0
            if self._stillborn >= _STILLBORN:
                self.kill(
                    f"{_STILLBORN} zygotes in a row have ended before they had loaded everything; the last one {text}"
                )
                return
            forks, self._forks = self._forks, self._forks and word != "failed"
            try:
                for _ in range(min(wanted, self._most - self.lane.workers()) if self.lane.outstanding() else 0):
                    self._start()
            except OSError as error:
                self._make_do(error)
            finally:
                self._forks = forks
        if word == "threads":
            warnings.warn(
                f"{text} has started threads when it was loaded, and a process with threads cannot be forked: "
                "each worker of the pool is a new interpreter instead\n"
                "  hint: leave it out of preload=; libraries of numbers start none with blas_threads=1",
                RuntimeWarning,
                stacklevel=2,
            )

    def _write_boot(self) -> None:
        """What a worker, or a zygote, reads when it starts. Those that have not read the last one yet have it open."""
        moment = _moment()
        settings = moment | {
            "extension": _raddle.__file__,
            "preload": self._preload,
            "share": self._limits.share_of_each(self._most),
            "initializer": self._initializer,
            "initargs": self._initargs,
            "max_tasks": self._limits.max_tasks_per_child,
            "authkey": raddle_boot.authkey.get(),
            "tracker": raddle_boot.tracker(),
            "limits": self._limits.of_each(self._most, preloads=bool(self._preload)),
            "log_levels": None if self._showing is None else log_levels(),
        }
        boot = _written(settings)
        self._close_boot_file()
        close = weakref.finalize(self, os.close, boot)
        close.atexit = False
        self._boot, self._written_for, self._close_boot = boot, moment, close

    def _close_boot_file(self) -> None:
        if self._close_boot is not None:
            self._close_boot()
        self._boot = None

    def _departed(self, seat: int, pid: int, exitcode: int | None, expected: bool, has_work: bool) -> None:
        if self._showing is not None:
            self._showing.departed(pid)
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
        text = (
            f"only {started} of {self._most} workers could be started: {error}\n"
            "  hint: a worker takes some file descriptors and a process; see `ulimit -n` and `ulimit -u`"
        )
        if self._has_warned:
            return
        self._has_warned = True
        try:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        except RuntimeWarning as warning:  # it is to be an error, and the keeper has nobody to raise it to
            print(warnings.formatwarning(warning, RuntimeWarning, __file__, 0), end="", file=sys.stderr)  # noqa: T201

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
            self._close_boot_file()
            _exit.forget(self)
            if self._showing is not None:
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


def _interpreter(code: str) -> list[str]:
    """The command that runs code, which can import `raddle_boot`, in another interpreter."""
    return [sys.executable, *_interpreter_options(), "-c", f"import sys; sys.path.insert(0, {_BOOT_PATH!r}); {code}"]


def _moment() -> dict[str, Any]:
    """What a worker gets as it is when the worker starts."""
    return {"path": list(sys.path), "argv": list(getattr(sys, "argv", [""]))}


def _written(settings: dict[str, Any]) -> int:
    """A descriptor of a file with these settings."""
    descriptor = os.memfd_create("raddle-boot")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(pickle.dumps(settings))
    return descriptor


_BOOT_PATH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def dumps_by_reference_or_value(value: object) -> bytes:
    """Pickles for a worker that has not run the script: what `__main__` defines goes by value."""
    try:
        pickled = raddle_boot.dumps(value)
    except Exception:  # noqa: BLE001  # whatever pickle says, the second try decides
        return raddle_boot.dumps_by_value(value)
    return raddle_boot.dumps_by_value(value) if b"__main__" in pickled else pickled
