"""The choice among several things of which some are channels between processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest

import raddle
import shared_channel_calls as there
from calls import until
from raddle.threading import Event
from threads import start, waits

pytestmark = pytest.mark.timeout(60)

#: Both kinds of channel, to be mixed.
MAKE = {"shared": raddle.shared_channel, "own": raddle.channel}


def choose_in_thread(*cases, timeout=None):
    return raddle.select(*cases, timeout=timeout)


def choose_in_task(*cases, timeout=None):
    return asyncio.run(raddle.aselect(*cases, timeout=timeout))


@pytest.fixture(params=[choose_in_thread, choose_in_task], ids=["thread", "task"])
def choose(request):
    return request.param


@pytest.fixture
def fork():
    """Starts processes, and leaves none."""
    context, started = multiprocessing.get_context("fork"), []

    def run(target, *args):
        started.append(context.Process(target=target, args=args))
        started[-1].start()
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def later():
    """Does something a moment later."""
    timers = []

    def run(function, *args):
        timers.append(threading.Timer(0.03, function, args))
        timers[-1].start()

    yield run
    for timer in timers:
        timer.join()


# One of several.


def test_what_is_there_is_taken_and_nothing_else(choose):
    left, right, own = raddle.shared_channel(4), raddle.shared_channel(4), raddle.channel(4)
    for name, (tx, _) in zip("lro", (left, right, own), strict=True):
        tx.send(name)
    receivers = [rx for _, rx in (left, right, own)]
    seen = set()
    for number in range(3):
        source, value = choose(*receivers)
        assert value == "lro"[receivers.index(source)]
        seen.add(value)
        assert sum(map(len, receivers)) == 2 - number
    assert seen == set("lro")
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            choose(*receivers, timeout=timeout)


def test_a_shared_channel_wins_against_all_kinds(choose, later):
    tx, rx = raddle.shared_channel(4)
    _open, own = raddle.channel(1)
    offer, _taker = raddle.channel(0)
    future = concurrent.futures.Future()
    later(tx.send, [1, "a"])
    assert choose(own, rx, Event(), future, raddle.every(60), offer.sending(2)) == (rx, [1, "a"])


@pytest.mark.parametrize("what", ["own", "event", "future", "timer", "offer", "other"])
def test_each_kind_wins_against_a_shared_channel(choose, later, what):
    tx, rx = raddle.shared_channel(4)
    own, event, future = raddle.channel(1), Event(), concurrent.futures.Future()
    offer, other = raddle.channel(0), raddle.shared_channel(1)
    case, value, act = {
        "own": (own[1], 1, lambda: own[0].send(1)),
        "event": (event, True, event.set),
        "future": (future, future, lambda: future.set_result(3)),
        "timer": (raddle.after(0.03), None, lambda: None),
        "offer": (offer[0].sending(4), None, lambda: offer[1].recv(10)),
        "other": (other[1], 5, lambda: other[0].send(5)),
    }[what]
    later(act)
    source, got = choose(rx, case)
    assert source is case
    assert what == "timer" or got == value
    tx.send("is still there")
    assert rx.recv(0) == "is still there"


def test_a_value_is_sent_where_there_is_room(choose, later):
    full, room = raddle.shared_channel(1), raddle.shared_channel(1)
    full[0].send(0)
    source, value = choose(full[0].sending("x"), room[0].sending("y"))
    assert (source.value, value) == ("y", None)
    assert (len(full[1]), room[1].recv(0)) == (1, "y")
    later(full[1].recv)
    never = raddle.channel(1)
    assert choose(full[0].sending("z"), never[1]).source.value == "z"
    assert full[1].recv(0) == "z"


def test_a_long_value_waits_for_memory_among_others(choose, later):
    tx, rx = raddle.shared_channel(8, bytes=100_000)
    tx.send(b"a" * 60_000)
    with pytest.raises(TimeoutError):
        choose(tx.sending(b"b" * 60_000), timeout=0.01)
    later(rx.recv)
    choose(tx.sending(b"c" * 60_000), Event(), timeout=30)
    assert rx.recv(0) == b"c" * 60_000
    assert tx.statistics().bytes == 0


def test_what_cannot_be_sent_is_told_before_anything_is_tried(choose):
    tx, rx = raddle.shared_channel(1)
    own, _ = raddle.channel(1)
    with pytest.raises(Exception, match="pickle|local object"):
        choose(own.sending(1), tx.sending(lambda: None))
    assert (len(own), len(rx)) == (0, 0)
    with pytest.raises(TypeError, match="sending"):
        choose(tx)


@pytest.mark.parametrize("ready", [("shared", "own"), ("shared", "shared", "own", "own")])
def test_the_choice_is_fair(ready):
    ends = [MAKE[kind](2000) for kind in ready]
    for tx, _ in ends:
        for number in range(2000):
            tx.send(number)
    receivers = [rx for _, rx in ends]
    chosen = [receivers.index(raddle.select(*receivers).source) for _ in range(2000)]
    even = 2000 / len(ready)
    counts = [chosen.count(which) for which in range(len(ready))]
    assert all(abs(count - even) < 160 for count in counts), counts  # seven standard deviations


# The end.


def test_who_waits_is_told_which_channel_has_ended(choose, later):
    tx, rx = raddle.shared_channel(1)
    _open, own = raddle.channel(1)
    later(tx.close)
    with pytest.raises(raddle.Closed, match="no sender") as caught:
        choose(own, rx)
    assert caught.value.source is rx
    tx, rx = raddle.shared_channel(1)
    tx.send(1)
    case = tx.sending(2)
    later(rx.close)
    with pytest.raises(raddle.Closed, match="no receiver") as caught:
        choose(own, case)
    assert caught.value.source is case


def test_what_was_sent_before_the_end_comes_first(choose):
    tx, rx = raddle.shared_channel(2)
    tx.send(1)
    tx.close()
    assert choose(rx).value == 1
    with pytest.raises(raddle.Closed):
        choose(rx)


def test_who_closes_an_end_wakes_those_who_wait_through_it(choose, later):
    _tx, rx = raddle.shared_channel(1)
    later(rx.close)
    with pytest.raises(raddle.Closed, match="this receiver was closed"):
        choose(rx, raddle.every(60))
    tx, _rx = raddle.shared_channel(1)
    tx.send(1)
    later(tx.close)
    with pytest.raises(raddle.Closed, match="this sender was closed"):
        choose(tx.sending(2), raddle.every(60))


def test_a_killed_process_is_the_end_of_its_channel(choose, later, fork):
    tx, rx = raddle.shared_channel(1)
    process = fork(there.say_where, tx)
    tx.close()
    assert rx.recv(30) == ("ready", process.pid)
    later(process.kill)
    with pytest.raises(raddle.Closed):
        choose(rx, Event(), timeout=30)


def test_a_process_that_comes_while_one_waits_is_watched(choose, fork):
    """It joins when the other has looked who there is, and dies."""
    tx, rx = raddle.shared_channel(1)
    ways, way = raddle.shared_channel(1)
    process = fork(_take_and_die, way)
    way.close()
    threading.Timer(0.05, lambda: (ways.send(tx), tx.close())).start()
    with pytest.raises(raddle.Closed, match="no sender"):
        choose(rx, raddle.every(60), timeout=30)
    process.join()


def _take_and_die(way):
    tx = way.recv(30)
    os.kill(os.getpid(), signal.SIGKILL)
    tx.close()


# Stopping.


@pytest.mark.parametrize("wait", ["recv", "send"])
def test_a_wait_is_stopped_and_leaves_nothing_behind(wait):
    tx, rx = raddle.shared_channel(1)
    _open, own = raddle.channel(1)
    if wait == "send":
        tx.send("first")
    case = rx if wait == "recv" else tx.sending("second")
    raised = []

    def run():
        try:
            raddle.select(case, own)
        except raddle.Stopped as stopped:
            raised.append(stopped.reason)

    thread = start(run)
    waits(thread)
    raddle.stop(thread, "enough")
    thread.join()
    assert raised == ["enough"]
    tx.close()
    assert list(rx) == (["first"] if wait == "send" else [])


@pytest.mark.parametrize("wait", ["raddle.select(rx, own)", "asyncio.run(raddle.aselect(rx, own))", "rx.recv()"])
def test_ctrl_c_ends_a_wait(script, wait):
    ended = script(
        f"""
        import asyncio, os, signal, threading, raddle
        tx, rx = raddle.shared_channel(1)
        open, own = raddle.channel(1)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            {wait}
        except KeyboardInterrupt:
            tx.send(1)
            print("interrupted", rx.recv(0))
        """
    ).run()
    assert (ended.out, ended.err, ended.code) == ("interrupted 1\n", "", 0)


def test_a_wait_for_another_process_is_no_deadlock(script):
    ended = script(
        """
        import raddle
        raddle.on_deadlock = "raise"
        tx, rx = raddle.shared_channel(1)
        open, own = raddle.channel(1)
        try:
            raddle.select(rx, own, timeout=0.1)
        except TimeoutError:
            print("no deadlock")
        """
    ).run()
    assert (ended.out, ended.err) == ("no deadlock\n", "")


def test_tasks_that_are_cancelled_at_any_moment_lose_nothing():
    tx, rx = raddle.shared_channel(4)
    own_tx, own = raddle.channel(4)
    dice, taken = random.Random(7), []

    async def take():
        while True:
            taken.append((await raddle.aselect(rx, own)).value)

    async def main():
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(take()) for _ in range(3)]
        for number in range(600):
            await (tx if number % 2 else own_tx).asend(number, 20)
            if dice.random() < 0.3:
                which = dice.randrange(3)
                tasks[which].cancel()
                tasks[which] = loop.create_task(take())
        while len(taken) < 600:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()

    asyncio.run(asyncio.wait_for(main(), 50))
    assert sorted(taken) == list(range(600))


# Nothing is lost, nothing comes twice.


def test_what_another_choice_leaves_goes_to_another_process(fork):
    """Here something else happens at the moment of the message: who sleeps in the other process must get it."""
    tx, rx = raddle.shared_channel(1)
    back, results = raddle.shared_channel(64)
    fork(there.echo, rx.clone(), back)
    own_tx, own = raddle.channel(1)
    here = []

    def choose():
        while True:
            try:
                source, value = raddle.select(rx, own)
            except raddle.Closed:
                return
            if source is rx:
                here.append(value)

    thread = start(choose)
    got = []
    for number in range(400):
        if number % 2:
            own_tx.send(None)
            tx.send(number)
        else:
            tx.send(number)
            own_tx.send(None)
        until(lambda: len(here) + len(got) > number or _drain(results, got), "the message arrives")
    tx.close()
    thread.join()
    assert sorted(here + got) == list(range(400))


def _drain(results, got):
    try:
        got.append(results.recv(timeout=0))
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_of_threads_tasks_and_processes_loses_nothing_and_doubles_nothing(seed, fork):
    dice = random.Random(seed)
    shared = [raddle.shared_channel(dice.choice([1, 2, 8])) for _ in range(2)]
    own = [raddle.channel(dice.choice([0, 1, 8])) for _ in range(2)]
    ends = shared + own
    receivers = [rx for _, rx in ends]
    back, results = raddle.shared_channel(64)
    sent, taken = [], []

    producers = [fork(there.produce, tx.clone(), f"process {number}", 150) for number, (tx, _) in enumerate(shared)]
    consumer = fork(there.consume, shared[0][1].clone(), back)
    back.close()

    def produce(name):
        random_ = random.Random(f"{seed} {name}")
        for number in range(150):
            value = (name, number if number % 10 else str(number) * 100)
            cases = [tx.sending(value) for tx, _ in random_.sample(ends, random_.randint(1, 4))]
            try:
                raddle.select(*cases, timeout=random_.choice([None, None, 0.001]))
            except TimeoutError:
                continue
            sent.append(value)

    def consume(name):
        random_ = random.Random(f"{seed} {name}")
        mine = list(receivers)
        while mine:
            some = random_.sample(mine, random_.randint(1, len(mine)))
            try:
                taken.append(raddle.select(*some, timeout=random_.choice([0.001, 0.01])).value)
            except TimeoutError:
                pass
            except raddle.Closed as closed:
                mine.remove(closed.source)

    async def aconsume():
        random_ = random.Random(f"{seed} task")
        mine = list(receivers)
        while mine:
            some = random_.sample(mine, random_.randint(1, len(mine)))
            try:
                taken.append((await raddle.aselect(*some, timeout=random_.choice([0.001, 0.01]))).value)
            except TimeoutError:
                pass
            except raddle.Closed as closed:
                mine.remove(closed.source)

    async def several():
        await asyncio.gather(aconsume(), aconsume())

    writers = [start(produce, f"thread {number}") for number in range(2)]
    readers = [start(consume, f"thread {number}") for number in range(2)]
    readers.append(start(lambda: asyncio.run(several())))
    for thread in writers:
        thread.join()
    for process in producers:
        process.join()
    for tx, _ in ends:
        tx.close()
    for thread in readers:
        thread.join()
    pid, elsewhere = results.recv(30)
    assert pid == consumer.pid
    expected = sent + [(f"process {number}", count) for number in range(2) for count in range(150)]
    assert len(sent) > 100
    assert sorted(map(repr, taken + elsewhere)) == sorted(map(repr, expected))


@pytest.mark.parametrize("is_task", [False, True], ids=["thread", "task"])
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_that_chooses_takes_one_message_with_it_at_most(seed, is_task, fork, tmp_path):
    dice = random.Random(seed)
    tx, rx = raddle.shared_channel(4)
    logs = [tmp_path / str(number) for number in range(3)]
    processes = [fork(_choose_and_note, rx, str(log), is_task) for log in logs]
    number = 0
    for log, process in zip(logs, processes, strict=True):
        until(log.exists)
        for _ in range(dice.randrange(1, 300)):
            tx.send(number, timeout=30)
            number += 1
        process.kill()
    for process in processes:
        process.join()
    left = []
    tx.close()
    with pytest.raises(raddle.Closed):
        while True:
            left.append(raddle.select(rx, Event(), timeout=30).value)
    seen = sorted([int(line) for log in logs for line in log.read_text().split()] + left)
    assert len(seen) == len(set(seen)), "none came twice"
    assert number - len(processes) <= len(seen) <= number


def _choose_and_note(rx, path, is_task):
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    never = Event()

    async def atake():
        while True:
            os.write(log, f"{(await raddle.aselect(rx, never)).value}\n".encode())

    if is_task:
        asyncio.run(atake())
    while True:
        os.write(log, f"{raddle.select(rx, never).value}\n".encode())


def test_a_forked_child_chooses_on_its_own(fork):
    """The thread that listens for its parent is not there."""
    tx, rx = raddle.shared_channel(1)
    back, results = raddle.shared_channel(4)
    event = Event()
    waiting = start(lambda: raddle.select(rx, event))
    waits(waiting)
    fork(_choose_one, rx.clone(), back)
    event.set()
    waiting.join()
    rx.close()
    tx.send("for the child", timeout=10)
    assert results.recv(30) == "for the child"


def _choose_one(rx, back):
    back.send(raddle.select(rx, Event(), timeout=20).value)


# Who listens.


def listeners():
    tasks = os.listdir("/proc/self/task")
    names = []
    for task in tasks:
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(comm.read().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return names.count("raddle-ear")


def test_the_thread_that_listens_goes_with_the_channel():
    before = listeners()
    ends = [raddle.shared_channel(1) for _ in range(3)]
    with pytest.raises(TimeoutError):
        raddle.select(*(rx for _, rx in ends), timeout=0.01)
    until(lambda: listeners() == before + 3, "they have their names")
    with pytest.raises(TimeoutError):
        raddle.select(*(rx for _, rx in ends), timeout=0.01)
    assert listeners() == before + 3, "they are used again"
    del ends
    until(lambda: listeners() == before, "they have gone")


def test_nobody_runs_while_nothing_happens():
    """Who listens does not poll."""
    _tx, rx = raddle.shared_channel(1)
    _open, own = raddle.channel(1)
    over = Event()
    threads = [start(lambda: raddle.select(rx, own, over)) for _ in range(2)]
    for thread in threads:
        waits(thread)
    time.sleep(0.2)
    switches = _switches()
    time.sleep(0.3)
    woken = {name: count - switches.get(name, 0) for name, count in _switches().items()}
    over.set()
    for thread in threads:
        thread.join()
    ears = [count for (name, _), count in woken.items() if name == "raddle-ear"]
    assert ears
    assert not any(ears), woken


def _switches():
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/status") as status:
                lines = dict(line.split(":\t", 1) for line in status.read().splitlines() if ":\t" in line)
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[lines["Name"], task] = int(lines["voluntary_ctxt_switches"])
    return found


def test_messages_that_come_while_the_interpreter_ends_are_no_trouble(script):
    for _ in range(5):
        ended = script(
            """
            import asyncio, multiprocessing, threading, time, raddle

            async def take(rx):
                async for _ in rx:
                    pass

            def send(tx):
                try:
                    while True:
                        tx.send(1)
                        time.sleep(0.0001)
                except raddle.Closed:
                    pass

            for _ in range(2):
                tx, rx = raddle.shared_channel(1)
                threading.Thread(target=lambda rx: asyncio.run(take(rx)), args=(rx,), daemon=True).start()
                multiprocessing.get_context("fork").Process(target=send, args=(tx,), daemon=True).start()
            time.sleep(0.1)
            """
        ).run()
        assert (ended.err, ended.code) == ("", 0)
