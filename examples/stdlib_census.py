"""A census of Python source files, taken three times: inline, on a thread pool and on a process pool.

Every `.py` file of the interpreter's own standard library, or of a directory given as argument, is read, tokenised and
summarised. The three lanes must find the same; what they differ in is time, and that is what the table at the end shows.

    python examples/stdlib_census.py                       # the standard library
    python examples/stdlib_census.py --workers 8 ~/src     # any directory
    python examples/stdlib_census.py --limit 200 --json    # the first 200 files; numbers for machines

It ends with 0 when the lanes agree, with 1 when they do not, with 2 when it cannot start.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import sys
import sysconfig
import time
import tokenize
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import raddle
from raddle._progress import Bar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

THIRD_PARTY = {"site-packages", "dist-packages"}


# The work: plain functions, the same for every lane.


class Summary(TypedDict):
    """What the census says about one file."""

    path: str
    bytes: int
    tokens: int
    names: int
    """Tokens that name something: identifiers, not keywords."""
    longest_line: int
    """In bytes, without the line's end."""
    sha256: str
    problem: str
    """Why the file could not be read or tokenised to its end; empty when it could."""


def summarise(path: str) -> Summary:
    """Reads and tokenises one file. A file that cannot be tokenised is counted too, with the reason."""
    summary = Summary(path=path, bytes=0, tokens=0, names=0, longest_line=0, sha256="", problem="")
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        summary["problem"] = f"{type(error).__name__}: {error.strerror}"
        return summary
    summary["bytes"] = len(source)
    summary["sha256"] = hashlib.sha256(source).hexdigest()
    summary["longest_line"] = max(map(len, source.splitlines()), default=0)
    tokens = names = 0
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            tokens += 1
            names += token.type == tokenize.NAME and not iskeyword(token.string)
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError, ValueError) as error:
        summary["problem"] = f"{type(error).__name__}: {error.args[0] if error.args else ''}"
    summary["tokens"], summary["names"] = tokens, names
    return summary


def summarise_timed(path: str) -> tuple[Summary, float]:
    """The summary, and the seconds of CPU time that this thread spent on it."""
    started = time.thread_time()
    summary = summarise(path)
    return summary, time.thread_time() - started


# The lanes: three ways to call that function for every path.


@dataclass(frozen=True)
class Lane:
    """How one lane did."""

    name: str
    workers: int
    seconds: float
    files: int
    task_cpu_seconds: float
    """CPU time inside `summarise`, added up over all calls."""
    all_cpu_seconds: float
    """CPU time of this program and of its workers while the lane ran."""
    busy_seconds: float
    """Time during which a worker was inside a call, added up over the workers."""

    @property
    def files_per_second(self) -> float:
        return self.files / self.seconds

    @property
    def overhead(self) -> float:
        """The share of the CPU time that did not go into `summarise`."""
        return max(0.0, 1 - self.task_cpu_seconds / self.all_cpu_seconds) if self.all_cpu_seconds else 0.0

    @property
    def idle(self) -> float:
        """The share of the workers' time in which no call ran."""
        return max(0.0, 1 - self.busy_seconds / (self.workers * self.seconds))

    @property
    def waiting(self) -> float:
        """The share of the calls' time in which they had no CPU: the GIL, the disk, other programs."""
        return max(0.0, 1 - self.task_cpu_seconds / self.busy_seconds) if self.busy_seconds else 0.0


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def collect(label: str, total: int, results: Iterable[tuple[Summary, float]]) -> tuple[list[Summary], float]:
    """Takes the results as they come, under a progress bar; gives the summaries and the CPU time they cost."""
    summaries, cpu = [], 0.0
    with Bar(total, label) as bar:
        for summary, seconds in results:
            summaries.append(summary)
            cpu += seconds
            bar.advance(failed=bool(summary["problem"]))
    return summaries, cpu


def run_inline(paths: Sequence[str]) -> tuple[Lane, list[Summary]]:
    cpu, started = cpu_seconds(), time.perf_counter()
    summaries, task_cpu = collect("inline   ", len(paths), map(summarise_timed, paths))
    seconds = time.perf_counter() - started
    # Nothing but the loop itself runs besides the calls, so the one worker is taken to be always busy.
    return Lane("inline", 1, seconds, len(paths), task_cpu, cpu_seconds() - cpu, seconds), summaries


def run_pool(kind: str, workers: int, paths: Sequence[str]) -> tuple[Lane, list[Summary]]:
    cpu, started = cpu_seconds(), time.perf_counter()
    with raddle.Pool(kind, workers=workers) as pool:
        summaries, task_cpu = collect(f"{kind:<9}", len(paths), pool.map(summarise_timed, paths))
        busy = pool.statistics().busy_seconds
    # The pool has ended, and its workers with it: start and shutdown are part of the time, theirs and ours.
    seconds = time.perf_counter() - started
    return Lane(kind, workers, seconds, len(paths), task_cpu, cpu_seconds() - cpu, busy), summaries


# The program around it.


def find_sources(directory: Path, limit: int | None) -> list[str]:
    """Every `.py` file below the directory, without installed packages, in a fixed order."""
    found = (path for path in directory.rglob("*.py") if THIRD_PARTY.isdisjoint(path.relative_to(directory).parts))
    return sorted(str(path) for path in found if path.is_file())[:limit]


def differences(expected: Sequence[Summary], found: Sequence[Summary]) -> list[str]:
    """The paths about which two lanes disagree."""
    by_path = {summary["path"]: summary for summary in found}
    differ = [summary["path"] for summary in expected if by_path.pop(summary["path"], None) != summary]
    if not differ and not by_path and list(expected) != list(found):
        return ["(the order of the files)"]
    return differ + list(by_path)


def print_table(lanes: Sequence[Lane]) -> None:
    print(
        f"{'lane':<10}{'workers':>8}{'seconds':>10}{'speed-up':>10}{'files/s':>10}{'overhead':>10}{'idle':>8}{'waiting':>9}"
    )
    for lane in lanes:
        print(
            f"{lane.name:<10}{lane.workers:>8}{lane.seconds:>10.2f}{lanes[0].seconds / lane.seconds:>9.2f}x"
            f"{lane.files_per_second:>10,.0f}{lane.overhead:>10.1%}{lane.idle:>8.1%}{lane.waiting:>9.1%}"
        )


def print_legend() -> None:
    print("""
seconds   from before the pool was made until it had ended: start, work and shutdown.
speed-up  the inline lane's seconds divided by this lane's; with n free cores, n would be perfect.
files/s   files summarised per second.
overhead  the share of all CPU time, of this program and its workers, that was not spent inside `summarise`: the price of
          starting workers, of carrying calls and results, and of this program's own loop and progress bar.
idle      the share of the workers' time in which no call ran: while they started, waited for work or had no more of it.
waiting   the share of the calls' time in which they had no CPU. Threads take turns with the GIL, so with n threads of
          pure Python about (n-1)/n is to be expected, and no speed-up; processes wait only when cores are scarce.""")


def print_findings(summaries: Sequence[Summary]) -> None:
    longest = max(summaries, key=lambda summary: summary["longest_line"])
    total = Counter[str]()
    for summary in summaries:
        total.update(bytes=summary["bytes"], tokens=summary["tokens"], names=summary["names"])
    print(
        f"\nfound     {len(summaries):,} files, {total['bytes'] / 1e6:,.1f} MB, {total['tokens']:,} tokens, "
        f"{total['names']:,} of them names\n"
        f"longest   a line of {longest['longest_line']:,} bytes in {longest['path']}"
    )
    problems = [summary for summary in summaries if summary["problem"]]
    print(f"problems  {len(problems)} files could not be tokenised to their end")
    for summary in problems[:10]:
        print(f"          {summary['path']}: {summary['problem']}")
    if len(problems) > 10:
        print(f"          … and {len(problems) - 10} more")


def as_json(directory: Path, lanes: Sequence[Lane], summaries: Sequence[Summary], differ: dict[str, list[str]]) -> str:
    shares = {lane.name: {"overhead": lane.overhead, "idle": lane.idle, "waiting": lane.waiting} for lane in lanes}
    document = {
        "directory": str(directory),
        "python": sys.version.split()[0],
        "lanes": [
            {**asdict(lane), "speed_up": lanes[0].seconds / lane.seconds, "files_per_second": lane.files_per_second}
            | shares[lane.name]
            for lane in lanes
        ],
        "files": len(summaries),
        "bytes": sum(summary["bytes"] for summary in summaries),
        "tokens": sum(summary["tokens"] for summary in summaries),
        "names": sum(summary["names"] for summary in summaries),
        "problems": {summary["path"]: summary["problem"] for summary in summaries if summary["problem"]},
        "differences": differ,
    }
    return json.dumps(document, indent=2)


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, not {text!r}")
    return number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=Path(sysconfig.get_paths()["stdlib"]))
    parser.add_argument(
        "--workers", type=positive, default=available_cores(), help="threads, and processes (default: %(default)s)"
    )
    parser.add_argument("--limit", type=positive, help="only the first LIMIT files")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args(arguments)
    if not options.directory.is_dir():
        parser.error(f"not a directory: {options.directory}")
    return options


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # Some files of the standard library are wrong on purpose; what the tokeniser warns about is not our subject.
    warnings.simplefilter("ignore")
    paths = find_sources(options.directory, options.limit)
    if not paths:
        print(f"error: no .py file below {options.directory}", file=sys.stderr)
        return 2
    # Bring the files into the page cache, so that the first lane is not the only one that waits for the disk.
    size = sum(len(Path(path).read_bytes()) for path in paths if os.access(path, os.R_OK))
    print(f"{len(paths):,} files, {size / 1e6:,.1f} MB, below {options.directory}", file=sys.stderr)

    inline, expected = run_inline(paths)
    lanes, differ = [inline], {}
    for kind in ("thread", "process"):
        lane, found = run_pool(kind, options.workers, paths)
        lanes.append(lane)
        differ[kind] = differences(expected, found)

    if options.json:
        print(as_json(options.directory, lanes, expected, differ))
    else:
        print()
        print_table(lanes)
        print_legend()
        print_findings(expected)
    for kind, unequal in differ.items():
        if unequal:
            print(
                f"error: lane {kind!r} and lane 'inline' disagree about {len(unequal)} files:",
                *unequal[:10],
                sep="\n  ",
                file=sys.stderr,
            )
    if any(differ.values()):
        return 1
    if not options.json:
        print("equal     the three lanes found the same in every file")
    return 0


# No `if __name__ == "__main__"`: Raddle's worker processes never run this file again.
try:
    sys.exit(main())
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
