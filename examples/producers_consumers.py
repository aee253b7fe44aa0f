"""Producers and consumers with a bounded channel between them: the fast ones wait for the slow ones, and nothing is lost.

    python examples/producers_consumers.py [--producers 3] [--consumers 2] [--items 2000] [--room 8]

A bounded channel couples the two sides: when consumers are slow it fills and producers wait; when producers are slow it is empty and
consumers wait. When the last producer has closed its end, consumers get what is left, and their loops end: no sentinel has to be sent
(the classic mistake: one sentinel for several consumers). The sums on both sides are compared at the end.
"""

from __future__ import annotations

import argparse
import sys
import time

import raddle


def produce(number: int, items: int, into: raddle.Sender[int]) -> int:
    """Sends so many numbers. Returns their sum."""
    total = 0
    with into:
        for item in range(number, number + items):
            into.send(item)
            total += item
    return total


def consume(source: raddle.Receiver[int], seconds: float) -> tuple[int, int]:
    """Takes what comes, and works on each item for a while. Returns how many there were, and their sum."""
    count = total = 0
    for item in source:
        time.sleep(seconds)
        count, total = count + 1, total + item
    return count, total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--producers", type=int, default=3)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--items", type=int, default=2000, help="of each producer")
    parser.add_argument("--room", type=int, default=8, help="of the channel")
    parser.add_argument("--work", type=float, default=0.0001, help="seconds for one item")
    options = parser.parse_args()
    if min(options.producers, options.consumers) < 1 or options.items < 0 or options.room < 0 or options.work < 0:
        parser.error("there must be a producer and a consumer, and no number may be negative")

    begun = time.perf_counter()
    most = 0
    with raddle.scope(name="exchange") as scope:
        tx, rx = raddle.channel(options.room)
        producers = [scope.thread(produce, number, options.items, tx.clone()) for number in range(options.producers)]
        tx.close()  # ours: the channel ends with the last producer
        consumers = [scope.thread(consume, rx, options.work) for _ in range(options.consumers)]
        while not all(handle.done() for handle in consumers):
            most = max(most, len(rx))
            time.sleep(0.01)
    seconds = time.perf_counter() - begun

    sent = sum(handle.result() for handle in producers)
    for number, handle in enumerate(consumers):
        print(f"consumer {number}: {handle.result()[0]:6} items")
    received = sum(handle.result()[1] for handle in consumers)
    print(f"{options.producers * options.items} items in {seconds:.2f} s; never more than {most} waited in the channel")
    print(f"sums: {sent} sent, {received} received")
    return int(sent != received)


if __name__ == "__main__":
    sys.exit(main())
