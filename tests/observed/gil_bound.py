"""Four threads of arithmetic in Python."""

import threading
import time


def count(until):
    number = 0
    while time.monotonic() < until:
        for _ in range(1000):
            number += 1


until = time.monotonic() + 2.5
threads = [threading.Thread(target=count, args=(until,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
