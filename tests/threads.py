"""What tests of threads do again and again: start some, wait until they wait, collect what they have raised."""

from __future__ import annotations

import time

from raddle.threading import Thread

PATIENCE = 20


def start(function, *args):
    """Runs it on a daemon thread of its own, which is returned."""
    thread = Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def waits(thread):
    """Returns once a thread waits for something of the house."""
    deadline = time.monotonic() + PATIENCE
    while thread.life.state != "parked":
        assert time.monotonic() < deadline
        time.sleep(0.001)


def together(*functions):
    """Runs each on a daemon thread of its own; returns what they raised, `None` for those that raised nothing."""
    results = [None] * len(functions)

    def run(index, function):
        try:
            function()
        except BaseException as error:
            results[index] = error

    threads = [start(run, index, function) for index, function in enumerate(functions)]
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread is stuck"
    return results
