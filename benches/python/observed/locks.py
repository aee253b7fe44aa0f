"""Four threads read orders and move money between accounts: for each two locks are taken, and a third for the books."""

from __future__ import annotations

import random
import sys
import threading

THREADS, TRANSFERS, ACCOUNTS = 4, int(sys.argv[1]), 16


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance
        self.lock = threading.Lock()


accounts = [Account(1000) for _ in range(ACCOUNTS)]
books: dict[str, int] = {}
books_lock = threading.Lock()


def order(dice: random.Random) -> str:
    source = int(dice.random() * ACCOUNTS)
    target = (source + 1 + int(dice.random() * (ACCOUNTS - 1))) % ACCOUNTS
    return f"from={source}; to={target}; amount={int(dice.random() * 100)}; currency=EUR"


def transfer(text: str) -> None:
    fields = dict(field.strip().split("=") for field in text.split(";"))
    source, target, amount = int(fields["from"]), int(fields["to"]), int(fields["amount"])
    first, second = sorted((source, target))
    with accounts[first].lock, accounts[second].lock:
        if accounts[source].balance >= amount:
            accounts[source].balance -= amount
            accounts[target].balance += amount
    currency = fields["currency"].lower()
    with books_lock:
        books[currency] = books.get(currency, 0) + amount


def work(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(TRANSFERS):
        transfer(order(dice))


threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sum(account.balance for account in accounts) == 1000 * ACCOUNTS
