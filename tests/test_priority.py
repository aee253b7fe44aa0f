"""Calls of different urgency: the most urgent of those that have not begun comes first."""

from __future__ import annotations

import random
import time

import pytest

import calls
import raddle
from calls import until


def marker(path):
    def mark(number):
        with open(path, "a") as file:
            file.write(f"{number}\n")

    return mark


def marks(path):
    return [int(line) for line in path.read_text().split()]


def test_the_most_urgent_comes_first_and_among_equals_the_oldest(kind, gate, tmp_path):
    path = tmp_path / "marks"
    priorities = [0, 0, 5, -1, 3, 5, 0, 32767, -32768]
    with raddle.Pool(kind, 1) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        for number, priority in enumerate(priorities):
            pool.options(priority=priority).submit(marker(path), number)
        gate.open()
        held.result(20)
    assert marks(path) == sorted(range(len(priorities)), key=lambda number: -priorities[number])


def test_an_urgent_call_overtakes_thousands_that_were_there_before(kind, gate, tmp_path):
    path = tmp_path / "marks"
    with raddle.Pool(kind, 2) as pool:
        held = [pool.submit(gate) for _ in range(2)]
        gate.wait_entered(2)
        usual = [pool.submit(calls.identity, number) for number in range(5000)]
        urgent = pool.options(priority=1).submit(usual_ended, usual[:0])
        pool.options(priority=1).submit(marker(path), 1)
        assert not urgent.done()
        gate.open()
        assert urgent.result(20) == 0
        assert [future.result(20) for future in usual] == list(range(5000))
        assert [future.result(20) for future in held] == [None, None]
    assert marks(path) == [1]


def usual_ended(futures):
    return sum(future.done() for future in futures)


def test_nothing_urgent_stays_behind_a_long_call(tmp_path):
    path = tmp_path / "marks"
    first, second = calls.Gate(tmp_path, "first"), calls.Gate(tmp_path, "second")
    with raddle.Pool("process", 2) as pool:
        held = [pool.submit(first), pool.submit(second)]
        first.wait_entered()
        second.wait_entered()
        usual = [pool.submit(marker(path), number) for number in range(20)]
        urgent = [pool.options(priority=9).submit(marker(path), 100 + number) for number in range(20)]
        time.sleep(0.05)  # a call that has run for a millisecond is a long one
        second.open()
        assert [future.exception(20) for future in usual + urgent] == [None] * 40
        first.open()
        assert [future.exception(20) for future in held] == [None] * 2
    order = marks(path)
    assert sorted(order[:20]) == list(range(100, 120))
    assert sorted(order[20:]) == list(range(20))


def test_an_urgent_call_does_not_wait_behind_a_long_one_while_a_worker_has_nothing_to_do(gate):
    with raddle.Pool("process", 2) as pool:
        assert [pool.submit(calls.pid).result(20) for _ in range(200)]  # calls are known to be cheap
        held = pool.options(priority=1).submit(gate)
        gate.wait_entered()
        for number in range(20):
            assert pool.options(priority=1).submit(calls.identity, number).result(20) == number
        gate.open()
        assert held.exception(20) is None


def test_calls_of_any_urgency_survive_their_workers():
    chance = random.Random(7)
    with raddle.Pool("process", 2) as pool:
        futures = [
            pool.options(priority=chance.randrange(-3, 4), retries=5).submit(calls.identity, number)
            for number in range(500)
        ]
        killers = [pool.options(priority=chance.randrange(-3, 4)).submit(calls.kill_itself) for _ in range(5)]
        assert [future.result(30) for future in futures] == list(range(500))
        assert all(isinstance(killer.exception(30), raddle.WorkerDied) for killer in killers)


def test_a_map_may_be_less_urgent_than_what_comes_later(kind, gate, tmp_path):
    path = tmp_path / "marks"
    with raddle.Pool(kind, 1) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        background = pool.options(priority=-1).map(marker(path), range(3))
        pool.submit(marker(path), 100)
        gate.open()
        held.result(20)
        assert list(background) == [None] * 3
    assert marks(path) == [100, 0, 1, 2]


def test_a_waiting_call_of_any_urgency_can_be_cancelled(kind, gate):
    with raddle.Pool(kind, 1) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        futures = [pool.options(priority=priority).submit(calls.identity, 1) for priority in (3, -3, 0, 3)]
        assert all(future.cancel() for future in futures)
        gate.open()
        held.result(20)
        until(lambda: pool.statistics().pending == 0, "the cancelled calls to be gone")
        assert pool.statistics().cancelled == 4


@pytest.mark.parametrize(
    ("priority", "error"), [(32768, ValueError), (-32769, ValueError), ("high", TypeError), (1.5, TypeError)]
)
def test_a_priority_is_a_small_whole_number(pool, priority, error):
    with pytest.raises(error, match="priority must be"):
        pool.options(priority=priority)
