"""Pools that grow when there is much to do, and shrink when there is nothing."""

from __future__ import annotations

import threading

import pytest

import calls
import raddle
from calls import until


def busy(pool, gate, count):
    """Has `count` workers run something at the same time."""
    held = [pool.submit(gate, number) for number in range(count)]
    gate.wait_entered(count)
    gate.open()
    assert [future.result(20) for future in held] == list(range(count))


def test_workers_beyond_the_least_end_after_a_while_and_come_again(kind, tmp_path):
    with raddle.Pool(kind, (1, 3), idle_timeout=0.2) as pool:
        assert pool.workers == 3
        for round_ in range(3):
            busy(pool, calls.Gate(tmp_path, f"gate{round_}"), 3)
            until(lambda: pool.statistics().workers == 1, "two workers to end")
        now = pool.statistics()
        assert (now.finished, now.failed, now.died) == (9, 0, 0)
        assert pool.submit(calls.identity, 5).result(20) == 5


def test_all_may_end(kind, gate, tmp_path):
    with raddle.Pool(kind, (0, 2), idle_timeout=0.1) as pool:
        busy(pool, gate, 2)
        until(lambda: pool.statistics().workers == 0, "both workers to end")
        assert list(pool.map(calls.identity, range(500))) == list(range(500))
        until(lambda: pool.statistics().workers == 0, "them to end again")


def test_a_worker_that_is_used_stays(kind):
    with raddle.Pool(kind, (0, 1), idle_timeout=1) as pool:
        first = pool.submit(calls.pid_and_thread).result(20)
        assert {pool.submit(calls.nap_and_tell, 0.05).result(20) for _ in range(30)} == {first}


def test_no_call_is_lost_at_the_moment_when_workers_end(kind):
    with raddle.Pool(kind, (0, 2), idle_timeout=0.01) as pool:
        chance = threading.Event()
        for number in range(60):
            assert pool.submit(calls.identity, number).result(20) == number
            chance.wait(0.0095 + 0.0001 * (number % 10))
        assert pool.statistics().finished == 60


def test_a_call_behind_a_long_one_gets_a_worker_of_its_own(gate):
    with raddle.Pool("process", (1, 2), idle_timeout=0.2) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        assert pool.submit(calls.identity, 1).result(20) == 1
        until(lambda: pool.statistics().workers == 1, "the second worker to end")
        assert pool.submit(calls.identity, 2).result(20) == 2
        gate.open()
        held.result(20)


@pytest.mark.parametrize(
    ("workers", "error", "words"),
    [
        ((3, 2), ValueError, "workers must be from 0 or more to at least 1 and as many, not (3, 2)"),
        ((0, 0), ValueError, "workers must be from 0 or more"),
        ((-1, 2), ValueError, "workers must be from 0 or more"),
        ((1, 2, 3), ValueError, "workers must be a number, or a pair of the least and the most"),
        ((1, "many"), TypeError, "the most workers must be a whole number, not 'many'"),
    ],
)
def test_nonsense_is_refused(kind, workers, error, words):
    import re

    with pytest.raises(error, match=re.escape(words)):
        raddle.Pool(kind, workers)


def test_a_timeout_of_nothing_is_refused(kind):
    with pytest.raises(ValueError, match="idle_timeout must be more than 0 seconds, not 0"):
        raddle.Pool(kind, (1, 2), idle_timeout=0)
