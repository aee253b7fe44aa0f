"""What it costs to have much: calls that wait in a queue, threads and tasks that wait for something.

The budgets are those of docs/guide/pool.md, docs/guide/threads.md and docs/guide/channels.md. Each is less than twice what was measured when it was written
down, so that a call that costs twice as much is noticed. Each test is a program of its own that measures itself.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

#: Bytes for each call that waits: its future, what is called with which arguments, and its place in the queue and in a list of futures.
CALL = 600
#: Bytes for each thread of a scope that waits: its stack, as far as it was ever used, and all that Python and Raddle know of it.
THREAD = 40_000
#: Bytes for each task of asyncio that waits, the task included.
TASK = 4_000

MEASURE = """
import asyncio, ctypes, functools, gc, os, sys, threading
import calls, raddle, raddle.futures

number = int(sys.argv[1])

def memory():
    gc.collect()
    with open("/proc/self/status") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon:", "RssShmem:")))

def say(what, before):
    print(what, (memory() - before) // number, flush=True)
"""

CALLS = """
path = sys.argv[2]
held = functools.partial(calls.until, functools.partial(os.path.exists, path), "the measurement", 500)

if __name__ == "__main__":
    with {runner} as runner:
        runner.submit(abs, -1).result()
        for _ in range(2):
            runner.submit(held)
        futures = [None] * number
        before = memory() - 8 * number
        for index in range(number):
            futures[index] = runner.submit(abs, -1)
        say("waiting", before)
        open(path, "w").close()
        assert sum(future.result() for future in futures) == number
        say("done", before)
        del futures[:]
        if hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)
        say("dropped", before)
"""

RUNNERS = {
    "thread": "raddle.Pool('thread', 2)",
    "process": "raddle.Pool('process', 2)",
    "thread-executor": "raddle.futures.ThreadPoolExecutor(2)",
    "process-executor": "raddle.futures.ProcessPoolExecutor(2)",
}


def measured(program, *arguments, timeout):
    """What a program that measures itself has to say: bytes for each, by the name of the moment."""
    ended = program.run(*arguments, timeout=timeout)
    assert (ended.code, ended.err) == (0, ""), ended
    return {what: int(figure) for what, figure in (line.split() for line in ended.out.splitlines())}


many = pytest.mark.parametrize(
    "number",
    [
        pytest.param(50_000, marks=pytest.mark.timeout(120)),
        pytest.param(1_000_000, marks=[pytest.mark.stress, pytest.mark.timeout(600)]),
    ],
)


@many
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_call_that_waits_costs_a_few_hundred_bytes(script, tmp_path, capsys, runner, number):
    program = script(MEASURE + CALLS.format(runner=RUNNERS[runner]))
    figures = measured(program, number, tmp_path / "over", timeout=500 if number > 100_000 else 100)
    with capsys.disabled():
        print(f"\n{number} calls, {runner}: {figures} bytes each")
    assert figures["waiting"] < CALL, figures
    assert figures["done"] < CALL, figures
    assert figures["dropped"] < CALL / 3, figures


THREADS = """
with raddle.scope() as scope:
    tx, rx = raddle.channel(1)
    before = memory()
    ready = threading.Semaphore(0)

    def wait():
        ready.release()
        return list(rx)

    for _ in range(number):
        scope.thread(wait)
    for _ in range(number):
        ready.acquire()
    say("parked", before)
    tx.close()
say("ended", before)
"""


def threads_allowed():
    """How many threads this machine lets a process have, about."""
    found = [
        int(Path("/proc/sys/kernel/threads-max").read_text()),
        int(Path("/proc/sys/vm/max_map_count").read_text()) // 3,
    ]
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit != resource.RLIM_INFINITY and os.geteuid() != 0:
        found.append(limit)
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        place = Path("/sys/fs/cgroup", line.partition("::")[2].lstrip("/"), "pids.max")
        if place.exists() and place.read_text().strip() != "max":
            found.append(int(place.read_text()))
    return min(found)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(1_000, marks=pytest.mark.timeout(120)),
        pytest.param(10_000, marks=[pytest.mark.stress, pytest.mark.timeout(600)]),
    ],
)
def test_a_thread_that_waits_costs_some_pages(script, capsys, number):
    if threads_allowed() < number + 1000:
        pytest.skip(f"{threads_allowed()} threads are allowed here")
    figures = measured(script(MEASURE + THREADS), number, timeout=500 if number > 1000 else 100)
    with capsys.disabled():
        print(f"\n{number} threads of a scope: {figures} bytes each")
    assert figures["parked"] < THREAD, figures
    assert figures["ended"] < THREAD / 2, figures


TASKS = """
async def main():
    tx, rx = raddle.channel(1)
    arrived = 0

    async def wait():
        nonlocal arrived
        arrived += 1
        return [value async for value in rx]

    before = memory()
    tasks = [asyncio.ensure_future(wait()) for _ in range(number)]
    while arrived < number:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    say("parked", before)
    tx.close()
    assert await asyncio.gather(*tasks) == [[]] * number

asyncio.run(main())
"""


@pytest.mark.timeout(120)
def test_a_task_that_waits_costs_two_kilobytes(script, capsys):
    figures = measured(script(MEASURE + TASKS), 10_000, timeout=100)
    with capsys.disabled():
        print(f"\n10000 tasks: {figures} bytes each")
    assert figures["parked"] < TASK, figures
