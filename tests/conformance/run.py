"""Runs CPython's own tests of `concurrent.futures` against `raddle.futures`.

For each interpreter that ships the suite (`test.test_concurrent_futures`, a package or a single file):

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
import os
import sys
from typing import TYPE_CHECKING

from environments import make_environment
from house import BASELINE, FACE, HERE, SUITE, SetupError
from interpreters import Interpreter, found_interpreters, named_interpreters
from session import Report, run_file
from skips import Skip, load_skips

if TYPE_CHECKING:
    from pathlib import Path

LATER = {"test_interpreter_pool": "Raddle has no interpreter pool yet"}
"""Files of the suite about a class for which Raddle has no drop-in."""


def run_interpreter(
    python: Path, interpreter: Interpreter, options: argparse.Namespace, skips: list[Skip]
) -> list[Report]:
    """Runs every wanted file of one interpreter's suite and prints as it goes."""
    print(f"\nCPython {interpreter.full} ({interpreter.path}) against {options.face}", flush=True)
    reports = []
    for file in interpreter.files:
        if options.files and file not in options.files:
            continue
        if file in LATER:
            print(f"  --   {file:<26} not run: {LATER[file]}")
            continue
        concerned = [skip for skip in skips if skip.concerns(file, interpreter.version)]
        report = run_file(
            python,
            interpreter,
            file,
            face=options.face,
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
    """Skips whose file is not in this suite."""
    if interpreter.files == (SUITE,):
        return []
    wanted = [skip for skip in skips if interpreter.version >= skip.since]
    return [
        f"skips.toml names {skip.file}, which is no file of the suite"
        for skip in wanted
        if skip.file not in interpreter.files
    ]


def run(options: argparse.Namespace) -> int:
    skips = [] if options.face == BASELINE else load_skips(HERE / "skips.toml")
    names = os.environ.get("PYTHONS", "").split()
    interpreters = named_interpreters(names) if names else found_interpreters()
    unknown = set(options.files).difference(*(interpreter.files for interpreter in interpreters))
    if unknown:
        raise SetupError(f"no such test file: {', '.join(sorted(unknown))}")
    troubles: list[str] = []
    reports: list[Report] = []
    for interpreter in interpreters:
        alone = sum(other.minor == interpreter.minor for other in interpreters) == 1
        python = make_environment(interpreter, interpreter.minor if alone else interpreter.full, options.face)
        troubles += absent(skips, interpreter)
        reports += run_interpreter(python, interpreter, options, skips)
    for skip in skips:
        print(f"\nskipped by us: {skip.file}: {skip.test}\n  {skip.reason}")
    for trouble in troubles:
        print(trouble)
    good = not troubles and bool(reports) and all(report.ok for report in reports)
    print(
        f"\n{'ok' if good else 'FAIL'}: {len(reports)} files, {sum(r.passed for r in reports)} tests passed, "
        f"{sum(len(r.failed) for r in reports)} failed, {sum(len(r.skipped) for r in reports)} skipped by CPython, "
        f"{sum(r.ours for r in reports)} by us ({len(skips)} listed), "
        f"{sum(r.pools for r in reports)} pools of {options.face} in {sum(r.processes for r in reports)} processes, "
        f"on CPython {', '.join(i.full for i in interpreters)}"
    )
    return 0 if good else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", help="test files (without .py); all when none is named")
    parser.add_argument("--only", action="append", default=[], metavar="CLASS.METHOD", help="with wildcards")
    parser.add_argument("--timeout", type=float, default=600, help="seconds per test file (600)")
    parser.add_argument(
        "--baseline", dest="face", action="store_const", const=BASELINE, default=FACE,
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
