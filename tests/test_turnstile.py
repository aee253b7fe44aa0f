"""Many threads that are woken at once: they come back into Python in turn, and nobody is lost on the way."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(120)

#: Threads that wait until something is said to all of them at once.
MANY = """
import os, resource, sys, threading, warnings
import raddle
from raddle.threading import Event, Thread

number = int(sys.argv[1])
arrived, over = threading.Semaphore(0), Event()

def start(wait, daemon=False):
    def run():
        arrived.release()
        wait()
        ended.append(1)

    threads = [Thread(target=run, daemon=daemon) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        arrived.acquire()
    return threads

ended = []
"""


def run(script, source, number):
    ended = script(MANY + source).run(number, timeout=100)
    assert (ended.code, ended.err) == (0, ""), ended
    return ended.out


def test_a_thousand_that_are_woken_at_once_do_not_all_look_for_the_interpreter(script):
    switches = run(
        script,
        """
threads = start(over.wait)
before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
over.set()
for thread in threads:
    thread.join()
assert len(ended) == number
print((resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) // number)
""",
        1500,
    )
    # Each of them is woken two or three times. When all of them looked every five milliseconds it was some hundreds.
    assert int(switches) < 60


def test_the_workers_of_a_wide_pool_do_not_all_look_for_the_interpreter(script):
    switches = run(
        script,
        """
before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
with raddle.Pool("thread", number) as pool:
    assert list(pool.map(abs, range(40_000))) == list(range(40_000))
print((resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) // number)
""",
        1500,
    )
    # As above, when they are given work and when they are told to end.
    assert int(switches) < 60


def test_a_process_that_is_forked_off_in_the_middle_begins_anew(script):
    out = run(
        script,
        """
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns when a process with threads forks
threads = start(over.wait)
over.set()
for _ in range(3):
    child = os.fork()
    if child == 0:
        over, ended, before = Event(), [], threading.active_count()
        more = start(over.wait)
        over.set()
        for thread in more:
            thread.join()
        os._exit(0 if len(ended) == number else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for thread in threads:
    thread.join()
assert len(ended) == number
""",
        200,
    )
    assert out.split() == ["0", "0", "0"]


def test_the_program_ends_while_daemons_are_on_their_way(script):
    run(script, "start(over.wait, daemon=True)\nover.set()\n", 300)


def test_all_that_are_stopped_at_once_are_stopped(script):
    out = run(
        script,
        """
def wait():
    try:
        Event().wait()
    except raddle.Stopped:
        return

threads = start(wait)
for thread in threads:
    raddle.stop(thread)
for thread in threads:
    thread.join()
print(len(ended))
""",
        300,
    )
    assert int(out) == 300
