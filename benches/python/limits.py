"""The physical limits of this machine, measured in the same run, to hold the rows against.

They are measured from Python, so each contains one or two cheap calls of Python; a pool for Python cannot do without
those either.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
import pickle
import platform
import statistics
import subprocess
import sys
import threading
import timeit
from collections.abc import Callable
from time import perf_counter

from workload import echo

SYS_FUTEX = {"x86_64": 202, "aarch64": 98}
FUTEX_WAIT, FUTEX_WAKE = 0, 1
TRIPS = 3000


def per_call(work: Callable[[], object], count: int) -> float:
    """The time of one call in a loop: the best of five loops, without the loop itself."""

    def loop(body: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            began = perf_counter()
            for _ in range(count):
                body()
            times.append(perf_counter() - began)
        return min(times) / count

    return loop(work)


def trips(ping: Callable[[], None]) -> float:
    """The median of many round trips."""
    times = []
    for _ in range(TRIPS):
        began = perf_counter()
        ping()
        times.append(perf_counter() - began)
    return statistics.median(times[TRIPS // 10 :])


def in_child(work: Callable[[], None]) -> int:
    """Forks a process that does `work` and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def futex_round_trip() -> float | None:
    """Two processes that wake each other through a futex in shared memory."""
    number = SYS_FUTEX.get(platform.machine())
    if number is None:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.mmap(-1, mmap.PAGESIZE)
    there = ctypes.c_uint32.from_buffer(page, 0)
    back = ctypes.c_uint32.from_buffer(page, 64)
    there_address, back_address = ctypes.c_void_p(ctypes.addressof(there)), ctypes.c_void_p(ctypes.addressof(back))
    syscall = libc.syscall

    def wait(word: ctypes.c_uint32, address: ctypes.c_void_p, old: int) -> None:
        while word.value == old:
            syscall(number, address, FUTEX_WAIT, old, None, None, 0)

    def echoing() -> None:
        for turn in range(TRIPS):
            wait(there, there_address, turn)
            back.value = turn + 1
            syscall(number, back_address, FUTEX_WAKE, 1, None, None, 0)

    def ping() -> None:
        turn = there.value
        there.value = turn + 1
        syscall(number, there_address, FUTEX_WAKE, 1, None, None, 0)
        wait(back, back_address, turn)

    pid = in_child(echoing)
    took = trips(ping)
    os.waitpid(pid, 0)
    return took


def eventfd_round_trip() -> float:
    """Two processes that wake each other through two eventfds."""
    there, back = os.eventfd(0), os.eventfd(0)

    def echoing() -> None:
        for _ in range(TRIPS):
            os.eventfd_read(there)
            os.eventfd_write(back, 1)

    def ping() -> None:
        os.eventfd_write(there, 1)
        os.eventfd_read(back)

    pid = in_child(echoing)
    took = trips(ping)
    os.waitpid(pid, 0)
    return took


def thread_round_trip() -> float:
    """Two Python threads that wake each other through two locks: two hand-overs of the GIL."""
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def echoing() -> None:
        for _ in range(TRIPS):
            there.acquire()
            back.release()

    def ping() -> None:
        there.release()
        back.acquire()

    thread = threading.Thread(target=echoing)
    thread.start()
    took = trips(ping)
    thread.join()
    return took


def pickled(value: object) -> Callable[[], object]:
    return lambda: pickle.loads(pickle.dumps(value, 5))


def memcpy() -> float:
    """Seconds for one byte: a warm copy of 64 MiB."""
    size = 64 << 20
    source, target = bytearray(size), bytearray(size)
    from_view, to_view = memoryview(source), memoryview(target)

    def copy() -> None:
        to_view[:] = from_view

    copy()
    return min(per_call(copy, 1) for _ in range(5)) / size


def interpreter_start() -> float:
    """An interpreter that starts, imports nothing and ends."""
    times = []
    for _ in range(7):
        began = perf_counter()
        subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
        times.append(perf_counter() - began)
    return statistics.median(times)


def fork_and_wait() -> float:
    """A fork of this small process, which ends at once."""
    times = []
    for _ in range(9):
        began = perf_counter()
        os.waitpid(in_child(lambda: None), 0)
        times.append(perf_counter() - began)
    return statistics.median(times)


def end_of_two_processes() -> float:
    """Two forked processes are told to end by the end of a pipe, and waited for."""
    times = []
    for _ in range(9):
        read, write = os.pipe()

        def waiting(read: int = read, write: int = write) -> None:
            os.close(write)
            os.read(read, 1)

        pids = [in_child(waiting) for _ in range(2)]
        os.close(read)
        began = perf_counter()
        os.close(write)
        for pid in pids:
            os.waitpid(pid, 0)
        times.append(perf_counter() - began)
    return statistics.median(times)


def end_of_two_threads() -> float:
    """Two waiting threads are let go and joined."""
    times = []
    for _ in range(9):
        gate = threading.Lock()
        gate.acquire()

        def waiting(gate: threading.Lock = gate) -> None:
            with gate:
                pass

        threads = [threading.Thread(target=waiting) for _ in range(2)]
        for thread in threads:
            thread.start()
        began = perf_counter()
        gate.release()
        for thread in threads:
            thread.join()
        times.append(perf_counter() - began)
    return statistics.median(times)


def native_call() -> float:
    """A call of a method in C that takes nothing and does next to nothing."""
    line = "call()\n" * 10
    loops = [timeit.Timer(body, "call = b''.isascii").timeit(10_000) for body in [line, "pass"] for _ in range(5)]
    return (min(loops[:5]) - min(loops[5:])) / 100_000


def thread_life() -> float:
    """A thread that runs nothing of Python but the release of a lock, which is waited for."""
    over = threading.Lock()
    over.acquire()

    def live() -> None:
        _thread.start_new_thread(over.release, ())
        over.acquire()

    return trips(live)


def task_bytes() -> float:
    """The least that a pending task with a handle can be: its argument in a tuple, one empty object, a slot in a list."""
    return float(sys.getsizeof((1,)) + sys.getsizeof(1) + sys.getsizeof(object()) + 8)


def measure() -> dict[str, float]:
    """All of them."""
    many = list(range(1000))
    measured = {
        "futex round trip between two processes": futex_round_trip(),
        "eventfd round trip between two processes": eventfd_round_trip(),
        "lock round trip between two Python threads": thread_round_trip(),
        "pickle.dumps + loads of the arguments, (1,)": per_call(pickled((1,)), 50_000),
        "pickle.dumps + loads of one int in a list of 1,000": per_call(pickled(many), 500) / 1000,
        "call of an empty Python function": per_call(lambda: echo(1), 100_000) - per_call(lambda: 1, 100_000),
        "call of a native method that takes nothing": native_call(),
        "a bare thread starts and is waited for": thread_life(),
        "memcpy of one MiB, warm": memcpy() * (1 << 20),
        "start and end of an interpreter that imports nothing": interpreter_start(),
        "a forked process starts and ends": fork_and_wait(),
        "two idle processes end": end_of_two_processes(),
        "two idle threads end": end_of_two_threads(),
        "bytes of an argument, its tuple, an empty object and a list slot": task_bytes(),
    }
    return {name: value for name, value in measured.items() if value is not None}


def row_limits(measured: dict[str, float]) -> dict[str, tuple[float, str]]:
    """What each row is held against: the number in the row's base unit, and what it is made of."""
    wake = measured.get("futex round trip between two processes", measured["eventfd round trip between two processes"])
    pickles = measured["pickle.dumps + loads of the arguments, (1,)"]
    item = measured["pickle.dumps + loads of one int in a list of 1,000"]
    call = measured["call of an empty Python function"]
    native = measured["call of a native method that takes nothing"]
    mebibyte = measured["memcpy of one MiB, warm"]
    return {
        "one call": (native, "one call of a native method"),
        "two calls": (2 * native, "two calls of native methods"),
        "three calls": (3 * native, "three calls of native methods"),
        "thread": (measured["a bare thread starts and is waited for"], "a bare thread starts and is waited for"),
        "one copy": (wake + 64 * mebibyte, "a futex round trip, one copy"),
        "copies": (wake + 128 * mebibyte, "a futex round trip, one copy each way"),
        "copies 1m": (wake + 2 * mebibyte, "a futex round trip, one copy each way"),
        "copies 64k": (wake + mebibyte / 8, "a futex round trip, one copy each way"),
        "fork": (measured["a forked process starts and ends"], "a forked process starts and ends"),
        "start": (
            measured["start and end of an interpreter that imports nothing"],
            "start and end of an interpreter that imports nothing",
        ),
        "latency-process": (
            wake + 2 * pickles + call,
            "a futex round trip, two pickles (arguments there, result back), one call",
        ),
        "latency-thread": (
            measured["lock round trip between two Python threads"] + call,
            "a lock round trip between two threads, one call",
        ),
        "backlog-process": (
            pickles + call / 2,
            "two pickles (arguments there, result back) and one call, spread over two cores",
        ),
        "backlog-thread": (call, "one call: only one thread runs Python at a time"),
        "map-process": (
            item + call / 2,
            "two pickles of one int inside a long list and one call, spread over two cores",
        ),
        "map-thread": (call, "one call: only one thread runs Python at a time"),
        "burn": (0.0005, "1 ms spread over two cores"),
        "brief": (0.00001, "20 µs spread over two cores"),
        "stream": (float(mmap.PAGESIZE), "a page: an item and a result at a time need no more"),
        "memory": (
            measured["bytes of an argument, its tuple, an empty object and a list slot"],
            "argument, its tuple, an empty object and a list slot",
        ),
        "shutdown-process": (measured["two idle processes end"], "two idle processes end"),
        "shutdown-thread": (measured["two idle threads end"], "two idle threads end"),
    }
