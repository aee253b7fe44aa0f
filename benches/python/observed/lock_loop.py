"""Nothing but the taking and the release of a lock that nobody else wants. Prints the seconds that one such block took."""

from __future__ import annotations

import sys
import threading
from time import perf_counter


def take(times: int) -> float:
    lock = threading.Lock()
    began = perf_counter()
    for _ in range(times):
        with lock:
            pass
    return (perf_counter() - began) / times


print(take(int(sys.argv[1])))
