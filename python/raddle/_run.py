"""`raddle run PROGRAM`: runs a Python program as it is, watches it, and says what its processes and threads did.

The program is a child process: the interpreter with the words that stand behind `raddle run`, the same standard streams, the same directory, the same
environment and open files. The command line's process looks at it and at all that it starts, and says afterwards what it has seen. It never stops the
program and never holds it back.

Rules:

1. The program's output, its exit code and the signal that ends it are those of `python PROGRAM`. What Raddle says goes to standard error, after the
   program has ended; only a deadlock is told at once.
2. Signals that are sent to the command line are passed on. Ctrl-C reaches the program by itself, since it belongs to the same terminal.
3. Looking takes no more than a small share of one processor: the more a look costs, the longer it is until the next one.
"""

from __future__ import annotations

import os
import select
import sys
import time

from ._raddle import Watcher, explain_finding
from ._terminal import give_up_output, wants_colour, write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    # The native half of it: the program is to start soon, and the enumerations of `signal` alone take as long as that.
    import _signal as signal

__all__ = ["FOUND", "Options", "explain", "run", "split"]


class Options:
    """What the command line asks for."""

    output: str | None = None
    safe = False
    on_deadlock = "report"
    fail_on: tuple[str, ...] = ()
    python: str | None = None
    json: str | None = None
    sarif: str | None = None
    explain: str | None = None


FOUND = 3
"""The exit code when there is a finding that `--fail-on` names."""

_NOT_STARTED = 1

_SHARE, _SHARE_AT_FIRST = 0.01, 0.02
"""Looking takes at most this share of one processor; and this during the first looks, since something is to be told of a short program, too."""

_FIRST = 30

_SHORTEST, _LONGEST, _QUIET = 0.01, 1.0, 0.2
"""Seconds from one look to the next: at least, at most, and when nothing runs."""

_GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole parts, lie evenly between 0 and 1, however many there are (Weyl, 1916)."""

_PASSED_ON: tuple[int, ...] = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
    signal.SIGQUIT,
    signal.SIGWINCH,
)

_LAST_INTERRUPT = 3
"""So many Ctrl-C end the program whatever it does."""

_AFTER_INTERRUPT = 3.0
"""Seconds after which a program that has not ended by Ctrl-C is said to go on."""

_WITH_VALUE = ("--output", "--on-deadlock", "--fail-on", "--json", "--sarif", "--python", "--explain")


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words behind `raddle run`: its own options, and the program with its arguments.

    >>> split(["--safe", "--output", "seen", "job.py", "--safe"])
    (['--safe', '--output', 'seen'], ['job.py', '--safe'])
    >>> split(["-m", "http.server", "8000"])
    ([], ['-m', 'http.server', '8000'])
    """
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return words[:at], words[at + 1 :]
        if word in ("-m", "-c") or not word.startswith("-") or word == "-":
            break
        at += 2 if word in _WITH_VALUE else 1
    return words[:at], words[at:]


def explain(finding: str) -> int:
    """Writes the page about a finding; returns the exit code."""
    page = explain_finding(finding)
    if page is None:
        sys.stderr.write(
            f"raddle: there is no finding {finding!r}\nhint: it is the word in brackets: gil-bound for warning[gil-bound]\n"
        )
        return _NOT_STARTED
    complaint = write_out(page.encode())
    if complaint is not None:
        _say(f"raddle: {complaint}\n")
    return 0 if complaint is None else _NOT_STARTED


def run(options: Options, program: list[str]) -> int:
    """Runs the program; returns the exit code, or ends as the program has ended."""
    if sys.stderr is None:  # it was closed, and stays so for the program
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if not _may_be_written("--json", options.json, program) or not _may_be_written("--sarif", options.sarif, program):
        return _NOT_STARTED
    directory = _make_directory(options.output, program)
    if directory is None:
        return _NOT_STARTED
    python = options.python or sys.executable
    environment = dict(os.environ)
    if not options.safe:
        environment["RADDLE_SESSION"] = directory
    command = [python, *program]
    started = time.time()
    with _Sent() as sent:
        try:
            # Python ignores these two, and its children would.
            usual = [signal.SIGPIPE, signal.SIGXFSZ]
            pid = os.posix_spawn(python, command, environment, setsigdef=usual)
        except OSError as error:
            sys.stderr.write(f"raddle: {python} cannot be started: {error.strerror}\n")
            return _NOT_STARTED
        sent.started(pid)
        recorded = None if options.safe else directory
        words = [_in_unicode(word) for word in command]
        watcher = Watcher(pid, words, _in_unicode(_here()), len(os.sched_getaffinity(0)), started, recorded)
        status = _watch(pid, watcher, options, sent)
    code = os.waitstatus_to_exitcode(status)
    if sent.is_sent:
        watcher.interrupt()
    watcher.end(code=code if code >= 0 else None, signal=-code if code < 0 else None)
    found = _report(watcher, options, directory)
    if sent.has_aborted or found & set(options.fail_on):
        return FOUND
    if code < 0:
        _die_of(-code)
    return code if code >= 0 else 128 - code


def _here() -> str:
    """The working directory; nothing if it is not there any more."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _in_unicode(word: str) -> str:
    """A word or a path, which may be any bytes, for people."""
    return os.fsencode(word).decode("utf-8", "replace")


def _say(text: str) -> None:
    """Writes to standard error. Where that does not go, the program has run all the same."""
    try:
        sys.stderr.flush()
        # Names in the program may hold what this terminal's encoding has not.
        rest = memoryview(text.encode(sys.stderr.encoding or "ascii", "backslashreplace"))
        while rest:
            rest = rest[os.write(sys.stderr.fileno(), rest) :]
    except (OSError, ValueError):
        pass


class _Sent:
    """What is sent to the command line while the program starts and runs (rule 2)."""

    def __init__(self) -> None:
        self.pid = 0
        self.interrupts = 0
        self.interrupted = 0.0
        self.is_sent = False
        self.has_aborted = False
        self.before: dict[int, Any] = {}
        self.early: list[int] = []

    def take(self, number: int, _frame: object) -> None:
        self.is_sent |= number not in (signal.SIGWINCH, signal.SIGCONT)
        if number == signal.SIGINT:
            self.interrupts += 1
            self.interrupted = time.monotonic()
        elif self.pid:
            _send(self.pid, number)
        else:
            self.early.append(number)

    def started(self, pid: int) -> None:
        """The program is there, and gets what was sent before."""
        self.pid = pid
        for number in self.early:
            _send(pid, number)

    def __enter__(self) -> _Sent:
        for number in (signal.SIGINT, *_PASSED_ON):
            # One that is ignored here is ignored by the program too, as with nohup.
            if signal.getsignal(number) != signal.SIG_IGN:
                self.before[number] = signal.signal(number, self.take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended meanwhile


def _watch(pid: int, watcher: Watcher, options: Options, sent: _Sent) -> int:
    """Looks until the program has ended; returns its status."""
    try:
        end = os.pidfd_open(pid)
    except OSError as error:
        # It has been started, and is to run as it would without.
        _say(f"raddle: the program runs, and cannot be watched: {error.strerror}\n")
        return os.waitpid(pid, 0)[1]
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        told_to_go_on = False
        looks = 0
        while True:
            looks += 1
            if sent.is_sent:
                watcher.interrupt()
            began = time.thread_time()
            for kind, who in watcher.look():
                _tell(kind, who)
                if options.on_deadlock == "abort":
                    _say("raddle: the program is ended, as --on-deadlock abort says\n")
                    sent.has_aborted = True
                    _kill(watcher, pid)
            cost = time.thread_time() - began
            share = _SHARE if looks > _FIRST else _SHARE_AT_FIRST
            # Never at the same pace: of what a thread does in turn, one part only might be seen again and again.
            pace = 0.5 + looks * _GOLDEN % 1
            pause = max(cost / share * pace, _QUIET if watcher.is_quiet() else _SHORTEST)
            if poll.poll(min(pause, _LONGEST) * 1000):
                return os.waitpid(pid, 0)[1]
            if sent.interrupts and not told_to_go_on and time.monotonic() - sent.interrupted > _AFTER_INTERRUPT:
                told_to_go_on = True
                _say("raddle: the program goes on after Ctrl-C; the third one ends it, and shows the report\n")
            if sent.interrupts >= _LAST_INTERRUPT:
                _kill(watcher, pid)
    finally:
        os.close(end)


def _kill(watcher: Watcher, first: int) -> None:
    """Ends the program and all that it has started."""
    for pid in {first, *watcher.abort()}:
        _send(pid, signal.SIGKILL)


def _tell(kind: str, who: str) -> None:
    _say(f"raddle: {kind}: {who}\n")


def _make_directory(asked: str | None, program: list[str]) -> str | None:
    """The session's directory, empty; None if there can be none."""
    if asked is None:
        name = program[1] if program[0] == "-m" and len(program) > 1 else os.path.basename(program[0])
        name = "code" if program[0] in ("-c", "-") else name.removesuffix(".py") or "program"
        asked = f"{name}.raddle"
    path = asked
    try:
        path = os.path.abspath(asked)
        os.makedirs(path, exist_ok=True)
        _clear(path)
        with open(os.path.join(path, _MARK), "w") as mark:
            mark.write(_MARK_SAYS)
    except OSError as error:
        sys.stderr.write(
            f"raddle: {_in_unicode(path)} cannot hold the session: {error.strerror or error}\n"
            "hint: name another directory: raddle run --output DIRECTORY PROGRAM\n"
        )
        return None
    return path


_MARK, _MARK_SAYS = "raddle-session", "A session of `raddle run`. It is taken away when another one is written here.\n"

_FILES = {
    "report.json": "json",
    "report.html": "html",
    "trace.perfetto": "perfetto",
}
"""What a session's directory holds in the end, and in which formats."""

_STDOUT = "-"
"""The name by which standard output is meant where a file can be named."""

_MADE = (*_FILES, _MARK)
_MADE_ENDING = ".events"


def _may_be_written(option: str, path: str | None, program: list[str]) -> bool:
    """Whether a file is not there, or is JSON: `raddle run --json job.py` must not cost anybody a program."""
    if path is None or path == _STDOUT or not os.path.isfile(path):  # a pipe or a terminal is not read from
        return True
    try:
        with open(path, "rb") as file:
            begins = file.read(64).lstrip()
    except OSError:  # which is told when it is written
        return True
    if not begins or begins.startswith(b"{"):
        return True
    sys.stderr.write(
        f"raddle: {option} would write over {path}, which is something else\n"
        f"hint: the option takes a file, or - for standard output: raddle run {option} found.json {' '.join([path, *program])}\n"
    )
    return False


def _clear(path: str) -> None:
    """Takes away what an earlier session has left. A directory that holds something else is not touched."""
    names = os.listdir(path)
    if names and _MARK not in names:
        raise FileExistsError(17, "it holds something else than a session of Raddle's")
    for name in names:
        if name in _MADE or name.endswith(_MADE_ENDING):
            os.unlink(os.path.join(path, name))


def _report(watcher: Watcher, options: Options, directory: str) -> set[str]:
    """Writes the report; returns the ids of what was found."""
    ascii_only = (sys.stderr.encoding or "ascii").lower().replace("-", "") != "utf8"
    width = os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 100
    files = [(form, os.path.join(directory, name)) for name, form in _FILES.items()]
    asked = [(form, path) for form, path in (("json", options.json), ("sarif", options.sarif)) if path is not None]
    for failure in watcher.write(files + [file for file in asked if file[1] != _STDOUT]):
        _say(f"raddle: {failure}\n")
    said, found = watcher.text(wants_colour(sys.stderr), ascii_only, max(width, 40))
    for form, path in asked:
        if path == _STDOUT:  # behind what the program has written
            try:
                complaint = write_out(watcher.written(form) + b"\n")
            except BrokenPipeError:  # its reader has enough; the rest is for somebody else
                give_up_output()
                complaint = None
            if complaint is not None:
                _say(f"raddle: {complaint}\n")
    here = _in_unicode(os.path.relpath(directory) if _here() else directory)
    said += f"\ntimeline: {here}/report.html      trace: {here}/trace.perfetto"
    said += f"      about a finding: raddle run --explain {found[0]}\n" if found else "\n"
    _say(said)
    return set(found)


def _die_of(number: int) -> None:
    """Ends as the program has ended, so that a shell sees the same."""
    import resource

    # The program has left a core if there was to be one.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.stdout is not None:  # it may be closed
        sys.stdout.flush()
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
