"""CPython's tests of `queue`. They import two fresh copies of it, one without its C half; both are replaced by the face."""

from __future__ import annotations

import importlib
import os

from test import test_queue

queues = importlib.import_module(os.environ["RADDLE_CONFORMANCE_FACE"])
for tests in list(vars(test_queue).values()):
    if isinstance(tests, type) and getattr(tests, "queue", None) in (test_queue.py_queue, test_queue.c_queue):
        tests.queue = queues
        for name in ("Empty", "Full"):
            if hasattr(tests, name):
                setattr(tests, name, getattr(queues, name))

# The copy in Python of what is written in C is ours, too.
queues._PySimpleQueue = getattr(queues, "SimpleQueue", test_queue.c_queue.SimpleQueue)  # type: ignore[attr-defined]

# Two classes of test queues are made over the copies, by a function that a copy is given to.
for tests in list(vars(test_queue).values()):
    if isinstance(tests, type) and hasattr(tests, "setUp") and "FailingQueue" in tests.__name__:
        tests.queue = queues

from test.test_queue import *  # noqa: F403
