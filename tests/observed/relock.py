"""A method that holds a lock calls another one that takes it."""

import threading


class Account:
    def __init__(self):
        self.lock = threading.Lock()
        self.balance = 0

    def add(self, amount):
        with self.lock:
            self.balance += amount

    def add_twice(self, amount):
        with self.lock:
            self.add(amount)
            self.add(amount)


Account().add_twice(5)
