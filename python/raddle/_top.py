"""`raddle top PID`: what a process and all that it has started do, live in the terminal.

The extension looks, draws and reads keys. This says what to do about signals: their handlers raise, the extension leaves the terminal as it was found, and
the exception goes on from there.
"""

from __future__ import annotations

import os
import sys

# The rest is imported by what needs it: this module is also loaded to say which options `raddle run` has, which is to start its program soon.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

__all__ = ["add_parser", "run"]

_OK, _FAILED, _INTERRUPTED = 0, 1, 130

_INTERVAL = 0.5

_EPILOG = """\
keys: q quit · arrows select · Enter the stack of the selected thread · Tab threads, locks, tasks · c s n w sort · t tree or list
      / filter · space freeze · d write a dump to a file · ? all keys

exit code: 0 it was shown; 1 it could not be; 2 the command line makes no sense
"""


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    pid: Callable[[str], int],
    seconds: Callable[[str], float],
) -> None:
    """Adds `raddle top` to the command line."""
    from argparse import RawDescriptionHelpFormatter

    shown = "the threads of a running Python process and of all that it has started, live"
    command = commands.add_parser(
        "top",
        help=f"{shown}: what each does, what it waits for, CPU and GIL",
        description=f"Shows {shown}. The process is not stopped, and needs no Raddle in it.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.add_argument("pid", type=pid, metavar="PID", help="the number of the process")
    command.add_argument(
        "--interval",
        type=seconds,
        default=_INTERVAL,
        metavar="SECONDS",
        help=f"from one look to the next (default: {_INTERVAL}); longer where looks would take more than 5 %% of a processor",
    )
    command.add_argument("--until-end", action="store_true", help="leave as soon as the process has ended")
    command.add_argument(
        "--colour",
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        help="auto: with colours if NO_COLOR is not set",
    )
    command.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Shows it; returns the exit code."""
    from ._cpus import usable_cpus
    from ._raddle import top

    if trouble := _is_no_terminal():
        sys.stderr.write(
            f"raddle: {trouble}\nhint: raddle dump {options.pid} writes text, with --watch SECONDS again and again\n"
        )
        return _FAILED
    colour = options.colour == "always" or (options.colour == "auto" and not os.environ.get("NO_COLOR"))
    sys.stdout.flush()
    try:
        with _Signals() as told:
            kind, said = top(
                options.pid,
                interval=options.interval,
                cores=usable_cpus(),
                colour=colour,
                until_end=options.until_end,
                told=told,
            )
    except _Ended as ended:
        _die_of(ended.number)
        return 128 + ended.number
    except OSError as error:
        sys.stderr.write(f"raddle: the terminal cannot be used: {error}\n")
        return _FAILED
    if kind == "interrupted":
        return _INTERRUPTED
    if kind == "ended":
        sys.stderr.write(f"process {options.pid} has ended\n")
    if kind in ("quit", "ended", "hung-up"):
        return _OK
    sys.stderr.write(f"raddle: {said}\n")
    return _FAILED


def _is_no_terminal() -> str | None:
    """Why there is nothing to draw on."""
    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if stream is None or not stream.isatty():
            return f"{name} is not a terminal, and raddle top needs one"
    if os.environ.get("TERM") in (None, "", "dumb"):
        return "this terminal (TERM=dumb, or TERM is not set) can only print, and raddle top draws"
    return None


class _Ended(BaseException):
    """A signal that ends the process has come."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Signals:
    """A pipe into which each signal writes. Signals that would end the process raise `_Ended`."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.last = -1
        self.pipe = (-1, -1)

    def __enter__(self) -> int:
        import signal

        self.pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.last = signal.set_wakeup_fd(self.pipe[1], warn_on_full_buffer=False)
        handlers: dict[int, Callable[[int, object], object]] = {
            signal.SIGTERM: self.end,
            signal.SIGHUP: self.end,
            signal.SIGWINCH: self.resize,
        }
        for number, handler in handlers.items():
            # What is ignored here, as nohup has it, stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.before[number] = signal.signal(number, handler)
        return self.pipe[0]

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self.last)
        for end in self.pipe:
            os.close(end)

    @staticmethod
    def end(number: int, _: object) -> None:
        raise _Ended(number)

    @staticmethod
    def resize(*_: object) -> None:
        """What was written into the pipe wakes the extension, which then draws anew."""


def _die_of(number: int) -> None:
    """Ends as the signal would have ended it, so that whoever has sent it sees that."""
    import signal

    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
