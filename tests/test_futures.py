"""`raddle.futures`: `wait` and `as_completed`, over futures of any executor, and what is special to the drop-ins."""

from __future__ import annotations

import concurrent.futures
import inspect
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

import calls
import raddle
import raddle.futures as rf
from calls import until

# --- the module -----------------------------------------------------------------------------------------------------


def test_the_module_has_every_name_of_the_standard_library():
    theirs = set(concurrent.futures.__all__) - {"InterpreterPoolExecutor"}
    assert theirs <= set(rf.__all__)
    for name in rf.__all__:
        assert getattr(rf, name) is not None
        assert name in dir(rf)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        rf.Nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["CancelledError", "TimeoutError", "BrokenExecutor", "InvalidStateError", "Executor"])
def test_exceptions_and_constants_are_the_standard_librarys_own(name):
    assert getattr(rf, name) is getattr(concurrent.futures, name)
    assert (rf.ALL_COMPLETED, rf.FIRST_COMPLETED) == ("ALL_COMPLETED", "FIRST_COMPLETED")


def test_every_name_of_the_standard_library_is_there():
    assert set(concurrent.futures.__all__) <= set(rf.__all__)
    for name in concurrent.futures.__all__:
        assert getattr(rf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'NoExecutor'"):
        rf.NoExecutor  # noqa: B018


@pytest.mark.skipif(
    "InterpreterPoolExecutor" not in concurrent.futures.__all__, reason="this Python has no pools of interpreters"
)
def test_calls_of_the_standard_librarys_interpreters_are_waited_for_with_ours():
    assert rf.InterpreterPoolExecutor is concurrent.futures.InterpreterPoolExecutor
    with rf.InterpreterPoolExecutor(1) as executor, rf.ThreadPoolExecutor(1) as threads:
        futures = [executor.submit(pow, 2, 3), threads.submit(pow, 3, 2)]
        assert sorted(future.result() for future in rf.as_completed(futures)) == [8, 9]


def test_importing_the_module_does_not_import_multiprocessing(script):
    ended = script("""
        import sys, raddle.futures
        print("multiprocessing" in sys.modules)
        raddle.futures.ProcessPoolExecutor
        print("multiprocessing" in sys.modules)
    """).run()
    assert ended.out.split() == ["False", "True"], ended.err


def test_the_drop_in_loads_nothing_that_the_standard_library_does_not(script):
    ended = script("""
        import sys
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        before = set(sys.modules)
        from raddle.futures import ProcessPoolExecutor, ThreadPoolExecutor
        print(*sorted(name for name in set(sys.modules) - before if not name.startswith("raddle")))
    """).run()
    assert (ended.code, set(ended.out.split()) <= {"__future__"}) == (0, True), ended


@pytest.mark.parametrize("name", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_signatures_are_those_of_the_standard_library(name):
    ours, theirs = getattr(rf, name), getattr(concurrent.futures, name)
    assert issubclass(ours, theirs)
    for method in ("__init__", "submit", "map", "shutdown"):
        mine = inspect.signature(getattr(ours, method)).parameters
        known = inspect.signature(getattr(theirs, method)).parameters
        for parameter in known:
            if parameter in ("self", "fn", "args", "kwargs"):  # newer Pythons made these positional
                continue
            # For subclasses with a `prepare_context` of their own, which is not documented.
            if parameter == "ctxkwargs":
                continue
            assert parameter in mine, f"{method} lacks {parameter}"
            assert mine[parameter].kind == known[parameter].kind
            if known[parameter].default is not inspect.Parameter.empty and parameter != "initargs":
                assert mine[parameter].default == known[parameter].default


def test_numbers_out_of_range_are_refused_as_in_the_standard_library(lane):
    if lane.is_pool:
        pytest.skip("pools have their own words, see test_bad_input")
    for number in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            lane.make(number)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        lane.make(1, initializer="nothing")


# --- wait -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def blocked(runner, gate):
    """A future that does not end before the gate is opened."""
    future = runner.submit(gate, "let through")
    gate.wait_entered()
    return future


def test_wait_for_all(runner):
    futures = [runner.submit(calls.identity, number) for number in range(20)]
    done, not_done = rf.wait(futures)
    assert (done, not_done) == (set(futures), set())


def test_wait_returns_a_named_pair(runner):
    future = runner.submit(calls.identity, 1)
    result = rf.wait([future])
    assert result.done == {future}
    assert result.not_done == set()


def test_wait_for_the_first_to_end(runner, blocked, gate):
    quick = runner.submit(calls.identity, 1)
    done, not_done = rf.wait([blocked, quick], return_when=rf.FIRST_COMPLETED)
    assert (done, not_done) == ({quick}, {blocked})
    gate.open()
    assert rf.wait([blocked, quick]).not_done == set()


def test_wait_for_the_first_exception(runner, blocked, gate):
    fine, bad = runner.submit(calls.identity, 1), runner.submit(calls.fail)
    done, not_done = rf.wait([fine, blocked, bad], return_when=rf.FIRST_EXCEPTION)
    assert bad in done
    assert not_done - {fine} == {blocked}
    gate.open()


def test_wait_for_the_first_exception_waits_for_all_when_there_is_none(runner):
    futures = [runner.submit(calls.identity, number) for number in range(10)]
    assert rf.wait(futures, return_when=rf.FIRST_EXCEPTION).done == set(futures)


def test_wait_does_not_take_a_cancelled_future_for_an_exception(lane, gate):
    with lane.make(1) as runner:
        first = runner.submit(gate)
        gate.wait_entered()
        last = [runner.submit(calls.identity) for _ in range(4)][-1]
        assert last.cancel()
        # The standard library counts a cancelled future as ended once its executor has noticed.
        gate.open()
        done, not_done = rf.wait([first, last], 30, return_when=rf.FIRST_EXCEPTION)
        assert (done, not_done) == ({first, last}, set())


@pytest.mark.parametrize("mode", [rf.ALL_COMPLETED, rf.FIRST_COMPLETED, rf.FIRST_EXCEPTION])
def test_wait_with_a_timeout_tells_what_has_ended(runner, blocked, gate, mode):
    started = time.monotonic()
    assert rf.wait([blocked], timeout=0.05, return_when=mode) == (set(), {blocked})
    assert rf.wait([blocked], timeout=0, return_when=mode) == (set(), {blocked})
    assert rf.wait([blocked], timeout=-5, return_when=mode) == (set(), {blocked})
    assert time.monotonic() - started < 5
    gate.open()
    assert rf.wait([blocked], timeout=30, return_when=mode) == ({blocked}, set())


def test_wait_counts_duplicates_once_and_takes_any_iterable(runner):
    future = runner.submit(calls.identity, 1)
    assert rf.wait(one for one in [future, future]).done == {future}


@pytest.mark.parametrize("mode", [rf.ALL_COMPLETED, rf.FIRST_COMPLETED, rf.FIRST_EXCEPTION])
def test_wait_for_nothing_returns_at_once(mode):
    if mode == rf.ALL_COMPLETED:
        assert rf.wait([]) == (set(), set())
    assert rf.wait([], timeout=0, return_when=mode) == (set(), set())


def test_wait_refuses_an_unknown_mode(runner):
    with pytest.raises(ValueError, match="Invalid return condition"):
        rf.wait([runner.submit(calls.identity)], return_when="SOMETIME")
    with pytest.raises(ValueError, match="Invalid return condition"):
        rf.wait([], return_when="SOMETIME")


# --- as_completed ---------------------------------------------------------------------------------------------------


def test_as_completed_gives_those_that_have_ended_first(runner, blocked, gate):
    ended = [runner.submit(calls.identity, number) for number in range(5)]
    rf.wait(ended)
    stream = rf.as_completed([blocked, *ended])
    assert {next(stream) for _ in ended} == set(ended)
    gate.open()
    assert next(stream) is blocked
    assert next(stream, None) is None


def test_as_completed_counts_duplicates_once(runner):
    future = runner.submit(calls.identity, 1)
    assert list(rf.as_completed(itertools.repeat(future, 5))) == [future]
    assert list(rf.as_completed([])) == []


def test_as_completed_times_out(runner, blocked, gate):
    quick = runner.submit(calls.identity)
    rf.wait([quick])
    stream = rf.as_completed([blocked, quick], timeout=0.05)
    assert next(stream) is quick
    with pytest.raises(TimeoutError, match=r"^1 \(of 2\) futures unfinished$"):
        next(stream)
    gate.open()


def test_as_completed_may_be_left_early(runner, blocked, gate):
    stream = rf.as_completed([blocked, runner.submit(calls.identity)])
    next(stream)
    stream.close()
    gate.open()
    assert blocked.result() == "let through"


def test_as_completed_lets_go_of_what_it_has_given(runner):
    import gc
    import weakref

    stream = rf.as_completed([runner.submit(calls.identity, number) for number in range(10)])
    seen = weakref.ref(next(stream))
    # A lane may keep the future of an ended call for a moment, not for long.
    for _ in range(300):
        runner.submit(calls.identity).result()
    gc.collect()
    assert seen() is None
    assert len(list(stream)) == 9


def test_as_completed_gives_cancelled_futures_too(lane, gate):
    with lane.make(1) as runner:
        first = runner.submit(gate)
        gate.wait_entered()
        last = [runner.submit(calls.identity) for _ in range(4)][-1]
        last.cancel()
        stream = rf.as_completed([first, last], timeout=30)
        gate.open()
        assert set(stream) == {first, last}


# --- futures of several executors at once ---------------------------------------------------------------------------


@pytest.fixture
def many():
    """One of each: native pools, drop-ins, and the standard library's."""
    context = multiprocessing.get_context("spawn")
    runners = [
        raddle.Pool("thread", 1),
        raddle.Pool("process", 1),
        raddle.Pool("process", 1),
        rf.ThreadPoolExecutor(1),
        rf.ProcessPoolExecutor(1, context),
    ]
    yield runners
    for runner in runners:
        runner.shutdown()


def test_wait_and_as_completed_take_futures_of_several_pools(many, gate):
    futures = [runner.submit(calls.add, number, 1) for runner in many for number in range(50)]
    assert sorted(f.result() for f in rf.as_completed(futures, 30)) == sorted(list(range(1, 51)) * 5)
    slow = [runner.submit(gate) for runner in many]
    quick = raddle.futures.Future()
    quick.set_result(1)
    assert rf.wait([*slow, quick], return_when=rf.FIRST_COMPLETED) == ({quick}, set(slow))
    gate.open()
    assert rf.wait(slow, 30) == (set(slow), set())


def test_the_last_of_several_pools_to_end_wakes_who_waits(many, gate, tmp_path):
    # Each pool is in turn the one that is waited for: the thread sleeps in one place and must be woken from all.
    for number, last in enumerate(many):
        own = calls.Gate(tmp_path, f"own{number}")
        slow = last.submit(own, number)
        others = [runner.submit(calls.identity, 0) for runner in many if runner is not last]
        waiter = threading.Thread(target=lambda futures=(slow, *others): rf.wait(futures))
        waiter.start()
        rf.wait(others, 30)
        own.open()
        waiter.join(30)
        assert not waiter.is_alive()
        assert slow.result() == number


def test_standard_futures_and_ours_mix_in_both_modules(many):
    with concurrent.futures.ThreadPoolExecutor(1) as standard:
        for module in (rf, concurrent.futures):
            futures = [runner.submit(calls.add, 1, 1) for runner in [*many, standard] for _ in range(10)]
            assert [f.result() for f in module.as_completed(futures, 30)] == [2] * 60
            futures = [runner.submit(calls.add, 1, 1) for runner in [*many, standard] for _ in range(10)]
            assert module.wait(futures, 30) == (set(futures), set())
            bad = [runner.submit(calls.fail) for runner in [*many, standard]]
            assert module.wait(bad, 30, module.FIRST_EXCEPTION).done


def test_the_standard_librarys_wait_is_woken_by_our_workers(runner, gate):
    future = runner.submit(gate, 1)
    gate.wait_entered()
    waiting = threading.Event()
    heard = []

    def wait():
        waiting.set()
        heard.append(concurrent.futures.wait([future], 30))

    waiter = threading.Thread(target=wait)
    waiter.start()
    waiting.wait()
    gate.open()
    waiter.join(30)
    assert heard == [({future}, set())]


# --- map of the drop-ins --------------------------------------------------------------------------------------------


def dropins(lane):
    if lane.is_pool:
        pytest.skip("the drop-ins' map; that of pools is in test_pool")


def test_map_reads_all_its_input_at_once(lane, runner):
    dropins(lane)
    read = []
    results = runner.map(calls.identity, (read.append(number) or number for number in range(30)))
    assert len(read) == 30
    assert list(results) == list(range(30))


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
def test_map_with_a_chunksize_gives_the_same_results(lane, runner, chunksize):
    dropins(lane)
    assert list(runner.map(calls.identity, range(50), chunksize=chunksize)) == list(range(50))
    assert list(runner.map(calls.add, range(50), range(50), chunksize=chunksize)) == list(range(0, 100, 2))
    assert list(runner.map(lambda: 1, chunksize=chunksize)) == []


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
def test_an_exception_in_a_chunk_comes_at_its_place(lane, runner, chunksize):
    dropins(lane)
    seen = []
    with pytest.raises(ValueError, match="^13$") as caught:
        for value in runner.map(calls.fail_if, range(30), [13] * 30, chunksize=chunksize):
            seen.append(value)
    assert seen == list(range(13))
    if lane.name != "thread-executor":
        assert "fail_if" in str(caught.value.__cause__)


def test_an_argument_in_a_chunk_that_cannot_be_pickled_fails_alone(lane, runner):
    dropins(lane)
    if lane.name == "thread-executor":
        pytest.skip("nothing is pickled")
    seen = []
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        for value in runner.map(calls.identity, [1, 2, threading.Lock(), 4], chunksize=4):
            seen.append(value)
    assert seen == [1, 2]


def test_a_chunk_is_one_call_and_done_to_its_end(lane):
    dropins(lane)
    if lane.name == "thread-executor":
        pytest.skip("threads have no chunks")
    with lane.make(2) as runner:
        pids = list(runner.map(calls.nap_and_pid, [0.04] * 6, chunksize=3))
    assert len(set(pids[:3])) == len(set(pids[3:])) == 1


def test_map_goes_through_an_overridden_submit(lane):
    dropins(lane)
    with lane.make(1) as plain:
        base = type(plain)

    class Counting(base):
        calls = 0

        def submit(self, fn, /, *args, **kwargs):
            self.calls += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(1) as runner:
        assert list(runner.map(calls.identity, range(5))) == list(range(5))
        assert list(runner.map(calls.add, range(5), range(5), chunksize=5)) == list(range(0, 10, 2))
        assert runner.calls == 10


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_goes_through_a_submit_that_was_put_on_the_instance(lane, chunksize):
    dropins(lane)
    with lane.make(1) as executor:
        submit, seen = executor.submit, []
        executor.submit = lambda *args: seen.append(submit(*args)) or seen[-1]
        assert list(executor.map(calls.add, range(5), range(5), chunksize=chunksize)) == [0, 2, 4, 6, 8]
        assert len(seen) == 5
        assert all(future.done() for future in seen)


@pytest.mark.parametrize("buffersize", [1, 3, 100])
def test_map_with_a_buffersize_reads_no_further(lane, runner, buffersize):
    dropins(lane)
    read = []
    source = (read.append(number) or number for number in range(50))
    results = runner.map(calls.identity, source, buffersize=buffersize)
    assert len(read) == min(50, buffersize)
    for taken in range(1, 51):
        assert next(results) == taken - 1
        assert len(read) == min(50, taken + buffersize)
    assert next(results, "over") == "over"


def test_map_with_a_buffersize_takes_an_endless_input(lane, runner):
    dropins(lane)
    results = runner.map(calls.add, itertools.count(), itertools.count(), buffersize=2)
    assert list(itertools.islice(results, 20)) == list(range(0, 40, 2))
    results.close()


def test_map_refuses_a_wrong_buffersize_or_chunksize(lane, runner):
    dropins(lane)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            runner.map(calls.identity, [1], buffersize=wrong)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        runner.map(calls.identity, [1], buffersize="2")
    if lane.in_processes:
        with pytest.raises(ValueError, match="chunksize must be >= 1"):
            runner.map(calls.identity, [1], chunksize=0)


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_map_accepts_a_chunksize(lane, runner, chunksize):
    dropins(lane)
    assert list(runner.map(calls.identity, range(100), chunksize=chunksize)) == list(range(100))


def test_map_raises_at_its_place_and_cancels_the_rest(lane, gate, tmp_path):
    dropins(lane)
    with lane.make(1) as runner:
        results = runner.map(calls.fail_if, range(5), [2] * 5)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="^2$"):
            next(results)
        results = runner.map(calls.apply, [calls.fail, gate, *[calls.touch] * 5], [tmp_path / "ran"] * 7)
        with pytest.raises(ValueError, match="ran"):
            next(results)
        gate.open()
    assert not (tmp_path / "ran").exists()


def test_map_times_out_from_its_call_on(lane, runner, gate):
    dropins(lane)
    results = runner.map(gate, [1], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()


# --- what newer Pythons added ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_workers_can_be_ended_by_force(process_lane, how, gate):
    if process_lane.is_pool:
        pytest.skip("the drop-in's methods")
    runner = process_lane.make(2)
    futures = [runner.submit(gate) for _ in range(4)]
    gate.wait_entered(2)
    pids = list(runner._processes)
    getattr(runner, how)()
    for future in futures:
        assert isinstance(future.exception(20), concurrent.futures.BrokenExecutor) or future.cancelled()
    with pytest.raises(RuntimeError):
        runner.submit(calls.identity)
    runner.shutdown()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    getattr(runner, how)()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_process_with_its_own_way_to_end_is_asked(how, gate):
    asked = []
    runner = rf.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    future = runner.submit(gate)
    gate.wait_entered(1)
    (process,) = runner._processes.values()
    end = getattr(process, how)
    setattr(process, how, lambda: (asked.append(process.pid), end()))
    pids = list(runner._processes)
    getattr(runner, f"{how}_workers")()
    assert asked == pids
    assert isinstance(future.exception(20), concurrent.futures.BrokenExecutor)
    runner.shutdown()


def test_max_tasks_per_child_replaces_workers():
    context = multiprocessing.get_context("spawn")
    with rf.ProcessPoolExecutor(1, context, max_tasks_per_child=3) as runner:
        pids = [runner.submit(calls.pid).result() for _ in range(7)]
    assert [len(set(pids[first : first + 3])) for first in (0, 3, 6)] == [1, 1, 1]
    assert len(set(pids)) == 3


@pytest.mark.parametrize("wrong", [0, -1, "two", 1.5])
def test_a_wrong_max_tasks_per_child_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="max_tasks_per_child must be"):
        rf.ProcessPoolExecutor(1, max_tasks_per_child=wrong)


def test_max_tasks_per_child_does_not_go_with_fork():
    with pytest.raises(ValueError, match="incompatible with the 'fork'"):
        rf.ProcessPoolExecutor(1, multiprocessing.get_context("fork"), max_tasks_per_child=1)


def test_the_thread_names_carry_the_prefix():
    with rf.ThreadPoolExecutor(1, "loom") as runner:
        assert runner.submit(calls.thread_name).result() == "loom_0"


def test_a_dead_worker_breaks_the_drop_in_as_in_the_standard_library(process_lane, gate):
    if process_lane.is_pool:
        pytest.skip("a pool lives on, see test_deaths")
    runner = process_lane.make(1)
    futures = [runner.submit(calls.exit_now, 3), *(runner.submit(calls.identity) for _ in range(3))]
    for future in futures:
        with pytest.raises(rf.BrokenProcessPool if hasattr(rf, "BrokenProcessPool") else rf.BrokenExecutor):
            future.result(30)
    with pytest.raises(concurrent.futures.process.BrokenProcessPool):
        runner.submit(calls.identity)
    runner.shutdown()


def test_a_failing_initializer_breaks_the_drop_in(lane, caplog):
    dropins(lane)
    runner = lane.make(1, initializer=calls.refuse_to_start, initargs=("not today",))
    future = runner.submit(calls.identity)
    with pytest.raises(concurrent.futures.BrokenExecutor):
        future.result(30)
    with pytest.raises(concurrent.futures.BrokenExecutor):
        until(lambda: not runner.submit(calls.identity), "the executor to be broken", 10)
    runner.shutdown()


def test_executors_can_be_used_as_the_standard_librarys_type(lane, runner):
    dropins(lane)
    assert isinstance(runner, concurrent.futures.Executor)
    assert isinstance(runner.submit(calls.identity), concurrent.futures.Future)


def test_the_modules_of_the_standard_librarys_executors_are_there():
    ask = """
import concurrent.futures
from raddle.futures import ProcessPoolExecutor, ThreadPoolExecutor
assert issubclass(ProcessPoolExecutor, concurrent.futures.process.ProcessPoolExecutor)
concurrent.futures.process.BrokenProcessPool, ThreadPoolExecutor, concurrent.futures.thread.BrokenThreadPool
"""
    subprocess.run([sys.executable, "-c", ask], check=True, timeout=60)


def test_a_worker_that_dies_while_the_program_ends_fails_its_call(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
import os, sys, time
from raddle.futures import BrokenProcessPool, ProcessPoolExecutor

def die():
    time.sleep(0.5)
    os._exit(3)

if __name__ == "__main__":
    executor = ProcessPoolExecutor(1)
    executor.submit(die).add_done_callback(lambda future: print(isinstance(future.exception(), BrokenProcessPool), flush=True))
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_the_process_object_of_a_worker_can_be_asked_after_its_end():
    with rf.ProcessPoolExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1
        (process,) = executor._processes.values()
        executor.kill_workers()
    process.join(20)
    assert (process.is_alive(), process.exitcode) == (False, -signal.SIGKILL)
