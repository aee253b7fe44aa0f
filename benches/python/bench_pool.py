"""Measures Raddle's pools and primitives beside their peers, in one run on one machine.

Every row of every contender runs in a fresh session of processes, with a time limit; rounds go through all contenders in
turn (A B C A B C ...), so that a disturbance of the machine hits all of them. The median of the rounds counts, or where a row says so the least.

The results are printed as a table and written to `bench-results/latest.json`; from that file `report.py` writes
`docs/benchmarks.md`. A run that is narrowed measures less than the document promises, and leaves both alone: it writes
`bench-results/partial.json`.

Environment: `BENCH_ROWS` names rows, beginnings of rows or lanes, `BENCH_ROUNDS` the number of rounds, `BENCH_QUICK=1` makes
everything small (for a look, not for a claim), `BENCH=all` has Ray and Dask take part, which are large and slow to start.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import contenders
import report
import rows

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "bench-results"
TIME_LIMIT = 90
PACKAGES = ("raddle", "loky", "mpire", "pebble", "joblib", "faster-fifo", "cloudpickle", "viztracer", "py-spy")
EXTRA_PACKAGES = ("ray", "distributed")


def of_session(session: int) -> dict[int, str]:
    """The processes of a session that run, whatever group they are in, and what they run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, _, _, its_session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(its_session) == session and state not in "ZX":
                    found[int(entry.name)] = (entry / "cmdline").read_text()
    return found


def kill_session(session: int) -> None:
    """Ends every process of a session. Trackers of semaphores are let clean up first, which they do when the others are gone."""
    for pid, command in of_session(session).items():
        if "resource_tracker" not in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 5
    while (left := of_session(session)) and time.monotonic() < until:
        time.sleep(0.01)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_one(*words: str) -> dict[str, Any]:
    """One measurement in a session of its own: its numbers, or `error`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out, complaints = Path(folder, "out"), Path(folder, "complaints")
        with complaints.open("wb") as sink:
            child = subprocess.Popen(
                [sys.executable, str(HERE / "one.py"), str(out), *words],
                cwd=folder,
                env=os.environ | {"TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
            try:
                child.wait(TIME_LIMIT)
                problem = ""
            except subprocess.TimeoutExpired:
                problem = f"did not end within {TIME_LIMIT} s"
            finally:
                kill_session(child.pid)
                child.wait()
        if not problem and out.exists():
            numbers: dict[str, Any] = json.loads(out.read_text())
            return numbers
        lines = complaints.read_text(errors="replace").strip().splitlines()
        return {"error": problem or (lines[-1] if lines else f"ended with status {child.returncode}")}


def is_installed(package: str) -> bool:
    """Whether there is a package of this name, which may be a command and no module."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version(package))
    return False


def absent_packages() -> dict[str, str]:
    """The packages that cannot be measured here, and why."""
    absent = {}
    wanted = {c.package for c in contenders.CONTENDERS if contenders.is_everybody() or not c.extra}
    for package in sorted(wanted - {"raddle"}):
        if importlib.util.find_spec(package.replace("-", "_")) is None and not is_installed(package):
            absent[package] = "is not installed"
    check = "import raddle, raddle.futures; raddle.Pool"
    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, check=False)
    if done.returncode:
        absent["raddle"] = f"cannot be imported: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return absent


def is_named(row: rows.Row, name: str) -> bool:
    """Whether a name, or the beginning of one, or a lane's, means this row."""
    return row.key.startswith(name) or row.lane == name


def wanted_rows() -> list[rows.Row]:
    names = os.environ.get("BENCH_ROWS", "").replace(",", " ").split()
    for name in names:
        if not any(is_named(row, name) for row in rows.ROWS):
            sys.exit(f"bench: no row {name!r}; the rows are {', '.join(row.key for row in rows.ROWS)}")
    return [row for row in rows.ROWS if not names or any(is_named(row, name) for name in names)]


def about_this_run() -> dict[str, Any]:
    """Machine, versions, date and commit."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    versions = {"CPython": platform.python_version()}
    for package in PACKAGES + (EXTRA_PACKAGES if contenders.is_everybody() else ()):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": (git("rev-parse", "--short", "HEAD") or "none")
        + (" and changes" if git("status", "--porcelain") else ""),
        "machine": f"{model}, {len(os.sched_getaffinity(0))} CPUs",
        "kernel": platform.release(),
        "versions": versions,
        "workers": rows.WORKERS,
        "load_before": round(os.getloadavg()[0], 2),
    }


def progress(text: str) -> None:
    """One line on standard error, overwritten on a terminal."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        sys.stderr.write("\r" + text[:width].ljust(width))
        sys.stderr.flush()


def summed_up(
    samples: list[dict[str, Any]], of_rounds: Callable[[Iterable[float]], float] = statistics.median
) -> dict[str, Any]:
    """What counts of the rounds of each number, the range of the first, and the last error if there was no number."""
    good = [sample for sample in samples if "error" not in sample]
    if not good:
        return {"error": samples[-1]["error"]}
    medians = [sample["median"] for sample in good]
    summary: dict[str, Any] = {name: of_rounds(sample[name] for sample in good) for name in good[0]}
    summary |= {"low": min(medians), "high": max(medians), "rounds": len(good)}
    if len(good) < len(samples):
        summary["failed_rounds"] = len(samples) - len(good)
    return summary


def beside(
    samples: list[dict[str, Any]],
    plain: list[dict[str, Any]],
    of_rounds: Callable[[Iterable[float]], float] = statistics.median,
) -> dict[str, float]:
    """How many times the time of the plain program it took: the median of the ratios, round by round, or the ratio of the least times."""
    pairs = [(one["median"], other["median"]) for one, other in zip(samples, plain) if not {"error"} & {*one, *other}]
    if not pairs:
        return {}
    if of_rounds is min:
        return {"times": min(one for one, _ in pairs) / min(other for _, other in pairs)}
    return {"times": statistics.median(one / other for one, other in pairs)}


def measure(
    chosen: list[rows.Row], absent: dict[str, str], most_rounds: int | None, quick: bool
) -> dict[str, dict[str, Any]]:
    """All rounds of all rows."""
    samples: dict[tuple[str, str], list[dict[str, Any]]] = {}
    effort = ("quick",) if quick else ()
    rounds = {row.key: min(row.rounds, most_rounds or row.rounds) for row in chosen}
    began = time.monotonic()
    for number in range(max(rounds.values())):
        for row in chosen:
            if number >= rounds[row.key]:
                continue
            for contender in contenders.of_row(row.key, contenders.is_everybody()):
                if contender.package in absent or (contender.once and number > 0):
                    continue
                progress(f"{time.monotonic() - began:4.0f} s  round {number + 1}  {row.key}  {contender.name}")
                sample = run_one(row.key, contender.name, *effort)
                samples.setdefault((row.key, contender.name), []).append(sample)
        if not sys.stderr.isatty():
            print(f"round {number + 1} done after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    progress("")
    results: dict[str, dict[str, Any]] = {row.key: {} for row in chosen}
    for (row_key, name), list_of_samples in samples.items():
        of_rounds = rows.BY_KEY[row_key].of_rounds
        results[row_key][name] = summed_up(list_of_samples, of_rounds) | beside(
            list_of_samples, samples.get((row_key, contenders.PYTHON), []), of_rounds
        )
    return results


def main() -> None:
    chosen = wanted_rows()
    quick = os.environ.get("BENCH_QUICK", "") not in ("", "0")
    most_rounds = int(os.environ["BENCH_ROUNDS"]) if os.environ.get("BENCH_ROUNDS") else None
    run = about_this_run()
    if run["load_before"] > 0.5:
        print(f"note: the machine is not idle (load {run['load_before']}); the numbers will be worse than it can do")
    absent = absent_packages()
    for package, why in absent.items():
        print(f"left out: {package} {why}")
    limits = run_one("limits")
    if "error" in limits:
        sys.exit(f"bench: the physical limits could not be measured: {limits['error']}")
    began = time.monotonic()
    results = measure(chosen, absent, most_rounds, quick)
    run |= {"seconds": round(time.monotonic() - began), "quick": quick}
    data = {"run": run, "absent": absent, "limits": limits, "rows": results}
    RESULTS.mkdir(exist_ok=True)
    whole = not quick and most_rounds is None and len(chosen) == len(rows.ROWS) and not absent
    target = RESULTS / ("latest.json" if whole else "partial.json")
    target.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    print(report.terminal(data))
    print(f"\nwritten: {target.relative_to(ROOT)}")
    if whole:
        report.write_document(data)
        print(f"written: {report.DOCUMENT.relative_to(ROOT)}")
    else:
        print("docs/benchmarks.md is left as it is: only a whole run with all peers writes it")


if __name__ == "__main__":
    main()
