"""Nothing is left over: no descriptor, no thread, no process, no memory. Each test is a program that measures itself."""

from __future__ import annotations

import pytest

MEASURE = """
import gc, multiprocessing, os, sys, threading, time, weakref
import calls, raddle, raddle.futures as rf

def fds():
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}

def threads():
    return len(os.listdir("/proc/self/task"))

def children():
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            found += open(f"/proc/self/task/{task}/children").read().split()
        except FileNotFoundError:
            pass
    return len(found)

def rss():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def steady(work, rounds, most_bytes=None, warm_up=3):
    for _ in range(warm_up):
        work()
    gc.collect()
    before = len(fds()), threads(), children(), rss()
    for _ in range(rounds):
        work()
    gc.collect()
    calls.until(lambda: threads() <= before[1] and children() <= before[2], "threads and children to end", 10)
    after = len(fds()), threads(), children(), rss()
    assert after[0] <= before[0], f"descriptors: {before[0]} before, {after[0]} after: {fds()}"
    if most_bytes is not None:
        assert after[3] - before[3] < most_bytes, f"{after[3] - before[3]} bytes more after {rounds} rounds"

"""


@pytest.fixture
def measured(script):
    """Runs a program that measures itself, with warnings as errors."""

    def run(source, timeout=40):
        import textwrap

        program = script(MEASURE + textwrap.dedent(source))
        ended = program.run(timeout=timeout)
        assert (ended.code, ended.err) == (0, ""), ended

    return run


LANES = {
    "thread": "raddle.Pool('thread', 2)",
    "process": "raddle.Pool('process', 2)",
    "preload": "raddle.Pool('process', 2, preload=['calls'])",
    "thread-executor": "rf.ThreadPoolExecutor(2)",
    "fork": "rf.ProcessPoolExecutor(2, multiprocessing.get_context('fork'))",
    "spawn": "rf.ProcessPoolExecutor(2, multiprocessing.get_context('spawn'))",
    "forkserver": "rf.ProcessPoolExecutor(2, multiprocessing.get_context('forkserver'))",
}


@pytest.mark.parametrize("lane", LANES)
def test_pools_made_and_shut_down_leave_nothing(measured, lane):
    measured(f"""
        def work():
            with {LANES[lane]} as runner:
                futures = [runner.submit(calls.add, number, 1) for number in range(50)]
                assert sum(future.result() for future in futures) == 1275
                assert list(runner.map(calls.identity, range(20))) == list(range(20))

        if __name__ == "__main__":
            steady(work, {5 if lane in ("spawn", "forkserver") else 20}, 4 << 20)
    """)


@pytest.mark.parametrize("lane", LANES)
def test_pools_that_are_dropped_leave_nothing(measured, lane):
    measured(f"""
        def work():
            runner = {LANES[lane]}
            assert runner.submit(calls.add, 1, 1).result() == 2
            del runner
            gc.collect()
            calls.until(lambda: children() <= base and threads() <= tasks, "the workers to end")

        if __name__ == "__main__":
            first = {LANES[lane]}
            first.submit(calls.add, 1, 1).result()
            first.shutdown()
            base, tasks = children(), threads()
            steady(work, 5, 4 << 20)
    """)


@pytest.mark.parametrize("lane", LANES)
def test_what_is_kept_of_pools_that_have_ended_holds_no_descriptors(measured, lane):
    measured(f"""
        kept = []

        def work():
            with {LANES[lane]} as runner:
                results = runner.map(calls.identity, range(20))
                kept.append([runner.submit(calls.add, 1, 1), results, list(results)])

        if __name__ == "__main__":
            steady(work, 5)
            for future, _, results in kept:
                assert (future.result(), results) == (2, list(range(20)))
    """)


@pytest.mark.parametrize("lane", LANES)
def test_a_pool_that_was_shut_down_is_freed_without_the_collector(measured, lane):
    measured(f"""
        if __name__ == "__main__":
            gc.disable()
            runner = {LANES[lane]}
            future = runner.submit(calls.add, 1, 1)
            future.result()
            seen = weakref.ref(runner)
            runner.shutdown()
            del runner, future
            calls.until(lambda: seen() is None, "the pool to be freed", 5)
    """)


def test_a_dead_worker_leaves_nothing(measured):
    measured("""
        def work():
            with raddle.Pool("process", 2) as pool:
                futures = [pool.submit(calls.exit_now, 1) for _ in range(3)] + [pool.submit(calls.add, 1, 1)]
                for future in futures:
                    future.exception()

        steady(work, 8, 4 << 20)
    """)


def test_a_long_lived_pool_whose_workers_die_leaks_no_descriptors(measured):
    measured("""
        pool = raddle.Pool("process", 1)

        def work():
            assert isinstance(pool.submit(calls.exit_now, 1).exception(), raddle.WorkerDied)
            assert pool.submit(calls.add, 1, 1).result() == 2

        steady(work, 15, 4 << 20)
        pool.shutdown()
    """)


def test_a_long_lived_pool_whose_forked_workers_die_leaks_nothing_in_either_process(measured):
    measured("""
        pool = raddle.Pool("process", 1, preload=["calls"])
        zygote = pool.submit(os.getppid).result()

        def of_zygote():
            tasks = open(f"/proc/{zygote}/task/{zygote}/children").read().split()
            return len(os.listdir(f"/proc/{zygote}/fd")), len(tasks)

        def work():
            assert isinstance(pool.submit(calls.exit_now, 1).exception(), raddle.WorkerDied)
            assert pool.submit(calls.add, 1, 1).result() == 2

        work()
        before = of_zygote()
        steady(work, 15, 4 << 20)
        calls.until(lambda: of_zygote() <= before, "the zygote to put things in order", 5)
        assert pool.submit(os.getppid).result() == zygote
        pool.shutdown()
    """)


def test_many_small_calls_leave_no_memory(measured):
    measured("""
        pool = raddle.Pool("process", 2)

        def work():
            assert sum(pool.map(calls.identity, range(5000))) == 12497500
            futures = [pool.submit(calls.add, number, 0.5) for number in range(2000)]
            assert sum(future.result() for future in futures) == 2000000
            futures = [pool.submit(calls.fail) for _ in range(100)]
            rf.wait(futures)
            for future in futures:
                assert future.exception() is not None

        steady(work, 15, 3 << 20)
        pool.shutdown()
    """)


def test_large_payloads_give_their_memory_back(measured):
    measured("""
        pool = raddle.Pool("process", 2)
        data = b"x" * (16 << 20)

        def work():
            assert pool.submit(calls.length, data).result() == len(data)
            assert len(pool.submit(calls.make_bytes, 16 << 20).result()) == 16 << 20

        steady(work, 10, 24 << 20)
        pool.shutdown()
    """)


def test_a_huge_payload_gives_shared_memory_back(measured):
    measured("""
        def shared():
            fields = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
            return int(fields["RssShmem"].split()[0]) * 1024

        with raddle.Pool("process", 1) as pool:
            assert pool.submit(calls.length, b"x" * (200 << 20)).result() == 200 << 20
            assert len(pool.submit(calls.make_bytes, 200 << 20).result()) == 200 << 20
            assert pool.submit(calls.identity).result() is None
            calls.until(lambda: shared() < 140 << 20, "the pages to be given back", 2)
    """)


def test_by_value_functions_leave_no_memory(measured):
    measured("""
        pool = raddle.Pool("process", 1)

        def work():
            for number in range(300):
                text = str(number) * 100
                assert pool.submit(lambda: len(text)).result() == len(text)

        steady(work, 10, 6 << 20, warm_up=8)
        pool.shutdown()
    """)


def test_arguments_and_results_are_let_go_of(measured):
    measured("""
        class Marked:
            pass

        for make in (lambda: raddle.Pool("thread", 1), lambda: raddle.Pool("process", 1)):
            runner = make()
            argument = Marked()
            seen = weakref.ref(argument)
            future = runner.submit(calls.identity, argument)
            result = weakref.ref(future.result())
            del argument, future
            # What ran last may be held by the worker until its next call.
            for _ in range(3):
                runner.submit(calls.add, 1, 1).result()
            gc.collect()
            assert seen() is None and result() is None, runner
            runner.shutdown()
    """)


def test_unordered_and_abandoned_maps_leave_nothing(measured):
    measured("""
        import itertools

        pool = raddle.Pool("process", 2)

        def work():
            for ordered in (True, False):
                results = pool.map(calls.identity, itertools.count(), ordered=ordered)
                for _ in range(500):
                    next(results)
                results.close()
            futures = [pool.submit(calls.identity, number) for number in range(300)]
            stream = pool.as_completed(futures)
            next(stream)
            stream.close()
            rf.wait(futures)

        steady(work, 15, 3 << 20)
        pool.shutdown()
    """)


def test_threads_that_wait_and_end_leave_nothing(measured):
    measured("""
        pool = raddle.Pool("process", 2)

        def work():
            workers = [threading.Thread(target=lambda: pool.submit(calls.add, 1, 1).result()) for _ in range(20)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

        steady(work, 15, 3 << 20)
        pool.shutdown()
    """)


def test_no_name_is_left_in_shared_memory(measured):
    measured("""
        import glob
        before = set(glob.glob("/dev/shm/*"))
        with raddle.Pool("process", 2) as pool:
            pool.submit(calls.length, b"x" * (32 << 20)).result()
            during = set(glob.glob("/dev/shm/*raddle*"))
        assert not during
        assert not {name for name in set(glob.glob("/dev/shm/*")) - before if "raddle" in name}
    """)


def test_descriptors_do_not_leak_into_workers_and_their_children(measured):
    measured("""
        import subprocess

        def open_in_grandchild():
            out = subprocess.run([sys.executable, "-c", "import os; print(*[os.readlink('/proc/self/fd/' + f) for f in "
                                  "os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)])"],
                                 capture_output=True, text=True, close_fds=False).stdout
            return out

        secret = os.open("/dev/zero", os.O_RDONLY)
        with raddle.Pool("process", 2) as pool:
            pool.submit(calls.identity).result()
            inside = pool.submit(lambda: [os.readlink(f"/proc/self/fd/{f}") for f in os.listdir("/proc/self/fd")
                                          if os.path.exists(f"/proc/self/fd/{f}")]).result()
            assert "/dev/zero" not in inside, inside
            below = pool.submit(open_in_grandchild).result()
            assert "raddle" not in below, below
        own = subprocess.run([sys.executable, "-c", "import os; print(*[os.readlink('/proc/self/fd/' + f) for f in "
                              "os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)])"],
                             capture_output=True, text=True, close_fds=False).stdout
        assert "raddle" not in own, own
    """)
