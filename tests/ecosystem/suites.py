"""The packages whose own tests are run, and how Raddle gets in there."""

from __future__ import annotations

from dataclasses import dataclass, field

BACKEND = "Raddle is registered as a backend of joblib in every process, and is the default one"
EXECUTORS = "the executors of concurrent.futures are those of raddle.futures"


@dataclass(frozen=True)
class Suite:
    """Test modules of an installed package."""

    name: str
    modules: tuple[str, ...]
    door: str
    """How Raddle gets in: `BACKEND` or `EXECUTORS`."""

    kinds: dict[str, str] = field(default_factory=dict)
    """The kind of `raddle.Pool` that tests with a parameter `pool_typ` take besides, by module."""


SUITES = (
    Suite("joblib", ("joblib.test.test_parallel",), BACKEND),
    Suite(
        "dask",
        ("dask.tests.test_threaded", "dask.tests.test_multiprocessing", "dask.bag.tests.test_bag"),
        EXECUTORS,
        {"dask.tests.test_threaded": "thread", "dask.tests.test_multiprocessing": "process"},
    ),
)
