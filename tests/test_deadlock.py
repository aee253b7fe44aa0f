"""Waits that can never end are named, or raised in one of those who wait; clean programs are left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading as standard
import time

import pytest

import raddle
import raddle.threading as threading
from threads import together

PATIENCE = 20


def kinds_of(results):
    return sorted("ok" if error is None else type(error).__name__ for error in results)


def program(source, patience=PATIENCE):
    """Runs a program of its own, in which there are no threads but its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=patience
    )
    return done.returncode, done.stdout, done.stderr


def by_with(first, second, meet):
    def run():
        with first:
            meet()
            with second:
                pass

    return run


def by_call(first, second, meet):
    def run():
        first.acquire()
        try:
            meet()
            second.acquire()
            second.release()
        finally:
            first.release()

    return run


@pytest.mark.parametrize("how", [by_with, by_call])
@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
@pytest.mark.parametrize("count", [2, 3])
def test_of_a_ring_of_locks_one_gets_the_error_and_the_others_go_on(raises, how, kind, count):
    for _ in range(20):
        locks = [kind() for _ in range(count)]
        for lock in locks:
            with lock:
                pass  # who has taken it has released it: it is no gate for others to open
        meet = standard.Barrier(count).wait
        results = together(*(how(locks[i], locks[(i + 1) % count], meet) for i in range(count)))
        assert kinds_of(results) == ["DeadlockError"] + ["ok"] * (count - 1)
        (error,) = filter(None, results)
        assert len(error.deadlock.units) == count
        assert not error.deadlock.is_everybody


def test_a_lock_taken_again_by_its_owner_is_raised(raises):
    lock = threading.Lock()
    with pytest.raises(raddle.DeadlockError, match="waits for itself"):
        with lock:
            with lock:
                pass
    assert not lock.locked()


def test_joining_who_needs_what_is_held_is_raised_on_one_side(raises):
    for kind in (threading.Lock, threading.RLock):
        lock, errors, holds = kind(), [], standard.Event()

        def work():
            holds.wait()
            try:
                with lock:
                    pass
            except raddle.DeadlockError as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        try:
            with lock:
                thread.start()
                holds.set()
                thread.join()
        except raddle.DeadlockError as error:
            errors.append(error)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert len(errors) == 1
        assert "join" in str(errors[0])


def test_threads_that_join_each_other_are_found(raises):
    threads, meet = [], standard.Barrier(2)

    def join(other):
        meet.wait()
        threads[other].join()

    errors = []

    def work(other):
        try:
            join(other)
        except raddle.DeadlockError as error:
            errors.append(error)

    threads += [threading.Thread(target=work, args=(1 - i,), daemon=True) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(errors) == 1


def test_ordered_locks_are_no_deadlock(alarms):
    locks = [threading.Lock(), threading.RLock(), threading.Lock()]

    def work():
        for _ in range(300):
            with locks[0], locks[1], locks[2]:
                pass

    assert kinds_of(together(*[work] * 4)) == ["ok"] * 4
    assert alarms == []


def test_locks_that_go_from_hand_to_hand_are_no_deadlock(alarms):
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def serve():
        for _ in range(200):
            there.acquire()
            back.release()

    def ask():
        for _ in range(200):
            there.release()
            back.acquire()

    assert kinds_of(together(serve, ask)) == ["ok", "ok"]
    assert alarms == []


def test_a_wait_with_a_deadline_is_no_deadlock(alarms):
    locks, meet = [threading.Lock(), threading.Lock()], standard.Barrier(2)
    answers = []

    def work(mine, other):
        with locks[mine]:
            meet.wait()
            answers.append(locks[other].acquire(timeout=0.05))
            meet.wait()
            if answers[-1]:
                locks[other].release()

    assert kinds_of(together(lambda: work(0, 1), lambda: work(1, 0))) == ["ok", "ok"]
    assert answers == [False, False]
    assert alarms == []


def test_everybody_in_get_while_the_main_thread_joins_is_raised_once():
    code, out, _ = program("""
        import raddle, raddle.queue, raddle.threading as threading
        raddle.on_deadlock = "raise"
        queue, errors = raddle.queue.Queue(), []
        def work():
            try:
                queue.get()
            except raddle.DeadlockError as error:
                errors.append(error)
                queue.put(1)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except raddle.DeadlockError as error:
            errors.append(error)
            queue.put(1), queue.put(1)
        print(len(errors), errors[0].deadlock.is_everybody)
    """)
    assert (code, out) == (0, "1 True\n")


@pytest.mark.parametrize(
    "opener", ["threading.Timer(0.05, event.set).start()", "_thread.start_new_thread(event.set, ())"]
)
def test_an_event_that_somebody_will_set_is_no_deadlock(opener):
    code, out, err = program(f"""
        import _thread, raddle, raddle.threading as threading
        raddle.on_deadlock = "raise"
        for _ in range(20):
            event = threading.Event()
            {opener}
            event.wait()
        print("done")
    """)
    assert (code, out, err) == (0, "done\n", "")


def test_an_event_that_a_signal_handler_sets_is_no_deadlock():
    code, out, err = program("""
        import signal, raddle, raddle.threading as threading
        raddle.on_deadlock = "raise"
        event = threading.Event()
        signal.signal(signal.SIGALRM, lambda *_: event.set())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        event.wait()
        print("done")
    """)
    assert (code, out, err) == (0, "done\n", "")


def test_everybody_in_get_is_raised():
    code, out, _ = program("""
        import raddle, raddle.queue
        raddle.on_deadlock = "raise"
        try:
            raddle.queue.Queue().get()
        except raddle.DeadlockError as error:
            print(error.deadlock.is_everybody)
    """)
    assert (code, out) == (0, "True\n")


# What is found and wrong today. Each shows what is meant to hold.


def test_who_runs_a_signal_handler_does_not_sleep():
    code, out, err = program("""
        import os, signal, time, raddle, raddle.threading as threading
        found = []
        raddle.on_deadlock = found.append
        lock, other = threading.Lock(), threading.Lock()
        holds, handles = threading.Event(), threading.Event()
        def handle(*_):
            with other:
                handles.set()
                time.sleep(0.3)
        signal.signal(signal.SIGUSR1, handle)
        def work():
            with lock:
                holds.set()
                time.sleep(0.2)  # until the main thread sleeps
                os.kill(os.getpid(), signal.SIGUSR1)
                handles.wait()
                with other:
                    pass
        threading.Thread(target=work).start()
        holds.wait()
        with lock:
            print(len(found))
    """)
    assert (code, out, err) == (0, "0\n", "")


def test_an_rlock_whose_owner_has_ended_is_found():
    code, out, _ = program(
        """
        import raddle, raddle.threading as threading
        raddle.on_deadlock = "raise"
        lock = threading.RLock()
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()
        try:
            lock.acquire(timeout=0.01) or lock.acquire()
        except raddle.DeadlockError:
            print("found")
    """,
        patience=5,
    )
    assert (code, out) == (0, "found\n")


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_condition_that_cannot_have_its_lock_back_does_not_release_that_of_another(raises, kind):
    lock, other, waits = kind(), threading.Lock(), standard.Event()
    condition, seen = threading.Condition(lock), []

    def wait():
        with other:
            with condition:
                waits.set()
                condition.wait(0.3)

    def want():
        waits.wait()
        with condition:
            with other:
                seen.append(lock.locked())

    ended, raised = together(wait, want)
    # The one that waits in the condition must have its lock back; so the other one is told.
    assert ended is None
    assert isinstance(raised, raddle.DeadlockError)
    assert seen == []
    assert not lock.locked()
    assert not other.locked()


def test_ctrl_c_is_never_swallowed():
    code, out, err = program("""
        import os, signal, subprocess, sys, time, raddle.queue as queue, raddle.threading as threading
        there, back = queue.SimpleQueue(), queue.SimpleQueue()
        def echo():
            while True:
                back.put(there.get())
        threading.Thread(target=echo, daemon=True).start()
        sender = subprocess.Popen([sys.executable, "-c", f'''if True:
            import os, signal, time
            for _ in range(100):
                os.kill({os.getpid()}, signal.SIGINT)
                time.sleep(0.02)
        '''], start_new_session=True)
        came, end = 0, time.monotonic() + 4
        while time.monotonic() < end:
            try:
                while time.monotonic() < end:
                    there.put(1)
                    back.get()
            except KeyboardInterrupt:
                came += 1
        print(came >= 95)
        sys.stdout.flush()
        os._exit(0)
    """)
    assert (code, out, err) == (0, "True\n", "")


def test_starting_many_threads_that_wait_takes_no_longer_for_each():
    code, out, _ = program(
        """
        import time, raddle.threading as threading
        took = []
        for count in (100, 800):
            event = threading.Event()
            threads = [threading.Thread(target=event.wait) for _ in range(count)]
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            took.append((time.perf_counter() - began) / count)
            event.set()
            for thread in threads:
                thread.join()
        print(took[1] < 10 * took[0])
    """,
        patience=40,
    )
    assert (code, out) == (0, "True\n")


def test_gates_that_a_third_thread_opens_are_no_deadlock(raises):
    gate, done = threading.Lock(), threading.Lock()
    gate.acquire()
    has_done = standard.Event()

    def worker():
        done.acquire()
        has_done.set()
        gate.acquire()
        done.release()

    thread = threading.Thread(target=worker)
    thread.start()
    has_done.wait()
    opener = standard.Timer(0.1, gate.release)
    opener.start()
    assert done.acquire()
    thread.join()
    opener.join()


LAST_PRODUCER = """
import threading, time
import raddle
from raddle.queue import Queue
from raddle.threading import Condition, Thread

raddle.on_deadlock = "raise"
queue = Queue()

def produce():
    queue.put(1)
    time.sleep({delay})

{start}
assert queue.get() == 1
begun = time.monotonic()
try:
    {wait}
except raddle.DeadlockError as error:
    print("nobody is left")
"""


@pytest.mark.parametrize("delay", [0, 0.2])
@pytest.mark.parametrize(
    ("start", "wait"),
    [
        ("Thread(target=produce).start()", "queue.get()"),
        ("for _ in range(3): Thread(target=produce).start()\nqueue.get(); queue.get()", "queue.get()"),
        ("Thread(target=produce).start()\ncondition = Condition()", "with condition: condition.wait()"),
        ("Thread(target=produce).start()", "raddle.channel(0)[0].send(1) if False else queue.join()"),
    ],
)
def test_a_wait_for_what_a_thread_that_has_ended_might_have_brought_is_found(script, delay, start, wait):
    ended = script(LAST_PRODUCER.format(delay=delay, start=start, wait=wait)).run()
    assert (ended.out, ended.err, ended.code) == ("nobody is left\n", "", 0)


def test_it_is_found_whoever_is_asked_to_look(script):
    # One of those who sleep is asked when the last of the others ends: two in a lock, or the one in the queue.
    ended = script("""
        import time, raddle
        from raddle.queue import Queue
        from raddle.threading import Lock, Thread

        raddle.on_deadlock = "raise"
        for _ in range(12):
            queue, lock = Queue(), Lock()

            def get():
                with lock:
                    queue.put("has it")
                    queue.join()

            def want():
                with lock:
                    pass

            last = Thread(target=time.sleep, args=(0.05,))
            threads = [Thread(target=get), Thread(target=want)]
            last.start()
            threads[0].start()
            queue.get()
            threads[1].start()
            try:
                with lock:
                    pass
            except raddle.DeadlockError:
                queue.task_done()
            for thread in threads:
                thread.join()
            print("all ended")
    """).run()
    assert (ended.out, ended.code) == (12 * "all ended\n", 0)


def test_a_circle_is_told_once_though_threads_end_beside_it(script):
    started = script(
        """
        import time, raddle
        from raddle.queue import Queue
        from raddle.threading import Thread

        def tell(deadlock):
            print("told", flush=True)
            for _ in range(3):  # each of them, when it ends, has somebody look again
                Thread(target=time.sleep, args=(0.05,)).start()

        raddle.on_deadlock = tell
        queue = Queue()
        for _ in range(3):
            Thread(target=queue.get, daemon=True).start()
        try:
            queue.get()
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    child = started.start()
    assert child.stdout.readline() == "told\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    ended = started.finish()
    assert (ended.out, ended.err, ended.code) == ("interrupted\n", "", 0)


def test_a_thread_that_is_just_being_started_is_not_overlooked(script):
    ended = script("""
        import _thread, raddle
        from raddle.queue import Queue
        from raddle.threading import Thread

        def serve():
            while asked.get():
                _thread.start_new_thread(answered.put, (1,))  # until it puts, nobody in the house knows of it

        raddle.on_deadlock = "raise"
        asked, answered = Queue(), Queue()
        server = Thread(target=serve)
        server.start()
        for _ in range(2_000):
            asked.put(1)
            answered.get()
        asked.put(0)
        server.join()
        print("all ended")
    """).run()
    assert (ended.out, ended.err, ended.code) == ("all ended\n", "", 0)


def test_where_locks_were_taken_is_told(script):
    ended = script(
        """
        import raddle, re
        from raddle.threading import Barrier, Lock, RLock, Thread

        both = Barrier(2)
        silver, gold = Lock(), RLock()
        third = Lock()
        told = []

        def one():
            with third, silver:
                both.wait()
                with gold:
                    pass

        def two():
            with gold:
                both.wait()
                with silver:
                    pass

        raddle.on_deadlock = "raise"
        threads = [Thread(target=one, name="one"), Thread(target=two, name="two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (error,) = [thread.failure for thread in threads if thread.failure is not None]
        wanted = {"one": ("an RLock", "gold", gold), "two": ("a Lock", "silver", silver)}
        for unit in sorted(error.deadlock.units):
            kind, name, lock = wanted[unit.name]
            print(unit.name, unit.waits_for == f"{kind} {name!r} at {id(lock):#x}", unit.taken_at.rpartition(":")[2])
        """
    ).run()
    assert ended.code == 0, ended.err
    assert ended.out == "one True 17\ntwo True 11\n"


def test_a_lock_that_was_taken_by_a_call_is_not_said_to_have_been_taken_elsewhere(raises):
    lock, beside = threading.Lock(), threading.Lock()
    lock.acquire()
    lock.release()  # it is no signal
    with beside:
        lock.acquire()
        with pytest.raises(raddle.DeadlockError) as caught:
            lock.acquire()
        lock.release()
    (unit,) = caught.value.deadlock.units
    assert unit.taken_at is None
