"""As many threads as processors, of native code that lets go of the GIL."""

import hashlib
import os
import threading
import time


def hash_all(until):
    block = bytes(1 << 22)
    while time.monotonic() < until:
        hashlib.sha256(block).digest()


until = time.monotonic() + 1.5
threads = [threading.Thread(target=hash_all, args=(until,)) for _ in range(len(os.sched_getaffinity(0)))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
