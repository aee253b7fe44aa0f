"""What Raddle promises beside its peers, one test for each row of the comparison.

Through the public interface, with real processes and signals.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import calls
import raddle
import raddle.futures
from calls import is_gone, pid_in, until

# --- faces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_drop_in_for_executors(name):
    standard = getattr(concurrent.futures, name)
    with getattr(raddle.futures, name)(max_workers=2) as executor:
        assert isinstance(executor, standard)
        futures = [executor.submit(pow, 2, n) for n in range(10)]
        assert all(isinstance(future, concurrent.futures.Future) for future in futures)
        assert concurrent.futures.wait(futures, 30).not_done == set()
        assert {f.result() for f in concurrent.futures.as_completed(futures)} == {2**n for n in range(10)}
        assert list(executor.map(abs, range(-5, 0), timeout=30)) == [5, 4, 3, 2, 1]

        async def in_a_loop():
            return await asyncio.get_running_loop().run_in_executor(executor, pow, 3, 3)

        assert asyncio.run(in_a_loop()) == 27


def test_one_interface_for_threads_and_processes(kind):
    with raddle.Pool(kind, 2) as pool:
        assert pool.submit(lambda x: x + 1, 1).result() == 2
        assert list(pool.map(calls.add, range(5), range(5))) == [0, 2, 4, 6, 8]
        assert sorted(pool.map(calls.identity, range(100), ordered=False)) == list(range(100))
        assert pool.map_reduce(len, max, ["a", "ccc"]) == 3
        assert pool.submit(calls.item_of, pool.put({"a": 1}), "a").result() == 1
        assert pool.options(name="x").submit(calls.identity, 1).result() == 1
        assert {future.result() for future in pool.as_completed([pool.submit(calls.identity, 7)])} == {7}
        assert pool.statistics().failed == 0


def test_await_without_a_detour(kind):
    async def main():
        with raddle.Pool(kind, 2) as pool:
            assert await asyncio.gather(*(pool.run(calls.identity, n) for n in range(20))) == list(range(20))
            assert [value async for value in pool.amap(calls.identity, range(20))] == list(range(20))
            assert await asyncio.wrap_future(pool.submit(calls.identity, 1)) == 1
            with pytest.raises(ValueError, match="bad"):
                await pool.run(calls.fail)

    asyncio.run(main())


def test_types_are_marked_for_type_checkers():
    assert (Path(raddle.__file__).parent / "py.typed").exists()


def test_lambdas_and_no_main_guard(script):
    program = script("import raddle\nprint(sum(raddle.Pool('process', 2).map(lambda x: x * x, range(5))))\n")
    ended = program.run()
    assert (ended.code, ended.out, ended.err) == (0, "30\n", "")


# --- deaths ----------------------------------------------------------------------------------------------------------


def own_memory_group():
    """The directory of this process's control group for memory, and the file that limits it; none where there is none."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes"
        if controllers == "" and Path("/sys/fs/cgroup" + path, "memory.max").exists():
            return Path("/sys/fs/cgroup" + path), "memory.max"
    return None


@pytest.fixture
def little_group():
    """A control group of its own, inside of this process's, with 150 megabytes of memory."""
    found = own_memory_group()
    if found is None:
        pytest.skip("there is no control group for memory")
    parent, limit = found
    group = parent / f"raddle-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a control group cannot be made here: {error}")
    try:
        (group / limit).write_text(str(150 << 20))
    except OSError as error:
        group.rmdir()
        pytest.skip(f"memory cannot be limited here: {error}")
    yield group

    def is_removed():
        try:
            group.rmdir()
        except OSError:  # a process in it is being taken apart
            return False
        return True

    until(is_removed, "the control group to be empty")


def gorge(group):
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))


def test_pool_survives_sigkill(pool, tmp_path):
    running = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
    pid = pid_in(tmp_path / "pid")
    queued = [pool.submit(calls.identity, number) for number in range(100)]
    os.kill(pid, signal.SIGKILL)
    error = running.exception(30)
    assert isinstance(error, raddle.WorkerDied)
    assert error.pid == pid
    assert [future.result(30) for future in queued] == list(range(100))
    assert list(pool.map(calls.identity, range(100))) == list(range(100))


def test_pool_survives_out_of_memory(little_group):
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(gorge, str(little_group)).exception(50)
        assert isinstance(error, raddle.WorkerDied)
        assert error.exitcode == -signal.SIGKILL
        assert "gorge()" in str(error)
        assert "out of memory" in str(error).splitlines()[0]
        assert list(pool.map(calls.identity, range(100))) == list(range(100))


def test_error_names_call_signal_and_traceback_of_the_crash(pool):
    error = pool.submit(calls.crash_deep_inside).exception(30)
    assert isinstance(error, raddle.WorkerDied)
    assert "crash_deep_inside()" in str(error)
    assert "SIGSEGV" in str(error)
    assert (error.exitcode, error.call) == (-signal.SIGSEGV, "crash_deep_inside()")
    assert "in the_culprit" in "\n".join(error.__notes__)


def test_a_worker_may_die_at_any_instruction():
    """Each is killed a random time after it began, in the middle of whatever it writes to its channel."""
    chance = random.Random(11)
    with raddle.Pool("process", 1) as pool:
        for _ in range(25):
            pid = pool.submit(os.getpid).result(30)
            timer = threading.Timer(chance.uniform(0, 0.02), os.kill, (pid, signal.SIGKILL))
            timer.start()
            sizes = [chance.choice([0, 10, 1000, 20_000, 300_000]) for _ in range(40)]
            futures = [pool.submit(calls.make_bytes, size) for size in sizes]
            for size, future in zip(sizes, futures):
                error = future.exception(30)
                assert isinstance(error, raddle.WorkerDied) or future.result() == b"r" * size
            timer.join()
            until(lambda pid=pid: is_gone(pid), "the worker to end")
        lost = pool.statistics().failed
        assert lost <= 25, "one call for each death"


# --- calls that take too long ----------------------------------------------------------------------------------------


def test_hard_timeout_of_each_call(pool):
    hasty = pool.options(timeout=1.5)
    futures = [hasty.submit(calls.nap_and_pid, 60 if number == 3 else 0) for number in range(8)]
    errors = [type(future.exception(30)) for future in futures]
    assert errors == [type(None)] * 3 + [raddle.CallTimeout] + [type(None)] * 4
    stubborn = hasty.submit(calls.ignore_and_sleep)
    assert isinstance(stubborn.exception(30), raddle.CallTimeout)


def test_a_call_with_a_timeout_ends_also_if_its_worker_is_stopped_before_it_begins():
    with raddle.Pool("process", 1) as pool:
        pid = pool.submit(os.getpid).result()
        os.kill(pid, signal.SIGSTOP)
        until(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text(), "the worker to stop")
        assert pool.options(timeout=0.2).submit(calls.pid).result(30) != pid


@pytest.mark.parametrize("how", ["cancel", "asyncio"])
def test_a_running_call_is_cancelled(pool, tmp_path, how):
    if how == "cancel":
        future = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
        pid = pid_in(tmp_path / "pid")
        assert future.cancel()
        assert future.cancelled()
        assert is_gone(pid)
    else:

        async def main():
            task = asyncio.create_task(pool.run(calls.touch_and_sleep, tmp_path / "pid"))
            while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        asyncio.run(main())
        until(lambda: is_gone(pid_in(tmp_path / "pid")), "the worker to end")
    assert pool.submit(calls.identity, 1).result(30) == 1


# --- many calls ------------------------------------------------------------------------------------------------------


def test_map_is_lazy_unordered_and_has_a_window(pool):
    taken = []

    def numbers():
        for number in range(10**9):
            taken.append(number)
            yield number

    results = pool.map(calls.identity, numbers(), window=5)
    assert [next(results) for _ in range(20)] == list(range(20))
    assert len(taken) <= 20 + 5 + 1
    results.close()
    unordered = pool.map(lambda n: (time.sleep(0.4 if n == 0 else 0), n)[1], range(20), ordered=False, window=4)
    found = list(unordered)
    assert sorted(found) == list(range(20))
    assert found[0] != 0


def test_cheap_calls_travel_together_and_slow_ones_alone(pool):
    def end_at(number):
        if number == 8000:
            os._exit(1)

    with pytest.raises(raddle.WorkerDied, match="a batch of"):
        list(pool.map(end_at, range(20_000)))
    assert len(set(pool.map(calls.nap_and_pid, [0.05] * 8))) == 2, "each worker gets some"


def test_progress_is_shown(pool, capfd):
    assert list(pool.map(calls.identity, range(500), progress=True)) == list(range(500))
    assert "500" in capfd.readouterr().err


def test_trace_export(pool, kind, tmp_path):
    with pool.trace(tmp_path / "calls.json") as trace:
        assert list(pool.map(calls.nap_and_pid, [0.01] * 6))
    for call in trace.calls():
        assert call.submitted <= call.queued <= call.begun <= call.ended <= call.received
    written = json.loads((tmp_path / "calls.json").read_text())["traceEvents"]
    ran = [event for event in written if event.get("cat") == "run"]
    assert len(ran) == 6
    assert all(event["name"] == "nap_and_pid" and event["dur"] >= 10_000 for event in ran)
    assert len({event["tid"] for event in ran}) == 2


# --- memory ----------------------------------------------------------------------------------------------------------


def mapping_of(array):
    """The name of the mapping that an array lies in."""
    at = np.asarray(array).__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= at < end:
            return line.split(maxsplit=5)[-1]
    return ""


def test_arguments_are_not_copied(pool):
    image = raddle.shared.zeros(100_000)
    pool.submit(calls.write_first, image, 5.0).result()
    assert image[0] == 5
    ref = pool.put(np.arange(100_000.0))
    assert "memfd:raddle" in pool.submit(mapping_of, ref).result()


def test_results_are_not_copied_and_can_be_written_to(pool):
    result = pool.submit(calls.filled, 100_000, 1.0).result()
    assert "memfd:raddle" in mapping_of(result)
    result += 1
    assert result.sum() == 200_000
    image = raddle.shared.zeros(100_000)
    same = pool.submit(calls.add_one_in_place, image).result()
    same[0] = 7
    assert image[0] == 7, "what comes back is the same memory"


def test_nothing_lies_in_dev_shm_and_nobody_tracks_it(pool):
    before = trackers()
    arrays = [np.ones(1 << 20) for _ in range(3)]
    kept = list(pool.map(calls.add_one_in_place, arrays))
    image = raddle.shared.zeros(1 << 20)
    assert "memfd:raddle" in mapping_of(image), "it has no name"
    assert not [name for name in os.listdir("/dev/shm") if "raddle" in name]
    assert trackers() == before
    assert len(kept) == 3
    assert image.size


def trackers():
    """Processes of this one that are the standard library's trackers of shared memory; another test may have started one."""
    children = [
        pid
        for task in os.listdir("/proc/self/task")
        for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
    ]
    found = []
    for pid in children:
        with contextlib.suppress(OSError):  # it has just ended
            found += [pid] if "tracker" in Path(f"/proc/{pid}/cmdline").read_text() else []
    return found


def test_memory_of_each_worker_is_limited():
    with raddle.Pool("process", 1, memory="200MiB") as pool:
        assert isinstance(pool.submit(bytearray, 400 << 20).exception(30), MemoryError)
        assert len(pool.submit(bytearray, 1 << 20).result()) == 1 << 20
        assert pool.statistics().died == 0


def test_threads_of_libraries_are_limited(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with raddle.Pool("process", len(os.sched_getaffinity(0))) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"


# --- rest ------------------------------------------------------------------------------------------------------------


def wakeups(pids):
    """How often the threads of these processes have gone to sleep and were woken."""
    found = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            for line in Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    found[pid, task] = int(line.split()[1])
    return found


def test_nobody_wakes_up_to_look(script):
    """While nothing happens, no thread of a pool runs, neither here nor in the workers, busy or idle."""
    program = script("""
        import os, sys, time
        import calls, raddle

        gate = calls.Gate(sys.argv[1])
        pool, other = raddle.Pool("process", 2), raddle.Pool("thread", 2)
        pids = [pool.submit(os.getpid).result() for _ in range(3)]
        waiting = pool.submit(time.sleep, 600)
        limited = pool.options(timeout=600).submit(time.sleep, 600)
        other.submit(abs, 1).result()
        waiting.add_done_callback(print)
        print(*pids, flush=True)
        waiting.result()
    """)
    parent = program.start(Path(program.path).parent / "gate")
    pids = [parent.pid, *{int(pid) for pid in parent.stdout.readline().split()}]

    def rests():
        before = wakeups(pids)
        time.sleep(0.5)  # this is the measurement
        return wakeups(pids) == before

    try:
        until(rests, "everybody to rest")
    finally:
        parent.kill()
        parent.communicate()
