"""The main thread is done, and the program does not end: a thread that nobody tells to stop goes on."""

import threading
import time


def watch():
    for _ in range(8):
        time.sleep(0.1)


threading.Thread(target=watch, name="watcher").start()
print("done")
