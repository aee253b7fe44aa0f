"""The command line: `raddle run`, `raddle view`, `raddle dump`, `raddle top`, `raddle doctor`."""

from __future__ import annotations

import os
import sys

# The other modules are imported by what needs them: `raddle run` is to start the program soon.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import NoReturn

__all__ = ["command", "main"]

_OK = 0
"""The exit code. argparse has 2 for a command line that makes no sense; each command says what its others mean."""

_RUN_USAGE = "raddle run [OPTIONS] (PROGRAM | -m MODULE | -c CODE) [ARGUMENTS]"
_RUN = """\
Runs a Python program as it is, watches it and all that it starts, and says afterwards what its threads and processes did
with their time, who waited for whom, what is wrong, and what would make it faster."""


def command() -> NoReturn:
    """Runs the command line of this process, and ends it."""
    code = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        pass  # the reader, `head` for one, has enough
    except OSError as error:
        os.write(2, f"raddle: not all could be written: {error.strerror}\n".encode())
        code = code or 1
    # To take the interpreter and what it holds apart would take as long as a look at a process.
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["run"]:
            return _run(words[1:])
        if words[:1] == ["dump"] and len(words) == 2 and _is_pid(words[1]):
            # Without a parser: to have one takes a quarter of the time of a look at two hundred threads.
            from . import _dump

            return _dump.dump(_dump.Options(int(words[1])))
        options = _parser().parse_args(words)
        do: Callable[[argparse.Namespace], int] = options.do
        return do(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, `head` for one, has enough.
        from ._terminal import give_up_output

        give_up_output()
        return _OK


def _run(words: list[str]) -> int:
    from . import _run as module

    own, program = module.split(words)
    options = module.Options()
    if own or not program:
        # Its own parser alone: all of them take as long as a short program.
        import argparse

        parser = argparse.ArgumentParser(
            prog="raddle run", usage=_RUN_USAGE, description=_RUN, argument_default=argparse.SUPPRESS
        )
        _add_run_options(parser)
        parser.parse_args(own, namespace=options)
        if options.explain is not None:
            return module.explain(options.explain)
        if not program:
            parser.error("which program? raddle run [OPTIONS] PROGRAM [ARGUMENTS]")
    return module.run(options, program)


def _view(options: argparse.Namespace) -> int:
    from ._view import view

    return view(options.session, options.port, browser=not options.no_browser)


def _parser() -> argparse.ArgumentParser:
    import argparse

    from . import _doctor, _dump, _top

    parser = argparse.ArgumentParser(prog="raddle", description="See what a Python program does.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _top.add_parser(commands, _pid, _seconds)
    _doctor.add_parser(commands)
    _add_view(commands)
    _dump.add_parser(commands, _pid, _seconds)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    import argparse

    command = commands.add_parser(
        "run",
        help="run a program, and say what its threads and processes did",
        usage=_RUN_USAGE,
        description=_RUN,
        argument_default=argparse.SUPPRESS,
    )
    _add_run_options(command)


def _add_run_options(command: argparse.ArgumentParser) -> None:
    # The defaults are those of `_run.Options`.
    command.add_argument(
        "--output", metavar="DIRECTORY", help="where the session is kept (default: PROGRAM.raddle here)"
    )
    command.add_argument(
        "--safe", action="store_true", help="watch from outside only: nothing is loaded into the program"
    )
    command.add_argument("--on-deadlock", choices=["report", "abort"], help="abort: end the program when there is one")
    command.add_argument(
        "--fail-on", type=_findings, metavar="FINDING,…", help="end with exit code 3 if there is one of these findings"
    )
    command.add_argument("--json", metavar="FILE", help="write what was found as JSON there too; - is standard output")
    command.add_argument(
        "--sarif", metavar="FILE", help="the same as SARIF, which systems for continuous integration show"
    )
    command.add_argument("--explain", metavar="FINDING", help="show the page about a finding, and run nothing")
    command.add_argument("--python", metavar="INTERPRETER", help="the Python to run it with (default: this one)")


def _add_view(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "view",
        help="show a session's report in the browser",
        description="Serves the report of a session that `raddle run` has left, to this machine only, and opens it in the browser. Ctrl-C ends it.",
    )
    command.add_argument("session", metavar="SESSION", help="the session's directory, or the report in it")
    command.add_argument(
        "--port", type=_port, default=0, metavar="PORT", help="where to listen (default: any port that is free)"
    )
    command.add_argument("--no-browser", action="store_true", help="open no browser; the address is printed anyway")
    command.set_defaults(do=_view)


def _port(word: str) -> int:
    import argparse

    if not word.isascii() or not word.isdigit() or int(word) >= 2**16:
        raise argparse.ArgumentTypeError(f"{word!r} is not a port: a number up to 65535, or 0 for any that is free")
    return int(word)


def _findings(text: str) -> list[str]:
    import argparse

    from ._raddle import explain_finding

    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        # One that is misspelt would never be found.
        if explain_finding(word) is None:
            raise argparse.ArgumentTypeError(f"there is no finding {word!r}")
    return words


def _is_pid(word: str) -> bool:
    # Fits a C int, as every number of a process does.
    return word.isascii() and word.isdigit() and len(word) <= 10 and 0 < int(word) < 2**31


def _pid(word: str) -> int:
    import argparse

    if not _is_pid(word):
        raise argparse.ArgumentTypeError(f"{word!r} is not the number of a process")
    return int(word)


def _seconds(word: str) -> float:
    import argparse
    import threading

    try:
        seconds = float(word)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{word!r} is not a positive number of seconds")
    return seconds
