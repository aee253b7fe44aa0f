"""Four threads count the primes below a number in pure Python: they take turns at the GIL."""

from __future__ import annotations

import sys
import threading


def primes_below(limit: int) -> int:
    found = 0
    for number in range(2, limit):
        for divisor in range(2, int(number**0.5) + 1):
            if number % divisor == 0:
                break
        else:
            found += 1
    return found


limit = int(sys.argv[1])
threads = [threading.Thread(target=primes_below, args=(limit,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
