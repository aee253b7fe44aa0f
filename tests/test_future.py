"""`raddle.futures.Future` answers as `concurrent.futures.Future` does: each test runs on both."""

from __future__ import annotations

import concurrent.futures
import gc
import re
import threading
import time
import weakref
from concurrent.futures import CancelledError, InvalidStateError

import pytest

import calls
import raddle
import raddle.futures
from calls import until


@pytest.fixture(params=[concurrent.futures.Future, raddle.futures.Future], ids=["stdlib", "raddle"])
def future(request):
    """A new future of each class."""
    return request.param()


def test_it_is_a_standard_future(future):
    assert isinstance(future, concurrent.futures.Future)


def test_it_has_every_public_name_of_the_standard_future():
    ours, theirs = dir(raddle.futures.Future), dir(concurrent.futures.Future)
    assert {name for name in theirs if not name.startswith("_")} <= set(ours)
    public = {name for name in ours if not name.startswith("_")}
    assert public == {name for name in theirs if not name.startswith("_")}


def shown(future):
    return re.sub(r"0x[0-9a-f]+", "0x0", repr(future))


def test_repr_tells_the_state(future):
    assert shown(future) == "<Future at 0x0 state=pending>"
    assert hex(id(future)) in repr(future)
    future.set_running_or_notify_cancel()
    assert shown(future) == "<Future at 0x0 state=running>"
    future.set_result([1])
    assert shown(future) == "<Future at 0x0 state=finished returned list>"


def test_repr_of_one_that_failed_and_of_one_that_was_cancelled(future):
    other = type(future)()
    future.set_exception(OSError())
    assert shown(future) == "<Future at 0x0 state=finished raised OSError>"
    other.cancel()
    assert shown(other) == "<Future at 0x0 state=cancelled>"


def test_state_names(future):
    other = type(future)()
    assert future._state == "PENDING"
    future.set_running_or_notify_cancel()
    assert future._state == "RUNNING"
    future.set_result(1)
    assert future._state == "FINISHED"
    other.cancel()
    assert other._state == "CANCELLED"
    other.set_running_or_notify_cancel()
    assert other._state == "CANCELLED_AND_NOTIFIED"


def answers(future):
    return future.done(), future.running(), future.cancelled()


def test_done_running_and_cancelled_in_every_state(future):
    other = type(future)()
    assert answers(future) == (False, False, False)
    assert future.set_running_or_notify_cancel() is True
    assert answers(future) == (False, True, False)
    future.set_result(1)
    assert answers(future) == (True, False, False)
    assert other.cancel() is True
    assert answers(other) == (True, False, True)
    assert other.set_running_or_notify_cancel() is False
    assert answers(other) == (True, False, True)


def test_a_result_can_be_set_without_a_running_state(future):
    future.set_result("value")
    assert future.result() == "value"
    assert future.exception() is None


def test_result_and_exception_of_one_that_failed(future):
    error = OSError("gone")
    future.set_exception(error)
    assert future.exception() is error
    with pytest.raises(OSError, match="gone") as caught:
        future.result()
    assert caught.value is error


def test_none_is_a_result(future):
    future.set_result(None)
    assert future.result(timeout=0) is None


@pytest.mark.parametrize("end", ["result", "exception"])
def test_ending_twice_is_an_invalid_state(future, end):
    getattr(future, f"set_{end}")(ValueError())
    with pytest.raises(InvalidStateError, match=r"^FINISHED: <Future at 0x[0-9a-f]+ state=finished "):
        future.set_result(1)
    with pytest.raises(InvalidStateError, match=r"^FINISHED: <Future at "):
        future.set_exception(ValueError())


def test_ending_one_that_was_cancelled_is_an_invalid_state(future):
    future.cancel()
    with pytest.raises(InvalidStateError, match=r"^CANCELLED: <Future at 0x[0-9a-f]+ state=cancelled>$"):
        future.set_result(1)
    future.set_running_or_notify_cancel()
    with pytest.raises(InvalidStateError, match=r"^CANCELLED_AND_NOTIFIED: "):
        future.set_exception(ValueError())


def test_starting_twice_is_refused_and_logged(future, caplog):
    future.set_running_or_notify_cancel()
    with pytest.raises(RuntimeError, match="^Future in unexpected state$"):
        future.set_running_or_notify_cancel()
    assert "in unexpected state: RUNNING" in caplog.text


def test_one_that_was_cancelled_raises(future):
    future.cancel()
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask(timeout=0)


def test_one_that_runs_or_has_ended_cannot_be_cancelled(future):
    future.set_running_or_notify_cancel()
    assert future.cancel() is False
    future.set_result(1)
    assert future.cancel() is False
    assert future.result() == 1


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_waiting_too_short_raises_timeout(future, timeout):
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(timeout=timeout)
        with pytest.raises(concurrent.futures.TimeoutError):
            ask(timeout)


def test_a_thread_that_waits_is_woken_by_result_exception_and_cancel(future):
    def end_each(one, how):
        heard = []

        def wait():
            try:
                heard.append(one.result(30))
            except (CancelledError, ValueError) as error:
                heard.append(type(error))

        waiter = threading.Thread(target=wait)
        waiter.start()
        how(one)
        waiter.join(30)
        return heard

    make = type(future)
    assert end_each(make(), lambda one: one.set_result(1)) == [1]
    assert end_each(make(), lambda one: one.set_exception(ValueError())) == [ValueError]
    assert end_each(make(), lambda one: one.cancel()) == [CancelledError]


def test_callbacks_come_in_order_and_a_late_one_at_once(future):
    called = []
    for number in range(3):
        future.add_done_callback(lambda one, number=number: called.append((number, one)))
    assert called == []
    future.set_result(1)
    assert called == [(0, future), (1, future), (2, future)]
    future.add_done_callback(lambda one: called.append("late"))
    assert called[-1] == "late"


def test_callbacks_are_called_on_cancel_once(future):
    called = []
    future.add_done_callback(called.append)
    future.cancel()
    future.cancel()
    future.set_running_or_notify_cancel()
    assert called == [future]


def test_a_callback_sees_the_future_done(future):
    seen = []
    future.add_done_callback(lambda one: seen.append((one.done(), one.result(timeout=0))))
    future.set_result(7)
    assert seen == [(True, 7)]


def test_the_same_callback_twice_is_called_twice(future):
    called = []
    future.add_done_callback(called.append)
    future.add_done_callback(called.append)
    future.set_result(1)
    assert called == [future, future]


def test_a_callback_that_raises_is_logged_and_the_rest_are_called(future, caplog):
    called = []
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(called.append)
    future.set_result(1)
    future.add_done_callback(lambda _: [][1])
    assert called == [future]
    assert caplog.text.count("exception calling callback for <Future at ") == 2
    assert "ZeroDivisionError" in caplog.text
    assert "IndexError" in caplog.text
    assert {record.name for record in caplog.records} == {"concurrent.futures"}


def test_a_callback_may_add_a_callback(future):
    called = []
    future.add_done_callback(lambda one: one.add_done_callback(called.append))
    future.set_result(1)
    assert called == [future]


def test_the_standard_condition_is_there_for_those_who_use_it(future):
    with future._condition:
        assert future._state == "PENDING"
        future._condition.notify_all()
    woken = threading.Event()

    def wait():
        with future._condition:
            assert future._condition.wait_for(lambda: future._state == "FINISHED", 30)
        woken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    future.set_result(1)
    waiter.join(30)
    assert woken.is_set()


def test_a_future_in_a_cycle_with_its_callback_is_collected(future):
    class Marker:
        pass

    marker = Marker()
    future.add_done_callback(lambda _, keep=(future, marker): None)
    seen = weakref.ref(marker)
    del future, marker
    # The fixture's own reference stays with the test runner; so a second one, made here, is what is looked at.
    gc.collect()
    assert seen() is None or gc.get_referrers(seen())


def test_a_cycle_of_future_and_result_is_collected():
    for make in (concurrent.futures.Future, raddle.futures.Future):
        future = make()
        future.set_result([future])
        seen = weakref.ref(future)
        del future
        gc.collect()
        assert seen() is None


def test_futures_are_compared_by_identity_and_can_be_keys(future):
    other = type(future)()
    assert future == future
    assert future != other
    assert len({future, other, future}) == 2


def test_attributes_and_subclasses_are_allowed(future):
    future.note = "mine"
    assert future.note == "mine"

    class Mine(type(future)):
        def __init__(self, name):
            super().__init__()
            self.name = name

    mine = Mine("x")
    mine.set_result(1)
    assert (mine.name, mine.result()) == ("x", 1)
    assert shown(mine) == "<Mine at 0x0 state=finished returned int>"


def test_generic_alias(future):
    assert type(future)[int] is not None


@pytest.mark.parametrize("wrong", ["1", object(), [1]])
def test_a_timeout_that_is_no_number_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
        raddle.futures.Future().result(wrong)


def test_a_timeout_of_nan_is_refused_and_one_of_infinity_waits():
    future = raddle.futures.Future()
    with pytest.raises(ValueError, match="nan"):
        future.result(float("nan"))
    timer = threading.Timer(0.05, future.set_result, [1])
    timer.start()
    assert future.result(float("inf")) == 1
    timer.join()


def test_a_future_dropped_before_its_call_has_ended_lets_the_call_run(kind, gate, tmp_path):
    with raddle.Pool(kind, 1) as pool:
        pool.submit(gate)
        pool.submit(calls.write, tmp_path / "ran", "yes")
        gc.collect()
        gate.open()
    assert (tmp_path / "ran").read_text() == "yes"


def test_a_future_outlives_its_pool(kind):
    pool = raddle.Pool(kind, 1)
    future = pool.submit(calls.arguments, 1, two=[3])
    pool.shutdown()
    del pool
    gc.collect()
    assert future.result() == ((1,), {"two": [3]})


def test_an_executors_future_may_be_ended_by_somebody_else(kind, gate):
    # asyncio and others do so; what the worker brings later is then nobody's.
    with raddle.Pool(kind, 1) as pool:
        first = pool.submit(gate, "the worker's")
        gate.wait_entered()
        until(first.running, "the call to run")
        first.set_result("mine")
        assert first.result() == "mine"
        gate.open()
        assert pool.submit(calls.add, 1, 1).result() == 2
        assert first.result() == "mine"


def test_a_wait_ends_when_its_future_is_ended_by_another_thread(kind, gate):
    with raddle.Pool(kind, 1) as pool:
        future = pool.submit(gate)
        gate.wait_entered()
        timer = threading.Timer(0.05, future.set_result, ["mine"])
        timer.start()
        started = time.monotonic()
        assert future.result(20) == "mine"
        assert time.monotonic() - started < 5
        timer.join()
        gate.open()
