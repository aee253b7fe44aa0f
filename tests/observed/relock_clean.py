"""The same with a lock that can be taken again, and a condition, whose waiters take a lock of their own twice."""

import threading
import time


class Account:
    def __init__(self):
        self.lock = threading.RLock()
        self.changed = threading.Condition()
        self.balance = 0

    def add(self, amount):
        with self.lock:
            self.balance += amount
        with self.changed:
            self.changed.notify_all()

    def add_twice(self, amount):
        with self.lock:
            self.add(amount)
            self.add(amount)


account = Account()


def wait():
    with account.changed:
        account.changed.wait_for(lambda: account.balance == 10)


thread = threading.Thread(target=wait)
thread.start()
time.sleep(0.8)
account.add_twice(5)
thread.join()
