"""Threads that take turns, and say how long each of them waited: neither on a processor nor waiting for one, they waited for the GIL."""

import json
import threading
import time

until = time.perf_counter() + 3
said = {}


def scheduled():
    """Nanoseconds on a processor, and waiting for one."""
    with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
        return [int(number) for number in file.read().split()[:2]]


def work():
    began, (ran, waited) = time.perf_counter_ns(), scheduled()
    count = 0
    while time.perf_counter() < until:
        for _ in range(20_000):
            count += 1
    ran_until, waited_until = scheduled()
    said[threading.current_thread().name] = [time.perf_counter_ns() - began, ran_until - ran, waited_until - waited]


threads = [threading.Thread(target=work, name=name) for name in ("one", "two", "three")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(said))
