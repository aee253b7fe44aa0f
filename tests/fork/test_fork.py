"""What survives `os.fork()`: the child may not use the parent's pools, may make its own, and harms nothing by ending."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback

import pytest

import calls
import raddle
import raddle.futures

# Since 3.12 Python warns when a process with threads forks; that is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def in_child(work, timeout=20):
    """Runs `work` in a forked child; raises here what it raised there."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(readable)
            work()
            code = 0
        except BaseException:
            os.write(writable, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(writable)
    killer = threading.Timer(timeout, os.kill, (child, 9))
    killer.start()
    try:
        with open(readable, "rb") as file:
            account = file.read().decode()
        _, status = os.waitpid(child, 0)
    finally:
        killer.cancel()
    assert not os.WIFSIGNALED(status), f"the child hung, or died of signal {os.WTERMSIG(status)}"
    assert os.WEXITSTATUS(status) == 0, account


def test_the_parents_pool_is_refused_in_a_forked_child_by_name(pool):
    assert pool.submit(calls.add, 1, 1).result() == 2

    def work():
        with pytest.raises(RuntimeError, match="this process is a fork of that one") as caught:
            pool.submit(calls.add, 1, 1)
        assert "hint: make a pool of your own here" in str(caught.value)
        with pytest.raises(RuntimeError, match="fork"):
            list(pool.map(calls.add, [1], [1]))

    in_child(work)
    assert pool.submit(calls.add, 2, 2).result() == 4


def test_the_parents_executor_is_refused_in_a_forked_child(lane):
    with lane.make(1) as runner:
        assert runner.submit(calls.add, 1, 1).result() == 2

        def work():
            with pytest.raises(RuntimeError, match="this process is a fork of that one"):
                runner.submit(calls.add, 1, 1)

        in_child(work)
        assert runner.submit(calls.add, 2, 2).result() == 4


def test_a_forked_child_may_make_its_own_pool(kind):
    with raddle.Pool(kind, 2) as outer:
        assert outer.submit(calls.add, 1, 1).result() == 2

        def work():
            with raddle.Pool(kind, 2) as pool:
                assert list(pool.map(calls.add, range(50), range(50))) == list(range(0, 100, 2))

        in_child(work)
        assert list(outer.map(calls.identity, range(50))) == list(range(50))


def test_shutting_the_parents_pool_down_in_the_child_does_nothing_to_it(pool):
    pool.submit(calls.add, 1, 1).result()

    def work():
        pool.shutdown(wait=True, cancel_futures=True)
        repr(pool)
        pool.statistics()

    in_child(work)
    assert pool.submit(calls.add, 2, 2).result() == 4


def test_leaving_the_block_in_the_child_does_nothing_to_the_parents_pool(kind):
    readable, writable = os.pipe()
    with raddle.Pool(kind, 1) as pool:
        pool.submit(calls.add, 1, 1).result()
        child = os.fork()
        if child:
            os.close(writable)
            assert os.waitpid(child, 0)[1] == 0
            assert os.read(readable, 10) == b"left"
            assert pool.submit(calls.add, 2, 2).result() == 4
    if not child:
        os.write(writable, b"left")
        os._exit(0)
    os.close(readable)


def test_a_child_that_ends_in_the_ordinary_way_leaves_the_parents_pool_alone(script):
    ended = script("""
        import os, raddle, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns when a process with threads forks
        pool = raddle.Pool("process", 2)
        threads = raddle.Pool("thread", 2)
        print(pool.submit(abs, -1).result(), threads.submit(abs, -1).result(), flush=True)
        child = os.fork()
        if child == 0:
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print(status, pool.submit(abs, -2).result(), threads.submit(abs, -2).result())
    """).run()
    assert (ended.code, ended.out, ended.err) == (0, "1 1\n0 2 2\n", "")


def test_a_future_of_the_parent_that_has_ended_can_be_read_in_the_child(pool):
    done = pool.submit(calls.add, 1, 1)
    done.result()

    def work():
        assert done.done()
        assert done.result() == 2

    in_child(work)


def test_a_fork_while_other_threads_use_the_pool(kind):
    # Wherever the other threads are when the process forks, the child must not meet a lock that nobody holds there.
    over = threading.Event()
    with raddle.Pool(kind, 2) as pool:

        def use():
            while not over.is_set():
                pool.submit(calls.add, 1, 1).result()

        users = [threading.Thread(target=use) for _ in range(3)]
        for user in users:
            user.start()
        try:
            for _ in range(15):

                def work():
                    with pytest.raises(RuntimeError, match="fork"):
                        pool.submit(calls.add, 1, 1)
                    pool.shutdown()
                    with raddle.Pool(kind, 1) as own:
                        assert own.submit(calls.add, 1, 1).result() == 2

                in_child(work)
        finally:
            over.set()
            for user in users:
                user.join(30)
        assert pool.submit(calls.add, 1, 1).result() == 2


def test_a_fork_of_a_fork(pool):
    pool.submit(calls.add, 1, 1).result()

    def work():
        def deeper():
            with pytest.raises(RuntimeError, match="fork"):
                pool.submit(calls.add, 1, 1)
            with raddle.Pool("process", 1) as own:
                assert own.submit(calls.add, 2, 2).result() == 4

        with raddle.Pool("process", 1) as own:
            assert own.submit(calls.add, 1, 1).result() == 2
            in_child(deeper)
            assert own.submit(calls.add, 3, 3).result() == 6

    in_child(work)


def test_a_pool_inside_a_worker_of_a_pool():
    def inner():
        import calls
        import raddle

        with raddle.Pool("process", 1) as pool:
            return pool.submit(calls.add, 1, 1).result()

    with raddle.Pool("process", 1) as pool:
        assert pool.submit(inner).result(30) == 2


def test_the_standard_multiprocessing_works_beside_a_pool(pool):
    import multiprocessing

    pool.submit(calls.add, 1, 1).result()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_put, args=(queue,))
    process.start()
    assert queue.get() == "from the child"
    process.join(20)
    assert process.exitcode == 0
    queue.close()
    assert pool.submit(calls.add, 2, 2).result() == 4


def _put(queue):
    queue.put("from the child")


def test_subprocesses_run_beside_a_pool(pool):
    import subprocess

    pool.submit(calls.add, 1, 1).result()
    for code in (0, 3):
        assert subprocess.run(["sh", "-c", f"exit {code}"]).returncode == code
    assert pool.submit(calls.add, 2, 2).result() == 4


def test_a_program_that_has_only_imported_threading_is_told_of_the_fork():
    source = """if True:
        import os, warnings
        warnings.simplefilter("ignore")
        import threading as standard, raddle, raddle.threading
        raddle.on_deadlock = "raise"
        lock, holds = raddle.threading.RLock(), standard.Event()
        def hold():
            with lock:
                holds.set()
                standard.Event().wait()
        standard.Thread(target=hold, daemon=True).start()
        holds.wait()
        child = os.fork()
        if child == 0:
            try:
                lock.acquire()  # its holder does not exist here
            except raddle.DeadlockError:
                print("named", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "named\n", "")


def test_a_fork_while_other_threads_begin_and_end_to_wait():
    # What they note while they wait is noted without the interpreter, so a fork may come in the middle of it.
    over = threading.Event()
    with raddle.Pool("thread", 8) as pool:

        def use():
            while not over.is_set():
                pool.submit(time.sleep, 0.0025).result()

        users = [threading.Thread(target=use) for _ in range(8)]
        for user in users:
            user.start()
        try:
            for _ in range(600):
                child = os.fork()
                if child == 0:
                    os._exit(0)  # it has been through the hooks
                try:
                    calls.until(lambda child=child: os.waitpid(child, os.WNOHANG)[0], "the child to end", 10)
                except AssertionError:
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                    raise
        finally:
            over.set()
            for user in users:
                user.join()
