"""Programs that are observed, beside themselves: `raddle run` and other observers, and looks into a process of many threads.

The programs are the files in `observed`. Each is told how much it has to do.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from sizes import Effort, Numbers, again

if TYPE_CHECKING:
    from contenders import Contender

PROGRAMS = Path(__file__).resolve().parent / "observed"
BIN = Path(sys.executable).parent
QUICK_SHARE = 20
"""A quick measurement does one part of so many."""

Command = list[str]


@dataclass(frozen=True)
class Observer:
    """The command by which something is done."""

    run: Callable[[Command], Command]
    """Takes a Python program with its arguments."""

    dump: Callable[[int], Command] | None = None
    """Takes the number of a process."""


def command(*words: str) -> Command:
    """A command of the environment that the benchmark runs in."""
    return [str(BIN / words[0]), *words[1:]]


def plain(workers: int) -> Observer:
    return Observer(lambda program: [sys.executable, *program])


def raddle(workers: int, *options: str) -> Observer:
    return Observer(
        lambda program: command("raddle", "run", *options, *program), lambda pid: command("raddle", "dump", str(pid))
    )


def viztracer(workers: int) -> Observer:
    return Observer(lambda program: command("viztracer", *program))


def py_spy(workers: int) -> Observer:
    return Observer(
        lambda program: command("py-spy", "record", "--output", "profile.svg", "--", sys.executable, *program),
        lambda pid: command("py-spy", "dump", "--pid", str(pid)),
    )


def done(words: Command) -> str:
    """Runs a command; what it has printed. What goes wrong is told in one line."""
    run = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if run.returncode:
        said = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
        named = [line for line in said if "error" in line.lower()]
        raise SystemExit([f"ended with status {run.returncode}", *said[-1:], *named[:1]][-1])
    return run.stdout


def amount(much: int, effort: Effort) -> str:
    return str(much if effort.seconds >= Effort().seconds else much // QUICK_SHARE)


def program(name: str, much: int) -> Callable[[Contender, Effort], Numbers]:
    """A program from its start until its observer has ended, too."""

    def measure(contender: Contender, effort: Effort) -> Numbers:
        words = contender.open(0).run([str(PROGRAMS / f"{name}.py"), amount(much, effort)])
        began = perf_counter()
        done(words)
        return {"median": perf_counter() - began}

    return measure


def loop(much: int) -> Callable[[Contender, Effort], Numbers]:
    """What the program that takes a lock again and again says about itself."""

    def measure(contender: Contender, effort: Effort) -> Numbers:
        said = done(contender.open(0).run([str(PROGRAMS / "lock_loop.py"), amount(much, effort)]))
        # Some observers print, too.
        numbers = [line for line in said.splitlines() if line.replace(".", "").replace("e-", "").isdigit()]
        return {"median": float(numbers[0])}

    return measure


def empty(contender: Contender, effort: Effort) -> Numbers:
    """A program that does nothing."""
    words = contender.open(0).run([str(PROGRAMS / "empty.py")])
    return {"median": statistics.median(again(effort.seconds, lambda: done(words)))}


def dump(contender: Contender, effort: Effort) -> Numbers:
    """A look into a process of two hundred threads that wait, from the start of the command to its end."""
    looks = contender.open(0).dump
    assert looks is not None, f"{contender.name} looks into processes"
    words = [sys.executable, str(PROGRAMS / "many_threads.py")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as seen:
        assert seen.stdout is not None
        assert seen.stdout.readline() == "ready\n"
        times = again(effort.seconds, lambda: done(looks(seen.pid)))
        seen.kill()
    return {"median": statistics.median(times)}
