"""What type checkers see. `mypy --strict` must accept this file; it is never run."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import assert_type

import raddle
import raddle.futures as rf
import raddle.multiprocessing as rmp
import raddle.multiprocessing.pool as rpool
import raddle.sync as rs


def parse(text: str, base: int = 10) -> int:
    return int(text, base)


class Point:
    def __init__(self, x: float) -> None:
        self.x = x

    def scaled(self, by: float) -> Point:
        return Point(self.x * by)


class Steps:
    def update(self, n: float) -> bool:
        return n > 0


def pools() -> None:
    with raddle.Pool("process", workers=2, name="mill", initializer=print, initargs=("up",)) as pool:
        assert_type(pool, raddle.Pool)
        assert_type(pool.submit(parse, "3"), rf.Future[int])
        assert_type(pool.submit(parse, "3", base=8).result(), int)
        assert_type(pool.submit(Point, 1.5).result(timeout=2), Point)
        assert_type(pool.submit(Point(1.0).scaled, 2.0).result(), Point)
        assert_type(pool.submit(lambda: "text").result(), str)
        assert_type(pool.submit(parse, "3").exception(), BaseException | None)
        assert_type(pool.map(parse, ["1", "2"]), Iterator[int])
        assert_type(
            list(pool.map(parse, ["1"], [2], ordered=False, window=3, deadline=1.0, timeout=2, progress=True)),
            list[int],
        )
        assert_type(pool.map(parse, ["1"], progress="a label"), Iterator[int])
        assert_type(pool.map(parse, ["1"], return_exceptions=True), Iterator[int | BaseException])
        assert_type(pool.map(parse, ["1"], return_exceptions=False), Iterator[int])
        assert_type(pool.options(retries=1).map(parse, ["1"], return_exceptions=True), Iterator[int | BaseException])
        assert_type(pool.map(parse, ["1"], progress=lambda now: print(now.done)), Iterator[int])
        assert_type(pool.map(parse, ["1"], progress=Steps()), Iterator[int])
        assert_type(pool.statistics().per_worker[0].busy_share, float)
        assert_type(pool.statistics(), raddle.PoolStatistics)
        assert_type(pool.statistics().busy_seconds, float)
        assert_type(pool.executor(), concurrent.futures.Executor)
        assert_type(pool.options(timeout=1).executor().submit(parse, "3").result(), int)
        assert_type(pool.kind, str)
        assert_type(pool.workers, int)
        for future in pool.as_completed([pool.submit(parse, "1")], timeout=3):
            assert_type(future.result(), int)
        pool.shutdown(wait=False, cancel_futures=True)
        pool.submit(parse, 3)  # type: ignore[arg-type]
        pool.submit(parse)  # type: ignore[call-arg]
        pool.submit(parse, "3", nonsense=1)  # type: ignore[call-arg]
    raddle.Pool("thread", "two")  # type: ignore[arg-type]
    raddle.Pool()  # type: ignore[call-arg]


def pools_of_multiprocessing() -> None:
    import multiprocessing.pool

    with rmp.Pool(2, print, ("up",), maxtasksperchild=3) as pool, rmp.ThreadPool(2) as threads:
        assert_type(pool, rpool.Pool)
        assert_type(threads, rpool.ThreadPool)
        assert_type(rmp.get_context("fork").Pool(1), rpool.Pool)
        assert_type(pool.apply(parse, ("3",), {"base": 8}), int)
        assert_type(pool.apply_async(parse, ("3",)), rpool.ApplyResult[int])
        assert_type(pool.apply_async(parse, ("3",), callback=print, error_callback=print).get(timeout=1), int)
        assert_type(pool.map(parse, ["1"]), list[int])
        assert_type(pool.map_async(parse, ["1"], 3), rpool.MapResult[int])
        assert_type(pool.starmap(parse, [("1", 8)]), list[int])
        assert_type(pool.starmap_async(parse, [("1",)]).get(), list[int])
        assert_type(threads.imap(parse, iter(["1"])), rpool.IMapIterator[int])
        assert_type(next(threads.imap_unordered(parse, ["1"], chunksize=2)), int)
        assert_type(threads.imap(parse, ["1"]).next(timeout=1), int)
        assert_type(list(threads.imap(parse, ["1"])), list[int])
        theirs: list[multiprocessing.pool.Pool] = [pool, threads]
        result: multiprocessing.pool.AsyncResult[int] = pool.apply_async(parse, ("3",))
        results: Iterator[int] = pool.imap(parse, ["1"])
        del theirs, result, results
        pool.map(parse, [1])  # type: ignore[arg-type]
        pool.apply(3)  # type: ignore[arg-type]


def drop_ins() -> None:
    with rf.ThreadPoolExecutor(2, "prefix") as threads, rf.ProcessPoolExecutor(2, max_tasks_per_child=3) as processes:
        assert_type(threads.submit(parse, "3"), rf.Future[int])
        assert_type(processes.submit(parse, "3").result(), int)
        assert_type(processes.map(parse, ["1"], buffersize=3, chunksize=2), Iterator[int])
        executors: list[concurrent.futures.Executor] = [threads, processes]
        del executors
        done, not_done = rf.wait([threads.submit(parse, "3")], timeout=1, return_when=rf.FIRST_COMPLETED)
        assert_type(done, set[concurrent.futures.Future[int]])
        assert_type(not_done, set[concurrent.futures.Future[int]])
        standard: concurrent.futures.Future[int] = threads.submit(parse, "3")
        standard.add_done_callback(lambda future: print(future.result()))
        processes.kill_workers()


async def in_asyncio() -> None:
    with raddle.Pool("thread") as pool:
        assert_type(await asyncio.wrap_future(pool.submit(parse, "3")), int)


def errors() -> None:
    try:
        raddle.Pool("process").submit(parse, "3").result()
    except raddle.WorkerDied as error:
        assert_type(error.pid, int)
        assert_type(error.exitcode, int | None)
        assert_type(error.call, str)
    except raddle.RemoteError as error:
        assert_type(error.type_name, str)
    except (raddle.BrokenPool, raddle.DeadlockError, rf.BrokenProcessPool, rf.BrokenThreadPool):
        pass


def sync() -> None:
    cache: rs.ConcurrentDict[str, int] = rs.ConcurrentDict()
    assert_type(cache["a"], int)
    assert_type(cache.get("a"), int | None)
    assert_type(cache.get("a", "none"), int | str)
    assert_type(cache.get_or_compute("a", len), int)
    assert_type(cache.update("a", lambda n: n + 1, 0), int)
    assert_type(cache.items(), list[tuple[str, int]])
    assert_type(cache.statistics(), rs.DictStatistics)
    ref = rs.AtomicRef(Point(1.0))
    assert_type(ref.load(), Point)
    assert_type(ref.update(lambda point: point.scaled(2)), Point)
    assert_type(rs.Once().call(lambda: "text"), str)
    assert_type(rs.once(lambda: 3)(), int)
    number = rs.AtomicInt(3)
    number += 1
    assert_type(number, rs.AtomicInt)
    assert_type(number.add(2), int)
    with rs.Lock(fair=True) as has, rs.RwLock(prefer="readers").read(timeout=1):
        assert_type(has, bool)
    with rs.Latch(2) as latch:
        assert_type(latch.count, int)
