"""Two threads take two locks in opposite order, and meet."""

import threading

x, y = threading.Lock(), threading.Lock()
both = threading.Barrier(2)


def first():
    with x:
        both.wait()
        with y:
            pass


def second():
    with y:
        both.wait()
        with x:
            pass


threads = [threading.Thread(target=first, name="alpha"), threading.Thread(target=second, name="beta")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
