"""What a pool says of each of its workers."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import calls
import raddle
from calls import until


def in_all(statistics, name):
    return sum(getattr(worker, name) for worker in statistics.per_worker)


def test_the_workers_numbers_add_up_to_those_of_the_pool(pool):
    list(pool.map(calls.identity, range(5000)))
    failing = [pool.submit(calls.fail) for _ in range(7)]
    assert all(future.exception() for future in failing)
    now = pool.statistics()
    assert in_all(now, "calls") == now.finished + now.failed == 5007
    assert in_all(now, "failed") == now.failed == 7
    assert in_all(now, "busy_seconds") == pytest.approx(now.busy_seconds)


def test_a_batch_that_fails_counts_what_it_has_done(pool):
    with pytest.raises(ValueError):
        list(pool.map(calls.fail_if, range(9000), [8000] * 9000))
    now = until(lambda: (seen := pool.statistics()).pending == seen.running == 0 and seen, "the other batches")
    assert in_all(now, "calls") == now.finished + now.failed
    assert in_all(now, "failed") == now.failed == 1


def test_workers_are_named_as_the_system_knows_them(kind):
    with raddle.Pool(kind, 2, name="mill") as pool:
        first, second = (pool.submit(calls.nap_and_pid, 0.01) for _ in range(2))
        pids = {first.result(), second.result()}
        workers = pool.statistics().per_worker
        if kind == "thread":
            names = {thread.name for thread in threading.enumerate()}
            assert {worker.name for worker in workers} <= names
            assert {worker.pid for worker in workers} == {None}
        else:
            assert pids <= {worker.pid for worker in workers}
            assert all(worker.name == f"process {worker.pid}" for worker in workers)


def test_a_call_that_runs_counts_as_busy_before_it_has_ended(kind, gate):
    with raddle.Pool(kind, 1) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        (worker,) = until(
            lambda: (seen := pool.statistics().per_worker)[0].busy_seconds > 0.05 and seen, "the time to be counted"
        )
        assert (worker.calls, worker.state) == (0, "busy")
        assert pool.statistics().busy_seconds >= worker.busy_seconds
        gate.open()
        held.result()
        now = pool.statistics()
        (after,) = now.per_worker
        assert (after.calls, after.state) == (1, "idle")
        assert after.busy_seconds >= worker.busy_seconds
        assert after.idle_seconds == pytest.approx(after.age_seconds - after.busy_seconds)
        assert 0 < after.busy_share < 1


def test_busy_seconds_never_go_back(pool):
    seen: dict[str, float] = {}
    most = 0.0
    for _ in pool.map(calls.halve, range(3000), window=8):
        now = pool.statistics()
        assert now.busy_seconds >= most
        most = now.busy_seconds
        for worker in now.per_worker:
            assert worker.busy_seconds >= seen.get(worker.name, 0.0)
            assert worker.busy_seconds <= worker.age_seconds
            seen[worker.name] = worker.busy_seconds


def test_a_worker_that_is_being_set_up_is_starting(kind, gate):
    with raddle.Pool(kind, 1, initializer=gate) as pool:
        waiting = pool.submit(calls.identity, 3)
        gate.wait_entered()
        (worker,) = pool.statistics().per_worker
        assert (worker.state, worker.calls, worker.busy_seconds) == ("starting", 0, 0.0)
        gate.open()
        assert waiting.result() == 3
        assert pool.statistics().per_worker[0].calls == 1


def test_a_dead_worker_is_remembered_with_the_call_that_it_was_busy_with(tmp_path):
    with raddle.Pool("process", 1) as pool:
        assert [pool.submit(calls.identity, number).result() for number in range(3)] == [0, 1, 2]
        lost = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to run"))
        before = until(
            lambda: (seen := pool.statistics().per_worker[0]).busy_seconds > 0.02 and seen, "the time to be counted"
        )
        os.kill(pid, signal.SIGKILL)
        assert isinstance(lost.exception(), raddle.WorkerDied)
        assert pool.submit(calls.identity, 4).result() == 4
        now = pool.statistics()
        alive, dead = now.per_worker
        assert (dead.pid, dead.state, dead.calls, dead.failed) == (pid, "died", 4, 1)
        assert before.busy_seconds <= dead.busy_seconds <= dead.age_seconds
        assert (alive.state, alive.calls, alive.failed) == ("idle", 1, 0)
        assert now.busy_seconds == pytest.approx(dead.busy_seconds + alive.busy_seconds)
        assert pool.statistics().per_worker[1] == dead, "its age stands still"


def test_an_attempt_that_is_made_again_is_no_call_of_the_worker_that_died(tmp_path):
    with raddle.Pool("process", 1) as pool:
        assert pool.options(retries=1).submit(calls.die_until, str(tmp_path / "log"), 2).result() == 2
        alive, dead = pool.statistics().per_worker
        assert (dead.state, dead.calls, dead.failed) == ("died", 0, 0)
        assert (alive.calls, alive.failed) == (1, 0)


def test_a_call_that_was_stopped_is_no_call_of_its_worker(gate):
    with raddle.Pool("process", 1) as pool:
        stopped = pool.submit(gate)
        gate.wait_entered()
        assert stopped.cancel()
        (worker,) = until(lambda: pool.statistics().per_worker, "the worker to be remembered")
        assert (worker.state, worker.calls, worker.failed) == ("ended", 0, 0)
        assert worker.busy_seconds > 0


def test_the_totals_count_workers_that_are_long_forgotten():
    with raddle.Pool("process", 2, max_tasks_per_child=1) as pool:
        assert list(pool.map(calls.identity, range(40))) == list(range(40))
    now = pool.statistics()
    assert (now.finished, now.died) == (40, 0)
    assert len(now.per_worker) == 32
    assert {worker.state for worker in now.per_worker} == {"ended"}
    assert {worker.calls for worker in now.per_worker} <= {0, 1}, "the last two may have had nothing to do"
    assert in_all(now, "calls") >= 30
    assert now.busy_seconds > in_all(now, "busy_seconds")


def test_workers_that_were_told_to_end_have_ended(kind):
    with raddle.Pool(kind, 2) as pool:
        list(pool.map(calls.nap_and_pid, [0.01] * 4))
        busy = pool.statistics().busy_seconds
    then = pool.statistics()
    assert {worker.state for worker in then.per_worker} == {"ended"}
    assert in_all(then, "calls") == 4
    assert then.busy_seconds == pytest.approx(busy)
    assert pool.statistics().per_worker == then.per_worker, "their ages stand still"


def test_a_thread_that_cannot_be_set_up_is_no_worker():
    with raddle.Pool("thread", 1, initializer=calls.refuse_to_start, initargs=("no",)) as pool:
        with pytest.raises(raddle.BrokenPool):
            pool.submit(calls.identity).result()
    assert pool.statistics().per_worker == ()


def test_a_record_cannot_be_changed(pool):
    pool.submit(calls.identity).result()
    with pytest.raises(AttributeError):
        pool.statistics().per_worker[0].calls = 7


def test_a_forked_child_is_told_nothing_of_workers_that_are_not_its_own(kind):
    with raddle.Pool(kind, 1) as pool:
        pool.submit(calls.identity).result()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, str(len(pool.statistics().per_worker)).encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(read) as told:
            assert told.read() == "0"
        os.waitpid(pid, 0)
