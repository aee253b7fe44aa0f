"""Two hundred threads wait: for a lock, for an item, for an event, for a moment. It says when all of them do, and ends with its input."""

from __future__ import annotations

import queue
import sys
import threading
import time

lock = threading.Lock()
items: queue.Queue[int] = queue.Queue()
over = threading.Event()


def wait(kind: int, depth: int) -> None:
    if depth:
        wait(kind, depth - 1)
    elif kind == 0:
        with lock:
            pass
    elif kind == 1:
        items.get()
    elif kind == 2:
        over.wait()
    else:
        time.sleep(3600)


with lock:
    for number in range(200):
        threading.Thread(target=wait, args=(number % 4, number % 8), daemon=True).start()
    time.sleep(0.2)
    print("ready", flush=True)
    sys.stdin.readline()
