"""A thread that takes its lock again at once, and two that want it too and run when nobody else wants to."""

import os
import threading
import time

lock = threading.Lock()
until = time.monotonic() + 5


def greedy():
    while time.monotonic() < until:
        with lock:
            for _ in range(20_000):
                pass


def modest():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while time.monotonic() < until:
        with lock:
            pass
        time.sleep(0.01)


threads = [threading.Thread(target=greedy, name="greedy")]
threads += [threading.Thread(target=modest, name=name) for name in ("one", "two")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
