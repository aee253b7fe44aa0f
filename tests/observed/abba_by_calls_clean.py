"""Two accounts are locked by calls, always in the same order; and a lock is taken twice, since another thread releases it."""

import threading
import time


class Account:
    def __init__(self, balance):
        self.balance = balance
        self.lock = threading.Lock()

    def lock_it(self):
        self.lock.acquire()


both = threading.Barrier(2)


def move(source, target, amount):
    both.wait()
    first, second = sorted((source, target), key=id)
    first.lock_it()
    try:
        second.lock_it()
        try:
            time.sleep(0.7)
            source.balance -= amount
            target.balance += amount
        finally:
            second.lock.release()
    finally:
        first.lock.release()


mine, yours = Account(100), Account(100)
threads = [threading.Thread(target=move, args=(*pair, 10)) for pair in ((mine, yours), (yours, mine))]
for thread in threads:
    thread.start()
is_over = threading.Lock()
is_over.acquire()
threading.Timer(0.8, is_over.release).start()
is_over.acquire()
is_over.release()
for thread in threads:
    thread.join()
