"""What holds for every channel, whether or not its ends can go to other processes."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import pickle
import random
import threading

import pytest

import raddle
from calls import until
from raddle.threading import Event
from threads import start, waits

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=[False, True], ids=["own", "shared"])
def channel(request):
    def make(capacity):
        return raddle.channel(capacity, shared=request.param)

    return make


def in_thread(method, *args):
    return method(*args)


def in_task(method, *args):
    twin = getattr(method.__self__, f"a{method.__name__}")
    return asyncio.run(twin(*args))


@pytest.fixture(params=[in_thread, in_task], ids=["thread", "task"])
def do(request):
    """Calls `send` or `recv`, or `asend` or `arecv` in a loop."""
    return request.param


def rest(rx):
    """What is there."""
    found = []
    while True:
        try:
            found.append(rx.recv(timeout=0))
        except (TimeoutError, raddle.Closed):
            return found


# The interface.


def test_both_kinds_have_the_same_names():
    def names(end):
        return {name for name in dir(end) if not name.startswith("_")}

    for own, shared in zip(raddle.channel(1), raddle.channel(1, shared=True), strict=True):
        assert names(shared) - names(own) == {"statistics"}
        assert names(own) <= names(shared)


def test_shared_channel_is_another_name():
    for ends in (raddle.shared_channel(8), raddle.channel(8, shared=True)):
        assert [type(end) for end in ends] == [raddle.SharedSender, raddle.SharedReceiver]
        assert ends[0].capacity == 8


@pytest.mark.parametrize(
    ("shared", "capacity", "match"), [(True, 0, "at least 1"), (True, None, "bound"), (False, -1, "at least 0")]
)
def test_what_a_channel_does_not_have_is_refused(shared, capacity, match):
    with pytest.raises(ValueError, match=match):
        raddle.channel(capacity, shared=shared)


def test_bad_arguments_are_refused(channel):
    with pytest.raises(TypeError, match="integer, not str"):
        channel("1")
    with pytest.raises(ValueError, match="shared=True"):
        raddle.channel(1, bytes=100)
    with pytest.raises(ValueError, match="bytes must be at least 1"):
        raddle.channel(1, shared=True, bytes=0)
    with pytest.raises(ValueError, match="at most 1048576"):
        raddle.channel(1 << 21, shared=True)
    tx, rx = channel(1)
    tx.send(1)
    for wait in (tx.send, tx.asend):
        with pytest.raises(ValueError, match="nan"):
            asyncio.run(wait(2, float("nan"))) if wait == tx.asend else wait(2, float("nan"))
    rx.recv()
    for wait in (rx.recv, rx.arecv):
        with pytest.raises(TypeError, match=r"number|'str'|float"):
            asyncio.run(wait("1")) if wait == rx.arecv else wait("1")


def test_an_end_that_stays_in_its_process_says_so():
    for end in raddle.channel(1):
        with pytest.raises(TypeError, match="shared=True"):
            pickle.dumps(end)


def test_repr_tells_what_is_in_it(channel):
    tx, rx = channel(8)
    other = tx.clone()
    tx.send(1)
    assert repr(tx).endswith("Sender: 1 of 8 values, 2 senders, 1 receivers>")
    rx.close()
    assert repr(rx).endswith("Receiver: closed, 0 of 8 values, 2 senders, 0 receivers>")
    other.close()


# Values.


def test_values_come_in_order(channel, do):
    tx, rx = channel(3)

    def produce():
        with tx:
            for number in range(300):
                tx.send(number)

    thread = start(produce)
    assert [do(rx.recv) for _ in range(300)] == list(range(300))
    thread.join()


def test_many_to_many_each_value_once(channel):
    tx, rx = channel(2)
    taken = [[] for _ in range(3)]

    def produce(tx, which):
        with tx:
            for number in range(300):
                tx.send((which, number))

    producers = [start(produce, tx.clone(), which) for which in range(3)]
    tx.close()
    consumers = [start(lambda into: into.extend(rx), into) for into in taken]
    for thread in producers + consumers:
        thread.join()
    assert sorted(itertools.chain(*taken)) == [(which, number) for which in range(3) for number in range(300)]
    for into, which in itertools.product(taken, range(3)):
        mine = [number for sender, number in into if sender == which]
        assert mine == sorted(mine)


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_a_full_channel_takes_nothing_and_an_empty_one_gives_nothing(channel, do, timeout):
    tx, rx = channel(2)
    do(tx.send, 1)
    do(tx.send, 2, 5)
    with pytest.raises(TimeoutError, match="nobody took the value in time"):
        do(tx.send, 3, timeout)
    assert (len(tx), len(rx), tx.capacity, rx.capacity) == (2, 2, 2, 2)
    assert [do(rx.recv), do(rx.recv, 1)] == [1, 2]
    with pytest.raises(TimeoutError, match="nothing was sent in time"):
        do(rx.recv, timeout)
    assert (len(rx), bool(rx), bool(tx)) == (0, True, True)


def test_async_iteration_ends_with_the_channel(channel):
    async def main():
        tx, rx = channel(1)

        async def produce():
            with tx:
                for number in range(100):
                    await tx.asend(number)

        producer = asyncio.ensure_future(produce())
        assert [number async for number in rx] == list(range(100))
        await producer

    asyncio.run(main())


def test_threads_and_tasks_share_an_end(channel):
    tx, rx = channel(2)
    taken = []

    async def consume():
        async for value in rx:
            taken.append(value)

    def produce(name):
        for number in range(200):
            tx.send((name, number))

    readers = [start(lambda: taken.extend(rx)), start(lambda: asyncio.run(consume()))]
    writers = [start(produce, name) for name in range(2)]
    for thread in writers:
        thread.join()
    tx.close()
    for thread in readers:
        thread.join()
    assert sorted(taken) == [(name, number) for name in range(2) for number in range(200)]


# The end.


def test_a_channel_ends_with_its_last_sender(channel, do):
    tx, rx = channel(2)
    other = tx.clone()
    tx.close()
    tx.close()
    assert (tx.closed, other.closed) == (True, False)
    do(other.send, "last")
    other.close()
    assert do(rx.recv) == "last"
    for _ in range(2):
        with pytest.raises(raddle.Closed, match="no sender any more, and nothing left") as caught:
            do(rx.recv)
        assert caught.value.source is rx
    assert list(rx) == []
    with pytest.raises(raddle.Closed, match="this sender was closed"):
        do(tx.send, 1)
    with pytest.raises(raddle.Closed):
        tx.clone()


def test_a_channel_ends_with_its_last_receiver(channel, do):
    tx, rx = channel(4)
    other = rx.clone()
    tx.send(1)
    rx.close()
    tx.send(2)
    with other:
        pass
    assert len(tx) == 0, "what nobody will receive is dropped"
    for _ in range(2):
        with pytest.raises(raddle.Closed, match="no receiver any more"):
            do(tx.send, 3)
    with pytest.raises(raddle.Closed, match="this receiver was closed"):
        do(rx.recv)
    assert list(rx) == []


@pytest.mark.parametrize("how", ["close", "forget"])
@pytest.mark.parametrize("side", ["send", "receive"])
def test_who_waits_learns_of_the_end(channel, do, side, how):
    tx, rx = channel(1)
    tx.send(1)
    ended = []

    def wait(end):
        try:
            while True:
                do(*((end.send, 2) if side == "send" else (end.recv,)))
        except raddle.Closed as closed:
            ended.append(closed.source is end)

    ends = {"send": tx, "receive": rx}
    waiting, other = ends.pop(side), ends.popitem()[1]
    thread = start(wait, waiting)
    del ends, waiting
    if do is in_thread:
        waits(thread)
    if how == "close":
        other.close()
    del other
    if side == "send":
        del rx
    else:
        del tx
    gc.collect()
    thread.join(20)
    assert ended == [True]


@pytest.mark.parametrize("side", ["send", "receive"])
def test_who_closes_an_end_wakes_those_who_wait_through_it(channel, do, side):
    tx, rx = channel(1)
    if side == "send":
        tx.send(1)
    ended = []

    def wait():
        with pytest.raises(raddle.Closed, match="was closed"):
            do(*((tx.send, 2) if side == "send" else (rx.recv,)))
        ended.append(True)

    threads = [start(wait) for _ in range(2)]
    if do is in_thread:
        for thread in threads:
            waits(thread)
    (tx if side == "send" else rx).close()
    for thread in threads:
        thread.join(20)
    assert ended == [True, True]


def test_copies_are_clones(channel):
    tx, rx = channel(1)
    for made in (copy.copy(tx), copy.deepcopy(tx), tx.clone()):
        tx.close()
        tx = made
    tx.send(1)
    other = copy.copy(rx)
    rx.close()
    assert other.recv() == 1
    assert type(other) is type(rx)


# Stopping.


@pytest.mark.parametrize("wait", ["recv", "send", "for"])
def test_a_wait_is_stopped_and_leaves_nothing_behind(channel, wait):
    tx, rx = channel(1)
    if wait == "send":
        tx.send("first")
    raised = []

    def run():
        try:
            {"recv": rx.recv, "send": lambda: tx.send("second"), "for": lambda: list(rx)}[wait]()
        except raddle.Stopped as stopped:
            raised.append(stopped.reason)

    thread = start(run)
    waits(thread)
    raddle.stop(thread, "enough")
    thread.join()
    assert raised == ["enough"]
    assert rest(rx) == (["first"] if wait == "send" else [])


def test_tasks_that_are_cancelled_lose_nothing(channel):
    tx, rx = channel(4)
    dice, taken = random.Random(3), []

    async def take():
        while True:
            taken.append(await rx.arecv())

    async def main():
        tasks = [asyncio.ensure_future(take()) for _ in range(3)]
        for number in range(400):
            await tx.asend(number, 20)
            if dice.random() < 0.3:
                which = dice.randrange(3)
                tasks[which].cancel()
                tasks[which] = asyncio.ensure_future(take())
        while len(taken) < 400:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()

    asyncio.run(asyncio.wait_for(main(), 50))
    assert sorted(taken) == list(range(400))


# The choice.


def test_select_does_exactly_one_thing(channel):
    left, right = channel(4), channel(4)
    left[0].send("l")
    right[0].send("r")
    first = raddle.select(left[1], right[1])
    assert first in [(left[1], "l"), (right[1], "r")]
    assert len(left[1]) + len(right[1]) == 1
    case = left[0].sending("x")
    assert raddle.select(case, Event()) == (case, None)
    with pytest.raises(TypeError, match="sending"):
        raddle.select(left[0])


def test_select_on_both_sides_meets_and_loses_nothing(channel):
    left, right = channel(1), channel(1)
    sent, taken = [], []

    def run(name):
        for number in range(150):
            cases = [left[0].sending((name, number)), right[0].sending((name, number)), left[1], right[1]]
            source, value = raddle.select(*cases)
            if value is None:
                sent.append(source.value)
            else:
                taken.append(value)

    threads = [start(run, name) for name in range(3)]
    for thread in threads:
        thread.join()
    taken += rest(left[1]) + rest(right[1])
    assert sorted(taken) == sorted(sent)


def test_a_loop_that_is_closed_keeps_nothing_from_others(channel):
    """A task whose loop is gone stands in line, and is called."""
    tx, rx = channel(1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(rx.arecv())
    loop.run_until_complete(asyncio.sleep(0.01))
    task._log_destroy_pending = False
    loop.close()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(rx.recv(20)))
    thread.start()
    until(lambda: threading.active_count() > 1)
    tx.send("value")
    thread.join()
    assert taken == ["value"]
    del task
