"""`raddle dump` shows what the threads of another process do, names deadlocks, and leaves the process alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from raddle import _raddle

PATIENCE = 20


def interpreters():
    """One Python of each version that is here, by its version and a "t" if it has no GIL; the system's too, which may be one program without a library."""
    places = [
        sys.executable,
        *sorted(map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3"))),
        *(shutil.which(f"python3.{minor}{kind}") for minor in (11, 12, 13, 14) for kind in ("", "t")),
        "/usr/bin/python3",
    ]
    found = {}
    for place in filter(None, places):
        ask = "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
        # A name on PATH may be a shim that does not work.
        with contextlib.suppress(OSError, ValueError):
            major, minor, is_free = subprocess.run([place, "-c", ask], capture_output=True, text=True).stdout.split()
            kind = "t" if is_free == "1" else "-system" if place.startswith("/usr") else ""
            found.setdefault(f"{major}.{minor}{kind}", place)
    return found


INTERPRETERS = interpreters()
KNOWN = [
    pytest.param(place, id=name)
    for name, place in sorted(INTERPRETERS.items())
    if name.removesuffix("-system") in {"3.11", "3.12", "3.13", "3.14"}
]


@pytest.fixture(params=KNOWN)
def python(request):
    """Each interpreter that is here."""
    return request.param


@pytest.fixture
def start(tmp_path, request):
    """Starts programs that say "ready", and ends them with the test."""
    started = []

    def start(source, python=sys.executable):
        script = tmp_path / f"program{len(started)}.py"
        script.write_text(textwrap.dedent(source))
        program = subprocess.Popen(
            [python, script.name], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        started.append(program)
        assert program.stdout.readline() == "ready\n"
        return program

    yield start
    for program in started:
        program.kill()
        program.wait()
        program.stdout.close()


def look(pid, *, tree=False):
    """The processes of one look, as JSON."""
    document = document_of(pid, tree=tree)
    return document if "error" in document else document["processes"]


def document_of(pid, *, tree=False):
    kind, said = _raddle.dump(pid, tree=tree, as_json=True, colour=False)
    document = json.loads(said)
    assert document["version"] == 1
    assert ("error" in document) == (kind not in ("seen", "deadlock"))
    return document


def text(pid):
    kind, said = _raddle.dump(pid, tree=False, as_json=False, colour=False)
    assert kind in ("seen", "deadlock")
    return said


def watch(program, until):
    """Looks at the first process until something is true of what is seen."""
    deadline = time.monotonic() + PATIENCE
    while True:
        [seen] = look(program.pid)
        threads = {thread["name"]: thread for thread in seen["threads"]}
        with contextlib.suppress(KeyError, TypeError):
            if until(threads):
                return seen, threads
        found = {name: (thread["state"], thread["waits_for"]) for name, thread in threads.items()}
        assert time.monotonic() < deadline, json.dumps(found, indent=1)


def waits_for(thread):
    return None if thread["waits_for"] is None else thread["waits_for"]["kind"]


def places(thread):
    return [(Path(frame["file"]).name, frame["line"], frame["function"]) for frame in thread["frames"]]


def short(place):
    return f"{Path(place['file']).name}:{place['line']}"


ABBA = """
    import threading

    x, y = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)

    def first():
        with x:
            both.wait()
            with y:
                pass

    def second():
        with y:
            both.wait()
            y2 = y
            with x:
                pass

    alpha = threading.Thread(target=first, name="alpha")
    beta = threading.Thread(target=second, name="beta")
    alpha.start()
    beta.start()
    print("ready", flush=True)
    alpha.join()
"""


def test_a_deadlock_of_two_locks_is_named_with_all_its_places(start, python):
    program = start(ABBA, python)
    seen, threads = watch(program, lambda t: waits_for(t["alpha"]) == waits_for(t["beta"]) == "lock")
    [deadlock] = seen["deadlocks"]
    assert deadlock == {
        "threads": [threads["alpha"]["native_id"], threads["beta"]["native_id"]],
        "certain": True,
        "timed": False,
    }
    assert threads["alpha"]["state"] == threads["beta"]["state"] == "blocked"
    wait = threads["alpha"]["waits_for"]
    assert (wait["what"], wait["name"], short(wait["place"])) == ("Lock 'y'", "y", "program0.py:10")
    assert (wait["holder"]["name"], short(wait["holder"]["place"])) == ("beta", "program0.py:14")
    [held] = threads["alpha"]["holds"]
    assert (held["name"], short(held["place"])) == ("x", "program0.py:8")
    assert text(program.pid).splitlines()[1:5] == [
        "deadlock: 2 threads wait for each other",
        "  \"alpha\" holds Lock 'x' (taken program0.py:8) and waits for Lock 'y' (wanted program0.py:10)",
        "  \"beta\"  holds Lock 'y' (taken program0.py:14) and waits for Lock 'x' (wanted program0.py:17)",
        "  help: take the locks in the same order everywhere",
    ]


def test_a_program_that_takes_the_same_locks_in_one_order_is_left_alone(start, python):
    program = start(
        """
        import threading

        x, y = threading.Lock(), threading.RLock()
        condition = threading.Condition()

        def work():
            while True:
                with x:
                    with y:
                        with y:
                            sum(range(100))

        def notified():
            with condition:
                while True:
                    condition.wait(0.001)

        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(2):
            threading.Thread(target=notified, daemon=True).start()
        print("ready", flush=True)
        threading.Event().wait()
        """,
        python,
    )
    for _ in range(40):
        [seen] = look(program.pid)
        assert (seen["deadlocks"], seen["orphans"]) == ([], [])
        assert len(seen["threads"]) == 6


def test_a_thread_that_takes_its_lock_again_waits_for_itself(start, python):
    program = start(
        """
        import threading

        class Account:
            def __init__(self):
                self.lock = threading.Lock()

            def deposit(self):
                with self.lock:
                    for _ in range(2):
                        try:
                            self.log()
                        finally:
                            pass

            def log(self):
                self.lock.acquire()

        thread = threading.Thread(target=Account().deposit, name="alone")
        thread.start()
        print("ready", flush=True)
        thread.join()
        """,
        python,
    )
    seen, threads = watch(program, lambda t: waits_for(t["alone"]) == "lock")
    [deadlock] = seen["deadlocks"]
    assert deadlock["threads"] == [threads["alone"]["native_id"]]
    wait = threads["alone"]["waits_for"]
    assert (wait["name"], short(wait["place"])) == ("Account.lock", "program0.py:17")
    assert short(wait["holder"]["place"]) == "program0.py:9", "the line of the `with`, not of what it does now"
    assert "deadlock: a thread waits for itself" in text(program.pid)


def test_a_join_closes_a_circle_too(start, python):
    program = start(
        """
        import threading

        lock = threading.RLock()
        begun = threading.Event()

        def work():
            begun.set()
            with lock:
                pass

        thread = threading.Thread(target=work, name="worker")
        print("ready", flush=True)
        with lock:
            thread.start()
            begun.wait()
            thread.join()
        """,
        python,
    )
    seen, threads = watch(
        program, lambda t: waits_for(t["MainThread"]) == "thread" and waits_for(t["worker"]) == "rlock"
    )
    [deadlock] = seen["deadlocks"]
    assert deadlock["threads"] == [threads["MainThread"]["native_id"], threads["worker"]["native_id"]]
    assert threads["MainThread"]["waits_for"]["what"] == 'the end of "worker"'


def test_a_wait_with_a_timeout_is_a_standstill_and_no_deadlock(start, python):
    program = start(
        ABBA.replace("with y:\n                pass", "y.acquire(timeout=1000)"),
        python,
    )
    seen, _ = watch(program, lambda t: waits_for(t["alpha"]) == waits_for(t["beta"]) == "lock")
    [deadlock] = seen["deadlocks"]
    assert deadlock["timed"]
    assert "standstill: 2 threads wait for each other, until a timeout ends it" in text(program.pid)
    assert _raddle.dump(program.pid, tree=False, as_json=True, colour=False)[0] == "seen"


def test_what_threads_wait_for_is_told_in_words(start, python):
    program = start(
        """
        import concurrent.futures, os, queue, socket, subprocess, sys, threading, time

        event, condition = threading.Event(), threading.Condition()
        items, simple, full = queue.Queue(), queue.SimpleQueue(), queue.Queue(1)
        full.put(None)
        semaphore, barrier = threading.Semaphore(0), threading.Barrier(3)
        reader, writer = os.pipe()
        listener = socket.create_server(("127.0.0.1", 0))
        pool = concurrent.futures.ThreadPoolExecutor(1, "pool")
        pool.submit(int).result()
        future = concurrent.futures.Future()
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

        def notified():
            with condition:
                condition.wait()

        waits = dict(
            event=event.wait, timed=lambda: event.wait(1000), notified=notified, get=items.get, simple=simple.get,
            put=lambda: full.put(1), done=full.join, semaphore=semaphore.acquire, barrier=barrier.wait,
            future=future.result, read=lambda: os.read(reader, 1), accept=listener.accept, sleep=lambda: time.sleep(1000),
            child=child.wait, futures=lambda: concurrent.futures.wait([future]),
        )
        for name, wait in waits.items():
            threading.Thread(target=wait, name=name, daemon=True).start()
        print("ready", flush=True)
        event.wait()
        """,
        python,
    )
    expected = {
        "event": "event",
        "timed": "event",
        "notified": "condition",
        "get": "queue-get",
        "simple": "queue-get",
        "put": "queue-put",
        "done": "queue-join",
        "semaphore": "semaphore",
        "barrier": "barrier",
        "future": "future",
        "read": "read",
        "accept": "accept",
        "child": "process",
        "futures": "futures",
        "pool_0": "idle-worker",
        "sleep": None,
    }
    seen, threads = watch(program, lambda t: {name: waits_for(t[name]) for name in expected} == expected)
    assert seen["deadlocks"] == []
    assert [threads[name]["waits_for"]["timed"] for name in ("event", "timed")] == [False, True]
    assert threads["sleep"]["state"] == "sleeping"
    assert threads["read"]["state"] == threads["accept"]["state"] == "io"
    assert all(threads[name]["certain"] for name in expected)
    what = {name: threads[name]["waits_for"]["what"] for name in expected if expected[name]}
    assert what["get"] == "an item of Queue 'items'"
    assert what["simple"] == "an item of SimpleQueue 'simple'"
    assert what["put"] == "a free place in Queue 'full' (maxsize=1)"
    assert what["done"] == "task_done() for Queue 'full' (1 unfinished)"
    assert what["barrier"] == "the others at Barrier 'barrier' (1 of 3 have come)"
    assert what["future"] == "the result of Future 'future' (pending)"
    assert what["read"].startswith("data from pipe:[")
    [child] = seen["children"]
    assert what["child"] == f"the end of process {child['pid']}"


def test_raddles_own_locks_and_queues_are_known(start):
    program = start(
        """
        import raddle
        import raddle.threading as threading
        from raddle.queue import Queue

        raddle.on_deadlock = lambda found: None
        x, y, both = threading.Lock(), threading.RLock(), threading.Barrier(2)
        items, event = Queue(), threading.Event()

        def first():
            with x:
                both.wait()
                with y:
                    pass

        def second():
            with y:
                both.wait()
                for _ in range(2):
                    x.acquire()

        waits = dict(first=first, second=second, get=items.get, event=lambda: event.wait())
        for name, wait in waits.items():
            threading.Thread(target=wait, name=name, daemon=True).start()
        print("ready", flush=True)
        event.wait()
        """
    )
    expected = {"first": "rlock", "second": "lock", "get": "queue-get", "event": "event"}
    seen, threads = watch(program, lambda t: {name: waits_for(t[name]) for name in expected} == expected)
    assert [wait["what"] for wait in (threads[name]["waits_for"] for name in expected)] == [
        "RLock 'y'",
        "Lock 'x'",
        "an item of Queue 'items'",
        "set() of Event 'event'",
    ]
    [deadlock] = seen["deadlocks"]
    assert deadlock["threads"] == [threads["first"]["native_id"], threads["second"]["native_id"]]
    assert short(threads["second"]["waits_for"]["holder"]["place"]) == "program0.py:11"


def test_stacks_go_through_generators_recursion_and_calls_from_c(start, python):
    program = start(
        """
        import sys, time
        sys.setrecursionlimit(5000)

        def produce():
            yield 1
            print("ready", flush=True)
            time.sleep(1000)
            yield 2

        def key(value):
            return len(list(produce()))

        def deep(n):
            if n:
                return deep(n - 1)
            return sorted([2, 1], key=key)

        class Work:
            def __call__(self):
                deep(3000)

        Work()()
        """,
        python,
    )
    _, threads = watch(program, lambda t: t["MainThread"]["state"] == "sleeping")
    main = threads["MainThread"]
    assert main["certain"]
    assert main["whole"]
    assert places(main)[:3] == [
        ("program0.py", 8, "produce"),
        ("program0.py", 12, "key"),
        ("program0.py", 17, "deep"),
    ]
    assert places(main)[3:3003] == [("program0.py", 16, "deep")] * 3000
    assert places(main)[3003:] == [("program0.py", 21, "Work.__call__"), ("program0.py", 23, "<module>")]
    assert "program0.py:16   deep   3000 times" in text(program.pid)


def test_tasks_of_asyncio_are_shown_with_what_they_await(start, python):
    program = start(
        """
        import asyncio

        async def leaf():
            await asyncio.sleep(1000)

        async def produce():
            await leaf()
            yield 1

        async def fetch():
            async for _ in produce():
                pass

        async def boss(*tasks):
            await tasks[0]

        async def main():
            fetcher = asyncio.create_task(fetch(), name="fetcher")
            asyncio.create_task(boss(fetcher), name="boss")
            done = asyncio.create_task(asyncio.sleep(0), name="done")
            await done
            await asyncio.sleep(0)
            print("ready", flush=True)
            await asyncio.create_task(leaf())

        asyncio.run(main())
        """,
        python,
    )
    seen, _ = watch(program, lambda t: waits_for(t["MainThread"]) == "event-loop")
    tasks = {task["name"]: task for task in seen["tasks"]}
    assert set(tasks) - {"fetcher", "boss", "Task-1"} <= {"Task-2", "Task-3", "Task-4", "Task-5"}
    assert len(tasks) == 4
    assert {task["state"] for task in tasks.values()} == {"waiting"}
    assert (tasks["boss"]["awaits"], tasks["fetcher"]["awaits"]) == ("fetcher", None)
    assert tasks["Task-1"]["awaits"].startswith("Task-")
    assert places(tasks["fetcher"])[1:] == [
        ("program0.py", 5, "leaf"),
        ("program0.py", 8, "produce"),
        ("program0.py", 12, "fetch"),
    ]
    assert seen["task_deadlocks"] == []
    assert '"boss"  waiting for task "fetcher"' in text(program.pid)


def test_tasks_of_every_thread_are_shown_and_those_that_an_ended_one_left(start, python):
    program = start(
        """
        import asyncio, threading

        left = []

        async def rest():
            await asyncio.sleep(1000)

        def leave():
            loop = asyncio.new_event_loop()
            left.append((loop, loop.create_task(rest(), name="left")))
            loop.run_until_complete(asyncio.sleep(0))

        async def main():
            kept = asyncio.create_task(rest(), name="kept")
            print("ready", flush=True)
            await kept

        ended = threading.Thread(target=leave)
        ended.start()
        ended.join()
        threading.Thread(target=lambda: asyncio.run(main()), name="loop").start()
        """,
        python,
    )
    seen, _ = watch(program, lambda t: waits_for(t["loop"]) == "event-loop")
    tasks = {task["name"]: [function for _, _, function in places(task)] for task in seen["tasks"]}
    [awaits] = [task["awaits"] for task in seen["tasks"] if task["name"] not in ("left", "kept")]
    assert (len(tasks), awaits) == (3, "kept")
    assert tasks["left"] == tasks["kept"] == ["sleep", "rest"]


def test_tasks_that_await_each_other_are_a_deadlock(start, python):
    program = start(
        """
        import asyncio

        tasks = []

        async def wait_for(other):
            await asyncio.sleep(0)
            await tasks[other]

        async def main():
            tasks.append(asyncio.create_task(wait_for(1), name="one"))
            tasks.append(asyncio.create_task(wait_for(0), name="two"))
            await asyncio.sleep(0)
            print("ready", flush=True)
            await asyncio.sleep(1000)

        asyncio.run(main())
        """,
        python,
    )
    seen, _ = watch(program, lambda t: waits_for(t["MainThread"]) == "event-loop")
    [circle] = seen["task_deadlocks"]
    assert sorted(seen["tasks"][index]["name"] for index in circle) == ["one", "two"]
    assert "deadlock: 2 tasks of asyncio wait for each other" in text(program.pid)
    assert _raddle.dump(program.pid, tree=False, as_json=True, colour=False)[0] == "deadlock"


def test_threads_that_compute_wait_for_the_gil_and_one_holds_it(start, python):
    program = start(
        """
        import threading

        def spin():
            while True:
                pass

        for number in range(3):
            threading.Thread(target=spin, name=f"spin-{number}", daemon=True).start()
        print("ready", flush=True)
        spin()
        """,
        python,
    )
    waited = held = 0
    deadline = time.monotonic() + PATIENCE
    while not (waited > 10 and held > 10):
        [seen] = look(program.pid)
        states = [thread["state"] for thread in seen["threads"]]
        assert set(states) <= {"gil", "running", "native"}
        holders = [thread for thread in seen["threads"] if thread["holds_gil"]]
        assert len(holders) <= 1
        waited += states.count("gil")
        held += len(holders)
        assert {thread["frames"][0]["function"] for thread in seen["threads"]} <= {"spin", "<module>"}
        assert time.monotonic() < deadline


def test_two_hundred_threads_are_seen_and_told_together(start, python):
    program = start(
        """
        import threading

        event = threading.Event()

        def wait():
            event.wait()

        for _ in range(200):
            threading.Thread(target=wait, daemon=True).start()
        print("ready", flush=True)
        event.wait()
        """,
        python,
    )
    _, threads = watch(program, lambda t: all(waits_for(thread) == "event" for thread in t.values()))
    assert len(threads) == 201
    assert all(thread["certain"] for thread in threads.values())
    said = text(program.pid)
    assert "200 threads alike" in said
    assert len(said.splitlines()) < 20


def test_a_lock_whose_owner_stayed_in_the_parent_is_lost(start, python):
    program = start(
        """
        import os, signal, threading, time

        lock = threading.RLock()
        taken = threading.Event()

        def hold():
            with lock:
                taken.set()
                time.sleep(1000)

        threading.Thread(target=hold, daemon=True).start()
        taken.wait()
        if (child := os.fork()) == 0:
            signal.alarm(100)
            with lock:
                pass
        print("ready", flush=True)
        os.waitpid(child, 0)
        """,
        python,
    )
    deadline = time.monotonic() + PATIENCE
    while True:
        parent, child = look(program.pid, tree=True)
        # Just after the fork the child still has its copy of what the parent knew of other threads.
        thread = child["threads"][0]
        if len(child["threads"]) == 1 and waits_for(thread) == "rlock":
            break
        assert time.monotonic() < deadline
    try:
        assert (parent["pid"], parent["orphans"]) == (program.pid, [])
        assert [entry["pid"] for entry in parent["children"]] == [child["pid"]]
        assert child["orphans"] == [thread["native_id"]]
        assert thread["waits_for"]["holder"] == {"name": None, "native_id": None, "place": None}
        assert "lost lock: " in text(child["pid"])
        _, threads = watch(program, lambda t: waits_for(t["MainThread"]) == "process")
        assert threads["MainThread"]["waits_for"]["what"] == f"the end of process {child['pid']}"
    finally:
        os.kill(child["pid"], signal.SIGKILL)


def stuck_processes(program, patience=PATIENCE):
    """Looks at the whole tree until processes are found that wait for each other."""
    deadline = time.monotonic() + patience
    while not (document := document_of(program.pid, tree=True))["deadlocks"]:
        assert time.monotonic() < deadline, json.dumps(document, indent=1)
    [deadlock] = document["deadlocks"]
    named = {
        (process["pid"], thread["native_id"]): (process["command"][-1], waits_for(thread))
        for process in document["processes"]
        for thread in process["threads"]
    }
    return document, [named[thread["pid"], thread["native_id"]] for thread in deadlock["threads"]]


JOIN_BEFORE_GET = """
    import multiprocessing, sys

    def work(queue):
        queue.put("x" * 1_000_000)

    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        queue = context.Queue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        print("ready", flush=True)
        child.join()
        queue.get()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_process_that_joins_before_it_reads_is_found_with_its_child(start, python, method):
    program = start(JOIN_BEFORE_GET.replace("{method}", method), python)
    document, stuck = stuck_processes(program)
    assert sorted(wait for _, wait in stuck) == ["process", "thread", "write"]
    [child] = {thread["pid"] for thread in document["deadlocks"][0]["threads"]} - {program.pid}
    kind, said = _raddle.dump(program.pid, tree=True, as_json=False, colour=False)
    os.kill(child, signal.SIGKILL)
    assert kind == "deadlock"
    first, parent, *_ = said.splitlines()
    assert first == "deadlock: 2 processes wait for each other"
    waits = f'process {program.pid} "MainThread" waits for the end of process {child}'
    assert parent.startswith(f"  {waits} (wanted ")


def test_a_parent_that_waits_for_a_program_whose_output_nobody_reads_is_found(start, python):
    program = start(
        """
        import subprocess
        child = subprocess.Popen(["head", "-c", "1000000", "/dev/zero"], stdout=subprocess.PIPE)
        print("ready", flush=True)
        child.wait()
        """,
        python,
    )
    document, stuck = stuck_processes(program)
    assert stuck == [("program0.py", "process"), ("/dev/zero", "write")]
    assert document["processes"][1]["python"] is None


def test_processes_that_somebody_reads_from_are_left_alone(start, python):
    program = start(
        r"""
        import subprocess, sys, threading

        # It writes, waits until all of that was read, and writes again.
        source = "import sys\nwhile True: sys.stdout.buffer.write(bytes(1 << 20))"
        child = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)

        def drain():
            while child.stdout.read(1000):
                pass

        threading.Thread(target=drain, daemon=True).start()
        print("ready", flush=True)
        child.wait()
        """,
        python,
    )
    deadline = time.monotonic() + PATIENCE
    both = 0
    while both < 20:
        document = document_of(program.pid, tree=True)
        assert document["deadlocks"] == []
        # Until Python has started in it, the child cannot be looked into.
        both += len(document["processes"]) == 2
        assert time.monotonic() < deadline


def test_a_stopped_process_is_seen_as_such(start):
    program = start(ABBA)
    program.send_signal(signal.SIGSTOP)
    # Each thread stops by itself, when it next comes by.
    watch(program, lambda threads: all(thread["state"] == "stopped" for thread in threads.values()))
    program.send_signal(signal.SIGCONT)


def test_names_that_hold_orders_to_a_terminal_are_shown_as_text(start):
    program = start(
        r"""
        import threading
        event = threading.Event()
        thread = threading.Thread(target=event.wait, name="\x1b[2J\x07é\n中", daemon=True)
        thread.start()
        print("ready", flush=True)
        event.wait()
        """
    )
    watch(program, lambda t: waits_for(t["\x1b[2J\x07é\n中"]) == "event")
    said = text(program.pid)
    assert r'"\u{1b}[2J\u{7}é\n中"' in said
    assert "\x1b" not in said


# What cannot be looked into.


def error(pid):
    return look(pid)["error"]


def test_a_number_of_no_process_is_said_to_be_one():
    with open("/proc/sys/kernel/pid_max") as file:
        number = int(file.read()) + 1
    assert error(number)["kind"] == "no-such-process"
    assert error(number)["message"] == f"there is no process {number}"


def test_a_process_without_python_is_said_to_be_one():
    with subprocess.Popen(["sleep", "1000"]) as program:
        started = Path(f"/proc/{program.pid}/cmdline")
        while not started.read_bytes().startswith(b"sleep"):
            time.sleep(0.001)
        found = error(program.pid)
        program.kill()
    assert (found["kind"], found["message"]) == (
        "not-python",
        f"process {program.pid} (sleep 1000) does not run CPython",
    )


def test_a_process_that_has_ended_is_said_to_have(start):
    program = start("print('ready', flush=True)")
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    assert error(program.pid)["kind"] == "ended"


def test_processes_that_end_while_they_are_looked_at_make_no_trouble(start):
    """Whatever the moment, it is a look or a sentence."""
    kinds = set()
    for _ in range(15):
        program = start(
            "import threading\nprint('ready', flush=True)\nthreading.Thread(target=sum, args=(range(9),)).start()"
        )
        while program.poll() is None:
            kinds.add(_raddle.dump(program.pid, tree=True, as_json=False, colour=False)[0])
    assert kinds <= {"seen", "ended", "not-ready", "no-such-process", "not-python"}


@pytest.mark.skipif(os.geteuid() != 0, reason="to become somebody else takes root")
def test_another_users_process_is_refused_with_what_to_do(start):
    program = start(ABBA)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, json.dumps(error(program.pid)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = json.loads(file.read())
    os.waitpid(child, 0)
    assert found["kind"] == "no-permission"
    assert found["message"] == f"not permitted to read the memory of process {program.pid}"
    assert f"sudo raddle dump {program.pid}" in found["hint"]


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_a_version_that_is_not_known_is_named(start, version):
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    if not found:
        pytest.skip(f"Python {version} is not here")
    program = start("import time\nprint('ready', flush=True)\ntime.sleep(1000)", str(found[0]))
    assert error(program.pid) == {
        "kind": "unknown-version",
        "message": f"process {program.pid} runs a CPython before 3.11, which is not known",
        "hint": "CPython 3.11 to 3.14 with a GIL are known",
    }


def test_an_interpreter_without_a_gil_is_named(start):
    found = [place for name, place in INTERPRETERS.items() if name.endswith("t")]
    if not found:
        pytest.skip("no free-threaded Python is here")
    program = start("import time\nprint('ready', flush=True)\ntime.sleep(1000)", found[0])
    said = error(program.pid)
    assert said["kind"] == "unknown-version"
    assert re.fullmatch(
        rf"process {program.pid} runs CPython 3\.1\d\.\S+ without a GIL, which is not known", said["message"]
    )
    assert said["hint"] == "CPython 3.11 to 3.14 with a GIL are known"


def test_a_process_may_look_at_itself():
    event = threading.Event()
    thread = threading.Thread(target=event.wait, name="bystander")
    thread.start()
    try:
        [seen] = look(os.getpid())
        assert {"MainThread", "bystander"} <= {thread["name"] for thread in seen["threads"]}
    finally:
        event.set()
        thread.join()


# The command line.


def raddle(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "raddle", *map(str, arguments)], capture_output=True, text=True, **options
    )


def test_the_command_line_shows_a_process(start):
    program = start(ABBA)
    watch(program, lambda t: waits_for(t["alpha"]) == waits_for(t["beta"]) == "lock")
    done = raddle("dump", program.pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert "deadlock: 2 threads wait for each other" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\x1b[1;31mdeadlock" in raddle("dump", program.pid, "--colour=always").stdout
    assert raddle("dump", program.pid, "--fail-on", "deadlock").returncode == 3
    [seen] = json.loads(raddle("dump", program.pid, "--json").stdout)["processes"]
    assert len(seen["deadlocks"]) == 1


def test_the_command_line_says_what_is_wrong_in_a_sentence_and_a_hint():
    with subprocess.Popen(["sleep", "1000"]) as program:
        done = raddle("dump", program.pid)
        as_json = raddle("dump", program.pid, "--json")
        program.kill()
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first == f"raddle: process {program.pid} (sleep 1000) does not run CPython"
    assert second.startswith("hint: ")
    assert (as_json.returncode, as_json.stderr) == (1, "")
    assert json.loads(as_json.stdout)["error"]["kind"] == "not-python"


@pytest.mark.parametrize("word", ["x", "0", "-1", "1.5", "99999999999999999999", "²"])
def test_what_is_no_number_of_a_process_is_refused(word):
    done = raddle("dump", "--", word)
    assert done.returncode == 2
    assert f"{word!r} is not the number of a process" in done.stderr


@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">&-", "standard output is closed"),
        (">/dev/full", "standard output cannot be written: No space left on device"),
    ],
)
@pytest.mark.parametrize("command", ["dump $$PPID", "run --output seen --json - -c pass"])
def test_standard_output_that_takes_nothing_is_told_in_a_sentence(command, redirection, said, tmp_path):
    words = command.replace("$$PPID", str(os.getpid()))
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m raddle {words} {redirection}"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert f"raddle: {said}\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if command.startswith("dump") else 0)
    assert command.startswith("dump") or "timeline: " in done.stderr


def test_a_number_of_more_digits_than_python_reads_is_refused_too():
    done = raddle("dump", "9" * 5000)
    assert done.returncode == 2
    assert "is not the number of a process" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["0", "-1", "nan", "soon", "inf"])
def test_what_is_no_time_between_looks_is_refused(word):
    done = raddle("dump", os.getpid(), f"--watch={word}")
    assert done.returncode == 2
    assert "is not a positive number of seconds" in done.stderr


def test_watching_goes_on_until_the_process_ends(start):
    program = start(ABBA)
    command = [sys.executable, "-m", "raddle", "dump", str(program.pid), "--watch", "0.01", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        for _ in range(3):
            assert json.loads(watching.stdout.readline())["processes"][0]["pid"] == program.pid
        program.kill()
        program.wait()
        assert watching.wait(PATIENCE) == 0


def test_a_reader_that_has_enough_ends_the_command_quietly(start):
    program = start(ABBA)
    command = [sys.executable, "-m", "raddle", "dump", str(program.pid), "--watch", "0.001"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        watching.stdout.readline()
        watching.stdout.close()
        assert watching.stderr.read() == b""
        assert watching.wait(PATIENCE) == 0


def test_a_thread_that_needs_a_module_waits_for_the_one_that_imports_it(start, python, tmp_path):
    (tmp_path / "heavy.py").write_text(
        "import threading\n"
        "def need(): import heavy; heavy.done\n"
        "thread = threading.Thread(target=need, name='needs it')\n"
        "thread.start()\n"
        "print('ready', flush=True)\n"
        "thread.join()\n"
        "done = True\n"
    )
    program = start("import heavy", python)
    kinds = {"needs it": "lock", "MainThread": "thread"}
    _, threads = watch(program, lambda threads: all(waits_for(threads[name]) == kind for name, kind in kinds.items()))
    wait = threads["needs it"]["waits_for"]
    assert wait["what"] == "the import lock of module 'heavy'"
    assert wait["holder"]["name"] == "MainThread"
    assert (wait["place"]["function"], wait["place"]["line"]) == ("need", 2)
    [deadlock] = look(program.pid)[0]["deadlocks"]
    assert deadlock["certain"]


def test_a_lock_of_a_file_is_a_lock(start, python):
    program = start(
        """
        import fcntl, os, threading
        one, other = open("shared", "w"), open("shared", "w")
        fcntl.flock(one, fcntl.LOCK_EX)
        threading.Thread(target=fcntl.flock, args=(other, fcntl.LOCK_EX), name="wants it", daemon=True).start()
        print("ready", flush=True)
        threading.Event().wait()
        """,
        python,
    )
    _, threads = watch(program, lambda threads: waits_for(threads["wants it"]) == "file-lock")
    assert threads["wants it"]["state"] == "blocked"


def test_what_a_context_manager_holds_at_its_yield_is_held(start, python):
    program = start(
        """
        import contextlib, threading, time

        one, two = threading.Lock(), threading.Lock()
        both = threading.Barrier(2)

        @contextlib.contextmanager
        def locked(lock):
            with lock:
                yield

        @contextlib.contextmanager
        def logged(lock):
            with locked(lock):
                try:
                    yield
                finally:
                    pass

        def take(first, second):
            with logged(first):
                try:
                    both.wait()
                    with second:
                        pass
                finally:
                    pass

        for name, locks in {"alpha": (one, two), "beta": (two, one)}.items():
            threading.Thread(target=take, args=locks, name=name, daemon=True).start()
        print("ready", flush=True)
        time.sleep(1000)
        """,
        python,
    )
    seen, threads = watch(program, lambda t: [waits_for(t[name]) for name in ("alpha", "beta")] == ["lock", "lock"])
    assert len(seen["deadlocks"]) == 1
    [held] = threads["alpha"]["holds"]
    assert (held["place"]["function"], held["place"]["line"]) == ("take", 21)


def test_several_locks_of_one_with_were_taken_there_although_a_try_follows(start, python):
    program = start(
        """
        import threading, time

        def work():
            x, y = threading.Lock(), threading.Lock()
            with x, y:
                try:
                    with threading.Lock():
                        time.sleep(1000)
                finally:
                    pass

        threading.Thread(target=work, name="worker", daemon=True).start()
        print("ready", flush=True)
        time.sleep(1000)
        """,
        python,
    )
    _, threads = watch(program, lambda threads: threads["worker"]["state"] == "sleeping")
    assert [held["place"]["line"] for held in threads["worker"]["holds"]] == [6, 6, 8]


def test_a_name_cannot_turn_the_words_behind_it(start, python):
    program = start(
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(1000,), name="a\\u202eb\\x1b[31m", daemon=True).start()
        print("ready", flush=True)
        time.sleep(1000)
        """,
        python,
    )
    said = text(program.pid)
    assert "\u202e" not in said
    assert "\x1b" not in said
