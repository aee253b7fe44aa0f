"""Ctrl-C at any moment, and the end of a program at any moment: a quick end, one traceback, no process left."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

import calls
import raddle
from calls import is_gone, until

#: What a user must not find in what is printed: rooms behind the public ones.
INSIDE = (
    "_raddle",
    "_process_crew",
    "_pool_",
    "_exit.py",
    "_thread_pool",
    "_process_pool",
    "raddle_boot",
    "_map.py",
)

PROGRAMS = {
    "map": """
        with raddle.Pool("process", 2) as pool:
            print("ready", flush=True)
            for value in pool.map(spin, range(10**9)):
                pass
    """,
    "map unordered": """
        with raddle.Pool("process", 2) as pool:
            print("ready", flush=True)
            for value in pool.map(spin, range(10**9), ordered=False):
                pass
    """,
    "long calls": """
        with raddle.Pool("process", 2) as pool:
            print("ready", flush=True)
            futures = [pool.submit(time.sleep, 60) for _ in range(5)]
            for future in futures:
                future.result()
    """,
    "leaving the block": """
        with raddle.Pool("process", 2) as pool:
            futures = [pool.submit(time.sleep, 60) for _ in range(5)]
            print("ready", flush=True)
    """,
    "shutdown": """
        pool = raddle.Pool("process", 2)
        futures = [pool.submit(time.sleep, 60) for _ in range(5)]
        print("ready", flush=True)
        pool.shutdown()
    """,
    "no block": """
        pool = raddle.Pool("process", 2)
        print("ready", flush=True)
        futures = [pool.submit(time.sleep, 60) for _ in range(5)]
        raddle.futures.wait(futures)
    """,
    "as_completed": """
        with raddle.Pool("process", 2) as pool:
            print("ready", flush=True)
            for future in pool.as_completed([pool.submit(time.sleep, 60) for _ in range(5)]):
                pass
    """,
    "starting pools": """
        raddle.Pool("process", 2)
        print("ready", flush=True)
        while True:
            with raddle.Pool("process", 2) as pool:
                pool.submit(abs, 1).result()
    """,
    "looking at its numbers": """
        with raddle.Pool("process", 2) as pool:
            print("ready", flush=True)
            while True:
                pool.statistics()
    """,
    "one by one": """
        with raddle.Pool("process", 2) as pool:
            print("ready", flush=True)
            while True:
                pool.submit(abs, 1).result()
    """,
    "exceptions": """
        with raddle.Pool("process", 2) as pool:
            print("ready", flush=True)
            while True:
                pool.submit(int, "x").exception()
    """,
    "threads": """
        with raddle.Pool("thread", 2) as pool:
            print("ready", flush=True)
            for value in pool.map(spin, range(10**9)):
                pass
    """,
}

HEAD = """
import time, raddle, raddle.futures

def spin(value):
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass
    return value
"""


def group_members(group):
    """Processes of a process group, and those whose session or parent it is, by scanning /proc."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, parent, its_group, session = file.read().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state not in "ZX" and group in (int(parent), int(its_group), int(session)):
                found.append(int(name))
    return found


def children_of(pid):
    """Children of a process, while it lives."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def interrupt(script, source, delay, again=0):
    """Runs a program, presses Ctrl-C after `delay`, and judges how it ends."""
    program = script(HEAD + "\n".join(line[8:] for line in source.splitlines()))
    child = program.start()
    assert child.stdout.readline() == "ready\n", child.communicate()
    time.sleep(delay)
    workers = children_of(child.pid)
    pressed = time.monotonic()
    os.killpg(child.pid, signal.SIGINT)
    for _ in range(again):
        time.sleep(0.02)
        try:
            os.killpg(child.pid, signal.SIGINT)
        except ProcessLookupError:
            break
    ended = program.finish(8)
    took = time.monotonic() - pressed
    until(lambda: all(is_gone(worker) for worker in workers), "the workers to end", 5)
    assert group_members(child.pid) == []
    assert took < 2, f"took {took:.1f} s to end\n{ended.err}"
    assert ended.out == ""
    return ended


def judge(ended):
    assert ended.code in (-signal.SIGINT, 130), ended
    assert ended.err.rstrip().endswith("KeyboardInterrupt"), ended.err
    assert ended.err.count("Traceback (most recent call last)") == 1, ended.err
    assert "Exception ignored" not in ended.err, ended.err
    for word in INSIDE:
        assert word not in ended.err, f"{word} in\n{ended.err}"
    ours = [line for line in ended.err.splitlines() if line.startswith("  File ") and "/raddle/" in line]
    assert len(ours) <= 1, f"more than the one place that the user called\n{ended.err}"


DELAYS = random.Random(2024)


@pytest.mark.parametrize("delay", [round(DELAYS.uniform(0, 0.4), 3) for _ in range(20)])
def test_ctrl_c_at_a_random_moment(script, delay):
    name = random.Random(delay).choice([name for name in PROGRAMS if name != "threads"])
    judge(interrupt(script, PROGRAMS[name], delay))


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_ctrl_c_while_the_program(script, name):
    judge(interrupt(script, PROGRAMS[name], 0.15))


@pytest.mark.parametrize("on_terms", [False, True])
def test_ctrl_c_in_the_first_calls_of_a_map_shows_one_line_of_ours(on_terms):
    with raddle.Pool("process", 1) as pool:
        calls_of = pool.options() if on_terms else pool
        with pytest.raises(KeyboardInterrupt) as caught:
            calls_of.map(calls.identity, [calls.Interrupts()])
    ours = [entry for entry in caught.traceback if Path(raddle.__file__).parent in Path(entry.path).parents]
    assert len(ours) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ctrl_c_while_the_interpreter_waits_for_a_drop_in(script, method):
    program = script(f"""
        import multiprocessing, time
        from raddle.futures import ProcessPoolExecutor
        if __name__ == "__main__":
            pool = ProcessPoolExecutor(2, multiprocessing.get_context("{method}"))
            futures = [pool.submit(time.sleep, 60) for _ in range(3)]
            print("ready", flush=True)
    """)
    child = program.start()
    assert child.stdout.readline() == "ready\n", child.communicate()
    time.sleep(0.3)
    os.killpg(child.pid, signal.SIGINT)
    ended = program.finish(8)
    assert ended.code in (0, 1, -signal.SIGINT), ended
    assert "is closed" not in ended.err, ended.err
    until(lambda: group_members(child.pid) == [], "the workers to end", 5)


@pytest.mark.parametrize("name", ["map", "long calls", "leaving the block", "starting pools"])
def test_ctrl_c_again_and_again_ends_the_program_as_well(script, name):
    ended = interrupt(script, PROGRAMS[name], 0.1, again=5)
    assert ended.code != 0
    assert "KeyboardInterrupt" in ended.err


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_ctrl_c_in_the_drop_in_leaves_no_process(script, method):
    # Its workers are of the same process group, and get the signal too, as in the standard library.
    program = script(f"""
        import multiprocessing, time, calls
        from raddle.futures import ProcessPoolExecutor

        if __name__ == "__main__":
            with ProcessPoolExecutor(2, multiprocessing.get_context("{method}")) as executor:
                futures = [executor.submit(time.sleep, 60) for _ in range(2)]
                calls.until(lambda: all(future.running() for future in futures))
                print("ready", flush=True)
                futures[0].result()
    """)
    child = program.start()
    assert child.stdout.readline() == "ready\n"
    workers = children_of(child.pid)
    os.killpg(child.pid, signal.SIGINT)
    ended = program.finish(20)
    assert ended.code != 0
    assert "KeyboardInterrupt" in ended.err
    until(lambda: all(is_gone(worker) for worker in workers), "the workers to end", 5)
    until(lambda: group_members(child.pid) == [], "the group to be empty", 5)


def test_a_program_that_catches_ctrl_c_goes_on_with_its_pool(script):
    program = script("""
        import raddle, time
        pool = raddle.Pool("process", 2)
        pool.submit(abs, 1).result()
        print("ready", flush=True)
        try:
            pool.submit(time.sleep, 60).result()
        except KeyboardInterrupt:
            print("caught", pool.submit(abs, -5).result(20))
        pool.shutdown(wait=False, cancel_futures=True)
        pool._lane.kill("the test is over")
        pool.shutdown()
    """)
    child = program.start()
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.killpg(child.pid, signal.SIGINT)
    ended = program.finish(20)
    assert (ended.code, ended.out, ended.err) == (0, "caught 5\n", "")


def test_another_signals_handler_runs_during_a_wait():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with raddle.Pool("process", 1) as pool:
            future = pool.submit(calls.apply, os.kill, os.getpid(), signal.SIGUSR1)
            future.result(30)
            pool.submit(time.sleep, 0.05).result()
            until(lambda: seen, "the handler")
            slow = pool.submit(time.sleep, 0.3)
            os.kill(os.getpid(), signal.SIGUSR1)
            slow.result(30)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1] * 2


def test_a_handler_that_raises_ends_the_wait(kind, gate):
    class Alarm(Exception):
        pass

    def ring(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with raddle.Pool(kind, 1) as pool:
            future = pool.submit(gate)
            gate.wait_entered()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Alarm):
                future.result()
            gate.open()
            assert future.result(30) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- the end of the interpreter -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_calls_that_are_pending_at_the_end_of_the_program_are_done(script, tmp_path, kind):
    ended = script(f"""
        import raddle, calls
        pool = raddle.Pool("{kind}", 2)
        for number in range(50):
            pool.submit(calls.touch, f"{tmp_path}/" + str(number))
        pool.submit(calls.identity, 1).add_done_callback(lambda future: print("told", future.result()))
        print("the end")
    """).run()
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == ["the end", "told 1"]
    assert len([name for name in os.listdir(tmp_path) if name.isdigit()]) == 50


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize(
    "ending",
    ["pass", "del pool", "pool.shutdown(wait=False)", "raise SystemExit(0)", "import gc; del pool; gc.collect()"],
)
def test_a_program_may_end_without_ending_its_pool(script, kind, ending):
    ended = script(f"""
        import raddle
        pool = raddle.Pool("{kind}", 2)
        futures = [pool.submit(abs, -number) for number in range(20)]
        results = pool.map(abs, range(10**9))
        print(futures[0].result(), next(results))
        del results
        {ending}
    """).run()
    assert (ended.code, ended.out, ended.err) == (0, "0 0\n", "")


def test_a_program_that_ends_with_an_error_shows_only_that(script):
    ended = script("""
        import raddle
        pool = raddle.Pool("process", 2)
        print(pool.submit(abs, -1).result())
        1 / 0
    """).run()
    assert ended.code == 1
    assert ended.err.count("Traceback") == 1
    assert ended.err.endswith("ZeroDivisionError: division by zero\n")
    assert "raddle" not in ended.err


def test_nothing_can_be_submitted_when_the_interpreter_ends(script):
    ended = script("""
        import atexit, raddle
        pool = raddle.Pool("thread", 1)
        pool.submit(abs, 1).result()

        def late():
            for use in (lambda: pool.submit(abs, 1), lambda: raddle.Pool("process", 1).submit(abs, 1)):
                try:
                    use()
                except RuntimeError as error:
                    print(error)

        atexit.register(late)
    """).run()
    assert ended.err == ""
    lines = ended.out.splitlines()
    assert len(lines) == 2
    assert "after shutdown" in lines[0]
    assert "after interpreter shutdown" in lines[1]


def test_os_exit_of_the_parent_leaves_no_worker(script):
    program = script("""
        import os, raddle, time
        pool = raddle.Pool("process", 2)
        futures = [pool.submit(time.sleep, 60) for _ in range(2)]
        pids = [pool.submit(os.getpid).running() for _ in range(2)]
        print(*pool._lane._lane.pids(), flush=True)
        os._exit(7)
    """)
    ended = program.run()
    assert ended.code == 7
    pids = [int(pid) for pid in ended.out.split()]
    assert pids
    until(lambda: all(is_gone(pid) for pid in pids), "the workers to end", 2)


@pytest.mark.parametrize("what", ["process", "thread", "futures"])
def test_ctrl_c_that_comes_just_before_a_thread_falls_asleep_is_not_lost(script, what):
    pool = {
        "process": 'raddle.Pool("process", 1)',
        "thread": 'raddle.Pool("thread", 1)',
        "futures": "raddle.futures.ThreadPoolExecutor(1)",
    }[what]
    program = f"""
        import os, sys, time
        import raddle, raddle.futures
        pool = {pool}
        pool.submit(abs, 1).result()
        future = pool.submit(time.sleep, 30)
        try:
            print("ready", flush=True)
            future.result()
        except KeyboardInterrupt:
            sys.stdout.write("interrupted")
            sys.stdout.flush()
            if {what == "process"}:
                pool._lane.kill("the test is over")
                pool.shutdown()
            os._exit(0)
    """
    for delay in range(12):
        one = script(program)
        child = one.start()
        assert child.stdout.readline() == "ready\n"
        moment = time.perf_counter() + delay * 20e-6
        while time.perf_counter() < moment:
            pass
        child.send_signal(signal.SIGINT)
        assert one.finish(timeout=20).out == "interrupted"
