"""Inside of its `with` a thread gives the lock back for a while, and a third one takes it: it looks like a circle, and is none."""

import threading
import time

one, two = threading.Lock(), threading.Lock()
given, taken, held = threading.Event(), threading.Event(), threading.Event()


def gives():
    with one:
        one.release()
        given.set()
        held.wait()
        two.acquire()
        two.release()
        one.acquire()


def takes():
    given.wait()
    one.acquire()
    taken.set()
    time.sleep(1.5)
    one.release()


def waits():
    taken.wait()
    with two:
        held.set()
        with one:
            pass


threads = [threading.Thread(target=function, name=function.__name__) for function in (gives, takes, waits)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
