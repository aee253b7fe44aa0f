"""A report is saved by a thread, and nobody asks whether that went well."""

import threading
import time


def save(lines):
    saved.append("\n".join(lines))


saved = []
threading.Thread(target=save, args=(["one", "two"],), name="saver").start()
while not saved:
    time.sleep(0.01)
time.sleep(0.4)
