"""Batches of `Pool.map`: nobody can tell them from calls of their own, but by the time they take."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import weakref

import pytest

import calls
import raddle
from calls import until

#: Enough cheap calls that most of them travel in batches.
MANY = 6000


@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_that_is_used_again_is_a_new_one_each_time(ordered):
    with raddle.Pool("process", 2) as pool:
        results = pool.map(calls.reused_buffer, range(MANY), ordered=ordered)
        assert sorted(int.from_bytes(result, "big") for result in results) == list(range(MANY))


def test_an_item_that_is_used_again_is_a_new_one_each_time():
    def source():
        item = [0]
        for number in range(MANY):
            item[0] = number
            yield item

    with raddle.Pool("process", 2) as pool:
        assert list(pool.map(calls.first, source())) == list(range(MANY))
        assert set(pool.map(calls.append_and_count, itertools.repeat([], MANY))) == {1}


def test_the_input_is_not_asked_again_after_its_end(pool):
    asked = []

    class Source:
        def __iter__(self):
            return self

        def __next__(self):
            asked.append(len(asked))
            if len(asked) > MANY:
                assert len(asked) == MANY + 1, "asked after its end"
                raise StopIteration
            return len(asked) - 1

    assert list(pool.map(calls.identity, Source())) == list(range(MANY))
    assert len(asked) == MANY + 1


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("window", [None, 16])
def test_what_the_input_raises_comes_after_the_results_before_it(pool, ordered, window):
    def source():
        yield from range(1000)
        raise LookupError("the source is broken")

    seen = []
    with pytest.raises(LookupError, match="broken"):
        for value in pool.map(calls.identity, source(), ordered=ordered, window=window):
            seen.append(value)
    assert sorted(seen) == list(range(1000))
    now = pool.statistics()
    assert (now.submitted, now.finished) == (1000, 1000)


def test_an_item_that_cannot_be_pickled_or_unpickled_fails_alone():
    with raddle.Pool("process", 1) as pool:
        for bad in (threading.Lock(), calls.Explodes()):
            source = itertools.chain(range(5000), [bad], range(10))
            seen = []
            with pytest.raises((TypeError, ArithmeticError)):
                for value in pool.map(calls.identity, source):
                    seen.append(value)
            assert seen == list(range(5000))


def test_a_result_that_cannot_be_pickled_or_unpickled_fails_alone():
    with raddle.Pool("process", 1) as pool:
        for make in (calls.lock_at, calls.explodes_at):
            seen = []
            with pytest.raises((TypeError, ArithmeticError)):
                for value in pool.map(make, range(6000)):
                    seen.append(value)
            assert seen == list(range(5000))


def test_ctrl_c_while_an_item_is_pickled_is_raised():
    with raddle.Pool("process", 1) as pool:
        source = itertools.chain(range(5000), [calls.Interrupts()], range(100))
        with pytest.raises(KeyboardInterrupt):
            list(pool.map(calls.identity, source))


def test_large_items_and_results_go_in_small_batches():
    with raddle.Pool("process", 2) as pool:
        sizes = list(pool.map(len, (bytes(100_000) for _ in range(500))))
        assert sizes == [100_000] * 500
        assert all(len(result) == 100_000 for result in pool.map(bytes, [100_000] * 500))


def test_input_is_read_no_further_than_some_megabytes_ahead():
    read = []

    def source():
        for number in itertools.count():
            read.append(number)
            yield bytes(100_000)

    with raddle.Pool("process", 2) as pool:
        results = pool.map(len, source())
        for _ in range(2000):
            next(results)
        assert len(read) < 2000 + 1500
        results.close()


def test_a_slow_consumer_does_not_pile_up_results(pool):
    read = []
    results = pool.map(calls.identity, (read.append(number) or number for number in itertools.count()))
    taken = itertools.islice(results, 400)
    for _ in taken:
        threading.Event().wait(0.002)
    assert len(read) < 400 + 400
    results.close()


def test_the_rest_of_a_batch_does_not_run_in_a_process_that_was_forked_off(tmp_path):
    with raddle.Pool("process", 1) as pool:
        list(pool.map(calls.identity, range(3000)))
        results = list(pool.map(calls.fork_and_come_back, range(300), itertools.repeat(str(tmp_path / "log"))))
    assert results == list(range(300))
    lines = (tmp_path / "log").read_text().split()
    assert sorted(map(int, lines)) == list(range(300))


def test_more_workers_than_items_in_a_window():
    with raddle.Pool("thread", 3000) as pool:
        assert list(pool.map(abs, range(40_000))) == list(range(40_000))


@pytest.mark.parametrize("ordered", [True, False])
def test_an_exception_is_not_kept_alive_by_its_own_traceback(pool, ordered):
    gc.collect()
    gc.disable()
    try:
        try:
            list(pool.map(calls.mishap_at_5000, range(MANY), ordered=ordered))
        except calls.Mishap as error:
            kept = weakref.ref(error)
        until(lambda: kept() is None, "the exception to go", patience=5)
    finally:
        gc.enable()


def test_a_result_is_let_go_of_when_it_was_taken():
    with raddle.Pool("thread", 1) as pool:
        results = pool.map(calls.Counted, range(3000))
        alive = []
        for result in results:
            del result
            alive.append(calls.Counted.alive)
        assert alive[-1] == 0


def test_ctrl_c_in_a_call_has_the_workers_traceback():
    with raddle.Pool("process", 1) as pool, pytest.raises(KeyboardInterrupt) as caught:
        list(pool.map(calls.raise_interrupt, range(3)))
    assert "raise_interrupt" in str(caught.value.__cause__)


# --- forks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_a_child_that_ends_inside_of_a_map_does_not_touch_it(ordered):
    with raddle.Pool("process", 2) as pool:
        seen = []
        for value in pool.map(calls.nap_and_return, range(40), ordered=ordered):
            seen.append(value)
            if len(seen) == 3:
                child = os.fork()
                if child == 0:
                    with_signal = 1
                    try:
                        del pool
                        raise SystemExit(0)
                    except SystemExit:
                        with_signal = 0
                    finally:
                        _close_everything(locals())
                        os._exit(with_signal)
                assert os.waitpid(child, 0)[1] == 0
        assert sorted(seen) == list(range(40))
        assert pool.statistics().died == 0


def _close_everything(names):
    """As leaving the frame would: drops what it holds, and with that closes iterators."""
    names.clear()
    gc.collect()


def test_a_child_cannot_cancel_wait_for_or_count_the_parents_calls(gate):
    with raddle.Pool("process", 1) as pool:
        running = pool.submit(gate)
        waiting = pool.submit(calls.identity, 7)
        gate.wait_entered()
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            good = not waiting.cancel() and not running.cancel()
            for future in (running, waiting):
                try:
                    future.result(5)
                    good = False
                except RuntimeError as error:
                    good = good and "fork" in str(error)
            repr(pool)
            pool.statistics()
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        gate.open()
        assert waiting.result() == 7
        assert pool.statistics().died == 0
