"""Runs the tests of other packages with Raddle under them: joblib's own of `Parallel`, Dask's own of its local schedulers.

Each suite runs in a session of processes of its own, in an empty directory, with a time limit; at the limit the stacks of its
processes are shown and the whole session is ended. Whoever is alive ten seconds after the tests is named and ended, and so is a
failure; another is a run in which Raddle was given nothing to do. The tests in `skips.toml` are left out, each for the reason
given there.

The last line is `N passed, N failed, N skipped`; what a suite skips by itself and what we leave out count as skipped. The exit
status is 0 when nothing failed, 1 when something did, 2 when the run could not be set up.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from suites import BACKEND, EXECUTORS, SUITES, Suite

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOGS = ROOT / "test-results" / "ecosystem"

# Sessions that end, and what they leave behind: as for CPython's tests.
sys.path.append(str(HERE.parent / "conformance"))
from session import NOT_INHERITED, Report, read_proof, run_session


class SetupError(Exception):
    """The run could not be set up; the message says why and what to do."""


@dataclass
class Outcome:
    """What one suite came to."""

    passed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    again: list[tuple[str, str]] = field(default_factory=list)
    """Tests that Raddle has no part in, which have failed and were run again, with what they said the first time."""
    orphans: int = 0
    """Idle workers of loky, and their trackers, that were left, and ended."""
    work: str = ""
    """What Raddle was given to do."""

    @property
    def ours(self) -> int:
        return sum(map(len, self.left_out.values()))


def load_skips(path: Path) -> dict[str, dict[str, str]]:
    """The reasons in `skips.toml`, by suite and test."""
    skips: dict[str, dict[str, str]] = {suite.name: {} for suite in SUITES}
    for entry in tomllib.loads(path.read_text())["skip"]:
        if set(entry) != {"suite", "test", "reason"}:
            raise SetupError(f"{path.name}: an entry needs suite, test and reason, and has {sorted(entry)}")
        if entry["suite"] not in skips:
            raise SetupError(f"{path.name}: {entry['suite']!r} is no suite; there are {', '.join(skips)}")
        if "::" not in entry["test"] or not entry["reason"].strip():
            raise SetupError(f"{path.name}: {entry['test']!r} is not module::test, or has no reason")
        skips[entry["suite"]][entry["test"]] = entry["reason"].strip()
    return skips


def environment_of(suite: Suite, task: dict[str, object], proof: Path) -> dict[str, str]:
    """The environment in which a suite runs."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    environment["RADDLE_ECOSYSTEM"] = json.dumps(task)
    paths = [HERE, home_of(suite).parent]
    if task["door"] == BACKEND:
        paths.append(HERE / "site")
    elif task["door"] == EXECUTORS:
        paths.append(HERE.parent / "conformance" / "patch")
        environment |= {"RADDLE_CONFORMANCE_LOG": str(proof), "RADDLE_CONFORMANCE_FACE": "raddle.futures"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return environment


def home_of(suite: Suite) -> Path:
    """The folder of the package."""
    spec = find_spec(suite.name)
    if spec is None or spec.origin is None:
        raise SetupError(f"{suite.name} cannot be imported; `make ecosystem` installs what is needed")
    return Path(spec.origin).parent


def run_suite(suite: Suite, skips: dict[str, str], options: argparse.Namespace) -> Outcome:
    """Runs one suite and takes stock."""
    LOGS.mkdir(parents=True, exist_ok=True)
    output, answer, proof, settings = (LOGS / f"{suite.name}.{kind}" for kind in ("log", "json", "proof", "ini"))
    for old in (answer, proof):
        old.unlink(missing_ok=True)
    settings.write_text("[pytest]\n")  # neither our settings nor those of the package
    task = {
        "suite": suite.name,
        "modules": suite.modules,
        "skips": [] if options.baseline else list(skips),
        "only": options.only,
        "result": str(answer),
        "door": None if options.baseline else suite.door,
        "kinds": suite.kinds,
    }
    command = [sys.executable, "-m", "pytest", "-v", "-c", str(settings), "--rootdir", str(home_of(suite).parent)]
    command += ["-p", "no:cacheprovider", "-p", "raddle_ecosystem"]
    command += ["--timeout", "120", "--timeout-method", "signal", "--durations", "20", "--pyargs", *suite.modules]
    troubles = run_session(command, environment_of(suite, task, proof), output, options.timeout)
    # The status of pytest is 1 when tests failed, which the answer says better, and 5 when none was asked for.
    troubles = [trouble for trouble in troubles if trouble not in ("ended with status 1", "ended with status 5")]
    # Where a test ends a worker of Raddle by force, loky's workers that it had started wait for more work for five minutes, and
    # the resource trackers that they share wait for them.
    left = [trouble for trouble in troubles if "outlived the tests" in trouble]
    orphans = [trouble for trouble in left if "joblib.externals.loky" in trouble]
    if orphans:
        orphans += [trouble for trouble in left if "multiprocessing.resource_tracker" in trouble]
    troubles = [trouble for trouble in troubles if trouble not in orphans]
    outcome = Outcome(orphans=len(orphans))
    if answer.exists():
        told = json.loads(answer.read_text())
        outcome.passed, outcome.left_out = len(told["passed"]), told["left_out"]
        outcome.failed, outcome.skipped, outcome.again = told["failed"], told["skipped"], told["again"]
        if not options.baseline:
            doubts = was_used(suite, told["calls"], proof, outcome)
            troubles += [] if options.only else doubts  # some of the tests alone may well be others'
    else:
        tail = "\n".join(output.read_text(errors="replace").splitlines()[-60:])
        troubles.append(f"wrote no result; the end of {output}:\n{tail}")
    if not options.only:
        troubles += [
            f"skips.toml lists {name}, which is no test" for name, tests in outcome.left_out.items() if not tests
        ]
    outcome.failed += [(f"{suite.name} as a whole", trouble) for trouble in troubles]
    return outcome


def was_used(suite: Suite, calls: int, proof: Path, outcome: Outcome) -> list[str]:
    """What speaks against this having been a test of Raddle."""
    if suite.door == BACKEND:
        outcome.work = f"{calls} batches"
        return [] if calls else ["no call went to Raddle's backend"]
    report = Report(suite.name)
    read_proof(proof, report)
    outcome.work = f"{report.pools} executors"
    return report.troubles + ([] if report.pools else ["no executor of Raddle was made"])


def show(suite: Suite, outcome: Outcome, skips: dict[str, str], seconds: float) -> None:
    """Prints what a suite came to."""
    by_us = f" ({outcome.ours} by us)" if outcome.ours else ""
    print(
        f"  {'FAIL' if outcome.failed else 'ok  '} {outcome.passed} passed, {len(outcome.failed)} failed, "
        f"{len(outcome.skipped) + outcome.ours} skipped{by_us}, {outcome.work or 'nothing'} on Raddle, {seconds:.0f} s"
    )
    for name, text in outcome.failed:
        print(f"\n  failed: {name}\n" + "\n".join(f"    {line}" for line in text.splitlines()[-60:]) + "\n")
    if outcome.orphans:
        print(
            f"  {outcome.orphans} idle workers and trackers of loky were left by workers that tests had ended, and were ended"
        )
    for name, text in outcome.again:
        print(f"  run again, since Raddle has no part in it: {name}\n    {text.splitlines()[-1]}")
    for name, tests in outcome.left_out.items():
        if tests:
            print(f"  skipped by us: {name} ({len(tests)})\n    {skips[name]}")
    reasons = sorted({reason for _, reason in outcome.skipped})
    for reason in reasons:
        count = sum(reason == other for _, other in outcome.skipped)
        print(f"  skipped by {suite.name}: {count} tests: {reason}")


def run(options: argparse.Namespace) -> int:
    skips = load_skips(HERE / "skips.toml")
    wanted = [suite for suite in SUITES if not options.suites or suite.name in options.suites]
    for suite in wanted:
        home_of(suite)
    outcomes = []
    for suite in wanted:
        how = "as it is" if options.baseline else suite.door
        print(f"{suite.name} {version(suite.name)}: {', '.join(suite.modules)}; {how}", flush=True)
        began = time.monotonic()
        outcome = run_suite(suite, skips[suite.name], options)
        show(suite, outcome, skips[suite.name], time.monotonic() - began)
        sys.stdout.flush()
        outcomes.append(outcome)
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(len(outcome.failed) for outcome in outcomes)
    skipped = sum(len(outcome.skipped) + outcome.ours for outcome in outcomes)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [suite.name for suite in SUITES]
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(names)}; all when none is named")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="tests whose name has this in it")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds per suite (1800)")
    parser.add_argument(
        "--baseline", action="store_true", help="the packages without Raddle: what fails then is not Raddle's doing"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.suites) - set(names)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    try:
        return run(options)
    except SetupError as error:
        print(f"ecosystem: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
