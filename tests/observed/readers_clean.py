"""Two readers hold a reader-writer lock together: the first one in takes the writers' lock, and the last one out releases it."""

import threading


class ReadWriteLock:
    def __init__(self):
        self.readers = 0
        self.counting = threading.Lock()
        self.writing = threading.Lock()

    def read(self):
        with self.counting:
            self.readers += 1
            if self.readers == 1:
                self.writing.acquire()

    def end_read(self):
        with self.counting:
            self.readers -= 1
            if self.readers == 0:
                self.writing.release()


lock = ReadWriteLock()
turns = [threading.Event() for _ in range(9)]


def reads(steps):
    """Does each step when it is its turn."""
    for turn, step in steps:
        turns[turn].wait()
        step()
        turns[turn + 1].set()


first = [(0, lock.read), (2, lock.end_read), (5, lock.read), (7, lock.end_read)]
second = [(1, lock.read), (3, lock.end_read), (4, lock.read), (6, lock.end_read)]
threads = [threading.Thread(target=reads, args=(steps,)) for steps in (first, second)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
with lock.writing:
    assert lock.readers == 0
