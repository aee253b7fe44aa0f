"""Programs that run with the recorder of `raddle run` in them, and what it has written."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import sessions
from raddle._raddle import read_events

if TYPE_CHECKING:
    from pathlib import Path

needs_recorder = pytest.mark.skipif(
    not (3, 11) <= sys.version_info[:2] <= (3, 14) or not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="the recorder knows 3.11 to 3.14 with a GIL",
)

MANY_WAITS = """
    import threading
    def ping(mine, other, n):
        for _ in range(n):
            mine.acquire(); other.release()
    a, b = threading.Lock(), threading.Lock()
    b.acquire()
    thread = threading.Thread(target=ping, args=(b, a, 5000))
    thread.start(); ping(a, b, 5000); thread.join()
"""
"""More than the smallest of buffers has room for."""


class Ran:
    """A program that has run, and what was recorded of it."""

    def __init__(self, process: subprocess.CompletedProcess[str], directory: Path) -> None:
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr
        self.files = sorted(directory.glob("*.events"))
        self.session: dict[str, Any] = sessions.session_of(read_events(directory))

    @property
    def process(self) -> dict[str, Any]:
        return self.session["processes"][0]

    def facts(self, kind: str) -> list[dict[str, Any]]:
        return [fact for fact in self.session["facts"] if fact["kind"] == kind]

    def line(self, place: int | None) -> int | None:
        return None if place is None else self.session["places"][place]["line"]

    def lines(self, fact: dict[str, Any]) -> list[int | None]:
        return [self.line(label["place"]) for label in fact["labels"]]


class Runner:
    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.session = tmp_path / "session"
        self.session.mkdir()
        self.home = tmp_path / "program"
        self.home.mkdir()

    def write(self, source: str, name: str = "job.py") -> Path:
        path = self.home / name
        path.write_text(textwrap.dedent(source).lstrip())
        return path

    def environment(self, *, record: bool, **more: str) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RADDLE")}
        return environment | ({"RADDLE_SESSION": str(self.session)} if record else {}) | more

    def start(self, path: Path, *options: str, record: bool = True, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *options, path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(record=record, **more),
        )

    def run(self, source: str, *options: str, record: bool = True, **more: str) -> Ran:
        process = self.start(self.write(source), *options, record=record, **more)
        out, err = process.communicate(timeout=50)
        return Ran(subprocess.CompletedProcess([], process.returncode, out, err), self.session)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)
