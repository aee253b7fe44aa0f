"""The first one lets the others in between."""

import threading
import time

lock = threading.Lock()
until = time.monotonic() + 1.5


def work():
    while time.monotonic() < until:
        with lock:
            time.sleep(0.001)
        time.sleep(0.01)


threads = [threading.Thread(target=work, name=name) for name in ("first", "one", "two", "three")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
