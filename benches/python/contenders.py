"""Who is measured: each pool, used in the way its own documentation recommends, and the modules of the primitives.

A contender is made in a fresh process, where nothing but its own library is imported. `open` gives a `Pool` of plain
callables, so that the measuring loops are the same for all and add as little as they can. For the primitives it gives the two modules,
for what observes programs the command.
"""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import observers

STDLIB = "concurrent.futures"
PYTHON = "python"
"""A program by itself, with nobody who observes it."""
STDLIBS = (STDLIB, "threading", "queue", "queue.SimpleQueue", "multiprocessing.Queue", PYTHON)
"""The standard library's contender of each lane."""
RUN, SAFE, DUMP = "raddle run", "raddle run --safe", "raddle dump"
OURS = (
    "raddle.futures",
    "raddle.Pool",
    "raddle.multiprocessing",
    "raddle.threading",
    "raddle.queue",
    "raddle.channel",
    RUN,
    SAFE,
    DUMP,
)
INLINE = "no pool"
"""The same work in the parent itself: what a pool has to be worth."""


@dataclass(frozen=True)
class Pool:
    """One running pool."""

    submit: Callable[[Callable[[Any], Any], Any], Any]
    """Takes a function and its one argument, gives a handle."""

    result: Callable[[Any], Any]
    """Takes a handle, waits, gives the value."""

    map: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
    """Takes a function and inputs, gives the results in order; no chunk size is named."""

    close: Callable[[], None]
    """Ends the pool in order and returns when it has ended."""

    stream: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] | None = None
    """As `map`, with a bounded part of the input in flight; None if it cannot."""

    careful: Callable[[Callable[[Any], Any], Any], Any] | None = None
    """As `submit`, with every term that it knows: deadline, retry, priority. None if it knows none."""


@dataclass(frozen=True)
class Modules:
    """Where the primitives come from."""

    threading: Any
    queue: Any
    channel: Callable[[], tuple[Callable[[Any], object], Callable[[], Any]]]
    """Gives the two ends of something without a bound: what puts in, and what takes out."""
    crossing: Callable[[int], tuple[Callable[[Any], object], Callable[[], Any]]] | None = None
    """The same of something for so many values that crosses to a forked process."""


@dataclass(frozen=True)
class Contender:
    """A way to have work done, or to wait for each other."""

    name: str
    lane: str
    package: str
    open: Callable[[int], Any]
    """Gives a running `Pool` with so many workers; in the lanes of `PRIMITIVES` the `Modules`, in `OBSERVED` an `Observer`."""

    only: tuple[str, ...] = ()
    """The only rows in which it appears; empty means all of its lane, except those in `NOT_FOR_ALL`."""

    also: tuple[str, ...] = ()
    """The rows of `NOT_FOR_ALL` in which it appears."""

    extra: bool = False
    """It takes part only if `BENCH=all` asks for it."""

    note: str = ""
    """What a reader of the rows about `map` has to know."""

    once: bool = False
    """One round of it has to do."""

    def takes_part(self, row: str) -> bool:
        if not row.endswith(f"-{self.lane}"):
            return False
        if self.only:
            return row in self.only
        return row in self.also or row not in NOT_FOR_ALL


def executor(pool: Any, **more: Any) -> Pool:
    """Anything with the interface of `concurrent.futures.Executor`."""
    return Pool(pool.submit, operator.methodcaller("result"), pool.map, pool.shutdown, **more)


def inline(workers: int) -> Pool:
    """No pool at all."""
    return Pool(lambda function, value: function(value), lambda value: value, map, lambda: None)


def futures_process(workers: int, method: str | None = None) -> Pool:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return executor(ProcessPoolExecutor(workers, mp_context=get_context(method) if method else None))


def futures_thread(workers: int) -> Pool:
    from concurrent.futures import ThreadPoolExecutor

    return executor(ThreadPoolExecutor(workers))


def raddle_futures_process(workers: int, method: str | None = None) -> Pool:
    from multiprocessing import get_context

    from raddle.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(workers, mp_context=get_context(method) if method else None)
    # The signature of Python 3.14, where the standard library's map can be lazy, too.
    return executor(pool, stream=lambda function, values: pool.map(function, values, buffersize=1000))


def raddle_futures_thread(workers: int) -> Pool:
    from raddle.futures import ThreadPoolExecutor

    return executor(ThreadPoolExecutor(workers))


def raddle_process(workers: int) -> Pool:
    import raddle

    pool = raddle.Pool("process", workers=workers)
    terms: dict[str, Any] = {"timeout": 60, "retries": 1}
    if "priority" in inspect.signature(pool.options).parameters:
        terms["priority"] = 1
    return executor(pool, stream=pool.map, careful=pool.options(**terms).submit)


def raddle_thread(workers: int) -> Pool:
    import raddle

    return executor(raddle.Pool("thread", workers=workers))


def multiprocessing_like(pool: Any, lazy: bool) -> Pool:
    """`multiprocessing.Pool` and its thread twin: `close` and `join` end them in order."""

    def close() -> None:
        pool.close()
        pool.join()

    return Pool(
        lambda function, value: pool.apply_async(function, (value,)),
        operator.methodcaller("get"),
        pool.imap if lazy else pool.map,
        close,
        stream=pool.imap if lazy else None,
    )


def multiprocessing_process(workers: int, method: str | None = None, lazy: bool = True) -> Pool:
    from multiprocessing import get_context

    return multiprocessing_like(get_context(method).Pool(workers), lazy)


def multiprocessing_thread(workers: int, lazy: bool = True) -> Pool:
    from multiprocessing.pool import ThreadPool

    return multiprocessing_like(ThreadPool(workers), lazy)


def raddle_multiprocessing_process(workers: int) -> Pool:
    from raddle.multiprocessing import Pool as RaddlePool

    return multiprocessing_like(RaddlePool(workers), lazy=False)


def raddle_multiprocessing_thread(workers: int) -> Pool:
    from raddle.multiprocessing import ThreadPool

    return multiprocessing_like(ThreadPool(workers), lazy=False)


def loky_process(workers: int) -> Pool:
    from loky import get_reusable_executor

    return executor(get_reusable_executor(max_workers=workers))


def mpire_pool(workers: int, method: str, lazy: bool = True) -> Pool:
    from mpire.pool import WorkerPool

    # `keep_alive` is its documented way to use the same workers for several maps.
    pool = WorkerPool(n_jobs=workers, start_method=method, keep_alive=True)
    return Pool(
        lambda function, value: pool.apply_async(function, (value,)),
        operator.methodcaller("get"),
        pool.imap if lazy else pool.map,
        pool.stop_and_join,
        stream=pool.imap if lazy else None,
        careful=lambda function, value: pool.apply_async(function, (value,), task_timeout=60),
    )


def pebble_like(pool: Any, careful: Callable[[Callable[[Any], Any], Any], Any] | None = None) -> Pool:
    def close() -> None:
        pool.close()
        pool.join()

    # `schedule` is what its documentation recommends; its `submit` is there for asyncio.
    return Pool(
        lambda function, value: pool.schedule(function, args=(value,)),
        operator.methodcaller("result"),
        lambda function, values: pool.map(function, values).result(),
        close,
        careful=careful,
    )


def pebble_process(workers: int, method: str | None = None) -> Pool:
    from multiprocessing import get_context

    from pebble import ProcessPool

    pool = ProcessPool(max_workers=workers, context=get_context(method))
    return pebble_like(pool, lambda function, value: pool.schedule(function, args=(value,), timeout=60))


def pebble_thread(workers: int) -> Pool:
    from pebble import ThreadPool

    return pebble_like(ThreadPool(max_workers=workers))


def joblib_process(workers: int) -> Pool:
    """What joblib is used for: a loop, with results as they are needed. It has no way to submit one call."""
    from joblib import Parallel, delayed
    from loky import get_reusable_executor

    loop = Parallel(n_jobs=workers, return_as="generator")

    def stream(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
        return loop(map(delayed(function), values))

    pool = executor(get_reusable_executor(max_workers=workers))  # the same executor as joblib's, to get its workers up
    return Pool(pool.submit, pool.result, stream, pool.close, stream=stream)


def ray_process(workers: int) -> Pool:
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remote: dict[Any, Any] = {}

    def submit(function: Callable[[Any], Any], value: Any) -> Any:
        if function not in remote:
            remote[function] = ray.remote(function)
        return remote[function].remote(value)

    def all_at_once(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
        results: list[Any] = ray.get([submit(function, value) for value in values])
        return results

    return Pool(submit, ray.get, all_at_once, ray.shutdown)


def dask_process(workers: int) -> Pool:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
    client = Client(cluster)

    def close() -> None:
        client.close()
        cluster.close()

    return Pool(
        lambda function, value: client.submit(function, value, pure=False),
        operator.methodcaller("result"),
        lambda function, values: client.gather(client.map(function, list(values), pure=False)),
        close,
    )


def stdlib_modules(workers: int) -> Modules:
    import queue
    import threading

    def channel() -> tuple[Callable[[Any], object], Callable[[], Any]]:
        items: Any = queue.SimpleQueue()
        return items.put, items.get

    return Modules(threading, queue, channel)


def only_crossing(crossing: Callable[[int], tuple[Callable[[Any], object], Callable[[], Any]]]) -> Modules:
    return Modules(None, None, lambda: crossing(1 << 16), crossing)


def multiprocessing_queue(workers: int) -> Modules:
    import multiprocessing

    def crossing(capacity: int) -> tuple[Callable[[Any], object], Callable[[], Any]]:
        items: Any = multiprocessing.get_context("fork").Queue(capacity)
        return items.put, items.get

    return only_crossing(crossing)


def faster_fifo_queue(workers: int, many: bool) -> Modules:
    import faster_fifo

    def crossing(capacity: int) -> tuple[Callable[[Any], object], Callable[[], Any]]:
        # In bytes: as many small ints as the others hold.
        items: Any = faster_fifo.Queue(32 * capacity)

        def all_of() -> Iterable[Any]:
            while True:
                yield from items.get_many(timeout=60)

        def one() -> Any:
            return items.get(timeout=60)

        return lambda item: items.put(item, timeout=60), iter(all_of()).__next__ if many else one

    return only_crossing(crossing)


def raddle_modules(workers: int) -> Modules:
    import raddle.queue
    import raddle.threading

    def channel() -> tuple[Callable[[Any], object], Callable[[], Any]]:
        sender, receiver = raddle.channel(None)
        return sender.send, receiver.recv

    def crossing(capacity: int) -> tuple[Callable[[Any], object], Callable[[], Any]]:
        sender, receiver = raddle.channel(capacity, shared=True)
        return sender.send, receiver.recv

    return Modules(raddle.threading, raddle.queue, channel, crossing)


FORK, FRESH = "start-fork-process", "start-fresh-process"
STREAM, TERMS = "stream-process", "terms-process"
SELECT, ACROSS, TRIP = "select-channel", "across-channel", "trip-channel"
LOOKS = "dump-run"
NOT_FOR_ALL = (FORK, FRESH, STREAM, TERMS, SELECT, ACROSS, TRIP, LOOKS)
"""Rows in which a contender appears only if it says so."""
WORTH = "brief-process"
PRIMITIVES = ("threading", "queue", "channel")
"""The lanes that are no pool's."""
OBSERVED = "run"
"""The lane of programs that are observed."""
MAP = ("map-process", "map-thread", WORTH)
LAZY = "by its `imap`, which is lazy"
EAGER = "takes its whole input first and gives its results as one list"


def variants(name: str, package: str, make: Callable[[int, str], Pool]) -> tuple[Contender, Contender]:
    """One contender per start method, for the two rows about starting."""
    return (
        Contender(name, "process", package, lambda workers: make(workers, "fork"), only=(FORK,)),
        Contender(name, "process", package, lambda workers: make(workers, "spawn"), only=(FRESH,)),
    )


CONTENDERS = (
    Contender(STDLIB, "process", "concurrent.futures", futures_process),
    Contender("multiprocessing.Pool", "process", "multiprocessing", multiprocessing_process, also=(STREAM,), note=LAZY),
    Contender("loky", "process", "loky", loky_process, also=(FRESH,)),
    Contender("mpire", "process", "mpire", lambda n: mpire_pool(n, "fork"), also=(STREAM, TERMS), note=LAZY),
    Contender("pebble", "process", "pebble", pebble_process, also=(TERMS,)),
    Contender("joblib", "process", "joblib", joblib_process, only=(STREAM,)),
    Contender("Ray", "process", "ray", ray_process, also=(FRESH,), note=EAGER, extra=True),
    Contender("Dask", "process", "distributed", dask_process, also=(FRESH,), note=EAGER, extra=True),
    Contender(INLINE, "process", "multiprocessing", inline, only=(WORTH,)),
    Contender("raddle.futures", "process", "raddle", raddle_futures_process, also=(STREAM,)),
    Contender("raddle.Pool", "process", "raddle", raddle_process, also=(FRESH, STREAM, TERMS)),
    Contender(STDLIB, "thread", "concurrent.futures", futures_thread),
    Contender("multiprocessing.ThreadPool", "thread", "multiprocessing", multiprocessing_thread, note=LAZY),
    Contender("mpire", "thread", "mpire", lambda n: mpire_pool(n, "threading"), note=LAZY),
    Contender("pebble", "thread", "pebble", pebble_thread),
    Contender("raddle.futures", "thread", "raddle", raddle_futures_thread),
    Contender("raddle.Pool", "thread", "raddle", raddle_thread),
    *variants(STDLIB, "concurrent.futures", futures_process),
    *variants("multiprocessing.Pool", "multiprocessing", multiprocessing_process),
    *variants("mpire", "mpire", mpire_pool),
    *variants("pebble", "pebble", pebble_process),
    *variants("raddle.futures", "raddle", raddle_futures_process),
    Contender(
        "multiprocessing.Pool.map",
        "process",
        "multiprocessing",
        lambda n: multiprocessing_process(n, lazy=False),
        only=MAP,
        note=EAGER,
    ),
    Contender("mpire.map", "process", "mpire", lambda n: mpire_pool(n, "fork", lazy=False), only=MAP, note=EAGER),
    Contender(
        "multiprocessing.ThreadPool.map",
        "thread",
        "multiprocessing",
        lambda n: multiprocessing_thread(n, lazy=False),
        only=MAP,
        note=EAGER,
    ),
    Contender("raddle.multiprocessing", "process", "raddle", raddle_multiprocessing_process, only=MAP, note=EAGER),
    Contender("raddle.multiprocessing", "thread", "raddle", raddle_multiprocessing_thread, only=MAP, note=EAGER),
    Contender("mpire.map", "thread", "mpire", lambda n: mpire_pool(n, "threading", lazy=False), only=MAP, note=EAGER),
    Contender("threading", "threading", "threading", stdlib_modules),
    Contender("queue", "queue", "queue", stdlib_modules),
    Contender("queue.SimpleQueue", "channel", "queue", stdlib_modules),
    Contender("multiprocessing.Queue", "channel", "multiprocessing", multiprocessing_queue, only=(ACROSS, TRIP)),
    Contender("faster-fifo", "channel", "faster_fifo", lambda n: faster_fifo_queue(n, many=False), only=(ACROSS, TRIP)),
    Contender(
        "faster-fifo get_many",
        "channel",
        "faster_fifo",
        lambda n: faster_fifo_queue(n, many=True),
        only=(ACROSS,),
        note="takes at once what is there",
    ),
    *(Contender(f"raddle.{lane}", lane, "raddle", raddle_modules, also=(SELECT, ACROSS, TRIP)) for lane in PRIMITIVES),
    Contender(PYTHON, OBSERVED, "threading", observers.plain),
    Contender(RUN, OBSERVED, "raddle", observers.raddle),
    Contender(SAFE, OBSERVED, "raddle", lambda n: observers.raddle(n, "--safe")),
    Contender("VizTracer", OBSERVED, "viztracer", observers.viztracer, once=True),
    Contender("py-spy record", OBSERVED, "py-spy", observers.py_spy),
    Contender(DUMP, OBSERVED, "raddle", observers.raddle, only=(LOOKS,)),
    Contender("py-spy dump", OBSERVED, "py-spy", observers.py_spy, only=(LOOKS,)),
)


def of_row(row: str, everybody: bool = True) -> list[Contender]:
    """Who takes part in a row, in the order of the table."""
    return [contender for contender in CONTENDERS if contender.takes_part(row) and (everybody or not contender.extra)]


def is_everybody() -> bool:
    """Whether those take part, too, who do it only on request."""
    return os.environ.get("BENCH", "") == "all"
