"""`raddle dump PID`: what the threads of a running process do, once or again and again."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["Options", "add_parser", "dump"]

_OK, _FAILED, _FOUND = 0, 1, 3

_EPILOG = """\
exit code: 0 the process was looked into; 1 it could not be; 2 the command line makes no sense;
           3 a deadlock was found and --fail-on deadlock was given
"""


class Options:
    """What the command line asks for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.tree = False
        self.json = False
        self.watch: float | None = None
        self.fail_on: str | None = None
        self.colour = "auto"


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    pid: Callable[[str], int],
    seconds: Callable[[str], float],
) -> None:
    """Adds the command to the command line."""
    import argparse

    shown = "the threads of a running Python process: their stacks, what they wait for, who holds it; deadlocks"
    command = commands.add_parser(
        "dump",
        help=shown,
        description=f"Shows {shown}. The process is not stopped, and needs no Raddle in it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("pid", type=pid, metavar="PID", help="the number of the process")
    command.add_argument("--tree", action="store_true", help="look into the Python processes that it has started, too")
    command.add_argument("--json", action="store_true", help="write one line of JSON instead of text")
    command.add_argument("--watch", type=seconds, metavar="SECONDS", help="look again and again, every so many seconds")
    command.add_argument("--fail-on", choices=["deadlock"], help="end with exit code 3 if there is one")
    command.add_argument(
        "--colour",
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        help="colours in the text; auto: if it goes to a terminal and NO_COLOR is not set",
    )
    command.set_defaults(do=dump)


def dump(options: Options | argparse.Namespace) -> int:
    """Looks into a process, once or again and again; returns the exit code."""
    # Whoever only asks for help needs no extension.
    from ._raddle import dump as look
    from ._terminal import wants_colour, write_out

    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    colour = options.colour == "always" or (options.colour == "auto" and is_terminal and wants_colour(sys.stdout))
    code, was_seen = _OK, False
    while True:
        kind, said = look(options.pid, tree=options.tree, as_json=options.json, colour=colour)
        if kind in ("seen", "deadlock"):
            was_seen = True
            if options.watch is not None and is_terminal and not options.json:
                said = f"\x1b[H\x1b[2J{said}"
            elif options.watch is not None and not options.json:
                said = f"{said}\n"
            if kind == "deadlock" and options.fail_on == "deadlock":
                code = _FOUND
        elif was_seen and kind in ("ended", "no-such-process"):
            # Watching it until its end is what was asked for.
            if not options.json:
                sys.stderr.write(f"process {options.pid} has ended\n")
            return code
        elif options.json:
            code = _FAILED
        else:
            sys.stderr.write(f"raddle: {said}\n")
            return _FAILED
        # A name in the other process may hold what this terminal's encoding has not.
        encoding = "utf-8" if options.json or sys.stdout is None else sys.stdout.encoding
        failure = write_out(said.encode(encoding, "backslashreplace") + (b"\n" if options.json else b""))
        if failure is not None:
            sys.stderr.write(f"raddle: {failure}\n")
            return _FAILED
        if options.watch is None or code == _FAILED:
            return code
        import threading  # takes as long as a look

        threading.Event().wait(options.watch)
