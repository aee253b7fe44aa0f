"""Runs one test file in a session of processes of its own and says what happened in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from house import HERE, LOGS, ROOT

if TYPE_CHECKING:
    from house import Suite
    from interpreters import Interpreter
    from skips import Skip

GRACE = 10.0
"""Seconds that processes of a test file may outlive it: helpers of `multiprocessing` end a moment after their parent."""

NOT_INHERITED = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}


@dataclass
class Report:
    """What one test file did."""

    file: str
    seconds: float = 0.0
    passed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    slow: list[tuple[str, float]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    pools: int = 0
    processes: int = 0

    @property
    def ok(self) -> bool:
        return not self.failed and not self.troubles

    @property
    def ours(self) -> int:
        return sum(map(len, self.left_out.values()))

    def line(self) -> str:
        text = (
            f"  {'ok  ' if self.ok else 'FAIL'} {self.file:<26} {self.passed:>4} passed  {len(self.failed):>3} failed"
            f"  {len(self.skipped):>3} skipped by CPython  {self.ours:>3} by us  {self.seconds:>6.1f} s"
        )
        return text + (f"   {self.pools} pools in {self.processes} processes" if self.pools else "")


def session_members(session: int) -> list[tuple[int, str]]:
    """The living processes of a session: pid and command line."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                members.append((int(entry.name), command[:120]))
    return members


def kill(session: int) -> None:
    """Ends every process of a session at once."""
    for pid, _ in session_members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(session: int) -> list[str]:
    """Ends what is left of a session after a moment of grace; returns what it was."""
    deadline = time.monotonic() + GRACE
    while (left := session_members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(session)
    return [f"process {pid} outlived the tests: {command}" for pid, command in left]


def show_stacks(pid: int, session: int) -> None:
    """Has a process write the stacks of its threads to the log and end; one without a fault handler only ends."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGABRT)
        os.kill(pid, signal.SIGCONT)
    until = time.monotonic() + 2
    while time.monotonic() < until and any(pid == member for member, _ in session_members(session)):
        time.sleep(0.02)


def cut(child: subprocess.Popen[bytes]) -> str:
    """Ends a session that hangs, with the stacks of its main process and of what was forked from it in the log."""
    members = session_members(child.pid)
    # The main process is held while the others end, so that its own stacks show the hang and not what came after;
    # were it ended first, its workers might end with it, and show nothing.
    child.send_signal(signal.SIGSTOP)
    for pid, _ in members:
        if pid != child.pid:
            show_stacks(pid, child.pid)
    show_stacks(child.pid, child.pid)
    kill(child.pid)
    child.wait()
    return "did not end; its processes were:\n" + "\n".join(f"    {pid} {command}" for pid, command in members)


def read_proof(path: Path, report: Report) -> None:
    """Holds the patcher's log against what has to be true of it."""
    events = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    made = [event for event in events if event[0] == "ours"]
    report.pools, report.processes = len(made), len({event[-1] for event in made})
    if not any(event[0] == "patched" for event in events):
        report.troubles.append("the patch never took place: the standard library's classes were tested")
    for event in events:
        if event[0] == "stdlib":
            report.troubles.append(f"process {event[2]} made the standard library's {event[1]}")


def run_session(command: list[str], environment: dict[str, str], output: Path, timeout: float) -> list[str]:
    """Runs a command in a session and an empty directory of its own; returns what was wrong with how it ended."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch, output.open("wb") as log:
        child = subprocess.Popen(
            command,
            cwd=scratch,
            env=environment | {"TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            return [f"after {timeout:.0f} s it {cut(child)}"]
        except BaseException:
            kill(child.pid)
            raise
        return end(child.pid) + ([f"ended with status {status}"] if status else [])


def run_file(
    python: Path,
    interpreter: Interpreter,
    suite: Suite,
    file: str,
    *,
    face: str,
    skips: list[Skip],
    only: list[str],
    timeout: float,
) -> Report:
    """Runs one test file against a face."""
    report = Report(file)
    logs = LOGS / interpreter.full
    logs.mkdir(parents=True, exist_ok=True)
    output, proof, answer = (logs / f"{file}.{kind}" for kind in ("log", "proof", "json"))
    for old in (output, proof, answer):
        old.unlink(missing_ok=True)
    command = [str(python), "-P", str(HERE / "one_file.py"), suite.module(file), "--result", str(answer)]
    command += [word for pattern in suite.parts for word in ("--part", pattern)]
    command += [word for skip in skips for word in ("--skip", skip.test)]
    command += [word for pattern in only for word in ("--only", pattern)]
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    environment |= {
        "RADDLE_CONFORMANCE_LOG": str(proof),
        "RADDLE_CONFORMANCE_PACKAGE": suite.package,
        "RADDLE_CONFORMANCE_FACE": face,
    }
    began = time.monotonic()
    report.troubles += run_session(command, environment, output, timeout)
    report.seconds = time.monotonic() - began
    if answer.exists():
        read_answer(json.loads(answer.read_text()), report)
    elif not report.troubles:
        report.troubles.append("wrote no result")
    read_proof(proof, report)
    if report.troubles:
        tail = output.read_text(errors="replace").splitlines()[-100:]
        report.troubles.append(f"the end of {output.relative_to(ROOT)}:\n" + "\n".join(f"    {line}" for line in tail))
    return report


def read_answer(answer: dict[str, object], report: Report) -> None:
    """Takes over what `one_file.py` wrote."""
    if answer["error"]:
        report.troubles.append(str(answer["error"]))
        return
    report.passed = answer["passed"]  # type: ignore[assignment]
    report.failed = answer["failed"]  # type: ignore[assignment]
    report.skipped = answer["skipped"]  # type: ignore[assignment]
    report.slow = answer["slow"]  # type: ignore[assignment]
    report.left_out = answer["left_out"]  # type: ignore[assignment]
    if answer["altered"]:
        report.troubles.append("a test left threads or processes behind (see `Warning --` in the log)")
