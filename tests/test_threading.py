"""`raddle.threading` behaves as `threading` does: each test runs on both."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading as standard
import time
import weakref
from functools import partial

import pytest

import raddle.queue as queue
import raddle.threading as threading
from calls import until

PATIENCE = 20
both = pytest.mark.parametrize("module", [standard, threading], ids=["stdlib", "raddle"])


def held(lock):
    lock.acquire()
    return lock


def in_a_condition(module):
    condition = module.Condition()

    def wait():
        with condition:
            return condition.wait(PATIENCE)

    return wait


def an_owned_rlock(module):
    lock = module.RLock()
    owner = standard.Thread(target=lock.acquire)
    owner.start()
    owner.join()
    return lambda: lock.acquire(timeout=PATIENCE)


WAITS = {
    "lock": lambda module: partial(held(module.Lock()).acquire, timeout=PATIENCE),
    "rlock": an_owned_rlock,
    "event": lambda module: partial(module.Event().wait, PATIENCE),
    "semaphore": lambda module: partial(module.Semaphore(0).acquire, timeout=PATIENCE),
    "condition": in_a_condition,
    "barrier": lambda module: partial(module.Barrier(2).wait, PATIENCE),
}


@both
@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_every_wait_at_once(module, wait):
    function = WAITS[wait](module)
    timer = standard.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        function()
    assert time.monotonic() - began < PATIENCE / 2
    timer.join()


@both
def test_a_permit_is_not_lost_by_who_was_interrupted(module):
    permits = module.Semaphore(0)
    timer = standard.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        permits.acquire(timeout=PATIENCE)
    timer.join()
    permits.release()
    assert permits.acquire(timeout=PATIENCE)
    assert not permits.acquire(blocking=False)


@both
def test_what_is_refused(module):
    for timeout in (-0.5, float("nan")):
        with pytest.raises(ValueError):
            module.Lock().acquire(True, timeout)
    for timeout in ("0.1", None, []):
        with pytest.raises(TypeError):
            module.Lock().acquire(True, timeout)
    with pytest.raises(OverflowError):
        module.Lock().acquire(True, 1e10)
    with pytest.raises(ValueError):
        module.Lock().acquire(False, 1)
    for made in (module.Lock(), module.RLock()):
        with pytest.raises(RuntimeError):
            made.release()
        with pytest.raises(TypeError):
            pickle.dumps(made)
    with pytest.raises(ValueError):
        module.BoundedSemaphore(1).release()
    for refused in (module.Condition().notify, module.Condition().wait):
        with pytest.raises(RuntimeError):
            refused()


@both
def test_what_waits_for_nothing(module):
    assert module.Event().wait(0) is False
    assert module.Event().wait(-1) is False
    assert module.Semaphore(0).acquire(timeout=-1) is False
    assert held(module.Lock()).acquire(timeout=0) is False
    condition = module.Condition()
    with condition:
        assert condition.wait(0) is False
        assert condition.wait_for(list, 0) == []


@both
def test_circles_through_a_primitive_are_collected(module):
    class Meeting(module.Barrier):
        def __init__(self):
            super().__init__(1, self.go)

        def go(self):
            pass

    condition = module.Condition()
    condition.itself = condition
    made = [Meeting(), condition]
    seen = [weakref.ref(one) for one in made]
    del made, condition
    gc.collect()
    assert [one() for one in seen] == [None, None]


@both
def test_a_thousand_threads_wake_from_one_event(module):
    event = module.Event()
    threads = [standard.Thread(target=event.wait, daemon=True) for _ in range(1000)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_uses_what_threads_of_the_parent_wait_for():
    event, permits, items, lock = threading.Event(), threading.Semaphore(0), queue.Queue(), held(threading.Lock())
    about = []

    def waits(function):
        def run():
            about.append(1)
            function()

        return run

    threads = [
        standard.Thread(target=waits(function), daemon=True)
        for function in (event.wait, permits.acquire, items.get, lock.acquire)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(about) == len(threads), "the threads to run")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            items.put(1)
            permits.release()
            event.set()
            lock.release()
            if items.get(timeout=1) == 1 and permits.acquire(timeout=1) and event.wait(1) and lock.acquire(timeout=1):
                code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert all(thread.is_alive() for thread in threads)
    event.set()
    permits.release()
    items.put(1)
    lock.release()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="there the collector does not run in the middle of making an object"
)
@pytest.mark.parametrize("kind", ["Condition()", "Barrier(2)", "Event()", "Semaphore()"])
def test_the_collector_may_come_while_one_is_made(kind):
    source = f"""if True:
        import gc, raddle.threading as threading
        gc.set_threshold(1)
        made = [threading.{kind} for _ in range(1000)]
        print("done")
    """
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "done\n")


def said(call, *args, **kwargs):
    """What a call has come to."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_acquire_and_release_come_to_the_same_whichever_way_they_take(kind):
    found = []
    for module in (standard, threading):
        here = []
        for args, kwargs in (
            ((), {}),
            ((True,), {}),
            ((False,), {}),
            ((1,), {}),
            ((), {"blocking": True}),
            ((False, 1), {}),
            ((True, "now"), {}),
            ((True, None, None), {}),
        ):
            lock = getattr(module, kind)()
            here += [said(lock.acquire, *args, **kwargs), said(lock.release), said(lock.release)]
            here += [said(lock.__enter__), lock.__exit__(None, None, None), said(lock.__exit__, None, None, None)]
            here += [said(lock.acquire), said(lock.acquire, False) if args == (False,) else None]
            here += [said(lock.release), said(lock.release, 0), said(lock.acquire, blocking=False)]
        found.append(here)
    assert found[0] == found[1]


@both
def test_an_event_says_what_it_is_whichever_way_it_is_asked(module):
    event = module.Event()
    assert (event.is_set(), event.wait(0), event.set(), event.is_set(), event.wait(), event.wait(timeout=1)) == (
        False,
        False,
        None,
        True,
        True,
        True,
    )
    assert event.clear() is None
    assert not event.is_set()
    assert said(event.wait, 1, 2) is TypeError
    assert said(event.set, 1) is TypeError


def a_foreign_lock(module):
    class Foreign:
        """A lock of the user's."""

        def __init__(self):
            self.lock, self.calls = standard.Lock(), []
            self.acquire, self.release, self.locked = self.lock.acquire, self.lock.release, self.lock.locked

        def __enter__(self):
            self.calls.append("enter")
            return self.lock.__enter__()

        def __exit__(self, *error):
            self.calls.append("exit")
            return self.lock.__exit__(*error)

    return Foreign()


LOCKS = {
    "none": lambda module: None,
    "Lock": lambda module: module.Lock(),
    "RLock": lambda module: module.RLock(),
    "foreign": a_foreign_lock,
}


@pytest.mark.parametrize("over", LOCKS)
def test_a_condition_comes_to_the_same_whichever_way_its_calls_take(over):
    found = []
    for module in (standard, threading):
        lock = LOCKS[over](module)
        condition = module.Condition(lock)
        here = [said(condition.notify), said(condition.notify_all), said(condition.wait, 0), said(condition.wait)]
        with condition as entered:
            here += [entered, said(condition.notify), said(condition.notify, 2), said(condition.notify, n=0)]
            here += [said(condition.notify_all)]
            here += [condition.wait(0), condition.wait(0.0), condition.wait(timeout=0), condition.wait(False)]
            here += [said(condition.wait, "long"), said(condition.acquire, False)]
            if over in ("none", "RLock"):
                condition.release()
        here += [said(condition.release), said(condition.__exit__, None, None, None), said(condition.wait, 0)]
        here += [condition.acquire(), condition.__exit__(None, None, None), getattr(lock, "calls", None)]
        found.append(here)
    assert found[0] == found[1]


@both
@pytest.mark.parametrize("over", ["none", "Lock"])
def test_a_wait_without_time_lets_those_in_who_want_the_lock(module, over):
    condition, came = module.Condition(LOCKS[over](module)), []

    def come():
        with condition:
            came.append(True)
            condition.notify()

    other = standard.Thread(target=come, daemon=True)
    deadline = time.monotonic() + PATIENCE
    with condition:
        other.start()
        while not came and time.monotonic() < deadline:
            condition.wait(0)
    other.join(PATIENCE)
    assert came


def test_the_birth_of_a_thread_is_waited_for_as_any_event():
    birth = threading._Birth()
    assert not birth.wait(0)
    assert not birth.wait(0.001)
    seen = []
    waiters = [threading.Thread(target=lambda: seen.append(birth.wait()), daemon=True) for _ in range(2)]
    for thread in waiters:
        thread.start()
    until(lambda: all(thread.life.state == "parked" for thread in waiters), "both to sleep")
    assert not seen
    birth.set()
    for thread in waiters:
        thread.join(PATIENCE)
    assert seen == [True, True]
    assert birth.wait()


def test_a_sub_interpreter_that_imports_it_leaves_the_main_one_alone(script):
    ended = script(
        """
        import raddle.threading
        from raddle.queue import Queue
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            import _interpreters as interpreters

        for isolated in (False, True):
            try:
                other = interpreters.create(isolated=isolated)
            except TypeError:
                other = interpreters.create("isolated" if isolated else "legacy")
            try:
                interpreters.run_string(other, "try:\\n import raddle.threading\\nexcept ImportError: pass")
            except Exception as error:
                print(error)
            interpreters.destroy(other)
        lock, queue = raddle.threading.Lock(), Queue()
        with lock:
            queue.put(1)
        print(queue.get())
        """
    ).run()
    assert (ended.out, ended.code) == ("1\n", 0), ended.err


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_a_condition_says_whether_its_lock_is_taken(make):
    condition = threading.Condition(make())
    assert not condition.locked()
    with condition:
        assert condition.locked()
    assert not condition.locked()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="there it waits for ever in the standard library, too")
def test_to_join_a_daemon_thread_at_the_end_of_the_interpreter_is_an_error(script):
    ended = script("""
        from raddle.threading import Event, Thread

        def wait(ready):
            ready.set()
            Event().wait()

        class AtTheEnd:
            def __init__(self):
                self.myself, self.thread = self, Thread(target=wait, args=(ready,), daemon=True)
                self.thread.start()

            def __del__(self):
                try:
                    self.thread.join()
                except PythonFinalizationError as error:
                    print(error)

        ready = Event()
        AtTheEnd()
        ready.wait()
    """).run()
    assert (ended.out, ended.code) == ("cannot join thread at interpreter shutdown\n", 0), ended
