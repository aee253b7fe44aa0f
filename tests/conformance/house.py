"""Where things are, and the words that all parts of the runner share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOGS = ROOT / "test-results" / "conformance"
BUILD = ROOT / "target" / "conformance"


@dataclass(frozen=True)
class Suite:
    """The tests of one module of the standard library, and what of ours stands in for it."""

    source: str
    """The package or file of `test` that has the tests."""

    package: str
    """The module that is patched."""

    face: str
    """What is tested."""

    baseline: str
    """The standard library itself as a face: what fails with it is not Raddle's doing."""

    files: tuple[str, ...] = ()
    """Modules of `patch/` that are run, where the tests are made from a body by whoever imports it."""

    parts: tuple[str, ...] = ()
    """`Class.method` patterns of what is run; empty means all."""

    def module(self, file: str) -> str:
        """What to import for a file."""
        if self.files:
            return f"raddle_conformance_{file}"
        return f"test.{file}" if file == self.source else f"test.{self.source}.{file}"


FUTURES = Suite("test_concurrent_futures", "concurrent.futures", "raddle.futures", "raddle_conformance_baseline")
POOLS = Suite(
    "_test_multiprocessing",
    "multiprocessing.pool",
    "raddle.multiprocessing.pool",
    "raddle_conformance_baseline_pools",
    files=("pools_fork", "pools_spawn", "pools_forkserver"),
    parts=(
        "With*TestPool*.*",
        "TestPoolNotLeakOnFailure.*",
        "TestInitializers.test_pool_initializer",
        "TestSyncManagerTypes.test_pool",
        "TestStdinBadfiledescriptor.test_pool_in_process",
        "*.test_large_pool",
    ),
)
THREADS = Suite(
    "test_threading",
    "threading",
    "raddle.threading",
    "raddle_conformance_baseline_threading",
    files=("threading", "thread", "threading_local", "sched"),
)
QUEUES = Suite("test_queue", "queue", "raddle.queue", "raddle_conformance_baseline_queue", files=("queue",))
SUITES = (FUTURES, POOLS, THREADS, QUEUES)


class SetupError(Exception):
    """The run could not be set up; the message says why and what to do."""
