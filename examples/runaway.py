"""Ending threads: at a checkpoint, in a wait, between two bytecodes, and all at once at the deadline of a scope.

    python examples/runaway.py [--after 0.2]

A thread cannot be killed: it holds locks, and half of what it was doing would stay undone. It can be asked to end, and Raddle carries the
question to where the thread is. Four threads that would run for ever are ended in four ways; each gets `raddle.Stopped`, which lets
`finally` and `with` do their work.
"""

from __future__ import annotations

import argparse
import sys
import time

import raddle
from raddle.queue import Queue
from raddle.threading import Thread


def compute_with_checkpoints() -> None:
    """A loop that looks now and then whether it is to end."""
    number = 0
    while True:
        number += 1
        if number % 1000 == 0:
            raddle.checkpoint()


def wait_for_work() -> None:
    """A thread that waits for what never comes."""
    Queue().get()


def run_away() -> None:
    """A loop that never looks."""
    number = 0
    while True:
        number += 1


def end(title: str, thread: Thread, after: float, *, interrupt: bool = False) -> bool:
    """Starts a thread, asks it to end, and tells how long that took. Returns whether it has ended."""
    thread.start()
    time.sleep(after)
    state = thread.life.state
    begun = time.perf_counter()
    raddle.stop(thread, "the example wants to go on", interrupt=interrupt)
    thread.join(10)
    took = time.perf_counter() - begun
    print(f"{title:30} was {state:8} and ended {took * 1000:6.1f} ms after it was asked ({thread.life.outcome})")
    return not thread.is_alive()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", type=float, default=0.2, help="seconds for which each of them runs")
    options = parser.parse_args()
    if options.after <= 0:
        parser.error("--after must be more than 0 seconds")

    have_ended = [
        end("a loop with checkpoints", Thread(target=compute_with_checkpoints, daemon=True), options.after),
        end("a wait for a queue", Thread(target=wait_for_work, daemon=True), options.after),
        end(
            "a loop that never looks",
            Thread(target=run_away, daemon=True, interruptible=True),
            options.after,
            interrupt=True,
        ),
    ]

    begun = time.perf_counter()
    try:
        with raddle.scope(deadline=options.after, name="everything") as scope:
            scope.thread(wait_for_work)
            scope.thread(compute_with_checkpoints)
            wait_for_work()
    except TimeoutError as error:
        print(f"{error} ({time.perf_counter() - begun:.2f} s)")
    return int(not all(have_ended))


if __name__ == "__main__":
    sys.exit(main())
