"""asyncio takes our executors and futures as it takes the standard library's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import time

import pytest

import calls
import raddle
import raddle.futures


def test_run_in_executor(runner):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(runner, calls.add, 1, 2) == 3
        results = await asyncio.gather(*(loop.run_in_executor(runner, calls.add, n, n) for n in range(100)))
        assert results == [2 * n for n in range(100)]
        with pytest.raises(ValueError, match="bad"):
            await loop.run_in_executor(runner, calls.fail)

    asyncio.run(main())


def test_run_in_executor_in_debug_mode(runner):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(runner, calls.add, 1, 2)

    assert asyncio.run(main(), debug=True) == 3


def test_run_in_executor_takes_the_executor_of_a_pool(pool):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool.executor(), calls.add, n, 1) for n in range(20)))

    assert asyncio.run(main()) == list(range(1, 21))


def test_cancelling_run_in_executor_stops_what_runs_in_a_pool_of_processes(tmp_path):
    async def main():
        with raddle.Pool("process", 1) as pool:
            loop = asyncio.get_running_loop()
            call = loop.run_in_executor(pool, calls.touch_and_sleep, tmp_path / "pid")
            while not (tmp_path / "pid").exists():
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await loop.run_in_executor(pool, calls.add, 1, 1)

    assert asyncio.run(asyncio.wait_for(main(), 20)) == 2


def test_wrap_future(runner):
    async def main():
        assert await asyncio.wrap_future(runner.submit(calls.add, 1, 2)) == 3
        with pytest.raises(ValueError, match="bad"):
            await asyncio.wrap_future(runner.submit(calls.fail))
        futures = [asyncio.wrap_future(runner.submit(calls.add, n, 1)) for n in range(200)]
        assert sum(await asyncio.gather(*futures)) == 20100

    asyncio.run(main())


def test_a_future_that_has_ended_can_be_wrapped(runner):
    future = runner.submit(calls.add, 1, 2)
    future.result()

    async def main():
        return await asyncio.wrap_future(future)

    assert asyncio.run(main()) == 3


def test_the_loop_runs_while_a_call_does(runner, gate):
    async def main():
        future = asyncio.wrap_future(runner.submit(gate, "through"))
        ticks = 0
        while gate.entered() == 0 or ticks < 10:
            await asyncio.sleep(0)
            ticks += 1
        gate.open()
        return await future

    assert asyncio.run(main()) == "through"


def test_cancelling_the_wrapper_cancels_a_call_that_waits(lane, gate, tmp_path):
    with lane.make(1) as runner:
        held = runner.submit(gate)
        gate.wait_entered()
        waiting = [runner.submit(calls.touch, tmp_path / f"ran{n}") for n in range(4)][-1]

        async def main():
            wrapped = asyncio.wrap_future(waiting)
            await asyncio.sleep(0)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped

        asyncio.run(main())
        assert waiting.cancelled()
        gate.open()
        held.result()
    assert not (tmp_path / "ran3").exists()


def test_cancelling_the_wrapper_leaves_a_call_that_cannot_be_stopped(lane, gate):
    with lane.make(1) as runner:
        running = runner.submit(gate, "finished")
        gate.wait_entered()

        async def main():
            wrapped = asyncio.wrap_future(running)
            await asyncio.sleep(0)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped

        asyncio.run(main())
        if lane.name == "process":  # a pool of processes stops it, see test_control
            with pytest.raises(concurrent.futures.CancelledError):
                running.result(30)
        else:
            gate.open()
            assert running.result(30) == "finished"


def test_a_timeout_of_asyncio(runner, gate):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(runner.submit(gate)), 0.05)

    asyncio.run(main())
    gate.open()


def test_cancelling_the_future_itself_is_heard_by_the_loop(lane, gate):
    with lane.make(1) as runner:
        runner.submit(gate)
        gate.wait_entered()
        waiting = [runner.submit(calls.identity) for _ in range(4)][-1]

        async def main():
            wrapped = asyncio.wrap_future(waiting)
            threading.Timer(0.02, waiting.cancel).start()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(wrapped, 20)
            gate.open()

        asyncio.run(main())


def test_a_dead_worker_is_heard_by_the_loop():
    async def main():
        with raddle.Pool("process", 1) as pool:
            with pytest.raises(raddle.WorkerDied):
                await asyncio.wrap_future(pool.submit(calls.exit_now, 1))
            assert await asyncio.wrap_future(pool.submit(calls.add, 1, 1)) == 2

    asyncio.run(main())


def test_coroutines_on_several_loops_share_a_pool(runner):
    async def main(number):
        futures = [asyncio.wrap_future(runner.submit(calls.add, number, n)) for n in range(50)]
        return await asyncio.gather(*futures)

    results = {}

    def run(number):
        results[number] = asyncio.run(main(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: [number + n for n in range(50)] for number in range(4)}


def test_our_thread_executor_as_the_loops_default():
    request = contextvars.ContextVar("request")

    async def main():
        loop = asyncio.get_running_loop()
        executor = raddle.futures.ThreadPoolExecutor(2, thread_name_prefix="ours")
        loop.set_default_executor(executor)
        assert (await asyncio.to_thread(calls.thread_name)).startswith("ours_")
        assert (await loop.run_in_executor(None, calls.thread_name)).startswith("ours_")
        assert await asyncio.gather(*(asyncio.to_thread(calls.add, n, 1) for n in range(50))) == list(range(1, 51))
        request.set("seven")
        assert await asyncio.to_thread(request.get) == "seven"
        with pytest.raises(ValueError, match="bad"):
            await asyncio.to_thread(calls.fail)
        assert (await loop.getaddrinfo("127.0.0.1", 80))[0][4] == ("127.0.0.1", 80)
        return executor

    # `asyncio.run` shuts the loop's executor down.
    with pytest.raises(RuntimeError, match="shut"):
        asyncio.run(main()).submit(calls.add, 1)


@pytest.mark.parametrize("wrong", ["process", "pool", "executor of a pool"])
def test_the_loop_says_that_its_default_has_to_be_a_thread_executor(wrong):
    makers = {
        "process": lambda: raddle.futures.ProcessPoolExecutor(1),
        "pool": lambda: raddle.Pool("thread", 1),
        "executor of a pool": lambda: raddle.Pool("thread", 1).executor(),
    }

    async def main():
        with makers[wrong]() as executor, pytest.raises(TypeError, match="ThreadPoolExecutor"):
            asyncio.get_running_loop().set_default_executor(executor)

    asyncio.run(main())


def test_a_future_is_told_to_the_loop_promptly(runner):
    async def main():
        runner_future = runner.submit(time.sleep, 0.05)
        started = time.monotonic()
        await asyncio.wrap_future(runner_future)
        return time.monotonic() - started

    assert asyncio.run(main()) < 5


def test_isfuture_and_concurrent_types(runner):
    future = runner.submit(calls.identity, 1)
    assert isinstance(future, concurrent.futures.Future)
    assert not asyncio.isfuture(future)


# --- run and amap ----------------------------------------------------------------------------------------------------


def test_run_returns_and_raises(pool):
    async def main():
        assert await pool.run(calls.add, 1, 2, extra=3) == 6
        with pytest.raises(ValueError, match="^7$"):
            await pool.run(calls.fail_if, 7, 7)
        return await asyncio.gather(*(pool.run(calls.add, number, 1) for number in range(200)))

    assert asyncio.run(main()) == list(range(1, 201))


@pytest.mark.parametrize("ordered", [True, False])
def test_amap_yields_what_map_yields(pool, ordered):
    async def main():
        return [value async for value in pool.amap(calls.add, range(300), range(300), ordered=ordered)]

    assert sorted(asyncio.run(main())) == list(range(0, 600, 2))


def test_amap_is_in_order_and_reads_no_further_than_its_window(pool):
    read = []

    async def main():
        results = pool.amap(calls.identity, (read.append(number) or number for number in range(1000)), window=5)
        seen = []
        async for value in results:
            seen.append(value)
            assert len(read) <= len(seen) + 6
            if len(seen) == 50:
                break
        await results.aclose()
        return seen

    assert asyncio.run(main()) == list(range(50))


def test_amap_takes_an_asynchronous_input_and_does_not_wait_for_its_window(pool):
    async def source():
        for number in range(3):
            yield number
        await asyncio.sleep(30)
        yield 3

    async def main():
        results = pool.amap(calls.add, source(), range(100))
        seen = [await anext(results) for _ in range(3)]
        await results.aclose()
        return seen

    assert asyncio.run(asyncio.wait_for(main(), 20)) == [0, 2, 4]


def test_what_a_call_of_amap_raises_comes_at_its_place(pool):
    async def main():
        seen = []
        with pytest.raises(ValueError, match="^20$"):
            async for value in pool.amap(calls.fail_if, range(100), [20] * 100):
                seen.append(value)
        assert seen == list(range(20))
        assert [value async for value in pool.amap(calls.identity, [])] == []

    asyncio.run(main())


def test_cancelling_the_task_of_amap_stops_its_calls(tmp_path):
    with raddle.Pool("process", 2) as pool:

        async def main():
            async for _ in pool.amap(calls.touch_and_sleep, [tmp_path / "one", tmp_path / "two"]):
                pass

        async def cancelled():
            task = asyncio.ensure_future(main())
            while not ((tmp_path / "one").exists() and (tmp_path / "two").exists()):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(asyncio.wait_for(cancelled(), 20))
        assert pool.statistics().cancelled == 2


def test_bad_input_of_amap(pool):
    with pytest.raises(ValueError, match="window"):
        pool.amap(abs, [1], window=0)
    with pytest.raises(TypeError, match="at least one"):
        pool.amap(abs)


def test_what_the_input_of_amap_raises_comes_after_the_results_before_it(pool):
    async def waiting():
        for number in range(3):
            yield number
        raise LookupError("broken")

    def ready():
        yield from range(3)
        raise LookupError("broken")

    async def main(source):
        seen = []
        with pytest.raises(LookupError, match="broken"):
            async for value in pool.amap(calls.identity, source):
                seen.append(value)
        return seen

    assert asyncio.run(main(waiting())) == asyncio.run(main(ready())) == [0, 1, 2]


def test_a_call_on_terms_can_be_awaited():
    async def main():
        with raddle.Pool("process", 1) as pool:
            hasty = pool.options(timeout=0.2, name="nap")
            with pytest.raises(raddle.CallTimeout, match="nap"):
                await hasty.run(time.sleep, 60)
            return [value async for value in pool.options(priority=3).amap(abs, range(-3, 0))]

    assert asyncio.run(main()) == [3, 2, 1]


def test_tasks_that_give_up_waiting_for_a_place_leave_it_to_others(tmp_path):
    gate = calls.Gate(tmp_path)

    async def main():
        with raddle.Pool("process", 1, max_pending=1) as pool:
            held = asyncio.create_task(pool.run(gate))
            await asyncio.to_thread(gate.wait_entered)
            before = threading.active_count()
            for _ in range(20):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(pool.run(calls.identity), 0.01)
            assert threading.active_count() <= before + 1
            waiting = [asyncio.create_task(pool.run(calls.identity, number)) for number in range(10)]
            await asyncio.sleep(0)
            waiting[3].cancel()
            gate.open()
            await held
            return await asyncio.gather(*waiting, return_exceptions=True)

    results = asyncio.run(main())
    assert isinstance(results.pop(3), asyncio.CancelledError)
    assert results == [0, 1, 2, 4, 5, 6, 7, 8, 9]
