"""Opposite orders that can never meet: under a common lock, in one thread, and after a join."""

import threading

a, b, gate = threading.Lock(), threading.Lock(), threading.Lock()
c, d = threading.Lock(), threading.Lock()
e, f = threading.Lock(), threading.Lock()


def guarded(first, second):
    for _ in range(50):
        with gate:
            with first:
                with second:
                    pass


def alone():
    for first, second in ((c, d), (d, c)):
        with first:
            with second:
                pass


def in_order(first, second):
    with first:
        with second:
            pass


threads = [
    threading.Thread(target=guarded, args=(a, b)),
    threading.Thread(target=guarded, args=(b, a)),
    threading.Thread(target=alone),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for order in ((e, f), (f, e)):
    thread = threading.Thread(target=in_order, args=order)
    thread.start()
    thread.join()
