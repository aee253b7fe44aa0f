"""Two threads take two locks in opposite order, and by luck never meet."""

import threading
import time

a, b = threading.Lock(), threading.Lock()
go = threading.Event()


def first():
    with a:
        with b:
            pass
    go.set()
    time.sleep(0.2)


def second():
    go.wait()
    time.sleep(0.05)
    with b:
        with a:
            pass


threads = [threading.Thread(target=first, name="one"), threading.Thread(target=second, name="two")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
