"""Locks that are taken in both orders are told of although nobody has waited; clean programs are left alone."""

from __future__ import annotations

import threading as standard

import pytest

import raddle
from raddle import sync
from raddle.threading import Condition, Lock, RLock, Thread
from threads import PATIENCE

KINDS = [Lock, RLock, sync.Lock, sync.RLock, lambda: sync.Lock(fair=True)]


@pytest.fixture
def found():
    """What is told while the test runs."""
    orders = []
    with raddle.check_lock_order(orders.append):
        yield orders


def nest(*locks):
    """Takes one in the other."""
    if locks:
        with locks[0]:
            nest(*locks[1:])


def in_turn(*functions):
    """Runs each on a thread of its own, which all are there from the beginning and never run at the same moment."""
    turns, errors = [standard.Event() for _ in functions], []

    def run(turn, function):
        turn.wait(PATIENCE)
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [
        Thread(target=run, args=(turn, function), name=f"thread {number}", daemon=True)
        for number, (turn, function) in enumerate(zip(turns, functions, strict=True))
    ]
    for thread in threads:
        thread.start()
    for turn, thread in zip(turns, threads, strict=True):
        turn.set()
        standard.Thread.join(thread, PATIENCE)  # which tells nobody that what it did is over
        assert not thread.is_alive()
    return errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_ring_of_orders_is_told_though_nobody_has_waited(found, kind, count):
    locks = [kind() for _ in range(count)]
    pairs = [(locks[number], locks[(number + 1) % count]) for number in range(count)]
    in_turn(*(lambda pair=pair: nest(*pair) for pair in pairs))
    (order,) = found
    assert len(order.pairs) == count
    assert {pair.thread for pair in order.pairs} == {f"thread {number}" for number in range(count)}
    assert {pair.held for pair in order.pairs} == {pair.wanted for pair in order.pairs}


def test_both_locks_both_orders_and_the_four_places_are_told(script):
    ended = script("""
        import raddle, threading
        from raddle.threading import Lock, RLock, Thread

        raddle.check_lock_order(lambda order: orders.append(order))
        orders, silver, gold = [], Lock(), RLock()

        def one():
            with silver:
                with gold:
                    pass

        def two():
            gold.acquire()
            silver.acquire()
            silver.release()
            gold.release()

        silver.acquire(), silver.release()
        for thread in [Thread(target=one, name="one"), Thread(target=two, name="two")]:
            thread.start()
            threading.Thread.join(thread)  # which tells nobody that what it did is over
        ((second, first),) = [order.pairs for order in orders]
        if first.thread == "two":
            first, second = second, first
        names = {f"a Lock at {id(silver):#x}": "silver", f"an RLock at {id(gold):#x}": "gold"}
        for pair in (first, second):
            lines = [place.rpartition(":")[2] for place in (pair.taken_at, pair.wanted_at)]
            print(pair.thread, names[pair.held], names[pair.wanted], *lines)
    """).run()
    assert (ended.err, ended.code) == ("", 0)
    assert ended.out == "one silver gold 9 10\ntwo gold silver 14 15\n"


def test_it_is_raised_before_the_lock_is_taken():
    first, second = Lock(), Lock()
    with raddle.check_lock_order("raise"):
        (error,) = in_turn(lambda: nest(first, second), lambda: nest(second, first))
        assert isinstance(error, raddle.LockOrderError)
        assert len(error.order.pairs) == 2
        assert "lock order: 2 locks are taken in a ring" in str(error)
        assert not first.locked()
        assert not second.locked()
        assert in_turn(lambda: nest(second, first)) == []  # it is told once
    assert in_turn(lambda: nest(first, second), lambda: nest(second, first)) == []  # nobody watches


def test_it_is_reported_on_stderr(capfd):
    first, second = Lock(), Lock()
    with raddle.check_lock_order():
        in_turn(lambda: nest(first, second), lambda: nest(second, first))
    err = capfd.readouterr().err
    assert err.startswith("raddle: lock order: 2 locks")
    assert err.count(__file__) == 4


def test_the_lock_of_a_condition_has_its_order_also_after_a_wait(found):
    lock, condition = Lock(), Condition()

    def wait():
        with condition:
            condition.wait(0.001)
            nest(lock)

    in_turn(wait, lambda: nest(lock, condition))
    assert len(found) == 1


# What is no inversion.


@pytest.mark.parametrize("kind", KINDS)
def test_one_order_is_none(found, kind):
    locks = [kind() for _ in range(4)]
    in_turn(*[lambda: nest(*locks), lambda: nest(locks[0], locks[2]), lambda: nest(locks[1], locks[3])] * 2)
    assert found == []


@pytest.mark.parametrize("kind", KINDS)
def test_both_orders_in_one_thread_are_none(found, kind):
    first, second = kind(), kind()
    nest(first, second)
    nest(second, first)
    assert found == []


@pytest.mark.parametrize("kind", KINDS)
def test_both_orders_behind_a_gate_are_none(found, kind):
    gate, first, second = kind(), kind(), kind()
    in_turn(lambda: nest(gate, first, second), lambda: nest(gate, second, first))
    assert found == []
    in_turn(lambda: nest(second, first))
    assert len(found) == 1, "but who does not pass the gate inverts the order"


def test_what_a_thread_did_that_was_joined_before_is_none(found):
    first, second = Lock(), Lock()
    for locks in [(first, second), (second, first)] * 2:
        thread = Thread(target=nest, args=locks)
        thread.start()
        thread.join()
    nest(first, second)
    assert found == []


def test_what_was_done_before_a_thread_was_started_is_none(found):
    first, second = Lock(), Lock()
    nest(first, second)
    thread = Thread(target=nest, args=(second, first))
    thread.start()
    thread.join(PATIENCE)
    assert found == []


def test_attempts_and_deadlines_are_none(found):
    first, second = Lock(), RLock()

    def attempt():
        with second:
            assert first.acquire(blocking=False)
            first.release()
            assert first.acquire(timeout=PATIENCE)
            first.release()

    in_turn(lambda: nest(first, second), attempt)
    assert found == []


def test_a_lock_that_another_thread_releases_is_held_by_nobody(found):
    gate, lock = Lock(), Lock()

    def close():
        gate.acquire()
        nest(lock)

    def passes():
        with lock:
            gate.acquire()

    in_turn(close, gate.release, passes)
    assert found == []


def test_an_rlock_that_is_taken_again_is_no_order(found):
    outer, inner = RLock(), RLock()
    in_turn(lambda: nest(outer, inner, outer), lambda: nest(outer, inner))
    assert found == []


def test_locks_that_are_gone_are_forgotten(found):
    lock = Lock()
    for _ in range(200):
        in_turn_lock = Lock()
        nest(lock, in_turn_lock)
        del in_turn_lock
        other = Lock()  # often where the other was
        in_turn(lambda other=other: nest(other, lock))
    assert found == []


def test_what_is_to_be_done_is_checked():
    with pytest.raises(ValueError, match="then must be 'report', 'raise' or a function"):
        raddle.check_lock_order("shout")
