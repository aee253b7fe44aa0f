"""`raddle.queue` behaves as `queue` does."""

from __future__ import annotations

import inspect
import os
import queue as standard_queue
import signal
import sys
import threading as standard
import time

import pytest

import raddle.queue as queue
from calls import until

PATIENCE = 20
BOTH = pytest.mark.parametrize("module", [standard_queue, queue], ids=["stdlib", "raddle"])


@BOTH
@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])
def test_nothing_is_lost_between_many_producers_and_consumers(module, kind):
    made = getattr(module, kind)()
    got, count, each = [], 4, 500

    def produce(first):
        for number in range(first, first + each):
            made.put(number)

    def consume():
        while (item := made.get()) < 10**9:
            got.append(item)

    consumers = [standard.Thread(target=consume, daemon=True) for _ in range(count)]
    producers = [standard.Thread(target=produce, args=(n * each,), daemon=True) for n in range(count)]
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join(PATIENCE)
    until(lambda: len(got) == count * each, "all items")
    for _ in consumers:
        made.put(10**9)
    for thread in consumers:
        thread.join(PATIENCE)
    assert sorted(got) == list(range(count * each))


@BOTH
def test_hooks_of_a_subclass_are_used(module):
    class Twice(module.Queue):
        def _put(self, item):
            super()._put(item * 2)

    made = Twice()
    made.put(2)
    assert made.get() == 4


@pytest.mark.parametrize(
    "module",
    [
        standard_queue,
        queue,
    ],
    ids=["stdlib", "raddle"],
)
def test_hooks_of_a_mixin_are_used(module):
    class Twice:
        def _put(self, item):
            super()._put(item * 2)

    class Mixed(Twice, module.Queue):
        pass

    made = Mixed()
    made.put(2)
    assert made.get() == 4


@pytest.mark.parametrize(
    "module",
    [standard_queue, queue],
    ids=["stdlib", "raddle"],
)
def test_a_queue_without_a_bound_does_not_look_at_the_timeout_of_put(module):
    made = module.Queue()
    made.put(1, timeout=-1)
    assert made.get() == 1


@BOTH
def test_who_waits_while_the_queue_is_opened_gets_what_is_put_then(module):
    made, got = module.Queue(), []
    thread = standard.Thread(target=lambda: got.append(made.get()), daemon=True)
    thread.start()
    with made.mutex:
        pass
    made.put(7)
    thread.join(PATIENCE)
    assert got == [7]


def test_opening_a_queue_does_not_prolong_a_wait():
    made, took = queue.Queue(), []

    def get():
        began = time.monotonic()
        with pytest.raises(queue.Empty):
            made.get(timeout=0.6)
        took.append(time.monotonic() - began)

    thread = standard.Thread(target=get, daemon=True)
    thread.start()
    thread.join(0.5)
    _ = made.mutex
    thread.join(PATIENCE)
    assert took[0] < 0.9


def test_a_queue_opened_by_two_at_once_is_one():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(1000):
            made, seen, meet = queue.Queue(), [], standard.Barrier(2)
            made.put(1)

            def look():
                meet.wait()
                seen.append(made.mutex)

            threads = [standard.Thread(target=look) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert seen[0] is seen[1]
            assert made.unfinished_tasks == 1
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("kind", ["Queue", "PriorityQueue", "SimpleQueue"])
def test_ctrl_c_ends_a_get_and_nothing_is_lost(kind):
    made = getattr(queue, kind)()
    timer = standard.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        made.get(timeout=PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    timer.join()
    made.put(1)
    assert made.get(timeout=PATIENCE) == 1


def test_shutdown_wakes_all_who_wait():
    made, ended = queue.Queue(1), []

    def get():
        with pytest.raises(queue.ShutDown):
            made.get()
        ended.append("get")

    threads = [standard.Thread(target=get, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    made.shutdown(immediate=True)
    for thread in threads:
        thread.join(PATIENCE)
    assert ended == ["get"] * 3
    with pytest.raises(queue.ShutDown):
        made.put(1)


class Odd:
    """An argument of which the truth is asked for."""

    def __init__(self, truth):
        self.truth = truth

    def __bool__(self):
        if isinstance(self.truth, Exception):
            raise self.truth
        return self.truth


def said(call, *args, **kwargs):
    """What a call has come to."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return type(error)


WAYS = {
    "plainly": ((), {}),
    "by position": ((False,), {}),
    "by position, with a timeout": ((False, None), {}),
    "by name": ((), {"block": False}),
    "with an object for a truth": ((Odd(False),), {}),
    "with a number for a truth": ((0,), {}),
    "with what has no truth": ((Odd(KeyError()),), {}),
    "with a timeout": ((True, 0.0), {}),
    "with a negative timeout": ((True, -1), {}),
    "with a timeout that does not count": ((False, -1), {}),
    "with too much": ((False, None, 1), {}),
}


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue"])
@pytest.mark.parametrize("way", WAYS)
def test_a_call_comes_to_the_same_whichever_way_it_takes(kind, way):
    args, kwargs = WAYS[way]
    found = []
    for module in (standard_queue, queue):
        made = getattr(module, kind)(2)
        made.put("first")
        here = [said(made.put, "second", *args, **kwargs), made.qsize()]
        here += [] if way == "plainly" and made.full() else [said(made.put, "third", *args, **kwargs)]
        here += [said(made.get, *args, **kwargs) for _ in range(made.qsize())]
        here += [] if way == "plainly" else [said(made.get, *args, **kwargs)]
        found.append([*here, made.qsize(), made.unfinished_tasks])
    assert found[0] == found[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_call_of_a_simple_queue_comes_to_the_same_whichever_way_it_takes(way):
    args, kwargs = WAYS[way]
    found = []
    for module in (standard_queue, queue):
        made = module.SimpleQueue()
        here = [said(made.put, "first", *args, **kwargs), made.qsize(), made.empty()]
        here += [said(made.get, *args, **kwargs) for _ in range(made.qsize())]
        here += [] if way == "plainly" else [said(made.get, *args, **kwargs)]
        found.append([*here, made.qsize(), said(made.put), said(made.put, item=1), said(made.get_nowait)])
    assert found[0] == found[1]


@BOTH
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_an_item_is_held_as_long_as_it_is_in_the_queue(module, kind):
    made, item = getattr(module, kind)(*([1] if kind == "Queue" else [])), object()
    before = sys.getrefcount(item)
    made.put(item)
    assert sys.getrefcount(item) == before + 1
    if kind == "Queue":
        for _ in range(3):
            assert said(made.put_nowait, item) is module.Full
        assert sys.getrefcount(item) == before + 1
    assert made.get() is item
    assert sys.getrefcount(item) == before


def test_methods_with_a_shortcut_say_what_they_take():
    assert str(inspect.signature(queue.SimpleQueue.put)) == "(self, /, item, block=Ellipsis, timeout=None)"
    assert queue.SimpleQueue.get.__qualname__ == "SimpleQueue.get"
    with pytest.raises(TypeError, match="'put' for 'raddle.queue.SimpleQueue' objects doesn't apply to a 'int' object"):
        queue.SimpleQueue.put(1, 2)
