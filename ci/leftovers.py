#!/usr/bin/env python3
"""Which processes of a test run are left when it has ended? Names them, ends them, and fails if there were any.

    ci/leftovers.py RUN [SECONDS]

A process belongs to the run if its environment has RADDLE_TEST_RUN=RUN: its own children and theirs have inherited it, whoever
adopted them. One that is just about to end is given some seconds, five if nothing else is said.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path


def processes_of(run: str) -> list[int]:
    """The living ones, without this one. Zombies have no environment any more."""
    mark = f"RADDLE_TEST_RUN={run}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return sorted(found)


def described(pid: int) -> str:
    """What it is, which state it is in, and where each of its threads waits."""
    with contextlib.suppress(OSError):
        here = Path("/proc", str(pid))
        command = (here / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        fields = (here / "stat").read_text().rpartition(")")[2].split()
        threads = [
            f"    thread {(task / 'comm').read_text().strip()}: {(task / 'wchan').read_text() or 'running'}"
            for task in (here / "task").iterdir()
        ]
        return "\n".join([f"  {pid} (state {fields[0]}, parent {fields[1]}): {command[:200]}", *threads])
    return f"  {pid}: it has just ended"


def main(run: str, patience: str = "5") -> int:
    deadline = time.monotonic() + float(patience)
    while left := processes_of(run):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    else:
        return 0
    print(f"error: still running after the tests: {len(left)}", file=sys.stderr)
    for pid in left:
        print(described(pid), file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
