"""Runs CPython's own tests against Raddle's drop-ins.

`test.test_concurrent_futures` is run against `raddle.futures`, and what `test._test_multiprocessing` has about pools against
`raddle.multiprocessing.pool`. For each interpreter that ships one of them:

1. a virtual environment `.venv-conformance-X.Y` is made, with Raddle from a wheel built for that interpreter and the
   patcher of `patch/` in its site-packages;
2. each test file runs in a session of processes of its own, with a time limit; at the limit the stacks of all its
   threads are shown and the whole session is ended;
3. the patcher's log proves, per file, that Raddle's classes stood in for the standard library's in every process.

One line is printed per file and a total at the end. The exit status is 0 when every test of every interpreter passed
or is a listed skip, 1 when something failed, 2 when the run could not be set up.

Environment: `PYTHONS` names the interpreters (paths or command names) instead of looking for them.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from typing import TYPE_CHECKING

from environments import make_environment
from house import HERE, SUITES, SetupError, Suite
from interpreters import Interpreter, found_interpreters, named_interpreters
from session import Report, run_file
from skips import Skip, load_skips

if TYPE_CHECKING:
    from pathlib import Path

LATER = {"test_interpreter_pool": "Raddle has no interpreter pool yet"}
"""Files of the suite about a class for which Raddle has no drop-in."""


def wanted(interpreter: Interpreter, suite: Suite, options: argparse.Namespace) -> list[str]:
    """The files of a suite that are to be run."""
    return [file for file in interpreter.files[suite] if not options.files or file in options.files]


def run_suite(
    python: Path, interpreter: Interpreter, suite: Suite, options: argparse.Namespace, skips: list[Skip]
) -> list[Report]:
    """Runs every wanted file of one interpreter's suite and prints as it goes."""
    face = suite.baseline if options.baseline else suite.face
    print(f"\nCPython {interpreter.full} ({interpreter.path}) against {face}", flush=True)
    reports = []
    for file in wanted(interpreter, suite, options):
        if file in LATER:
            print(f"  --   {file:<26} not run: {LATER[file]}")
            continue
        concerned = [skip for skip in skips if skip.concerns(file, interpreter.version)]
        report = run_file(
            python,
            interpreter,
            suite,
            file,
            face=face,
            skips=concerned,
            only=options.only,
            timeout=options.timeout,
        )
        for pattern, tests in report.left_out.items():
            if not tests:
                report.troubles.append(f"skips.toml lists {pattern}, which is no test of this file")
        print(report.line(), flush=True)
        for name, text in report.failed:
            print(f"\n    {name}\n" + "\n".join(f"      {line}" for line in text.splitlines()) + "\n", flush=True)
        for name, seconds in report.slow:
            print(f"    slow: {name} took {seconds:.1f} s", flush=True)
        for trouble in report.troubles:
            print(f"    {trouble}", flush=True)
        reports.append(report)
    return reports


def absent(skips: list[Skip], interpreter: Interpreter) -> list[str]:
    """Skips whose file is in none of the suites."""
    files = {file for suite in SUITES for file in interpreter.files[suite]}
    if any(interpreter.files[suite] in ((), (suite.source,)) for suite in SUITES):
        return []  # one is missing, or in a single file
    return [
        f"skips.toml names {skip.file}, which is no file of the suites"
        for skip in skips
        if skip.holds_for(interpreter.version) and not any(fnmatch.fnmatchcase(file, skip.file) for file in files)
    ]


def run(options: argparse.Namespace) -> int:
    skips = [] if options.baseline else load_skips(HERE / "skips.toml")
    names = os.environ.get("PYTHONS", "").split()
    interpreters = named_interpreters(names) if names else found_interpreters()
    unknown = set(options.files).difference(
        file for interpreter in interpreters for files in interpreter.files.values() for file in files
    )
    if unknown:
        raise SetupError(f"no such test file: {', '.join(sorted(unknown))}")
    troubles: list[str] = []
    reports: list[Report] = []
    for interpreter in interpreters:
        alone = sum(other.minor == interpreter.minor for other in interpreters) == 1
        suites = [suite for suite in SUITES if wanted(interpreter, suite, options)]
        if not suites:
            continue
        python = make_environment(interpreter, interpreter.minor if alone else interpreter.full, not options.baseline)
        troubles += absent(skips, interpreter)
        for suite in suites:
            reports += run_suite(python, interpreter, suite, options, skips)
    for skip in skips:
        print(f"\nskipped by us: {skip.file}: {skip.test}\n  {skip.reason}")
    for trouble in troubles:
        print(trouble)
    good = not troubles and bool(reports) and all(report.ok for report in reports)
    print(
        f"\n{'ok' if good else 'FAIL'}: {len(reports)} files, {sum(r.passed for r in reports)} tests passed, "
        f"{sum(len(r.failed) for r in reports)} failed, {sum(len(r.skipped) for r in reports)} skipped by CPython, "
        f"{sum(r.ours for r in reports)} by us ({len(skips)} listed), "
        f"{sum(r.pools for r in reports)} pools in {sum(r.processes for r in reports)} processes, "
        f"on CPython {', '.join(i.full for i in interpreters)}"
    )
    return 0 if good else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", help="test files (without .py); all when none is named")
    parser.add_argument("--only", action="append", default=[], metavar="CLASS.METHOD", help="with wildcards")
    parser.add_argument("--timeout", type=float, default=600, help="seconds per test file (600)")
    parser.add_argument(
        "--baseline", action="store_true",
        help="run against the standard library itself: what fails then is not Raddle's doing",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except SetupError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
