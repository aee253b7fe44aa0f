"""Two accounts are locked in the order in which they are named, by calls: who has a lock is not to be seen in any stack."""

import threading


class Account:
    def __init__(self, balance):
        self.balance = balance
        self.lock = threading.Lock()

    def lock_it(self):
        self.lock.acquire()


both = threading.Barrier(2)


def move(source, target, amount):
    source.lock_it()
    try:
        both.wait()
        target.lock_it()
        try:
            source.balance -= amount
            target.balance += amount
        finally:
            target.lock.release()
    finally:
        source.lock.release()


mine, yours = Account(100), Account(100)
threads = [threading.Thread(target=move, args=(*pair, 10)) for pair in ((mine, yours), (yours, mine))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
