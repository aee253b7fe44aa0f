"""Pools that take no more calls than they are told to."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import calls
import raddle
from calls import until


def test_a_submit_beyond_the_limit_waits_until_a_call_has_ended(kind, gate):
    with raddle.Pool(kind, 2, max_pending=3) as pool:
        held = [pool.submit(gate, number) for number in range(3)]
        more = []
        waiter = threading.Thread(target=lambda: more.append(pool.submit(calls.identity, 7)))
        waiter.start()
        gate.wait_entered(2)
        until(lambda: waits_in(waiter, "submit"), "the thread to wait in submit")
        assert more == []
        assert pool.statistics().submitted == 3
        gate.open()
        waiter.join(20)
        assert more[0].result(20) == 7
        assert [future.result(20) for future in held] == [0, 1, 2]


def waits_in(thread, function):
    """Whether a thread is inside of a function of this name."""
    import sys

    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


def test_or_says_so(kind, gate):
    with raddle.Pool(kind, 2, max_pending=3, when_full="raise") as pool:
        held = [pool.submit(gate) for _ in range(3)]
        with pytest.raises(raddle.PoolFull, match="as many calls are under way as the pool takes\n  hint: "):
            pool.submit(calls.identity)
        gate.open()
        assert [future.exception(20) for future in held] == [None] * 3
        assert pool.submit(calls.identity, 5).result(20) == 5
        assert pool.statistics().submitted == 4


def test_many_threads_share_the_places(kind):
    seen = []
    with raddle.Pool(kind, 2, max_pending=4) as pool:

        def submit_some():
            for number in range(50):
                future = pool.submit(calls.identity, number)
                now = pool.statistics()
                seen.append(now.pending + now.running)
                assert future.result(20) == number

        threads = [threading.Thread(target=submit_some) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert pool.statistics().finished == 400
    assert max(seen) <= 4


def test_a_cancelled_call_makes_room(kind, gate):
    with raddle.Pool(kind, 1, max_pending=2, when_full="raise") as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        waiting = pool.submit(calls.identity)
        assert waiting.cancel()
        other = pool.submit(calls.identity, 3)
        gate.open()
        held.result(20)
        assert other.result(20) == 3
        until(lambda: pool.statistics().pending == 0, "the queue to be empty")


def test_a_dead_worker_makes_room():
    with raddle.Pool("process", 1, max_pending=1) as pool:
        assert isinstance(pool.submit(calls.kill_itself).exception(20), raddle.WorkerDied)
        assert pool.submit(calls.identity, 4).result(20) == 4


def test_who_waits_for_room_learns_of_the_end(kind, gate):
    pool = raddle.Pool(kind, 1, max_pending=1)
    held = pool.submit(gate)
    raised = []

    def submit():
        try:
            pool.submit(calls.identity)
        except RuntimeError as error:
            raised.append(str(error))

    waiter = threading.Thread(target=submit)
    waiter.start()
    until(lambda: waits_in(waiter, "submit"), "the thread to wait in submit")
    pool.shutdown(wait=False)
    waiter.join(20)
    assert not waiter.is_alive()
    assert raised == ["cannot schedule new futures after shutdown"]
    gate.open()
    pool.shutdown()
    assert held.exception(0) is None


def test_a_callback_may_submit_to_a_full_pool(gate):
    done = threading.Event()
    with raddle.Pool("process", 1, max_pending=1) as pool:

        def submit_more(_):
            pool.submit(calls.identity)
            pool.submit(calls.identity).add_done_callback(lambda _: done.set())

        pool.submit(gate).add_done_callback(submit_more)
        gate.open()
        assert done.wait(20)


def test_a_call_may_submit_to_its_own_full_pool():
    with raddle.Pool("thread", 4, max_pending=2) as pool:
        outer = [pool.submit(lambda: pool.submit(calls.identity, 7)) for _ in range(2)]
        assert [future.result(20).result(20) for future in outer] == [7, 7]


def test_a_map_stays_below_the_limit(kind):
    read = []

    def numbers():
        for number in range(2000):
            read.append(number)
            yield number

    with raddle.Pool(kind, 2, max_pending=5) as pool:
        for number, result in enumerate(pool.map(calls.identity, numbers())):
            assert result == number
            assert len(read) <= number + 1 + 5 + 5


def test_a_task_awaits_a_place_and_the_loop_goes_on(kind):
    async def main():
        with raddle.Pool(kind, 2, max_pending=2) as pool:
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.005)

            ticking = asyncio.create_task(tick())
            await asyncio.gather(*(pool.run(time.sleep, 0.05) for _ in range(10)))
            assert ticks >= 10
            assert [value async for value in pool.amap(abs, range(-20, 0))] == list(range(20, 0, -1))
            ticking.cancel()
            return pool.statistics().finished

    assert asyncio.run(main()) == 30


def test_or_is_told_where_the_pool_was_made_so(gate, kind):
    async def main():
        with raddle.Pool(kind, 1, max_pending=1, when_full="raise") as pool:
            held = pool.submit(gate)
            with pytest.raises(raddle.PoolFull):
                await pool.run(calls.identity)
            gate.open()
            await asyncio.wrap_future(held)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_pending": 0}, ValueError, "max_pending must be at least 1, or None, not 0"),
        ({"max_pending": "many"}, TypeError, "max_pending must be a whole number, not 'many'"),
        ({"when_full": "drop"}, ValueError, "when_full must be 'wait' or 'raise', not 'drop'"),
    ],
)
def test_nonsense_is_refused(kind, options, error, words):
    with pytest.raises(error, match=words):
        raddle.Pool(kind, 1, **options)
