"""Each of them has a ledger of its own."""

import threading
import time


def work(ledger):
    for _ in range(30):
        time.sleep(0.006)
        with ledger:
            time.sleep(0.004)


threads = [threading.Thread(target=work, args=(threading.Lock(),)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
