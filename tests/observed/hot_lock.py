"""Eight workers do four tenths of each piece of work under one lock, and one tenth under another."""

import threading
import time

ledger = threading.Lock()
printer = threading.Lock()


def work():
    for _ in range(30):
        time.sleep(0.005)
        with printer:
            time.sleep(0.001)
        with ledger:
            time.sleep(0.004)


threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
