"""`raddle.shared_channel`: objects between processes, in order and once, whoever is killed."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import os
import pickle
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import raddle
import raddle.futures
import raddle.threading
import shared_channel_calls as there
from calls import until

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def context(request):
    return multiprocessing.get_context(request.param)


@pytest.fixture
def ends():
    sender, receiver = raddle.shared_channel(8)
    yield sender, receiver
    sender.close()
    receiver.close()


def started(context, target, *args):
    process = context.Process(target=target, args=args)
    process.start()
    return process


def in_order(pairs):
    """The numbers by name, after a look whether each name's are in order."""
    by_name = {}
    for name, number in pairs:
        numbers = by_name.setdefault(name, [])
        assert not numbers or numbers[-1] < number, f"{number} of {name} after {numbers[-1]}"
        numbers.append(number)
    return by_name


def waits(units=None):
    """What the threads of this process wait for."""
    found = []
    for unit in raddle.units() if units is None else units:
        found += [unit.life.waits_for] * (unit.life.waits_for is not None) + waits(unit.children)
    return found


def waits_in_a_channel():
    return any("shared channel" in what for what in waits())


# --- in one process --------------------------------------------------------------------------------------------------


VALUES = [0, -1, 2**70, 1.5, None, True, "x", "y" * 200, b"z" * 100_000, ("a", (1, None)), [1, [2]], {"k": {1, 2}}, 1j]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_sent_is_received(ends, value):
    sender, receiver = ends
    sender.send(value)
    received = receiver.recv()
    assert received == value
    assert type(received) is type(value)


@pytest.mark.parametrize("size", [0, 80, 111, 112, 113, 4096, 8191, 8192, 300_000])
def test_bytes_of_every_size_arrive_whole(ends, size):
    sender, receiver = ends
    for value in (os.urandom(size), bytearray(os.urandom(size)), pickle.PickleBuffer(bytearray(size))):
        sender.send(value)
        assert bytes(receiver.recv()) == bytes(value)


def test_the_number_of_objects_is_bounded(ends):
    sender, receiver = ends
    for number in range(8):
        sender.send(number, timeout=0)
    assert (len(sender), len(receiver), sender.capacity) == (8, 8, 8)
    with pytest.raises(TimeoutError, match="in time"):
        sender.send(8, timeout=0)
    with pytest.raises(TimeoutError, match="in time"):
        sender.send(8, timeout=0.01)
    assert [receiver.recv() for _ in range(8)] == list(range(8))
    with pytest.raises(TimeoutError, match="in time"):
        receiver.recv(timeout=0)
    with pytest.raises(TimeoutError, match="in time"):
        receiver.recv(0.01)


def test_the_number_of_bytes_is_bounded():
    sender, receiver = raddle.shared_channel(8, bytes=100_000)
    sender.send(b"a" * 60_000)
    with pytest.raises(TimeoutError, match="in time"):
        sender.send(b"b" * 60_000, timeout=0)
    with pytest.raises(TimeoutError, match="in time"):
        sender.send(b"b" * 60_000, timeout=0.01)
    sender.send("short ones always pass", timeout=0)
    with pytest.raises(ValueError, match="larger bytes="):
        sender.send(b"c" * 100_001)
    waiting = threading.Thread(target=sender.send, args=(b"d" * 60_000,))
    waiting.start()
    until(waits_in_a_channel)
    assert len(receiver.recv()) == 60_000
    waiting.join()
    assert receiver.recv() == "short ones always pass"
    assert receiver.recv()[:1] == b"d"
    assert receiver.statistics() == raddle._shared_channel.ChannelStatistics(3, 3, 0, 0, 1, 1)


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"capacity": -1}, {"bytes": 0}])
def test_a_channel_for_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        raddle.shared_channel(**wrong)


def test_what_cannot_be_pickled_is_refused_and_nothing_is_sent(ends):
    sender, receiver = ends
    with pytest.raises(Exception, match="pickle"):
        sender.send(lambda: None)
    sender.send(1)
    assert receiver.recv() == 1


def test_a_closed_end_refuses_and_the_other_side_learns_of_it(ends):
    sender, receiver = ends
    second = sender.clone()
    sender.send(1)
    sender.close()
    sender.close()
    assert sender.closed
    with pytest.raises(raddle.Closed, match="was closed"):
        sender.send(2)
    second.send(3)
    with second:
        pass
    assert (receiver.recv(), receiver.recv()) == (1, 3)
    with pytest.raises(raddle.Closed, match="no sender"):
        receiver.recv()
    assert list(receiver) == []
    receiver.close()
    with pytest.raises(raddle.Closed, match="was closed"):
        receiver.recv(0)


def test_a_sender_without_receivers_is_told(ends):
    sender, receiver = ends
    receiver.close()
    with pytest.raises(raddle.Closed, match="no receiver"):
        sender.send(1)


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_who_waits_is_woken_by_the_end_of_the_channel(ends, side):
    sender, receiver = ends
    told = []

    def wait():
        try:
            for number in range(100):
                sender.send(number) if side == "sender" else receiver.recv()
        except raddle.Closed:
            told.append(True)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(waits_in_a_channel)
    (receiver if side == "sender" else sender).close()
    for thread in threads:
        thread.join(30)
    assert told == [True, True]


def test_an_end_that_is_collected_is_closed():
    sender, receiver = raddle.shared_channel()
    del sender
    gc.collect()
    with pytest.raises(raddle.Closed):
        receiver.recv()


def test_threads_share_an_end(ends):
    sender, receiver = ends
    got = [[] for _ in range(3)]
    threads = [threading.Thread(target=there.produce, args=(sender.clone(), name, 2000)) for name in "abc"]
    threads += [threading.Thread(target=part.extend, args=(receiver,)) for part in got]
    for thread in threads:
        thread.start()
    sender.close()
    for thread in threads:
        thread.join()
    for part in got:
        in_order(part)
    assert sorted(itertools.chain(*got)) == sorted((name, number) for name in "abc" for number in range(2000))


def test_a_waiting_thread_can_be_stopped(ends):
    _, receiver = ends
    stopped = []

    def wait():
        try:
            receiver.recv()
        except raddle.Stopped as error:
            stopped.append(error.reason)

    thread = raddle.threading.Thread(target=wait)
    thread.start()
    until(waits_in_a_channel)
    assert raddle.stop(thread, "enough")
    thread.join(30)
    assert stopped == ["enough"]


def test_a_wait_for_another_process_is_no_deadlock(ends, monkeypatch):
    found = []
    monkeypatch.setattr(raddle, "on_deadlock", found.append)
    _, receiver = ends
    lock = raddle.threading.Lock()

    def wait():
        with lock:
            receiver.recv()

    thread = threading.Thread(target=wait)
    thread.start()
    until(waits_in_a_channel)
    assert not lock.acquire(timeout=0.01)
    waiting = raddle.threading.Thread(target=lock.acquire)
    waiting.start()
    until(lambda: len(waits()) == 2)
    ends[0].send(1)
    thread.join()
    waiting.join()
    assert found == []


def test_the_face_says_what_it_is(ends):
    sender, receiver = ends
    sender.send(1)
    assert repr(sender) == "<raddle.SharedSender: 1 of 8 values, 1 senders, 1 receivers>"
    sender.close()
    assert repr(sender).startswith("<raddle.SharedSender: closed, ")
    assert bool(receiver)


# --- arrays ----------------------------------------------------------------------------------------------------------


def test_arrays_are_writable_and_their_own(ends):
    np = pytest.importorskip("numpy")
    sender, receiver = ends
    sent = np.arange(100_000.0)
    sender.send({"all": sent, "some": sent[:100], "odd": sent[::2], "rows": np.asfortranarray(sent.reshape(100, -1))})
    sent[...] = 0
    got = receiver.recv()
    assert (got["all"] == np.arange(100_000.0)).all()
    assert (got["some"] == np.arange(100.0)).all()
    assert (got["odd"] == np.arange(100_000.0)[::2]).all()
    assert got["rows"].flags.f_contiguous
    assert got["all"].flags.writeable
    assert raddle.shared.asarray(got["all"]) is got["all"], "it lies where its sender has written it"
    got["all"][...] = 1
    sender.send(got["all"])
    assert receiver.recv().sum() == 100_000


def test_a_read_only_array_stays_so(ends):
    np = pytest.importorskip("numpy")
    sender, receiver = ends
    sent = np.arange(10_000.0)
    sent.flags.writeable = False
    sender.send(sent)
    assert not receiver.recv().flags.writeable


def test_arrays_that_are_kept_do_not_stop_the_channel(ends):
    np = pytest.importorskip("numpy")
    sender, receiver = ends
    kept = []
    for number in range(1500):
        sender.send(np.full(2000, number))
        kept.append(receiver.recv())
    assert all((array == number).all() for number, array in enumerate(kept))
    del kept
    for number in range(100):
        sender.send(np.full(2000, number))
        assert (receiver.recv() == number).all()


def test_large_arrays_cross_between_processes(context):
    pytest.importorskip("numpy")
    sender, receiver = raddle.shared_channel(2)
    process = started(context, there.send_arrays, sender, 3, 64 << 20)
    sender.close()
    for number, message in enumerate(receiver):
        assert message["number"] == number
        assert message["array"].nbytes == 64 << 20
        assert (message["array"][:: 1 << 16] == number).all()
    process.join()
    assert number == 2


def channel_memory():
    """Bytes of channels that exist in this process."""
    total, inside = 0, False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            if "-" in line.split()[0] and ":" not in line.split()[0]:
                inside = "raddle-channel" in line
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def test_memory_of_messages_is_used_again(ends):
    sender, receiver = ends
    for _ in range(5):
        sender.send(b"x" * (16 << 20))
        receiver.recv()
    assert channel_memory() < 20 << 20
    for _ in range(8):
        sender.send(b"x" * (8 << 20))
    for _ in range(8):
        receiver.recv()
    # Of the first few blocks the pages stay; those of the others have gone back.
    assert channel_memory() < 50 << 20


# --- processes -------------------------------------------------------------------------------------------------------


def test_several_producers_and_consumers(context):
    sender, receiver = raddle.shared_channel(16)
    results, gathered = raddle.shared_channel()
    producers = [started(context, there.produce, sender, name, 3000) for name in "ab"]
    consumers = [started(context, there.consume, receiver, results) for _ in range(2)]
    for end in (sender, receiver, results):
        end.close()
    received = dict(gathered)
    for process in producers + consumers:
        process.join()
        assert process.exitcode == 0
    assert sorted(received) == sorted(process.pid for process in consumers)
    for pairs in received.values():
        in_order(pairs)
    assert sorted(itertools.chain(*received.values())) == [(name, number) for name in "ab" for number in range(3000)]


def test_a_consumer_that_was_given_one_end_sees_the_end_of_the_channel(context):
    sender, receiver = raddle.shared_channel(16)
    results, gathered = raddle.shared_channel()
    consumer = started(context, there.consume, receiver, results)
    receiver.close()
    results.close()
    there.produce(sender, "a", 100)
    assert [pairs for _, pairs in gathered] == [[("a", number) for number in range(100)]]
    consumer.join()


def test_a_producer_sees_that_its_receivers_are_gone(context):
    sender, receiver = raddle.shared_channel(4)
    consumer = started(context, there.receive_from, receiver)
    receiver.close()
    with pytest.raises(raddle.Closed):
        there.produce_for_ever(sender, "a")
    consumer.join()


def test_ends_travel_through_a_channel(context):
    requests, taken = raddle.shared_channel()
    answers, gathered = raddle.shared_channel()
    process = started(context, there.echo, taken, answers)
    answers.close()
    taken.close()
    inner_sender, inner_receiver = raddle.shared_channel()
    requests.send(inner_sender)
    inner_sender.close()
    with gathered.recv(30) as back:
        back.send("through two processes")
    assert inner_receiver.recv(30) == "through two processes"
    requests.close()
    process.join()
    with pytest.raises(raddle.Closed):
        inner_receiver.recv(30)


def test_ends_are_arguments_and_results_of_a_pool(process_lane):
    sender, receiver = raddle.shared_channel(4)
    with process_lane.make(2) as pool:
        pid = pool.submit(there.send_from, sender, "hello").result()
        assert pid != os.getpid()
        assert receiver.recv(30) == "hello"
        again = pool.submit(there.give_back, sender).result()
        sender.close()
        total = pool.submit(there.total, receiver)
        for number in range(1000):
            again.send(number)
        again.close()
        assert total.result() == sum(range(1000))


def test_ends_are_arguments_of_an_initializer(process_lane):
    sender, receiver = raddle.shared_channel(4)
    with process_lane.make(1, initializer=there.put_into_global, initargs=(receiver,)) as pool:
        future = pool.submit(there.receive_from_global)
        sender.send("to a worker")
        assert future.result() == "to a worker"


def test_ends_are_arguments_in_a_scope():
    sender, receiver = raddle.shared_channel(4)
    with raddle.scope() as scope:
        total = scope.process(there.total, receiver)
        for number in range(100):
            sender.send(number)
        sender.close()
    assert total.result() == sum(range(100))


def test_after_a_plain_fork_the_child_has_both_ends_as_with_a_pipe():
    sender, receiver = raddle.shared_channel(4)
    child = os.fork()
    if child == 0:
        try:
            receiver.close()
            sender.send("from the child")
            assert receiver.closed
        finally:
            os._exit(0)
    sender.close()
    assert receiver.recv(30) == "from the child"
    with pytest.raises(raddle.Closed):
        receiver.recv(30)
    os.waitpid(child, 0)


def test_a_fork_while_others_use_the_channel():
    sender, receiver = raddle.shared_channel(4)
    back, gathered = raddle.shared_channel(4)
    stop = threading.Event()

    def chatter():
        while not stop.is_set():
            sender.send("from a thread")

    threads = [threading.Thread(target=chatter) for _ in range(2)]
    for thread in threads:
        thread.start()
    drained = threading.Thread(target=lambda: [None for _ in receiver])
    drained.start()
    for number in range(20):
        child = os.fork()
        if child == 0:
            try:
                sender.send("from a child")
                back.send(number)
            finally:
                os._exit(0)
        assert gathered.recv(30) == number
        os.waitpid(child, 0)
    stop.set()
    for thread in threads:
        thread.join()
    sender.close()
    drained.join(30)
    assert not drained.is_alive()


def test_an_end_that_is_used_by_its_global_name_counts_in_a_forked_child():
    global _by_name
    _by_name, receiver = raddle.shared_channel(4)
    process = multiprocessing.get_context("fork").Process(target=_use_by_name)
    process.start()
    _by_name.close()
    assert list(receiver) == ["by name"]
    process.join()


def _use_by_name():
    _by_name.send("by name")


# --- killed processes ------------------------------------------------------------------------------------------------


def test_a_killed_sender_is_the_end_of_the_channel(context):
    sender, receiver = raddle.shared_channel(4)
    process = started(context, there.say_where, sender)
    sender.close()
    assert receiver.recv(30) == ("ready", process.pid)
    threading.Timer(0.05, process.kill).start()
    with pytest.raises(raddle.Closed):
        receiver.recv()
    process.join()


def test_a_process_that_dies_before_it_has_done_anything_does_not_hold_the_channel(context):
    sender, receiver = raddle.shared_channel(4)
    process = started(context, there.die_at_once, sender)
    sender.close()
    with pytest.raises(raddle.Closed):
        receiver.recv(30)
    process.join()


def test_a_child_that_is_killed_at_its_birth_does_not_hold_the_channel():
    sender, receiver = raddle.shared_channel(4)
    os.register_at_fork(after_in_child=lambda: _die() if _dies else None)
    global _dies
    for _ in range(3):
        _dies = True
        child = os.fork()
        _dies = False
        os.waitpid(child, 0)
    sender.close()
    with pytest.raises(raddle.Closed):
        receiver.recv(30)


_dies = False


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_when_senders_are_killed(context, seed):
    dice = random.Random(seed)
    sender, receiver = raddle.shared_channel(4)
    processes = [started(context, there.produce_for_ever, sender, name) for name in range(3)]
    received = []
    for process in processes:
        for _ in range(dice.randrange(1, 400)):
            received.append(receiver.recv(30))
        process.kill()
    sender.close()
    received += receiver
    for process in processes:
        process.join()
    for numbers in in_order(received).values():
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_receiver_takes_one_message_with_it_at_most(context, seed, tmp_path):
    dice = random.Random(seed)
    sender, receiver = raddle.shared_channel(4)
    logs = [tmp_path / str(number) for number in range(3)]
    processes = [started(context, there.note_each, receiver, str(log)) for log in logs]
    number = 0
    for log, process in zip(logs, processes, strict=True):
        until(log.exists)
        for _ in range(dice.randrange(1, 400)):
            sender.send(("a", number), timeout=30)
            number += 1
        process.kill()
    for process in processes:
        process.join()
    sender.close()
    noted = [line.split() for log in logs for line in log.read_text().splitlines()]
    noted += [(name, str(number)) for name, number in receiver]
    seen = sorted(int(number) for _, number in noted)
    assert len(seen) == len(set(seen)), "none came twice"
    assert number - len(processes) <= len(seen) <= number


def test_who_is_full_learns_that_the_receiver_was_killed(context):
    sender, receiver = raddle.shared_channel(2)
    back, ready = raddle.shared_channel(2)
    process = started(context, _hold, receiver, back)
    receiver.close()
    ready.recv(30)
    sender.send(1)
    sender.send(2)
    threading.Timer(0.05, process.kill).start()
    with pytest.raises(raddle.Closed):
        sender.send(3)
    process.join()


def _hold(receiver, back):
    back.send(True)
    signal.pause()


def test_ctrl_c_ends_a_wait(context):
    sender, receiver = raddle.shared_channel(2)
    _hold_open, never = raddle.shared_channel(2)
    process = started(context, there.interrupted, sender, never)
    assert receiver.recv(30) == process.pid
    until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S", "it sleeps")
    os.kill(process.pid, signal.SIGINT)
    assert receiver.recv(30) == "interrupted"
    process.join()


def mapped():
    return Path("/proc/self/maps").read_text().count("raddle-channel")


def test_nothing_is_left_behind():
    def named():  # others on this machine may have semaphores there
        return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")}

    def use():
        sender, receiver = raddle.shared_channel(4)
        process = started(multiprocessing.get_context("fork"), there.produce, sender, "a", 10)
        sender.close()
        assert len(list(receiver)) == 10
        process.join()
        process.close()

    use()
    gc.collect()
    before, maps, shm = there.descriptors(), mapped(), named()
    for _ in range(5):
        use()
    gc.collect()
    until(lambda: there.descriptors() <= before, "the descriptors are closed")
    assert named() <= shm
    assert mapped() == maps
    until(lambda: not any(thread.name == "raddle-sentry" for thread in threading.enumerate()))


# --- asyncio ---------------------------------------------------------------------------------------------------------


def test_tasks_send_and_receive():
    async def main():
        sender, receiver = raddle.shared_channel(3)

        async def produce(name):
            with sender.clone() as mine:
                for number in range(300):
                    await mine.asend((name, number))

        async def consume():
            return [pair async for pair in receiver]

        producers = [asyncio.create_task(produce(name)) for name in "ab"]
        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        await asyncio.gather(*producers)
        sender.close()
        return await asyncio.wait_for(asyncio.gather(*consumers), 30)

    parts = asyncio.run(main())
    for part in parts:
        in_order(part)
    assert sorted(itertools.chain(*parts)) == [(name, number) for name in "ab" for number in range(300)]


def test_tasks_of_two_processes(context):
    async def main():
        requests, taken = raddle.shared_channel(4)
        answers, gathered = raddle.shared_channel(4)
        process = started(context, there.echo, taken, answers)
        taken.close()
        answers.close()

        async def ask():
            with requests:
                for number in range(500):
                    await requests.asend(number)

        asking = asyncio.create_task(ask())
        got = [number async for number in gathered]
        await asking
        process.join()
        return got

    assert asyncio.run(main()) == list(range(500))


def test_a_cancelled_task_loses_nothing(ends):
    sender, receiver = ends

    async def main():
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receiver.arecv(), 0.01)
        waiting = [asyncio.create_task(receiver.arecv()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        sender.send(1)
        return await asyncio.wait_for(waiting[1], 30)

    assert asyncio.run(main()) == 1
    sender.send(2)
    assert receiver.recv(30) == 2
    until(lambda: not any(thread.name == "raddle-shared-channel" for thread in threading.enumerate()))


def test_a_task_waits_for_room_for_a_long_message():
    async def main():
        sender, receiver = raddle.shared_channel(8, bytes=100_000)
        await sender.asend(b"a" * 60_000)
        second = asyncio.create_task(sender.asend(b"b" * 60_000))
        begun = time.process_time()
        done, _ = await asyncio.wait([second], timeout=0.3)
        assert not done
        assert time.process_time() - begun < 0.2, "it burns no processor"
        await receiver.arecv()
        await asyncio.wait_for(second, 30)
        return (await receiver.arecv())[:1]

    assert asyncio.run(main()) == b"b"


def test_a_task_learns_of_the_end(ends):
    sender, receiver = ends

    async def main():
        waiting = asyncio.create_task(receiver.arecv())
        await asyncio.sleep(0)
        sender.close()
        with pytest.raises(raddle.Closed):
            await asyncio.wait_for(waiting, 30)

    asyncio.run(main())
