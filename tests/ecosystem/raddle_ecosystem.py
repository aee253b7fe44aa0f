"""A plugin of pytest: puts Raddle into a suite, leaves out what is listed, and writes what happened as JSON.

Started by `run.py`, which says what to do in the environment variable `RADDLE_ECOSYSTEM`.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import json
import os

import pytest
from _pytest.runner import runtestprotocol
from suites import BACKEND, EXECUTORS

TASK = json.loads(os.environ["RADDLE_ECOSYSTEM"])

passed: list[str] = []
failed: list[tuple[str, str]] = []
skipped: list[tuple[str, str]] = []
left_out: dict[str, list[str]] = {skip: [] for skip in TASK["skips"]}
again: list[tuple[str, str]] = []
names: dict[str, str] = {}
calls = 0


def enter_as_backend() -> None:
    """Has the tests of joblib that run once for each backend run for ours, too, and counts what it is given to do."""
    module = importlib.import_module("joblib.test.test_parallel")
    from joblib import parallel

    if parallel.DEFAULT_BACKEND != "raddle":
        raise RuntimeError("raddle is not the default backend of joblib")
    # The decorators of the tests hold these very lists, and are asked for their values when tests are collected.
    for backends in (module.PROCESS_BACKENDS, module.PARALLEL_BACKENDS, module.all_backends_for_context_manager):
        backends.append("raddle")
    from raddle.joblib import RaddleBackend

    submit = RaddleBackend.submit

    @functools.wraps(submit)
    def counting(*args, **options):
        global calls
        calls += 1
        return submit(*args, **options)

    RaddleBackend.submit = counting


def enter_as_executors() -> None:
    """Exchanges the executors of `concurrent.futures`, and has tests about pools of the user's run for `raddle.Pool`, too."""
    # Before anything of the package is imported: what that imports from concurrent.futures is then ours.
    importlib.import_module("raddle_conformance")
    import raddle

    for name, kind in TASK["kinds"].items():
        for function in vars(importlib.import_module(name)).values():
            for mark in getattr(function, "pytestmark", []):
                if mark.name == "parametrize" and mark.args[0] == "pool_typ":
                    mark.args[1].append(pytest.param(functools.partial(raddle.Pool, kind), id="raddle.Pool"))


def pytest_configure(config: pytest.Config) -> None:
    pytest.register_assert_rewrite(*TASK["modules"])
    {BACKEND: enter_as_backend, EXECUTORS: enter_as_executors, None: lambda: None}[TASK["door"]]()


def name_of(item: pytest.Item) -> str:
    """`module::test[parameters]`, without the packages."""
    return f"{item.module.__name__.rpartition('.')[2]}::{item.name}"  # type: ignore[attr-defined]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, dropped = [], []
    for item in items:
        names[item.nodeid] = name = name_of(item)
        # A skip names a test with its parameters, or without: then all of it.
        hits = [skip for skip in left_out if skip in (name, name.partition("[")[0])]
        for skip in hits:
            left_out[skip].append(name)
        wanted = not TASK["only"] or any(fnmatch.fnmatchcase(name, f"*{pattern}*") for pattern in TASK["only"])
        (kept if wanted and not hits else dropped).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> object:
    """Gives a test of joblib's other backends that fails a second chance: one that gave Raddle nothing to do says nothing of it."""
    if TASK["door"] != BACKEND or "raddle" in item.name:
        return None
    before = calls
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if any(report.failed for report in reports) and calls == before:
        again.append((name_of(item), "\n".join(report.longreprtext for report in reports if report.failed)))
        item._initrequest()  # type: ignore[attr-defined]  # as it was when it was collected
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        failed.append((report.nodeid, report.longreprtext))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = names.get(report.nodeid, report.nodeid)
    if report.failed:
        failed.append((f"{name} ({report.when})" if report.when != "call" else name, report.longreprtext))
    elif report.skipped:
        reason = getattr(report, "wasxfail", None) or (report.longrepr[2] if report.longrepr else "")
        skipped.append((name, str(reason)))
    elif report.when == "call":
        passed.append(name)


def pytest_sessionfinish() -> None:
    answer = {"passed": passed, "failed": failed, "skipped": skipped, "left_out": left_out, "again": again}
    answer["calls"] = calls
    with open(TASK["result"], "w", encoding="utf-8") as out:
        json.dump(answer, out)
