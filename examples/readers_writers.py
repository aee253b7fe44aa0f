"""Readers that always overlap starve a writer; a fair lock mends that, and the waits that it has measured show both.

    python examples/readers_writers.py [--seconds 1] [--readers 3]

Somebody always reads: every reader stays until the next one has come, or for a few milliseconds if none comes. A lock that prefers readers lets each
of them in while the writer waits, so there is never a moment for the writer (the first problem of Courtois, Heymans and Parnas, 1971, and its
price). A lock that prefers writers turns that around. A fair lock lets everybody in in the order of arrival: the writer waits for those readers that were
there before it, and for no others.
"""

from __future__ import annotations

import argparse
import time

import raddle
from raddle.sync import AtomicFlag, AtomicInt, Latch, RwLock

STAY = 0.02
"""Seconds that a reader waits for the next one."""


def read(rw: RwLock, arrivals: AtomicInt, is_over: AtomicFlag, ready: Latch) -> None:
    """Reads again and again, and stays each time until another reader has come."""
    ready.count_down()
    while not is_over:
        with rw.read():
            mine = arrivals.add(1) + 1
            end = time.monotonic() + STAY
            while arrivals.load() == mine and time.monotonic() < end and not is_over:
                time.sleep(0.0005)


def write(rw: RwLock, end: float) -> int:
    """Writes as often as it can until the end. Returns how often."""
    written = 0
    while (left := end - time.monotonic()) > 0:
        try:
            with rw.write(timeout=left):
                written += 1
        except TimeoutError:
            break
        time.sleep(0.001)  # it has other things to do, too
    return written


def race(rw: RwLock, readers: int, seconds: float) -> int:
    """Readers against one writer. Returns how often it has written."""
    arrivals, is_over, ready = AtomicInt(), AtomicFlag(), Latch(readers)
    with raddle.scope(name="race", deadline=60 + seconds) as s:
        for _ in range(readers):
            s.thread(read, rw, arrivals, is_over, ready)
        ready.wait()
        writer = s.thread(write, rw, time.monotonic() + seconds)
        written = writer.result()
        is_over.set()
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each lock is used")
    parser.add_argument("--readers", type=int, default=3, help="how many threads read; two or more")
    options = parser.parse_args()
    if options.readers < 2 or options.seconds <= 0:
        parser.error("it takes two or more readers, and some time")

    print(f"{options.readers} readers of which one is always there, and one writer, for {options.seconds:g} s each:\n")
    print(f"{'lock prefers':14}{'writes':>8}{'longest wait':>15}{'reads':>8}{'longest wait':>15}")
    written = {}
    for prefer in ("readers", "writers", "fair"):
        rw = RwLock(prefer=prefer)
        written[prefer] = race(rw, options.readers, options.seconds)
        reads, writes = rw.statistics()
        print(
            f"{prefer if prefer != 'fair' else 'nobody (fair)':14}{written[prefer]:8,}{writes.longest_wait * 1e3:12.1f} ms"
            f"{reads.acquisitions:8,}{reads.longest_wait * 1e3:12.1f} ms"
        )
    print(
        f"\nThe writer came through {written['readers']} times where readers go first, and {written['fair']} times in the fair lock."
    )


if __name__ == "__main__":
    main()
