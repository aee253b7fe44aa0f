"""The recorder: what programs leave behind when `RADDLE_SESSION` is set, and that they do not notice it."""

from __future__ import annotations

import importlib.util
import itertools
import re
import signal
import subprocess
import sys
import time

import pytest

import sessions
from raddle._raddle import read_events
from recorded import MANY_WAITS, Ran, Runner, needs_recorder, runner

__all__ = ["runner"]
pytestmark = needs_recorder


def test_a_wait_for_a_lock_has_a_holder_and_places(runner: Runner) -> None:
    ran = runner.run("""
        import platform, sys, threading
        lock, is_held, pause = threading.Lock(), threading.Event(), threading.Event()
        def hold():
            with lock:
                is_held.set()
                while not waits():
                    pause.wait(0.01)
        FUTEX = {"x86_64": "202", "aarch64": "98"}[platform.machine()]
        def waits():
            if sys._current_frames()[wanter.ident].f_lineno != 16:
                return False
            call = open(f"/proc/self/task/{wanter.native_id}/syscall").read().split()
            return call[0] == FUTEX and call[4] == "0x0"  # without a time: not for the GIL
        def want():
            is_held.wait()
            with lock:
                pass
        holder, wanter = threading.Thread(target=hold, name="holder"), threading.Thread(target=want, name="wanter")
        wanter.start(); holder.start(); holder.join(); wanter.join()
    """)
    assert (ran.code, ran.err) == (0, "")
    threads = ran.process["threads"]
    names = [thread["name"] for thread in threads]
    wanter, holder = names.index("wanter"), names.index("holder")
    waits = [span for span in threads[wanter]["spans"] if span["state"] == "lock" and ran.line(span["place"]) == 16]
    wait = waits[0]  # behind the wait for the GIL there may be a rest of it
    assert wait["holder"] == holder
    thing = ran.session["things"][wait["thing"]]
    assert ran.line(thing["made"]) == 2
    assert (thing["kind"], thing["taken"], thing["contended"]) == ("lock", 2, 1)
    # `Event.wait` is a lock in the end, but is none that anybody holds.
    events = [span for span in threads[wanter]["spans"] if span["state"] == "event"]
    assert all(span["thing"] is None and span["holder"] is None for span in events)
    assert threads[wanter]["starter"] == 0
    assert ran.line(threads[holder]["function"]) == 3
    assert any(one["thing"] == wait["thing"] and one["from"] == [0, holder] for one in ran.session["passes"])


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_who_takes_a_lock_again_that_was_handed_over_is_seen_to_wait(runner: Runner, kind: str) -> None:
    ran = runner.run(f"""
        import threading, time
        lock, waits = threading.{kind}(), []
        def work():
            for _ in range(30):
                began = time.perf_counter()
                lock.acquire()
                waits.append(time.perf_counter() - began)
                time.sleep(0.005)
                lock.release()
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sum(waits))
    """)
    spans = [span for thread in ran.process["threads"] for span in thread["spans"] if ran.line(span["place"]) == 6]
    waits = [span["until"] - span["from"] for span in spans if span["state"] == "lock"]
    assert sum(waits) / 1e9 == pytest.approx(float(ran.out), rel=0.25)


def test_a_lock_is_held_as_long_as_it_is_held(runner: Runner) -> None:
    """Also one for which somebody asks now and then, so that its hold is measured from there."""
    ran = runner.run("""
        import threading, time
        lock, end, held = threading.Lock(), threading.Event(), 0
        def ask():
            while not end.wait(0.001):
                if lock.acquire(timeout=0.0001): lock.release()
        thread = threading.Thread(target=ask)
        thread.start()
        for _ in range(300):  # after so many one hold stands for several
            with lock: pass
        for _ in range(200):
            with lock:
                began = time.monotonic()
                time.sleep(0.005)
                held += time.monotonic() - began
        end.set(); thread.join()
        print(held)
    """)
    (lock,) = [thing for thing in ran.session["things"] if ran.line(thing["made"]) == 2 and thing["kind"] == "lock"]
    assert lock["held"] / 1e9 == pytest.approx(float(ran.out), rel=0.5)  # a sum of few samples


def test_who_only_looks_whether_a_lock_is_free_does_not_wait(runner: Runner) -> None:
    ran = runner.run("""
        import threading
        lock = threading.Lock()
        with lock:
            for _ in range(1000):
                lock.acquire(False); lock.acquire(timeout=0); lock.acquire(True, 0.0)
            lock.acquire(timeout=0.01)
    """)
    (lock,) = [thing for thing in ran.session["things"] if thing["kind"] == "lock"]
    assert lock["contended"] == 1


def test_waits_for_the_gil_are_recorded(runner: Runner) -> None:
    ran = runner.run("""
        import threading
        def spin():
            for _ in range(3_000_000):
                pass
        threads = [threading.Thread(target=spin) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """)
    gil = ran.process["gil"]
    assert gil["held"] > 0
    assert gil["switches"] > 0
    assert gil["waited"] > 0
    assert any(span["state"] == "gil" for thread in ran.process["threads"] for span in thread["spans"])


def test_without_the_variable_nothing_is_written(runner: Runner) -> None:
    assert runner.run("print(1)", record=False).files == []


def test_a_directory_that_is_not_there_changes_nothing(runner: Runner) -> None:
    runner.session.rmdir()
    path = runner.write("print(1)")
    process = runner.start(path)
    assert process.communicate(timeout=50)[0] == "1\n"
    assert process.returncode == 0


IDENTITY = """
    import sys
    before = sorted(sys.modules)
    import threading, gc, os, _thread
    lock, rlock = threading.Lock(), threading.RLock()
    def show(value):
        return repr(value).split(" at 0x")[0]
    print(before, sys.path, sys.argv, sys.flags, sys.orig_argv[1:], sys.getswitchinterval())
    print(type(lock), type(rlock), show(lock), show(rlock), show(lock.acquire), type(lock).acquire, _thread.start_new_thread)
    print(threading.excepthook, sys.excepthook, sys.unraisablehook, threading.enumerate(), threading.active_count())
    print(threading.Thread().name, threading.Thread(target=show).name, _thread._count(), len(gc.callbacks))
    print(lock.acquire(), lock.acquire(False), lock.acquire(blocking=False), lock.acquire(timeout=0.01), lock.locked(), lock.release())
    print(rlock.acquire(), rlock.acquire(), rlock._is_owned(), rlock._recursion_count() if hasattr(rlock, "_recursion_count") else 2)
    print(rlock.release(), rlock.release(), rlock._is_owned())
    for wrong in (lock.release, rlock.release, lambda: lock.acquire(1, 2, 3), lambda: lock.acquire(False, 1), lambda: lock.acquire(timeout=-5),
                  lambda: rlock.acquire(nothing=1), lambda: lock.acquire("yes", "no"),
                  lambda: threading.Lock().acquire(2**64), lambda: threading.Lock().acquire(timeout=2**64), lambda: threading.RLock().acquire(2**64)):
        try:
            print(wrong())
        except Exception as error:
            print(type(error), error)
    print(os.listdir("/proc/self/fd"))
    counts = [sys.getrefcount(one) for one in (True, False, None, lock, type(lock), type(rlock), show)]
    for _ in range(2000):
        with lock: pass
        with rlock:
            with rlock: pass
        lock.acquire(False); lock.acquire(False); lock.release(); lock.locked()
        threading.Lock(); threading.RLock()
    after = [sys.getrefcount(one) for one in (True, False, None, lock, type(lock), type(rlock), show)]
    print([abs(new - old) < 50 for old, new in zip(counts, after)])
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start(); thread.join()
    print(threading.enumerate(), show(_thread.allocate_lock()))
"""


def test_the_program_sees_what_it_sees_without(runner: Runner) -> None:
    plain, recorded = runner.run(IDENTITY, record=False), runner.run(IDENTITY)
    assert len(recorded.files) == 1
    assert re.sub(r"\d{9,}", "", recorded.out) == re.sub(r"\d{9,}", "", plain.out)
    assert recorded.code == plain.code == 0
    assert "ZeroDivisionError" in plain.err
    # The name of an identifier may differ, nothing else.
    assert [line.split("0x")[0] for line in recorded.err.splitlines()] == [
        line.split("0x")[0] for line in plain.err.splitlines()
    ]


@pytest.mark.parametrize("name", ["queue", "threading", "logging", "_thread", "os", "raddle"])
def test_a_program_has_modules_of_its_own(runner: Runner, name: str) -> None:
    runner.write("print('mine', __name__)\n", f"{name}.py")
    source = f"import {name}\nprint(sorted(vars({name}))[:3])\nimport queue\nprint(queue.Queue)"
    plain, recorded = runner.run(source, record=False), runner.run(source)
    assert len(recorded.files) == 1
    assert (recorded.code, recorded.out, recorded.err) == (plain.code, plain.out, plain.err)


@pytest.mark.parametrize(("option", "files"), [("-S", 0), ("-I", 1), ("-E", 1), ("-s", 1), ("-B", 1), ("-OO", 1)])
def test_options_of_the_interpreter(runner: Runner, option: str, files: int) -> None:
    ran = runner.run("import threading\nprint(threading.current_thread().name)", option)
    assert (ran.code, ran.out, ran.err, len(ran.files)) == (0, "MainThread\n", "", files)


def test_a_deadlock_is_there_after_a_kill(runner: Runner) -> None:
    path = runner.write("""
        import threading
        first, second, both = threading.Lock(), threading.Lock(), threading.Barrier(2)
        def one():
            with first:
                both.wait()
                with second: pass
        def two():
            with second:
                both.wait()
                with first: pass
        threads = [threading.Thread(target=one), threading.Thread(target=two)]
        for thread in threads: thread.start()
        def is_stuck(thread):  # in a wait without an end, which one for the GIL never is
            call = open(f"/proc/self/task/{thread.native_id}/syscall").read().split()
            return len(call) > 5 and call[4] == "0x0"
        def are_stuck():
            return all(map(is_stuck, threads)) and both.n_waiting == 0
        looks = 0
        while looks < 20:
            threads[0].join(0.01)
            looks = looks + 1 if are_stuck() else 0
        print("stuck", flush=True)
        threads[0].join()
    """)
    process = runner.start(path)
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ran = Ran(subprocess.CompletedProcess([], process.returncode, "", ""), runner.session)
    last = {
        index: thread["spans"][-1]
        for index, thread in enumerate(ran.process["threads"])
        if thread["spans"] and thread["spans"][-1]["state"] == "lock"
    }
    assert sorted(ran.line(span["place"]) for span in last.values()) == [6, 10]
    assert all(last[span["holder"]]["holder"] == index for index, span in last.items())


def test_who_wants_a_lock_again_that_was_handed_over_waits_after_a_kill(runner: Runner) -> None:
    """It looked free when it was asked for, and the one that has it never lets go of it."""
    process = runner.start(
        runner.write("""
        import sys, threading, time
        given, kept, goes = threading.Lock(), threading.Lock(), threading.Event()
        def take():
            goes.set()
            with given:
                with kept: pass
        def give():
            kept.acquire(); given.acquire()
            threading.Thread(target=take, name="taker").start()
            goes.wait(); time.sleep(0.05)
            print("gives", flush=True)
            sys.setswitchinterval(9)
            given.release()
            # The other one wakes up meanwhile, and has no GIL to say so.
            until = time.perf_counter() + 0.05
            while time.perf_counter() < until: pass
            given.acquire()
        threading.Thread(target=give, name="giver").start()
    """)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "gives\n"
    time.sleep(0.5)
    process.kill()
    process.communicate()
    ran = Ran(subprocess.CompletedProcess([], process.returncode, "", ""), runner.session)
    last = {thread["name"]: thread["spans"][-1]["state"] for thread in ran.process["threads"]}
    assert (last["giver"], last["taker"]) == ("lock", "lock")


def test_a_file_is_whole_whenever_the_process_is_killed(runner: Runner) -> None:
    path = runner.write("""
        import threading
        lock = threading.Lock()
        def work():
            while True:
                with lock:
                    sum(range(2000))
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        print("runs", flush=True)
        work()
    """)
    for _ in range(6):
        process = runner.start(path)
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.kill()
        process.communicate()
    session = sessions.session_of(read_events(runner.session))
    assert len(session["processes"]) == 6
    assert session["notes"] == []
    for thread in (thread for process in session["processes"] for thread in process["threads"]):
        spans = thread["spans"]
        assert all(one["until"] <= other["from"] for one, other in itertools.pairwise(spans))


def test_every_process_has_a_file(runner: Runner) -> None:
    ran = runner.run("""
        import multiprocessing, os, subprocess, sys
        if __name__ == "__main__":
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
            for method in ("spawn", "forkserver"):
                process = multiprocessing.get_context(method).Process(target=print, args=(method,))
                process.start(); process.join()
            subprocess.run([sys.executable, "-c", "pass"])
            subprocess.run([sys.executable, "-c", "pass"], preexec_fn=lambda: None)
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, "-c", "print('executed')"])
    """)
    assert (ran.code, ran.out) == (0, "spawn\nforkserver\nexecuted\n")
    assert len({file.name.split("-")[0] for file in ran.files}) >= 6
    assert all(process["is_recorded"] for process in ran.session["processes"])
    # The forked child knows who its parent is.
    assert any(process["parent"] is not None for process in ran.session["processes"])


def test_a_thousand_threads(runner: Runner) -> None:
    ran = runner.run("""
        import threading
        start, lock, count = threading.Event(), threading.Lock(), 0
        def work():
            global count
            start.wait()
            with lock:
                count += 1
        threads = [threading.Thread(target=work) for _ in range(1000)]
        for thread in threads: thread.start()
        start.set()
        for thread in threads: thread.join()
        print(count)
    """)
    assert (ran.code, ran.out, ran.err) == (0, "1000\n", "")
    assert len(ran.process["threads"]) == 1001
    assert all(thread["starter"] == 0 for thread in ran.process["threads"][1:])


def test_what_finds_no_room_is_counted(runner: Runner) -> None:
    ran = runner.run(MANY_WAITS, RADDLE_BUFFER="65536")
    assert (ran.code, ran.err) == (0, "")
    assert ran.session["dropped"] > 0
    # Counts are exact all the same.
    assert {thing["taken"] for thing in ran.session["things"] if ran.line(thing["made"]) == 5} == {5001, 5000} or {
        thing["taken"] for thing in ran.session["things"] if ran.line(thing["made"]) == 5
    } == {5001}
    (file,) = ran.files
    assert file.stat().st_blocks * 512 < 1 << 20


def test_ends_of_threads(runner: Runner) -> None:
    ran = runner.run("""
        import threading, time
        def fail():
            raise KeyError("nobody\\nhandles it")
        def leak():
            lock.acquire()
        lock, other = threading.Lock(), threading.Lock()
        for function in (fail, leak):
            thread = threading.Thread(target=function)
            thread.start(); thread.join()
        def sleep():
            started.set()
            threading.Event().wait()
        started = threading.Event()
        threading.Thread(target=sleep, daemon=True, name="sleeper").start()
        started.wait()
        def leave(): raise SystemExit
        thread = threading.Thread(target=leave)
        thread.start(); thread.join()
        other.acquire()     # nobody is left who could want it
    """)
    (exception,) = ran.facts("unhandled-exception")
    assert exception["detail"] == "KeyError: nobody"
    assert ran.lines(exception) == [3]
    (leaked,) = ran.facts("lock-leaked")
    assert ran.lines(leaked) == [5]
    (daemon,) = ran.facts("daemon-killed")
    assert ran.process["threads"][daemon["units"][0]["thread"]]["name"] == "sleeper"


JOINS = """
    import queue, threading, time, _thread
    def says(what):
        try:
            return what()
        except BaseException as error:
            return type(error), str(error)
    class Own(threading.Thread):
        def join(self, timeout=None, *, more=1):
            return "own", super().join(timeout), self.is_alive()
        def is_alive(self):
            return super().is_alive()
    for kind in (threading.Thread, Own):
        go = threading.Event()
        thread = kind(target=go.wait)
        print(says(thread.join), thread.is_alive(), thread.ident)
        thread.start()
        print(says(lambda: thread.join(0)), says(lambda: thread.join(-1)), says(lambda: thread.join(timeout=0.01)), thread.is_alive())
        print(says(lambda: thread.join("soon")), says(lambda: thread.join(1, 2, 3)), says(lambda: thread.join(now=1)))
        others = [kind(target=thread.join) for _ in range(3)]
        for other in others: other.start()
        go.set()
        print(says(thread.join), says(thread.join), thread.is_alive(), thread.is_alive(), says(lambda: thread.join(0)))
        for other in others: other.join()
    print(says(threading.current_thread().join), says(threading.main_thread().join))
    ended = threading.Thread(target=int)
    ended.start()
    time.sleep(0.1)
    print(threading.active_count(), says(ended.join), says(ended.start), ended.is_alive())
    def joins_itself():
        print(says(threading.current_thread().join))
    thread = threading.Thread(target=joins_itself)
    thread.start(); thread.join()
    simple = queue.SimpleQueue()
    print(says(simple.put), says(lambda: simple.put(1, False, 2)), says(lambda: simple.put(item=2, block=True)), says(lambda: simple.put(1, no=1)))
    print(simple.qsize(), simple.get(), simple.get(), says(lambda: simple.get(timeout=0.01)), says(lambda: simple.put_nowait(3)), simple.get_nowait())
    for name in ("_set_sentinel", "_ThreadHandle", "_shutdown"):
        print(name, hasattr(_thread, name))
"""


def test_joins_are_what_they_are_without(runner: Runner) -> None:
    plain, recorded = runner.run(JOINS, record=False), runner.run(JOINS)
    assert len(recorded.files) == 1
    assert re.sub(r"\d{9,}", "", recorded.out) == re.sub(r"\d{9,}", "", plain.out)
    assert (recorded.code, recorded.err) == (plain.code, plain.err) == (0, "")


def test_a_thread_that_is_joined_late_is_another_one_than_its_successors(runner: Runner) -> None:
    """Identifiers are given again; what is joined is the thread, and not whoever has its identifier now."""
    ran = runner.run("""
        import threading, time
        def run(name):
            thread = threading.Thread(target=int, name=name)
            thread.start()
            while len(threading.enumerate()) > 1:
                time.sleep(0.001)
            time.sleep(0.02)
            return thread
        threads = [run(f"joined-{number}") for number in range(3)]
        run("left")
        threads += [run(f"joined-{number}") for number in range(3, 6)]
        for thread in threads:
            thread.join()
        time.sleep(0.3)
    """)
    facts = ran.facts("never-joined")
    names = [ran.process["threads"][unit["thread"]]["name"] for fact in facts for unit in fact["units"]]
    assert names == ["left"]


def test_a_lock_that_nobody_in_the_child_can_release(runner: Runner) -> None:
    source = """
        import os, threading
        lock, is_held, is_over = threading.Lock(), threading.Event(), threading.Event()
        def hold():
            with lock:
                is_held.set()
                is_over.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        is_held.wait()
        pid = os.fork()
        if not pid:
            WANTS and lock.acquire(timeout=0.2)
            os._exit(0)
        os.waitpid(pid, 0)
        is_over.set()
        thread.join()
    """
    ran = runner.run(source.replace("WANTS", "True"))
    (fact,) = ran.facts("fork-with-lock")
    assert ran.lines(fact) == [12, 4]


def test_a_lock_that_the_child_does_not_want_is_not_told(runner: Runner) -> None:
    ran = runner.run("""
        import os, threading
        lock, is_held, is_over = threading.Lock(), threading.Event(), threading.Event()
        def hold():
            with lock:
                is_held.set()
                is_over.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        is_held.wait()
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        is_over.set()
        thread.join()
    """)
    assert ran.session["facts"] == []
    assert len(ran.files) == 2


def test_a_handler_of_a_signal_ends_a_wait_as_it_does_without(runner: Runner) -> None:
    ran = runner.run("""
        import os, signal, threading
        lock = threading.Lock()
        lock.acquire()
        def stop(*_):
            with other: raise KeyboardInterrupt
        other = threading.Lock()
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            lock.acquire()
        except KeyboardInterrupt:
            print("interrupted", other.locked())
        lock.release()
    """)
    assert (ran.code, ran.out, ran.err) == (0, "interrupted False\n", "")


def test_locks_that_are_passed_on(runner: Runner) -> None:
    """A clean program of many kinds has nothing that is worth a word."""
    ran = runner.run("""
        import concurrent.futures, queue, threading
        lock = threading.Lock()
        lock.acquire()
        thread = threading.Thread(target=lock.release)
        thread.start(); thread.join()
        barrier, condition, semaphore = threading.Barrier(2), threading.Condition(), threading.Semaphore(0)
        items, ready = queue.Queue(2), []
        def work():
            barrier.wait()
            with condition:
                ready.append(1)
                condition.notify()
            semaphore.release()
            for item in range(50): items.put(item)
        thread = threading.Thread(target=work)
        thread.start()
        barrier.wait()
        with condition:
            condition.wait_for(lambda: ready)
        semaphore.acquire()
        print(sum(items.get() for _ in range(50)))
        thread.join()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            print(sum(pool.map(abs, range(50))))
    """)
    assert (ran.code, ran.out, ran.err) == (0, "1225\n1225\n", "")
    assert ran.session["facts"] == []


def test_how_children_end_is_noted_however_they_are_waited_for(runner: Runner) -> None:
    ran = runner.run("""
        import os, signal
        def child(code):
            pid = os.fork()
            if pid == 0:
                os._exit(code) if code >= 0 else os.kill(os.getpid(), -code)
            return pid
        def told(pid, status):
            print(pid, os.waitstatus_to_exitcode(status))
        child(0); told(*os.wait())
        child(1); told(*os.waitpid(-1, 0))
        child(2); told(*os.wait3(0)[:2])
        told(*os.wait4(child(-signal.SIGABRT), 0)[:2])
        info = os.waitid(os.P_PID, child(-signal.SIGKILL), os.WEXITED)
        print(info.si_pid, -info.si_status)
        print(os.waitpid(sleeper := child(3), 0)[0], 3)
        for wrong in (lambda: os.waitpid(sleeper, 0), os.wait, lambda: os.kill(sleeper, 0), lambda: os.kill(sleeper, 9),
                      lambda: os.waitid(os.P_PID, sleeper, os.WEXITED), lambda: os.killpg(sleeper, 15)):
            try:
                wrong()
            except OSError as error:
                print(error)
    """)
    told = dict(line.split() for line in ran.out.splitlines()[:6])
    assert sorted(map(int, told.values())) == [-9, -6, 0, 1, 2, 3]
    assert [line.partition("]")[0] for line in ran.out.splitlines()[6:]] == [
        "[Errno 10", "[Errno 10", "[Errno 3", "[Errno 3", "[Errno 10", "[Errno 3",
    ]  # fmt: skip
    ends = {str(process["pid"]): process["ending"] for process in ran.session["processes"][1:]}
    assert ends == {pid: {"signal": -int(code)} if int(code) < 0 else {"exit": int(code)} for pid, code in told.items()}
    assert not any(process["is_wanted"] for process in ran.session["processes"]), "each has sent it itself"


def test_who_was_sent_a_signal_was_meant_to_end(runner: Runner) -> None:
    ran = runner.run("""
        import os, signal, time
        def child():
            ready, is_there = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                os.write(is_there, b"!")
                signal.pause()
            os.read(ready, 1)
            return pid
        first, second, third = child(), child(), child()
        os.kill(first, signal.SIGKILL)
        os.killpg(second, signal.SIGTERM)
        os.kill(third, signal.SIGUSR1)
        for pid in (first, second, third):
            os.waitpid(pid, 0)
    """)
    assert (ran.code, ran.err) == (0, "")
    assert [(process["ending"], process["is_wanted"]) for process in ran.session["processes"][1:]] == [
        ({"signal": 9}, True),
        ({"signal": 15}, True),
        ({"signal": 10}, True),
    ]


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("module", ["test_thread", "test_queue", "test_threading", "test_concurrent_futures"])
def test_the_interpreters_own_tests_do_not_notice(runner: Runner, module: str) -> None:
    environment = runner.environment(record=True)
    if importlib.util.find_spec(f"test.{module}") is None:
        pytest.skip(f"this interpreter came without test.{module}")
    command = [sys.executable, "-m", "unittest", f"test.{module}"]
    ran = subprocess.run(command, env=environment, cwd=runner.home, capture_output=True, text=True, timeout=1100)
    assert ran.returncode == 0, ran.stderr[-3000:]
