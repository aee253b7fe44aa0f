"""Ending threads: orders, checkpoints, shields, exceptions between two bytecodes; and what threads tell of themselves."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

import raddle
from raddle.queue import Queue, SimpleQueue
from raddle.threading import Barrier, Condition, Event, Lock, RLock, Semaphore, Thread

pytestmark = pytest.mark.timeout(60)


def held(lock):
    lock.acquire()
    return lock


def full() -> Queue:
    queue = Queue(1)
    queue.put(0)
    return queue


def unfinished() -> Queue:
    queue = Queue()
    queue.put(0)
    return queue


def in_condition(condition: Condition) -> None:
    with condition:
        condition.wait()


def waits():
    """Every way to wait: a name, and what a thread calls to wait for ever."""
    yield "Lock", held(Lock()).acquire
    yield "RLock", held(RLock()).acquire
    yield "Semaphore", Semaphore(0).acquire
    yield "Event", Event().wait
    yield "Condition", lambda: in_condition(Condition())
    yield "Barrier", Barrier(2).wait
    yield "Queue.get", Queue().get
    yield "Queue.put", lambda: full().put(1)
    yield "Queue.join", unfinished().join
    yield "SimpleQueue.get", SimpleQueue().get
    yield "Event with a timeout", lambda: Event().wait(1000)
    yield "Future", raddle.futures.Future().result


def until(condition, what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        raddle.checkpoint()


def parked(thread: Thread) -> bool:
    return thread.life.state in ("parked", "asleep")


@pytest.mark.parametrize("name", [name for name, _ in waits()])
def test_every_wait_obeys(name):
    wait = dict(waits())[name]
    seen = []

    def run() -> None:
        try:
            wait()
        except raddle.Stopped as stopped:
            seen.append(stopped)
            raise

    thread = Thread(target=run)
    thread.start()
    until(lambda: parked(thread), "it waits")
    assert raddle.stop(thread, "the test is over")
    thread.join(30)
    assert not thread.is_alive()
    (stopped,) = seen
    assert (stopped.by, stopped.reason) == ("MainThread", "the test is over")
    assert str(stopped) == "stopped by 'MainThread': the test is over"
    assert thread.life.outcome == "stopped"
    assert thread.failure is None
    assert raddle.unhandled() == []


def test_the_next_wait_obeys_and_only_once():
    results = []

    def run(is_asked: threading.Event) -> None:
        Event().wait(0)
        is_asked.wait()
        for _ in range(2):
            try:
                results.append(Event().wait(0.01))
            except raddle.Stopped:
                results.append("stopped")

    is_asked = threading.Event()
    thread = Thread(target=run, args=(is_asked,))
    thread.start()
    raddle.stop(thread)
    is_asked.set()
    thread.join()
    assert results == ["stopped", False]


def test_a_stopped_thread_leaves_things_as_they_are():
    lock, queue, semaphore = held(Lock()), Queue(), Semaphore(0)
    for wait in (lock.acquire, queue.get, semaphore.acquire):
        thread = Thread(target=wait)
        thread.start()
        until(lambda thread=thread: parked(thread), "it waits")
        raddle.stop(thread)
        thread.join()
    lock.release()
    assert lock.acquire(timeout=1)
    queue.put(1)
    assert queue.get(timeout=1) == 1
    semaphore.release()
    assert semaphore.acquire(timeout=1)


def test_a_stop_in_condition_wait_takes_the_lock_again():
    condition = Condition()
    seen = []

    def run() -> None:
        with condition:
            try:
                condition.wait()
            finally:
                seen.append(condition._is_owned())

    thread = Thread(target=run)
    thread.start()
    until(lambda: parked(thread), "it waits")
    raddle.stop(thread)
    thread.join()
    assert seen == [True]
    assert condition.acquire(timeout=1)


def test_a_loop_obeys_at_its_checkpoint():
    def run() -> None:
        while True:
            raddle.checkpoint()

    thread = Thread(target=run)
    thread.start()
    raddle.stop(thread)
    thread.join(30)
    assert thread.life.outcome == "stopped"


def test_behind_a_shield_nothing_happens():
    order = []

    def run(asked: threading.Event) -> None:
        with raddle.shield():
            with raddle.shield():
                order.append(Event().wait(0.01))
                asked.wait()
                raddle.checkpoint()
            order.append(Event().wait(0.01))
        order.append("out")
        Event().wait()

    asked = threading.Event()
    thread = Thread(target=run, args=(asked,))
    thread.start()
    until(lambda: order, "it is behind the shield")
    raddle.stop(thread)
    asked.set()
    thread.join(30)
    assert order == [False, False, "out"]
    assert thread.life.outcome == "stopped"


def test_a_loop_without_checkpoints_is_interrupted_if_it_allows_it():
    def run() -> None:
        for _ in itertools.count():
            pass

    thread = Thread(target=run, interruptible=True)
    thread.start()
    assert raddle.stop(thread, interrupt=True)
    thread.join(30)
    assert thread.life.outcome == "stopped"


def test_an_interruption_never_arrives_late(capfd):
    for _ in range(300):
        after = []

        def run(after=after) -> None:
            Event().wait(0)

        thread = Thread(target=run, interruptible=True)
        thread.start()
        raddle.stop(thread, interrupt=True)
        thread.join(30)
        assert not thread.is_alive()
    assert capfd.readouterr().err == ""
    assert raddle.unhandled() == []


def test_stopping_who_cannot_be_stopped():
    thread = Thread(target=int)
    assert not raddle.stop(thread), "it was not started"
    thread.start()
    thread.join()
    assert not raddle.stop(thread), "it has ended"


def test_a_thread_of_the_standard_library_obeys_too():
    begun = threading.Event()
    seen = []

    def run() -> None:
        event = Event()
        event.wait(0.001)
        begun.set()
        try:
            event.wait()
        except raddle.Stopped:
            seen.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    assert raddle.stop(thread)
    thread.join(30)
    assert seen == [True]


def test_life_of_a_thread():
    lock = held(Lock())
    thread = Thread(target=lock.acquire, name="worker")
    assert thread.life.state == "new"
    thread.start()
    until(lambda: thread.life.state == "parked", "it waits")
    life = thread.life
    assert life.waits_for.startswith("a Lock at ")
    assert life.held_by == "MainThread"
    assert 0 <= life.since < 30
    assert life.cpu_time < 30
    assert life.native_id == thread.native_id
    lock.release()
    thread.join()
    assert (thread.life.state, thread.life.outcome) == ("done", "returned")


def test_what_leaves_a_thread_is_kept(monkeypatch):
    hooked = []
    monkeypatch.setattr(threading, "excepthook", hooked.append)
    raddle.unhandled()
    thread = Thread(target=lambda: [][1], name="unlucky")
    thread.start()
    thread.join()
    assert isinstance(thread.failure, IndexError)
    assert thread.life.outcome == "raised"
    ((name, error),) = raddle.unhandled()
    assert (name, error) == ("unlucky", thread.failure)
    assert raddle.unhandled() == []
    assert [args.exc_type for args in hooked] == [IndexError]
    hooked.clear()


def test_units_are_a_tree_with_foreign_threads_in_it():
    go = threading.Event()

    def outer() -> None:
        inner = Thread(target=Event().wait, name="inner")
        inner.start()
        go.wait()
        raddle.stop(inner)
        inner.join()

    foreign = threading.Thread(target=go.wait, name="foreign")
    thread = Thread(target=outer, name="outer")
    foreign.start()
    thread.start()

    def inner():
        found = {child.name: child for unit in raddle.units() for child in unit.children}
        return {child.name: child for child in found["outer"].children}.get("inner") if "outer" in found else None

    until(lambda: (unit := inner()) is not None and unit.life.state == "parked", "inner waits")
    text = str(raddle.units())
    go.set()
    foreign.join()
    thread.join()
    assert inner() is None
    assert "foreign  asleep" in text
    lines = text.splitlines()
    assert any(line.startswith(("├ outer", "└ outer")) for line in lines)
    assert any("└ inner  parked on an Event at" in line for line in lines)
