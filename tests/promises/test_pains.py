"""The field's pains, one test each: what other pools have done to people, done to this one.

Each test is named after the pain, as people have reported it of multiprocessing, concurrent.futures, joblib and others. Through the public
interface, with real processes and signals.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import calls
import raddle
from calls import is_gone, pid_in, until
from raddle.futures import ProcessPoolExecutor


def maps_of_memory(array):
    """The name of the mapping that an array lies in."""
    at = np.asarray(array).__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= at < end:
            return line.split(maxsplit=5)[-1]
    return ""


# --- deaths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_pain_01_pool_hangs_after_a_worker_was_killed(pool, tmp_path, ordered):
    def killed_at_30(number):
        if number == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(raddle.WorkerDied):
        list(pool.map(killed_at_30, range(60), ordered=ordered, timeout=30))
    running = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
    os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)
    assert isinstance(running.exception(30), raddle.WorkerDied)
    pool.shutdown()


def test_pain_02_one_death_poisons_the_whole_pool(pool):
    for number in range(5):
        assert isinstance(pool.submit(calls.kill_itself).exception(30), raddle.WorkerDied)
        assert pool.submit(calls.identity, number).result(30) == number
    assert list(pool.map(calls.identity, range(500))) == list(range(500))


@pytest.mark.parametrize(
    ("crash", "arguments", "word"),
    [
        (calls.segfault, (), "SIGSEGV"),
        (calls.signal_self, (signal.SIGABRT,), "SIGABRT"),
        (calls.kill_itself, (), "SIGKILL"),
        (calls.exit_now, (7,), "exit code 7"),
    ],
)
def test_pain_03_the_error_says_neither_task_nor_signal(pool, crash, arguments, word):
    error = pool.options(name="the guilty one").submit(crash, *arguments).exception(30)
    assert word in str(error)
    assert "the guilty one()" in str(error)
    assert f"worker process {error.pid} " in str(error)


class HoldsALock(Exception):
    def __init__(self):
        super().__init__("it holds a lock")
        self.lock = threading.Lock()


def test_pain_04_what_cannot_be_pickled_or_unpickled_is_a_hang(pool):
    def raise_it():
        raise HoldsALock

    bad = [
        pool.submit(calls.identity, threading.Lock()),
        pool.submit(calls.result_that_cannot_be_pickled),
        pool.submit(calls.make_explodes),
        pool.submit(calls.identity, calls.Explodes()),
        pool.submit(raise_it),
        pool.submit(calls.raise_odd),
    ]
    good = [pool.submit(calls.identity, number) for number in range(20)]
    kinds = [TypeError, TypeError, ArithmeticError, ArithmeticError, raddle.RemoteError, raddle.RemoteError]
    assert [type(future.exception(30)) for future in bad] == kinds
    assert [future.result(30) for future in good] == list(range(20))
    assert pool.statistics().died == 0


@pytest.mark.parametrize("faces", ["pool", "executor"])
def test_pain_05_max_tasks_per_child_dead_locks(faces):
    make = functools.partial(raddle.Pool, "process") if faces == "pool" else ProcessPoolExecutor
    tasks = 60 if faces == "pool" else 12  # a new interpreter for every two
    with make(2, max_tasks_per_child=2) as runner:
        futures = [runner.submit(os.getpid) for _ in range(tasks)]
        pids = [future.result(50) for future in futures]
    assert max(map(pids.count, pids)) <= 2
    with make(1, max_tasks_per_child=1) as runner:
        results = []
        threads = [threading.Thread(target=lambda: results.append(runner.submit(abs, -1).result(50))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
    assert results == [1] * 4


@pytest.mark.parametrize("make", [functools.partial(raddle.Pool, "process"), ProcessPoolExecutor])
def test_pain_06_dead_locks_between_submit_callbacks_and_shutdown(make):
    for turn in range(3):
        runner = make(2)
        heard, refused, futures = [], [], []

        def submit_again(future, runner=runner, heard=heard, refused=refused):
            heard.append(future)
            try:
                runner.submit(calls.identity, 0).add_done_callback(heard.append)
            except RuntimeError as error:  # it was shut down meanwhile
                refused.append(error)

        def submit_a_lot(runner=runner, futures=futures, refused=refused, submit_again=submit_again):
            try:
                for number in range(200):
                    argument = threading.Lock() if number % 20 == 7 else number
                    futures.append(runner.submit(calls.identity, argument))
                    futures[-1].add_done_callback(submit_again)
            except RuntimeError as error:
                refused.append(error)

        threads = [threading.Thread(target=submit_a_lot) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda futures=futures: len(futures) > 100 * turn, "some calls")
        runner.shutdown(wait=False, cancel_futures=True)
        for thread in threads:
            thread.join(30)
        runner.shutdown()
        until(lambda futures=futures: all(future.done() for future in futures), "every future to end")
        assert not any(thread.is_alive() for thread in threads)


# --- how much and how long -------------------------------------------------------------------------------------------


def test_pain_07_an_eager_map_eats_the_memory(pool):
    asked = itertools.count()
    results = pool.map(calls.identity, asked, window=10)
    assert list(itertools.islice(results, 1000)) == list(range(1000))
    results.close()
    assert next(asked) <= 1000 + 10 + 1
    raddle.shared.limit(8 << 20)
    try:
        big, most = np.zeros(1 << 17), 0
        futures = []
        for _ in range(100):  # a hundred megabytes, if nobody waits
            futures.append(pool.submit(calls.is_writable, big))
            most = max(most, raddle.shared.in_use())
        assert all(future.result(30) for future in futures)
        assert most <= (8 << 20) + big.nbytes
    finally:
        raddle.shared.limit(1 << 30)


def block_signals_and_sleep(path):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    calls.touch_and_sleep(path)


def test_pain_08_a_running_task_can_neither_be_cancelled_nor_timed_out(pool, tmp_path):
    late = pool.options(timeout=3).submit(block_signals_and_sleep, tmp_path / "late")
    assert isinstance(late.exception(30), raddle.CallTimeout)
    assert is_gone(pid_in(tmp_path / "late"))
    stopped = pool.submit(block_signals_and_sleep, tmp_path / "stopped")
    pid = pid_in(tmp_path / "stopped")
    assert stopped.cancel()
    assert is_gone(pid)


def test_pain_08_cancelling_from_asyncio_does_nothing(pool, tmp_path):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await pool.run(calls.touch_and_sleep, tmp_path / "pid")

    asyncio.run(main())
    pid = pid_in(tmp_path / "pid")
    until(lambda: is_gone(pid), "the worker to end")


def test_pain_09_ctrl_c_hangs_leaves_orphans_and_starts_the_next_item(script, tmp_path):
    program = script("""
        import os, sys, time
        from pathlib import Path
        import raddle

        directory = Path(sys.argv[1])

        def work(number):
            (directory / f"{number}-{os.getpid()}").touch()
            time.sleep(30)

        with raddle.Pool("process", 2) as pool:
            for _ in pool.map(work, range(100)):
                pass
    """)
    child = program.start(tmp_path)

    def begun():
        return {name for name in os.listdir(tmp_path) if name[0].isdigit()}

    before = until(lambda: len(begun()) == 2 and begun(), "both workers to be busy")
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does it
    ended = program.finish(20)
    assert ended.code == -signal.SIGINT
    assert ended.err.count("Traceback") == 1
    assert ended.err.rstrip().endswith("KeyboardInterrupt")
    assert begun() == before
    assert all(is_gone(int(name.split("-")[1])) for name in begun())


# --- how workers start -----------------------------------------------------------------------------------------------


def test_pain_10_fork_with_threads_dead_locks_and_warns(script):
    program = script("""
        import logging, threading, warnings
        import raddle

        warnings.simplefilter("error")
        logging.basicConfig()
        held, over = threading.Event(), threading.Event()

        def hold_the_lock():
            with logging.getLogger().handlers[0].lock:
                held.set()
                over.wait()

        threads = [threading.Thread(target=hold_the_lock)]
        threads += [threading.Thread(target=over.wait) for _ in range(5)]
        for thread in threads:
            thread.start()
        held.wait()

        def log(number):
            logging.basicConfig()
            logging.getLogger().setLevel("INFO")
            logging.getLogger().info("number %d", number)
            return number

        with raddle.Pool("process", 2) as pool:
            print(sum(pool.map(log, range(10))))
        over.set()
    """)
    ended = program.run()
    assert (ended.code, ended.out) == (0, "45\n"), ended
    assert "Deprecat" not in ended.err


def test_pain_11_every_worker_runs_the_script_again(script, tmp_path):
    program = script("""
        import sys
        with open(sys.argv[1], "a") as log:
            log.write("once\\n")
        import raddle
        if __name__ == "__main__":
            with raddle.Pool("process", 2) as pool:
                print(list(pool.map(lambda x: x + 1, range(3))))
    """)
    ended = program.run(tmp_path / "log")
    assert (ended.code, ended.out, ended.err) == (0, "[1, 2, 3]\n", "")
    assert (tmp_path / "log").read_text() == "once\n"


def test_pain_12_a_script_needs_a_main_guard(script):
    program = script("""
        import raddle

        class Point:
            def __init__(self, x):
                self.x = x

        def double(point):
            return Point(point.x * 2)

        pool = raddle.Pool("process", 2)
        print([point.x for point in pool.map(double, map(Point, range(4)))])
    """)
    ended = program.run()
    assert (ended.code, ended.out, ended.err) == (0, "[0, 2, 4, 6]\n", "")


# --- shared memory ---------------------------------------------------------------------------------------------------


def test_pain_13_a_resource_tracker_destroys_live_segments_and_complains(script):
    program = script("""
        import os, signal
        import numpy as np
        import calls, raddle

        pool = raddle.Pool("process", 2)
        image = raddle.shared.zeros(100_000)
        result = pool.submit(calls.add_one_in_place, image).result()
        ref = pool.put(np.ones(100_000))
        for _ in range(3):
            pool.submit(calls.keep_and_die, image).exception()
        assert image.sum() == 100_000 and result.sum() == 100_000
        assert pool.submit(calls.sum_of, ref).result() == 100_000
        children = [int(pid) for task in os.listdir("/proc/self/task")
                    for pid in open(f"/proc/self/task/{task}/children").read().split()]
        assert children
        for pid in children:
            assert "tracker" not in open(f"/proc/{pid}/cmdline").read()
        del pool
        print(image.sum())
    """)
    ended = program.run()
    assert (ended.code, ended.out, ended.err) == (0, "100000.0\n", "")


def test_pain_14_arrays_in_shared_memory_crash_when_it_is_closed():
    pool = raddle.Pool("process", 1)
    image = raddle.shared.zeros(100_000)
    result = pool.submit(calls.filled, 100_000, 3.0).result()
    part = pool.submit(calls.add_one_in_place, image[:1000]).result()
    slices = [result[10:20], memoryview(result)[5:6], image[::1000]]
    assert isinstance(pool.submit(calls.kill_itself).exception(30), raddle.WorkerDied)
    pool.shutdown()
    del pool, result
    assert slices[0].sum() == 30
    assert slices[1][0] == 3
    assert slices[2][0] == 1
    del image
    assert part.sum() == 1000


def has_unshare():
    tool = shutil.which("unshare")
    command = [tool or "false", "-m", "sh", "-c", "mount -t tmpfs -o size=64m none /dev/shm"]
    return tool and subprocess.run(command, capture_output=True).returncode == 0


def test_pain_15_dev_shm_of_64_megabytes_is_a_bus_error(script):
    if not has_unshare():
        pytest.skip("a file system of its own cannot be mounted here")
    program = script("""
        import os
        import numpy as np
        import calls, raddle

        limit = os.statvfs("/dev/shm")
        assert limit.f_blocks * limit.f_frsize == 64 << 20
        with raddle.Pool("process", 2) as pool:
            arrays = [np.full(8 << 20, number, dtype=float) for number in range(3)]
            print([float(values[-1]) for values in pool.map(calls.add_one_in_place, arrays)])
            print(raddle.shared.zeros(20 << 20).nbytes >> 20)
        assert os.listdir("/dev/shm") == []
    """)
    inside = 'mount -t tmpfs -o size=64m none /dev/shm && exec "$0" "$@"'
    command = ["unshare", "-m", "sh", "-c", inside, sys.executable, str(program.path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(calls.__file__).parent)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[1.0, 2.0, 3.0]\n160\n", "")


class Blob:
    """Says whether its bytes were pickled, or handed over apart from the pickle."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Blob, (pickle.PickleBuffer(self.data),)


def where_it_lies(blob):
    return type(blob.data).__name__, maps_of_memory(np.frombuffer(blob.data, dtype=np.uint8))


def test_pain_16_large_arrays_are_copied_into_pickles(pool):
    kind, mapping = pool.submit(where_it_lies, Blob(bytearray(1 << 20))).result()
    assert kind not in ("bytes", "bytearray"), "it went through the pickle"
    assert "memfd:raddle" in mapping
    result = pool.submit(calls.filled, 1 << 17, 2.0).result()
    assert "memfd:raddle" in maps_of_memory(result)


@pytest.mark.parametrize("size", [10, 1 << 12, 1 << 20])
def test_pain_17_arrays_of_a_megabyte_and_more_arrive_read_only(pool, size):
    assert (pool.submit(calls.add_one_in_place, np.zeros(size)).result() == 1).all()
    result = pool.submit(calls.filled, size, 1.0).result()
    result += 1
    assert (result == 2).all()


def threads_of_libraries():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    return [library["num_threads"] for library in threadpoolctl.threadpool_info()]


def test_pain_18_every_worker_starts_as_many_blas_threads_as_there_are_cpus(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    cpus = len(os.sched_getaffinity(0))
    with raddle.Pool("process", cpus) as pool:
        found = pool.submit(lambda function: (__import__("numpy"), function())[1], threads_of_libraries).result()
    assert found, "numpy brings a library of its own"
    assert set(found) == {1}


# --- what can be called ----------------------------------------------------------------------------------------------


def pool_in_a_pool(number):
    with raddle.Pool("process", 1) as inner, multiprocessing.get_context("spawn").Pool(1) as other:
        return inner.submit(calls.add, number, 1).result(), other.apply(calls.add, (number, 2))


def test_pain_19_workers_may_not_have_children(pool):
    assert pool.submit(pool_in_a_pool, 5).result(50) == (6, 7)


def test_pain_20_lambdas_and_closures_cannot_be_pickled(pool):
    factor = 3

    class Local:
        def __init__(self, value):
            self.value = value

        def times(self, other):
            return Local(self.value * other)

    def outer(value):
        def inner(other):
            return value + other

        return inner

    assert list(pool.map(lambda x: x * factor, range(3))) == [0, 3, 6]
    assert pool.submit(outer(5), 6).result() == 11
    assert pool.submit(Local(4).times, 5).result().value == 20
    assert pool.submit(functools.partial(lambda x, y: x - y, 10), 3).result() == 7
    assert pool.submit(outer, 1).result()(2) == 3, "a closure comes back"


def test_pain_22_progress_bars_are_wrong_with_chunks(pool, capfd):
    assert sum(pool.map(calls.identity, range(12_345), progress=True)) == 12_345 * 12_344 // 2
    last = capfd.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "100%" in last.replace(" ", "")
    assert "12,345" in last or "12345" in last
