"""Channels, broadcasts, watches, and the choice among several things, in threads and in tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import os
import pickle
import random
import signal
import threading
import time
import weakref

import pytest

import raddle
from raddle.threading import Event
from threads import start, waits

pytestmark = pytest.mark.timeout(60)

CAPACITIES = [0, 1, 3, None]


@pytest.fixture(params=CAPACITIES, ids=lambda capacity: f"capacity-{capacity}")
def capacity(request):
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# What is sent is received: once each, in order.


def test_values_come_in_the_order_of_their_sender(capacity):
    tx, rx = raddle.channel(capacity)

    def produce():
        with tx:
            for number in range(2000):
                tx.send(number)

    thread = start(produce)
    assert list(rx) == list(range(2000))
    thread.join()


def test_values_of_many_go_to_many_once_each(capacity):
    tx, rx = raddle.channel(capacity)
    taken = [[] for _ in range(3)]

    def produce(tx, which):
        with tx:
            for number in range(500):
                tx.send((which, number))

    producers = [start(produce, tx.clone(), which) for which in range(3)]
    tx.close()
    consumers = [start(lambda into: into.extend(rx), into) for into in taken]
    for thread in producers + consumers:
        thread.join()
    assert sorted(itertools.chain(*taken)) == [(which, number) for which in range(3) for number in range(500)]
    for into in taken:  # what a receiver gets of one sender, it gets in order
        for which in range(3):
            mine = [number for sender, number in into if sender == which]
            assert mine == sorted(mine)


def test_a_full_channel_takes_nothing_and_an_empty_one_gives_nothing():
    tx, rx = raddle.channel(2)
    tx.send(1)
    tx.send(2)
    with pytest.raises(TimeoutError):
        tx.send(3, timeout=0)
    with pytest.raises(TimeoutError):
        tx.send(3, 0.01)
    assert (len(tx), len(rx), tx.capacity) == (2, 2, 2)
    assert [rx.recv(), rx.recv(timeout=1)] == [1, 2]
    with pytest.raises(TimeoutError):
        rx.recv(timeout=0)
    with pytest.raises(TimeoutError):
        rx.recv(0.01)
    assert not len(rx)
    assert rx  # an empty channel is still a channel
    assert tx


def test_a_rendezvous_returns_when_the_value_has_been_taken():
    tx, rx = raddle.channel(0)
    told = []

    def produce():
        tx.send("value")
        told.append("sent")

    thread = start(produce)
    waits(thread)
    assert told == []
    assert len(rx) == 0
    assert rx.recv() == "value"
    thread.join()
    assert told == ["sent"]


def test_an_offer_that_was_not_taken_in_time_is_not_there_any_more():
    tx, rx = raddle.channel(0)
    with pytest.raises(TimeoutError):
        tx.send("late", 0.02)
    with pytest.raises(TimeoutError):
        rx.recv(0.02)


# The end.


def test_a_channel_ends_with_its_last_sender(capacity):
    tx, rx = raddle.channel(capacity)
    other = tx.clone()
    tx.close()
    tx.close()
    assert tx.closed
    assert not other.closed
    thread = start(other.send, "last")
    assert rx.recv() == "last"
    thread.join()
    waiting = start(list, rx)
    waits(waiting)
    other.close()
    waiting.join()
    with pytest.raises(raddle.Closed, match="no sender"):
        rx.recv()
    with pytest.raises(raddle.Closed, match="this sender was closed"):
        tx.send(1)
    with pytest.raises(raddle.Closed):
        tx.clone()


def test_what_is_in_a_channel_outlives_its_senders():
    tx, rx = raddle.channel(None)
    tx.send(1)
    tx.send(2)
    del tx
    gc.collect()
    assert list(rx) == [1, 2]


@pytest.mark.parametrize("how", ["close", "forget"])
def test_without_receivers_nothing_is_sent(capacity, how):
    tx, rx = raddle.channel(capacity)
    raised = []

    def produce():
        try:
            while True:
                tx.send(object())
        except raddle.Closed as closed:
            raised.append(str(closed))

    if capacity is not None:
        thread = start(produce)
        waits(thread)
    if how == "close":
        rx.close()
    else:
        del rx
    if capacity is not None:
        thread.join()
        assert raised == ["there is no receiver any more"]
    with pytest.raises(raddle.Closed, match="no receiver"):
        tx.send(1)
    assert len(tx) == 0


def test_what_nobody_received_is_dropped_with_the_last_receiver():
    class Value:
        pass

    tx, rx = raddle.channel(None)
    value = Value()
    seen = weakref.ref(value)
    tx.send(value)
    del value
    rx.close()
    assert seen() is None


def test_a_channel_that_holds_its_own_ends_is_collected():
    class Value:
        pass

    tx, rx = raddle.channel(None)
    value = Value()
    value.ends = (tx, rx)
    seen = weakref.ref(value)
    tx.send(value)
    del tx, rx, value
    gc.collect()
    assert seen() is None


def test_a_receiver_that_is_closed_by_another_thread_wakes_who_waits(capacity):
    _tx, rx = raddle.channel(capacity)
    thread = start(list, rx)
    waits(thread)
    rx.close()
    thread.join()


# One value, all values, the latest value.


def test_oneshot_takes_one_value():
    tx, rx = raddle.oneshot()
    waiting = start(list, rx)
    waits(waiting)
    tx.send(42)
    waiting.join()
    with pytest.raises(raddle.Closed, match="was sent"):
        tx.send(43)
    tx, rx = raddle.oneshot()
    tx.send(1)
    assert rx.recv() == 1
    with pytest.raises(raddle.Closed):
        rx.recv()


def test_a_oneshot_whose_sender_is_gone_ends():
    tx, rx = raddle.oneshot()
    del tx
    with pytest.raises(raddle.Closed):
        rx.recv()


def test_every_receiver_of_a_broadcast_gets_everything():
    tx = raddle.broadcast(4)
    tx.send("nobody hears it")
    taken = [[] for _ in range(3)]
    threads = [start(lambda rx, into: into.extend(rx), tx.subscribe(), into) for into in taken]
    for number in range(500):
        tx.send(number)
    tx.close()
    for thread in threads:
        thread.join()
    assert taken == [list(range(500))] * 3


def test_the_slowest_receiver_of_a_broadcast_holds_the_sender_back():
    tx = raddle.broadcast(2)
    fast, slow = tx.subscribe(), tx.subscribe()
    tx.send(1)
    tx.send(2)
    assert [fast.recv(), fast.recv()] == [1, 2]
    with pytest.raises(TimeoutError):
        tx.send(3, timeout=0)
    assert (len(slow), len(fast)) == (2, 0)
    waiting = start(tx.send, 3)
    waits(waiting)
    slow.close()
    waiting.join()
    assert fast.recv() == 3


def test_a_broadcast_that_overwrites_tells_how_many_were_missed():
    tx = raddle.broadcast(3, overwrite=True)
    rx = tx.subscribe()
    for number in range(10):
        tx.send(number)
    with pytest.raises(raddle.Lagged, match="7 values") as caught:
        rx.recv()
    assert caught.value.missed == 7
    late = rx.clone()
    assert [rx.recv(), rx.recv(), rx.recv()] == [7, 8, 9]
    assert late.recv() == 7


def test_a_watch_shows_the_latest_value_once():
    tx, rx = raddle.watch("a")
    assert rx.latest() == "a"
    with pytest.raises(TimeoutError):
        rx.recv(timeout=0)
    other = rx.clone()
    tx.send("b")
    tx.send("c")
    assert rx.recv() == "c"
    with pytest.raises(TimeoutError):
        rx.recv(timeout=0)
    assert other.recv() == "c"
    waiting = start(rx.recv)
    waits(waiting)
    tx.send("d")
    waiting.join()
    tx.send("e")
    tx.close()
    assert list(rx) == ["e"]
    assert rx.latest() == "e"


# The choice.


def test_select_does_exactly_one_thing():
    left, right = raddle.channel(4), raddle.channel(4)
    left[0].send("l")
    right[0].send("r")
    first = raddle.select(left[1], right[1])
    assert first in [(left[1], "l"), (right[1], "r")]
    assert len(left[1]) + len(right[1]) == 1
    second = raddle.select(left[1], right[1], timeout=5)
    assert {first.value, second.value} == {"l", "r"}
    with pytest.raises(TimeoutError):
        raddle.select(left[1], right[1], timeout=0)
    with pytest.raises(TimeoutError):
        raddle.select(left[1], right[1], timeout=0.01)


def test_select_is_fair():
    ends = [raddle.channel(None) for _ in range(4)]
    for tx, _ in ends:
        for number in range(1000):
            tx.send(number)
    receivers = [rx for _, rx in ends]
    chosen = [receivers.index(raddle.select(*receivers).source) for _ in range(1000)]
    counts = [chosen.count(which) for which in range(4)]
    assert min(counts) > 150, counts  # 250 each would be even; less than this comes once in 10**13


def test_select_sends_where_there_is_room():
    full, free = raddle.channel(1), raddle.channel(1)
    full[0].send("old")
    choice = full[0].sending("new"), free[0].sending("new")
    assert raddle.select(*choice) == (choice[1], None)
    assert free[1].recv() == "new"
    assert full[1].recv() == "old"


@pytest.mark.parametrize("capacity", [0, 1])
def test_select_on_both_sides_meets_and_loses_nothing(capacity):
    there, back = raddle.channel(capacity), raddle.channel(capacity)
    sent, received = [], []
    rounds = 2000

    def play(name, out, into):
        for number in range(rounds):
            found = raddle.select(out.sending((name, number)), into)
            if found.source is into:
                received.append(found.value)
            else:
                sent.append((name, number))

    thread = start(play, "one", there[0], back[1])
    play("two", back[0], there[1])
    thread.join()
    for _, rx in (there, back):
        while len(rx):
            received.append(rx.recv())
    assert sorted(sent) == sorted(received)


def test_select_waits_for_timers_events_and_futures():
    _tx, rx = raddle.channel(1)
    timer = raddle.after(0.01)
    found = raddle.select(rx, timer)
    assert found.source is timer
    assert 0 <= found.value < 20
    with pytest.raises(TimeoutError):
        raddle.select(rx, timer, timeout=0.01)  # it is over
    event = Event()
    setter = threading.Timer(0.01, event.set)
    setter.start()
    assert raddle.select(rx, event) == (event, True)
    setter.join()
    with raddle.Pool("thread", workers=1) as pool, concurrent.futures.ThreadPoolExecutor(1) as executor:
        for submit in (pool.submit, executor.submit):
            future = submit(time.sleep, 0.02)
            assert raddle.select(rx, future) == (future, future)
            assert raddle.select(rx, future) == (future, future)


def test_select_forgets_a_future():
    future = concurrent.futures.Future()
    _tx, rx = raddle.channel(1)
    for _ in range(50):
        with pytest.raises(TimeoutError):
            raddle.select(rx, future, timeout=0)
    assert len(future._done_callbacks) == 1
    seen = weakref.ref(future)
    del future
    gc.collect()
    assert seen() is None


def test_select_tells_which_channel_has_ended():
    ends = [raddle.channel(0) for _ in range(3)]
    told = []

    def wait():
        receivers = [rx for _, rx in ends]
        while receivers:
            try:
                told.append(raddle.select(*receivers).value)
            except raddle.Closed as closed:
                receivers.remove(closed.source)
                told.append(ends.index(next(pair for pair in ends if pair[1] is closed.source)))

    waiting = start(wait)
    waits(waiting)
    ends[1][0].close()
    ends[2][0].send("value")
    ends[0][0].close()
    ends[2][0].close()
    waiting.join()
    assert sorted(told, key=str) == [0, 1, 2, "value"]
    assert told.index("value") < told.index(2)  # what was sent comes before the end


def test_select_with_a_timer_that_is_over_waits_for_the_rest():
    timer = raddle.after(0)
    assert raddle.select(timer).source is timer
    tx, rx = raddle.channel(1)
    tx.send(1)
    assert raddle.select(timer, rx).value == 1
    with pytest.raises(raddle.Closed, match="all moments have passed") as caught:
        raddle.select(timer)
    assert caught.value.source is None


def test_select_tells_that_nobody_will_take_a_value():
    tx, rx = raddle.channel(1)
    _other, more = raddle.channel(1)
    rx.close()
    case = tx.sending(1)
    with pytest.raises(raddle.Closed, match="no receiver") as caught:
        raddle.select(more, case)
    assert caught.value.source is case
    assert str(pickle.loads(pickle.dumps(caught.value))) == "there is no receiver any more"


def test_what_cannot_be_selected_is_named():
    tx, rx = raddle.channel(1)
    with pytest.raises(ValueError, match="at least one"):
        raddle.select()
    with pytest.raises(TypeError, match=r"tx\.sending"):
        raddle.select(rx, tx)
    with pytest.raises(TypeError, match="cannot wait for int"):
        raddle.select(rx, 5)


def test_ticks_that_were_missed_are_left_out():
    ticks = raddle.every(0.02)
    time.sleep(0.09)
    assert next(ticks) >= 0
    assert ticks.remaining <= 0.02
    assert len(list(itertools.islice(ticks, 2))) == 2
    with pytest.raises(StopIteration):
        once = raddle.after(0)
        assert next(once) >= 0
        next(once)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: raddle.channel(-1), ValueError, "at least 0, not -1"),
        (lambda: raddle.channel(1.5), TypeError, "integer, not float"),
        (lambda: raddle.channel("2"), TypeError, "integer, not str"),
        (lambda: raddle.broadcast(0), ValueError, "at least 1"),
        (lambda: raddle.after(-1), ValueError, "from 0 on, not -1"),
        (lambda: raddle.after(float("nan")), ValueError, "from 0 on"),
        (lambda: raddle.after("soon"), TypeError, "must be a number"),
        (lambda: raddle.every(0), ValueError, "more than 0"),
        (raddle.watch(1)[0].sending, TypeError, "value"),
        (lambda: raddle.every(9) and raddle.select(raddle.after(9), timeout="1"), TypeError, "timeout"),
    ],
)
def test_bad_input_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


# Stopping.


@pytest.mark.parametrize("wait", ["recv", "send", "offer", "select"])
def test_a_wait_is_stopped_and_leaves_nothing_behind(wait):
    tx, rx = raddle.channel(0 if wait == "offer" else 1)
    other = raddle.channel(0)
    if wait == "send":
        tx.send("first")
    waits_for = {
        "recv": rx.recv,
        "send": lambda: tx.send("second"),
        "offer": lambda: tx.send("second"),
        "select": lambda: raddle.select(rx, other[0].sending("second"), other[1]),  # it does not meet itself
    }[wait]
    raised = []

    def run():
        try:
            waits_for()
        except raddle.Stopped as stopped:
            raised.append(stopped.reason)

    thread = start(run)
    waits(thread)
    raddle.stop(thread, "enough")
    thread.join()
    assert raised == ["enough"]
    left = []
    while True:
        try:
            left.append(raddle.select(rx, other[1], timeout=0).value)
        except TimeoutError:
            break
    assert left == (["first"] if wait == "send" else [])


def test_receivers_that_are_stopped_at_any_moment_lose_nothing():
    tx, rx = raddle.channel(0)
    taken = []
    over = Event()

    def consume():
        while not over.is_set():
            try:
                taken.append(rx.recv(0.05))
            except TimeoutError:
                continue
            except raddle.Stopped:
                continue

    consumers = [start(consume) for _ in range(2)]
    dice = random.Random(5)

    def disturb():
        while not over.is_set():
            raddle.stop(dice.choice(consumers))
            time.sleep(0.0005)

    disturber = start(disturb)
    for number in range(1000):
        tx.send(number)
    over.set()
    for thread in [disturber, *consumers]:
        thread.join()
    assert sorted(taken) == list(range(1000))


SELECTS = """
import os, signal, threading, raddle
tx, rx = raddle.channel(0)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {wait}
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("wait", ["rx.recv()", "tx.send(1)", "raddle.select(rx, raddle.every(60))", "list(rx)"])
def test_ctrl_c_ends_a_wait(script, wait):
    ended = script(SELECTS.format(wait=wait)).run()
    assert (ended.out, ended.err, ended.code) == ("interrupted\n", "", 0)


def test_everybody_asleep_at_a_channel_is_reported(script):
    ended = script(
        """
        import raddle
        raddle.on_deadlock = "raise"
        tx, rx = raddle.channel(1)
        try:
            rx.recv()
        except raddle.DeadlockError as error:
            print("an item in a channel" in str(error))
        tx.send(1)
        print(raddle.select(rx).value)
        """
    ).run()
    assert (ended.out, ended.err) == ("True\n1\n", "")


def test_a_forked_child_may_use_its_copy():
    tx, rx = raddle.channel(4)
    waiting = start(rx.recv)
    waits(waiting)
    child = os.fork()
    if child == 0:
        try:
            tx.send("mine")
            os._exit(0 if rx.recv(timeout=5) == "mine" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    tx.send("ours")
    waiting.join()


# Tasks.


def test_tasks_send_and_receive(capacity):
    async def main():
        tx, rx = raddle.channel(capacity)

        async def produce(tx, which):
            with tx:
                for number in range(100):
                    await tx.asend((which, number))

        producers = [asyncio.create_task(produce(tx.clone(), which)) for which in range(3)]
        tx.close()
        taken = [value async for value in rx]
        for producer in producers:
            await producer
        assert sorted(taken) == [(which, number) for which in range(3) for number in range(100)]

    asyncio.run(main())


def test_threads_and_tasks_share_a_channel(capacity):
    tx, rx = raddle.channel(capacity)
    back = raddle.channel(None)

    def produce():
        with tx:
            for number in range(300):
                tx.send(number)

    def collect():
        return list(back[1])

    async def main():
        async for value in rx:
            await back[0].asend(value * 2)
        back[0].close()

    thread = start(produce)
    with raddle.Pool("thread", workers=1) as pool:
        future = pool.submit(collect)
        asyncio.run(main())
        assert future.result() == [number * 2 for number in range(300)]
    thread.join()


def test_the_loop_goes_on_while_a_task_waits():
    async def main():
        tx, rx = raddle.channel(0)
        task = asyncio.create_task(rx.arecv())
        for _ in range(3):
            await asyncio.sleep(0.001)
        assert not task.done()
        await tx.asend("value")
        assert await task == "value"

    asyncio.run(main())


def test_a_task_that_is_cancelled_leaves_nothing_behind():
    async def main():
        tx, rx = raddle.channel(0)
        sending = asyncio.create_task(tx.asend("lost"))
        await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0)
        receiving = asyncio.create_task(rx.arecv())
        await asyncio.sleep(0.01)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        other = asyncio.create_task(rx.arecv())
        await asyncio.sleep(0)
        await tx.asend("kept")
        assert await other == "kept"

    asyncio.run(main())


def test_a_task_that_is_cancelled_when_its_value_is_there_leaves_it_to_the_next():
    async def main():
        tx, rx = raddle.channel(1)
        first, second = asyncio.create_task(rx.arecv()), asyncio.create_task(rx.arecv())
        await asyncio.sleep(0.01)
        tx.send("value")
        first.cancel()
        done, _ = await asyncio.wait([first, second], timeout=10)
        assert len(done) == 2
        assert second.result() == "value"

    asyncio.run(main())


def test_tasks_wait_no_longer_than_they_want():
    async def main():
        tx, rx = raddle.channel(0)
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError):
                await rx.arecv(timeout)
            with pytest.raises(TimeoutError):
                await tx.asend(1, timeout)
            with pytest.raises(TimeoutError):
                await raddle.aselect(rx, tx.sending(1), timeout=timeout)
        async with asyncio.timeout(5):
            timer = raddle.after(0.01)
            assert (await raddle.aselect(rx, timer)).source is timer
            assert len([late async for late in raddle.after(0.01)]) == 1
        tx.close()
        with pytest.raises(raddle.Closed):
            await rx.arecv()
        with pytest.raises(ValueError, match="at least one"):
            await raddle.aselect()

    asyncio.run(main())


def test_a_loop_that_is_closed_is_no_trouble_for_who_sends():
    tx, rx = raddle.channel(1)

    async def main():
        task = asyncio.create_task(rx.arecv())
        await asyncio.sleep(0.01)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(main())
    task._log_destroy_pending = False
    loop.close()
    tx.send("value")  # its bell rings in vain
    del task
    gc.collect()
    assert rx.recv(timeout=10) == "value"


# Many of all, at random.


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_loses_nothing_and_doubles_nothing(seed):
    dice = random.Random(seed)
    ends = [raddle.channel(dice.choice(CAPACITIES)) for _ in range(3)]
    receivers = [rx for _, rx in ends]
    sent, taken = [], []

    def produce(name, tries):
        random_ = random.Random(name)
        for number in range(tries):
            value = (name, number)
            cases = [tx.sending(value) for tx, _ in random_.sample(ends, random_.randint(1, 3))]
            try:
                raddle.select(*cases, timeout=random_.choice([None, None, 0.001]))
            except TimeoutError:
                continue
            sent.append(value)

    def consume(name):
        random_ = random.Random(-name)
        mine = list(receivers)
        while mine:
            some = random_.sample(mine, random_.randint(1, len(mine)))
            try:
                taken.append(raddle.select(*some, timeout=random_.choice([0.001, 0.01])).value)
            except TimeoutError:
                pass
            except raddle.Closed as closed:
                mine.remove(closed.source)

    producers = [start(produce, name, 150) for name in range(1, 4)]
    consumers = [start(consume, name) for name in range(1, 4)]
    for thread in producers:
        thread.join()
    for tx, _ in ends:
        tx.close()
    for thread in consumers:
        thread.join()
    assert len(sent) > 100
    assert sorted(taken) == sorted(sent)


def test_repr_tells_what_is_in_it():
    tx, rx = raddle.channel(8)
    tx.send(1)
    assert repr(tx) == "<raddle.Sender: 1 of 8 values, 1 senders, 1 receivers>"
    rx.close()
    assert repr(rx) == "<raddle.Receiver: closed, 0 of 8 values, 1 senders, 0 receivers>"
    assert repr(raddle.broadcast(2)).startswith("<raddle.BroadcastSender: 0 of 2 values")
    assert repr(raddle.watch(1)[1]).startswith("<raddle.WatchReceiver: ")
    assert repr(raddle.after(100)).startswith("<raddle.Timer: due in ")


def test_an_interrupted_select_is_told_by_its_signal():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        _tx, rx = raddle.channel(0)
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(TimeoutError):
            raddle.select(rx, timeout=0.3)
        timer.join()
        assert seen == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)
