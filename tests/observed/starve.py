"""A thread that takes its lock again at once, and two of low priority that want it too."""

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
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
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
