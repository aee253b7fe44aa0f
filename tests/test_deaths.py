"""Workers that die: exactly the call that ran is lost, by name; the pool lives on, and nothing is left over."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

import calls
import raddle
from calls import until


@pytest.fixture
def pool():
    with raddle.Pool("process", workers=2) as pool:
        yield pool


def is_there(pid):
    """Whether a process runs, or is a zombie that nobody has collected."""
    return os.path.exists(f"/proc/{pid}")


def is_running(pid):
    """Whether a process runs. A zombie of somebody else's does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def idle_worker(pool):
    return pool.submit(calls.pid).result()


# --- while it runs a call -------------------------------------------------------------------------------------------

DEATHS = [
    (calls.exit_now, (0,), 0, "exit code 0"),
    (calls.exit_now, (3,), 3, "exit code 3"),
    (calls.signal_self, (signal.SIGKILL,), -9, "SIGKILL"),
    (calls.signal_self, (signal.SIGTERM,), -15, "SIGTERM"),
    (calls.signal_self, (signal.SIGABRT,), -6, "SIGABRT"),
    (calls.segfault, (), -11, "SIGSEGV"),
]


@pytest.mark.parametrize(
    ("fn", "args", "exitcode", "word"), DEATHS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_dead_worker_costs_the_call_it_ran_which_says_what_happened(pool, fn, args, exitcode, word):
    future = pool.submit(fn, *args)
    with pytest.raises(raddle.WorkerDied, match=word) as caught:
        future.result(30)
    error = caught.value
    assert isinstance(error, raddle.BrokenError)
    assert error.exitcode == exitcode
    assert error.call == f"{fn.__qualname__}()"
    assert error.call in str(error)
    assert str(error.pid) in str(error)
    assert not is_there(error.pid)
    assert pool.submit(calls.add, 1, 1).result(30) == 2
    assert pool.statistics().died == 1


def test_a_lambda_is_named_too(pool):
    with pytest.raises(raddle.WorkerDied, match="<lambda>"):
        pool.submit(lambda: os._exit(1)).result(30)


def test_the_pid_is_the_workers_own(pool, tmp_path):
    future = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to run"))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(raddle.WorkerDied) as caught:
        future.result(30)
    assert caught.value.pid == pid


def test_a_worker_that_is_stopped_and_then_killed(pool, tmp_path):
    future = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to run"))
    os.kill(pid, signal.SIGSTOP)
    other = pool.submit(calls.add, 2, 2)
    assert other.result(30) == 4, "a stopped worker stops nobody else"
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(raddle.WorkerDied, match="SIGKILL"):
        future.result(30)


def test_a_stopped_worker_goes_on_where_it_was(pool):
    pid = idle_worker(pool)
    os.kill(pid, signal.SIGSTOP)
    futures = [pool.submit(calls.add, number, 1) for number in range(20)]
    os.kill(pid, signal.SIGCONT)
    assert [future.result(30) for future in futures] == list(range(1, 21))


def test_queued_calls_run_elsewhere_when_their_worker_dies(gate):
    with raddle.Pool("process", 1) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        pid = until(lambda: list(pool._lane._lane.pids()), "the worker")[0]
        queued = [pool.submit(calls.add, number, 0) for number in range(50)]
        os.kill(pid, signal.SIGKILL)
        assert isinstance(held.exception(30), raddle.WorkerDied)
        assert [future.result(30) for future in queued] == list(range(50))
        now = pool.statistics()
        assert (now.submitted, now.finished, now.failed, now.died) == (51, 50, 1, 1)


def test_a_map_ends_with_the_call_that_was_lost(pool):
    results = pool.map(lambda value: os._exit(1) if value == 30 else value, range(60))
    seen = []
    with pytest.raises(raddle.WorkerDied):
        for value in results:
            seen.append(value)
    # Short calls travel together, and what was done of a batch goes down with its worker.
    assert seen == list(range(len(seen)))
    assert len(seen) <= 30
    assert list(pool.map(calls.identity, range(100))) == list(range(100))


def test_unordered_map_loses_nothing_but_the_lost_call(pool):
    futures = [
        pool.submit(calls.exit_now, 1) if number % 10 == 5 else pool.submit(calls.add, number) for number in range(60)
    ]
    ended = list(pool.as_completed(futures, 30))
    assert len(ended) == 60
    lost = [future for future in futures if isinstance(future.exception(), raddle.WorkerDied)]
    assert lost == futures[5::10]
    assert pool.statistics().died == 6


def test_callbacks_hear_of_the_death(pool):
    heard = []
    pool.submit(calls.exit_now, 1).add_done_callback(lambda future: heard.append(type(future.exception())))
    until(lambda: heard, "the callback")
    assert heard == [raddle.WorkerDied]


def test_every_thread_that_waits_hears_of_the_death(pool, tmp_path):
    future = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
    heard = []
    waiters = [threading.Thread(target=lambda: heard.append(type(future.exception(30)))) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to run"))
    os.kill(pid, signal.SIGKILL)
    for waiter in waiters:
        waiter.join(30)
    assert heard == [raddle.WorkerDied] * 5


# --- while it is idle -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_an_idle_worker_that_dies_costs_no_call(pool, number):
    for _ in range(5):
        pid = idle_worker(pool)
        os.kill(pid, number)
        assert [pool.submit(calls.add, n, 1).result(30) for n in range(3)] == [1, 2, 3]
        until(lambda pid=pid: not is_there(pid), "the dead worker to be collected")


def test_a_worker_that_is_killed_while_it_starts():
    for delay in (0, 0.005, 0.02):
        with raddle.Pool("process", 1) as pool:
            future = pool.submit(calls.add, 1, 1)
            time.sleep(delay)  # not to let something happen, but to hit another moment of the start
            for pid in pool._lane._lane.pids():
                os.kill(pid, signal.SIGKILL)
            error = future.exception(30)
            assert isinstance(error, raddle.WorkerDied) or future.result() == 2
            assert pool.submit(calls.add, 1, 1).result(30) == 2


def test_starting_workers_that_are_killed_do_not_break_a_pool_where_one_works():
    with raddle.Pool("process", 2) as pool:
        working = pool.submit(calls.pid).result()
        for _ in range(15):
            other = pool.submit(time.sleep, 0.01)
            held = [pool.submit(calls.add, number, 1) for number in range(20)]
            for pid in set(pool._lane._lane.pids()) - {working}:
                os.kill(pid, signal.SIGKILL)
            for number, future in enumerate(held):
                error = future.exception(30)
                assert isinstance(error, raddle.WorkerDied) or future.result() == number + 1
            other.exception(30)
        assert pool.submit(calls.add, 1, 1).result(30) == 2


def test_all_idle_workers_at_once(gate):
    with raddle.Pool("process", 4) as pool:
        futures = [pool.submit(gate, n) for n in range(4)]
        gate.wait_entered(4)
        gate.open()
        for future in futures:
            future.result()
        pids = pool._lane._lane.pids()
        assert len(pids) == 4
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert list(pool.map(calls.identity, range(200))) == list(range(200))
        until(lambda: pool.statistics().died == 4, "all deaths to be counted")


def test_many_busy_workers_killed_at_once(gate):
    with raddle.Pool("process", 4) as pool:
        running = [pool.submit(gate, n) for n in range(4)]
        gate.wait_entered(4)
        queued = [pool.submit(calls.add, n) for n in range(100)]
        for pid in pool._lane._lane.pids():
            os.kill(pid, signal.SIGKILL)
        assert [type(future.exception(30)) for future in running] == [raddle.WorkerDied] * 4
        assert [future.result(30) for future in queued] == list(range(100))


def test_a_worker_that_dies_again_and_again_does_not_stop_the_others(pool):
    for round_number in range(10):
        bad, good = pool.submit(calls.exit_now, 7), pool.submit(calls.add, round_number)
        assert good.result(30) == round_number
        assert isinstance(bad.exception(30), raddle.WorkerDied)


def test_a_pool_that_is_shut_down_while_a_worker_dies_ends(gate):
    pool = raddle.Pool("process", 2)
    futures = [pool.submit(calls.exit_now, 1) for _ in range(6)]
    pool.shutdown()
    assert all(isinstance(future.exception(0), raddle.WorkerDied) for future in futures)


def test_a_worker_killed_while_the_pool_shuts_down(tmp_path):
    pool = raddle.Pool("process", 1)
    future = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to run"))
    threading.Timer(0.05, os.kill, (pid, signal.SIGKILL)).start()
    pool.shutdown()
    assert isinstance(future.exception(0), raddle.WorkerDied)


def test_death_in_the_middle_of_a_large_result(pool):
    def write_and_die():
        threading.Timer(0.01, os._exit, (9,)).start()
        return [b"x" * (1 << 20) for _ in range(50)]

    future = pool.submit(write_and_die)
    error = future.exception(30)
    assert error is None or isinstance(error, raddle.WorkerDied)
    assert list(pool.map(calls.identity, range(50))) == list(range(50))


# --- the drop-in breaks as the standard library's does --------------------------------------------------------------


def test_every_pending_call_of_the_drop_in_fails_with_broken_process_pool(process_lane, gate):
    if process_lane.is_pool:
        pytest.skip("a pool lives on")
    from concurrent.futures.process import BrokenProcessPool

    runner = process_lane.make(2)
    held = [runner.submit(gate) for _ in range(5)]
    gate.wait_entered(2)
    pid = next(iter(runner._processes))
    os.kill(pid, signal.SIGKILL)
    for future in held:
        with pytest.raises(BrokenProcessPool):
            future.result(30)
    with pytest.raises(BrokenProcessPool):
        runner.submit(calls.identity)
    started = time.monotonic()
    runner.shutdown()
    assert time.monotonic() - started < 10


# --- the parent dies ------------------------------------------------------------------------------------------------

PARENT = """
    import multiprocessing, os, sys, time
    import calls, raddle, raddle.futures

    def main():
        lane, busy, path = sys.argv[1], sys.argv[2] == "busy", sys.argv[3]
        if lane == "process":
            pool = raddle.Pool("process", 2)
        else:
            pool = raddle.futures.ProcessPoolExecutor(2, multiprocessing.get_context(lane))
        gate = calls.Gate(path)
        futures = [pool.submit(gate, n) for n in range(2)]
        gate.wait_entered(2)
        pids = [name.split("-")[1] for name in os.listdir(gate.path) if name.startswith("entered")]
        if not busy:
            gate.open()
            for future in futures:
                future.result()
        else:
            pool.submit(calls.identity)
        print(*pids, flush=True)
        time.sleep(60)

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize("busy", ["busy", "idle"])
@pytest.mark.parametrize("lane", ["process", "fork", "spawn", "forkserver"])
def test_no_worker_outlives_a_parent_that_is_killed(script, tmp_path, lane, busy):
    parent = script(PARENT)
    child = parent.start(lane, busy, tmp_path)
    pids = [int(pid) for pid in child.stdout.readline().split()]
    assert len(pids) == 2, child.communicate()
    assert all(is_running(pid) for pid in pids)
    child.kill()
    started = time.monotonic()
    until(lambda: not any(is_running(pid) for pid in pids), "the workers to end", 5)
    assert time.monotonic() - started < 1.5
    child.communicate(timeout=10)


GRANDCHILD = """
    import os, sys, time
    import calls, raddle
    from pathlib import Path

    pool = raddle.Pool("process", 1)
    pool.submit(calls.sleep_in_a_child, Path(sys.argv[1]))
    time.sleep(60)
"""


def test_what_calls_have_started_ends_with_a_parent_that_is_killed(script, tmp_path):
    parent = script(GRANDCHILD)
    child = parent.start(tmp_path / "pid")
    until((tmp_path / "pid").exists, "the call to start a process")
    grandchild = int((tmp_path / "pid").read_text())
    assert is_running(grandchild)
    child.kill()
    child.communicate(timeout=10)
    until(lambda: not is_running(grandchild), "the grandchild to end", 5)


def test_a_later_worker_has_the_path_of_its_time(monkeypatch):
    with raddle.Pool("process", 1) as pool:
        assert "/somewhere/else" not in pool.submit(calls.path).result(20)
        monkeypatch.syspath_prepend("/somewhere/else")
        assert isinstance(pool.submit(calls.kill_itself).exception(20), raddle.WorkerDied)
        assert pool.submit(calls.path).result(20)[0] == "/somewhere/else"
