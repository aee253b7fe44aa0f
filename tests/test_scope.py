"""`raddle.scope`: what is started in a block ends with it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import threading
import time
import weakref

import pytest

import raddle
import storm
from calls import until
from raddle.queue import Queue
from raddle.threading import Event, Lock

pytestmark = pytest.mark.timeout(60)


def wait_for_ever() -> None:
    Event().wait()


def fail() -> None:
    raise LookupError("on purpose")


def in_worker(number: int) -> tuple[int, int]:
    return number * 2, os.getpid()


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_it_joins_all_and_has_their_results():
    with raddle.scope() as scope:
        threads = [scope.thread(pow, number, 2) for number in range(5)]
        process = scope.process(in_worker, 21)
    assert [handle.result() for handle in threads] == [0, 1, 4, 9, 16]
    result, pid = process.result()
    assert result == 42
    assert pid != os.getpid()
    assert all(handle.done() for handle in threads)


def test_the_first_failure_stops_the_others():
    ended = []

    def patient() -> None:
        try:
            wait_for_ever()
        except raddle.Stopped as stopped:
            ended.append(str(stopped))
            raise

    with pytest.raises(ExceptionGroup) as caught, raddle.scope() as scope:
        patients = [scope.thread(patient) for _ in range(3)]
        scope.thread(fail)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert len(ended) == 3
    assert "scope-fail-4 failed: LookupError: on purpose" in ended[0]
    with pytest.raises(raddle.Stopped):
        patients[0].result()


def test_the_block_itself_is_stopped_in_its_wait():
    with pytest.raises(ExceptionGroup, match="one of its units failed") as caught, raddle.scope() as scope:
        scope.thread(fail)
        wait_for_ever()
    assert caught.group_contains(LookupError)
    assert not caught.group_contains(raddle.Stopped)


def test_a_stop_that_comes_while_the_block_ends_is_not_for_its_end():
    has_begun, has_left = threading.Event(), threading.Event()
    with pytest.raises(ExceptionGroup) as caught, raddle.scope() as scope:
        other = scope.thread(wait_for_ever)
        end, leave = other._end, scope._leave_body
        # While the others are stopped, one after the other, the block comes to its end.
        other._end = lambda why: (has_begun.set(), has_left.wait(), end(why))
        scope._leave_body = lambda: (leave(), has_left.set())
        scope.thread(fail)
        has_begun.wait()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


def test_failures_while_stopping_are_told_too():
    is_waiting = Event()

    def bad_loser() -> None:
        try:
            is_waiting.set()
            wait_for_ever()
        finally:
            raise ValueError("while stopping")

    def fail_later() -> None:
        is_waiting.wait()
        fail()

    with pytest.raises(ExceptionGroup) as caught, raddle.scope() as scope:
        scope.thread(bad_loser)
        scope.thread(fail_later)
    assert [type(error) for error in caught.value.exceptions] == [LookupError, ValueError]


def test_an_exception_of_the_block_stops_all():
    with pytest.raises(ExceptionGroup) as caught, raddle.scope() as scope:
        scope.thread(wait_for_ever)
        raise KeyError("the block's")
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


@pytest.mark.parametrize("in_block", [False, True])
def test_a_deadline_stops_all(in_block):
    begun = time.monotonic()
    with (
        pytest.raises(TimeoutError, match="nightly did not end before its deadline"),
        raddle.scope(0.1, name="nightly") as scope,
    ):
        handle = scope.thread(wait_for_ever)
        if in_block:
            Queue().get()
    assert 0.1 <= time.monotonic() - begun < 20
    with pytest.raises(raddle.Stopped, match="deadline of the scope 'nightly' has passed"):
        handle.result()


def test_an_inner_scope_has_no_more_time_than_the_outer_one():
    with pytest.raises(TimeoutError), raddle.scope(0.2) as outer:
        with raddle.scope(100) as inner:
            assert inner.deadline == outer.deadline
            inner.thread(wait_for_ever)
    with raddle.scope(100) as outer, raddle.scope(50) as inner:
        assert inner.deadline < outer.deadline


def test_an_inner_scope_is_stopped_with_the_outer_one():
    def outer_unit() -> None:
        with raddle.scope(name="inner") as inner:
            inner.thread(wait_for_ever)

    with pytest.raises(ExceptionGroup) as caught, raddle.scope(name="outer") as outer:
        outer.thread(outer_unit)
        outer.thread(fail)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


def test_a_thread_that_is_just_being_started_is_stopped_too():
    for _ in range(300):

        def outer_unit() -> None:
            with raddle.scope(name="inner") as inner:
                inner.thread(wait_for_ever)
                inner.thread(wait_for_ever)

        with pytest.raises(ExceptionGroup), raddle.scope(name="outer") as outer:
            outer.thread(outer_unit)
            outer.thread(fail)


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_start_that_is_interrupted_leaves_a_thread_that_is_owned_or_does_nothing(monkeypatch, has_begun):
    ran = []
    is_interrupted = Event()
    start = raddle.threading.Thread.start

    def interrupted_start(thread):
        if has_begun:
            start(thread)
            while not ran:
                time.sleep(0.001)
        else:
            late.append(thread)
        raise KeyboardInterrupt

    def work():
        ran.append(1)
        is_interrupted.wait()

    late = []
    monkeypatch.setattr(raddle.threading.Thread, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt), raddle.scope() as scope:
        scope.thread(work)
    for thread in late:
        start(thread)
        thread.join(10)
    assert ran == [1] * has_begun


def test_calls_of_a_pool_are_stopped(tmp_path):
    mark = tmp_path / "begun"

    with raddle.Pool("process", workers=1) as pool:
        with pytest.raises(ExceptionGroup), raddle.scope() as scope:
            call = scope.submit(pool, mark_and_wait, str(mark))

            def fail_when_begun() -> None:
                while not mark.exists():
                    raddle.checkpoint()
                fail()

            scope.thread(fail_when_begun)
        assert call.future.cancelled()
        assert pool.submit(pow, 2, 3).result() == 8, "the pool stays as it is"


def mark_and_wait(path: str) -> None:
    with open(path, "w"):
        pass
    wait_for_ever()


def test_start_waits_until_a_unit_is_ready():
    def server(port: int, ready) -> None:
        ready(port + 1)
        wait_for_ever()

    with raddle.scope() as scope:
        assert scope.start(server, 8000) == 8001
        scope.stop()


def test_start_tells_of_a_unit_that_never_was_ready():
    with pytest.raises(ExceptionGroup) as caught, raddle.scope() as scope:
        scope.start(lambda ready: None)
    assert caught.group_contains(RuntimeError, match="has to call ready")


def test_units_see_the_context():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    with raddle.scope() as scope:
        handle = scope.thread(variable.get)
    assert handle.result() == 7


def test_what_is_started_by_a_unit_is_joined_as_well():
    with raddle.scope() as scope:

        def parent() -> raddle.Handle[int]:
            return scope.thread(pow, 3, 3)

        outer = scope.thread(parent)
    assert outer.result().result() == 27


def test_a_process_ends_with_its_call_and_not_with_the_scope():
    with raddle.scope() as scope:
        before = storm.at_rest()
        for number in range(12):
            assert scope.process(in_worker, number).result()[0] == 2 * number
        until(lambda: storm.belongings().children <= before.children, "the processes to end")
        # The last one and the one before it are known still.
        assert storm.belongings().descriptors - before.descriptors < 30


class Result:
    """Something that can be seen to be gone."""


def test_an_open_scope_forgets_what_is_over():
    results = []

    def make() -> Result:
        result = Result()
        results.append(weakref.ref(result))
        return result

    rest = Event()
    with raddle.scope() as scope:
        patient = scope.thread(rest.wait)
        for _ in range(500):
            scope.thread(make).result()
        gc.collect()
        assert len(results) == 500
        assert sum(result() is not None for result in results) < 250
        assert repr(scope).endswith("1 running>")
        rest.set()
    assert patient.result() is True


def test_threads_of_a_scope_have_names_of_their_own_also_when_others_were_forgotten():
    names = set()
    with raddle.scope() as scope:
        for _ in range(200):
            handle = scope.thread(time.time)
            handle.result()
            names.add(handle.name)
    assert len(names) == 200


def test_ctrl_c_stops_joins_and_is_raised_alone():
    ended = []

    def patient() -> None:
        try:
            wait_for_ever()
        finally:
            ended.append(True)

    with pytest.raises(KeyboardInterrupt), raddle.scope() as scope:
        scope.thread(patient)
        os.kill(os.getpid(), signal.SIGINT)
        wait_for_ever()
    assert ended == [True]

    with pytest.raises(KeyboardInterrupt), raddle.scope() as scope:
        scope.thread(patient)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert ended == [True, True]


def test_one_handle_can_be_stopped_and_that_is_no_failure():
    with raddle.scope() as scope:
        handle = scope.thread(wait_for_ever)
        handle.stop("no longer needed")
    with pytest.raises(raddle.Stopped, match="no longer needed"):
        handle.result()


def test_what_does_not_obey_is_named(capfd, monkeypatch):
    monkeypatch.setattr("raddle._scope.GRACE", 0.05)
    told = Event()

    def stubborn() -> None:
        with raddle.shield():
            told.wait()

    with pytest.raises(ExceptionGroup), raddle.scope() as scope:
        scope.thread(stubborn)
        helper = threading.Timer(0.5, told.set)
        helper.start()
        raise KeyError
    helper.join()
    text = capfd.readouterr().err
    assert "stubborn-1 was stopped 0.05 s ago and goes on" in text
    assert "in stubborn" in text


def test_a_scope_that_is_over_takes_nothing():
    with raddle.scope() as scope:
        pass
    with pytest.raises(RuntimeError, match="is not open"):
        scope.thread(fail)
    with pytest.raises(RuntimeError, match="entered once"), scope:
        pass


def test_a_deadlock_between_its_threads_is_raised(monkeypatch):
    monkeypatch.setattr(raddle, "on_deadlock", "raise")
    first, second, has_first, has_second = Lock(), Lock(), Event(), Event()

    def take(one: Lock, other: Lock, mine: Event, others: Event) -> None:
        with one:
            mine.set()
            others.wait()
            with other:
                pass

    with pytest.raises(ExceptionGroup) as caught, raddle.scope() as scope:
        scope.thread(take, first, second, has_first, has_second)
        scope.thread(take, second, first, has_second, has_first)
    (error,) = caught.value.exceptions
    assert isinstance(error, raddle.DeadlockError)
    assert len(error.deadlock.units) == 2
    assert not first.locked()
    assert not second.locked()


def test_async_with_owns_tasks_and_threads():
    async def main() -> tuple[int, int]:
        async with raddle.scope() as scope:
            task = scope.task(asyncio.sleep(0.01, 7))
            thread = scope.thread(pow, 2, 2)
        return task.result(), thread.result()

    assert asyncio.run(main()) == (7, 4)


def test_async_with_stops_all_at_the_first_failure():
    async def bad() -> None:
        raise LookupError

    async def main() -> None:
        async with raddle.scope() as scope:
            scope.thread(wait_for_ever)
            scope.task(asyncio.sleep(100))
            scope.task(bad())
            await asyncio.sleep(100)

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


def test_async_with_has_a_deadline():
    async def main() -> None:
        async with raddle.scope(deadline=0.1) as scope:
            scope.thread(wait_for_ever)
            await asyncio.sleep(100)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_async_with_waits_for_the_very_end_of_its_threads(is_cancelled):
    local, ended = threading.local(), []

    class Slow:
        def __del__(self):
            time.sleep(0.3)
            ended.append(True)

    async def inside() -> None:
        async with raddle.scope() as scope:
            scope.thread(
                lambda: setattr(local, "value", Slow())
            )  # dropped by the thread when its function has returned

    async def main() -> None:
        task = asyncio.create_task(inside())
        if is_cancelled:
            await asyncio.sleep(0.15)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await task
        assert ended == [True]

    asyncio.run(main())


def test_async_with_is_cancelled_from_outside():
    ended = []

    def patient() -> None:
        try:
            wait_for_ever()
        finally:
            ended.append(True)

    async def inside(is_open: asyncio.Event) -> None:
        async with raddle.scope() as scope:
            scope.thread(patient)
            is_open.set()
            await asyncio.sleep(100)

    async def main() -> None:
        is_open = asyncio.Event()
        task = asyncio.create_task(inside(is_open))
        await is_open.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == [True]
