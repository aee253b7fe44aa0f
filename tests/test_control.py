"""What can be done about calls that run: deadlines, retries, stopping."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
import time

import pytest

import calls
import raddle
from calls import is_gone, until


@pytest.fixture
def processes():
    with raddle.Pool("process", 2) as pool:
        yield pool


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_a_call_that_runs_too_long_is_stopped_and_costs_nothing_else(processes):
    hasty = processes.options(timeout=0.2)
    began = time.monotonic()
    late = hasty.submit(time.sleep, 60)
    others = [processes.submit(calls.identity, number) for number in range(200)]
    error = late.exception(20)
    assert isinstance(error, raddle.CallTimeout)
    assert isinstance(error, TimeoutError)
    assert (error.call, error.seconds, error.attempts) == ("sleep()", 0.2, 1)
    assert f"sleep() was stopped after 0.2 s in worker process {error.pid}" in str(error)
    assert time.monotonic() - began < 10
    assert [other.result(20) for other in others] == list(range(200))
    until(lambda: is_gone(error.pid), "the worker to end")
    now = processes.statistics()
    assert (now.submitted, now.finished, now.failed, now.died) == (201, 200, 1, 0)


def test_time_in_the_queue_does_not_count(gate):
    with raddle.Pool("process", 1) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        waiting = [pool.options(timeout=0.3).submit(calls.identity, number) for number in range(5)]
        time.sleep(0.6)
        gate.open()
        assert held.exception(20) is None
        assert [future.result(20) for future in waiting] == list(range(5))


def test_each_call_behind_another_has_its_own_time():
    with raddle.Pool("process", 1) as pool:
        hasty = pool.options(timeout=0.5)
        futures = [hasty.submit(calls.nap_and_pid, 0.2) for _ in range(6)]
        assert all(future.exception(20) is None for future in futures)
        mixed = [hasty.submit(time.sleep, 60), hasty.submit(calls.identity, 1), hasty.submit(time.sleep, 60)]
        assert [type(future.exception(30)) for future in mixed] == [raddle.CallTimeout, type(None), raddle.CallTimeout]


def test_a_call_that_catches_the_first_signal_is_killed_a_second_later():
    with raddle.Pool("process", 1) as pool:
        began = time.monotonic()
        error = pool.options(timeout=0.2).submit(calls.ignore_and_sleep).exception(20)
        assert isinstance(error, raddle.CallTimeout)
        assert 1 < time.monotonic() - began < 10


def test_what_the_call_has_started_ends_with_it(tmp_path):
    with raddle.Pool("process", 1) as pool:
        future = pool.options(timeout=0.5).submit(calls.sleep_in_a_child, tmp_path / "pid")
        assert isinstance(future.exception(20), raddle.CallTimeout)
    child = int((tmp_path / "pid").read_text())
    until(lambda: is_gone(child), "the grandchild to end")


@pytest.mark.parametrize("preload", [(), ("json",)], ids=["fresh", "preloaded"])
def test_what_the_call_has_started_ends_with_it_also_if_it_does_not_want_to(tmp_path, preload):
    with raddle.Pool("process", 1, preload=preload) as pool:
        future = pool.options(timeout=1).submit(calls.sleep_in_a_stubborn_child, tmp_path / "pid")
        assert isinstance(future.exception(20), raddle.CallTimeout)
        child = int((tmp_path / "pid").read_text())
        until(lambda: is_gone(child), "the grandchild to end")
        assert pool.submit(calls.add, 1, 1).result(30) == 2


def test_what_a_call_has_started_ends_with_it_when_it_is_cancelled(tmp_path):
    with raddle.Pool("process", 1) as pool:
        future = pool.submit(calls.sleep_in_a_stubborn_child, tmp_path / "pid")
        child = int(
            until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to start a process")
        )
        assert future.cancel()
        until(lambda: is_gone(child), "the grandchild to end")


@pytest.mark.parametrize("preload", [(), ("json",)], ids=["fresh", "preloaded"])
def test_what_calls_have_started_ends_with_a_pool_that_is_interrupted(tmp_path, preload):
    with pytest.raises(KeyboardInterrupt), raddle.Pool("process", 1, preload=preload) as pool:
        pool.submit(calls.sleep_in_a_child, tmp_path / "pid")
        child = int(
            until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to start a process")
        )
        raise KeyboardInterrupt
    until(lambda: is_gone(child), "the grandchild to end")


def into_our_group():
    return {"initializer": lambda group: __import__("os").setpgid(0, group), "initargs": (os.getpgrp(),)}


@pytest.mark.parametrize("preload", [(), ("json",)], ids=["fresh", "preloaded"])
def test_a_worker_that_has_left_its_group_is_ended_all_the_same(preload):
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), raddle.Pool("process", 1, preload=preload, **into_our_group()) as pool:
        pool.submit(time.sleep, 60)
        until(lambda: pool.statistics().running, "the call to begin")
        raise KeyboardInterrupt
    with raddle.Pool("process", 1, preload=preload, **into_our_group()) as pool:
        assert isinstance(pool.options(timeout=0.3).submit(time.sleep, 60).exception(30), raddle.CallTimeout)
        running = pool.submit(time.sleep, 60)
        until(running.running, "the call to begin")
        assert running.cancel()
    assert time.monotonic() - began < 30


def test_a_stopped_worker_is_no_excuse(tmp_path):
    with raddle.Pool("process", 1) as pool:
        future = pool.options(timeout=0.3).submit(calls.touch_and_sleep, tmp_path / "pid")
        pid = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        os.kill(int(pid), signal.SIGSTOP)
        assert isinstance(future.exception(20), raddle.CallTimeout)


def test_callbacks_and_as_completed_hear_of_it(processes):
    heard = []
    hasty = processes.options(timeout=0.1)
    futures = [hasty.submit(time.sleep, 60) for _ in range(2)]
    futures[0].add_done_callback(lambda future: heard.append(type(future.exception())))
    assert {type(future.exception()) for future in processes.as_completed(futures, 20)} == {raddle.CallTimeout}
    until(lambda: heard, "the callback")
    assert heard == [raddle.CallTimeout]


def test_a_deadline_that_is_kept_changes_nothing(processes):
    hasty = processes.options(timeout=30, retries=3, name="adding")
    assert [hasty.submit(calls.add, number, 1, extra=1).result() for number in range(300)] == list(range(2, 302))
    assert list(hasty.map(calls.add, range(300), range(300))) == list(range(0, 600, 2))
    assert processes.statistics().died == 0


def test_a_map_on_terms_ends_at_the_call_that_was_stopped(processes):
    seen = []
    with pytest.raises(raddle.CallTimeout, match="napping"):
        for value in processes.options(timeout=3, name="napping").map(calls.nap_if_5, range(10)):
            seen.append(value)
    assert seen == list(range(5))


def test_the_terms_of_a_map_may_be_its_keywords(processes, tmp_path):
    with pytest.raises(raddle.CallTimeout, match="napping"):
        list(processes.map(calls.nap_if_5, range(10), timeout=0.5, name="napping"))
    log = str(tmp_path / "log")
    assert list(processes.map(calls.die_until, [log], [3], retries=3)) == [3]
    assert list(processes.map(calls.identity, range(50), priority=-1)) == list(range(50))


# --- retries ---------------------------------------------------------------------------------------------------------


def test_a_call_runs_again_when_its_worker_has_died(processes, tmp_path):
    log = str(tmp_path / "log")
    assert processes.options(retries=3).submit(calls.die_until, log, 3).result(30) == 3
    assert processes.statistics().died == 2


def test_attempts_are_counted_in_the_error(processes):
    error = processes.options(retries=2, name="doomed").submit(calls.exit_now, 3).exception(30)
    assert isinstance(error, raddle.WorkerDied)
    assert (error.attempts, error.exitcode, error.call) == (3, 3, "doomed()")
    assert "while it ran doomed(), the last of 3 attempts" in str(error)
    late = processes.options(retries=1, timeout=0.2).submit(time.sleep, 60).exception(30)
    assert isinstance(late, raddle.CallTimeout)
    assert late.attempts == 2


def test_nothing_runs_again_that_was_not_allowed_to(processes, tmp_path):
    log = str(tmp_path / "log")
    assert isinstance(processes.submit(calls.die_until, log, 2).exception(30), raddle.WorkerDied)
    assert (tmp_path / "log").read_text() == "x"


def test_an_exception_of_the_call_is_no_reason_to_run_it_again(processes, tmp_path):
    log = tmp_path / "log"
    future = processes.options(retries=5).submit(calls.log_and_fail, str(log))
    assert isinstance(future.exception(30), ValueError)
    assert log.read_text() == "x"


def test_the_second_attempt_gets_what_the_first_one_got(processes, tmp_path):
    np = pytest.importorskip("numpy")
    future = processes.options(retries=1).submit(calls.spoil_and_die_once, np.zeros(50_000), str(tmp_path / "log"))
    assert future.result(30) == 0


def test_errors_survive_a_pickle():
    for error in (raddle.CallTimeout("f()", 7, 0.5, 2), raddle.WorkerDied("f()", 7, -9, "was killed", 3)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.attempts) == (type(error), str(error), error.attempts)


# --- stopping --------------------------------------------------------------------------------------------------------


def test_cancelling_a_running_call_stops_it(processes, tmp_path):
    future = processes.submit(calls.touch_and_sleep, tmp_path / "pid")
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    assert future.running()
    assert future.cancel()
    assert future.cancelled()
    assert is_gone(pid), "cancelled means that it does not run any more"
    assert processes.submit(calls.identity, 5).result(20) == 5
    now = processes.statistics()
    assert (now.cancelled, now.failed, now.died) == (1, 0, 0)


def test_calls_behind_one_that_is_cancelled_run_elsewhere(tmp_path):
    with raddle.Pool("process", 1) as pool:
        future = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
        until((tmp_path / "pid").exists, "the call")
        behind = [pool.submit(calls.identity, number) for number in range(100)]
        assert future.cancel()
        assert [other.result(20) for other in behind] == list(range(100))


def test_a_call_that_has_ended_is_not_cancelled(pool):
    future = pool.submit(calls.identity, 1)
    future.result()
    assert not future.cancel()
    assert not future.cancelled()


def test_a_running_call_on_a_thread_or_in_a_drop_in_is_not_stopped(lane, gate):
    if lane.name == "process":
        pytest.skip("that one is stopped")
    with lane.make(1) as runner:
        future = runner.submit(gate, 5)
        gate.wait_entered()
        assert not future.cancel()
        gate.open()
        assert future.result(20) == 5


def test_leaving_a_map_early_stops_no_call_that_runs(processes, tmp_path):
    results = processes.map(calls.nap_and_log, range(4), [str(tmp_path)] * 4, window=2)
    assert next(results) == 0
    results.close()
    processes.shutdown()
    assert processes.statistics().died == 0
    assert {"0", "1"} <= set(os.listdir(tmp_path))


def test_cancelling_from_many_threads_at_once(processes):
    for _ in range(10):
        future = processes.submit(time.sleep, 60)
        until(future.running, "the call to run")
        answers = []
        threads = [threading.Thread(target=lambda future=future: answers.append(future.cancel())) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert any(answers)
        assert future.cancelled()


def test_cancellation_from_asyncio_stops_the_call(processes, tmp_path):
    async def main():
        task = asyncio.ensure_future(asyncio.wrap_future(processes.submit(calls.touch_and_sleep, tmp_path / "pid")))
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.1)

    asyncio.run(main())
    pid = int((tmp_path / "pid").read_text())
    until(lambda: is_gone(pid), "the worker to end")


def test_everybody_who_cancels_a_running_call_hears_the_truth(processes):
    future = processes.submit(time.sleep, 60)
    until(future.running, "the call to run")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append((future.cancel(), future.cancelled()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [(True, True)] * 6


def test_the_standard_librarys_wait_sees_a_call_that_was_stopped(processes):
    import concurrent.futures

    futures = [processes.submit(time.sleep, 60) for _ in range(2)]
    until(lambda: all(future.running() for future in futures), "the calls to run")
    waiter = threading.Timer(0.2, futures[0].cancel)
    waiter.start()
    assert concurrent.futures.wait(futures[:1], 20).done == {futures[0]}
    assert futures[1].cancel()
    assert set(concurrent.futures.as_completed(futures, 20)) == set(futures)


def test_a_call_in_its_grace_period_can_be_stopped_and_does_not_run_again(processes):
    future = processes.options(timeout=0.2, retries=3).submit(calls.ignore_and_sleep)
    time.sleep(0.6)
    assert future.cancel()
    assert future.cancelled()
    assert processes.statistics().cancelled == 1


def test_a_done_callback_that_cancels_a_running_call_or_shuts_down_does_not_hang(gate):
    with raddle.Pool("process", 2) as pool:
        running = pool.submit(gate)
        gate.wait_entered()
        heard = []
        pool.submit(calls.identity, 1).add_done_callback(lambda _: heard.append(running.cancel()))
        until(lambda: heard, "the callback")
        assert heard == [False]
        gate.open()
        running.result(20)
    with raddle.Pool("process", 1) as pool:
        pool.submit(calls.identity, 1).add_done_callback(lambda _: pool.shutdown())


def test_nobody_suffers_when_a_stop_comes_as_its_call_ends():
    with raddle.Pool("process", 1) as pool:
        for number in range(300):
            first = pool.submit(calls.nap_and_pid, 0.001)
            behind = [pool.submit(calls.identity, other) for other in range(3)]
            time.sleep(0.0005 + (number % 10) * 0.0002)
            first.cancel()
            assert [future.result(20) for future in behind] == [0, 1, 2]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_terms_that_make_no_sense_are_said_at_once(pool):
    for terms, error, match in (
        ({"timeout": 0}, ValueError, "more than 0"),
        ({"timeout": -1}, ValueError, "more than 0"),
        ({"timeout": float("nan")}, ValueError, "more than 0"),
        ({"retries": -1}, ValueError, "0 or more"),
        ({"retries": "two"}, TypeError, "whole number"),
        ({"timeout": "soon"}, TypeError, "number of seconds|not supported"),
    ):
        with pytest.raises(error, match=match):
            pool.options(**terms)
    assert "timeout=None" in repr(pool.options(name="x"))


def test_threads_have_names_only():
    with raddle.Pool("thread", 1) as pool:
        assert pool.options(name="x").submit(calls.identity, 1).result() == 1
        assert list(pool.options(name="x").map(calls.identity, range(3))) == [0, 1, 2]
        for terms in ({"timeout": 1}, {"retries": 1}):
            with pytest.raises(NotImplementedError, match="process"):
                pool.options(**terms)


def test_a_timeout_keeps_its_notes_when_it_is_pickled():
    error = raddle.CallTimeout("f()", 1, 2.0, 3)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert (again.__notes__, again.call, again.attempts, str(again)) == (["a note"], "f()", 3, str(error))
