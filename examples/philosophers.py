"""Five philosophers at a round table: first they deadlock, and the deadlock is named; then they take their forks in order.

    python examples/philosophers.py [--meals 1000]

Each philosopher needs the two forks beside the plate. If all take the left one first, all can hold one and wait for the other for ever
(Dijkstra, 1965). Raddle finds the ring at the moment at which it closes, and one of them gets `DeadlockError`. When the forks are
numbered, and everybody takes the one with the lower number first, there can be no ring.
"""

from __future__ import annotations

import argparse
import time

import raddle
from raddle.threading import Barrier, Lock

NAMES = ("Aristotle", "Hypatia", "Kant", "Simone", "Zeno")


def dine(first: Lock, second: Lock, meals: int, all_have_one: Barrier | None) -> int:
    """Eats so many meals. With a barrier nobody takes a second fork before everybody has a first one."""
    for _ in range(meals):
        with first:
            if all_have_one is not None:
                all_have_one.wait()
            with second:
                pass
    return meals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meals", type=int, default=1000)
    options = parser.parse_args()
    raddle.on_deadlock = "raise"
    count = len(NAMES)
    forks = [Lock() for _ in NAMES]

    print("Everybody takes the left fork first, and waits for the right one:\n")
    all_have_one = Barrier(count)
    try:
        with raddle.scope(name="table") as table:
            for seat in range(count):
                table.thread(dine, forks[seat], forks[(seat + 1) % count], 1, all_have_one)
    except* raddle.DeadlockError as group:
        for error in group.exceptions:
            print(error)

    print("\nEverybody takes the fork with the lower number first:\n")
    begun = time.perf_counter()
    with raddle.scope(name="table", deadline=60) as table:
        eaten = []
        for seat in range(count):
            lower, higher = sorted((seat, (seat + 1) % count))
            eaten.append(table.thread(dine, forks[lower], forks[higher], options.meals, None))
    meals = sum(handle.result() for handle in eaten)
    print(f"{meals:,} meals in {time.perf_counter() - begun:.2f} s, and nobody starved.")


if __name__ == "__main__":
    main()
