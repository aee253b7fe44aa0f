"""A sweep over a parameter in which some runs never end and some take their process with them.

    python examples/sweep.py                                   # 40 values between 2.8 and 4.1
    python examples/sweep.py --from 3.5 --to 3.7 --runs 200 --timeout 2 --retries 3

The subject is the logistic map, x -> r x (1 - x). For some r it settles into a cycle: how long is it? For others it is chaotic, and the
search for a cycle has no end: after `--timeout` seconds Raddle ends it. Beyond r = 4 the numbers run away, and the search ends its
process as a failed assertion of a C library would: that costs this run, which is tried `--retries` times again, and no other.

It ends with 0 when every run has an answer, an end by force or a death on record; with 2 when it cannot start.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import raddle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future


def growth(r: float) -> float:
    """How fast two neighbouring points part, on average (the Lyapunov exponent): above 0 is chaos. Cheap, and never fails."""
    x, total = 0.5, 0.0
    for _ in range(2000):
        x = min(max(r * x * (1 - x), 1e-12), 1 - 1e-12)
        total += math.log(max(abs(r * (1 - 2 * x)), 1e-12))
    return total / 2000


def cycle_length(r: float) -> int:
    """After how many steps the map is where it was. May never return, and may end its process."""
    x = 0.5
    for _ in range(20_000):
        x = r * x * (1 - x)
    start, steps = x, 0
    while True:
        x = r * x * (1 - x)
        steps += 1
        if abs(x) > 1e6:
            os._exit(134)  # what abort() in C comes to
        if abs(x - start) < 1e-9:
            return steps


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, not {text!r}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--from", dest="first", type=float, default=2.8, help="the first r (default: %(default)s)")
    parser.add_argument("--to", dest="last", type=float, default=4.1, help="the last r (default: %(default)s)")
    parser.add_argument("--runs", type=positive, default=40, help="how many values of r (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=0.5, help="seconds for one run (default: %(default)s)")
    parser.add_argument("--retries", type=int, default=1, help="how often a lost run is tried again (default: 1)")
    parser.add_argument("--workers", type=positive, help="worker processes (default: one for each core)")
    options = parser.parse_args(arguments)
    step = (options.last - options.first) / max(1, options.runs - 1)
    values = [options.first + step * number for number in range(options.runs)]

    began = time.perf_counter()
    with raddle.Pool("process", workers=options.workers) as pool:
        try:
            careful = pool.options(timeout=options.timeout, retries=options.retries, name="cycle_length")
        except ValueError as error:
            parser.error(str(error))
        # First what cannot fail: cheap calls, a bar, results in order.
        growths = dict(zip(values, pool.map(growth, values, progress=True), strict=True))
        # Then what can, each run on its own: the future of a run has its answer, or what it came to.
        runs: dict[Future[int], float] = {careful.submit(cycle_length, r): r for r in values}
        answers: dict[float, str] = {}
        kinds = Counter[str]()
        for future in pool.as_completed(runs):
            r = runs[future]
            try:
                answers[r] = f"cycle of {future.result()}"
                kinds["settled"] += 1
            except raddle.CallTimeout as error:
                answers[r] = f"no cycle within {error.seconds:g} s{again(error.attempts)}"
                kinds["stopped"] += 1
            except raddle.WorkerDied as error:
                answers[r] = f"ended worker {error.pid} with exit code {error.exitcode}{again(error.attempts)}"
                kinds["died"] += 1
        died = pool.statistics().died

    for r in values:
        print(f"r = {r:<8.5g} growth {growths[r]:>7.3f}  {answers[r]}")
    print(
        f"{kinds['settled']} settled, {kinds['stopped']} were stopped, {kinds['died']} ended their worker; "
        f"{died} worker processes were lost on the way, {time.perf_counter() - began:.1f} s"
    )
    return 0


def again(attempts: int) -> str:
    return "" if attempts == 1 else f", {attempts} times"


try:
    sys.exit(main())
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
