"""What is wrong gets one precise error, at the right moment and on the right future, and a hint. Nothing hangs."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

import calls
import raddle
import raddle.futures
from calls import until

# --- making a pool --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, -1, -(10**30)])
def test_less_than_one_worker_is_refused(kind, workers):
    with pytest.raises(ValueError, match=rf"^a pool needs at least 1 worker, not {workers}$"):
        raddle.Pool(kind, workers)


@pytest.mark.parametrize("workers", ["two", "2", 2.5, 2.0, True, False, [2], object])
def test_a_number_of_workers_that_is_none_is_refused(kind, workers):
    with pytest.raises(TypeError, match="^workers must be a whole number, not "):
        raddle.Pool(kind, workers)


def test_whatever_counts_as_an_index_is_a_number_of_workers(kind):
    class Three:
        def __index__(self):
            return 3

    with raddle.Pool(kind, Three()) as pool:
        assert pool.workers == 3


@pytest.mark.parametrize("what", ["workers", "max_pending", "max_tasks_per_child", "memory"])
def test_a_number_that_no_machine_has_is_refused_by_name(what):
    with pytest.raises(ValueError, match=rf"^{what} must be less than 2\*\*63, not 0x1[0]+$"):
        raddle.Pool("process", **{"workers": 1, what: 1 << 64})


def test_terms_that_no_machine_has_are_refused_by_name(pool):
    with pytest.raises(ValueError, match=r"^retries must be less than 2\*\*32, not 4294967296$"):
        pool.options(retries=1 << 32)
    with pytest.raises(ValueError, match=r"^window must be less than 2\*\*63, not 0x[8][0]+$"):
        pool.map(calls.identity, [1], window=1 << 63)
    assert list(pool.map(calls.identity, [1], window=sys.maxsize)) == [1]


def test_an_odd_name_is_a_name(kind):
    with raddle.Pool(kind, 1, name="caf\udce9") as pool, pool.trace() as trace:
        assert pool.submit(calls.identity, 1).result(30) == 1
        assert "caf" in repr(pool)
        assert pool.statistics().per_worker[0].calls == 1
        assert "caf" in repr(trace)


@pytest.mark.parametrize("wrong", ["threads", "Process", "", "proces", "loop"])
def test_an_unknown_kind_is_refused_with_those_that_exist(wrong):
    with pytest.raises(ValueError, match=rf"^unknown kind of pool: '{wrong}'\n  hint: use 'thread' or 'process'$"):
        raddle.Pool(wrong)


@pytest.mark.parametrize("wrong", [None, 3, b"thread", ["thread"]])
def test_a_kind_that_is_no_text_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="kind of pool"):
        raddle.Pool(wrong)


@pytest.mark.parametrize("planned", ["interpreter", "auto"])
def test_a_kind_that_is_planned_says_so(planned):
    with pytest.raises(NotImplementedError, match="planned and not there yet"):
        raddle.Pool(planned)


def test_an_initializer_that_cannot_be_called_is_refused(kind):
    with pytest.raises(TypeError, match="^initializer must be callable, not 'nothing'"):
        raddle.Pool(kind, 1, initializer="nothing")


def test_more_workers_than_calls_start_no_more_than_are_needed(kind):
    with raddle.Pool(kind, 10_000) as pool:
        assert pool.submit(calls.add, 1, 1).result() == 2
        assert pool.statistics().workers <= 2


def test_initargs_that_are_no_sequence_are_refused(kind):
    with pytest.raises(TypeError):
        raddle.Pool(kind, 1, initializer=calls.initialize, initargs=5)


# --- calls ----------------------------------------------------------------------------------------------------------


def test_submit_without_a_function_is_a_type_error(kind):
    with raddle.Pool(kind, 1) as pool:
        with pytest.raises(TypeError):
            pool.submit()


@pytest.mark.parametrize("wrong", ["calls.add", 3, None])
def test_a_function_that_cannot_be_called_fails_its_call(runner, wrong):
    error = runner.submit(wrong, 1).exception(30)
    assert isinstance(error, TypeError)
    assert "not callable" in str(error)
    assert runner.submit(calls.add, 1, 1).result() == 2


def test_wrong_arguments_fail_the_call(runner):
    error = runner.submit(calls.fail, 1, 2, 3, nonsense=4).exception(30)
    assert isinstance(error, TypeError)
    assert "fail()" in str(error)


@pytest.mark.parametrize("window", [0, -1, 2.5, "3", True])
def test_a_wrong_window_is_refused(kind, window):
    with raddle.Pool(kind, 1) as pool:
        with pytest.raises((TypeError, ValueError), match="^window must be (a whole number|at least 1)"):
            pool.map(calls.identity, [1], window=window)


def test_map_says_what_it_was_given_wrongly(kind):
    with raddle.Pool(kind, 1) as pool:
        with pytest.raises(TypeError, match="the function to map must be callable, not 3"):
            pool.map(3, [1])
        with pytest.raises(TypeError, match="map needs at least one iterable"):
            pool.map(calls.identity)
        with pytest.raises(TypeError, match="not iterable"):
            pool.map(calls.identity, 5)
        assert pool.submit(calls.add, 1, 1).result() == 2


def test_map_refuses_a_deadline_that_is_no_number(kind):
    with raddle.Pool(kind, 1) as pool:
        with pytest.raises(TypeError):
            next(pool.map(calls.identity, [1], deadline="soon"))


# --- what cannot be pickled -----------------------------------------------------------------------------------------


def notes(error):
    return "\n".join(getattr(error, "__notes__", []))


def test_an_argument_that_cannot_be_pickled_fails_that_call_alone(process_lane):
    with process_lane.make(1) as runner:
        good = runner.submit(calls.add, 1, 1)
        bad = runner.submit(calls.identity, threading.Lock())
        worse = runner.submit(calls.identity, one=calls.Unpicklable())
        after = runner.submit(calls.add, 2, 2)
        error = bad.exception(30)
        assert isinstance(error, TypeError)
        assert "cannot pickle '_thread.lock' object" in str(error)
        assert "this one stays here" in str(worse.exception(30))
        assert (good.result(), after.result()) == (2, 4)


def test_an_argument_that_cannot_be_pickled_is_named_with_a_hint():
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(calls.identity, threading.Lock()).exception()
        assert "an argument" in notes(error)
        assert "could not be pickled" in notes(error)
        assert "hint:" in notes(error)


def test_a_function_that_cannot_be_pickled_is_named_with_a_hint():
    lock = threading.Lock()
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(lambda: lock).exception()
        assert isinstance(error, TypeError)
        assert "function" in notes(error)
        assert "hint:" in notes(error)
        with pytest.raises(TypeError, match="cannot pickle"):
            list(pool.map(lambda _: lock, [1]))
        assert pool.submit(calls.add, 1, 1).result() == 2


def test_a_lambda_in_the_drop_in_fails_as_in_the_standard_library(process_lane):
    if process_lane.is_pool:
        pytest.skip("pools send lambdas")
    import pickle

    with process_lane.make(1) as runner:
        error = runner.submit(lambda: 1).exception(30)
        assert isinstance(error, (AttributeError, pickle.PicklingError))
        assert runner.submit(calls.add, 1, 1).result() == 2


def test_a_result_that_cannot_be_pickled_fails_that_call_alone(process_lane):
    with process_lane.make(1) as runner:
        bad = runner.submit(calls.result_that_cannot_be_pickled)
        good = runner.submit(calls.add, 1, 1)
        error = bad.exception(30)
        assert isinstance(error, TypeError)
        assert "cannot pickle '_thread.lock' object" in str(error)
        assert good.result() == 2


def test_an_exception_that_cannot_be_pickled_is_told_with_type_message_and_traceback():
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(calls.raise_unpicklable).exception(30)
        assert isinstance(error, raddle.RemoteError)
        assert error.type_name == "calls.UnpicklableError"
        assert error.message == "locked in"
        assert "calls.UnpicklableError: locked in" in str(error)
        assert "in raise_unpicklable" in str(error.__cause__)
        assert pool.submit(calls.add, 1, 1).result() == 2


def test_an_exception_that_cannot_be_made_again_is_told_with_type_message_and_traceback():
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(calls.raise_odd).exception(30)
        assert isinstance(error, raddle.RemoteError)
        assert error.type_name == "calls.OddError"
        assert error.message == "one and two"
        assert "in raise_odd" in str(error.__cause__)
        assert pool.submit(calls.add, 1, 1).result() == 2


def test_an_exception_that_cannot_be_pickled_fails_that_call_of_the_drop_in(process_lane):
    with process_lane.make(1) as runner:
        assert runner.submit(calls.raise_unpicklable).exception(30) is not None
        assert runner.submit(calls.add, 1, 1).result() == 2


def test_state_and_notes_of_an_exception_survive(process_lane):
    with process_lane.make(1) as runner:
        error = runner.submit(calls.raise_good).exception(30)
    assert type(error) is calls.GoodError
    assert error.detail == {"seen": [1, 2]}
    assert error.__notes__[0] == "a note from the worker"


def test_an_argument_that_raises_when_it_is_unpickled_fails_that_call_alone():
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(calls.identity, calls.Explodes()).exception(30)
        assert isinstance(error, ArithmeticError)
        assert "could not unpickle identity() or its arguments" in notes(error)
        assert pool.submit(calls.add, 1, 1).result() == 2


def test_a_result_that_raises_when_it_is_unpickled_fails_that_call_alone():
    with raddle.Pool("process", 1) as pool:
        error = pool.submit(calls.make_explodes).exception(30)
        assert isinstance(error, ArithmeticError)
        assert "the result of make_explodes() could not be unpickled here" in notes(error)
        assert pool.submit(calls.add, 1, 1).result() == 2


def test_a_function_that_the_worker_cannot_import_is_named(tmp_path):
    sys.path.insert(0, str(tmp_path))
    try:
        (tmp_path / "vanishing.py").write_text("def there():\n    return 1\n")
        import vanishing

        (tmp_path / "vanishing.py").unlink()
        with raddle.Pool("process", 1) as pool:
            error = pool.submit(vanishing.there).exception(30)
            assert isinstance(error, ModuleNotFoundError)
            assert "there()" in notes(error)
            assert pool.submit(calls.add, 1, 1).result() == 2
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("vanishing", None)


# --- initializers ---------------------------------------------------------------------------------------------------


def test_an_initializer_that_raises_breaks_the_pool_and_tells_why(kind, caplog):
    pool = raddle.Pool(kind, 2, initializer=calls.refuse_to_start, initargs=("not today",))
    future = pool.submit(calls.identity)
    with pytest.raises(raddle.BrokenError) as caught:
        future.result(30)
    told = str(caught.value) + caplog.text
    assert "initializer" in told
    assert "not today" in told
    with pytest.raises(raddle.BrokenError):
        until(lambda: not pool.submit(calls.identity), "the pool to be broken", 10)
    assert "broken" in repr(pool)
    pool.shutdown()


def test_an_initializer_that_cannot_be_pickled_is_refused_when_the_pool_is_made():
    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot pickle"):
        raddle.Pool("process", 1, initializer=lambda: lock)
    with pytest.raises(TypeError, match="cannot pickle"):
        raddle.Pool("process", 1, initializer=calls.initialize, initargs=(lock,))


def test_an_initializer_that_ends_the_process_breaks_the_pool():
    pool = raddle.Pool("process", 2, initializer=calls.exit_now, initargs=(3,))
    with pytest.raises(raddle.BrokenError, match="exit code 3"):
        pool.submit(calls.identity).result(30)
    pool.shutdown()


# --- calls that misbehave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 3])
def test_sys_exit_in_a_call_is_that_calls_exception(runner, number):
    error = runner.submit(calls.sys_exit, number).exception(30)
    assert isinstance(error, SystemExit)
    assert error.code == number
    assert runner.submit(calls.add, 1, 1).result(30) == 2


def test_a_keyboard_interrupt_raised_by_a_call_is_that_calls_exception(runner):
    assert isinstance(runner.submit(calls.interrupt).exception(30), KeyboardInterrupt)
    assert runner.submit(calls.add, 1, 1).result(30) == 2


def test_a_call_that_forks_and_comes_back_in_the_child_answers_once(process_lane):
    with process_lane.make(1) as runner:
        worker = runner.submit(calls.pid).result()
        assert runner.submit(calls.fork_and_return).result(30) == worker
        assert [runner.submit(calls.pid).result(30) for _ in range(3)] == [worker] * 3


def test_a_call_that_closes_its_standard_streams_does_no_harm():
    def close():
        sys.stdout.close()
        sys.stderr.close()

    with raddle.Pool("process", 1) as pool:
        pool.submit(close).result(30)
        assert pool.submit(calls.add, 1, 1).result(30) == 2


def test_a_call_may_change_directory_and_environment_of_its_worker_only(tmp_path):
    def change(path):
        os.chdir(path)
        os.environ["SEEN"] = "yes"
        return os.getcwd()

    before = os.getcwd()
    with raddle.Pool("process", 1) as pool:
        assert pool.submit(change, str(tmp_path)).result() == str(tmp_path)
        assert pool.submit(calls.add, 1, 1).result() == 2
    assert os.getcwd() == before
    assert "SEEN" not in os.environ


def test_a_recursion_error_in_a_call_is_its_exception(runner):
    error = runner.submit(calls.endless_recursion).exception(30)
    assert isinstance(error, RecursionError)
    assert runner.submit(calls.add, 1, 1).result(30) == 2


def test_a_base_exception_of_the_users_own_travels(runner):
    error = runner.submit(calls.raise_base).exception(30)
    assert type(error) is calls.OwnBase


# --- recursion into the same pool -----------------------------------------------------------------------------------


def test_a_call_that_waits_for_its_own_thread_pool_is_a_named_deadlock():
    with raddle.Pool("thread", 1) as pool:
        outer = pool.submit(lambda: pool.submit(calls.add, 1, 1).result())
        with pytest.raises(raddle.DeadlockError, match="this wait can never end"):
            outer.result(10)
        assert pool.submit(calls.add, 2, 2).result(10) == 4


def test_all_threads_of_a_pool_waiting_for_it_is_a_named_deadlock():
    with raddle.Pool("thread", 3) as pool:
        ready = threading.Barrier(3)

        def wait():
            ready.wait(10)
            return pool.submit(calls.add, 1, 1).result()

        outers = [pool.submit(wait) for _ in range(3)]
        errors = [outer.exception(10) for outer in outers]
        assert sum(isinstance(error, raddle.DeadlockError) for error in errors) >= 1
        assert all(error is None or isinstance(error, raddle.DeadlockError) for error in errors)
        assert pool.submit(calls.add, 2, 2).result(10) == 4


DEADLOCKS = {
    "result": "pool.submit(abs, 1).result()",
    "exception": "pool.submit(abs, 1).exception()",
    "map": "list(pool.map(abs, [1]))",
    "map unordered": "list(pool.map(abs, [1], ordered=False))",
    "wait": "rf.wait([pool.submit(abs, 1)])",
    "as_completed": "list(rf.as_completed([pool.submit(abs, 1)]))",
}


@pytest.mark.parametrize("how", DEADLOCKS)
def test_every_way_to_wait_for_ones_own_pool_is_a_named_deadlock(script, how):
    ended = script(f"""
        import raddle, raddle.futures as rf
        with raddle.Pool("thread", 1) as pool:
            try:
                pool.submit(lambda: {DEADLOCKS[how]}).result(3)
            except raddle.DeadlockError as error:
                print("DeadlockError", str(error).splitlines()[0])
            except TimeoutError:
                print("suffered")
                import os; os._exit(1)
    """).run(timeout=15)
    assert ended.out.startswith("DeadlockError this wait can never end"), ended


def test_a_deadlock_in_the_drop_in_is_named_too():
    with raddle.futures.ThreadPoolExecutor(1) as runner:
        outer = runner.submit(lambda: runner.submit(calls.add, 1, 1).result())
        with pytest.raises(raddle.DeadlockError):
            outer.result(10)


def test_a_wait_that_can_end_is_no_deadlock():
    with raddle.Pool("thread", 2) as pool:
        assert pool.submit(lambda: pool.submit(calls.add, 1, 1).result()).result(10) == 2
    with raddle.Pool("thread", 1) as pool:
        # What has ended needs no thread, and what has a timeout ends.
        done = pool.submit(calls.add, 1, 1)
        done.result()
        assert pool.submit(done.result).result(10) == 2
        outer = pool.submit(lambda: pool.submit(calls.add, 1, 1).result(timeout=0.05))
        with pytest.raises(TimeoutError):
            outer.result(10)


def test_a_process_pool_used_in_its_own_call_is_named(process_lane):
    with process_lane.make(1) as runner:
        error = runner.submit(calls.identity, runner).exception(30)
        assert isinstance(error, (TypeError, AttributeError, RuntimeError)), error
        if process_lane.is_pool:
            assert "cannot be sent to another process" in str(error)
            closure = runner.submit(lambda: runner.submit(calls.add, 1, 1).result()).exception(30)
            assert "cannot be sent to another process" in str(closure)
        assert runner.submit(calls.add, 1, 1).result(30) == 2


def test_shutting_a_pool_down_from_its_own_call_is_no_hang():
    pool = raddle.Pool("thread", 1)
    error = pool.submit(pool.shutdown).exception(10)
    assert error is None or isinstance(error, RuntimeError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(calls.identity)
    pool.shutdown()


# --- __main__ -------------------------------------------------------------------------------------------------------


def test_a_function_from_standard_input_works(script):
    import subprocess

    program = (
        "import raddle\ndef f(x): return x + 1\nwith raddle.Pool('process', 1) as p: print(list(p.map(f, [1, 2])))\n"
    )
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[2, 3]\n", "")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[2, 3]\n", "")


def test_an_ignored_sigchld_does_not_confuse_the_pool(script):
    ended = script(
        f"""
        import signal, raddle, os
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with raddle.Pool("process", 1) as pool:
            print(pool.submit(abs, -1).result(20))
            error = pool.submit(os._exit, 3).exception(20)
            print(type(error).__name__)
            print(pool.submit(abs, -2).result(20))
        print({signal.SIGCHLD!r}.name)
    """.replace(repr(signal.SIGCHLD), "signal.SIGCHLD")
    ).run()
    assert ended.out.split() == ["1", "WorkerDied", "2", "SIGCHLD"], ended
