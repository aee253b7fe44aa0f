"""A thread is told to stop and waited for; others are joined, or may be cut off; a pool ends with its block."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor


def watch():
    while not is_over.wait(0.05):
        pass


def start_another():
    threading.Thread(target=time.sleep, args=(0.3,), name="inner").start()


is_over = threading.Event()
watcher = threading.Thread(target=watch)
watcher.start()
with ThreadPoolExecutor(2) as pool:
    pool.submit(time.sleep, 0.3)
is_over.set()
watcher.join()

# It outlives the thread that has started it, and is joined by another one.
starter = threading.Thread(target=start_another)
starter.start()
starter.join()
for thread in threading.enumerate():
    if thread.name == "inner":
        thread.join()

threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
last = threading.Thread(target=time.sleep, args=(0.3,))
last.start()
last.join()
