"""A thread waits for a notification, and holds only what it gives back meanwhile."""

import threading

ledger = threading.Lock()
condition = threading.Condition()
waits = threading.Event()


def wait():
    with ledger:
        pass
    with condition:
        waits.set()
        condition.wait()


def announce():
    waits.wait()
    with ledger, condition:
        condition.notify()


threads = [threading.Thread(target=function, name=function.__name__) for function in (wait, announce)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
