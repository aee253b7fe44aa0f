"""Channels in the middle of other things: of dropping, of raising, of a signal, of closing, of another loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import signal
import sys
import threading
import time

import pytest

import raddle
from raddle.threading import Event
from threads import start, waits

pytestmark = pytest.mark.timeout(60)


# While a receiver gives its values away.


@pytest.mark.parametrize("make", ["raddle.broadcast(4)", "raddle.channel(4)"])
def test_what_is_dropped_with_a_receiver_may_use_it(script, make):
    ended = script(
        f"""
        import raddle

        class Value:
            def __del__(self):
                print(len(rx))
                try:
                    rx.clone()
                except raddle.Closed as closed:
                    print(closed)

        made = {make}
        tx, rx = made if isinstance(made, tuple) else (made, made.subscribe())
        tx.send(Value())
        rx.close()
        """
    ).run(timeout=20)
    assert (ended.out, ended.err) == ("0\nthis receiver was closed\n", "")


def test_a_receiver_of_a_broadcast_that_wakes_a_task_may_be_used_meanwhile(script):
    ended = script(
        """
        import asyncio, sys, threading, raddle
        sys.setswitchinterval(1e-6)
        tx = raddle.broadcast(1)
        rx = tx.subscribe()
        taken = []

        async def produce():
            with tx:
                for number in range(1000):
                    await tx.asend(number)

        threads = [threading.Thread(target=asyncio.run, args=(produce(),), daemon=True)]
        threads += [threading.Thread(target=lambda: taken.extend(rx), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        print(sorted(taken) == list(range(1000)))
        """
    ).run()
    assert (ended.out, ended.err) == ("True\n", "")


# While a task is told.


def test_an_end_that_is_dropped_while_an_exception_is_raised_wakes_a_task(script):
    ended = script(
        """
        import asyncio, raddle

        async def main():
            tx, rx = raddle.channel(1)
            task = asyncio.create_task(rx.arecv())
            await asyncio.sleep(0.01)
            senders = [tx]
            del tx
            try:
                print(senders.pop(), 1 / 0)  # what was popped is dropped with the exception on its way
            except ZeroDivisionError as error:
                print(error)
            try:
                await task
            except raddle.Closed:
                print("closed")

        asyncio.run(main())
        """
    ).run()
    assert (ended.out, ended.err, ended.code) == ("division by zero\nclosed\n", "", 0)


def test_a_task_is_told_although_who_tells_it_is_interrupted():
    tx, rx = raddle.channel(1)
    told = []

    class Interrupted(Exception):
        pass

    class Loop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args, **kwargs):
            if not told:
                told.append(True)
                signal.raise_signal(signal.SIGUSR1)
            return super().call_soon_threadsafe(*args, **kwargs)

    def interrupt(*_):
        raise Interrupted

    loop = Loop()
    taken = []

    async def take():
        taken.append(await rx.arecv())

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        thread = start(loop.run_until_complete, take())
        while rx._ends() and not asyncio.all_tasks(loop):
            time.sleep(0.001)
        time.sleep(0.05)
        with pytest.raises(Interrupted):
            tx.send("value")
            time.sleep(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
    thread.join(20)
    loop.close()
    assert (taken, told) == (["value"], [True])


def test_a_task_whose_loop_is_closed_does_not_keep_values_from_others():
    tx, rx = raddle.channel(4)

    async def stand():
        tasks = [asyncio.create_task(rx.arecv()) for _ in range(3000)]
        await asyncio.sleep(0.01)
        return tasks

    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(stand())
    loop.close()
    taken = []
    thread = start(lambda: taken.append(rx.recv()))
    waits(thread)
    tx.send("value")
    thread.join(20)
    assert taken == ["value"]
    for task in tasks:
        task._log_destroy_pending = False


def test_a_loop_that_goes_on_in_another_thread_is_woken():
    tx, rx = raddle.channel(1)

    async def stand():
        task = asyncio.create_task(rx.arecv())
        await asyncio.sleep(0.01)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(stand())
    ended = Event()
    task.add_done_callback(lambda _: ended.set())
    thread = start(loop.run_forever)
    time.sleep(0.1)  # until it sleeps in its selector
    tx.send("value")  # from the thread in which the task began to wait
    is_told = ended.wait(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert is_told
    assert task.result() == "value"


# While somebody waits at an end that is closed.


@pytest.mark.parametrize("is_task", [False, True], ids=["thread", "task"])
@pytest.mark.parametrize("kind", ["recv", "send", "offer", "broadcast", "last of a broadcast", "select"])
def test_who_closes_an_end_wakes_those_who_wait_at_it(kind, is_task):
    tx, rx = raddle.channel(0 if kind == "offer" else 1)
    if "broadcast" in kind:
        tx = raddle.broadcast(1)
        rx = tx.subscribe()
    others = [rx.clone()] + ([] if kind.startswith("last") else [tx.clone()])
    if kind in ("recv", "select"):
        end, case = rx, rx
    else:
        end, case = tx, tx.sending(2)
        if kind != "offer":
            tx.send(1)
    cases = [case, Event()] if kind == "select" else [case]
    raised = []

    def wait():
        try:
            if is_task:
                asyncio.run(raddle.aselect(*cases))
            elif kind == "recv":
                rx.recv()
            elif kind == "select":
                raddle.select(*cases)
            else:
                tx.send(2)
        except raddle.Closed as closed:
            raised.append(str(closed))

    thread = start(wait)
    if is_task:
        time.sleep(0.1)
    else:
        waits(thread)
    end.close()
    thread.join(10)
    assert raised == [f"this {'receiver' if end is rx else 'sender'} was closed"]
    assert not any(other.closed for other in others)


# While a signal comes.


def test_a_signal_that_comes_with_a_value_does_not_lose_it():
    tx, rx = raddle.channel(1)

    def interrupt(*_):
        raise InterruptedError("by the test")

    def produce(is_ready):
        is_ready.wait()
        time.sleep(0.02)
        tx.send("value")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for _ in range(10):
            is_ready, received = Event(), []
            thread = start(produce, is_ready)
            with pytest.raises(InterruptedError, match="by the test"):
                is_ready.set()
                # No signal is handled between taking the value and having it in the list, as there would be with `recv`.
                received.extend(itertools.islice(rx, 1))
                time.sleep(10)
            thread.join()
            # The signal mostly comes first, and the value is still there.
            assert (received or [rx.recv(0)]) == ["value"]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("kind", ["for", "recv", "timer"])
def test_the_end_of_a_channel_that_a_handler_uses_is_not_taken_for_this_one(kind):
    _tx, rx = raddle.channel(1)
    other, gone = raddle.channel(1)
    gone.close()
    before = signal.signal(signal.SIGUSR1, lambda *_: other.send(1))
    kicker = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        kicker.start()
        with pytest.raises(raddle.Closed) as caught:
            if kind == "for":
                list(rx)
            elif kind == "recv":
                rx.recv()
            else:
                list(raddle.every(60))
        assert caught.value.source is other
        kicker.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_future_may_be_waited_for_while_another_one_is_waited_for():
    class Future(concurrent.futures.Future):
        depth = 0

        def __hash__(self):  # as a handler or a finalizer would, in the middle of it
            if Future.depth < 3:
                Future.depth += 1
                with pytest.raises(TimeoutError):
                    raddle.select(concurrent.futures.Future(), self, timeout=0)
            return id(self)

    future = Future()
    thread = start(lambda: raddle.select(future))
    waits(thread)
    future.set_result(1)
    thread.join(10)
    assert not thread.is_alive()


# At odd times.


@pytest.mark.parametrize(("timeout", "error"), [(float("nan"), ValueError), ("1", TypeError)])
def test_a_task_does_not_wait_for_a_time_that_is_none(timeout, error):
    tx, rx = raddle.channel(0)
    for wait in (lambda: rx.arecv(timeout), lambda: tx.asend(1, timeout), lambda: raddle.aselect(rx, timeout=timeout)):
        with pytest.raises(error):
            asyncio.run(wait())


def test_who_comes_very_late_to_many_moments_finds_one():
    ticks = raddle.every(1e-9)
    time.sleep(4.4)  # more moments than 32 bits can count
    assert next(ticks) > 4
    assert next(ticks) < 4e-2


# While an end is made.


@pytest.mark.parametrize("kind", ["sender", "receiver", "subscriber"])
def test_an_end_whose_making_is_interrupted_is_not_counted(kind):
    tx = raddle.broadcast(1)
    rx = tx.subscribe()
    make = {"sender": tx.clone, "receiver": rx.clone, "subscriber": tx.subscribe}[kind]
    at, seen, made = 0, 0, None

    def trace(frame, event, _argument):
        nonlocal seen
        if frame.f_code.co_name not in ("clone", "subscribe"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == at:
                raise InterruptedError
        return trace

    before = sys.gettrace()
    for at in range(1, 100):
        seen = 0
        with contextlib.suppress(InterruptedError):
            sys.settrace(trace)
            made = make()
        sys.settrace(before)
        if made is not None:
            break
        assert tx._ends() == (1, 1), at
    assert tx._ends() == ((2, 1) if kind == "sender" else (1, 2))
    del made
    assert tx._ends() == (1, 1)


# While an event is set and cleared.


def test_an_event_that_is_set_and_cleared_at_once_has_happened():
    event = Event()
    _tx, rx = raddle.channel(1)
    seen = []
    thread = start(lambda: seen.append(raddle.select(rx, event, event)))
    waits(thread)
    event.set()
    event.clear()
    thread.join()

    async def main():
        task = asyncio.create_task(raddle.aselect(rx, event))
        await asyncio.sleep(0)  # now it stands in line
        event.set()
        event.clear()
        seen.append(await task)

    asyncio.run(main())
    assert seen == [(event, True), (event, True)]
    with pytest.raises(TimeoutError):
        raddle.select(rx, event, timeout=0.01)


# While the interpreter ends.


def test_a_daemon_thread_that_selects_does_not_disturb_the_end(script):
    for _ in range(3):
        ended = script(
            """
            import threading, time, raddle

            def choose(tx, rx):
                while True:
                    raddle.select(tx.sending(1), rx)

            for _ in range(4):
                tx, rx = raddle.channel(1)
                for _ in range(2):
                    threading.Thread(target=choose, args=(tx, rx), daemon=True).start()
            time.sleep(0.1)
            """
        ).run()
        assert (ended.out, ended.err, ended.code) == ("", "", 0)


def test_a_daemon_thread_that_wakes_tasks_does_not_disturb_the_end(script):
    for _ in range(5):
        ended = script(
            """
            import asyncio, threading, time, raddle

            async def take(rx):
                async for _ in rx:
                    pass

            def send(tx):
                while True:
                    tx.send(1)

            for _ in range(3):
                tx, rx = raddle.channel(1)
                threading.Thread(target=lambda rx: asyncio.run(take(rx)), args=(rx,), daemon=True).start()
                threading.Thread(target=send, args=(tx,), daemon=True).start()
            time.sleep(0.1)
            """
        ).run()
        assert ended.code == 0, ended.err


# While others are not ready.


@pytest.mark.parametrize("ready", [(0, 1), (0, 1, 9), (3, 4, 5)])
def test_select_is_fair_among_those_that_are_ready(ready):
    ends = [raddle.channel(None) for _ in range(10)]
    for which in ready:
        for number in range(3000):
            ends[which][0].send(number)
    receivers = [rx for _, rx in ends]
    chosen = [receivers.index(raddle.select(*receivers).source) for _ in range(3000)]
    counts = [chosen.count(which) for which in ready]
    even = 3000 / len(ready)
    assert all(abs(count - even) < 200 for count in counts), counts  # seven standard deviations
