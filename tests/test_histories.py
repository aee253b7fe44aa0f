"""What threads saw can be explained by an order in which everything happened one by one.

Each thread notes when an operation began, when it ended and what it returned. A history is linearizable (Herlihy and Wing, 1990) if there is an order that
keeps "ended before the other began", and in which a simple model returns the same. The search for it is that of Wing and Gong (1993).
"""

from __future__ import annotations

import itertools
import queue as standard_queue
import random
import sys
import threading
import time
from typing import NamedTuple

import pytest

from raddle.queue import LifoQueue, Queue
from raddle.sync import AtomicFlag, AtomicInt, AtomicRef, ConcurrentDict

pytestmark = pytest.mark.timeout(60)
ROUNDS = 60


class Entry(NamedTuple):
    began: int
    ended: int
    op: tuple
    seen: object


def is_linearizable(start, after, history):
    """Whether there is an order. `after(state, op)` returns the next state and what is seen; None: it would have to wait."""
    everything = (1 << len(history)) - 1
    been, left = set(), [(0, start)]
    while left:
        done, state = left.pop()
        if done == everything:
            return True
        first_end = min(entry.ended for at, entry in enumerate(history) if not done >> at & 1)
        for at, entry in enumerate(history):
            if done >> at & 1 or entry.began > first_end:
                continue
            step = after(state, entry.op)
            if step is not None and step[1] == entry.seen:
                where = (done | 1 << at, step[0])
                if where not in been:
                    been.add(where)
                    left.append(where)
    return False


def recorded(act, lists):
    """Runs each list of operations on a thread of its own, all at once; returns what they saw."""
    clock, meet, history = itertools.count(), threading.Barrier(len(lists)), []

    def run(ops):
        meet.wait()
        for op in ops:
            began = next(clock)
            time.sleep(0)  # the others' turn
            seen = act(op)
            history.append(Entry(began, next(clock), op, seen))

    threads = [threading.Thread(target=run, args=(ops,), daemon=True) for ops in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread is stuck"
    return history


@pytest.fixture(autouse=True)
def many_switches():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hold(make, start, after, lists_of, rounds=ROUNDS):
    overlap = 0
    for seed in range(rounds):
        history = recorded(make(), lists_of(random.Random(seed)))
        overlap += any(one.began < other.began < one.ended for one in history for other in history)
        assert is_linearizable(start, after, history), f"seed {seed}: no order explains {sorted(history)}"
    assert overlap > rounds / 10, "nothing happened at the same time, and nothing was tested"


# --- the queue ----------------------------------------------------------------------------------------------------------

BOUND = 2


def use_queue(queue):
    def act(op):
        try:
            return queue.put(op[1], op[2]) if op[0] == "put" else queue.get(op[1])
        except (standard_queue.Full, standard_queue.Empty) as refused:
            return type(refused).__name__

    return act


def fifo(items, op):
    match op:
        case ("put", item, waits):
            if len(items) < BOUND:
                return (*items, item), None
            return None if waits else (items, "Full")
        case ("get", waits):
            if items:
                return items[1:], items[0]
            return None if waits else (items, "Empty")


def test_a_queue_is_a_fifo_with_a_bound():
    def lists(_):
        producers = [[("put", (producer, n), True) for n in range(5)] for producer in range(2)]
        return [*producers, *([("get", True)] * 5 for _ in range(2))]

    hold(lambda: use_queue(Queue(BOUND)), (), fifo, lists)


def test_a_queue_refuses_only_when_it_is_full_or_empty():
    def lists(dice):
        items = itertools.count()
        return [
            [("put", next(items), False) if dice.random() < 0.5 else ("get", False) for _ in range(6)] for _ in range(3)
        ]

    hold(lambda: use_queue(Queue(BOUND)), (), fifo, lists)


def test_a_queue_that_gives_the_last_item_first_is_caught():
    ops = [("put", 1, True), ("put", 2, True), ("get", True), ("put", 3, True), ("get", True), ("get", True)]
    assert is_linearizable((), fifo, recorded(use_queue(Queue(BOUND)), [ops]))
    assert not is_linearizable((), fifo, recorded(use_queue(LifoQueue(BOUND)), [ops]))


# --- atomics ------------------------------------------------------------------------------------------------------------


def called(thing):
    return lambda op: getattr(thing, op[0])(*op[1:])


def number(value, op):
    match op:
        case ("load",):
            return value, value
        case ("add", by):
            return value + by, value
        case ("xor", bits):
            return value ^ bits, value
        case ("exchange", new):
            return new, value
        case ("compare_exchange", expected, new):
            return (new, True) if value == expected else (value, False)


def flag(value, op):
    match op:
        case ("is_set",):
            return value, value
        case ("test_and_set",):
            return True, value
        case ("clear",):
            return False, None


def choosing(*makes):
    return lambda dice: [[dice.choice(makes)(dice) for _ in range(7)] for _ in range(3)]


def test_an_atomic_int_changes_in_single_steps():
    lists = choosing(
        lambda _: ("load",),
        lambda dice: ("add", dice.randrange(1, 3)),
        lambda dice: ("xor", dice.randrange(4)),
        lambda dice: ("exchange", dice.randrange(3)),
        lambda dice: ("compare_exchange", dice.randrange(3), dice.randrange(3)),
    )
    hold(lambda: called(AtomicInt()), 0, number, lists)


def test_an_atomic_reference_changes_in_single_steps():
    lists = choosing(
        lambda _: ("load",),
        lambda dice: ("exchange", dice.randrange(3)),
        lambda dice: ("compare_exchange", dice.randrange(3), dice.randrange(3)),
    )
    hold(lambda: called(AtomicRef(0)), 0, number, lists)


def test_an_atomic_flag_changes_in_single_steps():
    lists = choosing(lambda _: ("is_set",), lambda _: ("test_and_set",), lambda _: ("clear",))
    hold(lambda: called(AtomicFlag()), False, flag, lists)


def test_a_change_that_is_lost_is_caught():
    both = [Entry(0, 3, ("add", 1), 0), Entry(1, 2, ("add", 1), 0)]
    assert not is_linearizable(0, number, both)
    unseen = [Entry(0, 5, ("add", 1), 0), Entry(1, 2, ("load",), 1), Entry(3, 4, ("load",), 0)]
    assert not is_linearizable(0, number, unseen)


# --- the dict -----------------------------------------------------------------------------------------------------------


class Key:
    """One of few, with one hash for two of them; each is another object."""

    def __init__(self, number):
        self.number = number

    def __hash__(self):
        return self.number % 2

    def __eq__(self, other):
        time.sleep(0)  # others come between
        return self.number == other.number


def use_dict(made):
    def act(op):
        match op:
            case ("set", key, value):
                return made.__setitem__(Key(key), value)
            case ("get", key):
                return made.get(Key(key))
            case ("pop", key):
                return made.pop(Key(key), None)
            case ("setdefault", key, value):
                return made.setdefault(Key(key), value)
            case ("get_or_compute", key, value):
                return made.get_or_compute(Key(key), lambda _: value)
            case ("update", key, by):
                return made.update(Key(key), lambda value: value + by, 0)
            case ("len",):
                return len(made)
            case ("items",):
                return tuple((key.number, value) for key, value in made.items())
            case ("clear",):
                return made.clear()

    return act


def pairs(state, op):
    there = dict(state)
    match op:
        case ("set", key, value):
            there[key] = value
            seen = None
        case ("get", key):
            seen = there.get(key)
        case ("pop", key):
            seen = there.pop(key, None)
        case ("setdefault" | "get_or_compute", key, value):
            seen = there.setdefault(key, value)
        case ("update", key, by):
            seen = there[key] = there.get(key, 0) + by
        case ("len",):
            seen = len(there)
        case ("items",):
            seen = state
        case ("clear",):
            there, seen = {}, None
        case _:
            raise AssertionError(op)
    return tuple(there.items()), seen


def test_a_dict_changes_in_single_steps_whatever_its_keys_do():
    values = itertools.count(100, 100)

    def one(dice):
        key = dice.randrange(3)
        return dice.choice(
            [
                ("set", key, next(values)),
                ("set", key, next(values)),
                ("get", key),
                ("pop", key),
                ("pop", key),
                ("setdefault", key, next(values)),
                ("get_or_compute", key, next(values)),
                ("update", key, 1),
                ("update", key, 1),
                ("len",),
                ("items",),
                ("clear",) if dice.random() < 0.3 else ("get", key),
            ]
        )

    hold(lambda: use_dict(ConcurrentDict()), (), pairs, choosing(one), rounds=2 * ROUNDS)
