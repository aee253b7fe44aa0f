"""Runs one test module of CPython's suite in this process and writes what happened as JSON.

Started by `run.py` with the interpreter under test. The output for people (`unittest`'s own, verbose) goes to standard
error. On SIGABRT the interpreter prints the stacks of all threads, which is how a hang is shown.
"""

from __future__ import annotations

import argparse
import faulthandler
import fnmatch
import json
import sys
import time
import traceback
import unittest
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator


SLOW = 10.0
"""Seconds from which a test is named: it may have passed only because some wait of its own ran out."""


def each_test(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from each_test(item)
        else:
            yield item


def short_id(test: unittest.TestCase) -> str:
    """`Class.method`."""
    return ".".join(test.id().split(".")[-2:])


def split(suite: unittest.TestSuite, patterns: list[str]) -> tuple[unittest.TestSuite, dict[str, list[str]]]:
    """The suite without the tests that match, and what each pattern matched."""
    kept = unittest.TestSuite()
    matched: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    for test in each_test(suite):
        name = short_id(test)
        hits = [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]
        for pattern in hits:
            matched[pattern].append(name)
        if not hits:
            kept.addTest(test)
    return kept, matched


def only(suite: unittest.TestSuite, patterns: list[str]) -> unittest.TestSuite:
    """The tests that match; all of them if there is nothing to match."""
    if not patterns:
        return suite
    left, _ = split(suite, patterns)
    dropped = {test.id() for test in each_test(left)}
    return unittest.TestSuite(test for test in each_test(suite) if test.id() not in dropped)


class Result(unittest.TextTestResult):
    """Counts what passed (`testsRun` counts skipped tests in some versions of CPython and not in others) and takes times."""

    passed = 0
    slow: ClassVar[list[tuple[str, float]]] = []
    _began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        self._began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        took = time.monotonic() - self._began
        if took >= SLOW:
            Result.slow.append((short_id(test), took))
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        Result.passed += 1
        super().addSuccess(test)


def environment_was_altered() -> bool:
    """Whether the suite's own checks found threads or processes left over by a test."""
    support = sys.modules.get("test.support")
    return bool(getattr(support, "environment_altered", False))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--result", required=True, help="where to write the JSON")
    parser.add_argument("--part", action="append", default=[], help="what of the module counts; all without it")
    parser.add_argument("--skip", action="append", default=[], help="Class.method, the class with wildcards")
    parser.add_argument("--only", action="append", default=[], help="run the tests whose Class.method matches")
    options = parser.parse_args()
    faulthandler.enable()
    began = time.monotonic()
    answer: dict[str, object] = {"error": None}
    try:
        suite = unittest.defaultTestLoader.loadTestsFromName(options.module)
        suite = only(suite, options.part)
        suite, matched = split(suite, options.skip)
        suite = only(suite, options.only)
        result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)  # type: ignore[arg-type]
    except BaseException:
        answer["error"] = traceback.format_exc()
    else:
        answer |= {
            "passed": Result.passed,
            "slow": Result.slow,
            "failed": [[test.id(), text] for test, text in result.failures + result.errors]
            + [[test.id(), "unexpected success"] for test in result.unexpectedSuccesses],
            "skipped": [[test.id(), reason] for test, reason in result.skipped],
            "left_out": matched,
            "altered": environment_was_altered(),
        }
    answer["seconds"] = time.monotonic() - began
    with open(options.result, "w", encoding="utf-8") as out:
        json.dump(answer, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
