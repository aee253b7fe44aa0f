"""A library has threads of its own, which rest for all the time; the program has one that works."""

import ctypes
import os
import time

libc = ctypes.CDLL(None)
libc.pthread_create.argtypes = [ctypes.c_void_p] * 4
handle = ctypes.c_ulong()


def start(function, argument):
    begin = ctypes.cast(function, ctypes.c_void_p)
    assert libc.pthread_create(ctypes.byref(handle), None, begin, argument) == 0


# Three of them never hear of Python.
for _ in range(3):
    start(libc.sleep, 100)


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def called(_):
    met.append(os.getpid())
    return 0


# And one for a moment.
met = []
start(called, None)
until = time.monotonic() + 1.0
while time.monotonic() < until or not met:
    sum(range(1000))
