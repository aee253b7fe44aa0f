"""The parent is killed in the middle of everything: no process of its workers is left a second later, and nothing is left on disk."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

import storm
from calls import is_gone, until

PARENT = """
    import os, random, sys, time
    import numpy as np
    import calls, raddle, storm

    directory, seed = sys.argv[1], int(sys.argv[2])
    chance = random.Random(seed)
    pools = [raddle.Pool("process", 2) for _ in range(2)]
    # Each worker leaves a child behind, in its process group.
    for pool in pools:
        started = [pool.submit(storm.start_child_and_nap, 600) for _ in range(4)]
        children = [future.result() for future in started]
        pids = list(pool._lane._lane.pids())
        print("pids", *children, *pids, flush=True)
    image = raddle.shared.zeros(1 << 20)
    refs = [pool.put(np.arange(100_000.0)) for pool in pools]
    kept = []
    print("ready", flush=True)
    while True:
        for pool, ref in zip(pools, refs):
            kept += [pool.submit(calls.identity, np.ones(1 + storm.size(chance, 1 << 18))) for _ in range(5)]
            kept += [pool.submit(calls.add_one_in_place, image[:1000]), pool.submit(calls.sum_of, ref)]
            kept += [pool.submit(calls.length, b"x" * storm.size(chance, 4 << 20)), pool.submit(time.sleep, 0.01)]
            kept += [pool.options(timeout=30, retries=1).submit(time.sleep, 20)] if len(kept) < 10 else []
            sum(pool.map(calls.identity, range(500)))
        while len(kept) > 60:
            kept.pop(0).exception()
        print("pids", *(pid for pool in pools for pid in pool._lane._lane.pids()), flush=True)
"""


def in_shared_memory():
    """Names of ours; other programs have theirs there, too."""
    return {name for name in os.listdir("/dev/shm") if "raddle" in name}


def group_of(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize(
    "is_long", [pytest.param(False, marks=pytest.mark.timeout(120)), pytest.param(True, marks=pytest.mark.stress)]
)
def test_a_parent_killed_in_the_middle_of_everything_leaves_no_process_and_no_file(script, tmp_path, capsys, is_long):
    with capsys.disabled():
        seed = storm.seed("parent")
    chance = random.Random(seed)
    before, turn, end = in_shared_memory(), 0, storm.now() + storm.seconds()
    while turn < 2 or (is_long and storm.now() < end):
        program = script(PARENT)
        parent = program.start(tmp_path, seed + turn)
        pids = set()
        for line in parent.stdout:
            if line == "ready\n":
                break
            pids.update(map(int, line.split()[1:]))
        assert len(pids) >= 8, program.finish()
        workers = {pid for pid in pids if group_of(pid) == pid}
        assert workers
        assert all(group_of(pid) in workers for pid in pids), "its children are in the groups of the workers"
        killing = time.monotonic() + chance.uniform(0, 1)
        while time.monotonic() < killing:
            pids.update(map(int, parent.stdout.readline().split()[1:]))
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=20)
        try:
            until(lambda pids=pids: all(map(is_gone, pids)), f"{len(pids)} processes to end", 5)
        except AssertionError:
            left = [pid for pid in pids if not is_gone(pid)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{len(left)} of {len(pids)} processes outlive their parent: {left}") from None
        turn += 1
    assert in_shared_memory() <= before
