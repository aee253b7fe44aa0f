"""Who has what of shared memory, and who keeps much for the sake of little."""

from __future__ import annotations

import warnings

import pytest

import calls
import raddle
from calls import until
from raddle import _pins

np = pytest.importorskip("numpy")

MIB = 1 << 20
kept = []


def keep(array):
    kept.append(array)


def let_go():
    kept.clear()


def ones(count):
    return np.ones(count)


@pytest.fixture
def named():
    with raddle.Pool("process", 1, name="the pool") as pool:
        yield pool


def test_arrays_made_here_count(named):
    before = raddle.shared.statistics().arrays
    array = raddle.shared.zeros(MIB, "u1")
    now = raddle.shared.statistics()
    assert now.arrays - before >= array.nbytes
    assert now.in_use == raddle.shared.in_use()
    del array
    assert raddle.shared.statistics().arrays == before


def test_arguments_of_calls_under_way_count_with_their_worker(named, gate):
    pid = named.submit(calls.pid).result(20)
    future = named.submit(lambda array, gate: gate(array.nbytes), np.zeros(MIB, "u1"), gate)
    gate.wait_entered()
    waiting = named.submit(len, np.zeros(2 * MIB, "u1"))
    now = raddle.shared.statistics()
    assert now.arguments >= 3 * MIB
    mine = [holding for holding in now.holdings if holding.pool == "the pool"]
    assert sum(holding.arguments for holding in mine) >= 3 * MIB
    assert {holding.pid for holding in mine} <= {pid, None}
    gate.open()
    assert (future.result(20), waiting.result(20)) == (MIB, 2 * MIB)


def test_what_a_worker_keeps_is_named(named):
    pid = named.submit(calls.pid).result(20)
    named.submit(keep, np.zeros(MIB, "u1")).result(20)
    holding = next(holding for holding in raddle.shared.statistics().holdings if holding.pool == "the pool")
    assert (holding.pid, holding.kept >= MIB, holding.arguments) == (pid, True, 0)
    named.submit(let_go).result(20)
    until(lambda: all(holding.pool != "the pool" for holding in raddle.shared.statistics().holdings), "it to let go")


def test_results_that_are_kept_count_also_when_their_worker_is_dead(named):
    result = named.submit(ones, MIB).result(20)
    holding = next(holding for holding in raddle.shared.statistics().holdings if holding.pool == "the pool")
    assert holding.results >= result.nbytes
    assert isinstance(named.submit(calls.kill_itself).exception(20), raddle.WorkerDied)
    again = [one for one in raddle.shared.statistics().holdings if one.pool == "the pool"]
    assert [(one.pid, one.results) for one in again] == [(holding.pid, holding.results)]
    del result
    assert raddle.shared.statistics().results == 0


def test_a_slice_that_keeps_a_large_block_is_found_where_it_is():
    array = raddle.shared.zeros(MIB)
    head = array[:10]
    del array
    pin = next(pin for pin in raddle.shared.pins() if pin.nbytes == 80)
    assert pin.block == 8 * MIB
    assert pin.where.startswith("variable 'head' in test_a_slice_that_keeps_a_large_block_is_found_where_it_is()")
    assert "a float64 array of shape (10,) of 80 B, keeps 8 MiB of shared memory" in str(pin)
    del head
    assert all(pin.nbytes != 80 for pin in raddle.shared.pins())


def test_a_slice_is_found_in_a_module_an_object_and_a_list():
    class Cache:
        pass

    array = raddle.shared.zeros(MIB, "u1")
    kept.append(array[:1])
    assert all(pin.nbytes != 1 for pin in raddle.shared.pins()), "the whole array is there, too"
    del array
    assert [pin.where for pin in raddle.shared.pins() if pin.nbytes == 1] == ["an item of a list"]
    cache = Cache()
    cache.head = kept.pop()
    assert [pin.where for pin in raddle.shared.pins() if pin.nbytes == 1] == ["an attribute of a " + Cache.__qualname__]


def test_when_memory_runs_short_the_slice_is_named(named, gate, monkeypatch):
    monkeypatch.setattr(_pins, "_last_search", float("-inf"))
    raddle.shared.limit(raddle.shared.in_use() + 4 * MIB)
    try:
        array = raddle.shared.zeros(3 * MIB, "u1")
        head = array[:5]
        del array
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            first = named.submit(lambda array, gate: gate(), np.zeros(2 * MIB, "u1"), gate)
            gate.open()
            second = named.submit(len, np.zeros(2 * MIB, "u1"))
        assert (first.exception(20), second.result(20)) == (None, 2 * MIB)
        message = str(shown[0].message)
        assert message.startswith("variable 'head' in ")
        assert (
            "a uint8 array of shape (5,) of 5 B, keeps 3 MiB of shared memory, which has run short\n  hint: " in message
        )
        assert shown[0].filename == __file__
        assert head.nbytes == 5
    finally:
        raddle.shared.limit(1 << 30)
