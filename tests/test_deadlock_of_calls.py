"""Waits for calls of thread pools that can never end are named, or raised in one of those who wait; clean programs are left alone."""

from __future__ import annotations

import concurrent.futures
import threading as standard

import pytest

import raddle
import raddle.futures
from raddle.futures import ThreadPoolExecutor, as_completed, wait
from raddle.multiprocessing import ThreadPool
from raddle.queue import Queue
from raddle.threading import Event, Lock, RLock
from threads import PATIENCE, start, together, waits

# Each way to wait for a future.
WAYS = {
    "result": lambda future: future.result(),
    "exception": lambda future: future.exception() or future.result(),
    "wait": lambda future: wait([future]).done.pop().result(),
    "as_completed": lambda future: next(as_completed([future])).result(),
}


@pytest.fixture(params=WAYS)
def await_(request):
    """A way to wait for a future."""
    return WAYS[request.param]


def named(futures):
    """The deadlocks among what futures come to, and how many have come to something else."""
    outcomes = [future.exception(PATIENCE) for future in futures]
    found = [error.deadlock for error in outcomes if isinstance(error, raddle.DeadlockError)]
    assert all(error is None for error in outcomes if not isinstance(error, raddle.DeadlockError)), outcomes
    return found, len(outcomes) - len(found)


def test_two_pools_whose_calls_wait_for_each_other(raises, await_):
    with ThreadPoolExecutor(1, "one") as one, ThreadPoolExecutor(1, "two") as two:
        both = standard.Barrier(2)

        def call(other):
            both.wait(PATIENCE)
            return await_(other.submit(abs, -1))

        (deadlock,), ended = named([one.submit(call, two), two.submit(call, one)])
        assert ended == 1
        assert sorted(unit.name for unit in deadlock.units) == ["one_0", "two_0"]
        assert not deadlock.is_everybody
        assert not deadlock.is_exhaustion
        for unit in deadlock.units:
            assert unit.wanted_at.startswith(__file__)
            assert unit.waits_for.startswith(("the result of a call that no thread has begun", "the first of several"))


def test_a_call_that_waits_for_the_one_that_waits_for_it(raises, await_):
    with ThreadPoolExecutor(2) as one, ThreadPoolExecutor(2) as two:
        futures, known = [], standard.Event()

        def call(number):
            known.wait(PATIENCE)
            return await_(futures[number])

        futures += [one.submit(call, 1), two.submit(call, 0)]
        known.set()
        (deadlock, *more), _ = named(futures)
        # The other one gets what the first has raised.
        assert all(other is deadlock for other in more)
        first, second = deadlock.units
        if await_ in (WAYS["result"], WAYS["exception"]):
            assert (first.held_by, second.held_by) == (second.name, first.name)
            assert f'run by "{second.name}"' in str(deadlock)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_pool_all_of_whose_threads_wait_for_it_is_raised_whatever_is_done_about_deadlocks(workers, await_, alarms):
    with ThreadPoolExecutor(workers) as pool:
        ready = standard.Barrier(workers)

        def call():
            ready.wait(PATIENCE)
            return await_(pool.submit(abs, -1))

        found, _ = named([pool.submit(call) for _ in range(workers)])
        assert len(found) == 1
        assert found == alarms
        assert found[0].is_exhaustion
        assert len(found[0].units) == workers
        assert pool.submit(abs, -2).result(PATIENCE) == 2


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_the_main_thread_waits_for_a_call_that_needs_what_it_holds(raises, kind, await_):
    lock = kind()

    def call():
        with lock:
            return "done"

    with ThreadPoolExecutor(2, "pool") as pool:
        ends = []
        try:
            with lock:
                future = pool.submit(call)
                await_(future)
        except raddle.DeadlockError as error:
            ends.append(error)
        try:
            assert future.result(PATIENCE) == "done"
        except raddle.DeadlockError as error:
            ends.append(error)
        (error,) = {id(error): error for error in ends}.values()
        assert {unit.name for unit in error.deadlock.units} == {"MainThread", "pool_0"}
        assert "do not wait for a call while holding" in str(error)


def test_a_call_that_cannot_begin_because_all_threads_need_what_is_held(raises, await_):
    lock, inside = Lock(), standard.Semaphore(0)

    def call():
        inside.release()
        with lock:
            pass

    with ThreadPoolExecutor(2, "pool") as pool:
        found = []
        try:
            with lock:
                futures = [pool.submit(call) for _ in range(2)]
                for _ in futures:
                    inside.acquire(timeout=PATIENCE)
                await_(pool.submit(abs, -1))
        except raddle.DeadlockError as error:
            found.append(error.deadlock)
        found += named(futures)[0]
        (deadlock,) = found
        assert sorted(unit.name for unit in deadlock.units) == ["MainThread", "pool_0", "pool_1"]


def test_a_map_of_an_executor_that_needs_what_its_reader_holds(raises):
    lock = Lock()

    def call(number):
        with lock:
            return number

    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(raddle.DeadlockError) as caught, lock:
            list(pool.map(call, range(10)))
        assert len(caught.value.deadlock.units) in (2, 3)


def test_a_full_pool_that_waits_for_who_waits_for_room_in_it(raises):
    lock, inside = Lock(), standard.Event()

    def call():
        inside.set()
        with lock:
            pass

    with raddle.Pool("thread", 1, max_pending=1) as pool:
        found = []
        try:
            with lock:
                future = pool.submit(call)
                inside.wait(PATIENCE)
                pool.submit(abs, -1)
        except raddle.DeadlockError as error:
            found.append(error.deadlock)
        found += named([future])[0]
        (deadlock,) = found
        assert any(unit.waits_for.startswith("room for a call in a pool") for unit in deadlock.units)


def test_a_callback_that_waits_for_what_only_its_own_thread_could_run(raises):
    with ThreadPoolExecutor(1) as pool:
        go, errors = standard.Event(), Queue()

        def callback(_):
            try:
                errors.put(pool.submit(abs, -1).result())
            except raddle.DeadlockError as error:
                errors.put(error)

        future = pool.submit(go.wait, PATIENCE)
        future.add_done_callback(callback)
        go.set()
        assert errors.get(timeout=PATIENCE).deadlock.is_exhaustion


def test_a_callback_may_wait_for_another_call_while_the_pool_may_have_another_thread():
    with ThreadPoolExecutor(2) as pool:
        go, results = standard.Event(), Queue()
        future = pool.submit(go.wait, PATIENCE)
        future.add_done_callback(lambda _: results.put(pool.submit(abs, -1).result(PATIENCE)))
        go.set()
        assert results.get(timeout=PATIENCE) == 1


@pytest.mark.parametrize("how", ["apply_async", "map_async"])
def test_a_thread_pool_that_waits_for_itself_with_a_callback_to_be_called(how):
    with ThreadPool(1) as pool:

        def call():
            if how == "apply_async":
                return pool.apply_async(abs, (-1,), callback=str).get()
            return pool.map_async(abs, [-1], callback=str).get()

        with pytest.raises(raddle.DeadlockError):
            pool.apply_async(call).get(PATIENCE)


def test_a_thread_that_waits_for_a_future_is_said_to_be_parked_on_it():
    with ThreadPoolExecutor(1, "pool") as pool:
        go = standard.Event()
        future = pool.submit(go.wait, PATIENCE)
        thread = start(future.result)
        waits(thread)
        life = thread.life
        go.set()
        thread.join(PATIENCE)
        assert (life.waits_for, life.held_by) == (f"the result of a call at {id(future):#x}", "pool_0")


def test_everybody_waits_and_one_for_a_future_that_nobody_is_left_to_end(script):
    ended = script("""
        import raddle, raddle.futures
        raddle.on_deadlock = "raise"
        try:
            raddle.futures.Future().result()
        except raddle.DeadlockError as error:
            print(error.deadlock.is_everybody)
    """).run()
    assert (ended.out, ended.err, ended.code) == ("True\n", "", 0)


# The end of a pool: it takes the end of every one of its threads.


def test_a_pool_is_shut_down_by_who_holds_what_a_call_of_it_needs(raises):
    lock, inside = Lock(), standard.Event()

    def call():
        inside.set()
        with lock:
            return "done"

    pool, ends = ThreadPoolExecutor(3, "pool"), []
    try:
        with lock:
            calls = [pool.submit(call)]
            assert inside.wait(PATIENCE)
            pool.shutdown()
    except raddle.DeadlockError as error:
        ends.append(error.deadlock)
    ends += named(calls)[0]
    pool.shutdown()
    (deadlock,) = ends
    assert {unit.name for unit in deadlock.units} == {"MainThread", "pool_0"}
    assert not deadlock.is_everybody
    assert not deadlock.is_exhaustion
    assert "the end of the threads of a pool" in str(deadlock)
    assert "release it before" in str(deadlock)


@pytest.mark.parametrize("face", ["raddle.futures.ThreadPoolExecutor(1)", 'raddle.Pool("thread", 1)'])
def test_a_shutdown_that_raises_a_deadlock_cancels_nothing_and_hides_nothing(script, face):
    ended = script(f"""
        import raddle, raddle.futures, raddle.threading
        raddle.on_deadlock = "raise"
        lock, inside = raddle.threading.Lock(), raddle.threading.Event()

        def stuck():
            inside.set()
            with lock:
                return "done"

        pool = {face}
        try:
            with lock:
                calls = [pool.submit(stuck), *(pool.submit(abs, -number) for number in range(3))]
                inside.wait()
                try:
                    raise ValueError("the cause")
                except ValueError:
                    pool.shutdown()
        except raddle.DeadlockError as error:
            print(repr(error.__context__))
            pool.shutdown()
            print([call.result() for call in calls])
        else:
            print("another one was it")
    """).run()
    assert ended.out in ("ValueError('the cause')\n['done', 0, 1, 2]\n", "another one was it\n")
    assert (ended.err, ended.code) == ("", 0)


# Their programs could not end: a lock that its thread alone can release is held for ever.


def test_a_shutdown_that_is_stuck_is_told_once_whoever_gets_stuck_next(script):
    ended = script("""
        import os, raddle, raddle.futures, raddle.threading, threading
        told, lock = [], raddle.threading.RLock()
        gates = [raddle.threading.Event() for _ in range(3)]
        raddle.on_deadlock = told.append

        def call(gate):
            gate.wait()
            with lock:
                pass

        pool = raddle.futures.ThreadPoolExecutor(3)
        for gate in gates:
            pool.submit(call, gate)

        def opens():
            for gate in gates:
                gate.set()
                threading.Event().wait(0.1)
            print(len(told), flush=True)
            os._exit(0)

        threading.Thread(target=opens).start()
        with lock:
            pool.shutdown()
    """).run()
    assert (ended.out, ended.err, ended.code) == ("1\n", "", 0)


def test_a_deadlock_at_the_end_of_the_program_costs_no_other_thread_its_work(script):
    ended = script("""
        import os, raddle, raddle.futures, raddle.threading, sys, threading, time
        raddle.on_deadlock = "raise"
        lock, inside, told = raddle.threading.RLock(), raddle.threading.Event(), threading.Event()

        def call():
            inside.set()
            with lock:
                pass

        def healthy():
            told.wait()
            time.sleep(0.1)
            print("healthy", flush=True)
            os._exit(0)

        sys.excepthook = lambda *what: (print(what[0].__name__, flush=True), told.set())
        threading.Timer(10, told.set).start()  # it was the call
        lock.acquire()
        pool = raddle.futures.ThreadPoolExecutor(1)
        pool.submit(call)
        inside.wait()
        time.sleep(0.1)  # whoever comes last says it: mostly the main thread, else the call
        threading.Thread(target=healthy).start()
    """).run()
    assert (ended.out, ended.err, ended.code) == ("DeadlockError\nhealthy\n", "", 0)


def test_two_pools_whose_calls_shut_down_each_other(raises):
    one, two = ThreadPoolExecutor(1, "one"), ThreadPoolExecutor(1, "two")
    both = standard.Barrier(2)

    def call(other):
        both.wait(PATIENCE)
        other.shutdown()

    (deadlock,), ended = named([one.submit(call, two), two.submit(call, one)])
    assert ended == 1
    assert sorted(unit.name for unit in deadlock.units) == ["one_0", "two_0"]


def test_everybody_waits_and_one_for_the_end_of_a_pool(script):
    ended = script("""
        import raddle, raddle.futures, raddle.queue
        raddle.on_deadlock = "raise"
        nothing = raddle.queue.Queue()
        pool = raddle.futures.ThreadPoolExecutor(2)
        call = pool.submit(nothing.get)
        try:
            pool.shutdown()
        except raddle.DeadlockError as error:
            print("main", error.deadlock.is_everybody)
            nothing.put(0)
        else:
            print("call", call.exception().deadlock.is_everybody)
    """).run()
    assert ended.out in ("main True\n", "call True\n")
    assert (ended.err, ended.code) == ("", 0)


def test_the_program_ends_while_a_call_waits_for_what_nobody_brings(script):
    # Waiting for the pool is all that is left to do, and it is said why that never ends; another pool is waited for nevertheless.
    ended = script("""
        import raddle, raddle.futures, raddle.queue
        nothing = raddle.queue.Queue()
        pool, other = (raddle.futures.ThreadPoolExecutor(1) for _ in range(2))
        other.submit(print, "other")
        raddle.on_deadlock = lambda deadlock: (print(deadlock.is_everybody, len(deadlock.units), flush=True), nothing.put(0))
        pool.submit(nothing.get)
    """).run()
    assert sorted(ended.out.splitlines()) == ["True 2", "other"]
    assert (ended.err, ended.code) == ("", 0)


# What is no deadlock.


def test_a_pool_is_shut_down_while_its_calls_wait_for_what_others_bring(alarms):
    lock, event, began = Lock(), Event(), standard.Semaphore(0)

    def call(needs):
        began.release()
        with needs:
            pass
        return event.wait(PATIENCE)

    for _ in range(10):
        event.clear()
        pool = ThreadPoolExecutor(2)
        lock.acquire()  # for a while, as the one who opens
        futures = [pool.submit(call, lock) for _ in range(2)]
        for _ in futures:
            began.acquire(timeout=PATIENCE)

        def opens():
            standard.Event().wait(0.01)
            lock.release()
            standard.Event().wait(0.01)
            event.set()

        opener = standard.Thread(target=opens)
        opener.start()
        pool.shutdown()
        opener.join()
        assert [future.result(0) for future in futures] == [True, True]
    assert alarms == []


def test_a_worker_that_goes_on_with_a_call_that_waits_while_the_first_waiter_wakes_up(alarms):
    for _ in range(20):
        with raddle.Pool("thread", 2) as pool:
            go, inner = standard.Event(), []

            def outer(pool=pool, go=go, inner=inner):
                first = pool.submit(go.wait, PATIENCE)
                inner.append(pool.submit(lambda: pool.submit(abs, -3).result()))
                standard.Timer(0.005, go.set).start()
                return first.result()

            assert pool.submit(outer).result(PATIENCE)
            assert inner[0].result(PATIENCE) == 3
    assert alarms == []


def test_pools_that_wait_for_each_other_with_a_thread_to_spare(alarms):
    with ThreadPoolExecutor(3) as one, ThreadPoolExecutor(3) as two:

        def call(depth, mine, other):
            return 1 if depth == 0 else 1 + other.submit(call, depth - 1, other, mine).result()

        # Each chain has two threads of each pool at most.
        for _ in range(100):
            assert one.submit(call, 3, one, two).result(PATIENCE) == 4
    assert alarms == []


def test_a_call_that_needs_a_lock_for_a_while(alarms):
    lock = Lock()

    def call(pool, depth):
        with lock:
            standard.Event().wait(0.004)
        return pool.submit(call, pool, depth - 1).result() if depth else 0

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(call, pool, 3) for _ in range(2)]
        assert [future.result(PATIENCE) for future in futures] == [0, 0]
    assert alarms == []


def test_a_call_that_somebody_else_lets_go_on(alarms):
    event, began = Event(), standard.Event()

    def call():
        began.set()
        event.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(call)
        waiting = pool.submit(abs, -1)
        began.wait(PATIENCE)
        opener = standard.Timer(0.05, event.set)
        opener.start()
        assert waiting.result() == 1
        opener.join()
    assert alarms == []


def test_a_wait_with_a_deadline_ends_by_itself(alarms):
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        both = standard.Barrier(2)

        def call(other):
            both.wait(PATIENCE)
            inner = other.submit(abs, -1)
            try:
                return inner.result(0.05)
            except TimeoutError:
                return "late"

        futures = [one.submit(call, two), two.submit(call, one)]
        assert "late" in [future.result(PATIENCE) for future in futures]
    assert alarms == []


def test_a_pool_of_the_standard_library_is_not_known_and_gives_hope(alarms):
    with ThreadPoolExecutor(1) as ours, concurrent.futures.ThreadPoolExecutor(1) as theirs:
        inner = theirs.submit(lambda: standard.Event().wait(0.05))
        assert ours.submit(inner.result).result() is False
    assert alarms == []


def test_the_first_of_several_may_be_any_of_them(alarms):
    lock = Lock()

    def call():
        with lock:
            pass

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        with lock:
            stuck, ends = one.submit(call), two.submit(lambda: standard.Event().wait(0.05))
            assert next(as_completed([stuck, ends])) is ends
        assert stuck.result(PATIENCE) is None
    assert alarms == []


def test_a_process_may_be_ended_from_outside(alarms):
    lock = Lock()
    with raddle.Pool("process", 1) as processes, ThreadPoolExecutor(1) as threads:
        with lock:
            assert threads.submit(lambda: processes.submit(abs, -1).result()).result() == 1
    assert alarms == []


def test_many_calls_that_wait_for_many_calls(raises):
    width, depth = 3, 5

    def fan(pools, depth):
        if depth == 0:
            return 1
        here, *rest = pools
        futures = [here.submit(fan, rest, depth - 1) for _ in range(width)]
        return sum(future.result() for future in as_completed(futures))

    # Each level has a pool of its own: that can always go on, whatever the number of threads.
    pools = [ThreadPoolExecutor(1 + level % 3) for level in range(depth)]
    try:
        results = [None] * 3

        def run(number):
            results[number] = fan(pools, depth)

        assert together(*(lambda number=number: run(number) for number in range(3))) == [None] * 3
        assert results == [width**depth] * 3
    finally:
        for pool in pools:
            pool.shutdown()
