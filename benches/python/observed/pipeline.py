"""One thread reads lines, two take them apart, one adds up what they found; there are queues between them."""

from __future__ import annotations

import json
import queue
import sys
import threading

LINES = int(sys.argv[1])

lines: queue.Queue[str | None] = queue.Queue(100)
prices: queue.Queue[float | None] = queue.Queue(100)


def read() -> None:
    for number in range(LINES):
        order = {"id": number, "items": [{"name": f"item {item}", "price": item / 4} for item in range(4)]}
        lines.put(json.dumps(order))
    for _ in range(2):
        lines.put(None)


def parse() -> None:
    while (line := lines.get()) is not None:
        prices.put(sum(item["price"] for item in json.loads(line)["items"]))
    prices.put(None)


def add() -> None:
    total, at_work = 0.0, 2
    while at_work:
        price = prices.get()
        if price is None:
            at_work -= 1
        else:
            total += price
    assert total == 1.5 * LINES


threads = [threading.Thread(target=work) for work in (read, parse, parse, add)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
