"""What the Python tests share: the kinds of workers, gates to hold calls back, and scripts run as a user would."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

# Worker processes import what they are to run by name: `calls` must be importable there, as a user's module is.
HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)

import raddle
import raddle.futures
from calls import Gate

# Started in the background by a script, this process ignores Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

KINDS = ["thread", "process"]
EXECUTORS = ["thread-executor", "fork-executor", "spawn-executor", "forkserver-executor"]


class Lane:
    """One way to run calls: a pool of one kind, or a drop-in executor with one start method."""

    def __init__(self, name):
        self.name = name
        self.is_pool = name in KINDS
        self.in_processes = name not in ("thread", "thread-executor")
        self.method = name.removesuffix("-executor")

    def make(self, workers=2, **options):
        """A pool or executor. What it is given besides, it is given."""
        if self.is_pool:
            return raddle.Pool(self.name, workers, **options)
        if not self.in_processes:
            return raddle.futures.ThreadPoolExecutor(workers, **options)
        context = multiprocessing.get_context(self.method)
        return raddle.futures.ProcessPoolExecutor(workers, context, **options)

    def __repr__(self):
        return self.name


@pytest.fixture(params=KINDS)
def kind(request):
    """Each kind of `raddle.Pool`."""
    return request.param


@pytest.fixture
def pool(kind):
    """A pool of each kind, for tests that leave it whole."""
    with raddle.Pool(kind, workers=2) as pool:
        yield pool


@pytest.fixture(params=KINDS + EXECUTORS)
def lane(request):
    """Each way to run calls."""
    return Lane(request.param)


@pytest.fixture(params=["process", "fork-executor", "spawn-executor", "forkserver-executor"])
def process_lane(request):
    """Each way to run calls in processes."""
    return Lane(request.param)


_shared = {}


@pytest.fixture
def runner(lane):
    """A pool or executor of each sort, made once and used by all tests that leave it whole."""
    if lane.name not in _shared:
        _shared[lane.name] = lane.make()
    return _shared[lane.name]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    """Once all is said, the interpreter ends soon; if not, it says where its threads are, and fails."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)


@pytest.fixture(scope="session", autouse=True)
def _shut_down_shared():
    yield
    while _shared:
        _shared.popitem()[1].shutdown()


@pytest.fixture
def raises(monkeypatch):
    """Whoever closes a circle gets `DeadlockError`."""
    monkeypatch.setattr(raddle, "on_deadlock", "raise")


@pytest.fixture
def alarms(monkeypatch):
    """What was found, and nothing else is done about it."""
    found = []
    monkeypatch.setattr(raddle, "on_deadlock", found.append)
    return found


@pytest.fixture
def gate(tmp_path):
    """A gate; whoever still waits at it when the test ends is let through."""
    gate = Gate(tmp_path)
    yield gate
    gate.open()


@dataclass
class Ended:
    """How a script ended."""

    code: int
    out: str
    err: str


def _environment():
    paths = [HERE, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("PYTHONUNBUFFERED", None)  # buffers are what users have
    return environment


class Script:
    """A program of its own, started as a user would start it."""

    def __init__(self, path):
        self.path = path
        self.child = None

    def start(self, *arguments, stdin=None):
        """Starts it as the leader of a new process group, as a shell does."""
        self.child = subprocess.Popen(
            [sys.executable, self.path, *map(str, arguments)],
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env=_environment(),
        )
        return self.child

    def finish(self, timeout=30):
        """Waits for its end, of all of it: whoever keeps its pipes open keeps this waiting."""
        assert self.child is not None
        try:
            out, err = self.child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.child.communicate()
            raise AssertionError(f"the script did not end within {timeout} s\n{out}\n{err}") from None
        return Ended(self.child.returncode, out, err)

    def kill(self):
        """Ends it with everything it has started in its group."""
        if self.child is not None:
            try:
                os.killpg(self.child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def run(self, *arguments, timeout=30):
        """Starts it and waits for its end."""
        self.start(*arguments)
        return self.finish(timeout)


@pytest.fixture
def script(tmp_path):
    """Makes scripts from source text, and leaves none running."""
    made = []

    def make(source):
        path = tmp_path / f"script{len(made)}.py"
        path.write_text(textwrap.dedent(source))
        made.append(Script(path))
        return made[-1]

    yield make
    for one in made:
        if one.child is not None and one.child.poll() is None:
            one.kill()
            one.child.communicate()
