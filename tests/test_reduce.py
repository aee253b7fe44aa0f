"""`map_reduce`, `reduce` and `scan`: the same bits for every number of workers, in order, lazily."""

from __future__ import annotations

import itertools
import operator
import struct

import pytest

import calls
import raddle

SIZES = [1, 2, 3, 255, 256, 257, 1000, 5000]


@pytest.mark.parametrize("size", SIZES)
def test_the_result_is_that_of_one_process(pool, size):
    assert pool.map_reduce(calls.identity, operator.add, range(size)) == sum(range(size))
    assert pool.reduce(operator.add, range(size)) == sum(range(size))
    assert pool.reduce(max, range(size), -1, grain=3) == size - 1
    assert list(pool.scan(operator.add, range(size))) == list(itertools.accumulate(range(size)))


@pytest.mark.parametrize("size", SIZES)
def test_operators_that_do_not_commute_keep_the_order(pool, size):
    words = [chr(65 + number % 26) for number in range(size)]
    assert pool.reduce(operator.add, words, grain=7) == "".join(words)
    assert pool.map_reduce(str.lower, operator.add, words, initial=">", grain=7) == ">" + "".join(words).lower()
    assert list(pool.scan(operator.add, words[:300], grain=7)) == list(itertools.accumulate(words[:300]))


def test_floats_have_the_same_bits_for_every_number_of_workers():
    numbers = [(-1) ** number / (number + 1) ** 0.7 for number in range(4000)]
    seen = set()
    for kind, workers in (("process", 1), ("process", 2), ("process", 3), ("thread", 1), ("thread", 4)):
        with raddle.Pool(kind, workers) as pool:
            total = pool.map_reduce(calls.halve, operator.add, numbers, grain=16)
            last = list(pool.scan(operator.add, numbers, grain=16))[-1]
            seen.add(struct.pack("dd", total, last))
    assert len(seen) == 1


def test_several_inputs_and_closures(pool):
    factor = 3
    assert pool.map_reduce(lambda a, b: factor * a * b, lambda a, b: a + b, range(1000), range(1000)) == 3 * sum(
        number * number for number in range(1000)
    )


def test_empty_input_is_defined(pool):
    assert pool.reduce(operator.add, [], 7) == 7
    assert pool.map_reduce(calls.identity, operator.add, [], initial=None) is None
    assert list(pool.scan(operator.add, [])) == []
    assert list(pool.scan(operator.add, [], initial=5)) == [5]
    assert list(pool.scan(operator.add, [1, 2], initial=5)) == [5, 6, 8]
    with pytest.raises(TypeError, match="empty"):
        pool.reduce(operator.add, [])


def test_scan_reads_as_results_are_taken(pool):
    totals = pool.scan(operator.add, itertools.count(), grain=10)
    assert list(itertools.islice(totals, 500)) == list(itertools.accumulate(range(500)))
    totals.close()


def test_what_a_function_raises_is_raised(pool):
    with pytest.raises(ValueError, match="^700$"):
        pool.map_reduce(calls.fail_if, operator.add, range(1000), [700] * 1000)
    with pytest.raises(TypeError):
        pool.reduce(operator.add, [1, "two"])


def test_bad_input(pool):
    with pytest.raises(ValueError, match="grain"):
        pool.reduce(operator.add, [1], grain=0)
    with pytest.raises(ValueError, match="grain"):
        pool.scan(operator.add, [1], grain=0)
    with pytest.raises(TypeError, match="at least one"):
        pool.map_reduce(abs, operator.add)
